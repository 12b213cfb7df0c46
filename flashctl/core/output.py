"""stdout: data and nothing else.

Everything a command prints as its result goes through one `Output`, which flushes line by line (for `tail`),
writes JSON as one object per line, and escapes text that came from the network before it can reach a
terminal. A reader that goes away (`| head`) surfaces as BrokenPipeError, which the command line turns into
exit code 141.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import stat
import sys
import threading
from collections.abc import Callable
from typing import Any, BinaryIO, Final

__all__ = ["Output", "counted", "escape", "wants_color", "when_reader_leaves"]

_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""C0, DEL and C1 drive terminals; line separators and direction marks falsify how a line reads."""


def escape(text: str) -> str:
    r"""`text` with control characters written as `\x1b`, so that it cannot drive a terminal or forge a
    line."""
    if text.isascii() and text.isprintable():
        return text
    return _CONTROL.sub(lambda match: ascii(match[0])[1:-1], text)


def counted(number: int, noun: str) -> str:
    """`1 line`, `2 lines`, `1,200 lines`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def wants_color(stream: Any, choice: str = "auto") -> bool:
    """Whether `stream` should get colour: `--color` first, then NO_COLOR, FORCE_COLOR, CLICOLOR, TERM
    and what it is."""
    if choice in ("always", "never"):
        return choice == "always"
    environment = os.environ
    if environment.get("NO_COLOR"):
        return False
    if environment.get("FORCE_COLOR") or environment.get("CLICOLOR_FORCE"):
        return True
    if environment.get("CLICOLOR") == "0":
        return False
    return environment.get("TERM") != "dumb" and bool(stream.isatty())


_POLL_MS: Final = 500
"""How long the watch of a pipe takes to end when it is no longer wanted."""


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
        """Bytes as they are, at once and whole.

        An unbuffered stream (PYTHONUNBUFFERED) may take less than it is given, or nothing when another
        process made the shared pipe non-blocking; neither may lose output.

        Raises:
            BrokenPipeError: If the reader has gone away.
        """
        rest = memoryview(data)
        while rest:
            try:
                written = self._stream.write(rest)
            except BlockingIOError as error:
                written = error.characters_written
            if not written:
                self._wait_writable()
            rest = rest[written or 0 :]
        self._flush()

    def _flush(self) -> None:
        while True:
            try:
                self._stream.flush()
                return
            except BlockingIOError:
                self._wait_writable()

    def _wait_writable(self) -> None:
        select.select([], [self._stream], [], 1.0)


def _hex(value: object) -> str:
    if isinstance(value, bytes | bytearray | memoryview):
        return "0x" + bytes(value).hex()
    raise TypeError(f"{type(value).__name__} is not JSON")


def when_reader_leaves(callback: Callable[[], None]) -> Callable[[], None]:
    """Call `callback` once when the reader of stdout, a pipe, goes away; returns a function that ends the
    watch.

    Without it a tail that waits for the network would outlive `| head` until the next message. Only a pipe
    reports it: on a file or a terminal this does nothing. Needs a running event loop.
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
    stopped = threading.Event()

    def watch() -> None:
        # Not `loop.add_reader`: uvloop makes the descriptor non-blocking for that, and then a slow reader
        # loses output (1,000 flashblocks/s of 50 KB: one in ten).
        poll = select.poll()
        poll.register(descriptor, 0)  # nothing but the error of a pipe without readers
        while not stopped.is_set():
            if poll.poll(_POLL_MS) and not stopped.is_set():
                with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                    loop.call_soon_threadsafe(callback)
                return

    threading.Thread(target=watch, name="stdout-reader", daemon=True).start()
    return stopped.set


def _nothing() -> None:
    pass
