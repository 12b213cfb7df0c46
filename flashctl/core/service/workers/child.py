"""The worker process: takes a job, runs it, answers, takes the next. Ends with its parent.

    python -m flashctl.core.service.workers FD MODULE:FACTORY NICE MEMORY_BYTES [--load-first]

The factory is called once and returns the function that runs jobs; so what it loads and caches is paid for
once. The process is nicer than its parent, the first that the system kills when it is out of memory, and
limited in memory itself: an answer that takes too much fails alone. With --load-first it becomes nicer only
when it is loaded: on a machine without a processor to spare that half second took half a minute.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import pickle
import resource
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from flashctl.core.jsonrpc.errors import ErrorCode, RpcError, rpc_error_for
from flashctl.core.service.parent_death import end_with_parent
from flashctl.core.service.workers.frames import (
    HEADER,
    Answer,
    Asked,
    Begin,
    Broke,
    Done,
    FromParent,
    FromWorker,
    Lacks,
    Ready,
    Rejected,
    TookLong,
    pack,
)
from flashctl.core.service.workers.priority import leave_session, lower_priority
from flashctl.core.service.workers.run import JobRun, Needs, OverSlice

__all__ = ["Perform", "main"]

Perform = Callable[[Any, JobRun], Any]
"""Runs one job: its arguments, and the `JobRun`."""

_OOM_SCORE: Final = "500"
_RECEIVE_BYTES: Final = 256 * 1024

MAX_TRACEBACK: Final = 8_000
"""Characters, from the end."""

KEPT_SHARE: Final = 8
"""The part of its memory limit by which a worker may have grown after a job; with more it is replaced."""


GROUP_PART: Final = 2
"""Of the nice value, that of the session's group is this part. A group at 10 has a tenth of the weight of a
service's, too little beside other work on the machine for a call to end within its time-out; at 5 a third."""


class ParentGone(Exception):
    """The other end of the socket is closed."""


class _Link:
    """The worker's end of the socket."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def send(self, message: FromWorker) -> None:
        try:
            self._sock.sendall(pack(message))
        except OSError:
            raise ParentGone from None

    def receive(self) -> FromParent:
        (size,) = HEADER.unpack(self._read(HEADER.size))
        message: FromParent = pickle.loads(self._read(size))
        return message

    def ask(self, question: Any) -> Any:
        """The parent's answer.

        Raises:
            RpcError: If it has none.
        """
        self.send(Asked(question))
        match self.receive():
            case Answer(value):
                return value
            case Rejected(code, message, data):
                raise RpcError(code, message, data)
            case other:
                raise AssertionError(f"{type(other).__name__} instead of an answer")

    def _read(self, size: int) -> bytearray:
        data = bytearray(size)
        view = memoryview(data)
        while view:
            try:
                count = self._sock.recv_into(view, min(len(view), _RECEIVE_BYTES))
            except OSError:
                count = 0
            if not count:
                raise ParentGone
            view = view[count:]
        return data


def main(arguments: list[str]) -> int:
    """Serve until the parent closes the socket; the exit code."""
    descriptor, entry, nice, memory, *load_first = arguments
    _settle(int(memory))
    if not load_first:
        lower_priority(int(nice), int(nice) // GROUP_PART)
    link = _Link(socket.socket(fileno=int(descriptor)))
    module, _, name = entry.partition(":")
    try:
        perform: Perform = getattr(importlib.import_module(module), name)()
    except Exception as error:
        link.send(_broke(error))
        return 1
    if load_first:
        lower_priority(int(nice), int(nice) // GROUP_PART)
    memory_now = _resident_bytes()
    loaded = memory_now()
    most = loaded + int(memory) // KEPT_SHARE
    try:
        link.send(Ready(loaded))
        while True:
            message = link.receive()
            assert isinstance(message, Begin), type(message).__name__
            outcome = _run(perform, message, link)
            if outcome.leaves or memory_now() > most:
                # Python gives little back: a process that an answer made large stays so.
                link.send(outcome._replace(leaves=True))
                return 0
            link.send(outcome)
    except ParentGone:
        return 0


def _run(perform: Perform, begin: Begin, link: _Link) -> Done | TookLong | Lacks | Rejected | Broke:
    run = JobRun(link.ask, begin.seconds, begin.left_s, begin.slice_s)
    try:
        return Done(perform(begin.arguments, run))
    except OverSlice:
        return TookLong()
    except Needs as needs:
        return Lacks(needs.what)
    except ParentGone:
        raise
    except MemoryError:
        return Rejected(ErrorCode.LIMIT_EXCEEDED, "the call takes too much memory", leaves=True)
    except Exception as error:
        known = rpc_error_for(error)
        if known is not None:
            return Rejected(known.code, known.message, known.data)
        return _broke(error)


def _broke(error: Exception) -> Broke:
    return Broke("".join(traceback.format_exception(error))[-MAX_TRACEBACK:])


def _settle(memory: int) -> None:
    """Live for the parent alone, and within limits."""
    # Ctrl-C and the end of a terminal are for the parent, which closes the socket.
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    parent = os.getppid()
    end_with_parent(signal.SIGKILL)
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE)
    if os.getppid() != parent:
        raise SystemExit(0)
    leave_session()
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))


def _resident_bytes() -> Callable[[], int]:
    """A function for the memory that the process holds; 0 where the system does not report it."""
    try:
        descriptor = os.open("/proc/self/statm", os.O_RDONLY)
    except OSError:
        return lambda: 0
    page = resource.getpagesize()
    # Kept open: it is asked after every job.
    return lambda: int(os.pread(descriptor, 256, 0).split()[1]) * page
