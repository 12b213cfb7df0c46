"""A builder's stream with what a hostile builder adds: signed numbers, impossible fields, 14 MB messages.

Everything of the real builder passes unchanged, at once; the rest comes between.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import websockets
from support.stream_relay import damaged
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve

__all__ = ["stream_injector"]

EVERY_S = 0.5
HUGE_TRANSACTIONS = 1_700_000
"""Four characters and two quotes each: a message of 14 MB."""


class _Injector:
    def __init__(self, upstream: str, seed: int) -> None:
        self._upstream = upstream
        self._random = random.Random(seed)
        self._last: str = ""
        self.counts: Counter[str] = Counter()

    async def handle(self, client: ServerConnection) -> None:
        with contextlib.suppress(websockets.ConnectionClosed, OSError, websockets.InvalidHandshake):
            async with connect(self._upstream, max_size=None) as upstream:
                injecting = asyncio.create_task(self._inject(client))
                try:
                    async for message in upstream:
                        if isinstance(message, str):
                            self._last = message
                        await client.send(message)
                finally:
                    injecting.cancel()

    async def _inject(self, client: ServerConnection) -> None:
        with contextlib.suppress(websockets.ConnectionClosed):
            while True:
                await asyncio.sleep(EVERY_S)
                if self._last:
                    kind, message = self._hostile()
                    self.counts[kind] += 1
                    await client.send(message)

    def _hostile(self) -> tuple[str, Any]:
        document = json.loads(self._last)
        document["payload_id"] = "0x03" + self._random.randbytes(7).hex()
        draw = self._random.random()
        if draw < 0.2:
            document["diff"]["transactions"] = ["0x02"] * HUGE_TRANSACTIONS
            return "huge", json.dumps(document, separators=(",", ":"))
        if draw < 0.6:
            document["index"] = self._random.choice(["0x-9", -9, "-1", 2**70, " 0x1", "0x_1", None])
            return "number", json.dumps(document)
        return "damaged", damaged(json.dumps(document), self._random)


@asynccontextmanager
async def stream_injector(upstream: str, *, seed: int = 1) -> AsyncIterator[tuple[_Injector, str]]:
    """The injector and its URL."""
    injector = _Injector(upstream, seed)
    async with serve(injector.handle, "127.0.0.1", 0, max_size=None, compression=None) as server:
        yield injector, f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"
