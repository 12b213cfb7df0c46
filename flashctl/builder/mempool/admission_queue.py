"""Where transactions wait to be looked at: decoding, sender and checks take 100 us each, and a batch of a
thousand of them is not the event loop's business.

They are looked at in one thread, each client's in the order they came, clients in turn (`FairQueue`), and so
many at a time that the loop, which then takes them into the pool, is not held for long either. Answers come
in the same order. So what one client sends at once delays another's transaction by what is being looked at,
not by all that waits.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Generic, TypeVar

from flashctl.builder.mempool.pool import PoolRefusal
from flashctl.core.jsonrpc.caller import Caller, caller
from flashctl.core.jsonrpc.fair_queue import FairQueue
from flashctl.errors import FlashctlError

__all__ = ["AdmissionQueue"]

BATCH: Final = 64
"""Looked at in one go: 6 ms of the thread, under 1 ms of the loop."""

MAX_WAITING: Final = 20_000
MAX_WAITING_BYTES: Final = 64 * 2**20
"""Of transactions that wait to be looked at: two seconds of work. More are refused."""

MAX_WAITING_PER_ADDRESS: Final = MAX_WAITING // 2
MAX_WAITING_BYTES_PER_ADDRESS: Final = MAX_WAITING_BYTES // 2
"""The same of one address, so that others have room. Half: behind a node that passes transactions on, all
users have its address."""

Checked = TypeVar("Checked")
Taken = TypeVar("Taken")


class AdmissionQueue(Generic[Checked, Taken]):
    """Lines of encoded transactions, one of each client. Lives on the event loop."""

    def __init__(self, look_at: Callable[[bytes], Checked], take: Callable[[Checked], Taken]) -> None:
        """Nothing waits.

        Args:
            look_at: Called in a thread; what it raises is the answer.
            take: Called on the event loop with what `look_at` returned; likewise.
        """
        self._look_at = look_at
        self._take = take
        self._line: FairQueue[tuple[bytes, Caller, asyncio.Future[Taken]]] = FairQueue()
        self._waiting_bytes = 0
        self._count: Counter[str] = Counter()
        self._bytes: Counter[str] = Counter()
        """Of what waits, by address."""
        self._working: asyncio.Task[None] | None = None
        self._thread: Final = ThreadPoolExecutor(1, "admission")

    async def enter(self, raw: bytes) -> Taken:
        """Wait until the transaction was looked at and taken in.

        Raises:
            PoolRefusal: Too many wait already, of its client's address or of all.
        """
        client = caller.get()
        if not self._has_room(client.address, len(raw)):
            raise PoolRefusal("txpool is busy: too many transactions wait to be checked")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Taken] = loop.create_future()
        self._line.push((raw, client, future), client)
        self._waiting_bytes += len(raw)
        self._count[client.address] += 1
        self._bytes[client.address] += len(raw)
        if self._working is None or self._working.done():
            self._working = loop.create_task(self._work(), name="admission")
        try:
            return await future
        finally:
            # A refusal's traceback holds this frame, and the future the refusal.
            del future

    def _has_room(self, address: str, size: int) -> bool:
        return (
            len(self._line) < MAX_WAITING
            and self._waiting_bytes + size <= MAX_WAITING_BYTES
            and self._count[address] < MAX_WAITING_PER_ADDRESS
            and self._bytes[address] + size <= MAX_WAITING_BYTES_PER_ADDRESS
        )

    async def _work(self) -> None:
        """Until nothing waits any more."""
        loop = asyncio.get_running_loop()
        while batch := self._next():
            try:
                raws = [raw for raw, _ in batch]
                outcomes = await loop.run_in_executor(self._thread, self._look_at_all, raws)
                for (_, future), outcome in zip(batch, outcomes, strict=True):
                    self._answer(future, outcome)
            except Exception as error:
                for _, future in batch:
                    if not future.done():
                        future.set_exception(error)

    def _next(self) -> list[tuple[bytes, asyncio.Future[Taken]]]:
        """Those whose turn it is, as many as are looked at in one go."""
        batch: list[tuple[bytes, asyncio.Future[Taken]]] = []
        while len(batch) < BATCH and (entry := self._line.pop()) is not None:
            raw, client, future = entry
            self._waiting_bytes -= len(raw)
            self._bytes[client.address] -= len(raw)
            self._count[client.address] -= 1
            if not self._count[client.address]:
                del self._count[client.address], self._bytes[client.address]
            batch.append((raw, future))
        return batch

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
