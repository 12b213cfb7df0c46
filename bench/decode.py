"""Speed of `flashctl decode`, side by side with the tools that scripts use instead.

    python bench/decode.py                  everything
    python bench/decode.py --transactions N size of the batch (default 100,000)
    python bench/decode.py --no-peers       only flashctl

Aims: a batch with senders at 15,000 tx/s or more on two cores, without senders at 150,000/s. The batch is a
file of hex lines, half token transfers and half plain ones, signed with a thousand keys; every tool prints
what it decodes to a pipe. Peers run on the same transactions: cast as scripts run it (one process per
transaction), and as fast as a script can be without (ethers, viem and eth-account in one process, with
senders, one core).

eth-account may live in an environment of its own: FLASHCTL_ETH_ACCOUNT_PYTHON or FLASHCTL_EELS_PYTHON name
its interpreter. npm packages are looked for in node_modules here or in FLASHCTL_NODE_MODULES.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from flashctl.decode.columns import fast_columns
from flashctl.decode.tx_report import Options, report_transaction
from flashctl.eth.keccak import KECCAK_LIBRARY
from flashctl.eth.signatures import sign_transaction
from flashctl.eth.transactions import FeeMarketTx, encode_transaction

ROOT = Path(__file__).resolve().parent.parent
DISTINCT = 5_000
PEER_SAMPLE = 5_000
CAST_SAMPLE = 100

ETHERS = """
const { Transaction } = require('ethers'); const fs = require('fs');
const lines = fs.readFileSync(0, 'utf8').split('\\n').filter(Boolean);
const started = performance.now();
for (const raw of lines) { const tx = Transaction.from(raw); console.log(tx.hash, tx.from, tx.to); }
console.error(performance.now() - started);
"""
VIEM = """
const { parseTransaction, recoverTransactionAddress, keccak256 } = require('viem'); const fs = require('fs');
(async () => {
  const lines = fs.readFileSync(0, 'utf8').split('\\n').filter(Boolean);
  const started = performance.now();
  for (const raw of lines) {
    const tx = parseTransaction(raw);
    console.log(keccak256(raw), await recoverTransactionAddress({ serializedTransaction: raw }), tx.to);
  }
  console.error(performance.now() - started);
})();
"""
ETH_ACCOUNT = """
import sys, time
from eth_account import Account
from eth_account.typed_transactions import TypedTransaction
from eth_utils import keccak
from hexbytes import HexBytes
lines = [line.strip() for line in sys.stdin if line.strip()]
started = time.perf_counter()
for raw in lines:
    tx = TypedTransaction.from_bytes(HexBytes(raw))
    print(keccak(HexBytes(raw)).hex(), Account.recover_transaction(raw), tx.as_dict()["to"])
print((time.perf_counter() - started) * 1000, file=sys.stderr)
"""


def made(count: int) -> list[bytes]:
    """Signed transactions, each different."""
    token = bytes.fromhex("833589fcd6edb6e08f4c7c32d4f71b54bda02913")
    raws = []
    for number in range(count):
        secret = (number % 1_000 + 1).to_bytes(32, "big")
        data = b""
        if number % 2:
            data = bytes.fromhex("a9059cbb") + number.to_bytes(32, "big") + (10**18).to_bytes(32, "big")
        tx = FeeMarketTx(8453, number, 10**6, 10**9, 65_000, token, 0, data, (), 0, 0, 0)
        raws.append(encode_transaction(sign_transaction(tx, secret)))
    return raws


def rate(work: Callable[[], None], count: int) -> float:
    started = time.perf_counter()
    work()
    return count / (time.perf_counter() - started)


def show(name: str, per_second: float, aim: float | None = None) -> None:
    verdict = "" if aim is None else f"   {per_second / aim:5.2f} of the aim of {aim:,.0f}"
    print(f"  {name:<58} {per_second:>10,.0f} tx/s{verdict}")


def library(raws: list[bytes]) -> None:
    """One core, no process, no output."""
    print("in one process, one core")
    sample = raws[:DISTINCT]
    for name, columns, senders in (
        ("hash, to, value", ["hash", "to", "value"], False),
        ("hash, from, to", ["hash", "from", "to"], True),
    ):
        line = fast_columns(columns, senders=senders)
        assert line is not None
        show(f"columns {name}", rate(lambda line=line: [line(raw) for raw in sample] and None, len(sample)))
    for name, options in (("without senders", Options(senders=False)), ("with senders", Options())):
        work = lambda options=options: [report_transaction(raw, options) for raw in sample] and None  # noqa: E731
        show(f"whole reports {name}", rate(work, len(sample)))


def command(path: Path, count: int) -> dict[str, float]:
    """The command on a file, with its start-up, on every core."""
    print("flashctl decode FILE, start-up included")
    figures = {}
    for name, arguments, aim in (
        ("--fields hash,to,value --no-senders", ["--fields", "hash,to,value", "--no-senders"], 150_000.0),
        ("--fields hash,from,to", ["--fields", "hash,from,to"], 15_000.0),
        ("--json --no-senders", ["--json", "--no-senders"], None),
        ("--json", ["--json"], None),
    ):
        process = [sys.executable, "-m", "flashctl", "decode", str(path), *arguments]

        before = _children_cpu()
        started = time.perf_counter()
        subprocess.run(process, stdout=subprocess.DEVNULL, check=True)
        figures[name] = count / (time.perf_counter() - started)
        show(name, figures[name], aim)
        each = (_children_cpu() - before) / count
        print(f"  {'':<58} {each * 1e6:>10.1f} us of CPU each: {2 / each:,.0f}/s on two cores of one's own")
    return figures


def _children_cpu() -> float:
    """CPU seconds of all child processes so far; on a busy machine it says more than the clock."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def eth_account_python() -> str:
    """The interpreter that has eth-account: one that is named, else this one."""
    for variable in ("FLASHCTL_ETH_ACCOUNT_PYTHON", "FLASHCTL_EELS_PYTHON"):
        if named := os.environ.get(variable):
            return named
    return sys.executable


def peers(raws: list[bytes], ours: float) -> None:
    """What others do with the same transactions."""
    print(f"peers, with senders; ratio of --fields hash,from,to ({ours:,.0f}/s) to each")
    modules = Path(os.environ.get("FLASHCTL_NODE_MODULES", ROOT / "node_modules"))
    lines = "\n".join("0x" + raw.hex() for raw in raws[:PEER_SAMPLE]).encode()
    for name, argv in (
        ("ethers, one process", ["node", "-e", ETHERS]),
        ("viem, one process", ["node", "-e", VIEM]),
        ("eth-account, one process", [eth_account_python(), "-c", ETH_ACCOUNT]),
    ):
        try:
            result = subprocess.run(
                argv, input=lines, capture_output=True, cwd=modules.parent, timeout=300, check=True
            )
        except (OSError, subprocess.CalledProcessError):
            print(f"  {name:<58} {'not installed':>15}")
            continue
        theirs = PEER_SAMPLE / (float(result.stderr.split()[-1]) / 1000)
        print(f"  {name:<58} {theirs:>10,.0f} tx/s   ratio {ours / theirs:6.1f}")
    native = sorted(modules.glob("@foundry-rs/cast-*/bin/cast"))
    if not native:
        print(f"  {'cast decode-tx, a process each':<58} {'not installed':>15}")
        return
    started = time.perf_counter()
    for raw in raws[:CAST_SAMPLE]:
        subprocess.run([native[0], "decode-tx", "0x" + raw.hex()], stdout=subprocess.DEVNULL, check=True)
    theirs = CAST_SAMPLE / (time.perf_counter() - started)
    print(f"  {'cast decode-tx, a process each':<58} {theirs:>10,.0f} tx/s   ratio {ours / theirs:6.1f}")
    started = time.perf_counter()
    for raw in raws[:20]:
        argv = [sys.executable, "-m", "flashctl", "decode", "0x" + raw.hex()]
        subprocess.run(argv, stdout=subprocess.DEVNULL, check=True)
    each = (time.perf_counter() - started) / 20
    print(f"  flashctl decode, a process each: {each * 1000:.0f} ms; cast {1000 / theirs:.0f} ms")


def start_up() -> None:
    """The best of ten of each, against bare Python."""
    print("start-up, best of ten")
    raw = "0x" + made(2)[1].hex()
    for name, argv in (
        ("python -c pass", [sys.executable, "-c", "pass"]),
        ("flashctl --help (budget 90 ms on a quiet core)", [sys.executable, "-m", "flashctl", "--help"]),
        ("flashctl decode TX (budget 150 ms)", [sys.executable, "-m", "flashctl", "decode", raw]),
    ):
        best = min(_seconds(argv) for _ in range(10))
        print(f"  {name:<58} {best * 1000:>10.0f} ms")


def _seconds(argv: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(argv, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--transactions", type=int, default=100_000)
    parser.add_argument("--no-peers", action="store_true")
    arguments = parser.parse_args()
    # An installed program has its bytecode cached; without this every start would compile it anew.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    raws = made(DISTINCT)
    print(json.dumps({"transactions": arguments.transactions, "keccak": KECCAK_LIBRARY}))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "batch.txt"
        with path.open("w") as file:
            for number in range(arguments.transactions):
                file.write("0x" + raws[number % len(raws)].hex() + "\n")
        library(raws)
        figures = command(path, arguments.transactions)
    if not arguments.no_peers:
        peers(raws, figures["--fields hash,from,to"])
    start_up()


if __name__ == "__main__":
    main()
