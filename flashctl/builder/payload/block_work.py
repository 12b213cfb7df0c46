"""The CPU work of a payload job: executing, sealing, encoding the message. Synchronous, for a thread.

    force   the forced transactions, and the seal of index 0
    extend  the mempool's best within a flashblock's budget, and the seal of that flashblock
    take    from the event loop: the block as of before the long transaction that is running
    stop    from the event loop: the running transaction ends at its next check of the clock, no further seal

A job runs one operation at a time, so all other state belongs to the thread that runs it. Results for the
mempool (refusals, transactions to drop) are returned.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from flashctl.builder.backend import BlockBuild
from flashctl.builder.mempool.entries import nonce_of_envelope
from flashctl.builder.payload.budget import BlockLimits, Budget, Refusal, TxCost
from flashctl.builder.payload.late_transactions import Cut, LatePlan
from flashctl.builder.payload.schedule import FlashblockSchedule
from flashctl.core.hub import Prepared
from flashctl.core.service import defects
from flashctl.errors import FlashctlError
from flashctl.eth.transactions import DepositTx
from flashctl.evm.halts import ExecutionTimeout
from flashctl.evm.message import Deadline, WorkDeadline
from flashctl.evm.state import Account
from flashctl.op.attributes import PayloadAttributes
from flashctl.op.envelope import TxEnvelope, recover_all
from flashctl.op.execution import SealedBlock, TransactionRejected
from flashctl.op.transaction import Rejection

__all__ = [
    "BlockExtension",
    "BlockWork",
    "BuiltFlashblock",
    "ForcedTransactionFailed",
    "JobLimits",
    "JobRequest",
    "JobRuntime",
    "JobTerms",
    "Offers",
    "SealPace",
    "Stopped",
]

_LOG = logging.getLogger(__name__)

MISFITS_IN_A_ROW: Final = 256
"""Transactions that do not fit in a row, after which a flashblock counts as full. Walking the rest of a full
pool of 10,000 would take longer than the flashblock."""


_REASONS_OF_THE_BLOCK: Final = (Rejection.BLOCK_GAS, Rejection.DA_FOOTPRINT, Rejection.ACTIVATION_BLOCK)
"""Rejections that depend on this block and need not recur in another."""


LONG_GAS: Final = 1_000_000
"""The block is sealed before a transaction that may use so much (20 ms): no flashblock waits for it."""

LOST_SHARE: Final = 0.5
"""Share of a block's time lost to cut transactions, after which no further transaction that may take long is
tried in the block. The rest of the time is for those that cannot."""

WHOLE_SHARE: Final = 0.6
"""Share of a block's time: a build with less left is no evidence of what a block can hold."""

MAX_CROWDED: Final = 16
"""Large transactions without room, reported per flashblock."""

LEAST_FILL_S: Final = 0.005
"""A flashblock is filled for at least so long, even if late; else a busy machine would build empty blocks."""

SEAL_S: Final = 0.003
SEAL_TX_S: Final = 40e-6
"""Initial estimates for roots and message: per flashblock, and per transaction in it; a transfer took 28 us
for the roots and 6 for the message on the machine of docs/benchmarks.md."""

MEASURED_FROM: Final = 50
"""Transactions from which on a seal's duration updates the estimate."""


class SealPace:
    """Estimate of a seal's duration from the last ones: filling ends so long before a flashblock is due."""

    def __init__(self) -> None:
        self._per_tx_s = SEAL_TX_S

    def estimate_s(self, transactions: int) -> float:
        """Seconds for a flashblock that adds so many transactions."""
        return SEAL_S + self._per_tx_s * transactions

    def measured(self, transactions: int, seconds: float) -> None:
        """Record one seal's duration. An outlier counts little: one seal moves the estimate by a quarter, and
        counts as ten times the estimate at most."""
        if transactions >= MEASURED_FROM:
            per_tx_s = min(max(0.0, seconds - SEAL_S) / transactions, 10 * SEAL_TX_S)
            self._per_tx_s += (per_tx_s - self._per_tx_s) / 4


class ForcedTransactionFailed(FlashctlError):
    """A transaction that the consensus client forces into the block cannot be in it."""

    def __init__(self, index: int, reason: str) -> None:
        super().__init__(f"failed to force-include tx {index}: {reason}")
        self.index = index


class Stopped(FlashctlError):
    """The work was stopped before a seal."""


@dataclass(frozen=True, slots=True)
class BuiltFlashblock:
    """One flashblock, ready to publish."""

    payload_id: bytes
    index: int
    sealed: SealedBlock
    """The block so far."""
    added: tuple[TxEnvelope, ...]
    """The transactions this flashblock adds."""
    changed: Mapping[int, Account | None]
    """The accounts that the block has changed so far, with their current values; None if deleted."""
    publishes: bool = True
    """False for a job without the mempool (noTxPool): a re-executed block, which needs no preconfirmation."""
    message: Prepared | None = None
    """The encoded message; None if not encoded yet."""


@dataclass(frozen=True, slots=True)
class JobLimits:
    """The operator's limits beyond the block's own; None is no limit."""

    gas: int | None = None
    """Gas of a block's transactions (`miner_setGasLimit`); the header keeps the attributes' limit."""
    tx_da_bytes: int | None = None
    block_da_bytes: int | None = None
    block_bytes: int | None = None
    tx_time_s: float = 0.5
    """Processor time of one transaction, after which it is cut and deferred to a later block."""


@dataclass(frozen=True, slots=True)
class JobRequest:
    """What the consensus client asked for."""

    payload_id: bytes
    build: BlockBuild
    """The block, begun on its parent."""
    attributes: PayloadAttributes


@dataclass(frozen=True, slots=True)
class JobTerms:
    """What the operator has set."""

    schedule: FlashblockSchedule
    limits: JobLimits = JobLimits()


@dataclass(frozen=True, slots=True)
class JobRuntime:
    """What jobs of one process share."""

    pace: SealPace = field(default_factory=SealPace)
    """Of the process's seals, which outlives a block."""
    executor: Executor | None = None
    """Threads for executions, of which a job uses one at a time; None for the event loop's."""
    clock: Callable[[], float] = time.time
    """Unix time, seconds."""


class Offers(Protocol):
    """Transactions to try, best first."""

    def next(self) -> TxEnvelope | None:
        """The next one; None when there are no more."""
        ...

    def skip_sender(self, sender: bytes) -> None:
        """Skip the sender's further transactions."""
        ...


@dataclass(slots=True)
class BlockExtension:
    """The result of extending the block for one flashblock."""

    index: int
    made: BuiltFlashblock | None = None
    """None if the work was stopped, or if `take` has published the state before the last transaction."""
    refusals: list[Refusal] = field(default_factory=list)
    """Why transactions did not fit."""
    dropped: list[bytes] = field(default_factory=list)
    """Hashes of transactions that must not be tried again."""
    cut: list[Cut] = field(default_factory=list)
    """Transactions that were stopped while they ran."""
    crowded: list[bytes] = field(default_factory=list)
    """Hashes of transactions too large for the gas that smaller ones have left so far."""
    set_aside: list[bytes] = field(default_factory=list)
    """Hashes of transactions that fail the nonce or balance check now. A few hundred with high tips would
    otherwise fill every flashblock with attempts."""


class BlockWork:
    """The execution of one block."""

    def __init__(
        self,
        request: JobRequest,
        terms: JobTerms,
        runtime: JobRuntime,
        plan: LatePlan,
        write: Callable[[BuiltFlashblock], Prepared | None],
    ) -> None:
        """Nothing is executed yet.

        Args:
            plan: What to do about transactions that earlier blocks could not hold.
            write: The message of a flashblock; not called for a block without the pool.
        """
        self._payload_id = request.payload_id
        self._build = request.build
        self._forced = request.attributes.transactions
        self._publishes = not request.attributes.no_tx_pool
        self._limits = terms.limits
        self._block_time_s = terms.schedule.block_time_ms / 1000
        self._interval_s = terms.schedule.interval_ms / 1000
        self._write = write
        self._pace = runtime.pace
        self._clock = runtime.clock
        self._needs_s = plan.needs_s
        self._first = plan.first
        """The transaction whose turn it is, until it has been tried."""
        self._put_off = set(plan.put_off)
        """Hashes of transactions not tried (again) in this block."""
        self._lost_s = 0.0
        """Processor time of cut transactions."""
        self._changed: Mapping[int, Account | None] = {}
        self._added: list[TxEnvelope] = []
        """Executed since the last flashblock."""
        self._lock = threading.Lock()
        """Guards the state that `take` shares with the building thread."""
        self._ahead: BuiltFlashblock | None = None
        self._is_out = False
        """Whether `_ahead` was taken."""
        self._running: Deadline | None = None
        self._stopped = False
        self._abandoned = False

    # ---- from any thread ------------------------------------------------------------------------

    def stop(self) -> None:
        """Stop extending the block. Forced transactions continue: their payload id has been returned."""
        self._stopped = True
        running = self._running
        if running is not None and running.budget_s != math.inf:
            running.expire()

    def abandon(self) -> None:
        """Stop at once: the process ends."""
        self._stopped = self._abandoned = True
        running = self._running
        if running is not None:
            running.expire()

    def take(self, index: int) -> BuiltFlashblock | None:
        """The block as of before the running long transaction, to be published as flashblock `index`
        meanwhile; None if none is running. Taken again, for the next flashblock, it adds nothing.
        """
        with self._lock:
            ahead = self._ahead
            if ahead is None or self._stopped:
                return None
            self._ahead, self._is_out = replace(ahead, added=()), True
            return replace(ahead, index=index)

    def seal_s(self) -> float:
        """Estimated seconds to seal what was executed since the last flashblock."""
        return self._pace.estimate_s(len(self._added))

    # ---- in the building thread -----------------------------------------------------------------

    def force(self) -> BuiltFlashblock:
        """Execute the forced transactions; index 0.

        Raises:
            ForcedTransactionFailed: If one of them is malformed or cannot be executed.
            Stopped: By `abandon`.
        """
        try:
            envelopes = tuple(recover_all(self._forced))
        except FlashctlError as error:
            raise ForcedTransactionFailed(0, str(error)) from None
        for index, envelope in enumerate(envelopes):
            # Set before the flag is read, so that a later `abandon` finds it.
            self._running = deadline = Deadline(math.inf)
            if self._abandoned:
                raise Stopped("abandoned")
            try:
                self._build.execute(envelope, deadline)
            except TransactionRejected as error:
                raise ForcedTransactionFailed(index, str(error)) from None
            except ExecutionTimeout:
                raise Stopped("abandoned") from None
        self._running = None
        self._added = list(envelopes)
        made = self.written(self._seal(0))
        self._added = []
        return made

    def budget(self, flashblocks: int) -> Budget:
        """The limits of the block in equal steps; once the forced transactions are executed."""
        limits, gas = self._limits, self._build.gas_limit
        return Budget(
            BlockLimits(
                gas=min(gas, limits.gas) if limits.gas else gas,
                da_footprint_gas_scalar=self._build.da_footprint_gas_scalar(),
                tx_da_bytes=limits.tx_da_bytes,
                block_da_bytes=limits.block_da_bytes,
                block_bytes=limits.block_bytes,
            ),
            flashblocks,
        )

    def extend(
        self,
        index: int,
        offers: Offers,
        budget: Budget,
        until: float,
        ends_at: float = math.inf,
        *,
        seals: bool = True,
    ) -> BlockExtension:
        """Execute the offers that fit the budget of flashblock `index`, and seal it.

        Args:
            until: When the flashblock is due, on the clock; executing stops in time to seal it.
            ends_at: When the block's last flashblock is due, on the clock.
            seals: False leaves the flashblock open: more will be executed for it.
        """
        extension = BlockExtension(index)
        if not self._added:
            until = max(until, self._clock() + LEAST_FILL_S + self.seal_s())
        if (first := self._first) is not None:
            self._first = None
            allowed_s = self._allowed_first(first, ends_at, extension)
            if allowed_s and self._admits(first, budget.flashblocks, budget, extension):
                _, is_taken = self._tried(first, index, extension, allowed_s, is_first=True)
                if is_taken:
                    return extension
        misfits = 0
        while misfits < MISFITS_IN_A_ROW and not self._stopped and (envelope := offers.next()) is not None:
            is_executed = False
            if self._is_wanted(envelope) and self._admits(
                envelope, self._opened_at(envelope, index, budget), budget, extension
            ):
                is_executed, is_taken = self._tried(envelope, index, extension, self._limits.tx_time_s)
                if is_taken:
                    return extension
            if is_executed:
                misfits = 0
            else:
                offers.skip_sender(envelope.sender)
                misfits += 1
            if self._clock() + self.seal_s() >= until:
                break
        if seals and not self._stopped:
            begun = time.perf_counter()
            extension.made = self.written(self._seal(index))
            self._pace.measured(len(self._added), time.perf_counter() - begun)
            self._added = []
        return extension

    def _allowed_first(self, envelope: TxEnvelope, ends_at: float, extension: BlockExtension) -> float:
        """The processor time for the transaction whose turn it is: all that the block has left. 0 if its
        nonce is not its sender's next, or if no more is left than was insufficient before."""
        if self._build.nonce_of(envelope.sender) != nonce_of_envelope(envelope):
            return 0.0
        left_s = min(ends_at - self._clock(), self._block_time_s)
        if left_s > self._needs_s:
            return max(left_s, self._limits.tx_time_s)
        self._put_off.add(envelope.hash)
        if left_s >= WHOLE_SHARE * self._block_time_s:
            extension.cut.append(Cut(envelope.hash, self._needs_s, had_block=True, ran_out=False))
        return 0.0

    def _is_wanted(self, envelope: TxEnvelope) -> bool:
        if envelope.tx.gas_limit >= LONG_GAS and self._lost_s >= LOST_SHARE * self._block_time_s:
            return False
        return envelope.hash not in self._put_off

    def _opened_at(self, envelope: TxEnvelope, index: int, budget: Budget) -> int:
        """The flashblock whose share of the limits counts for a transaction in flashblock `index`."""
        return budget.flashblocks if budget.opens_too_late(envelope.tx.gas_limit, self._interval_s) else index

    def _tried(
        self,
        envelope: TxEnvelope,
        index: int,
        extension: BlockExtension,
        allowed_s: float,
        *,
        is_first: bool = False,
    ) -> tuple[bool, bool]:
        """Whether a transaction is in the block now, and whether a flashblock was published meanwhile."""
        if envelope.tx.gas_limit >= LONG_GAS:
            self._ahead = self._seal(index)
        is_executed = self._executes(envelope, extension, allowed_s, is_first=is_first)
        return is_executed, self._is_taken(envelope, is_executed=is_executed)

    def _is_taken(self, envelope: TxEnvelope, *, is_executed: bool) -> bool:
        """Whether a flashblock was published while the transaction ran, which then begins the next one."""
        with self._lock:
            is_taken, self._is_out, self._ahead = self._is_out, False, None
            if is_taken:
                self._added = []
            if is_executed:
                self._added.append(envelope)
        return is_taken

    def _admits(self, envelope: TxEnvelope, index: int, budget: Budget, extension: BlockExtension) -> bool:
        tx = envelope.tx
        if isinstance(tx, DepositTx):
            return False
        cost = TxCost(tx.gas_limit, envelope.da_size, len(envelope.raw))
        refusal = budget.refusal(index, self._build.usage, cost)
        if refusal is not None:
            extension.refusals.append(refusal)
            if (
                refusal is Refusal.GAS
                and len(extension.crowded) < MAX_CROWDED
                and budget.is_larger_than_a_step(cost.gas_limit)
            ):
                extension.crowded.append(envelope.hash)
        return refusal is None

    def _executes(
        self, envelope: TxEnvelope, extension: BlockExtension, allowed_s: float, *, is_first: bool
    ) -> bool:
        self._running = deadline = WorkDeadline(allowed_s)
        if self._stopped:
            return False
        try:
            self._build.execute(envelope, deadline)
        except TransactionRejected as error:
            _LOG.debug("0x%s is not executable now: %s", envelope.hash.hex(), error)
            if error.reason not in _REASONS_OF_THE_BLOCK:
                extension.set_aside.append(envelope.hash)
            return False
        except ExecutionTimeout:
            spent_s = deadline.spent_s()
            self._lost_s += spent_s
            self._put_off.add(envelope.hash)
            is_whole = is_first and allowed_s >= WHOLE_SHARE * self._block_time_s
            ran_out = spent_s >= allowed_s
            extension.cut.append(Cut(envelope.hash, spent_s, had_block=is_whole, ran_out=ran_out))
            return False
        except Exception as error:
            if not self._build.is_whole:
                raise
            defects.caught("builder.transaction", error, "0x" + envelope.hash.hex())
            extension.dropped.append(envelope.hash)
            return False
        finally:
            self._running = None
        return True

    def _seal(self, index: int) -> BuiltFlashblock:
        """Everything so far; cheap if nothing was executed since the last time."""
        sealed = self._build.seal()
        # A dictionary per flashblock, since one may be published after the next is sealed.
        self._changed = {**self._changed, **sealed.diff.accounts}
        return BuiltFlashblock(
            self._payload_id, index, sealed, tuple(self._added), self._changed, self._publishes
        )

    def written(self, made: BuiltFlashblock) -> BuiltFlashblock:
        """A flashblock with its message; any thread may write one."""
        return replace(made, message=self._write(made)) if self._publishes else made
