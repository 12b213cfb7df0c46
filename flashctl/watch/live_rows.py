"""Rows of the live view: what is kept of a flashblock, and its line at every width of the terminal.

below 70 columns    index, transactions, gas, interval, offset in the slot
below 100           totals and a small bar as well
below 200           a longer bar, and whole payload ids
from 200            the transactions themselves
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

from flashctl.core.flashblocks.wire import Diff, Flashblock, Metadata
from flashctl.errors import DataError
from flashctl.eth.keccak import keccak256
from flashctl.eth.transactions import DepositTx, decode_transaction
from flashctl.watch.events import Row
from flashctl.watch.line_output import gas_text, short_id
from flashctl.watch.view_filter import ViewFilter

__all__ = ["PayloadRows", "RowEntry", "Screen", "column_titles", "fill_bar", "row_text", "transaction_text"]

_RESET: Final = "\x1b[0m"
_EIGHTHS: Final = " ▏▎▍▌▋▊▉█"

_NOTHING: Final = Flashblock("0x", 0, None, Diff((), 0), Metadata())

_TRANSACTIONS_IN_ROW: Final = 12
"""Decoded for a line; no terminal has room for more."""


@dataclass(frozen=True, slots=True)
class Screen:
    """What the terminal can show."""

    width: int = 80
    height: int = 24
    color: bool = True
    unicode: bool = True

    @property
    def narrow(self) -> bool:
        """Whether a row has room for its figures only."""
        return self.width < 70

    @property
    def wide(self) -> bool:
        """Whether there is room for whole payload ids."""
        return self.width >= 100

    @property
    def shows_transactions(self) -> bool:
        """Whether a row has room for its transactions."""
        return self.width >= 200

    @property
    def bar_width(self) -> int:
        """Columns of the bar that shows how full the block is."""
        return 20 if self.wide else 8

    def paint(self, color: str, text: str) -> str:
        """Text in a colour, where there are colours."""
        return f"{color}{text}{_RESET}" if self.color and text else text

    def clip(self, text: str) -> str:
        """Text cut to the width, with a sign that it was."""
        width = self.width - 1
        return text if len(text) <= width else text[: width - 1] + ("…" if self.unicode else "~")


@dataclass(slots=True)
class RowEntry:
    """A flashblock on the screen."""

    index: int
    row: Row
    size: int
    """Bytes of its message: what it weighs as long as its transactions are kept."""
    passed: tuple[str, bool] = ("", True)
    """The filter that was asked last, and its answer."""

    def strip(self) -> None:
        """Forget the transactions."""
        self.row = replace(self.row, flashblock=_NOTHING)
        self.size = 0

    def passes(self, heading: str, view_filter: ViewFilter) -> bool:
        """Whether the row is shown."""
        if self.passed[0] != view_filter.text:
            self.passed = view_filter.text, view_filter.passes(heading, self.index, self.row)
        return self.passed[1]


@dataclass(slots=True)
class PayloadRows:
    """A payload on the screen."""

    payload_id: str
    number: int | None
    rows: list[RowEntry] = field(default_factory=list)
    notes: list[tuple[int, str, str]] = field(default_factory=list)
    """After how many rows, event name, text."""
    closed: str | None = None

    @property
    def heading(self) -> str:
        """The text that a filter searches."""
        return f"#{self.number} {self.payload_id}"

    def passing(self, view_filter: ViewFilter) -> list[RowEntry]:
        """The rows that a filter shows."""
        return [entry for entry in self.rows if entry.passes(self.heading, view_filter)]


def fill_bar(share: float, width: int, *, unicode: bool = True) -> str:
    """A bar of `width` columns filled to `share`, in eighths of a column where the terminal has them."""
    share = min(1.0, max(0.0, share))
    if not unicode:
        filled = round(share * width)
        return "#" * filled + "." * (width - filled)
    eighths = round(share * width * 8)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (_EIGHTHS[rest] if rest else "")).ljust(width)


def column_titles(screen: Screen) -> str:
    """The titles over the rows."""
    if screen.narrow:
        return f"   idx    new tx    gas {'since':>7} {'slot ms':>7}"
    fill = f"{'fill':<{screen.bar_width}} {'':>4}"
    titles = f"   idx    new tx total     gas  block {fill} {'since':>8} {'slot ms':>7}"
    return titles + ("  transactions" if screen.shows_transactions else "")


def row_text(entry: RowEntry, screen: Screen) -> str:
    """The line of a flashblock, not yet cut to the width."""
    row, index = entry.row, entry.index
    added = f"+{row.new_transactions}"
    gas = "?" if row.gas_added is None else f"+{gas_text(row.gas_added)}"
    delta = "" if row.elapsed_ns is None else f"{row.elapsed_ns / 1e6:+.0f}ms"
    slot = "" if row.slot_offset_ns is None else f"{row.slot_offset_ns / 1e6:+.0f}"
    marks = " ".join(row.marks)
    if screen.narrow:
        return f"  [{index:>2}] {added:>5} tx {gas:>6} {delta:>7} {slot:>7} {marks}".rstrip()
    total = "?" if row.total_transactions is None else str(row.total_transactions)
    share = row.gas_used / row.gas_limit if row.gas_limit else None
    bar = "" if share is None else fill_bar(share, screen.bar_width, unicode=screen.unicode)
    percent = "" if share is None else f"{share:4.0%}"
    text = (
        f"  [{index:>2}] {added:>5} tx {total:>5}  {gas:>7} {gas_text(row.gas_used):>6} "
        f"{bar:<{screen.bar_width}} {percent:>4} {delta:>8} {slot:>7}  {marks}"
    )
    if screen.shows_transactions:
        text = f"{text}{'  ' if marks else ''}{_transactions(row, screen, screen.width - len(text) - 3)}"
    return text.rstrip()


def _transactions(row: Row, screen: Screen, room: int) -> str:
    """As many transactions as there is room for, and how many more there are."""
    raws = row.flashblock.diff.transactions
    text = ""
    for position, raw in enumerate(raws[:_TRANSACTIONS_IN_ROW]):
        rest = len(raws) - position - 1
        more = f"  +{rest}" if rest else ""
        word = transaction_text(raw, unicode=screen.unicode)
        if len(text) + len(word) + len(more) + 2 > room:
            return f"{text}  +{rest + 1}".strip()
        text += f"  {word}" if text else word
    rest = len(raws) - _TRANSACTIONS_IN_ROW
    return f"{text}  +{rest}" if rest > 0 else text


def transaction_text(raw: bytes, *, unicode: bool = True) -> str:
    """A transaction in a few words: start of its hash, recipient, selector or type."""
    name, arrow = f"0x{keccak256(raw)[:4].hex()}", "→" if unicode else ">"
    try:
        tx = decode_transaction(raw)
    except DataError:
        return f"{name} undecodable"
    to = "create" if tx.to is None else short_id("0x" + tx.to.hex())
    call = f" {tx.data[:4].hex()}" if len(tx.data) >= 4 and tx.to is not None else ""
    return f"{name}{arrow}{to}{call}" + (" deposit" if isinstance(tx, DepositTx) else "")
