"""Which job runs next on which worker. Sans-I/O: events and times in, decisions out.

Two lanes. Every job begins in the fast one, with a slice of time; what does not end within it is begun anew
in the slow lane, with all the time it has left. The cost of a call is not known in advance, so a short trial
sorts them; a call like one of the same client that went over its slice lately goes straight to the slow lane.
Of two workers and more, the last takes jobs of the fast lane only: slow ones never hold all.

A job's time runs from its submission. One that still waits when it is over is given up, and one that runs on
`GRACE_S` longer is no longer under its own control: its worker is to be killed.
"""

from __future__ import annotations

import enum
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Final, Generic, Literal, TypeVar

from flashctl.core.jsonrpc.address_quota import AddressQuota
from flashctl.core.jsonrpc.caller import Caller
from flashctl.core.jsonrpc.fair_queue import FairQueue
from flashctl.errors import Failed
from flashctl.lru import Lru

__all__ = [
    "DEFAULT_QUEUE",
    "GRACE_S",
    "JobLane",
    "JobSchedule",
    "JobState",
    "JobTicket",
    "QueueFull",
    "QueueLimits",
]

_T = TypeVar("_T")

GRACE_S: Final = 1.0
"""Between a running job's deadline, which it keeps itself, and the end of its worker."""

REMEMBERED_SLOW: Final = 4096
"""Kinds of job that went over their slice; each is a small key."""


class QueueFull(Failed):
    """Too many jobs wait already, of this client or of all."""


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """What may wait, and how long a job may try in the fast lane."""

    per_address: int = 1024
    """Jobs of one address under way: a batch at the server's limit fits."""

    in_all: int = 4096
    slice_s: float = 0.025
    """Of work in the fast lane: a hundred ordinary calls, or what 16 of them wait for one heavy trial."""


DEFAULT_QUEUE: Final = QueueLimits()


class JobLane(enum.Enum):
    """Where a job waits and runs."""

    FAST = "fast"
    SLOW = "slow"


class JobState(enum.Enum):
    """What a ticket is doing."""

    WAITING = enum.auto()
    RUNNING = enum.auto()
    AWAY = enum.auto()
    """Something that it needs is being obtained elsewhere; it holds no worker."""
    OVER = enum.auto()


@dataclass(slots=True, eq=False)
class JobTicket(Generic[_T]):
    """A job in the schedule."""

    job: _T
    client: Caller
    likeness: Hashable
    """Equal for jobs of a client that will probably cost the same."""
    submitted: float
    deadline: float
    lane: JobLane = JobLane.FAST
    state: JobState = JobState.WAITING
    worker: int = -1
    """That runs it."""
    begun: float = 0.0
    """When this run began."""


class JobSchedule(Generic[_T]):
    """See the module docstring. Times are seconds of one monotonic clock."""

    def __init__(self, workers: int, limits: QueueLimits = DEFAULT_QUEUE) -> None:
        self._orders = [_order(worker, workers) for worker in range(workers)]
        self._limits = limits
        self._lanes: dict[JobLane, FairQueue[JobTicket[_T]]] = {lane: FairQueue() for lane in JobLane}
        self._live: dict[JobTicket[_T], None] = {}
        self._quota: Final = AddressQuota(limits.in_all, limits.per_address)
        """Of live jobs."""
        self._slow = Lru[tuple[str, Hashable], Literal[True]](REMEMBERED_SLOW)

    @property
    def live(self) -> int:
        """Jobs submitted and not over."""
        return len(self._live)

    def tickets(self) -> list[JobTicket[_T]]:
        """All of them."""
        return list(self._live)

    def waiting(self, lane: JobLane) -> int:
        """Jobs that wait in a lane."""
        return len(self._lanes[lane])

    @property
    def is_waiting(self) -> bool:
        """Whether any job waits."""
        return bool(self._lanes[JobLane.FAST] or self._lanes[JobLane.SLOW])

    def waiting_for(self, worker: int) -> int:
        """Jobs that wait and that this worker may run."""
        return sum(len(self._lanes[lane]) for lane in self._orders[worker])

    def slice_of(self, ticket: JobTicket[_T]) -> float | None:
        """The time of a run before it is a slow one; None for all the job has left."""
        return self._limits.slice_s if ticket.lane is JobLane.FAST else None

    def submit(self, ticket: JobTicket[_T]) -> None:
        """Take in a new job.

        Raises:
            QueueFull: If its client or all of them have as many under way as they may.
        """
        if not self._quota.take(ticket.client.address):
            raise QueueFull("too many calls in line, try again later")
        self._live[ticket] = None
        if self._likeness(ticket) in self._slow:
            ticket.lane = JobLane.SLOW
        self._lanes[ticket.lane].push(ticket, ticket.client)

    def next_for(self, worker: int, now: float) -> JobTicket[_T] | None:
        """The job that an idle worker is to begin; None if there is none for it."""
        for lane in self._orders[worker]:
            ticket = self._lanes[lane].pop()
            if ticket is not None:
                ticket.state, ticket.worker, ticket.begun = JobState.RUNNING, worker, now
                return ticket
        return None

    def went_over(self, ticket: JobTicket[_T]) -> None:
        """A run used its slice up: it is begun anew in the slow lane, before the client's later ones."""
        key = self._likeness(ticket)
        self._slow.put(key, True)
        ticket.lane = JobLane.SLOW
        self._put_back(ticket)

    def needs(self, ticket: JobTicket[_T]) -> None:
        """A run ended because it lacks something that takes time to obtain."""
        ticket.state, ticket.worker = JobState.AWAY, -1

    def obtained(self, ticket: JobTicket[_T]) -> None:
        """What it needed is there."""
        if ticket.state is JobState.AWAY:
            self._put_back(ticket)

    def finish(self, ticket: JobTicket[_T], now: float) -> None:
        """A job is over: answered, failed, expired, or abandoned by its caller."""
        if ticket.state is JobState.OVER:
            return
        if ticket.state is JobState.WAITING:
            self._lanes[ticket.lane].remove(ticket, ticket.client)
        elif ticket.state is JobState.RUNNING and now - ticket.begun < self._limits.slice_s:
            self._slow.pop(self._likeness(ticket))
        ticket.state = JobState.OVER
        del self._live[ticket]
        self._quota.give_back(ticket.client.address)

    def expired(self, now: float) -> list[JobTicket[_T]]:
        """Jobs whose time is over and that no worker has; `finish` them."""
        return [
            ticket for ticket in self._live if ticket.deadline <= now and ticket.state is not JobState.RUNNING
        ]

    def overdue(self, now: float) -> list[JobTicket[_T]]:
        """Jobs that run on although their time is over; kill their workers."""
        return [
            ticket
            for ticket in self._live
            if ticket.deadline + GRACE_S <= now and ticket.state is JobState.RUNNING
        ]

    def _put_back(self, ticket: JobTicket[_T]) -> None:
        ticket.state, ticket.worker = JobState.WAITING, -1
        self._lanes[ticket.lane].push(ticket, ticket.client, front=True)

    def _likeness(self, ticket: JobTicket[_T]) -> tuple[str, Hashable]:
        return ticket.client.address, ticket.likeness


def _order(worker: int, workers: int) -> tuple[JobLane, ...]:
    """The lanes that a worker looks after, first the one it prefers."""
    if workers == 1:
        return (JobLane.FAST, JobLane.SLOW)
    # The last worker is reserved for the fast lane, so the others need not prefer it.
    return (JobLane.FAST,) if worker == workers - 1 else (JobLane.SLOW, JobLane.FAST)
