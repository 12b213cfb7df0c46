"""The life of a long-running role: start, ready, drain, exit code.

    async def main(life: Lifecycle) -> None:
        server = await serve(...)                  # a port that is taken raises here: one line, exit 1
        life.on_stop(server.close)
        life.keep(lambda: follow(stream), "stream")    # begun again after a defect
    life.spawn(serve_forever(), "server")      # if it ever fails, so does the service
        life.ready()                               # every port listens
        await life.stopped()

    return run_service(main, ready_fd=common.ready_fd)

The first SIGTERM or SIGINT lets `stopped()` return; what `on_stop` registered is then closed in reverse
order within DRAIN_S, tasks are cancelled, and the process exits 0. A second signal ends it at once with 143
or 130; so does, drained, one that comes before `ready()`. SIGHUP calls what `on_reload` registered
(core/service/signals.py has the other signals).

A supervised task that raises ends the service with the exit code of its error. That is for what can never
work (a port that is taken, credentials refused at start); work on what others send is `keep`t.

`serve_status` is the small HTTP page every service shows: /livez, /healthz, /readyz, /metrics.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any, Final

from flashctl.core.net.listening import ListenFailed, listen_arguments
from flashctl.core.service import defects
from flashctl.core.service.garbage_collection import Garbage
from flashctl.core.service.log import reload_level
from flashctl.core.service.loop_turns import TurnWatch
from flashctl.core.service.metrics import EXPOSITION_TYPE, Metrics
from flashctl.core.service.signals import ENDINGS, SignalHandlers, terminal_is_gone
from flashctl.errors import ExitCode, FlashctlError, exit_code_for

__all__ = [
    "DRAIN_S",
    "Health",
    "Lifecycle",
    "StatusServer",
    "run_service",
    "serve_status",
    "status_pages",
    "with_defects",
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

MAX_REQUEST_BYTES: Final = 8192
REQUEST_TIMEOUT_S: Final = 5.0
"""For a status request to arrive in full."""


_TOLD_BY_THE_COMMAND_LINE: Final = (FlashctlError, BrokenPipeError)
"""What ends a service without a word in the log: the command line prints it, or knows that nobody reads."""


class Lifecycle:
    """What a running service tells its surroundings, and is told by them."""

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
        """Say that every port listens: once in the log, once on the `--ready-fd` of a supervisor."""
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
        if not isinstance(error, _TOLD_BY_THE_COMMAND_LINE):
            _LOG.error(
                "%s failed: %s: %s", task.get_name(), type(error).__name__, error, exc_info=_trace(error)
            )
        self._stop.set()

    def keep(self, work: Callable[[], Coroutine[Any, Any, object]], name: str) -> asyncio.Task[Any]:
        """Run `work()` beside the service and start it again, after a pause, whenever it fails with something
        that nobody foresaw: a defect behind one message must not take the role with it.

        Errors that are foreseen and final (a `FlashctlError`) end the service, as with `spawn`; `work` holds
        no state of its own that a second start would lose.
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
    """A traceback is for whoever asked for debug output."""
    return error if _LOG.isEnabledFor(logging.DEBUG) else None


Main = Callable[[Lifecycle], Awaitable[object]]


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
    if isinstance(failure, _TOLD_BY_THE_COMMAND_LINE):
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
        """Between two steps of the main thread: the loop is told, and may be held by what does not end."""
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
            _LOG.info("%s: draining, again to force", number.name)
            life.stop()
        elif number is signal.SIGHUP and life.is_ready:
            life.reload()
        else:
            _LOG.info("%s: nothing to do; SIGHUP reads settings again", number.name)


# --- the status page ---


@dataclass(frozen=True, slots=True)
class Health:
    """How a service is at the moment."""

    ready: bool
    """Whether it can answer as it should; a load balancer looks here."""
    detail: str = ""
    """Why not, or what is worth knowing; one line."""
    degraded: bool = False
    """Works, but not all of it: /healthz says 206."""


def with_defects(health: Health) -> Health:
    """`health` with a recent defect in its text; the status stays what the role says of its work.

    A leader election polls these pages: a defect that cost one message is to be read, not to move the chain
    to another machine. One that keeps a role from its work shows in that: payloads that fail, a builder
    without a block, a stream that is silent, pending state that is not followed.
    """
    told = defects.recent()
    if not told:
        return health
    detail = f"{health.detail}; {told}" if health.detail else told
    return replace(health, detail=detail)


def status_pages(metrics: Metrics, health: Callable[[], Health]) -> dict[str, Callable[[], tuple[int, str]]]:
    """/livez, /healthz, /readyz and /metrics as pages of a JSON-RPC port, answered as `serve_status` does."""

    def page(path: str) -> Callable[[], tuple[int, str]]:
        def answer() -> tuple[int, str]:
            status, _, body = _page(f"GET {path} HTTP/1.1", metrics, health)
            return int(status.split(" ", 1)[0]), body.decode()

        return answer

    return {path: page(path) for path in ("/livez", "/healthz", "/readyz", "/metrics")}


class StatusServer:
    """A running status page."""

    def __init__(self, server: asyncio.Server) -> None:
        self._server = server
        host, self.port = server.sockets[0].getsockname()[:2]
        self.url = f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    async def close(self) -> None:
        """Stop listening."""
        self._server.close()


async def serve_status(
    host: str, port: int, metrics: Metrics | None = None, health: Callable[[], Health] | None = None
) -> StatusServer:
    """Serve /livez, /healthz, /readyz and /metrics on `host:port` (0: any port).

    /livez answers 200 as long as the event loop turns. /healthz is rollup-boost's probe: 200 healthy, 206
    partly, 503 not. /readyz is 200 or 503. Plain asyncio, not uvicorn: a dozen requests a minute, and half
    of the services have no HTTP server otherwise.

    Raises:
        ListenFailed: If the address cannot be bound.
    """

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                head = await reader.readuntil(b"\r\n\r\n")
            status, kind, body = _page(head.split(b"\r\n", 1)[0].decode("latin-1"), metrics, health)
            writer.write(
                f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
                f"Connection: close\r\n\r\n".encode()
                + body
            )
            await writer.drain()
        except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError):
            pass  # whoever asked in that way does not wait for an answer
        finally:
            writer.close()

    try:
        server = await asyncio.start_server(handle, **listen_arguments(host, port), limit=MAX_REQUEST_BYTES)
    except OSError as error:
        raise ListenFailed(host, port, error) from None
    return StatusServer(server)


def _page(
    request_line: str, metrics: Metrics | None, health: Callable[[], Health] | None
) -> tuple[str, str, bytes]:
    words = request_line.split(" ")
    if len(words) != 3 or words[0] not in ("GET", "HEAD"):
        return "405 Method Not Allowed", "text/plain", b"GET only\n"
    path = words[1].partition("?")[0]
    if path == "/metrics" and metrics is not None:
        return "200 OK", EXPOSITION_TYPE, metrics.render()
    if path == "/livez":
        return "200 OK", "text/plain", b"OK\n"
    if path in ("/healthz", "/readyz"):
        state = with_defects(health() if health is not None else Health(True))
        body = (state.detail or ("OK" if state.ready else "not ready")).encode() + b"\n"
        if not state.ready:
            return "503 Service Unavailable", "text/plain", body
        if state.degraded and path == "/healthz":
            return "206 Partial Content", "text/plain", body
        return "200 OK", "text/plain", body
    return "404 Not Found", "text/plain", b"/livez /healthz /readyz /metrics\n"
