"""Output that never holds up the event loop: a thread writes, behind a bounded queue.

A pipe whose reader stops, or a terminal after Ctrl-S, blocks a write for as long as it lasts. In the event
loop that would lose messages of a stream, give later ones the time at which the reader went on, and keep
signals from being handled.

    output = printer_of(sys.stdout)
    output.raw(data)                 # queued; a stream cannot wait, so what exceeds the bound is dropped
    await output.room()              # for a source that can wait, such as a recording
    await output.drained(None)       # at the end
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import stat
import sys
import threading
import time
from collections import deque
from typing import Any, Final

from flashctl.core.output import Output

__all__ = ["MAX_WAITING_BYTES", "Printer", "live_output", "printer_of"]

MAX_WAITING_BYTES: Final = 64 * 1024 * 1024
"""Ten minutes of a busy stream in JSON."""

BUSY_BYTES: Final = 64 * 1024
"""Queued bytes at which the reader counts as behind."""

AHEAD_BYTES: Final = 1024 * 1024
"""Queued bytes beyond which a source that can wait does."""

_WRITE_BYTES: Final = 64 * 1024


def printer_of(stream: Any, most: int = MAX_WAITING_BYTES) -> Printer | None:
    """A printer on the descriptor of a text stream; None for a regular file, which never blocks, and for a
    stream in memory."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        descriptor = stream.fileno()
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return Printer(descriptor, most)
    return None


def live_output() -> Output:
    """stdout, by a printer wherever a write may block."""
    return printer_of(sys.stdout) or Output()


class Printer(Output):
    """Writes to a descriptor from a thread of its own."""

    def __init__(self, descriptor: int, most: int = MAX_WAITING_BYTES) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._most = most
        self._waiting: deque[bytes] = deque()
        self._size = 0
        """Bytes not written yet, those of a write under way included."""
        self._changed = threading.Condition()
        self._error: OSError | None = None
        self._thread: threading.Thread | None = None
        self._on_progress: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None
        self.skipped = 0
        """Pieces of output dropped because the queue was full."""

    @property
    def busy(self) -> bool:
        """Whether the reader is behind."""
        return self._size > BUSY_BYTES

    @property
    def waiting_bytes(self) -> int:
        """Bytes that are not written yet."""
        return self._size

    @property
    def is_full(self) -> bool:
        """Whether a source that can wait should: see `room`."""
        return self._size > AHEAD_BYTES

    def raw(self, data: bytes) -> None:
        """Queue bytes to be written as they are; dropped and counted where the queue is full.

        Raises:
            OSError: The reader has gone away.
        """
        with self._changed:
            if self._error is not None:
                raise self._error
            if self._size and self._size + len(data) > self._most:
                self.skipped += 1
                return
            self._waiting.append(data)
            self._size += len(data)
            self._changed.notify_all()
            if self._thread is None:
                # A daemon: a pipe that is not read may block it without end.
                self._thread = threading.Thread(target=self._write_all, name="printer", daemon=True)
                self._thread.start()

    # -- waiting, in the event loop -------------------------------------------------------------

    async def room(self) -> None:
        """Return once the reader has come close, or has gone away (the next `raw` raises)."""
        while self.is_full and self._error is None:
            await self._progress(None)

    async def drained(self, patience_s: float | None) -> None:
        """Return once everything is written, or when the reader takes nothing for `patience_s`; None waits
        without a limit.

        Raises:
            OSError: The reader has gone away.
        """
        while self._size and self._error is None:
            if not await self._progress(patience_s):
                return
        if self._error is not None:
            raise self._error

    async def _progress(self, patience_s: float | None) -> bool:
        """Whether a write completed, or failed, within `patience_s`; one caller at a time."""
        event = asyncio.Event()
        with self._changed:
            if not self._size or self._error is not None:
                return True
            self._on_progress = asyncio.get_running_loop(), event
        try:
            async with asyncio.timeout(patience_s):
                await event.wait()
        except TimeoutError:
            return False
        finally:
            with self._changed:
                self._on_progress = None
        return True

    # -- waiting, elsewhere ---------------------------------------------------------------------

    def finish(self, patience_s: float | None) -> None:
        """Block until everything is written, at most `patience_s`; None as long as it takes.

        Raises:
            OSError: The reader has gone away.
        """
        deadline = None if patience_s is None else time.monotonic() + patience_s
        with self._changed:
            while self._size and self._error is None:
                if deadline is not None and time.monotonic() > deadline:
                    return
                self._changed.wait(0.1)
            if self._error is not None:
                raise self._error

    # -- the thread -----------------------------------------------------------------------------

    def _write_all(self) -> None:
        try:
            while True:
                with self._changed:
                    while not self._waiting:
                        self._changed.wait()
                    pieces = [self._waiting.popleft()]
                    size = len(pieces[0])
                    while self._waiting and size < _WRITE_BYTES:
                        pieces.append(self._waiting.popleft())
                        size += len(pieces[-1])
                self._write(b"".join(pieces))
                with self._changed:
                    self._size -= size
                    self._report_progress()
        except OSError as error:
            with self._changed:
                self._error = error
                self._waiting.clear()
                self._report_progress()

    def _report_progress(self) -> None:
        self._changed.notify_all()
        if self._on_progress is not None:
            loop, event = self._on_progress
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(event.set)

    def _write(self, data: bytes) -> None:
        # Past sys.stdout, whose lock a blocked thread would keep until the interpreter ends.
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except BlockingIOError:  # another process that shares the pipe made it non-blocking
                select.select([], [self._descriptor], [], 1.0)
