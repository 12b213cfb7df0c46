"""What signals mean to a service, from its first line to its last.

    SIGTERM, SIGINT   drain and end: 0; the second one, or one before the service is ready: 143 or 130
    SIGHUP            read again what can be read again; without the terminal that it was started in, the end
    SIGUSR1, SIGUSR2  nothing: tools that rotate logs send them, and their default is the end of the process

Handlers are Python's own rather than the event loop's, so that a second SIGTERM is heard while the loop is
held by whatever it is that does not end.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from types import FrameType
from typing import Final

from flashctl.errors import Terminated

__all__ = ["ENDINGS", "SignalHandlers", "before_start", "terminal_is_gone"]

ENDINGS: Final = (signal.SIGTERM, signal.SIGINT)

_OTHERS: Final = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)

_TERMINALS: Final = tuple(number for number in (0, 2) if os.isatty(number))
"""Which of standard input and error were a terminal at the start."""


def before_start() -> None:
    """Make the signals harmless that could end a service between its first line and its handlers."""
    signal.signal(signal.SIGTERM, _terminate)
    for number in _OTHERS:
        # Not SIG_IGN, which the processes that a service starts would inherit.
        signal.signal(number, _ignore)


def terminal_is_gone() -> bool:
    """Whether a terminal that this process was started in has been closed: what SIGHUP meant first."""
    return any(not os.isatty(number) for number in _TERMINALS)


class SignalHandlers:
    """Handlers for as long as a service runs; what was there before comes back with `restore`."""

    def __init__(self, handle: Callable[[signal.Signals], None]) -> None:
        """`handle` is called in the main thread between two steps of whatever runs there."""
        self._handle = handle
        self._before = {number: signal.signal(number, self._on_signal) for number in (*ENDINGS, *_OTHERS)}

    def restore(self) -> None:
        """Take the handlers out."""
        for number, before in self._before.items():
            signal.signal(number, before if before is not None else signal.SIG_DFL)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self._handle(signal.Signals(number))


def _terminate(_number: int, _frame: FrameType | None) -> None:
    raise Terminated


def _ignore(_number: int, _frame: FrameType | None) -> None:
    """Nothing; the default would be the end of the process."""
