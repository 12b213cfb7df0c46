"""From frames to events: the sequence rules of `core.sequence` with the figures that people look at.

Pure: no clock, no socket. A live stream, a recording and a test feed the same method.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Final

from flashctl.core import defects
from flashctl.core.sequence import (
    Accepted,
    Assembler,
    Closed,
    Duplicate,
    Equivocation,
    Event,
    Gap,
    Ignored,
    Inconsistent,
    JoinedMid,
    Missed,
    Opened,
    Payload,
    PrevMismatch,
    Replaced,
    Rewound,
)
from flashctl.core.wire import Base, Flashblock, InvalidFlashblock, from_object, parse_object, unpack
from flashctl.watch.events import Arrival, Row, WatchEvent

__all__ = ["Tracker"]

_REMEMBERED_PAYLOADS: Final = 16
_REMEMBERED_MISSING: Final = 1000
"""As many indices as the event of a gap lists."""

CATCH_UP_BEGINS_NS: Final = 50_000_000
"""A flashblock this soon after the connection is part of the open block that the server sends again."""
CATCH_UP_STEP_NS: Final = 20_000_000
"""And so is one this soon after such a one; builders are ten times slower."""

_MARKS: Final[dict[type[Any], str]] = {
    Gap: "gap",
    JoinedMid: "joined",
    Replaced: "replaced",
    Rewound: "rewound",
    Missed: "missed",
    PrevMismatch: "prev",
    Inconsistent: "inconsistent",
}


@dataclass(slots=True)
class _Progress:
    """How far a payload has come, whether or not its sequence is whole."""

    base: Base | None
    index: int
    gas_used: int
    transactions: int | None


class Tracker:
    """Follows one stream.

    `feed` returns the events of one arrival in the order in which they are true: what ended, what is
    missing, then the flashblock itself. A frame that is no flashblock is an event too.
    """

    def __init__(self) -> None:
        self._assembler = Assembler()
        self._progress: OrderedDict[str, _Progress] = OrderedDict()
        self._last_ns: int | None = None
        self._last_base_fee: int | None = None
        self._caught_up_ns: int | None = None
        """Until when, by the wall clock, an arrival counts as catch-up; None once it does not."""
        self._was_replayed = False
        self._missing: OrderedDict[str, set[int]] = OrderedDict()
        """Indices told as missing, by payload, until they come."""

    @property
    def payload(self) -> Payload | None:
        """The open payload; None while waiting for an index 0."""
        return self._assembler.payload

    def connected(self, received_ns: int) -> None:
        """A connection was made at this time: what comes at once is what was missed."""
        self._caught_up_ns = received_ns + CATCH_UP_BEGINS_NS

    def feed(self, arrival: Arrival) -> list[WatchEvent]:
        """The events of one message; a defect is told as a bad frame, and the stream goes on."""
        try:
            return self._feed(arrival)
        except Exception as error:
            defects.caught("watch.tracker", error)
            return [_undecodable(arrival, f"cannot be followed: {type(error).__name__}")]

    def _feed(self, arrival: Arrival) -> list[WatchEvent]:
        try:
            text = unpack(arrival.data, binary=arrival.binary)
            flashblock = from_object(parse_object(text))
        except InvalidFlashblock as error:
            return [_undecodable(arrival, str(error), error.hint)]
        return self._follow(flashblock, text, arrival)

    def end(self, received_ns: int) -> list[WatchEvent]:
        """Close what is open: the stream is over."""
        return self._translate(self._assembler.end(), received_ns)

    def _follow(self, flashblock: Flashblock, text: bytes, arrival: Arrival) -> list[WatchEvent]:
        sequence_events = self._assembler.feed(flashblock, arrival.monotonic_ns)
        events = self._translate(sequence_events, arrival.received_ns)
        events += self._late(flashblock, sequence_events, arrival.received_ns)
        if not isinstance(sequence_events[-1], Duplicate | Equivocation):
            marks = tuple(_MARKS[type(event)] for event in sequence_events if type(event) in _MARKS)
            row = self._row(flashblock, arrival, marks)
            events.append(
                WatchEvent(
                    "flashblock",
                    arrival.received_ns,
                    flashblock.payload_id,
                    self._block_number(flashblock),
                    flashblock.index,
                    row=row,
                    text=text,
                    arrival=arrival,
                )
            )
        return events

    def _late(
        self, flashblock: Flashblock, sequence_events: list[Event], received_ns: int
    ) -> list[WatchEvent]:
        """A `late` event if this one was missing; takes note of what is missing now."""
        payload_id, index = flashblock.payload_id, flashblock.index
        for event in sequence_events:
            if isinstance(event, Gap):
                self._missing[event.payload_id] = set(event.missing[:_REMEMBERED_MISSING])
                while len(self._missing) > _REMEMBERED_PAYLOADS:
                    self._missing.popitem(last=False)
        missing = self._missing.get(payload_id, set())
        if index not in missing:
            return []
        missing.discard(index)
        return [WatchEvent("late", received_ns, payload_id, self._block_number(flashblock), index)]

    def _row(self, flashblock: Flashblock, arrival: Arrival, marks: tuple[str, ...]) -> Row:
        before = self._progress.get(flashblock.payload_id)
        diff, index, base = flashblock.diff, flashblock.index, flashblock.base
        follows = before is not None and index == before.index + 1
        gas_added: int | None = None
        total: int | None = None
        if index == 0:
            gas_added, total = diff.gas_used, len(diff.transactions)
        elif before is not None and follows:
            gas_added = max(0, diff.gas_used - before.gas_used)
            total = None if before.transactions is None else before.transactions + len(diff.transactions)
        if base is None and before is not None:
            base = before.base
        self._remember(flashblock.payload_id, _Progress(base, index, diff.gas_used, total))
        replayed = self._is_replayed(arrival)
        no_interval = self._last_ns is None or replayed or self._was_replayed
        elapsed = None if no_interval else max(0, arrival.monotonic_ns - (self._last_ns or 0))
        self._last_ns, self._was_replayed = arrival.monotonic_ns, replayed
        return Row(
            flashblock,
            len(diff.transactions),
            total,
            gas_added,
            diff.gas_used,
            None if base is None else base.gas_limit,
            None if base is None else base.base_fee_per_gas,
            self._base_fee_change(flashblock),
            elapsed,
            None if base is None or replayed else arrival.received_ns - base.timestamp * 1_000_000_000,
            marks,
            replayed,
        )

    def _is_replayed(self, arrival: Arrival) -> bool:
        if self._caught_up_ns is None:
            return False
        if arrival.received_ns > self._caught_up_ns:
            self._caught_up_ns = None
            return False
        self._caught_up_ns = arrival.received_ns + CATCH_UP_STEP_NS
        return True

    def _remember(self, payload_id: str, progress: _Progress) -> None:
        self._progress[payload_id] = progress
        self._progress.move_to_end(payload_id)
        while len(self._progress) > _REMEMBERED_PAYLOADS:
            self._progress.popitem(last=False)

    def _base_fee_change(self, flashblock: Flashblock) -> float | None:
        if flashblock.base is None:
            return None
        before, now = self._last_base_fee, flashblock.base.base_fee_per_gas
        self._last_base_fee = now
        return (now - before) / before if before else None

    def _block_number(self, flashblock: Flashblock) -> int:
        """What the payload's base says; metadata only where the base was never seen."""
        progress = self._progress.get(flashblock.payload_id)
        if progress is not None and progress.base is not None:
            return progress.base.block_number
        return flashblock.block_number

    def _translate(self, events: list[Event], received_ns: int) -> list[WatchEvent]:
        translated = []
        for event in events:
            if (told := _told(event)) is not None:
                name, payload_id, block, index, details = told
                translated.append(WatchEvent(name, received_ns, payload_id, block, index, details))
        return translated


def _undecodable(arrival: Arrival, reason: str, hint: str | None = None) -> WatchEvent:
    details = {"reason": reason, "hint": hint, "bytes": len(arrival.data)}
    return WatchEvent("undecodable", arrival.received_ns, details=details, arrival=arrival)


_Told = tuple[str, str | None, int | None, int | None, dict[str, Any]]


def _told(event: Event) -> _Told | None:
    """Name, place and figures of a sequence event; None for those that the flashblock itself tells."""
    match event:
        case Opened() | Accepted() | Ignored():
            return None
        case Gap(payload_id, block, missing):
            return "gap", payload_id, block, missing.start, {"missing": list(missing[:1000])}
        case Duplicate(payload_id, block, index):
            return "duplicate", payload_id, block, index, {}
        case Equivocation(payload_id, block, index):
            return "equivocation", payload_id, block, index, {}
        case JoinedMid(payload_id, block, index):
            return "joined-mid", payload_id, block, index, {}
        case Inconsistent(payload_id, block, index, reason):
            return "inconsistent", payload_id, block, index, {"reason": reason}
        case Closed(payload, reason):
            details = {
                "reason": reason.value,
                "flashblocks": len(payload.flashblocks),
                "transactions": len(payload.transactions),
                "gas_used": payload.diff.gas_used,
            }
            return "closed", payload.payload_id, payload.block_number, payload.last.index, details
        case Replaced(block, old, new):
            return "replaced", new, block, 0, {"old_payload_id": old}
        case Rewound(from_block, to_block):
            return "rewound", None, to_block, None, {"from_block": from_block}
        case Missed(blocks):
            return "missed", None, blocks.start, None, {"blocks": list(blocks[:1000]), "count": len(blocks)}
        case PrevMismatch(payload_id, index, claimed, actual, _):
            return "prev-mismatch", payload_id, None, index, {"claimed": claimed, "actual": actual}
