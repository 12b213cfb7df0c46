"""One payload job: from the consensus client's request to build, flashblock by flashblock, to getPayload.

    open     forced transactions, in the caller's time: index 0, with which a payload exists
    run      at each time of the schedule: what the pool offers within the budget, a seal, a flashblock
    resolve  getPayload: the newest seal; building ends

Everything happens on the event loop, in slices: between two transactions the job lets others run whenever
it has held the loop for SLICE_S. A flashblock is published in the same step in which its seal becomes the
answer of getPayload, so that a payload never holds less than what was published.

A forced transaction that cannot be executed fails the job: a block without it is not the one that was
asked for.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final

from flashctl.builder.admission import TransactionQueue
from flashctl.builder.backend import BlockBuild
from flashctl.builder.budget import BlockLimits, Budget, Refusal, TxCost
from flashctl.builder.schedule import Schedule
from flashctl.errors import FlashctlError
from flashctl.eth.transactions import DepositTx
from flashctl.evm.halts import ExecutionTimeout
from flashctl.evm.message import Deadline
from flashctl.evm.state import Account
from flashctl.op.attributes import PayloadAttributes
from flashctl.op.envelope import TxEnvelope, recover_all
from flashctl.op.execution import SealedBlock, TransactionRejected

__all__ = ["Ending", "ForcedTransactionFailed", "JobLimits", "JobObserver", "Made", "PayloadJob"]

_LOG = logging.getLogger(__name__)

SLICE_S: Final = 0.005
"""How long a build holds the event loop at a stretch. A tenth of it is the cost of letting go (uvloop, 20
us a turn, when there is nothing else to do)."""

SEAL_SHARE: Final = 0.15
"""Part of an interval kept for the seal: filling stops that much before the next flashblock is due. A seal
takes 28 us for each transfer in it, so of 200 ms this covers 1,000 of them; after more it is late."""

MISFITS_IN_A_ROW: Final = 256
"""Transactions that do not fit in a row, after which a flashblock counts as full. Walking the rest of a full
pool of 10,000 would take longer than the flashblock."""


class Ending(Enum):
    """Why a job stopped building; the value is the metric's label."""

    RESOLVED = "resolved"
    """getPayload came."""
    REPLACED = "new_fcu"
    """The consensus client asked for another payload."""
    COMPLETE = "complete"
    """Every flashblock of the schedule is out."""
    FAILED = "error"


class ForcedTransactionFailed(FlashctlError):
    """A transaction that the consensus client forces into the block cannot be in it."""

    def __init__(self, index: int, reason: str) -> None:
        super().__init__(f"failed to force-include tx {index}: {reason}")
        self.index = index


@dataclass(frozen=True, slots=True)
class Made:
    """One flashblock, ready to publish."""

    payload_id: bytes
    index: int
    sealed: SealedBlock
    """The block so far."""
    added: tuple[TxEnvelope, ...]
    """What this flashblock adds to it."""
    changed: Mapping[int, Account | None]
    """The accounts that the block has changed so far, as they are now; None for one that is gone."""
    publishes: bool = True
    """False for a job without the pool: a block re-executed, whose flashblocks nobody waits for."""


@dataclass(frozen=True, slots=True)
class JobLimits:
    """What an operator bounds beyond the block's own limits; None is no limit."""

    gas: int | None = None
    """Gas of a block's transactions (`miner_setGasLimit`); the header keeps the limit it was asked for."""
    tx_da_bytes: int | None = None
    block_da_bytes: int | None = None
    block_bytes: int | None = None
    tx_time_s: float = 0.5
    """Wall time of one transaction, after which it is dropped."""


class JobObserver:
    """What a job reports; every method may be overridden."""

    def made(self, made: Made) -> None:
        """A flashblock is sealed and may be published."""

    def refused(self, refusal: Refusal) -> None:
        """A transaction did not fit."""

    def ended(self, ending: Ending, flashblocks: int, planned: int) -> None:
        """Building is over."""


class PayloadJob:
    """One block under construction for one payload id."""

    def __init__(
        self,
        payload_id: bytes,
        build: BlockBuild,
        attributes: PayloadAttributes,
        queue: TransactionQueue,
        schedule: Schedule,
        limits: JobLimits,
        observer: JobObserver,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.payload_id = payload_id
        self.attributes = attributes
        self._build = build
        self._queue = queue
        self._schedule = schedule
        self._limits = limits
        self._observer = observer
        self._clock = clock
        self._sealed: SealedBlock | None = None
        self._ended = asyncio.Event()
        self._index = 0
        self._planned = 0
        self._changed: dict[int, Account | None] = {}
        self._too_slow: set[bytes] = set()

    @property
    def sealed(self) -> SealedBlock | None:
        """The block as of the last flashblock; None until index 0 is executed."""
        return self._sealed

    async def open(self) -> SealedBlock:
        """Execute the forced transactions: afterwards there is a payload.

        Raises:
            ForcedTransactionFailed: If one of them is malformed or cannot be executed.
        """
        raws = self.attributes.transactions
        try:
            # Sender recovery leaves the GIL, so a long list does not stop the loop.
            envelopes = await asyncio.to_thread(recover_all, raws) if len(raws) > 8 else recover_all(raws)
        except FlashctlError as error:
            raise ForcedTransactionFailed(0, str(error)) from None
        slice_end = time.perf_counter() + SLICE_S
        for index, envelope in enumerate(envelopes):
            try:
                self._build.execute(envelope)
            except TransactionRejected as error:
                raise ForcedTransactionFailed(index, str(error)) from None
            if time.perf_counter() > slice_end:
                await asyncio.sleep(0)
                slice_end = time.perf_counter() + SLICE_S
        return self._publish(0, tuple(envelopes))

    async def run(self) -> None:
        """Build the flashblocks after index 0, until the schedule or the job ends."""
        if self.attributes.no_tx_pool:
            self._end(Ending.COMPLETE)
            return
        start = self._clock()
        times = self._schedule.times(round((self.attributes.timestamp - start) * 1000))
        self._planned = len(times)
        budget = Budget(self._block_limits(), len(times))
        interval = self._schedule.interval_ms / 1000
        for index, at_ms in enumerate(times, 1):
            if await self._ends_before(start + at_ms / 1000):
                return
            due = start + times[index] / 1000 if index < len(times) else start + at_ms / 1000 + interval
            added = await self._fill(index, budget, due - SEAL_SHARE * interval)
            if self._ended.is_set():
                return
            self._publish(index, tuple(added))
        self._end(Ending.COMPLETE)

    def resolve(self) -> SealedBlock | None:
        """End the job with what there is: getPayload's answer."""
        self._end(Ending.RESOLVED)
        return self._sealed

    def replace(self) -> None:
        """End the job because another one takes its place; it can still be resolved."""
        self._end(Ending.REPLACED)

    def fail(self) -> None:
        """End the job because of an error of its own."""
        self._end(Ending.FAILED)

    async def _ends_before(self, moment: float) -> bool:
        """Wait for a moment on the clock; True if the job ended instead."""
        delay = moment - self._clock()
        if delay > 0 and not self._ended.is_set():
            try:
                await asyncio.wait_for(self._ended.wait(), delay)
            except TimeoutError:
                pass
        return self._ended.is_set()

    async def _fill(self, index: int, budget: Budget, until: float) -> list[TxEnvelope]:
        """Execute what the pool offers and the budget of flashblock `index` allows."""
        build = self._build
        cursor = self._queue.best(build.base_fee, build.nonce_of)
        added: list[TxEnvelope] = []
        misfits = 0
        slice_end = time.perf_counter() + SLICE_S
        while (envelope := cursor.next()) is not None and misfits < MISFITS_IN_A_ROW:
            if self._admits(envelope, index, budget) and self._executes(envelope):
                added.append(envelope)
                misfits = 0
            else:
                cursor.skip_sender(envelope.sender)
                misfits += 1
            if time.perf_counter() > slice_end:
                await asyncio.sleep(0)
                if self._ended.is_set() or self._clock() >= until:
                    break
                slice_end = time.perf_counter() + SLICE_S
        return added

    def _admits(self, envelope: TxEnvelope, index: int, budget: Budget) -> bool:
        tx = envelope.tx
        if isinstance(tx, DepositTx) or envelope.hash in self._too_slow:
            return False
        cost = TxCost(tx.gas_limit, envelope.da_size, len(envelope.raw))
        refusal = budget.refusal(index, self._build.usage, cost)
        if refusal is not None:
            self._observer.refused(refusal)
        return refusal is None

    def _executes(self, envelope: TxEnvelope) -> bool:
        try:
            self._build.execute(envelope, Deadline(self._limits.tx_time_s))
        except TransactionRejected as error:
            _LOG.debug("0x%s is not executable now: %s", envelope.hash.hex(), error)
            return False
        except ExecutionTimeout as error:
            _LOG.warning("dropped 0x%s: %s", envelope.hash.hex(), error)
            self._too_slow.add(envelope.hash)
            self._queue.pool.remove(envelope.hash)
            return False
        return True

    def _publish(self, index: int, added: tuple[TxEnvelope, ...]) -> SealedBlock:
        sealed = self._build.seal()
        self._sealed = sealed
        self._index = index
        # A dictionary of its own for every flashblock, which may be published later than the next is made.
        self._changed = self._changed | sealed.diff.accounts
        publishes = not self.attributes.no_tx_pool
        self._observer.made(Made(self.payload_id, index, sealed, added, self._changed, publishes))
        return sealed

    def _end(self, ending: Ending) -> None:
        if not self._ended.is_set():
            self._ended.set()
            self._observer.ended(ending, self._index, self._planned)

    def _block_limits(self) -> BlockLimits:
        limits = self._limits
        gas = self._build.gas_limit
        return BlockLimits(
            gas=min(gas, limits.gas) if limits.gas else gas,
            da_footprint_gas_scalar=self._build.da_footprint_gas_scalar(),
            tx_da_bytes=limits.tx_da_bytes,
            block_da_bytes=limits.block_da_bytes,
            block_bytes=limits.block_bytes,
        )
