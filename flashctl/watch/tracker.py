"""From messages to events: the rules of `core.flashblocks.sequence`, with figures per flashblock.

A flashblock is reported when it arrives, with its own time; what it means for the sequence, once that is
known. One ahead of its turn waits, as in boost and rpc (`core.flashblocks.reorder`), so that one that was
overtaken is late and not lost; a gap is reported once it can no longer be filled.

Pure: no clock, no socket. A live stream, a recording and a test feed the same method.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Final

from flashctl.core.flashblocks.reorder import Reorder
from flashctl.core.flashblocks.sequence import (
    MAX_FLASHBLOCKS_PER_PAYLOAD,
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
from flashctl.core.flashblocks.wire import (
    Base,
    Flashblock,
    InvalidFlashblock,
    from_object,
    parse_object,
    unpack,
)
from flashctl.core.service import defects
from flashctl.lru import Lru
from flashctl.watch.events import ReceivedMessage, Row, WatchEvent

__all__ = ["Tracker"]

_REMEMBERED_PAYLOADS: Final = 16

CATCH_UP_BEGINS_NS: Final = 50_000_000
"""A flashblock this soon after the connection is part of the open block that the server sends again."""
CATCH_UP_STEP_NS: Final = 20_000_000
"""And so is one this soon after such a one; builders are ten times slower."""

_MARKS: Final[dict[type[Any], str]] = {
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
    """The highest that came."""
    gas_used: int
    transactions: int | None
    seen: set[int] = field(default_factory=set)
    """Indices that came."""
    missing: set[int] = field(default_factory=set)
    """Indices reported as missing."""


class Tracker:
    """Follows one stream.

    `feed` returns the events of one arrival in the order in which they are true: what ended, what is
    missing, then the flashblock itself. A frame that is no flashblock is an event too.
    """

    def __init__(self) -> None:
        self._assembler = Assembler()
        self._reorder = Reorder[Flashblock](lambda flashblock: flashblock)
        self._newest = ""
        """The payload that was seen first last."""
        self._progress = Lru[str, _Progress](_REMEMBERED_PAYLOADS)
        self._last_ns: int | None = None
        self._last_base_fee: int | None = None
        self._caught_up_ns: int | None = None
        """Until when, by the wall clock, an arrival counts as catch-up; None once it does not."""
        self._was_replayed = False

    @property
    def payload(self) -> Payload | None:
        """The open payload; None while waiting for an index 0."""
        return self._assembler.payload

    def connected(self, received_ns: int) -> None:
        """A connection was made at this time: what comes at once is what was missed."""
        self._caught_up_ns = received_ns + CATCH_UP_BEGINS_NS

    def feed(self, arrival: ReceivedMessage) -> list[WatchEvent]:
        """The events of one message; after a defect it counts as undecodable, and the stream goes on."""
        try:
            return self._feed(arrival)
        except Exception as error:
            defects.caught("watch.tracker", error)
            return [_undecodable(arrival, f"cannot be followed: {type(error).__name__}")]

    def _feed(self, arrival: ReceivedMessage) -> list[WatchEvent]:
        try:
            text = unpack(arrival.data, binary=arrival.binary)
            flashblock = from_object(parse_object(text))
        except InvalidFlashblock as error:
            return [_undecodable(arrival, str(error), error.hint)]
        return self._follow(flashblock, text, arrival)

    def end(self, received_ns: int) -> list[WatchEvent]:
        """Close what is open: the stream is over."""
        waiting = [event for one in self._reorder.end() for event in self._assembler.feed(one, 0)]
        return self._translate(waiting + self._assembler.end(), received_ns)

    def _follow(self, flashblock: Flashblock, text: bytes, arrival: ReceivedMessage) -> list[WatchEvent]:
        place = _place(flashblock)
        repeated = next((one for one in self._reorder.waiting if _place(one) == place), None)
        ready = self._reorder.feed(flashblock, arrival.monotonic_ns)
        sequence_events = [e for one in ready for e in self._assembler.feed(one, arrival.monotonic_ns)]
        events = self._translate(sequence_events, arrival.received_ns)
        if repeated is not None:
            is_same = repeated.diff == flashblock.diff and repeated.base == flashblock.base
            return [*events, self._event("duplicate" if is_same else "equivocation", flashblock, arrival)]
        if any(isinstance(e, Duplicate | Equivocation) and _place(e) == place for e in sequence_events):
            return events
        if (late := self._late(flashblock, arrival)) is not None:
            events.append(late)
        marks = tuple(_MARKS[type(event)] for event in sequence_events if type(event) in _MARKS)
        if own := self._own_mark(flashblock):
            marks = (own, *marks)
        row = self._row(flashblock, arrival, marks)
        shown = self._event("flashblock", flashblock, arrival)
        events.append(replace(shown, row=row, text=text, arrival=arrival))
        return events

    def _late(self, flashblock: Flashblock, arrival: ReceivedMessage) -> WatchEvent | None:
        """What says that this one was overtaken, by one of its payload or by the next payload."""
        progress, index = self._progress.peek(flashblock.payload_id), flashblock.index
        if progress is None or index in progress.seen:
            return None
        if index > progress.index and flashblock.payload_id == self._newest:
            return None
        details = {"after": progress.index, "reported_missing": index in progress.missing}
        progress.missing.discard(index)
        return replace(self._event("late", flashblock, arrival), details=details)

    def _own_mark(self, flashblock: Flashblock) -> str:
        """What a row says at once, before it is known whether those before it are late or lost."""
        progress = self._progress.peek(flashblock.payload_id)
        if progress is None:
            return "joined" if flashblock.index > 0 else ""
        return "gap" if flashblock.index > progress.index + 1 else ""

    def _reported_gap(self, event: WatchEvent) -> WatchEvent | None:
        """The gap without what has come out of order; what it names is remembered, for it may come yet."""
        progress = self._progress.peek(event.payload_id or "")
        if progress is None:
            return event
        missing = [index for index in event.details["missing"] if index not in progress.seen]
        progress.missing.update(missing)
        return replace(event, index=missing[0], details={"missing": missing}) if missing else None

    def _event(self, name: str, flashblock: Flashblock, arrival: ReceivedMessage) -> WatchEvent:
        block = self._block_number(flashblock)
        return WatchEvent(name, arrival.received_ns, flashblock.payload_id, block, flashblock.index)

    def _row(self, flashblock: Flashblock, arrival: ReceivedMessage, marks: tuple[str, ...]) -> Row:
        before = self._progress.peek(flashblock.payload_id)
        diff, index, base = flashblock.diff, flashblock.index, flashblock.base
        follows = before is not None and index == before.index + 1
        gas_added: int | None = None
        total: int | None = None
        if index == 0:
            gas_added, total = diff.gas_used, len(diff.transactions)
        elif before is not None and follows:
            gas_added = max(0, diff.gas_used - before.gas_used)
            total = None if before.transactions is None else before.transactions + len(diff.transactions)
        if before is None:
            before = _Progress(base, index, diff.gas_used, total)
            self._newest = flashblock.payload_id
        elif index > before.index:
            before.index, before.gas_used, before.transactions = index, diff.gas_used, total
        base = before.base = base or before.base
        if len(before.seen) < MAX_FLASHBLOCKS_PER_PAYLOAD:
            before.seen.add(index)
        self._remember(flashblock.payload_id, before)
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

    def _is_replayed(self, arrival: ReceivedMessage) -> bool:
        if self._caught_up_ns is None:
            return False
        if arrival.received_ns > self._caught_up_ns:
            self._caught_up_ns = None
            return False
        self._caught_up_ns = arrival.received_ns + CATCH_UP_STEP_NS
        return True

    def _remember(self, payload_id: str, progress: _Progress) -> None:
        self._progress.put(payload_id, progress)

    def _base_fee_change(self, flashblock: Flashblock) -> float | None:
        if flashblock.base is None:
            return None
        before, now = self._last_base_fee, flashblock.base.base_fee_per_gas
        self._last_base_fee = now
        return (now - before) / before if before else None

    def _block_number(self, flashblock: Flashblock) -> int:
        """What the payload's base says; metadata only where the base was never seen."""
        progress = self._progress.peek(flashblock.payload_id)
        if progress is not None and progress.base is not None:
            return progress.base.block_number
        return flashblock.block_number

    def _translate(self, events: list[Event], received_ns: int) -> list[WatchEvent]:
        translated = []
        for event in events:
            if (described := _described(event)) is not None:
                name, payload_id, block, index, details = described
                made = WatchEvent(name, received_ns, payload_id, block, index, details)
                kept = self._reported_gap(made) if name == "gap" else made
                translated += [] if kept is None else [kept]
        return translated


def _place(one: Flashblock | Duplicate | Equivocation) -> tuple[str, int]:
    return one.payload_id, one.index


def _undecodable(arrival: ReceivedMessage, reason: str, hint: str | None = None) -> WatchEvent:
    details = {"reason": reason, "hint": hint, "bytes": len(arrival.data)}
    return WatchEvent("undecodable", arrival.received_ns, details=details, arrival=arrival)


_Described = tuple[str, str | None, int | None, int | None, dict[str, Any]]


def _described(event: Event) -> _Described | None:
    """Name, place and figures of a sequence event; None for those that the flashblock itself stands for."""
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
