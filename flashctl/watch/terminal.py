"""The terminal as watch uses it: sizes, single keys, and leaving it as it was found."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any

__all__ = ["Keyboard", "can_live", "has_unicode", "terminal_size"]


def can_live() -> bool:
    """Whether stdout is a terminal that can be redrawn."""
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"


def has_unicode() -> bool:
    """Whether bars and dots survive the encoding of stdout."""
    return (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"


def terminal_size() -> tuple[int, int]:
    """Columns and lines, with a floor under which nothing could be laid out."""
    try:
        columns, lines = os.get_terminal_size(sys.stdout.fileno())
    except (OSError, ValueError):
        columns, lines = 80, 24
    return max(columns, 20), max(lines, 2)


class Keyboard:
    """Keys one by one, without echo, while the `with` block lasts; nothing when stdin is no terminal.

    Ctrl-Z gives the shell its terminal back as it was and `fg` takes it again; Ctrl-S, which stops output,
    is undone at the end, so that what is left to print does not wait for Ctrl-Q.
    """

    def __init__(self, on_key: Callable[[str], None], on_resize: Callable[[], None]) -> None:
        self._on_key = on_key
        self._on_resize = on_resize
        self._saved: list[Any] | None = None

    def __enter__(self) -> Keyboard:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGWINCH, self._on_resize)
        if sys.stdin.isatty():
            import termios
            import tty

            descriptor = sys.stdin.fileno()
            self._saved = termios.tcgetattr(descriptor)
            tty.setcbreak(descriptor)
            loop.add_reader(descriptor, self._read)
            loop.add_signal_handler(signal.SIGTSTP, self._stop)
        loop.add_signal_handler(signal.SIGCONT, self._continued)
        return self

    def _stop(self) -> None:
        self._restore()
        os.kill(os.getpid(), signal.SIGSTOP)  # the default action of SIGTSTP, which the handler replaced

    def _continued(self) -> None:
        if self._saved is not None:
            import tty

            if not _in_foreground():
                return
            tty.setcbreak(sys.stdin.fileno())
        self._on_resize()

    def _restore(self) -> None:
        if self._saved is not None:
            # uvloop makes what it reads non-blocking, and with it the shell's terminal.
            os.set_blocking(sys.stdin.fileno(), True)
        if self._saved is not None and _in_foreground():
            import termios

            # Not TCSADRAIN, which waits for output that Ctrl-S holds.
            termios.tcsetattr(sys.stdin.fileno(), termios.TCSANOW, self._saved)

    def _read(self) -> None:
        data = os.read(sys.stdin.fileno(), 256).decode(errors="ignore")
        if not data:
            asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
        for character in data:
            self._on_key(character)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGWINCH, signal.SIGCONT, signal.SIGTSTP):
            loop.remove_signal_handler(number)
        if self._saved is not None:
            loop.remove_reader(sys.stdin.fileno())
            self._undo_ctrl_s()
            self._restore()

    def _undo_ctrl_s(self) -> None:
        """Start output that Ctrl-S stopped: clearing IXON does; tcflow(TCOON) undoes only its
        own TCOOFF."""
        if self._saved is not None and _in_foreground():
            import termios

            modes = list(self._saved)
            modes[0] &= ~termios.IXON
            termios.tcsetattr(sys.stdin.fileno(), termios.TCSANOW, modes)


def _in_foreground() -> bool:
    """Whether this process may set the terminal's modes; in the background doing so stops it (SIGTTOU)."""
    try:
        return os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except OSError:
        return False  # the terminal is gone
