"""How batches share the event loop with everything else that runs on it.

A batch of a thousand cheap requests is half a second of work without one pause. Here all batches of a server
together get one slice of each turn of the loop: a batch that has used its slice waits in line, and each turn
lets the next one in line go on. A batch alone loses a turn of the loop (some 10 us) every `SLICE_S`.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Final

__all__ = ["SLICE_S", "BatchTurns", "LoopSlices"]

SLICE_S: Final = 0.002
"""Work on batches in one turn of the loop; one request that began within it is finished."""


class LoopSlices:
    """The turns of one server's batches."""

    __slots__ = ("_holder", "_is_due", "_line", "_until")

    def __init__(self) -> None:
        self._holder: BatchTurns | None = None
        self._until = 0.0
        self._line: deque[BatchTurns] = deque()
        """Batches with somebody waiting, each once, in the order of their turns."""
        self._is_due = False

    def join(self) -> BatchTurns:
        """A batch begins."""
        return BatchTurns(self)

    async def turn(self, share: BatchTurns) -> None:
        """Return when `share` may begin another request."""
        if share is self._holder and time.perf_counter() < self._until:
            return
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        if not share.waiting:
            self._line.append(share)
        share.waiting.append(future)
        if not self._is_due:
            self._is_due = True
            loop.call_soon(self._let_next)
        await future
        self._until = time.perf_counter() + SLICE_S

    def _let_next(self) -> None:
        """Once a turn of the loop, as long as anybody waits."""
        self._holder = None
        while self._line and self._holder is None:
            share = self._line.popleft()
            while share.waiting:
                future = share.waiting.popleft()
                if not future.done():  # one that is was cancelled with its client
                    self._holder = share
                    future.set_result(None)
                    break
            if share.waiting:
                self._line.append(share)
        self._is_due = bool(self._line)
        if self._is_due:
            asyncio.get_running_loop().call_soon(self._let_next)


class BatchTurns:
    """One batch's part in them."""

    __slots__ = ("_slices", "waiting")

    def __init__(self, slices: LoopSlices) -> None:
        self._slices = slices
        self.waiting: deque[asyncio.Future[None]] = deque()

    async def turn(self) -> None:
        """Return when the batch may begin another request: mostly at once, else behind the others."""
        await self._slices.turn(self)
