"""Queue of transactions awaiting admission: decoding, sender recovery and checks take 100 us each, so a batch
of a thousand must not run on the event loop.

One thread checks them, each client's in order of arrival, clients in turn (`FairQueue`), in batches small
enough that adding them to the pool, on the event loop, does not block it for long. Answers keep the order. So
a client's burst delays another client's transaction by one batch, not by the whole queue.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Generic, TypeVar

from flashctl.builder.mempool.pool import PoolRefusal
from flashctl.core.jsonrpc.address_quota import AddressQuota
from flashctl.core.jsonrpc.caller import Caller, caller
from flashctl.core.jsonrpc.fair_queue import FairQueue
from flashctl.errors import FlashctlError

__all__ = ["AdmissionQueue"]

BATCH: Final = 64
"""Checked in one go: 6 ms of the thread, under 1 ms of the event loop."""

MAX_WAITING: Final = 20_000
MAX_WAITING_BYTES: Final = 64 * 2**20
"""Of queued transactions: two seconds of work. Further ones are rejected."""

MAX_WAITING_PER_ADDRESS: Final = MAX_WAITING // 2
MAX_WAITING_BYTES_PER_ADDRESS: Final = MAX_WAITING_BYTES // 2
"""The same for one address, so that others have room. Half: behind a node that forwards transactions all
users share its address."""

Checked = TypeVar("Checked")
Taken = TypeVar("Taken")


class AdmissionQueue(Generic[Checked, Taken]):
    """Queues of encoded transactions, one per client. Used on the event loop."""

    def __init__(self, look_at: Callable[[bytes], Checked], take: Callable[[Checked], Taken]) -> None:
        """An empty queue.

        Args:
            look_at: Called in a thread; what it raises is the answer.
            take: Called on the event loop with what `look_at` returned; likewise.
        """
        self._look_at = look_at
        self._take = take
        self._line: FairQueue[tuple[bytes, Caller, asyncio.Future[Taken]]] = FairQueue()
        self._quota: Final = AddressQuota(
            MAX_WAITING,
            MAX_WAITING_PER_ADDRESS,
            size=MAX_WAITING_BYTES,
            size_per_address=MAX_WAITING_BYTES_PER_ADDRESS,
        )
        """Of queued transactions."""
        self._working: asyncio.Task[None] | None = None
        self._thread: Final = ThreadPoolExecutor(1, "admission")

    async def enter(self, raw: bytes) -> Taken:
        """Wait until the transaction was checked and admitted.

        Raises:
            PoolRefusal: Too many wait already, of its client's address or of all.
        """
        client = caller.get()
        if not self._quota.take(client.address, len(raw)):
            raise PoolRefusal("txpool is busy: too many transactions wait to be checked")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Taken] = loop.create_future()
        self._line.push((raw, client, future), client)
        if self._working is None or self._working.done():
            self._working = loop.create_task(self._work(), name="admission")
        try:
            return await future
        finally:
            # A cycle otherwise: the refusal's traceback holds this frame, and the future holds the refusal.
            del future

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
            self._quota.give_back(client.address, len(raw))
            batch.append((raw, future))
        return batch

    def _look_at_all(self, raws: Sequence[bytes]) -> list[Checked | Exception]:
        return [self._looked_at(raw) for raw in raws]

    def _looked_at(self, raw: bytes) -> Checked | Exception:
        try:
            return self._look_at(raw)
        except FlashctlError as refusal:
            # Its context has a traceback as well, through the frame that holds the batch.
            refusal.__context__ = None
            return refusal.with_traceback(None)
        except Exception as error:
            return error

    def _answer(self, future: asyncio.Future[Taken], outcome: Checked | Exception) -> None:
        """Admit the transaction, even if its sender has disconnected, and resolve the future."""
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
    """Fail the future. A refusal loses its traceback and cause, whose frames form cycles with a batch of
    transactions; a defect keeps them for the log."""
    if isinstance(error, FlashctlError):
        error.__traceback__ = error.__context__ = None
    if not future.done():
        future.set_exception(error)
