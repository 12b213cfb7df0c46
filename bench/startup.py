"""How long one waits for a command: help, one decode, and a devnet's first flashblock.

    python bench/startup.py [--runs 5]

Medians over whole processes. The peer of help and decode is a bare interpreter that only imports typer, of
the devnet the budget of three seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median

from websockets.sync.client import connect

from flashctl.eth.signatures import sign_transaction
from flashctl.eth.transactions import FeeMarketTx, encode_transaction

FIRST_FLASHBLOCK_BUDGET_S = 3.0

INSTALLED = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
"""The environment of an installed program: its modules are compiled once, not at every start."""


def transfer() -> str:
    """A signed transaction to decode."""
    unsigned = FeeMarketTx(901, 7, 10**9, 10**11, 21_000, bytes(20), 10**18, b"", (), y_parity=0, r=0, s=0)
    return encode_transaction(sign_transaction(unsigned, b"\x01" * 32)).hex()


def run_command(*arguments: str) -> float:
    """Seconds of one whole process."""
    started = time.perf_counter()
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True, env=INSTALLED)
    return time.perf_counter() - started


def first_flashblock() -> float:
    """Seconds from the start of a devnet to the first message of its stream."""
    command = [sys.executable, "-m", "flashctl", "devnet", "--json", "--any-ports", "--quiet"]
    started = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=INSTALLED) as process:
        try:
            assert process.stdout is not None
            ready = json.loads(process.stdout.readline())
            with connect(ready["endpoints"]["stream"]) as stream:
                stream.recv()
            return time.perf_counter() - started
        finally:
            process.terminate()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs

    def typical(measure: Callable[[], float]) -> float:
        return median(measure() for _ in range(runs))

    bare = typical(lambda: run_command("-c", "import typer"))
    print(f"{'python -c import typer':<28} {bare * 1e3:>6.0f} ms")
    for name, arguments in (("flashctl --help", ["--help"]), ("flashctl decode", ["decode", transfer()])):
        seconds = typical(lambda words=arguments: run_command("-m", "flashctl", *words))  # type: ignore[misc]
        print(f"{name:<28} {seconds * 1e3:>6.0f} ms   {seconds / bare:.2f} x")
    seconds = typical(first_flashblock)
    share = seconds / FIRST_FLASHBLOCK_BUDGET_S
    print(f"{'devnet, first flashblock':<28} {seconds * 1e3:>6.0f} ms   {share:.2f} x")


if __name__ == "__main__":
    main()
