"""How long one turn of the event loop takes, and what made it long.

Sockets are served and flashblocks timed by one loop, so whatever holds it delays every client. Turns over
LONG_S are counted by cause in `flashctl_loop_turns_over_5ms_total{cause=…}` of every role:

    flashctl place    rpc/api.py:get_logs   the function of ours that ran when the turn was over its time
    other place       orjson.py:dumps       likewise, where none of ours is on the stack
    waiting in …      as above, but the thread mostly slept there: a lock, a disk, a process that is started
    no processor      the thread was ready to run for most of the time: other processes had the processors
    not seen          the loop ran something that was over before the other thread looked
    interpreter lock  the loop had nothing to do and came too late all the same: other threads of the service
                      kept the interpreter
    not running       one of "no processor" and "interpreter lock", where the system does not distinguish them

The loop counts by a timer that is due every TICK_S: one that comes LONG_S late met a turn of at least that.
A turn of LONG_S + TICK_S is always met, a shorter one in proportion to what it has over LONG_S. The cause is
seen from a thread that looks at the loop's stack once the timer is overdue; when all is well the two cost a
loop that is idle up to 1 % of a core.

One registry for the process, like `defects`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import sys
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Final

from flashctl.core.service.exposition import MetricFamily, counter

__all__ = ["LONG_S", "TurnWatch", "counts", "families", "forget"]

_LOG = logging.getLogger(__name__)

LONG_S: Final = 0.005
"""A turn that is too long: a fortieth of a flashblock."""

TICK_S: Final = 0.005
"""Between two looks of the loop at the clock."""

MAX_CAUSES: Final = 200
"""Causes counted by name; later ones are "other". They are places in code, so it takes a while."""

_lock = threading.Lock()
_counts: dict[str, int] = {}

_LOOPS: Final = ("asyncio/base_events.py", "asyncio/runners.py", "uvloop/__init__.py")
"""Where the stack of a callback ends and that of the loop begins."""

_PACKAGE: Final = f"{Path(__file__).parents[2]}{os.sep}"

_PARTS_OF_LOOPS: Final = ("asyncio/", "uvloop/", "selectors.py", "contextlib.py")


def counts() -> dict[str, int]:
    """Long turns so far by cause."""
    with _lock:
        return dict(_counts)


def forget() -> None:
    """Start from nothing, for tests."""
    with _lock:
        _counts.clear()


def families() -> list[MetricFamily]:
    """The counts for a page of metrics."""
    values = [({"cause": cause}, count) for cause, count in sorted(counts().items())]
    help_text = "Turns of the event loop over 5 ms, by what ran in them."
    return [counter("flashctl_loop_turns_over_5ms_total", help_text, values)]


class TurnWatch:
    """Watches the loop that it is made on, until closed."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread_id = threading.get_ident()
        self._due = time.perf_counter() + TICK_S
        self._cpu = time.thread_time()
        self._ready_clock = _ReadyClock()
        self._ready = self._ready_clock.seconds()
        self._seen: tuple[float, str] | None = None
        """When a tick was due that is still out, and what was found to hold it up."""
        self._timer = self._loop.call_later(TICK_S, self._tick)
        self._is_open = True
        threading.Thread(target=self._look, name="turns", daemon=True).start()

    async def close(self) -> None:
        """Watch no more."""
        self._is_open = False
        self._timer.cancel()
        self._ready_clock.close()

    def _tick(self) -> None:
        now, cpu, due = time.perf_counter(), time.thread_time(), self._due
        ready = self._ready_clock.seconds()
        late = now - due
        if late > LONG_S:
            seen = self._seen
            # There is no place if the other thread came too late as well.
            where = seen[1] if seen is not None and seen[0] == due else ""
            _count(_cause(where, late + TICK_S, cpu - self._cpu, ready - self._ready), late)
        self._due, self._cpu, self._ready = now + TICK_S, cpu, ready
        self._timer = self._loop.call_later(TICK_S, self._tick)

    def _look(self) -> None:
        while self._is_open:
            due = self._due
            left = due + LONG_S - time.perf_counter()
            if left <= 0:
                if self._seen is None or self._seen[0] != due:
                    self._seen = (due, _place(sys._current_frames().get(self._thread_id)))
                left = LONG_S
            time.sleep(left)


class _ReadyClock:
    """How long the thread that makes it was ready to run and did not (/proc/PID/task/TID/schedstat, the
    second number, in nanoseconds)."""

    def __init__(self) -> None:
        self._descriptor: int | None = None
        with contextlib.suppress(OSError):
            path = f"/proc/self/task/{threading.get_native_id()}/schedstat"
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def seconds(self) -> float:
        """So far; nan where the system has no such figure, and after `close`."""
        if self._descriptor is None:
            return math.nan
        return int(os.pread(self._descriptor, 64, 0).split()[1]) / 1e9

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def _cause(where: str, late_s: float, ran_s: float, waited_s: float) -> str:
    """What a long turn is counted under.

    Args:
        where: The place that the loop was found at; empty for none.
        late_s: How long the turn was.
        ran_s: How long of it the thread ran.
        waited_s: How long of it the thread was ready to run and did not; nan if that is not known.
    """
    half = late_s / 2
    if ran_s > half:
        return where or "not seen"
    if waited_s > half:
        return "no processor"
    if where:
        return f"waiting in {where}"
    return "not running" if math.isnan(waited_s) else "interpreter lock"


def _place(frame: FrameType | None) -> str:
    """What a thread's loop is running: the innermost function of ours, else the innermost of all; empty if
    the loop runs nothing.
    """
    innermost = ""
    while frame is not None:
        file = frame.f_code.co_filename
        if file.endswith(_LOOPS):
            break
        if file.startswith(_PACKAGE) and file != __file__:
            return f"{file.removeprefix(_PACKAGE)}:{frame.f_code.co_name}"
        if not innermost and not any(part in file for part in _PARTS_OF_LOOPS):
            innermost = f"{file.rpartition('/')[2]}:{frame.f_code.co_name}"
        frame = frame.f_back
    return innermost


def _count(cause: str, late: float) -> None:
    with _lock:
        if cause not in _counts and len(_counts) >= MAX_CAUSES:
            cause = "other"
        _counts[cause] = _counts.get(cause, 0) + 1
    _LOG.debug("the event loop was held", extra={"cause": cause, "at_least_ms": round(late * 1000, 1)})
