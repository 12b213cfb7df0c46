"""`flashctl watch`: connects a session to its source, the terminal and its helpers, until something ends
it."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from flashctl.core.flashblocks.client import Connected, Disconnected
from flashctl.core.net.urls import mask_url
from flashctl.core.output import counted, when_reader_leaves
from flashctl.core.service.lifecycle import Lifecycle, run_service
from flashctl.core.service.printer import Printer
from flashctl.errors import DataError, ExitCode, Failed, IoError, TimedOut, UnavailableError, UsageError
from flashctl.watch.config import WatchConfig
from flashctl.watch.events import ReceivedMessage, WatchEvent
from flashctl.watch.live_view import REDRAWS_PER_S
from flashctl.watch.session import WatchSession
from flashctl.watch.sources import SourceItem, live, replayed
from flashctl.watch.terminal import Keyboard, terminal_size
from flashctl.watch.tracker import Tracker

__all__ = ["run"]

INTERRUPTED_PATIENCE_S: Final = 2.0
"""For the reader of stdout to take what is queued, after a signal."""

STALLED_READER_S: Final = 0.25
"""After a signal, a reader that takes nothing for this long is not waited for."""


def run(config: WatchConfig) -> ExitCode:
    """Watch until something ends it; the exit code.

    Raises:
        FlashctlError: Settings that contradict each other, a source that cannot be followed.
    """
    session = WatchSession(config)
    code = run_service(_Runner(session).run, is_tool=True)
    return session.code if code is ExitCode.OK else code


class _Runner:
    """The asynchronous side of a session."""

    def __init__(self, session: WatchSession) -> None:
        self.session = session
        self.config = session.config
        self._finishers: list[Callable[[], Coroutine[Any, Any, None]]] = []
        self._side_tasks: list[asyncio.Task[None]] = []
        self._enough = asyncio.Event()
        """Set when a helper has ended the run."""

    async def run(self, life: Lifecycle) -> None:
        """Follow the source to its end, a condition, a signal or a limit of time."""
        session = self.session
        unwatch = when_reader_leaves(lambda: self._reader_left(life))
        await self._start_helpers()
        follow = asyncio.ensure_future(self._follow())
        waiters = {follow, asyncio.ensure_future(life.stopped()), asyncio.ensure_future(self._enough.wait())}
        limit, is_failure = self._limit()
        ticker = asyncio.ensure_future(self._tick())
        try:
            with self._keyboard(life):
                done, _ = await asyncio.wait(waiters, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
        finally:
            unwatch()
            tasks = [*waiters, ticker, *self._side_tasks]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            try:
                for finish in self._finishers:
                    await finish()
            finally:
                await self._close(life, is_lost=follow.done() and _is_io_error(follow))
        if follow in done and (error := follow.exception()) is not None:
            if isinstance(error, BrokenPipeError):
                session.code = ExitCode.PIPE
                return
            raise error
        if not done and is_failure:
            last = session.last_disconnect
            raise TimedOut(
                f"nothing conclusive within {limit:g} s"
                + (f"; the connection: {last}" if last and not session.stats.flashblocks else "")
            )
        if life.stopping and session.code is ExitCode.OK and self._is_unanswered():
            interrupted = life.ended_by is not signal.SIGTERM
            session.code = ExitCode.INTERRUPTED if interrupted else ExitCode.TERMINATED

    def _is_unanswered(self) -> bool:
        """Whether something was asked (`--until`, `--tx`, `--send`) that is not known yet: `&&` must not
        follow."""
        if self.session.follows_one:
            return not self._enough.is_set()
        return bool(self.config.ending.until) and not self.session.stop.met

    async def _close(self, life: Lifecycle, *, is_lost: bool) -> None:
        """Complete the recording, then print what is left; a reader that takes nothing holds up the end of an
        interrupted run, or of one whose recording is lost, for a moment only.

        Raises:
            IoError: The recording is not complete.
        """
        session = self.session
        in_a_hurry = life.stopping or is_lost
        patience = STALLED_READER_S if in_a_hurry else None
        try:
            async with asyncio.timeout(INTERRUPTED_PATIENCE_S if in_a_hurry else None):
                session.finish_recording()
                if session.code is not ExitCode.PIPE:
                    session.close_view()
                    # On a terminal, messages on stderr come after what stands on stdout.
                    await session.drained(patience)
                    session.check_recording()
                    session.print_summaries()
                    await session.drained(patience)
        except BrokenPipeError:
            session.code = ExitCode.PIPE
        except TimeoutError:
            session.check_recording()

    def _limit(self) -> tuple[float | None, bool]:
        """Seconds until the end, and whether reaching them is a failure."""
        duration, timeout = self.config.ending.duration_s, self.config.ending.timeout_s
        if timeout is not None and (duration is None or timeout < duration):
            return timeout, True
        return duration, False

    async def _follow(self) -> None:
        session = self.session
        failure = None
        has_worked = self.config.ending.wait or self.config.ending.timeout_s is not None
        async with contextlib.aclosing(self._source()) as source:
            while True:
                try:
                    item = await anext(source)
                except StopAsyncIteration:
                    break
                except (DataError, IoError) as error:
                    if self.config.recording.replay is None:
                        raise
                    failure = error  # of a recording, after everything in it that can be read
                    break
                has_worked |= isinstance(item, Connected | ReceivedMessage)
                if isinstance(item, Disconnected) and not has_worked:
                    if session.take(replace(item, retry_in_s=0.0)):  # for it is not tried again
                        return
                    raise UnavailableError(
                        f"{session.title}: {item.reason}",
                        hint="--wait keeps trying; flashctl watch --check finds out why",
                    )
                if session.take(item):
                    return
                if self.config.recording.replay is not None:
                    await session.room()
        session.end_of_source()
        if failure is not None:
            raise failure
        if self.config.recording.replay is None and not session.stats.flashblocks:
            reason = session.last_disconnect or "the connection ended before a flashblock came"
            raise UnavailableError(f"{session.title}: {reason}", hint="flashctl watch --check finds out why")
        if session.follows_one:
            await asyncio.sleep(1.0)  # the node may still know
            raise Failed("the stream ended before the transaction was found")
        if self.config.ending.until and not session.stop.met:
            raise Failed("the stream ended before the condition was met")

    def _source(self) -> AsyncGenerator[SourceItem, None]:
        config = self.config
        if config.recording.replay is None:
            return live(config.stream, self.session.messages.say)
        speed = config.recording.speed
        if speed is None:
            speed = 1.0 if self.session.view is not None or config.peers.serve is not None else 0.0
        path = None if str(config.recording.replay) == "-" else Path(config.recording.replay)
        return replayed(path, speed, self.session.messages.say)

    def _reader_left(self, life: Lifecycle) -> None:
        self.session.code = ExitCode.PIPE
        life.stop()

    # -- helpers --------------------------------------------------------------------------------

    async def _start_helpers(self) -> None:
        config, session = self.config, self.session
        if config.output.plot is not None:
            self._plot(config.output.plot)
        if config.hooks.execute is not None or config.hooks.bell:
            from flashctl.watch.event_hooks import EventHook

            hook = EventHook(
                config.hooks.execute,
                config.hooks.on,
                say=_silent if config.output.quiet else session.messages.say,
                ring=session.messages.bell if config.hooks.bell else None,
            )
            session.observers.append(hook)
            self._finishers.append(hook.finish)
        if config.peers.confirm is not None:
            self._confirm(config.peers.confirm)
        if config.peers.compare:
            self._compare()
        if session.follows_one:
            await self._follow_transaction()
        if config.peers.serve is not None:
            await self._serve(config.peers.serve)

    def _plot(self, path: Path) -> None:
        from flashctl.watch.plot import Plotter

        plotter = Plotter(path, self.config.output.interval_ms)
        self.session.observers.append(plotter)

        async def draw() -> None:
            plotter.draw()
            self.session.messages.say(f"drew {path}")

        self._finishers.append(draw)

    def _confirm(self, url: str) -> None:
        from flashctl.watch.sealed_check import Confirmer

        confirmer = Confirmer(url, self.session.emit)
        self.session.observers.append(confirmer)
        self._finishers.append(confirmer.finish)

        def summary() -> tuple[str, dict[str, Any], Iterator[str]]:
            figures = confirmer.report()
            judged = counted(figures["payloads_judged"], "payload")
            text = (
                f"{figures['payloads_held']} of {judged} sealed as shown "
                f"(reorg rate {figures['reorg_rate']:.4%}), {figures['transactions_dropped']} tx dropped, "
                f"{figures['unsealed']} never sealed"
            )
            return "confirm", figures, iter((text,))

        self.session.summaries.append(summary)

    def _compare(self) -> None:
        from flashctl.watch.endpoint_comparison import Comparison, render_comparison

        config = self.config
        if config.stream.url is None or config.recording.replay is not None:
            raise UsageError("--compare needs a live stream to compare with")
        names = [mask_url(config.stream.url), *map(mask_url, config.peers.compare)]
        comparison = Comparison(names)

        class Primary:
            def see(self, event: WatchEvent) -> None:
                comparison.see(0, event)

        self.session.observers.append(Primary())
        for number, url in enumerate(config.peers.compare, 1):
            self._side_tasks.append(asyncio.ensure_future(self._follow_other(comparison, number, url)))

        def summary() -> tuple[str, dict[str, Any], Iterator[str]]:
            comparison.finish()
            report = comparison.report()
            return "compare", report, render_comparison(report)

        self.session.summaries.append(summary)

    async def _follow_other(self, comparison: Any, number: int, url: str) -> None:
        """Another endpoint of a comparison; its failure is printed, and the others go on."""
        tracker = Tracker()
        try:
            async for item in live(replace(self.config.stream, url=url), self.session.messages.say):
                if isinstance(item, Connected):
                    tracker.connected(time.time_ns())
                if isinstance(item, ReceivedMessage):
                    for event in tracker.feed(item):
                        comparison.see(number, event)
        except Exception as error:
            self.session.messages.say(f"{mask_url(url)}: {error}")

    async def _follow_transaction(self) -> None:
        from flashctl.watch.transaction_follower import TransactionFollower, TransactionOutcome

        config, session = self.config, self.session
        wanted = config.transaction
        submitted = None if wanted.submitted_at is None else int(wanted.submitted_at * 1e9)
        follower = TransactionFollower(wanted, config.peers, submitted, session.emit)
        session.observers.append(follower)
        self._finishers.append(follower.close)

        async def watch() -> None:
            await follower.finished.wait()
            if follower.result is TransactionOutcome.DROPPED:
                session.code = ExitCode.FAILED
            self._enough.set()

        async def send_and_poll() -> None:
            await follower.poll()

        if wanted.send is None:
            await follower.start()
        else:
            # Sent only once the stream is open: the flashblock that holds it may come within 200 ms.
            session.observers.append(_OnConnected(lambda: self._spawn_send(follower)))
        self._side_tasks += [asyncio.ensure_future(watch()), asyncio.ensure_future(send_and_poll())]

    def _spawn_send(self, follower: Any) -> None:
        async def send() -> None:
            try:
                await follower.start()
            except Exception as error:
                self.session.code = ExitCode.FAILED
                self.session.messages.say(f"error: {error}")
                self._enough.set()

        self._side_tasks.append(asyncio.ensure_future(send()))

    async def _serve(self, address: str) -> None:
        from flashctl.watch.republish import Republisher

        republisher = Republisher(address)
        url = await republisher.start()
        self.session.observers.append(republisher)
        self._finishers.append(republisher.finish)
        self.session.messages.say(f"serving {url}")
        if self.config.recording.replay is not None:
            # A recording can wait: its first listener should hear it from the start.
            await republisher.first_client()

    # -- the terminal ---------------------------------------------------------------------------

    def _keyboard(self, life: Lifecycle) -> AbstractContextManager[object]:
        session, view = self.session, self.session.view
        if view is None:
            return nullcontext()

        def on_key(character: str) -> None:
            if view.key(character):
                life.stop()
            session.write(view.draw(force=True))

        def on_resize() -> None:
            session.write(view.resize(*terminal_size()) + view.draw(force=True))

        return Keyboard(on_key, on_resize)

    async def _tick(self) -> None:
        """Redraw, and print periodic statistics."""
        session, every = self.session, self.config.output.stats_every_s
        due = time.monotonic() + (every or 0)
        while True:
            await asyncio.sleep(1 / REDRAWS_PER_S)
            if session.view is not None and not (isinstance(session.output, Printer) and session.output.busy):
                session.write(session.view.draw())
            if every is not None and time.monotonic() >= due:
                due += every
                session.print_stats()
            session.hint_receipts()


def _is_io_error(task: asyncio.Future[None]) -> bool:
    return not task.cancelled() and isinstance(task.exception(), IoError)


def _silent(_text: str) -> None:
    """-q."""


class _OnConnected:
    """Calls back at the first connection."""

    def __init__(self, callback: Callable[[], None]) -> None:
        self._callback: Callable[[], None] | None = callback

    def see(self, event: WatchEvent) -> None:
        if self._callback is not None and event.name in ("connected", "flashblock"):
            callback, self._callback = self._callback, None
            callback()
