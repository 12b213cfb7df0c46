"""The builds under way, and the flashblocks that belong to each. No I/O, no clock.

A round begins when the consensus client asks for a block with the pool, before anybody is called. Three
things then arrive in any order: the fallback's payload id (the one the consensus client will ask for), the
builder's payload id, and flashblocks that carry the builder's. A round belongs to a flashblock if

- the builder named that id in its answer, or
- the id equals the one computed from the attributes in all but the first byte. That byte is the version, 3
  by the specification and 4 from op-reth (optimism#20226). So a flashblock that overtakes the builder's
  answer is recognised at once, and one whose answer got lost is not lost (rollup-boost#409).

Anything else waits, a bounded number of flashblocks, for the builder's answer. Those of a round that come
ahead of their turn wait for the ones that they overtook (rollup-boost#449).

Only the newest round publishes, and only until getPayload has taken its block: a flashblock after that
would promise what the block no longer holds. What was published stays: the same (payload, index) is never
published twice, nor with other content.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from flashctl.boost.obligations import MAX_TRANSACTIONS, first_difference, later_difference
from flashctl.boost.parents import Child, Parents, child_difference
from flashctl.core.flashblocks.reorder import Reorder
from flashctl.core.flashblocks.sequence import (
    Accepted,
    Assembler,
    Duplicate,
    Equivocation,
    Gap,
    Inconsistent,
    Payload,
)
from flashctl.core.flashblocks.wire import Flashblock
from flashctl.op.attributes import PayloadAttributes, payload_id

__all__ = ["Drop", "DropReason", "Hold", "Incoming", "Publish", "Round", "RoundState", "Rounds", "Verdict"]

MAX_ROUNDS = 8
"""Rounds remembered, with their flashblocks and answers: a consensus client asks for the newest, and one that
comes late asks for the one before."""

MAX_HELD = 1024
"""Flashblocks that wait for the builder's answer; the reference's figure. One block has about ten."""

MAX_HELD_BYTES = 64 * 1024 * 1024

MAX_ROUND_BYTES = 32 * 1024 * 1024
"""Of all flashblocks of one block, as JSON: what the builder's getPayload may answer, too."""


MAX_AHEAD = 16
"""Flashblocks of a round that wait for one before them: more than a block has, since nothing else can be done
with them, and the missing one may come at any time before getPayload."""

PATIENCE_NS = 4_000_000_000
"""For how long, two blocks; by then the round is over."""


class RoundState(Enum):
    """Whether a round still takes flashblocks."""

    OPEN = "open"
    SEALED = "sealed"
    """getPayload has taken its block."""
    SUPERSEDED = "superseded"
    """A newer round began."""
    CANCELLED = "cancelled"
    """The fallback refused the build, so nobody will ask for its block."""


class DropReason(Enum):
    """Why a flashblock goes no further."""

    NO_ROUND = "no build under way"
    OTHER_PAYLOAD = "another payload id"
    CLOSED = "its block is taken"
    DUPLICATE = "duplicate"
    EQUIVOCATION = "differs from one already published"
    OUT_OF_SEQUENCE = "out of sequence"
    NOT_AS_ASKED = "not what the attributes ask for"
    TOO_LARGE = "more than a block holds"
    OVERFLOW = "too many waiting for the builder's answer"


@dataclass(frozen=True, slots=True)
class Incoming:
    """One message of the builder's stream: decoded, and as it came."""

    flashblock: Flashblock
    data: bytes
    binary: bool = False

    @property
    def size(self) -> int:
        """Bytes, as JSON, whatever it was compressed to."""
        return max(len(self.data), 2 * sum(map(len, self.flashblock.diff.transactions)))


@dataclass(frozen=True, slots=True)
class Publish:
    """The next flashblock of the newest round."""

    round: Round
    incoming: Incoming


@dataclass(frozen=True, slots=True)
class Hold:
    """Kept until the builder names its payload id, or the flashblocks before it come."""

    awaited: int | None = None
    """The index that is waited for; None: the builder's answer."""


@dataclass(frozen=True, slots=True)
class Drop:
    """Not used."""

    reason: DropReason
    detail: str = ""


Verdict = Publish | Hold | Drop


@dataclass(slots=True, eq=False)
class Round:
    """One build, from forkchoiceUpdated to getPayload."""

    parent_hash: bytes
    attributes: PayloadAttributes
    expected_id: bytes
    """What both sides should call it, by the specification."""

    defaults: bytes | None = None
    """The chain's EIP-1559 constants, as far as they were known when the round began."""

    child: Child | None = None
    """What the parent settles about the block, as far as it is known."""

    state: RoundState = RoundState.OPEN
    l2_id: bytes | None = None
    builder_id: bytes | None = None
    builder_answered: bool = False
    """Whether the builder's answer is in, be it a failure."""

    builder_failure: str = ""
    """Why the builder does not build, if it said so."""

    trouble: str = ""
    """The first thing wrong with its flashblocks; a replay without the hole clears it."""

    equivocated: bool = False
    """The builder said two things about one index: nothing after that is believed."""

    flashblocks: list[Flashblock] = field(default_factory=list)
    """Accepted so far, from index 0 without a hole."""

    promised: list[Flashblock] = field(default_factory=list)
    """What an earlier round for the very same request published: not to be contradicted."""

    published: bool = False
    """Whether subscribers have seen its flashblocks."""

    answer: Any = None
    """What getPayload was answered with. The same id never gets two different blocks."""

    answered_version: int = 0
    """Of that getPayload."""

    _size: int = 0
    _transactions: int = 0
    _assembler: Assembler = field(default_factory=Assembler)
    _reorder: Reorder[Incoming] = field(
        default_factory=lambda: Reorder(
            lambda incoming: incoming.flashblock, most=MAX_AHEAD, patience_ns=PATIENCE_NS, joins=False
        )
    )

    @property
    def payload(self) -> Payload | None:
        """The block as far as its flashblocks tell."""
        if not self.flashblocks:
            return None
        first = self.flashblocks[0]
        assert first.base is not None
        return Payload(first.payload_id, first.block_number, first.base, tuple(self.flashblocks))

    def owns(self, identity: bytes) -> bool:
        """Whether a flashblock with this payload id is of this round."""
        if self.builder_id is not None:
            return identity == self.builder_id
        return identity[1:] == self.expected_id[1:]

    def accept(self, incoming: Incoming, now_ns: int) -> list[tuple[Incoming, Verdict]]:
        """Judge a flashblock of this round, and those that waited for it."""
        refusal = self._unfit(incoming) or self._repeats_a_waiting(incoming)
        if refusal is not None:
            return [(incoming, refusal)]
        verdicts = [(ready, self._judge(ready, now_ns)) for ready in self._reorder.feed(incoming, now_ns)]
        if waiting := self._reorder.waiting:
            self.trouble = self.trouble or f"index {self._reorder.awaited} has not come"
            if any(incoming is one for one in waiting):
                verdicts.append((incoming, Hold(self._reorder.awaited)))
        return verdicts

    def _unfit(self, incoming: Incoming) -> Drop | None:
        """Why a flashblock can have no place in this round, whatever its turn."""
        flashblock = incoming.flashblock
        if self.state is not RoundState.OPEN:
            return Drop(DropReason.CLOSED, self.state.value)
        if self.equivocated:
            return Drop(DropReason.EQUIVOCATION, "earlier in this round")
        if self.builder_id is None:
            self.builder_id = bytes.fromhex(flashblock.payload_id[2:])
        if difference := self._difference(flashblock):
            return self._refuse(DropReason.NOT_AS_ASKED, difference)
        if flashblock.index >= len(self.flashblocks) and self._overflows(incoming):
            return self._refuse(DropReason.TOO_LARGE, f"index {flashblock.index}")
        return None

    def _repeats_a_waiting(self, incoming: Incoming) -> Drop | None:
        flashblock = incoming.flashblock
        for one in self._reorder.waiting:
            if one.flashblock.index == flashblock.index:
                if _same(one.flashblock, flashblock):
                    return Drop(DropReason.DUPLICATE)
                return self._refuse(DropReason.EQUIVOCATION, f"index {flashblock.index}")
        return None

    def _judge(self, incoming: Incoming, now_ns: int) -> Verdict:
        """What the next one in order means."""
        flashblock = incoming.flashblock
        if self.equivocated:
            return Drop(DropReason.EQUIVOCATION, "earlier in this round")
        for event in self._assembler.feed(flashblock, now_ns):
            match event:
                case Accepted():
                    return self._extend(incoming)
                case Duplicate():
                    return Drop(DropReason.DUPLICATE)
                case Equivocation():
                    return self._refuse(DropReason.EQUIVOCATION, f"index {flashblock.index}")
                case Gap(missing=missing):
                    return self._refuse(DropReason.OUT_OF_SEQUENCE, f"missing {[*missing[:5]]}")
                case Inconsistent(reason=reason):
                    return self._refuse(DropReason.OUT_OF_SEQUENCE, reason)
                case _:
                    continue
        return self._refuse(DropReason.OUT_OF_SEQUENCE, f"index {flashblock.index} without its predecessor")

    def _overflows(self, incoming: Incoming) -> bool:
        new = [incoming, *self._reorder.waiting]
        transactions = self._transactions + sum(len(one.flashblock.diff.transactions) for one in new)
        size = self._size + sum(one.size for one in new)
        return transactions > MAX_TRANSACTIONS or size > MAX_ROUND_BYTES

    def _difference(self, flashblock: Flashblock) -> str:
        """How a flashblock departs from what was asked for; empty if it does not."""
        if flashblock.index > 0:
            return later_difference(flashblock)
        return first_difference(
            flashblock, self.parent_hash, self.attributes, self.defaults
        ) or child_difference(flashblock, self.child)

    def _extend(self, incoming: Incoming) -> Verdict:
        """Take what the assembler accepted; a builder that replays after a gap starts again at index 0."""
        flashblock, index = incoming.flashblock, incoming.flashblock.index
        if index < len(self.flashblocks):
            if _same(self.flashblocks[index], flashblock):
                return Drop(DropReason.DUPLICATE)
            return self._refuse(DropReason.EQUIVOCATION, f"index {index}")
        if index < len(self.promised) and not _same(self.promised[index], flashblock):
            return self._refuse(DropReason.EQUIVOCATION, f"index {index}, built again")
        self.flashblocks.append(flashblock)
        self._size += incoming.size
        self._transactions += len(flashblock.diff.transactions)
        self.trouble = ""
        return Publish(self, incoming)

    def _refuse(self, reason: DropReason, detail: str) -> Drop:
        self.trouble = self.trouble or f"{reason.value}: {detail}"
        self.equivocated = self.equivocated or reason is DropReason.EQUIVOCATION
        return Drop(reason, detail)


class Rounds:
    """All rounds; the newest takes flashblocks."""

    def __init__(self) -> None:
        self._current: Round | None = None
        self._by_l2_id: OrderedDict[bytes, Round] = OrderedDict()
        self._held: list[Incoming] = []
        self._held_bytes = 0
        self.parents = Parents()
        """Blocks that the fallback found valid, which the next ones are built upon."""
        self.defaults: bytes | None = None
        """The chain's EIP-1559 constants as `eip1559Params`, learned from blocks of the fallback."""

    @property
    def current(self) -> Round | None:
        """The round begun last, whatever its state."""
        return self._current

    def learn(self, defaults: bytes | None) -> None:
        """The fallback used these constants of the chain's; None if it did not say."""
        self.defaults = self.defaults if defaults is None else defaults

    def begin(self, parent_hash: bytes, attributes: PayloadAttributes) -> Round:
        """The consensus client asks for a block on `parent_hash`.

        Asking again for the same continues the same round: a retried call must not lose what is published.
        """
        expected = payload_id(parent_hash, attributes)
        current = self._current
        if current is not None and current.expected_id == expected and current.state is RoundState.OPEN:
            return current
        self.supersede()
        child = self.parents.child(parent_hash, attributes.timestamp)
        self._current = Round(parent_hash, attributes, expected, self.defaults, child)
        if current is not None and current.expected_id == expected:
            # A consensus client that lost the block asks for it again, and the builder may build another.
            self._current.promised = current.flashblocks or current.promised
        return self._current

    def supersede(self) -> None:
        """The consensus client moves on to a block without the builder."""
        if self._current is not None and self._current.state is RoundState.OPEN:
            self._current.state = RoundState.SUPERSEDED
        self._forget_held()

    def l2_answered(self, round_: Round, identity: bytes | None) -> None:
        """The fallback builds under `identity`; None if it does not build at all."""
        if identity is None:
            self.cancel(round_)
            return
        round_.l2_id = identity
        self._by_l2_id[identity] = round_
        self._by_l2_id.move_to_end(identity)
        while len(self._by_l2_id) > MAX_ROUNDS:
            self._by_l2_id.popitem(last=False)

    def cancel(self, round_: Round) -> None:
        """Nobody will ask for this round's block."""
        if round_.state is RoundState.OPEN:
            round_.state = RoundState.CANCELLED

    def builder_answered(
        self, round_: Round, identity: bytes | None, now_ns: int, failure: str = ""
    ) -> list[tuple[Incoming, Verdict]]:
        """The builder builds under `identity`, or does not; the verdicts on what waited for this.

        Flashblocks that arrived under another id keep it: the builder's own stream is nearer to the truth
        than an answer, and both are checked against the attributes.
        """
        round_.builder_answered = True
        round_.builder_failure = failure
        if round_ is not self._current:
            return []
        if identity is not None and not round_.flashblocks:
            round_.builder_id = identity
        held = sorted(self._held, key=lambda incoming: incoming.flashblock.index)
        self._forget_held()
        return [judged for incoming in held for judged in self.feed(incoming, now_ns)]

    def feed(self, incoming: Incoming, now_ns: int) -> list[tuple[Incoming, Verdict]]:
        """Judge one message of the builder's stream, arrived at `now_ns` on a steady clock; with it come the
        verdicts on those that waited for it."""
        round_ = self._current
        if round_ is not None and round_.owns(bytes.fromhex(incoming.flashblock.payload_id[2:])):
            return round_.accept(incoming, now_ns)
        return [(incoming, self._outside(incoming, round_))]

    def _outside(self, incoming: Incoming, round_: Round | None) -> Verdict:
        """The verdict on a flashblock that is not known to be of the round under way."""
        if round_ is None:
            return Drop(DropReason.NO_ROUND)
        if round_.builder_answered or round_.builder_id is not None or round_.state is not RoundState.OPEN:
            return Drop(DropReason.OTHER_PAYLOAD, incoming.flashblock.payload_id)
        size = incoming.size
        if len(self._held) >= MAX_HELD or self._held_bytes + size > MAX_HELD_BYTES:
            return Drop(DropReason.OVERFLOW)
        self._held.append(incoming)
        self._held_bytes += size
        return Hold()

    def disturb(self, trouble: str) -> None:
        """Something that belongs to the open round may be missing: its block is not complete until the next
        flashblock in sequence shows that nothing is."""
        round_ = self._current
        if round_ is not None and round_.state is RoundState.OPEN:
            round_.trouble = round_.trouble or trouble

    def find(self, l2_id: bytes) -> Round | None:
        """The round whose block the consensus client asks for."""
        return self._by_l2_id.get(l2_id)

    def seal(self, round_: Round) -> None:
        """getPayload takes the block now; flashblocks that come later are not part of it."""
        if round_.state in (RoundState.OPEN, RoundState.SUPERSEDED):
            round_.state = RoundState.SEALED

    def _forget_held(self) -> None:
        self._held = []
        self._held_bytes = 0


def _same(one: Flashblock, other: Flashblock) -> bool:
    """Whether two flashblocks promise the same; metadata promises nothing."""
    return one.diff == other.diff and one.base == other.base
