"""The live view: payloads with a row per flashblock, newest payload on top, redrawn in place.

The view owns the last lines of the terminal and nothing else: what no longer fits is printed above it once
and scrolls away like any output, so the scrollback holds the whole run. It draws at most ten times a second
and only when something changed; the terminal is asked to show each redraw at once (synchronised output),
which keeps it calm.

Pure text: `frame()` returns lines, `draw()` returns what to write. The runner owns the terminal.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from flashctl.core.output import counted, escape
from flashctl.errors import UsageError
from flashctl.lru import Lru
from flashctl.watch.events import WatchEvent
from flashctl.watch.line_output import describe_event, short_id
from flashctl.watch.live_rows import PayloadRows, RowEntry, Screen, column_titles, row_text
from flashctl.watch.stream_stats import StreamStats, sparkline
from flashctl.watch.view_filter import ViewFilter

__all__ = ["LiveView"]

REDRAWS_PER_S: Final = 10

_RED, _MAGENTA, _BOLD, _DIM = "\x1b[31m", "\x1b[35m", "\x1b[1m", "\x1b[2m"
_SYNC_BEGIN, _SYNC_END = "\x1b[?2026h", "\x1b[?2026l"

_MAX_PAYLOADS: Final = 64
_MAX_WAITING: Final = 5_000
"""Payloads kept while the view is paused: two hours and a half of two-second blocks."""
_MAX_ROWS: Final = 400
"""Rows kept of one payload; no chain makes forty, and no terminal shows more."""
MAX_KEPT_BYTES: Final = 32 * 1024 * 1024
"""Of messages whose transactions are kept for filters; older rows keep their figures only."""
_KEY_LINE_FROM: Final = 16
"""Lines of a terminal with room for a line of keys."""
_LEAST_SPARKLINE: Final = 8

_KEYS: Final = "space pause   / filter   ? keys   q quit"
_HELP: Final = (
    "space  pause or resume",
    "/      filter: Enter applies it, empty shows all, Esc keeps the old one",
    "         0x...  hash, address, selector, payload id     #123  block",
    "         eip1559, deposit, ...  type     transfer(address,uint256)  selector",
    "         gap, replaced, joined, ...  mark     several words: all of them",
    "         from: to: address: selector: topic: type: min-value: index: tx: payload: block:",
    "?      show or hide these keys",
    "q      quit; the last screen stays",
)


class LiveView:
    """Collects events and lays out the screen."""

    def __init__(self, title: str, stats: StreamStats, screen: Screen) -> None:
        self.title = title
        self.stats = stats
        self.screen = screen
        self.paused = False
        self.filter = ViewFilter("")
        self.filter_error: str | None = None
        """What is wrong with the filter typed last; everything is shown then."""
        self.typing: str | None = None
        """What is being typed after `/`."""
        self._shows_keys = False
        self._blocks = Lru[str, PayloadRows](_MAX_WAITING)
        self._whole: deque[RowEntry] = deque()
        """Rows that have their transactions, oldest first."""
        self._kept_bytes = 0
        self._status = "connecting"
        self._drawn = 0
        """Lines of the region as drawn last."""
        self._changed = True

    # -- events ---------------------------------------------------------------------------------

    def show(self, event: WatchEvent) -> None:
        """Take one event in; nothing is drawn yet."""
        self._changed = True
        if event.name in ("connected", "disconnected", "undecodable"):
            is_this = event.name == "connected" and event.details.get("url") == self.title
            self._status = "connected" if is_this else escape(describe_event(event))
            return
        if event.payload_id is None or (event.name != "flashblock" and event.payload_id not in self._blocks):
            if event.name != "closed":
                self._note_newest(event)
            return
        block = self._blocks.peek(event.payload_id)
        if block is None:
            block = PayloadRows(event.payload_id, event.block)
            self._blocks.put(event.payload_id, block)
        if event.row is not None and event.index is not None:
            block.number = event.block
            block.rows.append(self._entry(event))
            if len(block.rows) > _MAX_ROWS:
                del block.rows[: _MAX_ROWS // 2]
        elif event.name == "closed":
            block.closed = event.details["reason"]
        else:
            block.notes.append((len(block.rows), event.name, escape(describe_event(event))))

    def _entry(self, event: WatchEvent) -> RowEntry:
        """A row; the transactions of the oldest go where too much is kept: a view may be paused for hours."""
        assert event.row is not None and event.index is not None
        entry = RowEntry(event.index, event.row, len(event.text))
        self._whole.append(entry)
        self._kept_bytes += entry.size
        while self._kept_bytes > MAX_KEPT_BYTES and len(self._whole) > 1:
            oldest = self._whole.popleft()
            self._kept_bytes -= oldest.size
            oldest.strip()
        return entry

    def _note_newest(self, event: WatchEvent) -> None:
        text = escape(describe_event(event))
        if self._blocks:
            newest = self._blocks.values()[-1]
            newest.notes.append((len(newest.rows), event.name, text))
        else:
            self._status = text

    # -- layout ---------------------------------------------------------------------------------

    def header(self) -> list[str]:
        """The lines above the payloads."""
        screen = self.screen
        state = "PAUSED (space resumes)" if self.paused else self._status
        lines = [screen.paint(_BOLD, screen.clip(f"{self.title}  {state}")), self._summary()]
        if self.typing is not None:
            lines.append(screen.clip(f"/{self.typing}_"))
        elif self.filter_error is not None:
            lines.append(screen.paint(_RED, screen.clip(f"filter not applied: {escape(self.filter_error)}")))
        elif self.filter:
            lines.append(screen.clip(self._filter_line()))
        if self._shows_keys:
            lines += [screen.paint(_DIM, screen.clip(f"  {line}")) for line in _HELP]
        return lines

    def _summary(self) -> str:
        """The figures of the run, and the last intervals; on a narrow screen fewer figures."""
        stats, screen = self.stats, self.screen
        latest = stats.interval.report()
        events = stats.events
        lost = stats.missing + events["duplicate"] + events["replaced"] + events["equivocation"]
        trouble = f"{stats.missing} missing, {events['replaced']} replaced" if lost else "no losses"
        pace = [f"p50 {latest['p50']:.0f} ms", f"p99 {latest['p99']:.0f}"] if latest["count"] else []
        counts = [f"{stats.flashblocks} fb", counted(stats.payloads, "payload"), f"{stats.transactions} tx"]
        parts = [*counts, *(pace or ["no intervals yet"]), trouble]
        dropped_first = [counts[2], counts[1], *pace[1:], counts[0]]
        while dropped_first and len("  ".join(parts)) + _LEAST_SPARKLINE + 3 > screen.width:
            parts.remove(dropped_first.pop(0))
        text = "  ".join(parts)
        ticks = max(0, min(60 if screen.wide else 30, screen.width - 3 - len(text)))
        recent = list(stats.recent)[-ticks:] if ticks else []
        return screen.clip(f"{text}  {sparkline(recent, unicode=screen.unicode)}")

    def _filter_line(self) -> str:
        blocks = self._blocks.values()
        shown = sum(len(block.passing(self.filter)) for block in blocks)
        total = sum(len(block.rows) for block in blocks)
        return (
            f"filter: {escape(self.filter.text)}  {shown} of {counted(total, 'flashblock')} shown  "
            "(/ then enter clears)"
        )

    def block_lines(self, block: PayloadRows) -> list[str]:
        """The lines of one payload: a heading, then a row per flashblock, oldest first."""
        screen = self.screen
        total = block.rows[-1].row.total_transactions if block.rows else 0
        first = block.rows[0].row if block.rows else None
        heading = f"#{block.number} {block.payload_id if screen.wide else short_id(block.payload_id)}"
        if first is not None and first.base_fee is not None:
            change = "" if first.base_fee_change is None else f" {first.base_fee_change:+.1%}"
            heading += f"  base fee {first.base_fee / 1e9:.6g} gwei{change}"
        if block.closed is not None:
            heading += f"  {len(block.rows)} fb {total if total is not None else '?'} tx"
            heading += "" if block.closed in ("next", "ended") else f"  {block.closed.upper()}"
        lines = [screen.paint(_BOLD if block.closed is None else "", screen.clip(heading))]
        notes = iter(block.notes)
        note = next(notes, None)
        for position, entry in enumerate(block.rows):
            while note is not None and note[0] <= position:
                lines.append(self._note(note))
                note = next(notes, None)
            if entry.passes(block.heading, self.filter):
                line = screen.clip(row_text(entry, screen))
                lines.append(screen.paint(_RED, line) if entry.row.marks else line)
        while note is not None:
            lines.append(self._note(note))
            note = next(notes, None)
        return lines

    def _note(self, note: tuple[int, str, str]) -> str:
        _, name, text = note
        sign = "R" if name in ("replaced", "rewound", "missed") else "!"
        color = _MAGENTA if sign == "R" else _RED
        return self.screen.paint(color, self.screen.clip(f"    {sign} {text}"))

    def frame(self) -> list[str]:
        """The region: header, column titles, then as many payloads as fit, newest first, and the keys."""
        screen = self.screen
        top = [*self.header(), screen.paint(_DIM, screen.clip(column_titles(screen)))]
        lines, room = list(top), self._room()
        for block in reversed(self._blocks.values()):
            if not self._matches(block):
                continue
            part = self.block_lines(block)
            if len(part) > room:
                if len(lines) == len(top):  # even the newest alone is too tall: keep its heading and its tail
                    lines += [part[0], *part[-(room - 1) :]] if room > 1 else part[: max(0, room)]
                break
            lines += part
            room -= len(part)
        if self._has_key_line():
            lines.append(screen.paint(_DIM, screen.clip(_KEYS)))
        # One less than the screen has: the line end of the last one would scroll the first away.
        return lines[: max(1, screen.height - 1)]

    def _room(self) -> int:
        """Lines for payloads."""
        return self.screen.height - len(self.header()) - 2 - self._has_key_line()

    def _has_key_line(self) -> bool:
        return self.screen.height >= _KEY_LINE_FROM and not self._shows_keys

    def _matches(self, block: PayloadRows) -> bool:
        return not self.filter or bool(block.passing(self.filter))

    # -- drawing --------------------------------------------------------------------------------

    def draw(self, *, force: bool = False) -> str:
        """What to write to bring the screen up to date; empty when nothing has changed."""
        if not force and (not self._changed or self.paused):
            return ""
        self._changed = False
        departed = self._departed()
        lines = self.frame()
        parts = [_SYNC_BEGIN, self._home()]
        parts += [f"{line}\x1b[K\n" for line in departed]
        parts += [f"{line}\x1b[K\n" for line in lines]
        parts += ["\x1b[J", _SYNC_END]
        self._drawn = len(lines)
        return "".join(parts)

    def _home(self) -> str:
        """Back to the first line of the region."""
        return f"\r\x1b[{self._drawn}A" if self._drawn else "\r"

    def _departed(self) -> list[str]:
        """The lines of payloads that leave the region for the scrollback, oldest first."""
        room = self._room()
        keep = 0
        for block in reversed(self._blocks.values()):
            room -= len(self.block_lines(block))
            if room < 0 and keep:
                break
            keep += 1
        keep = min(keep, _MAX_PAYLOADS)
        lines: list[str] = []
        for payload_id, block in self._blocks.items()[: -max(1, keep)]:
            self._blocks.pop(payload_id)
            if self._matches(block):
                lines += self.block_lines(block)
        return lines

    def resize(self, width: int, height: int) -> str:
        """A new size: wipe the visible part, since lines have been wrapped anew; what to write."""
        self.screen = Screen(width, height, self.screen.color, self.screen.unicode)
        self._drawn = 0
        self._changed = True
        return "\x1b[H\x1b[2J"

    def close(self) -> str:
        """Everything that is still on the region, as lasting output; what to write."""
        lines: list[str] = []
        for block in self._blocks.values():
            if self._matches(block):
                lines += self.block_lines(block)
        self._blocks.clear()
        text = self._home() + "".join(f"{line}\x1b[K\n" for line in lines) + "\x1b[J"
        self._drawn = 0
        return text

    # -- keys -----------------------------------------------------------------------------------

    def key(self, character: str) -> bool:
        """Handle one key; True ends the view."""
        self._changed = True
        if self.typing is not None:
            self._type(character)
            return False
        match character:
            case "q" | "\x03" | "\x04":
                return True
            case " ":
                self.paused = not self.paused
            case "/":
                self.typing = ""
            case "?":
                self._shows_keys = not self._shows_keys
        return False

    def _apply(self, text: str) -> None:
        self.filter_error = None
        try:
            self.filter = ViewFilter(text)
        except UsageError as error:
            self.filter, self.filter_error = ViewFilter(""), str(error)

    def _type(self, character: str) -> None:
        assert self.typing is not None
        if character in ("\r", "\n"):
            self._apply(self.typing)
            self.typing = None
        elif character == "\x1b":
            self.typing = None
        elif character in ("\x7f", "\b"):
            self.typing = self.typing[:-1]
        elif character.isprintable() and len(self.typing) < 160:
            self.typing += character
