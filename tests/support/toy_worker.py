"""A worker's function that does what its job says; for tests of the pool."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

from flashctl.core.jsonrpc.errors import RpcError
from flashctl.core.service.workers.priority import AUTOGROUP
from flashctl.core.service.workers.run import JobRun, Needs, OverSlice
from flashctl.errors import Failed

ENTRY = "support.toy_worker:make"


@dataclass
class ToyJob:
    """A job of one verb and its argument."""

    verb: str
    value: Any = None
    seconds: float = 30.0
    obtained: list[Any] = field(default_factory=list)
    asked: list[Any] = field(default_factory=list)

    @property
    def likeness(self) -> Hashable:
        return self.verb

    @property
    def arguments(self) -> Any:
        return self.verb, self.value, len(self.obtained)

    def answer(self, question: Any) -> Any:
        self.asked.append(question)
        if question == "unknown":
            raise Failed("nobody knows")
        if question == "defect":
            raise ZeroDivisionError
        return question * 2

    async def obtain(self, what: Any) -> None:
        if what == "never":
            raise Failed("not to be had")
        self.obtained.append(what)


def make() -> Callable[[Any, JobRun], Any]:
    memory: list[bytearray] = []
    """What stays when a job is done."""

    def perform(arguments: tuple[str, Any, int], run: JobRun) -> Any:
        verb, value, obtained = arguments
        match verb:
            case "echo":
                return value
            case "pid":
                return os.getpid(), os.nice(0)
            case "group":  # its session, and what the kernel says of the session's scheduling group
                return os.getsid(0), AUTOGROUP.read_text() if AUTOGROUP.exists() else ""
            case "burn":  # seconds of work, minding slice and deadline
                end = time.process_time() + value
                while time.process_time() < end:
                    if run.slice_s is not None:
                        raise OverSlice
                return value
            case "hang":  # minds nothing; says where, and that it has begun
                if run.slice_s is not None:
                    raise OverSlice
                run.ask(os.getpid())
                time.sleep(600)
            case "ask":
                return run.ask(value)
            case "lack":
                if obtained < value:
                    raise Needs(obtained)
                return obtained
            case "never":
                raise Needs("never")
            case "refuse":
                raise RpcError(3, "execution reverted", value)
            case "break":
                raise ZeroDivisionError(value)
            case "die":
                os.kill(os.getpid(), signal.SIGKILL)
            case "grow":
                memory.append(bytearray(value))
                return len(memory)
            case "gone":
                return os.getppid()
        raise AssertionError(verb)

    return perform
