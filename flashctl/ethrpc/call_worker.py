"""The worker process's part of executions: `make` is what `core.service.workers.child` calls.

It reads the state through `ParentState`: what is in its cache costs nothing, the rest a question to the
parent. Contents are cached by what they can never change under: storage by its root where the parent tells
one, accounts by the view's base, code and trie nodes by their hash; so most of what was read for one block
holds for the next, and compiled code stays.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import orjson

from flashctl.core.service.workers.run import JobRun, Needs, OverSlice
from flashctl.ethrpc.call_jobs import CALL_FAILURES, CallFailure, ExecutionJob, failure_told, perform
from flashctl.ethrpc.call_source import ViewName
from flashctl.ethrpc.parent_state import ParentState, StateCache
from flashctl.evm.halts import ExecutionTimeout
from flashctl.evm.message import Deadline
from flashctl.evm.missing_state import Missing, StateMissing, attempt

__all__ = ["Encoded", "make"]

QUESTION_S: Final = 0.0001
"""What a question to the parent counts as work, in seconds."""


class Encoded(NamedTuple):
    """An answer as JSON text."""

    json: bytes


def make() -> Callable[[tuple[ExecutionJob, ViewName], JobRun], Any]:
    """The function that runs jobs, with its cache."""
    cache = StateCache()

    def run(arguments: tuple[ExecutionJob, ViewName], given: JobRun) -> Any:
        job, name = arguments
        cache.trim()
        return _answer(job, name, cache, given)

    return run


def _answer(job: ExecutionJob, name: ViewName, cache: StateCache, run: JobRun) -> Any:
    """A short text as it is, anything larger encoded.

    Raises:
        OverSlice: It takes longer than its slice.
        Needs: It read what the parent has to obtain.
        RpcError: It fails.
    """
    deadline = Deadline(run.seconds, run.left_s)
    trial = _Slice(deadline, run.slice_s)

    def ask(question: Any) -> Any:
        trial.count_question()
        return run.ask(question)

    result: Any = None
    missing: Missing | None = None
    failure: CallFailure | None = None
    with trial:
        try:
            result = attempt(lambda guesses: perform(job, ParentState(name, cache, ask, guesses), deadline))
        except StateMissing as error:
            missing = error.missing
        except CALL_FAILURES as error:
            # Without its traceback, which is a cycle through this frame, with the state in it.
            failure = error.with_traceback(None)
    if missing is not None:
        raise Needs(missing)
    if isinstance(failure, ExecutionTimeout) and trial.is_over:
        raise OverSlice
    if failure is not None:
        raise failure_told(failure)
    return result if isinstance(result, str) else Encoded(orjson.dumps(result))


class _Slice:
    """Ends a run that used its slice up, by spending its deadline.

    A slice is time of work, which the kernel counts: by the clock a process at this niceness may stand still
    for longer than that on a busy machine, and the quickest call would be taken for a slow one.
    """

    def __init__(self, deadline: Deadline, seconds: float | None) -> None:
        """`seconds` of work; None for no end."""
        self._deadline = deadline
        self._seconds = seconds
        self._questions = 0
        self.is_over = False

    def __enter__(self) -> None:
        if self._seconds is not None:
            signal.signal(signal.SIGPROF, lambda *_: self._end())
            signal.setitimer(signal.ITIMER_PROF, self._seconds)

    def __exit__(self, *_: object) -> None:
        if self._seconds is not None:
            signal.setitimer(signal.ITIMER_PROF, 0)

    def count_question(self) -> None:
        """A question to the parent is work, too: who walks cold storage waits more than he computes.

        Raises:
            ExecutionTimeout: If the time is spent. The machine looks only after so many instructions, which
            is soon where they compute and not where each of them waits for an answer.
        """
        self._questions += 1
        if self._seconds is not None and self._questions * QUESTION_S > self._seconds:
            self._end()
        self._deadline.check()

    def _end(self) -> None:
        self.is_over = True
        self._deadline.expire()
