"""Reports as text for a person: an aligned listing of one thing, a table of many.

Labels are the JSON-RPC names, so that what a person reads is what a script asks for. Nothing is shortened
unless the text goes to a terminal. Text that came from outside is escaped: an ABI string may hold escape
sequences.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from flashctl.core.output import escape as printable
from flashctl.decode.names import COUNTS, IN_ETHER, IN_GWEI, type_label
from flashctl.decode.tx_report import Report

__all__ = ["Style", "TextPresenter", "render_listing", "render_table"]

_DIM, _RED, _BOLD, _RESET = "\x1b[2m", "\x1b[31m", "\x1b[1m", "\x1b[0m"
_LABEL_WIDTH = 22
_LONG = {"input", "logsBloom", "data", "raw"}


class Style(NamedTuple):
    """How text is laid out."""

    width: int | None = None
    """Columns of the terminal; None when the text goes elsewhere and must stay complete."""
    colour: bool = False

    def dim(self, text: str) -> str:
        return f"{_DIM}{text}{_RESET}" if self.colour else text

    def bold(self, text: str) -> str:
        return f"{_BOLD}{text}{_RESET}" if self.colour else text

    def red(self, text: str) -> str:
        return f"{_RED}{text}{_RESET}" if self.colour else text

    def fit(self, text: str, used: int) -> str:
        """`text` cut to what is left of the line after `used` columns."""
        if self.width is None or len(text) <= self.width - used:
            return text
        return text[: max(8, self.width - used - 1)] + "…"


# -- values ---------------------------------------------------------------------------------------


_QUANTITY = re.compile(r"-?0x[0-9a-fA-F]{1,64}")
"""What is shown as a number where its name says that it is one; JSON of others may hold anything there."""


def _value(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "-"
    if not isinstance(value, str) or not _QUANTITY.fullmatch(value):
        return printable(str(value))
    if name == "type":
        return type_label(int(value, 16))
    if name in IN_ETHER:
        return _ether(int(value, 16))
    if name in IN_GWEI:
        return _gwei(int(value, 16))
    if name in COUNTS:
        return str(int(value, 16))
    return printable(value)


def _ether(wei: int) -> str:
    return "0" if wei == 0 else f"{wei} wei ({_scaled(wei, 18)} ETH)"


def _gwei(wei: int) -> str:
    return f"{wei} wei ({_scaled(wei, 9)} gwei)"


def _scaled(value: int, digits: int) -> str:
    sign, value = ("-", -value) if value < 0 else ("", value)
    whole, fraction = divmod(value, 10**digits)
    text = f"{fraction:0{digits}d}".rstrip("0")
    return f"{sign}{whole}.{text}" if text else f"{sign}{whole}"


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else "-"
    return text if len(text) <= 14 else f"{text[:8]}…{text[-4:]}"


# -- listing --------------------------------------------------------------------------------------


def render_listing(report: Mapping[str, Any], style: Style, *, full: bool = False) -> Iterator[str]:
    """The lines of one report; a container's transactions follow as a table, or in full."""
    if "error" in report:
        yield style.red("error") + f"  {printable(str(report['error'].get('message')))}"
        return
    extras = report.get("flashctl") or {}
    for name, value in report.items():
        if name not in ("flashctl", "transactions", "logs"):
            yield from _entry(name, value, style, 0)
    for name, value in extras.items():
        if name not in ("kind", "typeName", "problems", "faults", "logs"):
            yield from _extra(name, value, style)
    for problem in extras.get("problems", ()):
        yield style.red(_label("problem")) + printable(problem)
    for log in (*_logs(report.get("logs")), *_logs(extras.get("logs"))):
        yield from _log(log, style)
    transactions = report.get("transactions")
    if isinstance(transactions, list) and transactions:
        yield ""
        yield from _transactions(transactions, style, full)


def _transactions(transactions: Sequence[Any], style: Style, full: bool) -> Iterator[str]:
    if not all(isinstance(report, dict) for report in transactions):
        yield from (printable(str(value)) for value in transactions)
    elif full:
        for number, report in enumerate(transactions):
            if number:
                yield ""
            yield from render_listing(report, style)
    else:
        yield from render_table(transactions, style)


def _label(name: str, indent: int = 0) -> str:
    text = " " * indent + name
    return text.ljust(_LABEL_WIDTH) if len(text) < _LABEL_WIDTH else text + "  "


def _line(name: str, text: str, style: Style, indent: int) -> str:
    label = _label(name, indent)
    shown = style.fit(text, len(label)) if name in _LONG else text
    return style.dim(label) + shown


def _entry(name: str, value: Any, style: Style, indent: int) -> Iterator[str]:
    """A field; lists and objects go on below it, indented."""
    match value:
        case dict():
            yield style.dim(_label(name, indent)).rstrip()
            for key, member in value.items():
                yield from _entry(str(key), member, style, indent + 2)
        case []:
            yield _line(name, "none", style, indent)
        case list():
            yield _line(name, f"{len(value)}", style, indent)
            for number, member in enumerate(value):
                yield from _entry(f"[{number}]", member, style, indent + 2)
        case _:
            yield _line(name, _value(name, value), style, indent)


def _extra(name: str, value: Any, style: Style) -> Iterator[str]:
    match name, value:
        case "inputBytes", {"length": length, "zero": zero, "nonZero": nonzero}:
            yield _line("inputBytes", f"{length} ({zero} zero, {nonzero} non-zero)", style, 0)
        case "checks", dict():
            yield style.dim(_label(name)).rstrip()
            for field, check in value.items():
                verdict = "agrees" if check["agrees"] else style.red("differs")
                yield _line(field, verdict, style, 2)
        case (("call" | "event"), {"signature": signature}):
            yield _line(name, style.bold(printable(signature)), style, 0)
            yield from _arguments(value.get("arguments"), style, 2)
            yield from _rest(value, style)
        case _:
            yield from _entry(name, value, style, 0)


def _rest(call: Mapping[str, Any], style: Style) -> Iterator[str]:
    """What does not follow the signature, or comes behind its arguments."""
    if "mismatch" in call:
        yield style.red(_label("mismatch", 2)) + printable(str(call["mismatch"]))
    for name in ("data", "trailing"):
        if name in call:
            yield _line(name, printable(str(call[name])), style, 2)
    if "builderCodes" in call:
        yield _line("builderCodes", printable(", ".join(call["builderCodes"])), style, 2)


def _arguments(arguments: Any, style: Style, indent: int) -> Iterator[str]:
    for argument in arguments or ():
        yield from _entry(printable(argument["name"]), argument["value"], style, indent)


def _logs(value: Any) -> list[Mapping[str, Any]]:
    return [log for log in value if isinstance(log, dict)] if isinstance(value, list) else []


def _log(log: Mapping[str, Any], style: Style) -> Iterator[str]:
    event = (log.get("flashctl") or {}).get("event")
    yield _line("log", printable(str(log.get("address"))), style, 0)
    if event:
        yield _line("event", style.bold(printable(event["signature"])), style, 2)
        yield from _arguments(event.get("arguments"), style, 4)
        if "mismatch" not in event:
            return
        yield style.red(_label("mismatch", 2)) + printable(str(event["mismatch"]))
    for number, topic in enumerate(log.get("topics") or ()):
        yield _line(f"topic {number}", printable(str(topic)), style, 2)
    yield _line("data", printable(str(log.get("data", "0x"))), style, 2)


# -- table ----------------------------------------------------------------------------------------


class _Layout(NamedTuple):
    """The columns of a table and their widths; the last one takes what is left of the line."""

    columns: tuple[tuple[str, int], ...]
    shorten: bool

    def line(self, position: str, cells: Mapping[str, str]) -> str:
        text = " ".join(cells[name].ljust(width) for name, width in self.columns)
        return f"{position:>4}  {text}"


_COMPLETE = _Layout(
    (("type", 8), ("hash", 66), ("from", 42), ("to", 42), ("value", 22), ("gas", 9), ("call", 0)), False
)
_TERMINAL = _Layout(
    (("type", 8), ("hash", 13), ("from", 13), ("to", 13), ("value", 12), ("gas", 9), ("call", 0)), True
)
_NARROW = _Layout((("type", 8), ("from", 13), ("to", 13), ("value", 10), ("call", 0)), True)
_EXECUTED = _Layout(
    (
        ("type", 8), ("hash", 66), ("from", 42), ("status", 8), ("gasUsed", 9), ("fee", 22), ("call", 0),
    ),
    False,
)  # fmt: skip
_EXECUTED_NARROW = _Layout(
    (("type", 8), ("hash", 13), ("status", 8), ("gasUsed", 9), ("fee", 12), ("call", 0)), True
)
"""Of a block that was executed: what each transaction did."""

_NARROW_BELOW = 100
"""Terminal columns under which hash and gas give way to the call."""


def render_table(
    reports: Sequence[Mapping[str, Any]], style: Style, *, header: bool = True, first: int = 0
) -> Iterator[str]:
    """One line per transaction; complete values unless the width of a terminal limits them."""
    layout = _layout_for(reports, style)
    if header:
        titles = {name: name for name, _ in layout.columns}
        yield style.dim(style.fit(layout.line("#", titles).rstrip(), 0))
    for number, report in enumerate(reports, first):
        extras = report.get("flashctl") or {}
        position = extras.get("position", report.get("error", {}).get("position", number))
        if "error" in report:
            yield f"{position:>4}  " + style.red(style.fit(printable(report["error"]["message"]), 6))
            continue
        line = style.fit(layout.line(str(position), _row(report, extras, layout)).rstrip(), 0)
        yield style.red(line) if extras.get("problems") else line


def _layout_for(reports: Sequence[Mapping[str, Any]], style: Style) -> _Layout:
    if reports and "fee" in (reports[0].get("flashctl") or {}):
        return _EXECUTED if style.width is None else _EXECUTED_NARROW
    if style.width is None:
        return _COMPLETE
    return _NARROW if style.width < _NARROW_BELOW else _TERMINAL


def _row(report: Mapping[str, Any], extras: Mapping[str, Any], layout: _Layout) -> dict[str, str]:
    shown = _short if layout.shorten else (lambda value: str(value or "-"))
    return {
        "type": str(extras.get("typeName", "")),
        "hash": shown(report.get("hash")),
        "from": shown(report.get("from")),
        "to": shown(report.get("to")),
        "value": _amount(int(report.get("value", "0x0"), 16), exact=not layout.shorten),
        "gas": str(int(report.get("gas", "0x0"), 16)),
        "call": _purpose(report, extras),
        "status": _status(extras),
        "gasUsed": str(int(extras.get("gasUsed", "0x0"), 16)),
        "fee": _amount(int(extras.get("fee", "0x0"), 16), exact=not layout.shorten),
    }


def _status(extras: Mapping[str, Any]) -> str:
    if extras.get("status") == "0x1":
        return "ok"
    return "halted" if "halted" in extras else "reverted"


def _amount(wei: int, *, exact: bool) -> str:
    """Ether; six digits are enough for a glance, and a dust amount must not look like nothing."""
    if exact or wei == 0:
        return _scaled(wei, 18)
    return f"{wei / 10**18:.6g}"


def _purpose(report: Mapping[str, Any], extras: Mapping[str, Any]) -> str:
    """What a transaction does, in a word: the function, the kind of deposit, or the selector."""
    deposit = extras.get("deposit") or {}
    name = deposit.get("kind")
    if "malformed" in deposit:
        name = f"{name}, malformed"
    if name in (None, "user"):
        name = (extras.get("call") or {}).get("name") or name
    if report.get("to") is None:
        name = "create"
    if not name and len(report.get("input", "0x")) > 2:
        name = report["input"][:10]
    return printable(name or "")


class TextPresenter:
    """Listings and tables.

    It decides late: the first report is held back until a second one, or the end, tells which it is.
    """

    def __init__(self, style: Style, *, full: bool = False) -> None:
        self._style = style
        self._full = full
        self._held: Report | None = None
        self._shown = 0

    def show(self, report: Report) -> Iterator[str]:
        if "error" in report:
            return
        if self._shown == 0 and self._held is None:
            self._held = report
            return
        if self._held is not None:
            held, self._held = self._held, None
            yield from self._one_of_many(held)
        yield from self._one_of_many(report)

    def finish(self) -> Iterator[str]:
        if self._held is not None:
            yield from render_listing(self._held, self._style, full=self._full)

    def _one_of_many(self, report: Mapping[str, Any]) -> Iterator[str]:
        number = self._shown
        self._shown += 1
        if self._full or "transactions" in report or "hash" not in report:
            if number:
                yield ""
            yield from render_listing(report, self._style, full=self._full)
        else:
            yield from render_table([report], self._style, header=number == 0, first=number)
