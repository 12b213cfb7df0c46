"""Transactions mirrored to the builder's mempool, in order, however slow the builder is.

A transaction that the fallback's mempool holds and the builder's lacks is worse than late: every later one of
its sender has a nonce gap and stays out of the builder's blocks. So copies are not fire-and-forget. They
queue and go out as JSON-RPC batches, one at a time, and a batch that did not reach the builder is sent again
until it is too old: a mempool answers "already known" to a duplicate.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable

from flashctl.core.jsonrpc.client import JsonRpcClient
from flashctl.core.service import defects
from flashctl.errors import FlashctlError

__all__ = ["TransactionMirror"]

_LOG = logging.getLogger(__name__)

MAX_BATCH = 100
"""Requests in one batch: at 2 ms an admission 0.2 s of the builder's time."""

MAX_WAITING = 20_000
MAX_WAITING_BYTES = 64 * 1024 * 1024
"""Waiting bytes above which the oldest are dropped: a minute and a half at 200 transactions a second."""

MAX_AGE_S = 30.0
"""How long a copy is retried: a restarting builder is back by then, and blocks of the fallback have included
most of what waited."""

RETRY_S = 0.5
BATCH_TIMEOUT_S = 5.0


class TransactionMirror:
    """Queue of requests to the builder whose answers are not awaited."""

    def __init__(self, client: JsonRpcClient, clock: Callable[[], float] = time.monotonic) -> None:
        self._client = client
        self._clock = clock
        self._waiting: deque[tuple[float, bytes]] = deque()
        self._bytes = 0
        self._worker: asyncio.Task[None] | None = None
        self.dropped = 0
        """Requests dropped since the start."""

    def add(self, request: bytes) -> None:
        """Queue one JSON-RPC request; over the limits the oldest is dropped."""
        self._waiting.append((self._clock(), request))
        self._bytes += len(request)
        while len(self._waiting) > MAX_WAITING or self._bytes > MAX_WAITING_BYTES:
            self._drop_oldest()
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work(), name="copies to the builder")

    async def _work(self) -> None:
        while self._waiting:
            batch = self._take()
            try:
                await self._client.post_raw(
                    batch[0][1] if len(batch) == 1 else b"[" + b",".join(r for _, r in batch) + b"]",
                    timeout_s=BATCH_TIMEOUT_S,
                )
            except FlashctlError as error:
                _LOG.debug("copies to the builder: %s", error)
                self._put_back(batch)
                await asyncio.sleep(RETRY_S)
                self._drop_old()
            except Exception as error:
                # The batch is lost; the worker goes on with the next.
                defects.caught("boost.copies", error)

    def _take(self) -> list[tuple[float, bytes]]:
        batch = [self._waiting.popleft() for _ in range(min(MAX_BATCH, len(self._waiting)))]
        self._bytes -= sum(len(request) for _, request in batch)
        return batch

    def _put_back(self, batch: list[tuple[float, bytes]]) -> None:
        self._waiting.extendleft(reversed(batch))
        self._bytes += sum(len(request) for _, request in batch)

    def _drop_old(self) -> None:
        oldest = self._clock() - MAX_AGE_S
        while self._waiting and self._waiting[0][0] < oldest:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        _, request = self._waiting.popleft()
        self._bytes -= len(request)
        self.dropped += 1
        if self.dropped == 1 or self.dropped % 1000 == 0:
            _LOG.warning("%d requests never reached the builder", self.dropped)

    async def close(self) -> None:
        """Drop what waits."""
        if self._worker is not None:
            self._worker.cancel()
            await asyncio.gather(self._worker, return_exceptions=True)
        self._waiting.clear()
