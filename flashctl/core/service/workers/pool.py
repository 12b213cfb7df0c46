"""A few worker processes and the line in front of them.

    pool = WorkerPool("flashctl.ethrpc.call_worker:make", 2)
    answer = await pool.run(job)
    await pool.close()

A process is started when there is a job that no other can take, so a service that is asked nothing has none;
the one for the fast lane alone with the first, to be there when slow jobs come.
One that dies takes the job that it ran with it, and nothing else; the next is started after a pause that
doubles while they keep dying.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Hashable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol, TypeAlias

from flashctl.core.jsonrpc.caller import caller
from flashctl.core.jsonrpc.errors import ErrorCode, RpcError, rpc_error_for
from flashctl.core.service import defects
from flashctl.core.service.workers.figures import PoolFigures
from flashctl.core.service.workers.frames import (
    Answer,
    Asked,
    Begin,
    Broke,
    Done,
    FromWorker,
    Lacks,
    Ready,
    Rejected,
    TookLong,
)
from flashctl.core.service.workers.process import WorkerLimits, WorkerProcess, spawn_worker
from flashctl.core.service.workers.schedule import (
    DEFAULT_QUEUE,
    JobLane,
    JobSchedule,
    JobTicket,
    QueueFull,
    QueueLimits,
)

__all__ = ["Job", "JobBroke", "WorkerPool", "waited_too_long"]

_LOG = logging.getLogger(__name__)

TICK_S: Final = 0.05
"""Between checks for jobs that have waited or run too long, while there are jobs."""

ANSWER_SHARE: Final = 0.3
"""Of the event loop's time, for the questions of all workers together. A call that walks cold storage asks
20,000 times; it waits for its answers, not the loop for it."""

ANSWER_BURST_S: Final = 0.01
"""Of answering that a worker may ask for at once: some two hundred questions."""

ANSWER_OVERHEAD_S: Final = 40e-6
"""Of a question beside what answering takes: two passes of the loop."""

FIRST_PAUSE_S: Final = 0.1
LAST_PAUSE_S: Final = 5.0
"""Before a worker is started in place of one that died: doubling, from the first again after an answer."""


LOAD_EVERY_S: Final = 5.0
"""Between two starts of a worker at the service's own priority, in which it loads half a second. One that is
started sooner loads at low priority, or a caller that makes workers die could take that much processor."""


class Job(Protocol):
    """What a pool runs."""

    @property
    def seconds(self) -> float:
        """Its time from submission to answer."""

    @property
    def likeness(self) -> Hashable:
        """Equal for jobs that will probably take as long."""

    @property
    def arguments(self) -> Any:
        """For the worker's function; anything that can be pickled."""

    def answer(self, question: Any) -> Any:
        """What the worker asks; quickly, for this is on the event loop.

        Raises:
            FlashctlError: If there is no answer.
        """

    async def obtain(self, what: Any) -> None:
        """Fetch what a run ended for lack of; the job is run again after.

        Raises:
            FlashctlError: If it cannot be had.
        """


class JobBroke(Exception):
    """A job failed in its worker with an unexpected exception; the text is the worker's traceback."""


_Ticket: TypeAlias = "JobTicket[_Submitted]"


@dataclass(slots=True, eq=False)
class _Submitted:
    """A job and the future of its caller."""

    job: Job
    result: asyncio.Future[Any]
    has_run: bool = False
    obtaining: asyncio.Task[None] | None = None


@dataclass(slots=True, eq=False)
class _Slot:
    """The place of one worker."""

    number: int
    process: WorkerProcess | None = None
    is_starting: bool = False
    ticket: _Ticket | None = None
    """What it runs."""
    is_leaving: bool = False
    loaded_at: float = -math.inf
    """When it last loaded at the service's priority."""
    failures: int = 0
    """Deaths since the last job that came to an end."""
    not_before: float = 0.0
    """When it may be started again."""
    credit_s: float = ANSWER_BURST_S
    """Of the loop's time for its questions."""
    credited: float = 0.0
    """When that was reckoned."""

    @property
    def is_idle(self) -> bool:
        return (
            self.process is not None and self.process.is_ready and self.ticket is None and not self.is_leaving
        )


class WorkerPool:
    """See the module docstring. Belongs to one event loop."""

    def __init__(
        self,
        entry: str,
        count: int,
        *,
        queue: QueueLimits = DEFAULT_QUEUE,
        limits: WorkerLimits | None = None,
        figures: PoolFigures | None = None,
    ) -> None:
        """Nothing is started yet.

        Args:
            entry: `module:factory` of the function that runs jobs in a worker.
            count: Processes at most. From two on, one of them never runs slow jobs.
        """
        self._entry = entry
        self._limits = limits or WorkerLimits()
        self._schedule: JobSchedule[_Submitted] = JobSchedule(count, queue)
        self._slots = [_Slot(number) for number in range(count)]
        self._answer_rate = ANSWER_SHARE / count
        self._figures = figures
        self._tasks: set[asyncio.Task[Any]] = set()
        self._ticking: asyncio.Task[None] | None = None
        self._is_closed = False
        if figures is not None:
            figures.watch(self)

    @property
    def pids(self) -> list[int]:
        """The processes that run."""
        return [slot.process.pid for slot in self._slots if slot.process is not None]

    @property
    def running(self) -> int:
        """How many processes run."""
        return len(self.pids)

    @property
    def resident_bytes(self) -> int:
        """Memory of all of them."""
        return sum(slot.process.resident_bytes for slot in self._slots if slot.process is not None)

    def waiting(self, lane: JobLane) -> int:
        """Jobs in line in a lane."""
        return self._schedule.waiting(lane)

    @property
    def waiting_in_all(self) -> int:
        """Jobs in line in both."""
        return sum(map(self._schedule.waiting, JobLane))

    async def run(self, job: Job) -> Any:
        """The result of a job.

        Raises:
            RpcError: If it fails, waits or runs too long, there are too many, or its worker dies. JobBroke:
            If it fails with an unexpected exception.
        """
        if self._is_closed:
            raise RpcError(ErrorCode.RESOURCE_UNAVAILABLE, "shutting down")
        now = time.monotonic()
        submitted = _Submitted(job, asyncio.get_running_loop().create_future())
        ticket: _Ticket = JobTicket(submitted, caller.get(), job.likeness, now, now + job.seconds)
        try:
            self._schedule.submit(ticket)
        except QueueFull as error:
            self._count("full")
            raise RpcError(ErrorCode.LIMIT_EXCEEDED, str(error)) from None
        self._feed()
        if self._ticking is None:
            self._ticking = self._spawn(self._tick())
        try:
            return await submitted.result
        finally:
            self._end_ticket(ticket)

    async def close(self) -> None:
        """Refuse what waits and end all processes."""
        self._is_closed = True
        for ticket in self._schedule.tickets():
            self._fail(ticket, RpcError(ErrorCode.RESOURCE_UNAVAILABLE, "shutting down"), "refused")
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        processes = [slot.process for slot in self._slots if slot.process is not None]
        for slot in self._slots:
            if slot.process is not None and slot.ticket is not None:
                slot.process.kill()
            slot.process = None
        for process in processes:
            process.close()
        await asyncio.gather(*(process.wait() for process in processes))

    # --- giving out work ---

    def _feed(self) -> None:
        """Give every idle worker its next job, and start workers for jobs that none can take."""
        if not self._schedule.is_waiting:
            return
        now = time.monotonic()
        for slot in self._slots:
            if slot.is_idle:
                ticket = self._schedule.next_for(slot.number, now)
                if ticket is not None:
                    self._begin(slot, ticket, now)
        for slot in self._slots:
            starting = sum(other.is_starting for other in self._slots)
            if self._schedule.waiting_for(slot.number) > starting:
                self._start_if_down(slot)

    def _begin(self, slot: _Slot, ticket: _Ticket, now: float) -> None:
        assert slot.process is not None
        submitted = ticket.job
        slot.ticket = ticket
        if not submitted.has_run:
            submitted.has_run = True
            if self._figures is not None:
                self._figures.began(ticket.lane, now - ticket.submitted)
        job = submitted.job
        left = max(0.0, ticket.deadline - now)
        try:
            slot.process.send(Begin(job.arguments, job.seconds, left, self._schedule.slice_of(ticket)))
        except Exception as error:  # what cannot be pickled
            defects.caught("workers.job", error)
            slot.ticket = None
            self._fail(ticket, error, "broke")

    def _start_if_down(self, slot: _Slot) -> None:
        """Start a worker that is not there, if the pause after its last death is over."""
        is_down = slot.process is None and not slot.is_starting and not self._is_closed
        if is_down and slot.not_before <= time.monotonic():
            slot.is_starting = True
            self._spawn(self._start(slot))

    async def _start(self, slot: _Slot) -> None:
        now = time.monotonic()
        slot.credit_s, slot.credited = ANSWER_BURST_S, now
        may_load_first = now - slot.loaded_at >= LOAD_EVERY_S
        try:
            slot.process = spawn_worker(
                self._entry,
                self._limits,
                partial(self._hear, slot),
                partial(self._ended, slot),
                load_first=may_load_first,
            )
            if may_load_first:
                slot.loaded_at = now
        except OSError as error:
            _LOG.warning("cannot start a worker process: %s", error.strerror)
            self._pause(slot)
            slot.is_starting = False
            return
        await slot.process.connect()

    def _pause(self, slot: _Slot) -> None:
        pause_s = min(LAST_PAUSE_S, FIRST_PAUSE_S * 2**slot.failures)
        slot.failures = min(slot.failures + 1, 16)
        slot.not_before = time.monotonic() + pause_s

    # --- messages of workers ---

    def _hear(self, slot: _Slot, process: WorkerProcess, message: FromWorker) -> None:
        match message:
            case Ready():
                process.is_ready, slot.is_starting = True, False
                self._start_if_down(self._slots[-1])
                self._feed()
            case Asked(question):
                self._answer(slot, question)
            case Broke(text) if slot.ticket is None:
                defects.caught("workers.start", JobBroke(text))
            case _:
                self._outcome(slot, message)

    def _answer(self, slot: _Slot, question: Any) -> None:
        ticket = slot.ticket
        if ticket is None:
            return
        started = time.thread_time()  # by the clock it would count what other threads and processes take
        reply: Answer | Rejected
        try:
            reply = Answer(ticket.job.job.answer(question))
        except Exception as error:
            known = rpc_error_for(error)
            if known is None:
                defects.caught("workers.answer", error)
                known = RpcError(ErrorCode.INTERNAL_ERROR, "internal error")
            reply = Rejected(known.code, known.message, known.data)
        spent = time.thread_time() - started + ANSWER_OVERHEAD_S
        debt = self._charge(slot, spent)
        if debt > 0:
            asyncio.get_running_loop().call_later(debt, self._send_answer, slot, slot.process, reply)
        else:
            self._send_answer(slot, slot.process, reply)

    def _charge(self, slot: _Slot, spent_s: float) -> float:
        """Take from a worker's share of the loop; how long its answer has to wait for it."""
        now = time.monotonic()
        slot.credit_s = min(ANSWER_BURST_S, slot.credit_s + (now - slot.credited) * self._answer_rate)
        slot.credit_s -= spent_s
        slot.credited = now
        return -slot.credit_s / self._answer_rate

    @staticmethod
    def _send_answer(slot: _Slot, process: WorkerProcess | None, reply: Answer | Rejected) -> None:
        if process is not None and slot.process is process:
            process.send(reply)

    def _outcome(self, slot: _Slot, message: Done | TookLong | Lacks | Rejected | Broke) -> None:
        ticket, slot.ticket = slot.ticket, None
        slot.failures = 0
        slot.is_leaving = message.leaves
        if ticket is not None:
            now = time.monotonic()
            if self._figures is not None:
                self._figures.ran(ticket.lane, now - ticket.begun)
            self._settle(ticket, message, now)
        self._feed()

    def _settle(
        self, ticket: _Ticket, message: Done | TookLong | Lacks | Rejected | Broke, now: float
    ) -> None:
        submitted = ticket.job
        if submitted.result.done():  # its caller has gone
            self._schedule.finish(ticket, now)
            return
        match message:
            case Done(value):
                self._count("answered")
                self._schedule.finish(ticket, now)
                submitted.result.set_result(value)
            case TookLong():
                self._schedule.went_over(ticket)
            case Lacks(what):
                self._schedule.needs(ticket)
                submitted.obtaining = self._spawn(self._obtain(ticket, what))
            case Rejected(code, text, data):
                self._fail(ticket, RpcError(code, text, data), "refused")
            case Broke(text):
                self._fail(ticket, JobBroke(text), "broke")

    async def _obtain(self, ticket: _Ticket, what: Any) -> None:
        try:
            await ticket.job.job.obtain(what)
        except Exception as error:
            self._fail(ticket, error, "refused")
            return
        self._schedule.obtained(ticket)
        self._feed()

    # --- ends ---

    def _ended(self, slot: _Slot, process: WorkerProcess) -> None:
        """The socket to a process is closed."""
        if self._is_closed:
            return
        self._spawn(self._bury(process, is_expected=slot.is_leaving))
        ticket, slot.ticket, slot.process, slot.is_starting = slot.ticket, None, None, False
        if slot.is_leaving:
            slot.is_leaving = False
            if self._figures is not None:
                self._figures.replaced()
        else:
            self._pause(slot)
            if self._figures is not None:
                self._figures.died()
        if ticket is not None:
            text = (
                "the process that ran this call ended before it was done; its other calls are not concerned"
            )
            self._fail(ticket, RpcError(ErrorCode.RESOURCE_UNAVAILABLE, text), "died")
        self._feed()

    async def _bury(self, process: WorkerProcess, *, is_expected: bool) -> None:
        code = await process.wait()
        if not is_expected:
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            _LOG.warning("a worker process ended: %s", how, extra={"pid": process.pid})

    async def _tick(self) -> None:
        """Give up what waits too long, kill what runs too long, start what may be started again."""
        try:
            while self._schedule.live:
                await asyncio.sleep(TICK_S)
                self._look_at_times(time.monotonic())
        except Exception as error:
            defects.caught("workers.tick", error)
        finally:
            self._ticking = None

    def _look_at_times(self, now: float) -> None:
        for ticket in self._schedule.expired(now):
            self._fail(ticket, waited_too_long(ticket.job.job.seconds), "expired")
        for ticket in self._schedule.overdue(now):
            slot = self._slots[ticket.worker]
            text = f"execution aborted (timeout = {ticket.job.job.seconds:g}s)"
            self._fail(ticket, RpcError(ErrorCode.SERVER_ERROR, text), "killed")
            if slot.process is not None and slot.ticket is ticket:
                slot.process.kill()
        self._feed()

    def _fail(self, ticket: _Ticket, error: Exception, outcome: str) -> None:
        if not ticket.job.result.done():
            self._count(outcome)
            ticket.job.result.set_exception(error)
        self._end_ticket(ticket)

    def _end_ticket(self, ticket: _Ticket) -> None:
        """Its caller has gone. A run under way goes on to its deadline; its answer is dropped."""
        obtaining = ticket.job.obtaining
        if obtaining is not None and obtaining is not asyncio.current_task():
            obtaining.cancel()
        if not any(slot.ticket is ticket for slot in self._slots):
            self._schedule.finish(ticket, time.monotonic())

    def _spawn(self, work: Any) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _count(self, outcome: str) -> None:
        if self._figures is not None:
            self._figures.over(outcome)


def waited_too_long(seconds: float) -> RpcError:
    """Why a job was given up before it ran to its end."""
    return RpcError(
        ErrorCode.LIMIT_EXCEEDED, f"too many calls in line: no turn within the time-out of {seconds:g}s"
    )
