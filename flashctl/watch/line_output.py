"""Renderers that write lines: for a person, for a script, for another program.

    line      12:00:01.204 #22585577 0x0399..c31a [4] +23 tx  +1.2M gas  +203ms
    json      {"v":1,"event":"flashblock","recv_ns":...,"payload_id":...,"index":4,"block":...,"data":{...}}
    raw       the message as received, decompressed
    tsv       the fields named, tab-separated
    format    a str.format template of the same fields, without code

The JSON form is lossless: `data` holds the bytes of the message, spliced in and not written anew.
"""

from __future__ import annotations

import json
import string
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

from flashctl.core.output import Output, counted, escape
from flashctl.errors import UsageError
from flashctl.watch.events import Row, WatchEvent

__all__ = [
    "FIELDS",
    "JsonLines",
    "RawMessages",
    "Renderer",
    "TemplateLines",
    "TextLines",
    "describe_event",
    "envelope",
    "field_values",
    "gas_text",
    "head_of",
    "parse_template",
    "short_id",
    "to_json",
]


class Renderer(Protocol):
    """Writes events to stdout."""

    def show(self, event: WatchEvent) -> None:
        """One event, at once."""
        ...

    def close(self) -> None:
        """The stream is over."""
        ...


# -- values ---------------------------------------------------------------------------------------

_SI: Final = ((1_000_000_000, "G"), (1_000_000, "M"), (1_000, "k"))


def gas_text(gas: int | None) -> str:
    """Gas with three digits and a unit: `1.23M`."""
    if gas is None:
        return "?"
    for size, unit in _SI:
        if gas >= size:
            scaled = gas / size
            return f"{scaled:.0f}{unit}" if scaled >= 100 else f"{scaled:.3g}{unit}"
    return str(gas)


def short_id(payload_id: str | None) -> str:
    """A payload id that fits a line: `0x0399..c31a`."""
    return "-" if payload_id is None else f"{payload_id[:6]}..{payload_id[-4:]}"


def milliseconds(nanoseconds: int | None) -> float | None:
    """Nanoseconds as milliseconds with microseconds kept."""
    return None if nanoseconds is None else round(nanoseconds / 1e6, 3)


def clock_text(received_ns: int) -> str:
    """Local time of day with milliseconds."""
    seconds, rest = divmod(received_ns, 1_000_000_000)
    return f"{time.strftime('%H:%M:%S', time.localtime(seconds))}.{rest // 1_000_000:03d}"


def _of_row(read: Callable[[Row], Any]) -> Callable[[WatchEvent], Any]:
    return lambda event: None if event.row is None else read(event.row)


FIELDS: Final[Mapping[str, Callable[[WatchEvent], Any]]] = {
    "time": lambda event: clock_text(event.received_ns),
    "recv_ns": lambda event: event.received_ns,
    "event": lambda event: event.name,
    "payload_id": lambda event: event.payload_id,
    "block": lambda event: event.block,
    "index": lambda event: event.index,
    "ntx": _of_row(lambda row: row.new_transactions),
    "total_tx": _of_row(lambda row: row.total_transactions),
    "gas": _of_row(lambda row: row.gas_added),
    "gas_used": _of_row(lambda row: row.gas_used),
    "gas_limit": _of_row(lambda row: row.gas_limit),
    "base_fee": _of_row(lambda row: row.base_fee),
    "base_fee_change": _of_row(lambda row: row.base_fee_change),
    "delta_ms": _of_row(lambda row: milliseconds(row.elapsed_ns)),
    "slot_ms": _of_row(lambda row: milliseconds(row.slot_offset_ns)),
    "bytes": lambda event: None if event.arrival is None else event.arrival.wire_bytes,
    "marks": _of_row(lambda row: ",".join(row.marks)),
    "url": lambda event: None if event.arrival is None else event.arrival.url,
}
"""What `--fields` and `--format` can name; gas is of the flashblock, gas_used of the block."""


def field_values(event: WatchEvent, names: Sequence[str]) -> list[str]:
    """The named values as text; empty where there is none."""
    return ["" if (value := FIELDS[name](event)) is None else escape(str(value)) for name in names]


def parse_template(template: str) -> None:
    """Refuse a template that names unknown fields or uses attributes.

    Raises:
        UsageError: With the name at fault.
    """
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise UsageError(f"--format {template!r}: {error}") from None
    for _, name, specification, _ in parts:
        if name is not None and name not in FIELDS:
            raise UsageError(f"--format: no field {name!r}", hint=f"fields: {', '.join(FIELDS)}")
        if specification and "{" in specification:
            raise UsageError("--format: no fields inside a format specification")


# -- JSON -----------------------------------------------------------------------------------------


def to_json(value: Any) -> bytes:
    """One line of JSON; numbers beyond 64 bits, which only a hostile stream has, take the slow way."""
    import orjson

    try:
        return orjson.dumps(value)
    except TypeError:
        return json.dumps(value, separators=(",", ":")).encode()


def head_of(name: str, received_ns: int) -> dict[str, Any]:
    """What every JSON line begins with: version of the form, event, time.

    The time stands there twice, since JavaScript and jq before 1.7 round integers above 2**53, and with them
    nanoseconds since the epoch.
    """
    return {"v": 1, "event": name, "recv_ns": received_ns, "recv_ns_str": str(received_ns)}


def envelope(event: WatchEvent) -> bytes:
    """The line of one event; the message of a flashblock is spliced in byte by byte."""
    head = head_of(event.name, event.received_ns)
    place = {"payload_id": event.payload_id, "index": event.index, "block": event.block}
    head |= {name: value for name, value in place.items() if value is not None}
    head |= event.details
    if event.row is not None:
        head["stats"] = {
            name: FIELDS[name](event) for name in ("ntx", "total_tx", "gas", "delta_ms", "slot_ms", "bytes")
        }
        if event.row.replayed:
            head["replayed"] = True
        if event.row.marks:
            head["marks"] = list(event.row.marks)
    line = to_json(head)
    if event.text:
        text = event.text.strip()
        if b"\n" in text or b"\r" in text:
            text = text.replace(b"\n", b" ").replace(b"\r", b" ")
        line = line[:-1] + b',"data":' + text + b"}"
    return line + b"\n"


class JsonLines:
    """NDJSON."""

    def __init__(self, output: Output) -> None:
        self._output = output

    def show(self, event: WatchEvent) -> None:
        self._output.raw(envelope(event))

    def close(self) -> None:
        pass


class RawMessages:
    """Messages as received, one a line, and nothing else."""

    def __init__(self, output: Output) -> None:
        self._output = output

    def show(self, event: WatchEvent) -> None:
        if event.text:
            self._output.raw(event.text.strip().replace(b"\n", b" ") + b"\n")

    def close(self) -> None:
        pass


class TemplateLines:
    """`--fields` and `--format`: flashblocks only."""

    def __init__(self, output: Output, fields: Sequence[str] = (), template: str | None = None) -> None:
        self._output = output
        self._fields = fields
        self._template = template

    def show(self, event: WatchEvent) -> None:
        if event.row is None:
            return
        if self._template is None:
            self._output.line("\t".join(field_values(event, self._fields)))
            return
        values = {name: "" if (value := read(event)) is None else value for name, read in FIELDS.items()}
        try:
            text = self._template.format(**values)
        except (ValueError, TypeError, LookupError) as error:
            raise UsageError(f"--format {self._template!r}: {error}") from None
        self._output.raw(text.encode(errors="backslashreplace"))

    def close(self) -> None:
        pass


# -- text -----------------------------------------------------------------------------------------

_RED, _MAGENTA, _BOLD, _DIM, _RESET = "\x1b[31m", "\x1b[35m", "\x1b[1m", "\x1b[2m", "\x1b[0m"
_TROUBLE: Final = {
    "gap",
    "equivocation",
    "inconsistent",
    "prev-mismatch",
    "undecodable",
    "dropped",
    "unsealed",
}
_REORG: Final = {"replaced", "rewound", "missed"}


def describe_event(event: WatchEvent) -> str:
    """An event other than a flashblock in a few words."""
    details = event.details
    match event.name:
        case "gap":
            missing = details["missing"]
            listed = ", ".join(map(str, missing[:8])) + (", ..." if len(missing) > 8 else "")
            return f"gap: flashblock {listed} never arrived; waiting for the next block"
        case "late":
            reported = ", and had been reported missing" if details["reported_missing"] else ""
            return f"late: flashblock {event.index} came after {details['after']}{reported}"
        case "duplicate":
            return "duplicate"
        case "equivocation":
            return "equivocation: other content under a payload and index already seen"
        case "joined-mid":
            return "joined in the middle of the block; its index 0 was not seen"
        case "inconsistent":
            return f"inconsistent: {details['reason']}"
        case "closed":
            gas = gas_text(details["gas_used"])
            flashblocks = counted(details["flashblocks"], "flashblock")
            return f"{flashblocks}, {details['transactions']} tx, {gas} gas ({details['reason']})"
        case "replaced":
            return f"replaced: built again, before as {short_id(details['old_payload_id'])}"
        case "rewound":
            return f"rewound from #{details['from_block']}"
        case "missed":
            return f"missed {counted(details['count'], 'block')}"
        case "prev-mismatch":
            return f"truncated: follows {details['claimed']}, but the last one here was {details['actual']}"
        case "undecodable":
            return str(details["reason"])
        case "connected":
            return f"connected to {details['url']}"
        case "disconnected":
            retry = details.get("retry_in_s")
            return f"disconnected: {details['reason']}" + (
                f", trying again in {retry:.1f} s" if retry else ""
            )
    return details.get("text") or event.name


class TextLines:
    """One line per event, complete and without colour unless it goes to a terminal."""

    def __init__(self, output: Output, *, color: bool = False, verbose: bool = False) -> None:
        self._output = output
        self._color = color
        self._verbose = verbose
        """Also show payloads closing."""

    def show(self, event: WatchEvent) -> None:
        if event.name == "closed" and not self._verbose and event.details["reason"] in ("next", "ended"):
            return
        self._output.line(self.text(event))

    def text(self, event: WatchEvent) -> str:
        """The line of an event."""
        place = f"#{event.block}" if event.block is not None else "-"
        index = "" if event.index is None else f"[{event.index}]"
        head = f"{clock_text(event.received_ns)} {place} {short_id(event.payload_id)} {index:<5}"
        if event.row is None:
            return self._paint(f"{head}{escape(describe_event(event))}", event.name)
        return f"{head}{self._row(event.row)}"

    def _row(self, row: Row) -> str:
        added = "?" if row.gas_added is None else f"+{gas_text(row.gas_added)}"
        delta = "" if row.elapsed_ns is None else f"  +{row.elapsed_ns / 1e6:.0f}ms"
        marks = "".join(f"  !{mark}" for mark in row.marks)
        if marks and self._color:
            marks = f"{_RED}{marks}{_RESET}"
        return f"+{row.new_transactions} tx  {added} gas{delta}{marks}"

    def _paint(self, text: str, name: str) -> str:
        if not self._color:
            return text
        color = _RED if name in _TROUBLE else _MAGENTA if name in _REORG else _DIM
        return f"{color}{text}{_RESET}"

    def close(self) -> None:
        pass
