"""A builder's stream with what a hostile builder adds: signed numbers, impossible fields, 14 MB messages.

Everything of the real builder passes unchanged, at once; the rest comes between. A process of its own, so
that making the rest holds up nobody else:

    python -m support.stream_injector --upstream ws://127.0.0.1:1111
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import websockets
from support.stream_relay import damaged
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve

from flashctl.core.service.parent_death import end_with_parent

__all__ = ["stream_injector"]

EVERY_S = 0.5
HUGE_EVERY = 5
"""Of the messages that are put in, how many there are to a huge one."""
TWO_MILLION_TRANSACTIONS = b",".join([b'"0x02"'] * 2_000_000)
"""Seven characters each: a message of 14 MB."""

BEFORE_A_GAP = range(1, 4)
"""Indexes that a whole interval follows. What is put in comes right after one of them: a message of 14 MB
takes a while on the wire, and what waits behind it there is late by its sender's doing."""


class _Injector:
    def __init__(self, upstream: str, seed: int) -> None:
        self._upstream = upstream
        self._random = random.Random(seed)
        self._count = 0
        self._due = 0.0

    async def handle(self, client: ServerConnection) -> None:
        with contextlib.suppress(websockets.ConnectionClosed, OSError, websockets.InvalidHandshake):
            async with connect(self._upstream, max_size=None) as upstream:
                async for message in upstream:
                    await client.send(message)
                    if isinstance(message, str) and time.monotonic() >= self._due:
                        document = json.loads(message)
                        if document["index"] in BEFORE_A_GAP:
                            self._due = time.monotonic() + EVERY_S
                            self._count += 1
                            await client.send(self._hostile(document), text=True)

    def _hostile(self, document: dict[str, Any]) -> bytes:
        document["payload_id"] = "0x03" + self._random.randbytes(7).hex()
        if self._count % HUGE_EVERY == 0:
            document["diff"]["transactions"] = ["HERE"]
            return json.dumps(document).encode().replace(b'"HERE"', TWO_MILLION_TRANSACTIONS)
        if self._random.random() < 0.5:
            document["index"] = self._random.choice(["0x-9", -9, "-1", 2**70, " 0x1", "0x_1", None])
            return json.dumps(document).encode()
        return damaged(json.dumps(document), self._random).encode()


@asynccontextmanager
async def stream_injector(upstream: str) -> AsyncIterator[str]:
    """The injector's URL while its process runs."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "support.stream_injector", "--upstream", upstream,
        cwd=_TESTS, stdout=asyncio.subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        yield (await process.stdout.readline()).decode().strip()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


_TESTS = Path(__file__).resolve().parents[1]


async def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--upstream", required=True)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    injector = _Injector(options.upstream, options.seed)
    async with serve(injector.handle, "127.0.0.1", 0, max_size=None, compression=None) as server:
        print(f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    end_with_parent(signal.SIGKILL)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_main())
