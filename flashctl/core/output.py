"""stdout: data and nothing else.

Everything a command prints as its result goes through one `Output`, which flushes line by line (somebody is
tailing), writes JSON as one object per line, and escapes text that came from the network before it can
reach a terminal. A reader that goes away (`| head`) surfaces as BrokenPipeError, which the command line
turns into exit code 141.
"""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Callable
from typing import Any, BinaryIO, Final

__all__ = ["Output", "escape", "wants_color", "when_reader_leaves"]

_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""C0, DEL and C1 drive terminals; line separators and direction marks fake what a line says."""


def escape(text: str) -> str:
    r"""`text` with control characters written as `\x1b`, so that it cannot drive a terminal or forge a
    line."""
    if text.isascii() and text.isprintable():
        return text
    return _CONTROL.sub(lambda match: ascii(match[0])[1:-1], text)


def wants_color(stream: Any, choice: str = "auto") -> bool:
    """Whether `stream` should get colour: `--color` first, then NO_COLOR, FORCE_COLOR, TERM and what it
    is."""
    if choice in ("always", "never"):
        return choice == "always"
    environment = os.environ
    if environment.get("NO_COLOR"):
        return False
    if environment.get("FORCE_COLOR") or environment.get("CLICOLOR_FORCE"):
        return True
    return environment.get("TERM") != "dumb" and bool(stream.isatty())


class Output:
    """Writes results to stdout (or `stream`, a binary file)."""

    def __init__(self, stream: BinaryIO | None = None) -> None:
        self._stream = stream if stream is not None else sys.stdout.buffer

    def line(self, text: str) -> None:
        """One line of text. The caller has escaped what is not its own."""
        self.raw(text.encode(errors="backslashreplace") + b"\n")

    def json(self, value: Any) -> None:
        """One JSON object on one line; bytes are written as 0x-prefixed hex."""
        import orjson

        self.raw(orjson.dumps(value, default=_hex) + b"\n")

    def raw(self, data: bytes) -> None:
        """Bytes as they are, at once.

        Raises:
            BrokenPipeError: If the reader has gone away.
        """
        self._stream.write(data)
        self._stream.flush()


def _hex(value: object) -> str:
    if isinstance(value, bytes | bytearray | memoryview):
        return "0x" + bytes(value).hex()
    raise TypeError(f"{type(value).__name__} is not JSON")


def when_reader_leaves(callback: Callable[[], None]) -> Callable[[], None]:
    """Call `callback` once when whoever reads stdout through a pipe goes away; returns what ends the watch.

    Without it a tail that waits for the network would outlive `| head` until the next message. Only a pipe
    can tell: on a file or a terminal this does nothing. Needs a running event loop.
    """
    # Here, because asyncio is 40 ms of the start of every command that only prints.
    import asyncio

    loop = asyncio.get_running_loop()
    try:
        descriptor = sys.stdout.fileno()
        if not stat.S_ISFIFO(os.fstat(descriptor).st_mode):
            return _nothing
    except (OSError, ValueError):
        return _nothing

    def stop() -> None:
        loop.remove_reader(descriptor)

    def left() -> None:
        stop()
        callback()

    # The write end of a pipe becomes "readable" at the moment its last reader closes.
    loop.add_reader(descriptor, left)
    return stop


def _nothing() -> None:
    pass
