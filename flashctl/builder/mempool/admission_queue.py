"""Where transactions wait to be looked at: decoding, sender and checks take 100 us each, and a batch of a
thousand of them is not the event loop's business.

They are looked at in one thread, in the order they came and so many at a time that the loop, which then takes
them into the pool, is not held for long either. Answers come in the same order.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Generic, TypeVar

from flashctl.builder.mempool.pool import PoolRefusal
from flashctl.errors import FlashctlError

__all__ = ["AdmissionQueue"]

BATCH: Final = 64
"""Looked at in one go: 6 ms of the thread, under 1 ms of the loop."""

MAX_WAITING: Final = 20_000
MAX_WAITING_BYTES: Final = 64 * 2**20
"""Of transactions that wait to be looked at: two seconds of work. More are refused."""

Checked = TypeVar("Checked")
Taken = TypeVar("Taken")


class AdmissionQueue(Generic[Checked, Taken]):
    """A line of encoded transactions. Lives on the event loop."""

    def __init__(self, look_at: Callable[[bytes], Checked], take: Callable[[Checked], Taken]) -> None:
        """Nobody waits.

        Args:
            look_at: Called in a thread; what it raises is the answer.
            take: Called on the event loop with what `look_at` returned; likewise.
        """
        self._look_at = look_at
        self._take = take
        self._line: deque[tuple[bytes, asyncio.Future[Taken]]] = deque()
        self._waiting_bytes = 0
        self._working: asyncio.Task[None] | None = None
        self._thread: Final = ThreadPoolExecutor(1, "admission")

    async def enter(self, raw: bytes) -> Taken:
        """Wait until the transaction was looked at and taken in.

        Raises:
            PoolRefusal: Too many wait already.
        """
        if len(self._line) >= MAX_WAITING or self._waiting_bytes + len(raw) > MAX_WAITING_BYTES:
            raise PoolRefusal("txpool is busy: too many transactions wait to be checked")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Taken] = loop.create_future()
        self._line.append((raw, future))
        self._waiting_bytes += len(raw)
        if self._working is None or self._working.done():
            self._working = loop.create_task(self._work(), name="admission")
        try:
            return await future
        finally:
            # A refusal's traceback holds this frame, and the future the refusal.
            del future

    async def _work(self) -> None:
        """Until nobody waits any more."""
        loop = asyncio.get_running_loop()
        while self._line:
            batch = [self._line.popleft() for _ in range(min(BATCH, len(self._line)))]
            raws = [raw for raw, _ in batch]
            self._waiting_bytes -= sum(map(len, raws))
            try:
                outcomes = await loop.run_in_executor(self._thread, self._look_at_all, raws)
                for (_, future), outcome in zip(batch, outcomes, strict=True):
                    self._answer(future, outcome)
            except Exception as error:
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)

    def _look_at_all(self, raws: Sequence[bytes]) -> list[Checked | Exception]:
        return [self._looked_at(raw) for raw in raws]

    def _looked_at(self, raw: bytes) -> Checked | Exception:
        try:
            return self._look_at(raw)
        except FlashctlError as refusal:
            # What it was raised for has a traceback as well, through the frame that holds the batch.
            refusal.__context__ = None
            return refusal.with_traceback(None)
        except Exception as error:
            return error

    def _answer(self, future: asyncio.Future[Taken], outcome: Checked | Exception) -> None:
        """Take it in, though whoever sent it may have gone."""
        if isinstance(outcome, Exception):
            _refuse(future, outcome)
            return
        try:
            taken = self._take(outcome)
        except Exception as error:
            _refuse(future, error)
        else:
            if not future.done():
                future.set_result(taken)


def _refuse(future: asyncio.Future[Taken], error: Exception) -> None:
    """A refusal goes without its traceback and what it was raised from, whose frames are cycles with a batch
    of transactions in them; of a defect they are wanted."""
    if isinstance(error, FlashctlError):
        error.__traceback__ = error.__context__ = None
    if not future.done():
        future.set_exception(error)
