"""Messages for the person on stderr, beside the output on stdout.

stderr often is the same pipe or terminal as stdout, and blocks with it; so it has a queue of its own.
"""

from __future__ import annotations

import contextlib
import sys
from typing import Final

from flashctl.core.output import escape
from flashctl.core.service.printer import printer_of

__all__ = ["Messages"]

MAX_WAITING_BYTES: Final = 1024 * 1024


class Messages:
    """Writes to stderr; a reader that has gone away costs the messages and nothing else."""

    def __init__(self) -> None:
        self._printer = printer_of(sys.stderr, MAX_WAITING_BYTES)

    def say(self, text: str) -> None:
        """One line with the name of the program in front; control characters are escaped."""
        self.text(f"flashctl: {escape(text)}")

    def text(self, text: str) -> None:
        """Lines that the caller has escaped."""
        self._write(f"{text}\n")

    def bell(self) -> None:
        """Ring the terminal's bell."""
        self._write("\a")

    def _write(self, text: str) -> None:
        if self._printer is None:
            print(text, end="", file=sys.stderr, flush=True)
            return
        with contextlib.suppress(OSError):
            self._printer.raw(text.encode(errors="backslashreplace"))

    async def drained(self, patience_s: float | None) -> None:
        """Return once everything is written, or when the reader takes nothing for `patience_s`."""
        if self._printer is not None:
            with contextlib.suppress(OSError):
                await self._printer.drained(patience_s)
