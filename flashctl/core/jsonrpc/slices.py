"""How requests share the event loop with everything else that runs on it.

A batch of a thousand cheap requests is half a second of work without one pause, and so are a thousand
requests that arrive in one turn of the loop. Here all batches of a server together get one slice of each
turn: a batch that has used its slice waits in line, and each turn lets the next one in line go on. A batch
alone loses a turn of the loop (some 10 us) every `SLICE_S`. Of messages, batches or not, at most `MESSAGES`
begin in a turn, the others in the next ones.

Both lines go round over clients (`FairQueue`): one with a thousand connections, or with 64 requests under way
on a WebSocket, delays another's request by one of its own.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Final

from flashctl.core.jsonrpc.caller import caller
from flashctl.core.jsonrpc.fair_queue import FairQueue

__all__ = ["MESSAGES", "SLICE_S", "BatchTurns", "LoopSlices"]

SLICE_S: Final = 0.002
"""Work on batches in one turn of the loop; one request that began within it is finished."""


MESSAGES: Final = 32
"""Begun in one turn of the loop: 1 to 3 ms of it."""


class LoopSlices:
    """The turns of one server's messages and batches."""

    __slots__ = ("_begun", "_holder", "_is_due", "_line", "_messages", "_until")

    def __init__(self) -> None:
        self._begun = 0
        """Messages begun in this turn."""
        self._messages: FairQueue[asyncio.Future[None]] = FairQueue()
        """Those that are to begin in a later one."""
        self._holder: BatchTurns | None = None
        self._until = 0.0
        self._line: FairQueue[BatchTurns] = FairQueue()
        """Batches with requests waiting, each once."""
        self._is_due = False

    def may_begin(self) -> bool:
        """Whether a message may begin at once; if not, `await message_turn()`."""
        if self._begun >= MESSAGES or len(self._messages):
            return False
        if not self._begun:
            asyncio.get_running_loop().call_soon(self._begin_messages)
        self._begun += 1
        return True

    async def message_turn(self) -> None:
        """Return when a message that may not begin at once may."""
        future = asyncio.get_running_loop().create_future()
        self._messages.push(future, caller.get())
        await future

    def _begin_messages(self) -> None:
        """In the turn after one in which messages began: those that wait, as many as may."""
        self._begun = 0
        while self._begun < MESSAGES and (future := self._messages.pop()) is not None:
            if not future.done():  # one that is was cancelled with its client
                future.set_result(None)
                self._begun += 1
        if self._begun:
            asyncio.get_running_loop().call_soon(self._begin_messages)

    def join(self) -> BatchTurns:
        """A batch begins."""
        return BatchTurns(self)

    async def turn(self, share: BatchTurns) -> None:
        """Return when `share` may begin another request."""
        while share is not self._holder or time.perf_counter() >= self._until:
            future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
            if not share.waiting:
                self._line.push(share, share.client)
            share.waiting.append(future)
            if not self._is_due:
                self._is_due = True
                asyncio.get_running_loop().call_soon(self._let_next)
            if await future:
                # The slice begins now, not when it was given: other work may have come between.
                self._until = time.perf_counter() + SLICE_S
                return

    def _let_next(self) -> None:
        """Once a turn of the loop, as long as a batch waits: all that waits of one batch, of which the first
        begins and the others do as long as the slice lasts."""
        self._holder, self._until = None, 0.0
        while self._holder is None and (share := self._line.pop()) is not None:
            waiting, share.waiting = share.waiting, deque()
            for future in waiting:
                if not future.done():  # one that is was cancelled with its client
                    future.set_result(self._holder is None)
                    self._holder = share
        self._is_due = len(self._line) > 0
        if self._is_due:
            asyncio.get_running_loop().call_soon(self._let_next)


class BatchTurns:
    """The turns of one batch."""

    __slots__ = ("_slices", "client", "waiting")

    def __init__(self, slices: LoopSlices) -> None:
        self._slices = slices
        self.client: Final = caller.get()
        self.waiting: deque[asyncio.Future[bool]] = deque()

    async def turn(self) -> None:
        """Return when the batch may begin another request: mostly at once, else behind the others."""
        await self._slices.turn(self)
