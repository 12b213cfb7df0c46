"""Who runs executions: threads of this process, or worker processes. Both give the same answers.

    InProcess    a few at a time in threads, which share the interpreter with everything else
    InWorkers    in the processes of a `WorkerPool`

A call's time runs from when it is asked, not from when its turn comes: its caller waits no longer than that.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, Protocol

import orjson

from flashctl.core.jsonrpc.errors import ErrorCode, RpcError
from flashctl.core.service.workers.figures import PoolFigures
from flashctl.core.service.workers.pool import WorkerPool, waited_too_long
from flashctl.ethrpc.call_jobs import (
    CALL_FAILURES,
    CallFailure,
    ExecutionJob,
    SimulateJob,
    TraceBlockJob,
    TraceCallJob,
    failure_told,
    perform,
)
from flashctl.ethrpc.call_source import CallSource
from flashctl.ethrpc.call_worker import Encoded
from flashctl.evm.halts import ExecutionTimeout
from flashctl.evm.message import Deadline
from flashctl.evm.missing_state import Missing, StateMissing, attempt
from flashctl.evm.tracers.tracer import TraceTooLarge
from flashctl.op.call import DEFAULT_CALL_GAS, ExecutionFailed

__all__ = ["DEFAULT_WORKERS", "CallLimits", "CallRunner", "InProcess", "InWorkers", "call_runner"]

DEFAULT_WORKERS: Final = 2
"""One for everything and one that slow calls never hold. More where there are cores for them."""

WORKER_ENTRY: Final = "flashctl.ethrpc.call_worker:make"

MAX_WAITING: Final = 1024
"""Calls in line behind those that execute in this process; more are refused, for their callers will have
left."""

TRACES_WAITING: Final = 16
"""Traces in line. Answers of one batch are all held until it is complete."""

TRACES_AT_ONCE: Final = 1
"""Traces take the interpreter's lock all the time they run; two would only hold twice the memory."""


@dataclass(frozen=True, slots=True)
class CallLimits:
    """What one call may take."""

    gas: int = DEFAULT_CALL_GAS
    seconds: float = 5.0
    """Of wall time, from when it is asked; geth's default for `--rpc.evmtimeout`."""

    at_once: int = 4
    """Calls that execute at the same time in this process, where there are no workers."""


class CallRunner(Protocol):
    """Runs executions."""

    async def run(self, job: ExecutionJob, source: CallSource, seconds: float) -> Any:
        """What the method answers.

        Args:
            source: The state to run on.
            seconds: For waiting, running and fetching what is missing.

        Raises:
            RpcError: If it fails, takes too long, or too many are in line.
            FlashctlError: If the state cannot be had.
        """

    async def close(self) -> None:
        """End what runs."""


def call_runner(workers: int, at_once: int, figures: PoolFigures | None = None) -> CallRunner:
    """The runner for a service: so many worker processes, or threads if that is none."""
    if not workers:
        return InProcess(at_once)
    return InWorkers(WorkerPool(WORKER_ENTRY, workers, figures=figures))


class _Turns:
    """A few at a time, and a bounded line behind them."""

    def __init__(self, at_once: int, max_waiting: int) -> None:
        self._turns = asyncio.Semaphore(at_once)
        self._max_waiting = max_waiting
        self._waiting = 0

    @asynccontextmanager
    async def take(self, seconds: float) -> AsyncIterator[None]:
        if self._waiting >= self._max_waiting:
            raise RpcError(ErrorCode.LIMIT_EXCEEDED, "too many calls in line, try again later")
        self._waiting += 1
        try:
            try:
                async with asyncio.timeout(seconds):
                    await self._turns.acquire()
            except TimeoutError:
                raise waited_too_long(seconds) from None
            try:
                yield
            finally:
                self._turns.release()
        finally:
            self._waiting -= 1


class InProcess:
    """Threads with a wall budget each, a few at a time. Traces have a line of their own: each holds more, and
    runs longer, than a call."""

    def __init__(self, at_once: int = 4) -> None:
        self._calls = _Turns(at_once, MAX_WAITING)
        self._traces = _Turns(TRACES_AT_ONCE, TRACES_WAITING)

    async def run(self, job: ExecutionJob, source: CallSource, seconds: float) -> Any:
        started = time.perf_counter()
        is_trace = isinstance(job, TraceCallJob | TraceBlockJob)
        async with (self._traces if is_trace else self._calls).take(seconds):
            while True:
                left = seconds - (time.perf_counter() - started)
                if left <= 0:
                    raise failure_told(ExecutionTimeout(seconds))
                end = await asyncio.to_thread(_attempt, job, source, Deadline(seconds, left))
                match end:
                    case Missing():
                        await source.obtain(end)
                    case ExecutionFailed() | ExecutionTimeout() | TraceTooLarge():
                        raise failure_told(end)
                    case _:
                        return end

    async def close(self) -> None:
        """Threads end with their calls."""


def _attempt(job: ExecutionJob, source: CallSource, deadline: Deadline) -> Any | Missing | CallFailure:
    """The answer, what it lacked, or why there is none."""
    try:
        return attempt(lambda guesses: perform(job, source.local(guesses), deadline))
    except StateMissing as error:
        return error.missing
    except CALL_FAILURES as error:
        return error


@dataclass(frozen=True, slots=True)
class _PoolJob:
    """An execution as the pool sees it (`core.service.workers.pool.Job`)."""

    job: ExecutionJob
    source: CallSource
    seconds: float

    @property
    def likeness(self) -> Hashable:
        return self.job.likeness

    @property
    def arguments(self) -> Any:
        return self.job, self.source.name

    def answer(self, question: Any) -> Any:
        return self.source.answer(question)

    async def obtain(self, what: Missing) -> None:
        await self.source.obtain(what)


class InWorkers:
    """The processes of a pool."""

    def __init__(self, pool: WorkerPool) -> None:
        self.pool: Final = pool

    async def run(self, job: ExecutionJob, source: CallSource, seconds: float) -> Any:
        if isinstance(job, SimulateJob):
            await source.open_trie()
        answer = await self.pool.run(_PoolJob(job, source, seconds))
        return orjson.Fragment(answer.json) if isinstance(answer, Encoded) else answer

    async def close(self) -> None:
        """End the processes."""
        await self.pool.close()
