"""Log lines that input from outside can cause: each is written once per interval, however often it occurs."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from flashctl.lru import Lru

__all__ = ["Seldom"]

INTERVAL_S: Final = 60.0
MAX_SUBJECTS: Final = 256


class Seldom:
    """Remembers which lines were written lately."""

    __slots__ = ("_clock", "_interval_s", "_said")

    def __init__(
        self, interval_s: float = INTERVAL_S, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._interval_s = interval_s
        self._clock = clock
        self._said = Lru[str, tuple[float, int]](MAX_SUBJECTS)

    def due(self, subject: str) -> int:
        """How often `subject` occurred since its last line, this time included; 0 if no line is due.

        With more subjects than are kept, which are then a stranger's inventions, the one that came up longest
        ago is forgotten.
        """
        now = self._clock()
        said_at, since = self._said.peek(subject) or (-self._interval_s, 0)
        if now - said_at < self._interval_s:
            self._said.put(subject, (said_at, since + 1))
            return 0
        self._said.put(subject, (now, 0))
        return since + 1
