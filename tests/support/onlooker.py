"""What an honest user of a devnet notices, measured by a process that does nothing else.

    python -m support.onlooker --stream URL --rpc URL [--block-time 1]

A line for each thing it saw, with the clock's time (seconds of the epoch) first:

    1700000000.125 flashblock 3 0.612    index, and seconds from the start of its slot
    1700000000.220 call 0.004            seconds that a trivial eth_call took; 10 for one that failed

It has a session of its own, like a service: what it notices late itself, it would put down to them.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from support.hostile_clients import post, request

from flashctl.chain.devnet_accounts import DEVNET_ACCOUNTS
from flashctl.core.flashblocks.client import StreamFrame, StreamOptions, subscribe
from flashctl.core.flashblocks.wire import decode
from flashctl.core.service.parent_death import end_with_parent
from flashctl.eth.hexdata import to_hex

__all__ = ["Onlooker", "onlooker"]

CALL_EVERY_S = 0.05
FAILED_S = 10.0
_TESTS = Path(__file__).resolve().parents[1]


@dataclass
class Onlooker:
    """What a process of this module has told so far."""

    pid: int
    arrivals: list[tuple[int, float]] = field(default_factory=list)
    """Index and seconds from the start of the slot."""
    calls: list[float] = field(default_factory=list)

    def forget(self) -> None:
        """Start from nothing."""
        self.arrivals.clear()
        self.calls.clear()

    async def read(self, lines: asyncio.StreamReader) -> None:
        """Take in its lines, to their end."""
        async for line in lines:
            match line.decode().split():
                case [_, "flashblock", index, offset]:
                    self.arrivals.append((int(index), float(offset)))
                case [_, "call", seconds]:
                    self.calls.append(float(seconds))


@asynccontextmanager
async def onlooker(stream: str, rpc: str, block_time: int) -> AsyncIterator[Onlooker]:
    """One that looks on while the context is open."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "support.onlooker", "--stream", stream, "--rpc", rpc,
        "--block-time", str(block_time), cwd=_TESTS, stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    made = Onlooker(process.pid)
    reading = asyncio.create_task(made.read(process.stdout))
    try:
        yield made
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        await reading


def _tell(*words: object) -> None:
    print(f"{time.time():.3f}", *words, flush=True)


async def _watch(url: str, block_time: int) -> None:
    starts: dict[str, int] = {}
    async for item in subscribe(url, StreamOptions(silence_timeout_s=None)):
        if isinstance(item, StreamFrame):
            now = time.time()
            flashblock = decode(item.data, binary=item.binary)
            if flashblock.base is not None:
                starts = {flashblock.payload_id: flashblock.base.timestamp - block_time}
            start = starts.get(flashblock.payload_id)
            if start is not None:
                _tell("flashblock", flashblock.index, f"{now - start:.4f}")


async def _call(url: str) -> None:
    """A trivial call twenty times a second, from another address than the hostile clients'."""
    address = to_hex(DEVNET_ACCOUNTS[0].address)
    transport = httpx.AsyncHTTPTransport(local_address="127.0.0.2")
    async with httpx.AsyncClient(timeout=FAILED_S, transport=transport) as client:
        while True:
            started = time.monotonic()
            answer = await post(client, url, request("eth_call", {"to": address}, "pending"))
            seconds = time.monotonic() - started
            _tell("call", f"{seconds if answer and 'result' in answer else FAILED_S:.4f}")
            await asyncio.sleep(CALL_EVERY_S)


async def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    for name in ("stream", "rpc"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--block-time", type=int, default=1)
    options = parser.parse_args()
    await asyncio.gather(_watch(options.stream, options.block_time), _call(options.rpc))


if __name__ == "__main__":
    end_with_parent(signal.SIGKILL)
    asyncio.run(_main())
