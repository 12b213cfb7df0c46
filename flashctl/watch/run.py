"""`flashctl watch`: follows a source, feeds the tracker, and passes its events on to whoever was asked for.

    source -> Tracker -> statistics, recorder, followers -> filter -> renderer, hooks -> stop rule

All of the right-hand side is told every event in order; what is slow (a node asked for sealed blocks, a
command to run) works beside the stream and never holds it up.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

from flashctl.core.output import Output, escape, wants_color, when_reader_leaves
from flashctl.core.service import Lifecycle, run_service
from flashctl.core.stream import Connected, Disconnected, mask_url
from flashctl.errors import DataError, ExitCode, Failed, TimedOut, UnavailableError, UsageError
from flashctl.watch.conditions import StopRule, parse_condition
from flashctl.watch.config import WatchConfig
from flashctl.watch.events import EVENT_NAMES, Arrival, WatchEvent
from flashctl.watch.filters import NO_RECEIPTS_HINT, make_filter
from flashctl.watch.lines import (
    FIELDS,
    JsonLines,
    RawMessages,
    Renderer,
    TemplateLines,
    TextLines,
    describe_event,
    parse_template,
)
from flashctl.watch.live import REDRAWS_PER_S, LiveView, Screen
from flashctl.watch.recording import Recorder
from flashctl.watch.sources import Item, live, replayed
from flashctl.watch.stats import StreamStats, render_stats
from flashctl.watch.terminal import Keyboard, can_live, has_unicode, terminal_size
from flashctl.watch.tracker import Tracker

__all__ = ["run", "say"]


def say(text: str) -> None:
    """A message for the person on stderr."""
    print(f"flashctl: {escape(text)}", file=sys.stderr, flush=True)


def run(config: WatchConfig) -> ExitCode:
    """Watch until something ends it; the exit code.

    Raises:
        FlashctlError: Settings that contradict each other, a source that cannot be followed.
    """
    session = Session(config)

    async def main(life: Lifecycle) -> None:
        await session.run(life)

    code = run_service(main)
    return session.code if code is ExitCode.OK else code


class Session:
    """One run."""

    def __init__(self, config: WatchConfig) -> None:
        self.config = config
        self.code = ExitCode.OK
        self.output = Output()
        self.tracker = Tracker()
        self.stats = StreamStats(config.interval_ms)
        self.filter = make_filter(config.filters)
        self.stop = StopRule(config.count, config.blocks, [parse_condition(text) for text in config.until])
        for name in config.fail_on:
            if name not in EVENT_NAMES:
                raise UsageError(
                    f"--fail-on {name!r}: no such event", hint=f"events: {', '.join(EVENT_NAMES)}"
                )
        self.mode = self._mode()
        self.view: LiveView | None = None
        self.renderer = self._renderer()
        self.recorder = self._recorder()
        self._ended = False
        self._complaints: Counter[str] = Counter()
        self._hinted = False

    # -- set-up ---------------------------------------------------------------------------------

    def _mode(self) -> str:
        config = self.config
        if config.fields or config.template is not None:
            unknown = [name for name in config.fields if name not in FIELDS]
            if unknown:
                raise UsageError(f"unknown field {unknown[0]!r}", hint=f"fields: {', '.join(FIELDS)}")
            if config.template is not None:
                parse_template(config.template)
            return "template"
        known = ("auto", "table", "line", "json", "raw", "stats")
        if config.output not in known:
            raise UsageError(f"--output {config.output!r}: not a form", hint=f"forms: {', '.join(known)}")
        if config.output == "table" and not can_live():
            raise UsageError("the live table needs a terminal", hint="-o line prints plain lines")
        if config.output != "auto":
            return config.output
        return "table" if can_live() else "line"

    def _renderer(self) -> Renderer | None:
        config = self.config
        match self.mode:
            case "json":
                return JsonLines(self.output)
            case "raw":
                return RawMessages(self.output)
            case "template":
                return TemplateLines(self.output, config.fields, config.template)
            case "line":
                # -q with a summary: the summary is what was asked for.
                if config.quiet and config.stats:
                    return None
                return TextLines(self.output, color=wants_color(sys.stdout, config.color))
            case "table":
                width, height = terminal_size()
                color = wants_color(sys.stdout, config.color)
                self.view = LiveView(self._title(), self.stats, Screen(width, height, color, has_unicode()))
        return None

    def _title(self) -> str:
        if self.config.replay is not None:
            return f"replay of {self.config.replay}"
        return mask_url(self.config.stream.url or "")

    def _recorder(self) -> Recorder | None:
        config = self.config
        if config.record is None:
            return None
        return Recorder(config.record, self._title(), raw=config.record_raw)

    def _source(self) -> AsyncIterator[Item]:
        config = self.config
        if config.replay is None:
            return live(config.stream, say)
        speed = config.speed
        if speed is None:
            speed = 1.0 if self.view is not None or config.serve is not None else 0.0
        path = None if str(config.replay) == "-" else Path(config.replay)
        return replayed(path, speed, say)

    # -- the loop -------------------------------------------------------------------------------

    async def run(self, life: Lifecycle) -> None:
        """Follow the source to its end, a condition, a signal or a limit of time."""
        when_reader_leaves(lambda: self._reader_left(life))
        follow = asyncio.ensure_future(self._follow())
        waiters = [follow, asyncio.ensure_future(life.stopped())]
        limit, timed_out = self._limit()
        ticker = asyncio.ensure_future(self._tick())
        try:
            with self._keyboard(life):
                await asyncio.wait(waiters, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (*waiters, ticker):
                if not task.done():
                    task.cancel()
            await asyncio.gather(*waiters, ticker, return_exceptions=True)
            self._finish()
        if follow.done() and not follow.cancelled() and (error := follow.exception()) is not None:
            raise error
        ran_out = not life.stopping and (not follow.done() or follow.cancelled())
        if ran_out and timed_out:
            raise TimedOut(f"nothing conclusive within {limit:g} s")

    def _limit(self) -> tuple[float | None, bool]:
        """Seconds until the end, and whether reaching them is a failure."""
        duration, timeout = self.config.duration_s, self.config.timeout_s
        if timeout is not None and (duration is None or timeout < duration):
            return timeout, True
        return duration, False

    async def _follow(self) -> None:
        async for item in self._source():
            for event in self._events(item):
                if self._dispatch(event):
                    return
        for event in self.tracker.end(time.time_ns()):
            self._dispatch(event)
        if self.config.replay is None and not self.stats.flashblocks:
            raise UnavailableError(f"{self._title()}: the connection ended before a flashblock came")
        if self.stop.waits and self.config.until:
            raise Failed("the stream ended before the condition was met")

    def _events(self, item: Item) -> list[WatchEvent]:
        now = time.time_ns()
        match item:
            case Connected(url):
                return [WatchEvent("connected", now, details={"url": url})]
            case Disconnected(url, reason, retry_in_s):
                details = {"url": url, "reason": reason, "retry_in_s": round(retry_in_s, 3)}
                return [WatchEvent("disconnected", now, details=details)]
            case Arrival():
                return self.tracker.feed(item)

    def _dispatch(self, event: WatchEvent) -> bool:
        """Tell everybody; True when the run is over."""
        if self._ended or self.stop.before(event):
            self._ended = True
            return True
        self.stats.add(event)
        if self.recorder is not None and event.arrival is not None:
            self.recorder.record(event.arrival, event.text or None, event.payload_id)
        if event.name in self.config.fail_on:
            self.code = ExitCode.FAILED
        if event.name == "undecodable":
            self._complain(event)
        shown = event if self.filter is None else self.filter.apply(event)
        if shown is not None:
            self._show(shown)
        self._ended = self.stop.after(event) if shown is not None else False
        return self._ended

    def _show(self, event: WatchEvent) -> None:
        if self.view is not None:
            self.view.show(event)
        elif self.renderer is not None:
            self.renderer.show(event)
        if (
            self.view is None
            and event.name in ("connected", "disconnected")
            and self.mode not in ("json", "line")
        ):
            if event.name == "disconnected" and not self.config.quiet:
                say(describe_event(event))

    def _complain(self, event: WatchEvent) -> None:
        """Say the first of each kind of bad frame on stderr; `--strict` makes it fatal."""
        reason = str(event.details["reason"])
        if self.config.strict:
            raise DataError(reason)
        self._complaints[reason] += 1
        if (
            self._complaints[reason] == 1
            and len(self._complaints) <= 20
            and self.mode not in ("line", "json")
        ):
            hint = event.details.get("hint")
            say(f"{reason}" + (f" ({hint})" if hint else "") + "; further ones are only counted")

    # -- the terminal ---------------------------------------------------------------------------

    def _keyboard(self, life: Lifecycle) -> Keyboard | suppress:
        view = self.view
        if view is None:
            return suppress()

        def on_key(character: str) -> None:
            if view.key(character):
                life.stop()
            self._write(view.draw(force=True))

        def on_resize() -> None:
            self._write(view.resize(*terminal_size()) + view.draw(force=True))

        return Keyboard(on_key, on_resize)

    async def _tick(self) -> None:
        """Redraw, and print periodic statistics."""
        every = self.config.stats_every_s
        due = time.monotonic() + every if every else None
        while True:
            await asyncio.sleep(1 / REDRAWS_PER_S)
            if self.view is not None:
                self._write(self.view.draw())
            if due is not None and every is not None and time.monotonic() >= due:
                due += every
                self._print_stats(sys.stderr.buffer if self.mode in ("json", "raw") else None)
            self._hint_receipts()

    def _hint_receipts(self) -> None:
        if self._hinted or self.filter is None or not self.filter.needs_receipts:
            return
        if self.stats.flashblocks >= 20 and not self.filter.saw_receipts:
            self._hinted = True
            print(f"hint: {NO_RECEIPTS_HINT}", file=sys.stderr)

    def _write(self, text: str) -> None:
        if text:
            self.output.raw(text.encode(errors="replace"))

    def _reader_left(self, life: Lifecycle) -> None:
        self.code = ExitCode.PIPE
        self.config = self.config if self.config.quiet else self.config
        life.stop()

    # -- the end --------------------------------------------------------------------------------

    def _finish(self) -> None:
        if self.view is not None:
            self._write(self.view.close())
        if self.recorder is not None:
            self.recorder.close()
            if not self.config.quiet:
                say(f"recorded {self.recorder.lines} messages to {self.recorder.path}")
        if self.renderer is not None:
            self.renderer.close()
        if self.code is not ExitCode.PIPE and (self.config.stats or self.mode == "stats"):
            self._print_stats(None)
        elif self.view is not None and not self.config.quiet and self.stats.flashblocks:
            say(next(iter(render_stats(self.stats.report()))))

    def _print_stats(self, stream: object) -> None:
        """The summary: a result on stdout in the statistics form, else a message on stderr."""
        report = self.stats.report()
        if self.mode == "json":
            self.output.json({"v": 1, "event": "stats", "recv_ns": time.time_ns(), **report})
            return
        text = "\n".join(render_stats(report, unicode=has_unicode()))
        if self.mode == "stats" or (self.config.quiet and self.config.stats):
            self.output.line(text)
        else:
            print(text, file=sys.stderr)
