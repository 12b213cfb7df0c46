"""Printing that nobody waits for: a stream is received and recorded whether or not its output is read.

A pipe whose reader stops, or a terminal after Ctrl-S, would hold the loop in a write: messages would be lost,
and those that come later would bear the time at which the reader went on. So a thread writes, behind a queue
with a bound; what does not fit is not printed, and that is said at the end.

Only for what cannot be asked for again. Reading a recording waits for its reader.
"""

from __future__ import annotations

import contextlib
import os
import select
import stat
import sys
import threading
import time
from collections import deque
from typing import Final

from flashctl.core.output import Output

__all__ = ["MAX_WAITING_BYTES", "Printer", "live_output"]

MAX_WAITING_BYTES: Final = 64 * 1024 * 1024
"""Ten minutes of a busy stream in JSON."""

BUSY_BYTES: Final = 64 * 1024
"""Waiting bytes at which a live view has nothing to add."""

_WRITE_BYTES: Final = 64 * 1024


def live_output(*, is_live: bool) -> Output:
    """stdout for a stream; a file never blocks, and a recording can wait."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        descriptor = sys.stdout.fileno()
        if is_live and not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return Printer(descriptor)
    return Output()


class Printer(Output):
    """Writes to a descriptor from a thread of its own."""

    def __init__(self, descriptor: int, most: int = MAX_WAITING_BYTES) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._most = most
        self._waiting: deque[bytes] = deque()
        self._size = 0
        """Bytes not written yet, those that are being written included."""
        self._changed = threading.Condition()
        self._error: OSError | None = None
        self._thread: threading.Thread | None = None
        self.skipped = 0
        """Pieces of output that did not fit."""

    @property
    def busy(self) -> bool:
        """Whether the reader is behind."""
        return self._size > BUSY_BYTES

    def raw(self, data: bytes) -> None:
        """Hand over bytes to be written as they are; dropped and counted where too much waits.

        Raises:
            OSError: The reader has gone away.
        """
        with self._changed:
            if self._error is not None:
                raise self._error
            if self._size + len(data) > self._most:
                self.skipped += 1
                return
            self._waiting.append(data)
            self._size += len(data)
            self._changed.notify_all()
        if self._thread is None:
            # A daemon, for it may be held for ever by a pipe that nobody reads.
            self._thread = threading.Thread(target=self._write_all, name="stdout", daemon=True)
            self._thread.start()

    def finish(self, patience_s: float | None) -> None:
        """Wait until everything is written, at most so long; None as long as it takes.

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
                    self._changed.notify_all()
        except OSError as error:
            with self._changed:
                self._error = error
                self._waiting.clear()
                self._changed.notify_all()

    def _write(self, data: bytes) -> None:
        # Past sys.stdout, whose lock a thread that is held here would keep until the interpreter ends.
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except BlockingIOError:  # whoever shares the pipe made it non-blocking
                select.select([], [self._descriptor], [], 1.0)
