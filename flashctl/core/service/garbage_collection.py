"""When Python looks for reference cycles: in moments that the service chooses, and at little at a time.

A full collection looks at every object, a third of a microsecond each: 25 ms in a fresh service, seconds
over a large state. Left to itself it comes when so many objects were made, which is in the middle of a
flashblock. Roles leave few cycles, and whatever else is let go of is freed without any collection. So what
lives is set apart (`gc.freeze`) again and again: a collection then has only what was made since to look at.

    begin      once, when everything is loaded
    settle     in a moment of slack: cycles among what was made since the last time, then set the rest apart
    keep       settles every few seconds where no other code does

A cycle that was set apart alive and let go of later would stay for good; once an hour everything is looked
at, unless there is so much of it that a flashblock would be late for it.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable
from typing import Final

__all__ = ["GC_THRESHOLDS", "Garbage"]

GC_THRESHOLDS: Final = (20_000, 20, 50)
"""Allocations between collections of the youngest generation (Python: 700), and how many of each before the
next older one; roles leave few cycles, so there is little to find."""

SETTLE_EVERY_S: Final = 5.0
"""Between two times in a service whose role has no better moment: some milliseconds under load."""

FULL_EVERY_S: Final = 3600.0
MAX_FULL: Final = 150_000
"""Objects that a full collection may look at, some 50 ms. More than that is a state, which has no cycles."""


class Garbage:
    """The collector of this process."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._settled_at = self._full_at = clock()

    def begin(self) -> None:
        """What is loaded by now stays: leave it out of every later collection, and collect rarely."""
        gc.collect()
        gc.freeze()
        gc.set_threshold(*GC_THRESHOLDS)
        self._settled_at = self._full_at = self._clock()

    def settle(self) -> None:
        """Call where a few milliseconds hurt least."""
        now = self._clock()
        if now - self._full_at >= FULL_EVERY_S:
            self._full_at = now
            if gc.get_freeze_count() <= MAX_FULL:
                gc.unfreeze()
        gc.collect()
        gc.freeze()
        self._settled_at = now

    async def keep(self) -> None:
        """Settle when no other code has for a while; until cancelled."""
        while True:
            await asyncio.sleep(SETTLE_EVERY_S)
            if self._clock() - self._settled_at >= SETTLE_EVERY_S:
                self.settle()
