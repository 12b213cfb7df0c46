"""One payload job: from the consensus client's request to build, flashblock by flashblock, to getPayload.

    run      index 0 (the forced transactions), with which a payload exists; then, up to each time of the
             schedule, the mempool's best within the budget; a seal, and at that time a flashblock
    opened   waits for index 0
    filled   waits briefly until a late block contains transactions of the mempool
    resolve  getPayload: the newest seal; building ends

The CPU work (`BlockWork`) runs in a thread; the event loop keeps the schedule, ends the job and publishes. A
flashblock is published in the same step in which its seal becomes the answer of getPayload, so that a payload
never holds less than was published; the same step checks whether the job has ended, so that nothing follows
the index 0 of the job that replaced it.

A forced transaction that cannot be executed fails the job: a block without it would not match the attributes.
Any other failure ends building; what is sealed by then can be fetched.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Final, TypeVar, TypeVarTuple

from flashctl.builder.mempool.admission import Mempool
from flashctl.builder.payload.block_work import (
    LEAST_FILL_S,
    BlockExtension,
    BlockWork,
    BuiltFlashblock,
    ForcedTransactionFailed,
    JobLimits,
    JobRequest,
    JobRuntime,
    JobTerms,
)
from flashctl.builder.payload.budget import Budget, Refusal
from flashctl.builder.payload.late_transactions import NONE_LATE
from flashctl.core.hub import Prepared
from flashctl.core.service import defects
from flashctl.errors import FlashctlError
from flashctl.op.execution import SealedBlock

__all__ = [
    "BuiltFlashblock",
    "Fate",
    "ForcedTransactionFailed",
    "JobFailed",
    "JobLimits",
    "JobObserver",
    "JobOutcome",
    "PayloadJob",
]

_LOG = logging.getLogger(__name__)

FILL_AHEAD_S: Final = 0.25
FILL_EVERY_S: Final = 0.05
"""A flashblock is filled during the interval before it is due, so that it is sealed and published on time;
transactions that arrive meanwhile are executed in a few passes. Where flashblocks are further apart, filling
begins so long before."""

PATIENCE_S: Final = 0.01
"""Between checks for a long transaction, which a flashblock does not wait for."""

LATE_FILL_S: Final = 0.12
"""How long a block is filled whose timestamp has passed at the request: 1,500 transfers."""

LATE_WAIT_S: Final = 0.25
"""The longest that getPayload waits for this, seal included."""

Given = TypeVarTuple("Given")
Result = TypeVar("Result")


class JobOutcome(Enum):
    """Why a job stopped building; the value is the metric's label."""

    RESOLVED = "resolved"
    """getPayload came."""
    REPLACED = "new_fcu"
    """The consensus client requested another payload."""
    COMPLETE = "complete"
    """Every flashblock of the schedule is published."""
    FAILED = "error"


class Fate(Enum):
    """The outcome of a transaction cut while it ran; the value is the metric's label."""

    PUT_OFF = "put_off"
    """A later block tries again."""
    GIVEN_UP = "given_up"
    """No block has enough time."""


class JobFailed(FlashctlError):
    """A payload could not be opened because of a defect."""

    def __init__(self) -> None:
        super().__init__("the payload could not be built: internal error")


class JobObserver:
    """A job's callbacks; every method may be overridden. All but `message` are called on the event loop."""

    def message(self, made: BuiltFlashblock) -> Prepared | None:
        """The encoded message of a flashblock, made in the building thread; None leaves it to `made`."""
        return None

    def made(self, made: BuiltFlashblock) -> None:
        """A flashblock is sealed and may be published."""

    def refused(self, refusal: Refusal) -> None:
        """A transaction did not fit."""

    def full(self, refusal: Refusal, number: int) -> None:
        """The last flashblock of a block left out transactions; once for each limit that it stopped at."""

    def late(self, fate: Fate) -> None:
        """A transaction was cut in this block."""

    def ended(self, ending: JobOutcome, flashblocks: int, planned: int) -> None:
        """Building is over."""


@dataclass(frozen=True, slots=True)
class _Filling:
    """The source and the deadlines of one flashblock."""

    index: int
    budget: Budget
    after: float
    """When the flashblock before it was due, on the clock, seconds."""
    at: float
    """When it is due."""
    until: float
    """When it is sealed at the latest: later than due in a block that is late as a whole."""
    ends_at: float
    """When the block's last one is due."""
    passed: dict[bytes, int]
    """See `Mempool.best`."""


class PayloadJob:
    """One block under construction for one payload id. Lives on the event loop."""

    def __init__(
        self,
        request: JobRequest,
        terms: JobTerms,
        queue: Mempool,
        observer: JobObserver,
        runtime: JobRuntime,
    ) -> None:
        """Nothing is executed yet."""
        build, attributes = request.build, request.attributes
        self.payload_id = request.payload_id
        self.attributes = attributes
        self.number: Final = build.number
        self._build = build
        self._queue = queue
        self._schedule = terms.schedule
        self._observer = observer
        self._clock = runtime.clock
        self._executor = runtime.executor
        plan = NONE_LATE if attributes.no_tx_pool else queue.late_plan(build.number)
        self._work = BlockWork(request, terms, runtime, plan, observer.message)
        self._sealed: SealedBlock | None = None
        self._failure: FlashctlError | None = None
        self._extension: asyncio.Future[BlockExtension] | None = None
        """The work in the thread, which may have begun for a flashblock already published."""
        self._opened = asyncio.Event()
        self._filled = asyncio.Event()
        """Set once there is more than index 0, or never will be."""
        self._ended = asyncio.Event()
        self._index = 0
        self._planned = 0
        self._full: set[Refusal] = set()
        """Limits that the block stopped at."""

    @property
    def sealed(self) -> SealedBlock | None:
        """The block as of the last flashblock; None until index 0 is executed."""
        return self._sealed

    async def opened(self) -> SealedBlock:
        """Wait until there is a payload; any number of callers may.

        Raises:
            ForcedTransactionFailed: If a forced transaction is malformed or cannot be executed.
            JobFailed: On any other failure.
        """
        await self._opened.wait()
        if self._sealed is None:
            raise self._failure or JobFailed()
        return self._sealed

    async def filled(self) -> None:
        """Wait for flashblock 1 of a block whose timestamp has passed, for LATE_WAIT_S at most.

        A consensus client that catches up calls getPayload right after forkchoiceUpdated, and its blocks
        would contain no user transactions for as long as it is behind.
        """
        if not self.attributes.no_tx_pool and self._clock() >= self.attributes.timestamp:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._filled.wait(), LATE_WAIT_S)

    async def run(self) -> None:
        """Build until the schedule or the job ends. A failure costs this job only."""
        try:
            made = await self._in_thread(self._work.force)
            self._publish(made)
            self._opened.set()
            await self._build_flashblocks()
        except FlashctlError as error:
            self._failure = error
            if self._sealed is not None:
                # A failed opening is raised to the callers of `opened`.
                _LOG.error("payload job failed: %s", error, extra={"payload_id": self._shown_id})
            self._end(JobOutcome.FAILED)
        except Exception as error:
            defects.caught("builder.payload", error, self._shown_id)
            self._end(JobOutcome.FAILED)
        finally:
            self._work.abandon()
            self._opened.set()
            self._filled.set()
            if self._extension is not None:
                # It ends at its next check of the clock; its result concerns the next block.
                self._extension.add_done_callback(self._settle_last)

    async def _build_flashblocks(self) -> None:
        """The flashblocks after index 0."""
        if self.attributes.no_tx_pool:
            self._end(JobOutcome.COMPLETE)
            return
        start = self._clock()
        times = self._schedule.times(round((self.attributes.timestamp - start) * 1000))
        self._planned = len(times)
        until = 0.0 if self.attributes.timestamp > start else start + LATE_FILL_S
        budget = self._work.budget(len(times))
        ends_at = start + times[-1] / 1000
        passed: dict[bytes, int] = {}
        after = start
        for index, at_ms in enumerate(times, 1):
            at = start + at_ms / 1000
            filling = _Filling(index, budget, after, at, max(at, until), ends_at, passed)
            made = await self._flashblock(filling)
            if made is None or await self._ends_before(at):
                return
            self._publish(made)
            after = at
        self._end(JobOutcome.COMPLETE)

    async def _flashblock(self, filling: _Filling) -> BuiltFlashblock | None:
        """One flashblock, sealed before its time; None if the job ended."""
        moment = max(filling.after, filling.at - FILL_AHEAD_S)
        while moment < filling.at - self._work.seal_s():
            if await self._ends_before(moment):
                return None
            made, has_refused = await self._pass(filling, seals=False)
            if made is not None:
                return made
            if has_refused:
                break  # it is full: later arrivals are tried once more when it is due
            moment += FILL_EVERY_S
        if await self._ends_before(filling.at - self._work.seal_s() - LEAST_FILL_S):
            return None
        made, _ = await self._pass(filling, seals=True)
        return made

    async def _pass(self, filling: _Filling, *, seals: bool) -> tuple[BuiltFlashblock | None, bool]:
        """Execute the mempool's current best; returns the flashblock, if sealed, and whether a transaction
        did not fit.

        A long transaction does not delay a flashblock: the state before it is published, and the transaction
        becomes part of the flashblock that is due when it has ended.
        """
        is_waiting_for_other = self._extension is not None
        look_at = filling.at
        while not self._ended.is_set():
            running = self._extension
            if running is None:
                is_waiting_for_other = False
                offers = self._queue.best(self._build.base_fee, self._build.nonce_of, filling.passed)
                work = self._in_thread(
                    partial(self._work.extend, seals=seals),
                    filling.index, offers, filling.budget, filling.until, filling.ends_at,
                )  # fmt: skip
                running = self._extension = asyncio.ensure_future(work)
            await asyncio.wait({running}, timeout=max(0.0, look_at - self._clock()))
            if running.done():
                self._extension = None
                extension = running.result()
                self._settle(extension)
                if extension.made is not None or not (seals or is_waiting_for_other):
                    return extension.made, bool(extension.refusals)
            elif (made := self._work.take(filling.index)) is not None:
                return await self._in_thread(self._work.written, made), False
            look_at = self._clock() + PATIENCE_S
        return None, False

    def resolve(self) -> SealedBlock | None:
        """End the job with the newest seal: getPayload's answer. None, without an end, before index 0."""
        if self._sealed is not None:
            self._end(JobOutcome.RESOLVED)
        return self._sealed

    def replace(self) -> None:
        """End the job because another one takes its place; it can still be resolved."""
        self._end(JobOutcome.REPLACED)

    def abandon(self) -> None:
        """Stop at once: the process ends."""
        self._ended.set()
        self._work.abandon()

    async def _in_thread(self, work: Callable[[*Given], Result], *args: *Given) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._executor, work, *args)

    async def _ends_before(self, moment: float) -> bool:
        """Wait for a moment on the clock; True if the job ended instead."""
        delay = moment - self._clock()
        if delay > 0 and not self._ended.is_set():
            try:
                await asyncio.wait_for(self._ended.wait(), delay)
            except TimeoutError:
                pass
        return self._ended.is_set()

    def _settle(self, extension: BlockExtension) -> None:
        """Apply the thread's results to mempool and observer."""
        for tx_hash in extension.dropped:
            self._queue.pool.remove(tx_hash)
        for tx_hash in extension.set_aside:
            self._queue.pool.set_aside(tx_hash)
        for cut in extension.cut:
            is_given_up = self._queue.cut(cut, self.number)
            self._observer.late(Fate.GIVEN_UP if is_given_up else Fate.PUT_OFF)
        for tx_hash in extension.crowded:
            self._queue.late.crowded(tx_hash, self.number)
        for refusal in extension.refusals:
            self._observer.refused(refusal)
        if self._planned and extension.index >= self._planned:
            # The whole block is open to its last flashblock: what does not fit now is left to the next block.
            for refusal in sorted({*extension.refusals} - self._full, key=lambda refusal: refusal.value):
                self._full.add(refusal)
                self._observer.full(refusal, self.number)

    def _settle_last(self, running: asyncio.Future[BlockExtension]) -> None:
        """Apply the results of work still running when the job ended."""
        if running.cancelled():
            return
        error = running.exception()
        if error is None:
            self._settle(running.result())
        elif isinstance(error, Exception) and not isinstance(error, FlashctlError):
            defects.caught("builder.payload", error, self._shown_id)

    def _publish(self, made: BuiltFlashblock) -> None:
        """Make a seal the answer of getPayload and, unless the job has ended, publish its flashblock.

        Index 0 counts even then: the callers of `opened` get their payload.
        """
        self._sealed = made.sealed
        self._index = made.index
        if made.index > 0:
            self._filled.set()
        for envelope in made.added:
            self._queue.late.settled(envelope.hash)
        if not self._ended.is_set():
            self._observer.made(made)

    def _end(self, ending: JobOutcome) -> None:
        if self._ended.is_set():
            return
        self._ended.set()
        self._filled.set()
        self._work.stop()
        try:
            self._observer.ended(ending, self._index, self._planned)
        except Exception as error:
            # A failing observer must not fail the caller that ends the job (getPayload, another request).
            defects.caught("builder.observer", error, self._shown_id)

    @property
    def _shown_id(self) -> str:
        return "0x" + self.payload_id.hex()
