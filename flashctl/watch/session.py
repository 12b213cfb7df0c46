"""One run of watch: what each event of the stream passes through, and what is printed.

    event -> statistics -> recorder, -> filter -> output -> hooks, confirmer, follower, ... -> stop conditions

Synchronous and in order: an event has passed through all of it before the next one begins. What is slow works
beside the stream and reports back through `emit`, which takes the same path.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from flashctl.core.flashblocks.client import Connected, Disconnected
from flashctl.core.net.urls import mask_url
from flashctl.core.output import counted, wants_color
from flashctl.core.service import defects
from flashctl.core.service.printer import Printer, live_output
from flashctl.errors import DataError, ExitCode, FlashctlError, UsageError
from flashctl.watch.config import WatchConfig
from flashctl.watch.distinct_files import check_distinct
from flashctl.watch.event_hooks import expand_events
from flashctl.watch.events import ReceivedMessage, WatchEvent
from flashctl.watch.filters import NO_RECEIPTS_HINT, make_filter
from flashctl.watch.line_output import (
    FIELDS,
    JsonLines,
    RawMessages,
    Renderer,
    TemplateLines,
    TextLines,
    describe_event,
    head_of,
    parse_template,
    to_json,
)
from flashctl.watch.live_rows import Screen
from flashctl.watch.live_view import LiveView
from flashctl.watch.messages import Messages
from flashctl.watch.recording import Recorder
from flashctl.watch.sources import SourceItem
from flashctl.watch.stop_conditions import StopRule, parse_condition
from flashctl.watch.stream_stats import StreamStats, render_stats
from flashctl.watch.terminal import can_live, has_unicode, terminal_size
from flashctl.watch.tracker import Tracker

__all__ = ["Observer", "WatchSession"]

_FORMS = ("auto", "table", "line", "json", "raw", "stats")
_MAX_COMPLAINTS = 20
"""Different bad frames that are said on stderr; a hostile stream must not fill a log."""


class Observer(Protocol):
    """Takes every event of a run."""

    def see(self, event: WatchEvent) -> None:
        """Take it in, without waiting for anything."""
        ...


class WatchSession:
    """The state of one run.

    Raises:
        UsageError: Settings that contradict each other. IoError: The recording cannot be created.
    """

    def __init__(self, config: WatchConfig) -> None:
        self.config = config
        self.code = ExitCode.OK
        check_distinct(config)
        self.output = live_output()
        self.messages = Messages()
        self.tracker = Tracker()
        self.stats = StreamStats(config.output.interval_ms)
        self.filter = make_filter(config.filters)
        ending = config.ending
        conditions = [parse_condition(text) for text in ending.until]
        self.stop = StopRule(ending.count, ending.blocks, conditions)
        self.fail_on = expand_events(config.ending.fail_on, "--fail-on")
        self.observers: list[Observer] = []
        self.summaries: list[Callable[[], tuple[str, dict[str, Any], Iterator[str]]]] = []
        """Further parts of the summary: name, figures, lines of text."""
        self.follows_one = config.transaction.tx is not None or config.transaction.send is not None
        self.mode = self._mode()
        self.view: LiveView | None = None
        self.renderer = self._renderer()
        self.recorder = self._recorder()
        self.ended = False
        self.last_disconnect: str | None = None
        self._complaints: set[str] = set()
        self._hinted = False

    @property
    def records_to_stdout(self) -> bool:
        """Whether stdout is the recording, so that nothing else may be printed there."""
        return str(self.config.recording.path) == "-"

    @property
    def _has_other_result(self) -> bool:
        """Whether a run without a form of output named has its result elsewhere than in lines: -q then leaves
        the lines out."""
        config = self.config
        if config.output.stats or config.peers.compare:
            return True
        elsewhere = (config.recording.path, config.peers.serve, config.output.plot, config.hooks.execute)
        return config.output.form == "auto" and any(setting is not None for setting in elsewhere)

    @property
    def title(self) -> str:
        """What is being watched, without secrets."""
        if self.config.recording.replay is not None:
            return f"replay of {self.config.recording.replay}"
        return mask_url(self.config.stream.url or "")

    # -- set-up ---------------------------------------------------------------------------------

    def _mode(self) -> str:
        config = self.config
        if self.records_to_stdout:
            if config.output.fields or config.output.template is not None or config.output.form != "auto":
                raise UsageError("--record - and --output both want stdout", hint="record to a file")
            return "none"
        if config.output.fields or config.output.template is not None:
            unknown = [name for name in config.output.fields if name not in FIELDS]
            if unknown:
                raise UsageError(f"unknown field {unknown[0]!r}", hint=f"fields: {', '.join(FIELDS)}")
            if config.output.template is not None:
                parse_template(config.output.template)
            return "template"
        if config.output.form not in _FORMS:
            raise UsageError(
                f"--output {config.output.form!r}: not a form", hint=f"forms: {', '.join(_FORMS)}"
            )
        if config.output.form == "table" and not can_live():
            raise UsageError("the live table needs a terminal", hint="-o line prints plain lines")
        if config.output.form != "auto":
            return config.output.form
        return "table" if can_live() and not self.follows_one and not config.output.quiet else "line"

    def _renderer(self) -> Renderer | None:
        config = self.config
        match self.mode:
            case "json":
                return JsonLines(self.output)
            case "raw":
                return RawMessages(self.output)
            case "template":
                return TemplateLines(self.output, config.output.fields, config.output.template)
            case "line":
                if config.output.quiet and self._has_other_result:
                    return None
                return TextLines(self.output, color=wants_color(sys.stdout, config.output.color))
            case "table":
                width, height = terminal_size()
                color = wants_color(sys.stdout, config.output.color)
                self.view = LiveView(self.title, self.stats, Screen(width, height, color, has_unicode()))
        return None

    def _recorder(self) -> Recorder | None:
        recording = self.config.recording
        if recording.path is None:
            return None
        if self.records_to_stdout:
            return Recorder(recording.path, self.title, raw=recording.raw, stdout=self.output)
        return Recorder(recording.path, self.title, raw=recording.raw)

    # -- events ---------------------------------------------------------------------------------

    def take(self, item: SourceItem) -> bool:
        """Everything that follows from one item of the source; True when the run is over."""
        return any(self._survive(event) for event in self._events(item))

    def _survive(self, event: WatchEvent) -> bool:
        """Dispatch; an unforeseen error costs the event, not the run."""
        try:
            return self.dispatch(event)
        except (FlashctlError, OSError):
            raise  # --strict, a full disk, a reader that left
        except Exception as error:
            defects.caught("watch.session", error, event.name)
            return self.ended

    def end_of_source(self) -> None:
        """The source has nothing more."""
        for event in self.tracker.end(self.stats.ended_ns or time.time_ns()):
            self._survive(event)

    def emit(self, event: WatchEvent) -> None:
        """Take an event of a helper beside the stream."""
        self._survive(event)

    def _events(self, item: SourceItem) -> list[WatchEvent]:
        match item:
            case Connected(url):
                self.tracker.connected(time.time_ns())
                return [WatchEvent("connected", time.time_ns(), details={"url": url})]
            case Disconnected(url, reason, retry_in_s):
                self.last_disconnect = reason
                details = {"url": url, "reason": reason, "retry_in_s": round(retry_in_s, 3)}
                return [WatchEvent("disconnected", time.time_ns(), details=details)]
            case ReceivedMessage():
                return self.tracker.feed(item)

    def dispatch(self, event: WatchEvent) -> bool:
        """Pass an event through every part; True when the run is over."""
        if self.ended or self.stop.before(event):
            self.ended = True
            return True
        self.stats.add(event)
        if self.recorder is not None and event.arrival is not None:
            self.recorder.record(event.arrival, event.text or None, event.payload_id)
        if event.name in self.fail_on:
            self.code = ExitCode.FAILED
        if event.name == "undecodable":
            self._complain(event)
        shown = event if self.filter is None else self.filter.apply(event)
        if shown is not None:
            self._show(shown)
        for observer in self.observers:
            observer.see(event)
        if shown is not None:
            self.ended = self.stop.after(event)
        return self.ended

    def _show(self, event: WatchEvent) -> None:
        if self.follows_one and event.name not in ("tx", "disconnected"):
            return
        if self.view is not None:
            self.view.show(event)
        elif self.renderer is not None:
            self.renderer.show(event)
        silent = self.renderer is None or self.mode in ("raw", "template")
        if silent and event.name == "disconnected" and self.view is None and not self.config.output.quiet:
            self.messages.say(describe_event(event))

    def _complain(self, event: WatchEvent) -> None:
        """Say the first of each kind of bad frame on stderr; `--strict` makes it fatal."""
        reason = str(event.details["reason"])
        if self.config.ending.strict:
            raise DataError(reason)
        if reason in self._complaints or len(self._complaints) >= _MAX_COMPLAINTS:
            return
        self._complaints.add(reason)
        if self.mode not in ("line", "json", "table"):
            hint = event.details.get("hint")
            self.messages.say(
                f"{reason}" + (f" ({hint})" if hint else "") + "; further ones are only counted"
            )

    def hint_receipts(self) -> None:
        """Say once that a filter by topic cannot work on this stream."""
        if self._hinted or self.filter is None or not self.filter.needs_receipts:
            return
        if self.stats.flashblocks >= 20 and not self.filter.saw_receipts:
            self._hinted = True
            self.messages.text(f"hint: {NO_RECEIPTS_HINT}")

    # -- output ---------------------------------------------------------------------------------

    def write(self, text: str) -> None:
        """Terminal output of the live view."""
        if text:
            self.output.raw(text.encode(errors="replace"))

    def finish_recording(self) -> None:
        """Complete the file of --record.

        Raises:
            IoError: The disk refuses.
        """
        if self.recorder is not None:
            self.recorder.close()

    def check_recording(self) -> None:
        """After the last wait for its reader.

        Raises:
            IoError: The end of the recording is lost.
        """
        if self.recorder is not None:
            self.recorder.check_complete()

    def close_view(self) -> None:
        """Leave what the live view shows as lasting output."""
        if self.view is not None:
            self.write(self.view.close())

    def print_summaries(self) -> None:
        """Print the summaries, on stdout where they are the result."""
        if self.recorder is not None and not self.config.output.quiet:
            messages = counted(self.recorder.lines, "message")
            self.messages.say(f"recorded {messages} to {self.recorder.path}")
        if self.config.output.stats or self.mode == "stats":
            self.print_stats()
        elif self.view is not None and not self.config.output.quiet and self.stats.flashblocks:
            self.messages.say(next(iter(render_stats(self.stats.report()))))
        for summary in self.summaries:
            name, report, lines = summary()
            self._print_summary(name, report, lines)
        if isinstance(self.output, Printer) and self.output.skipped:
            skipped = counted(self.output.skipped, "line")
            self.messages.say(f"stdout was read too slowly: {skipped} not printed")

    async def room(self) -> None:
        """Wait for the readers of stdout and of the recording, where the source can wait too."""
        if self.recorder is not None:
            await self.recorder.room()
        if isinstance(self.output, Printer) and self.output.is_full:
            await self.output.room()

    async def drained(self, patience_s: float | None) -> None:
        """Wait until all output is written, or its reader takes nothing for `patience_s`.

        Raises:
            OSError: The reader of stdout has gone away.
        """
        if self.recorder is not None:
            await self.recorder.drained(patience_s)
        if isinstance(self.output, Printer):
            await self.output.drained(patience_s)
        await self.messages.drained(patience_s)

    def print_stats(self) -> None:
        """The statistics so far."""
        report = self.stats.report()
        self._print_summary("stats", report, render_stats(report, unicode=has_unicode()))

    def _print_summary(self, name: str, report: dict[str, Any], lines: Iterator[str]) -> None:
        """On stdout where a summary is the result, else on stderr."""
        if self.mode == "json":
            self.output.raw(to_json(head_of(name, time.time_ns()) | report) + b"\n")
            return
        text = "\n".join(lines)
        if self.mode == "stats" or (self.renderer is None and self.view is None and self.mode != "none"):
            self.output.line(text)
        elif not self.config.output.quiet or name != "confirm":
            self.messages.text(text)
