"""The parent's end of one worker process."""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import resource
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, cast

from flashctl.core.service.workers.frames import HEADER, MAX_FRAME_BYTES, FromParent, FromWorker, pack

__all__ = ["NICE", "WorkerLimits", "WorkerProcess", "spawn_worker"]

NICE: Final = 10
"""Public calls run at a lower priority than everything that has a deadline."""

EXIT_WAIT_S: Final = 1.0
"""For a process whose socket is closed to end by itself: at once when it is idle."""


@dataclass(frozen=True, slots=True)
class WorkerLimits:
    """What one worker process may take."""

    nice: int = field(default_factory=lambda: NICE)
    """Added to the service's own, and given to the session's group (`priority`)."""
    memory_bytes: int = 2 * 2**30
    """Of address space."""


class WorkerProcess(asyncio.Protocol):
    """One process and the socket to it. Passes its messages, and its end, to two functions."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        sock: socket.socket,
        hear: Callable[[WorkerProcess, FromWorker], None],
        end: Callable[[WorkerProcess], None],
    ) -> None:
        self._process = process
        self._socket = sock
        self._hear = hear
        self._end = end
        self._buffer = bytearray()
        self._transport: asyncio.WriteTransport | None = None
        self.is_ready = False

    async def connect(self) -> None:
        """Begin to hear it."""
        await asyncio.get_running_loop().create_unix_connection(lambda: self, sock=self._socket)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def resident_bytes(self) -> int:
        """Memory that it holds; 0 if that is not to be known."""
        with contextlib.suppress(OSError, ValueError, IndexError):
            return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * resource.getpagesize()
        return 0

    def send(self, message: FromParent) -> None:
        """Queue a message."""
        assert self._transport is not None
        if not self._transport.is_closing():
            self._transport.write(pack(message))

    def kill(self) -> None:
        """End it at once; `end` is called when the socket is closed."""
        self._process.kill()

    def close(self) -> None:
        """Close the socket, which ends it when it is idle."""
        if self._transport is not None:
            self._transport.close()
        else:
            self._socket.close()

    async def wait(self) -> int:
        """Its exit code, once it has ended; a worker that takes longer than EXIT_WAIT_S is killed."""
        try:
            return await asyncio.to_thread(self._process.wait, EXIT_WAIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return await asyncio.to_thread(self._process.wait)

    # --- asyncio.Protocol ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the methods, not the class.
        self._transport = cast(asyncio.WriteTransport, transport)

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer
        buffer += data
        start = 0
        while len(buffer) - start >= HEADER.size:
            (size,) = HEADER.unpack_from(buffer, start)
            if size > MAX_FRAME_BYTES:
                self.kill()
                break
            end = start + HEADER.size + size
            if len(buffer) < end:
                break
            with memoryview(buffer) as view:
                message: FromWorker = pickle.loads(view[start + HEADER.size : end])
            start = end
            self._hear(self, message)
        if start:
            del buffer[:start]

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(self)


def spawn_worker(
    entry: str,
    limits: WorkerLimits,
    hear: Callable[[WorkerProcess, FromWorker], None],
    end: Callable[[WorkerProcess], None],
    *,
    load_first: bool,
) -> WorkerProcess:
    """Start a worker process; `connect` it to hear when it is ready.

    Takes a millisecond or two of the loop, once for each worker: the child is started with vfork.

    Args:
        entry: `module:factory` of the function that runs jobs (see `child`). hear: Called with every message.
        end: Called when the socket is closed, which is when the process ends. load_first: Whether it loads at
        this process's own niceness, which is not for those that are replaced
            again and again.

    Raises:
        OSError: If the system has no room for one.
    """
    ours, theirs = socket.socketpair()
    try:
        descriptor = theirs.fileno()
        arguments = [str(descriptor), entry, str(limits.nice), str(limits.memory_bytes)]
        if load_first:
            arguments.append("--load-first")
        process = subprocess.Popen(
            [sys.executable, "-m", "flashctl.core.service.workers", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=(descriptor,),
        )
    except OSError:
        ours.close()
        raise
    finally:
        theirs.close()
    ours.setblocking(False)
    return WorkerProcess(process, ours, hear, end)
