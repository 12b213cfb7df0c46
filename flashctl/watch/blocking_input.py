"""Recordings that come through a pipe: a read may wait for ever, so a thread reads.

In the event loop it would keep signals from being handled and other tasks from running. Files are read in the
loop, where a hand-over per message would only cost time.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
import sys
import threading
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Final

from flashctl.watch.events import ReceivedMessage
from flashctl.watch.recording import Replay

__all__ = ["may_block", "steps_of_pipe"]

_AHEAD: Final = 64
"""Messages read before they are wanted."""

_Step = ReceivedMessage | None | Exception


def may_block(path: Path | None) -> bool:
    """Whether reading a recording may wait for its writer: anything but a regular file."""
    try:
        if path is None:
            return not stat.S_ISREG(os.fstat(sys.stdin.fileno()).st_mode)
        return path.exists() and not path.is_file()
    except (AttributeError, OSError, ValueError):
        return False  # closed, or a stream in memory


async def steps_of_pipe(replay: Replay) -> AsyncGenerator[ReceivedMessage | None, None]:
    """`replay.steps()`, run by a thread.

    Raises:
        FlashctlError: As `Replay.steps`.
    """
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[_Step] = asyncio.Queue()
    room = threading.Semaphore(_AHEAD)

    def put(step: _Step) -> None:
        room.acquire()
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(queue.put_nowait, step)

    def read() -> None:
        try:
            for step in replay.steps():
                put(step)
            put(StopAsyncIteration())
        except Exception as error:
            put(error)

    # A daemon: it may be in a read that never ends.
    threading.Thread(target=read, name="recording", daemon=True).start()
    while True:
        step = await queue.get()
        room.release()
        if isinstance(step, StopAsyncIteration):
            return
        if isinstance(step, Exception):
            raise step
        yield step
