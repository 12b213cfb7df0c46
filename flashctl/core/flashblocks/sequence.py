"""The rules of a flashblock sequence, as a state machine without I/O or clock.

`Assembler.feed` takes one received flashblock and returns what it means, in the order a consumer must apply
it: what ended, what is missing, then the flashblock itself. The rules are the consumer's half of the
subblocks specification (ethereum-optimism/specs, specs/protocol/subblocks.md), with the payload id as the
key:

    received                              events
    index 0 with base, new payload id     Closed, then Replaced | Rewound | Missed, Opened, Accepted
    next index of the open payload        Accepted
    an index seen before, same content    Duplicate: dropped, the sequence goes on
    an index seen before, other content   Equivocation: dropped, the first one counts
    a later index                         Gap, Closed; then Ignored until the next index 0
    index > 0 of a payload never opened   Closed, JoinedMid; then Ignored until the next index 0
    base missing, repeated or other block Inconsistent, Closed; then Ignored until the next index 0

It never raises. A stream is untrusted input, so its failures are events with the figures that a log line or a
counter needs. There is no last index: a block ends when the next one begins, and only the chain shows whether
it was sealed.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from flashctl.core.flashblocks.wire import Base, Diff, Flashblock
from flashctl.lru import Lru

__all__ = [
    "MAX_FLASHBLOCKS_PER_PAYLOAD",
    "Accepted",
    "Assembler",
    "CloseReason",
    "Closed",
    "Duplicate",
    "Equivocation",
    "Event",
    "Gap",
    "Ignored",
    "Inconsistent",
    "JoinedMid",
    "Missed",
    "Opened",
    "Payload",
    "PrevMismatch",
    "Replaced",
    "Rewound",
]

MAX_FLASHBLOCKS_PER_PAYLOAD: Final = 10_000
"""Where an open payload stops growing. Real ones end near 11; this only bounds what a hostile stream can
hold."""

REMEMBERED_PAYLOADS: Final = 8
"""Closed payloads whose contents are still recognised as duplicates.

A second upstream, or a server that replays after a reconnect, lags by one block; eight leave room for 250
ms blocks.
"""

UNSET_PREV_ID: Final = "0-0"
"""`metadata.prev_flashblock_id` of a builder that has just started."""


class CloseReason(Enum):
    """Why a payload takes no more flashblocks."""

    NEXT = "next"
    """A payload of a later block began; the only reason that may mean the block is complete."""
    REPLACED = "replaced"
    """The same block number is being built again."""
    REWOUND = "rewound"
    """The stream went back to a lower block number."""
    BROKEN = "broken"
    """A flashblock is missing or contradicts the sequence."""
    ENDED = "ended"
    """The consumer stopped following the stream."""


@dataclass(frozen=True, slots=True)
class Payload:
    """The flashblocks of one payload id received so far, without a hole, from index 0."""

    payload_id: str
    block_number: int
    base: Base
    flashblocks: tuple[Flashblock, ...]

    @property
    def last(self) -> Flashblock:
        """The newest flashblock; its diff holds the totals of the block."""
        return self.flashblocks[-1]

    @property
    def diff(self) -> Diff:
        """The newest diff: roots, bloom and gas of the whole block so far."""
        return self.flashblocks[-1].diff

    @property
    def transactions(self) -> tuple[bytes, ...]:
        """Every transaction so far, in block order."""
        return tuple(raw for flashblock in self.flashblocks for raw in flashblock.diff.transactions)


@dataclass(frozen=True, slots=True)
class Opened:
    """Index 0 of a payload arrived; Accepted for the same flashblock follows."""

    payload_id: str
    block_number: int
    base: Base


@dataclass(frozen=True, slots=True)
class Accepted:
    """The next flashblock of the open payload."""

    flashblock: Flashblock
    first_transaction: int
    """Position in the block of the first transaction this one adds."""
    gas_added: int
    """Gas of this flashblock alone; the wire carries totals. Never below 0."""
    elapsed_ns: int | None
    """Since the flashblock before it was fed, of whatever payload; None for the first of all."""


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A flashblock that was accepted before, again and with equal content."""

    payload_id: str
    block_number: int
    index: int


@dataclass(frozen=True, slots=True)
class Equivocation:
    """A second, different flashblock for a (payload id, index): the sequencer must never publish one."""

    payload_id: str
    block_number: int
    index: int


@dataclass(frozen=True, slots=True)
class Gap:
    """One or more flashblocks of the open payload that never arrived."""

    payload_id: str
    block_number: int
    missing: range
    """The indices skipped, `range(last + 1, index)`."""


@dataclass(frozen=True, slots=True)
class JoinedMid:
    """The first flashblock seen of a payload is not its index 0, so its block cannot be rebuilt."""

    payload_id: str
    block_number: int
    index: int


@dataclass(frozen=True, slots=True)
class Ignored:
    """A flashblock that cannot be used because the sequence it belongs to is broken or over."""

    payload_id: str
    block_number: int
    index: int


@dataclass(frozen=True, slots=True)
class Inconsistent:
    """A flashblock that contradicts the rules of a sequence."""

    payload_id: str
    block_number: int
    index: int
    reason: str


@dataclass(frozen=True, slots=True)
class Closed:
    """The open payload takes no more flashblocks."""

    payload: Payload
    reason: CloseReason


@dataclass(frozen=True, slots=True)
class Replaced:
    """A block number is built again under another payload id."""

    block_number: int
    old_payload_id: str
    new_payload_id: str


@dataclass(frozen=True, slots=True)
class Rewound:
    """A payload of an earlier block began: a reorg, or a stream that replays."""

    from_block: int
    to_block: int


@dataclass(frozen=True, slots=True)
class Missed:
    """Whole blocks of which no usable flashblock arrived."""

    blocks: range


@dataclass(frozen=True, slots=True)
class PrevMismatch:
    """`metadata.prev_flashblock_id` names another predecessor than the flashblock accepted last.

    The proof of a truncated block: without it a lost tail looks like a complete block (base/base#693).
    """

    payload_id: str
    index: int
    claimed: str
    actual: str
    predecessor_id: str
    """Payload id of the flashblock accepted last: the one whose tail is missing if `index` is 0."""


Event = (
    Opened
    | Accepted
    | Duplicate
    | Equivocation
    | Gap
    | JoinedMid
    | Ignored
    | Inconsistent
    | Closed
    | Replaced
    | Rewound
    | Missed
    | PrevMismatch
)


class Assembler:
    """Follows one stream of flashblocks.

        assembler = Assembler()
        for event in assembler.feed(wire.decode(frame), time.monotonic_ns()):
            match event: ...

    `payload` is the open payload at any time: the block as preconfirmed so far.
    """

    def __init__(self) -> None:
        self._flashblocks: list[Flashblock] = []
        """Of the open payload; empty while waiting for an index 0."""
        self._transactions = 0
        self._snapshot: Payload | None = None
        self._refused: str | None = None
        """The payload id that was announced as broken or joined late, so that it is announced once."""
        self._highest: tuple[int, str] | None = None
        """Block number and payload id of the last payload opened, open or not."""
        self._last_position: str | None = None
        """`"<block>-<index>"` of the flashblock accepted last."""
        self._last_payload_id = ""
        """Of that flashblock."""
        self._last_ns: int | None = None
        self._remembered = Lru[str, list[Flashblock]](REMEMBERED_PAYLOADS)

    def __repr__(self) -> str:
        if not self._flashblocks:
            return f"<Assembler waiting for index 0, last {self._last_position}>"
        newest = self._flashblocks[-1]
        return f"<Assembler #{newest.block_number} {newest.payload_id} at index {newest.index}>"

    @property
    def payload(self) -> Payload | None:
        """The open payload; None while waiting for an index 0."""
        if not self._flashblocks:
            return None
        if self._snapshot is None:
            first = self._flashblocks[0]
            assert first.base is not None
            self._snapshot = Payload(
                first.payload_id, first.block_number, first.base, tuple(self._flashblocks)
            )
        return self._snapshot

    def feed(self, flashblock: Flashblock, now_ns: int) -> list[Event]:
        """Advance by one received flashblock; `now_ns` is when it arrived on any steady clock, in
        nanoseconds."""
        elapsed = None if self._last_ns is None else max(0, now_ns - self._last_ns)
        self._last_ns = now_ns
        known = self._known(flashblock)
        if known is not None:
            return [known]
        if flashblock.index == 0:
            return self._begin(flashblock, elapsed)
        if self._flashblocks and flashblock.payload_id == self._flashblocks[0].payload_id:
            return self._extend(flashblock, elapsed)
        return self._outside(flashblock)

    def end(self) -> list[Event]:
        """Stop following: closes what is open. A disconnect alone is no end; a server may replay or
        resume."""
        return self._close(CloseReason.ENDED)

    def _known(self, flashblock: Flashblock) -> Event | None:
        """The verdict on a (payload id, index) seen before; None when it is new.

        A broken payload is not remembered: a server that replays it from index 0 gets it opened again.
        """
        payload_id, index = flashblock.payload_id, flashblock.index
        if self._flashblocks and self._flashblocks[0].payload_id == payload_id:
            seen = self._flashblocks
        else:
            seen = self._remembered.peek(payload_id) or []
            if seen and index >= len(seen):
                return Ignored(payload_id, flashblock.block_number, index)
        if index >= len(seen):
            return None
        first = seen[index]
        # Metadata is left out: proxies add to it and take from it.
        if first.diff == flashblock.diff and first.base == flashblock.base:
            return Duplicate(payload_id, first.block_number, index)
        return Equivocation(payload_id, first.block_number, index)

    def _begin(self, flashblock: Flashblock, elapsed: int | None) -> list[Event]:
        number, payload_id = flashblock.block_number, flashblock.payload_id
        if flashblock.base is None:
            events = self._close(CloseReason.BROKEN)
            self._refused = payload_id
            return [*events, Inconsistent(payload_id, number, 0, "index 0 without base")]
        events = self._close(self._reason_for(number)) + self._succession(number, payload_id)
        events += self._check_predecessor(flashblock)
        self._highest = (number, payload_id)
        self._refused = None
        events.append(Opened(payload_id, number, flashblock.base))
        events.append(self._accept(flashblock, elapsed))
        return events

    def _extend(self, flashblock: Flashblock, elapsed: int | None) -> list[Event]:
        newest = self._flashblocks[-1]
        number, payload_id, index = newest.block_number, flashblock.payload_id, flashblock.index
        problem = self._contradiction(flashblock)
        if problem is not None:
            self._refused = payload_id
            return [
                Inconsistent(payload_id, flashblock.block_number, index, problem),
                *self._close(CloseReason.BROKEN),
            ]
        if index > newest.index + 1:
            self._refused = payload_id
            missing = range(newest.index + 1, index)
            return [Gap(payload_id, number, missing), *self._close(CloseReason.BROKEN)]
        return [*self._check_predecessor(flashblock), self._accept(flashblock, elapsed)]

    def _outside(self, flashblock: Flashblock) -> list[Event]:
        number, payload_id, index = flashblock.block_number, flashblock.payload_id, flashblock.index
        if payload_id == self._refused:
            return [Ignored(payload_id, number, index)]
        # A payload other than the open one: whatever it is, it ends the open one (see the module docstring).
        events = self._close(self._reason_for(number))
        self._refused = payload_id
        return [*events, JoinedMid(payload_id, number, index)]

    def _contradiction(self, flashblock: Flashblock) -> str | None:
        opened = self._flashblocks[0]
        if flashblock.base is not None:
            return f"base at index {flashblock.index}"
        # Some producers fill metadata.block_number independently of base (pinned messages of base/base do),
        # so later numbers are held against the metadata of index 0, and against base only when that had
        # none.
        expected = opened.metadata.block_number
        if expected is None:
            expected = opened.block_number
        if flashblock.metadata.block_number != expected:
            return f"block {flashblock.metadata.block_number} in the payload of block {expected}"
        if len(self._flashblocks) >= MAX_FLASHBLOCKS_PER_PAYLOAD:
            return f"more than {MAX_FLASHBLOCKS_PER_PAYLOAD:,} flashblocks in a payload"
        return None

    def _accept(self, flashblock: Flashblock, elapsed: int | None) -> Accepted:
        gas_before = self._flashblocks[-1].diff.gas_used if self._flashblocks else 0
        accepted = Accepted(
            flashblock, self._transactions, max(0, flashblock.diff.gas_used - gas_before), elapsed
        )
        self._flashblocks.append(flashblock)
        self._transactions += len(flashblock.diff.transactions)
        self._snapshot = None
        self._last_position = f"{self._flashblocks[0].block_number}-{flashblock.index}"
        self._last_payload_id = flashblock.payload_id
        return accepted

    def _reason_for(self, number: int) -> CloseReason:
        """Why the open payload closes when another payload, of block `number`, turns up."""
        if not self._flashblocks:
            return CloseReason.BROKEN
        current = self._flashblocks[0].block_number
        if number == current:
            return CloseReason.REPLACED
        return CloseReason.NEXT if number > current else CloseReason.REWOUND

    def _succession(self, number: int, payload_id: str) -> list[Event]:
        """How block `number` relates to the payload opened before it."""
        if self._highest is None:
            return []
        previous, previous_id = self._highest
        if number == previous:
            return [] if payload_id == previous_id else [Replaced(number, previous_id, payload_id)]
        if number < previous:
            return [Rewound(previous, number)]
        return [Missed(range(previous + 1, number))] if number > previous + 1 else []

    def _check_predecessor(self, flashblock: Flashblock) -> list[Event]:
        claimed, actual = flashblock.metadata.prev_flashblock_id, self._last_position
        if claimed in (None, UNSET_PREV_ID, actual) or actual is None:
            return []
        payload_id, predecessor = flashblock.payload_id, self._last_payload_id
        return [PrevMismatch(payload_id, flashblock.index, str(claimed), actual, predecessor)]

    def _close(self, reason: CloseReason) -> list[Event]:
        payload = self.payload
        if payload is None:
            return []
        if reason is not CloseReason.BROKEN:
            self._remembered.put(payload.payload_id, self._flashblocks)
        self._flashblocks = []
        self._transactions = 0
        self._snapshot = None
        return [Closed(payload, reason)]
