"""The worker process's part of executions: `make` is what `core.workers.child` calls.

It reads the state through `RemoteState`: what is in its cache costs nothing, the rest a question to the
parent. Contents are cached by what they can never change under: storage by its root where the parent tells
one, accounts by the view's base, code and trie nodes by their hash; so most of what was read for one block
holds for the next, and compiled code stays.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

import orjson

from flashctl.chain.call_jobs import CALL_FAILURES, CallFailure, ExecutionJob, failure_told, perform
from flashctl.chain.call_source import ViewName
from flashctl.chain.remote_state import RemoteState, StateCache
from flashctl.core.workers.run import Needs, OverSlice, Run
from flashctl.evm.halts import ExecutionTimeout
from flashctl.evm.message import Deadline

__all__ = ["Encoded", "make"]

PATIENCE: Final = 4
"""How many times as long as the last, by the clock, is the next try of what was kept from the processor."""


class Encoded(NamedTuple):
    """An answer as JSON text."""

    json: bytes


def make() -> Callable[[tuple[ExecutionJob, ViewName], Run], Any]:
    """The function that runs jobs, with its cache."""
    cache = StateCache()

    def run(arguments: tuple[ExecutionJob, ViewName], given: Run) -> Any:
        job, name = arguments
        cache.trim()
        return _answer(job, name, cache, given)

    return run


def _answer(job: ExecutionJob, name: ViewName, cache: StateCache, run: Run) -> Any:
    """A short text as it is, anything larger encoded.

    Raises:
        OverSlice: It takes longer than its slice.
        Needs: It read what the parent has to obtain.
        RpcError: It fails.
    """
    began = time.process_time()
    failure: CallFailure | None = None
    for deadline, is_slice in _deadlines(run):
        state = RemoteState(name, cache, run.ask)
        result, failure = None, None
        try:
            result = perform(job, state, deadline)
        except CALL_FAILURES as error:
            failure = error
        if state.wanted:
            raise Needs(state.wanted)
        if isinstance(failure, ExecutionTimeout) and is_slice:
            if time.process_time() - began >= (run.slice_s or 0.0) / 2:
                raise OverSlice
            continue
        if failure is not None:
            raise failure_told(failure)
        return result if isinstance(result, str) else Encoded(orjson.dumps(result))
    raise AssertionError("the last try is no slice")


def _deadlines(run: Run) -> Iterator[tuple[Deadline, bool]]:
    """The deadlines of the tries of one run, and whether they are slices.

    A slice is meant as time of work. On a busy machine a process at this niceness may stand still for longer
    than that, so whoever had less than half of it gets another try, with more patience each time.
    """
    end, wall_s = time.perf_counter() + run.left_s, run.slice_s or run.left_s
    while wall_s < (left := end - time.perf_counter()):
        yield Deadline(run.seconds, wall_s), True
        wall_s *= PATIENCE
    yield Deadline(run.seconds, left), False
