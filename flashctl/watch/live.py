"""The live view: payloads with a row per flashblock, newest payload on top, redrawn in place.

The view owns the last lines of the terminal and nothing else: what no longer fits is printed above it once
and scrolls away like any output, so the scrollback holds the whole run. It draws at most ten times a second
and only when something changed; the terminal is asked to show each redraw at once (synchronised output),
which keeps it calm.

Pure text: `frame()` returns lines, `draw()` returns what to write. The runner owns the terminal.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

from flashctl.core.flashblocks.wire import Diff, Flashblock, Metadata
from flashctl.core.output import escape
from flashctl.lru import Lru
from flashctl.watch.events import Row, WatchEvent
from flashctl.watch.lines import describe_event, gas_text, short_id
from flashctl.watch.stats import StreamStats, sparkline

__all__ = ["LiveView", "Screen", "fill_bar"]

REDRAWS_PER_S: Final = 10

_RED, _MAGENTA, _BOLD, _DIM, _RESET = "\x1b[31m", "\x1b[35m", "\x1b[1m", "\x1b[2m", "\x1b[0m"
_SYNC_BEGIN, _SYNC_END = "\x1b[?2026h", "\x1b[?2026l"

_EIGHTHS: Final = " ▏▎▍▌▋▊▉█"
_NARROW_BELOW: Final = 100
_MAX_PAYLOADS: Final = 64
_MAX_WAITING: Final = 5_000
"""Payloads kept while the view is paused: two hours and a half of two-second blocks."""
_MAX_ROWS: Final = 400
"""Rows kept of one payload; no chain makes forty, and no terminal shows more."""
_NOTHING: Final = Flashblock("0x", 0, None, Diff((), 0), Metadata())


@dataclass(frozen=True, slots=True)
class Screen:
    """What the terminal can show."""

    width: int = 80
    height: int = 24
    color: bool = True
    unicode: bool = True

    @property
    def wide(self) -> bool:
        return self.width >= _NARROW_BELOW

    def paint(self, color: str, text: str) -> str:
        return f"{color}{text}{_RESET}" if self.color and text else text


def fill_bar(share: float, width: int, *, unicode: bool = True) -> str:
    """A bar of `width` columns filled to `share`, in eighths of a column where the terminal has them."""
    share = min(1.0, max(0.0, share))
    if not unicode:
        filled = round(share * width)
        return "#" * filled + "." * (width - filled)
    eighths = round(share * width * 8)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (_EIGHTHS[rest] if rest else "")).ljust(width)


@dataclass(slots=True)
class _Block:
    """One payload on the screen."""

    payload_id: str
    number: int | None
    rows: list[tuple[int, Row]] = field(default_factory=list)
    notes: list[tuple[int, str, str]] = field(default_factory=list)
    """After how many rows, event name, text."""
    closed: str | None = None


class LiveView:
    """Collects events and lays out the screen."""

    def __init__(self, title: str, stats: StreamStats, screen: Screen) -> None:
        self.title = title
        self.stats = stats
        self.screen = screen
        self.paused = False
        self.needle = ""
        """Text that rows must match (`/`): part of a block number, payload id or mark."""
        self.typing: str | None = None
        """What is being typed after `/`."""
        self._blocks = Lru[str, _Block](_MAX_WAITING)
        self._status = "connecting"
        self._drawn = 0
        """Lines of the region as drawn last."""
        self._changed = True

    # -- events ---------------------------------------------------------------------------------

    def show(self, event: WatchEvent) -> None:
        """Take one event in; nothing is drawn yet."""
        self._changed = True
        if event.name in ("connected", "disconnected", "undecodable"):
            self._status = escape(describe_event(event))
            return
        if event.payload_id is None or (event.name != "flashblock" and event.payload_id not in self._blocks):
            if event.name != "closed":
                self._note_newest(event)
            return
        block = self._blocks.peek(event.payload_id)
        if block is None:
            block = _Block(event.payload_id, event.block)
            self._blocks.put(event.payload_id, block)
        if event.row is not None and event.index is not None:
            block.number = event.block
            # Without the transactions: a view that is paused for an hour must not keep an hour of them.
            block.rows.append((event.index, replace(event.row, flashblock=_NOTHING)))
            if len(block.rows) > _MAX_ROWS:
                del block.rows[: _MAX_ROWS // 2]
        elif event.name == "closed":
            block.closed = event.details["reason"]
        else:
            block.notes.append((len(block.rows), event.name, escape(describe_event(event))))

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
        stats, screen = self.stats, self.screen
        latest = stats.interval.report()
        pace = (
            f"p50 {latest['p50']:.0f} p99 {latest['p99']:.0f} ms" if latest["count"] else "no intervals yet"
        )
        losses = (
            stats.missing
            + stats.events["duplicate"]
            + stats.events["replaced"]
            + stats.events["equivocation"]
        )
        trouble = f"{stats.missing} missing, {stats.events['replaced']} replaced" if losses else "no losses"
        state = "PAUSED (space resumes)" if self.paused else self._status
        lines = [self._clip(f"{self.title}  {state}")]
        spark = sparkline(list(stats.recent)[-(30 if not screen.wide else 60) :], unicode=screen.unicode)
        summary = (
            f"{stats.flashblocks} fb  {stats.payloads} blocks  {stats.transactions} tx  {pace}  {trouble}"
        )
        lines.append(self._clip(f"{summary}  {spark}"))
        if self.typing is not None:
            lines.append(self._clip(f"/{self.typing}_"))
        elif self.needle:
            lines.append(self._clip(f"filter: {escape(self.needle)}  (/ then enter clears)"))
        lines[0] = screen.paint(_BOLD, lines[0])
        return lines

    def _clip(self, text: str) -> str:
        width = self.screen.width - 1
        return text if len(text) <= width else text[: width - 1] + ("…" if self.screen.unicode else "~")

    def block_lines(self, block: _Block) -> list[str]:
        """The lines of one payload: a heading, then a row per flashblock, oldest first."""
        screen = self.screen
        total = block.rows[-1][1].total_transactions if block.rows else 0
        first = block.rows[0][1] if block.rows else None
        heading = f"#{block.number} {block.payload_id if screen.wide else short_id(block.payload_id)}"
        if first is not None and first.base_fee is not None:
            change = "" if first.base_fee_change is None else f" {first.base_fee_change:+.1%}"
            heading += f"  base fee {first.base_fee / 1e9:.6g} gwei{change}"
        if block.closed is not None:
            heading += f"  {len(block.rows)} fb {total if total is not None else '?'} tx"
            heading += "" if block.closed in ("next", "ended") else f"  {block.closed.upper()}"
        lines = [screen.paint(_BOLD if block.closed is None else "", self._clip(heading))]
        notes = iter(block.notes)
        note = next(notes, None)
        for position, (index, row) in enumerate(block.rows):
            while note is not None and note[0] <= position:
                lines.append(self._note(note))
                note = next(notes, None)
            lines.append(self._row_line(index, row))
        while note is not None:
            lines.append(self._note(note))
            note = next(notes, None)
        return lines

    def _note(self, note: tuple[int, str, str]) -> str:
        _, name, text = note
        sign = "R" if name in ("replaced", "rewound", "missed") else "!"
        color = _MAGENTA if sign == "R" else _RED
        return self.screen.paint(color, self._clip(f"    {sign} {text}"))

    def _row_line(self, index: int, row: Row) -> str:
        screen = self.screen
        total = "?" if row.total_transactions is None else str(row.total_transactions)
        gas = "?" if row.gas_added is None else f"+{gas_text(row.gas_added)}"
        share = row.gas_used / row.gas_limit if row.gas_limit else None
        bar = "" if share is None else fill_bar(share, 20 if screen.wide else 8, unicode=screen.unicode)
        percent = "" if share is None else f"{share:4.0%}"
        delta = "" if row.elapsed_ns is None else f"{row.elapsed_ns / 1e6:+.0f}ms"
        slot = "" if row.slot_offset_ns is None else f"{row.slot_offset_ns / 1e6:+.0f}"
        marks = " ".join(row.marks)
        text = (
            f"  [{index:>2}] {'+' + str(row.new_transactions):>5} tx {total:>5}  {gas:>7} "
            f"{gas_text(row.gas_used):>6} {bar} {percent:>4} {delta:>8} {slot:>7}"
        )
        line = self._clip(f"{text}  {marks}".rstrip())
        return screen.paint(_RED, line) if row.marks else line

    def columns(self) -> str:
        """The titles of the columns of a row."""
        width = 20 if self.screen.wide else 8
        return self.screen.paint(
            _DIM,
            self._clip(
                f"   idx    new tx total     gas  block {'fill':<{width}} {'':>4} {'since':>8} {'slot ms':>7}"
            ),
        )

    def frame(self) -> list[str]:
        """The region: header, column titles, then as many payloads as fit, newest first."""
        lines = [*self.header(), self.columns()]
        room = self.screen.height - len(lines) - 1
        for block in reversed(self._blocks.values()):
            if not self._matches(block):
                continue
            part = self.block_lines(block)
            if len(part) > room:
                if len(lines) <= 4:  # even the newest alone is too tall: keep its heading and its tail
                    lines += [part[0], *part[-(room - 1) :]] if room > 1 else part[:room]
                break
            lines += part
            room -= len(part)
        # One less than the screen has: the line end of the last one would scroll the first away.
        return lines[: max(1, self.screen.height - 1)]

    def _matches(self, block: _Block) -> bool:
        if not self.needle:
            return True
        marks = (mark for _, row in block.rows for mark in row.marks)
        text = f"#{block.number} {block.payload_id} {' '.join(marks)}"
        return self.needle.lower() in text.lower()

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
        room = self.screen.height - len(self.header()) - 2
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
        return False

    def _type(self, character: str) -> None:
        assert self.typing is not None
        if character in ("\r", "\n"):
            self.needle, self.typing = self.typing, None
        elif character == "\x1b":
            self.typing = None
        elif character in ("\x7f", "\b"):
            self.typing = self.typing[:-1]
        elif character.isprintable() and len(self.typing) < 80:
            self.typing += character
