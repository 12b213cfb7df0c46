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
    """Keys one by one, without echo, while the `with` block lasts; nothing when stdin is no terminal."""

    def __init__(self, on_key: Callable[[str], None], on_resize: Callable[[], None]) -> None:
        self._on_key = on_key
        self._on_resize = on_resize
        self._saved: list[Any] | None = None

    def __enter__(self) -> Keyboard:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGWINCH, self._on_resize)
        loop.add_signal_handler(signal.SIGCONT, self._continued)
        if sys.stdin.isatty():
            import termios
            import tty

            descriptor = sys.stdin.fileno()
            self._saved = termios.tcgetattr(descriptor)
            tty.setcbreak(descriptor)
            loop.add_reader(descriptor, self._read)
        return self

    def _continued(self) -> None:
        """After Ctrl-Z and fg: the shell has set the terminal its own way and written below the view."""
        if self._saved is not None:
            import tty

            descriptor = sys.stdin.fileno()
            if os.tcgetpgrp(descriptor) != os.getpgrp():
                return  # in the background, where touching the terminal would stop it again
            tty.setcbreak(descriptor)
        self._on_resize()

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
        loop.remove_signal_handler(signal.SIGWINCH)
        loop.remove_signal_handler(signal.SIGCONT)
        if self._saved is not None:
            import termios

            loop.remove_reader(sys.stdin.fileno())
            termios.tcsetattr(sys.stdin.fileno(), termios.TCSADRAIN, self._saved)
