"""The life of a long-running role: start, ready, drain, exit code.

    async def main(life: Lifecycle) -> None:
        server = await serve(...)                  # a port that is taken raises here: one line, exit 1
        life.on_stop(server.close)
        life.keep(lambda: follow(stream), "stream")    # begun again after a defect
    life.spawn(serve_forever(), "server")      # if it ever fails, so does the service
        life.ready()                               # every port listens
        await life.stopped()

    return run_service(main, ready_fd=common.ready_fd)

A role is a class with such a `start`, and `run_role` is that `main` for all of them.

The first SIGTERM or SIGINT lets `stopped()` return; what `on_stop` registered is then closed in reverse
order within DRAIN_S, tasks are cancelled, and the process exits 0. A second signal ends it at once with 143
or 130; so does, drained, one that comes before `ready()`. SIGHUP calls what `on_reload` registered
(core/service/signals.py has the other signals).

A supervised task that raises ends the service with the exit code of its error. That is for what can never
work (a port that is taken, credentials refused at start); work on what others send is `keep`t.

What every service shows over HTTP is in `core.service.status`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, Protocol

from flashctl.core.service import defects
from flashctl.core.service.garbage_collection import Garbage
from flashctl.core.service.log import reload_level
from flashctl.core.service.loop_turns import TurnWatch
from flashctl.core.service.signals import ENDINGS, SignalHandlers, terminal_is_gone
from flashctl.errors import ExitCode, FlashctlError, exit_code_for

__all__ = [
    "DRAIN_S",
    "Lifecycle",
    "Role",
    "run_role",
    "run_service",
    "serve_role",
]

_LOG = logging.getLogger(__name__)

DRAIN_S: Final = 5.0
"""Seconds between the first signal and the end, however much is left to do."""

SWITCH_INTERVAL_S: Final = 0.0005
"""How long the event loop waits for the interpreter when a thread is computing (Python: 5 ms). It does so
each time it comes back from a socket, so this is what others notice of the thread."""

NOTICE_S: Final = 0.5
"""For the `main` of a service to return after a signal before it is cancelled. A tool gets DRAIN_S: its
result is made at the end (a recording to finish, a summary to print)."""

KEEP_FIRST_PAUSE_S: Final = 0.05
KEEP_LAST_PAUSE_S: Final = 5.0
"""Between a kept task's failure and its next start: doubling, from the first again once it has run for the
last."""

_REPORTED_BY_THE_COMMAND_LINE: Final = (FlashctlError, BrokenPipeError)
"""Exceptions that end a service without a log line: the command line prints them, or stdout has no reader."""


class Lifecycle:
    """A running service's readiness, reloads, signals and orderly end."""

    def __init__(self, ready_fd: int | None = None) -> None:
        self._ready_fd = ready_fd
        self._stop = asyncio.Event()
        self._closers: list[tuple[Callable[[], Awaitable[object]], str]] = []
        self._reloads: list[tuple[Callable[[], object], str]] = []
        self._tasks: set[asyncio.Task[Any]] = set()
        self.garbage = Garbage()
        """Python's collector; a role with a better moment than any calls `settle` there."""
        self.failure: BaseException | None = None
        """What a supervised task failed with."""
        self.is_ready = False
        self.ended_by: signal.Signals | None = None
        """The signal that asked for the end, if one did."""

    @property
    def stopping(self) -> bool:
        """Whether the end has been asked for."""
        return self._stop.is_set()

    async def stopped(self) -> None:
        """Return when the service should end: after a signal, `stop`, or the failure of a task."""
        await self._stop.wait()

    def stop(self) -> None:
        """Ask the service to end."""
        self._stop.set()

    def ready(self) -> None:
        """Report that every port listens: once in the log, once on the `--ready-fd` of a supervisor."""
        if self.is_ready:
            return
        self.is_ready = True
        self.garbage.begin()
        self.keep(self.garbage.keep, "garbage")
        self.on_stop(TurnWatch().close, "turns")
        _LOG.info("ready")
        if self._ready_fd is None:
            return
        try:
            os.write(self._ready_fd, b"ready\n")
            os.close(self._ready_fd)
        except OSError as error:
            _LOG.warning("cannot write to --ready-fd %d: %s", self._ready_fd, error.strerror)

    def on_stop(self, close: Callable[[], Awaitable[object]], name: str = "") -> None:
        """Await `close()` when the service ends; the last one registered is closed first."""
        self._closers.append((close, name or getattr(close, "__qualname__", "resource")))

    def on_reload(self, reload: Callable[[], object], name: str) -> None:
        """Call `reload()` at SIGHUP: to read again a file that `name` names in the log.

        It changes everything or, if it raises, nothing: what was in force stays in force.
        """
        self._reloads.append((reload, name))

    def reload(self) -> None:
        """Do what SIGHUP asks for."""
        done = []
        for reload, name in self._reloads:
            try:
                reload()
            except FlashctlError as error:
                _LOG.error("reload of %s: %s; what was in force stays", name, error)
            except Exception as error:
                defects.caught("reload", error, name)
            else:
                done.append(name)
        _LOG.info("reloaded", extra={"what": ", ".join(done) or "nothing that can be"})

    def spawn(self, work: Coroutine[Any, Any, object], name: str) -> asyncio.Task[Any]:
        """Run `work` beside the service; cancelled at the end, and if it raises, the service ends with its
        error."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if task.cancelled() or (error := task.exception()) is None:
            return
        if self.failure is None:
            self.failure = error
        if not isinstance(error, _REPORTED_BY_THE_COMMAND_LINE):
            _LOG.error(
                "%s failed: %s: %s", task.get_name(), type(error).__name__, error, exc_info=_trace(error)
            )
        self._stop.set()

    def keep(self, work: Callable[[], Coroutine[Any, Any, object]], name: str) -> asyncio.Task[Any]:
        """Run `work()` beside the service and start it again, after a pause, whenever it fails with an
        unexpected exception: a defect behind one message must not take the role with it.

        Expected errors that are final (a `FlashctlError`) end the service, as with `spawn`; `work` holds no
        state of its own that a second start would lose.
        """

        async def kept() -> None:
            pause_s = KEEP_FIRST_PAUSE_S
            while True:
                started = asyncio.get_running_loop().time()
                try:
                    await work()
                    return
                except FlashctlError:
                    raise
                except Exception as error:
                    defects.caught(name, error)
                if asyncio.get_running_loop().time() - started > KEEP_LAST_PAUSE_S:
                    pause_s = KEEP_FIRST_PAUSE_S
                await asyncio.sleep(pause_s)
                pause_s = min(KEEP_LAST_PAUSE_S, 2 * pause_s)

        return self.spawn(kept(), name)

    async def drain(self) -> None:
        """Close and cancel everything, within DRAIN_S."""
        self._stop.set()
        try:
            async with asyncio.timeout(DRAIN_S):
                while self._closers:
                    close, name = self._closers.pop()
                    try:
                        await close()
                    except Exception as error:
                        _LOG.warning("closing %s: %s", name, error)
                tasks = list(self._tasks)
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        except TimeoutError:
            _LOG.warning("not everything closed within %g s", DRAIN_S)


def _trace(error: BaseException) -> Any:
    """The traceback, at debug level only."""
    return error if _LOG.isEnabledFor(logging.DEBUG) else None


Main = Callable[[Lifecycle], Awaitable[object]]


class Role(Protocol):
    """A long-running role: its constructor checks the settings and opens nothing that listens."""

    async def start(self, life: Lifecycle) -> None:
        """Open every port, register what closes them, and begin to work; return when all of them listen.

        Raises:
            FlashctlError: If a port is taken, or a setting turns out to be unusable.
        """


async def serve_role(role: Role, life: Lifecycle) -> None:
    """Start a role and return when the end is asked for; the caller drains."""
    await role.start(life)
    life.ready()
    await life.stopped()


def run_role(make: Callable[[], Role], *, ready_fd: int | None = None) -> ExitCode:
    """Run a role from its first port to a signal; the exit code.

    `make` is called on the event loop, because what a role is made of may need one.

    Raises:
        FlashctlError: As `run_service`.
    """

    async def main(life: Lifecycle) -> None:
        await serve_role(make(), life)

    return run_service(main, ready_fd=ready_fd)


def run_service(main: Main, *, ready_fd: int | None = None, is_tool: bool = False) -> ExitCode:
    """Run `main` on uvloop until it returns, fails, or a signal asks for the end; the exit code.

    A tool has a person before it or a script behind it: it has nothing to reload, so that SIGHUP is its end,
    and it is never `ready`.

    Raises:
        FlashctlError: What `main` or a supervised task failed with, for the command line to print.
    """
    import uvloop

    sys.setswitchinterval(SWITCH_INTERVAL_S)
    return uvloop.run(_supervise(main, ready_fd, is_tool=is_tool))


async def _supervise(main: Main, ready_fd: int | None, *, is_tool: bool) -> ExitCode:
    life = Lifecycle(ready_fd)
    life.on_reload(reload_level, "log level")
    handlers = SignalHandlers(_Interruptions(life, is_tool=is_tool).on_signal)
    try:
        failure = await _run_to_the_end(main, life, DRAIN_S if is_tool else NOTICE_S)
    finally:
        handlers.restore()
    if isinstance(failure, _REPORTED_BY_THE_COMMAND_LINE):
        raise failure
    if failure is not None:
        if failure is not life.failure:
            _LOG.error("%s: %s", type(failure).__name__, failure, exc_info=_trace(failure))
        return max(ExitCode.FAILED, exit_code_for(failure))
    if life.ended_by is not None and not life.is_ready and not is_tool:
        return _FORCED[life.ended_by]
    return ExitCode.OK


async def _run_to_the_end(main: Main, life: Lifecycle, notice_s: float) -> BaseException | None:
    """Run, drain, and return what failed."""
    runner = asyncio.ensure_future(main(life))
    stopper = asyncio.ensure_future(life.stopped())
    failure: BaseException | None = None
    try:
        await asyncio.wait({runner, stopper}, return_when=asyncio.FIRST_COMPLETED)
        if not runner.done():
            await asyncio.wait({runner}, timeout=notice_s if life.failure is None else 0.1)
    finally:
        stopper.cancel()
        runner.cancel()
        results = await asyncio.gather(runner, return_exceptions=True)
        if isinstance(results[0], BaseException) and not isinstance(results[0], asyncio.CancelledError):
            failure = results[0]
        await life.drain()
    return life.failure or failure


_FORCED: Final = {signal.SIGTERM: ExitCode.TERMINATED, signal.SIGINT: ExitCode.INTERRUPTED}


class _Interruptions:
    """What signals do to a running service."""

    def __init__(self, life: Lifecycle, *, is_tool: bool) -> None:
        self._life = life
        self._is_tool = is_tool
        self._loop = asyncio.get_running_loop()

    def on_signal(self, number: signal.Signals) -> None:
        """Between two steps of the main thread: passes the signal to the loop, which may be blocked."""
        if number is signal.SIGHUP and (self._is_tool or terminal_is_gone()):
            number = signal.SIGTERM
        if number in ENDINGS:
            if self._life.stopping or self._life.ended_by is not None:
                # No clean-up, no flushing: the operator asked twice.
                os._exit(_FORCED[number])
            self._life.ended_by = number
        self._loop.call_soon_threadsafe(self._act, number)

    def _act(self, number: signal.Signals) -> None:
        life = self._life
        if number in ENDINGS:
            _LOG.info("%s: draining; a second signal exits at once", number.name)
            life.stop()
        elif number is signal.SIGHUP and life.is_ready:
            life.reload()
        else:
            _LOG.info("%s: nothing to do; SIGHUP reads settings again", number.name)
