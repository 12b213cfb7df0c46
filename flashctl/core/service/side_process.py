"""One function call in another process, waited for by a thread: for C code that keeps the interpreter lock.

    side = SideProcesses()
    side.run(compute, data, check)      # compute(data), elsewhere; `check` every few milliseconds

A thread that computes beside an event loop shares the interpreter lock with it, and a library that does not
let go of it stops the loop for as long as it computes. Here the thread waits on a pipe instead. A call whose
`check` raises is abandoned and its process killed: nothing else ends such a computation.

A process that dies costs nothing but time: the call is computed where it was made.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Final

__all__ = ["SideProcesses"]

_LOG = logging.getLogger(__name__)

MAX_PROCESSES: Final = 2
"""At once; further calls wait their turn, within their own budgets."""

CHECK_S: Final = 0.005
_HEAD: Final = struct.Struct(">I")
_CHUNK: Final = 1 << 18

Compute = Callable[[bytes], bytes]
Check = Callable[..., object]


class _Gone(Exception):
    """The process ended, or never started."""


class SideProcesses:
    """A few processes that compute for the threads of this one. `run` may be called from any thread."""

    def __init__(self) -> None:
        self._turns = threading.BoundedSemaphore(MAX_PROCESSES)
        self._lock = threading.Lock()
        self._idle: list[_SideChild] = []
        self._closed = False

    def start(self) -> None:
        """Have one process ready, so that the first call does not wait for it to start."""
        with contextlib.suppress(_Gone):
            self._give_back(_SideChild())

    def run(self, compute: Compute, data: bytes, check: Check) -> bytes:
        """`compute(data)`, computed elsewhere.

        Args:
            compute: A function of a module, which is imported there.
            data: Its argument.
            check: Called every few milliseconds with `elsewhere_s`, the seconds of processor time that the
                other process has spent on this since the last time; whatever it raises ends the call.

        Raises:
            Exception: What `compute` raised, or `check`.
        """
        check()
        while not self._turns.acquire(timeout=CHECK_S):
            check()
        try:
            try:
                side = self._take()
            except _Gone:
                return compute(data)
            try:
                succeeded, result = side.call(compute, data, side.metered(check))
            except _Gone:
                side.kill()
                _LOG.warning("a side process ended in the middle of a call")
                return compute(data)
            except BaseException:
                side.kill()
                raise
            self._give_back(side)
        finally:
            self._turns.release()
        if succeeded:
            return bytes(result)
        try:
            raise result
        finally:
            # The traceback of an error that its own frame names is a cycle.
            del result

    def close(self) -> None:
        """End the processes; calls made from now on are computed where they stand."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for side in idle:
            side.kill()

    def _take(self) -> _SideChild:
        with self._lock:
            if self._closed:
                raise _Gone
            if self._idle:
                return self._idle.pop()
        return _SideChild()

    def _give_back(self, side: _SideChild) -> None:
        with self._lock:
            if not self._closed:
                self._idle.append(side)
                return
        side.kill()


class _SideChild:
    """One process and the socket to it."""

    def __init__(self) -> None:
        """Raises _Gone if it cannot be started."""
        ours, theirs = socket.socketpair()
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(theirs.fileno())],
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
        except OSError as error:
            ours.close()
            _LOG.warning("cannot start a side process: %s", error.strerror)
            raise _Gone from None
        finally:
            theirs.close()
        ours.setblocking(False)
        self._socket = ours

    def metered(self, check: Check) -> Check:
        """`check`, with the processor time of this process since its last call as `elsewhere_s`."""
        before = self._spent_s()

        def metered() -> None:
            nonlocal before
            now = self._spent_s()
            before, spent = now, now - before
            check(elsewhere_s=spent)

        return metered

    def _spent_s(self) -> float:
        """Processor time of this process so far, seconds; wall time where the system has no such clock."""
        try:
            # The identifier that Linux gives the processor clock of a process (clock_getcpuclockid).
            return time.clock_gettime(~self._process.pid << 3 | 2)
        except OSError:
            return time.perf_counter()

    def call(self, compute: Compute, data: bytes, check: Check) -> tuple[bool, Any]:
        """Whether `compute` succeeded, and its result or exception."""
        request = pickle.dumps((compute, data))
        self._send(_HEAD.pack(len(request)) + request, check)
        (size,) = _HEAD.unpack(self._receive(_HEAD.size, check))
        reply: tuple[bool, Any] = pickle.loads(self._receive(size, check))
        # Also for a call that ended between two checks: a contract may make thousands of them.
        check()
        return reply

    def _send(self, request: bytes, check: Check) -> None:
        left = memoryview(request)
        while left:
            self._wait(select.POLLOUT, check)
            try:
                left = left[self._socket.send(left) :]
            except BlockingIOError:
                continue
            except OSError:
                raise _Gone from None

    def _receive(self, size: int, check: Check) -> bytes:
        received = bytearray()
        while len(received) < size:
            self._wait(select.POLLIN, check)
            try:
                part = self._socket.recv(size - len(received))
            except BlockingIOError:
                continue
            except OSError:
                raise _Gone from None
            if not part:
                raise _Gone
            received += part
        return bytes(received)

    def _wait(self, event: int, check: Check) -> None:
        poll = select.poll()
        poll.register(self._socket, event)
        while not poll.poll(1000 * CHECK_S):
            check()

    def kill(self) -> None:
        self._socket.close()
        self._process.kill()
        self._process.wait()


def _serve(connection: socket.socket) -> None:
    """Answer calls until the other side is gone."""
    while True:
        head = _read(connection, _HEAD.size)
        compute, data = pickle.loads(_read(connection, _HEAD.unpack(head)[0]))
        reply: tuple[bool, Any]
        try:
            reply = True, compute(data)
        except Exception as error:
            reply = False, error.with_traceback(None)
        answer = pickle.dumps(reply)
        connection.sendall(_HEAD.pack(len(answer)) + answer)


def _read(connection: socket.socket, size: int) -> bytes:
    received = bytearray()
    while len(received) < size:
        part = connection.recv(min(_CHUNK, size - len(received)))
        if not part:
            os._exit(0)
        received += part
    return bytes(received)


def _main() -> None:
    # A signal to the whole process group is for the service: it drains, and computes until it is done.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        _serve(socket.socket(fileno=int(sys.argv[1])))


if __name__ == "__main__":
    _main()
