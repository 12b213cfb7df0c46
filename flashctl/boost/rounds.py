"""The builds under way, and the flashblocks that belong to each. No I/O, no clock.

A round begins when the consensus client requests a block with the mempool, before either engine is called.
Three things then arrive in any order: the fallback's payload id (which the consensus client passes to
getPayload), the builder's payload id, and flashblocks that carry the builder's. A flashblock belongs to a
round if

- the builder named that id in its answer, or
- the id equals the one computed from the attributes in all but the first byte. That byte is the version, 3
  by the specification and 4 from op-reth (optimism#20226). So a flashblock that overtakes the builder's
  answer is attributed at once, and one whose answer got lost is still used (rollup-boost#409).

A bounded number of other flashblocks is held until the builder answers. Those of a round that arrive out of
order wait for the missing indices (rollup-boost#449).

Only the newest round publishes, and only until getPayload has taken its block: a flashblock after that
would preconfirm what the block no longer holds. What was published stands: the same (payload, index) is never
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
"""Rounds kept, with their flashblocks and answers: getPayload names the newest, or if late the one before."""

MAX_HELD = 1024
"""Flashblocks held until the builder answers; rollup-boost's figure. One block has about ten."""

MAX_HELD_BYTES = 64 * 1024 * 1024

MAX_ROUND_BYTES = 32 * 1024 * 1024
"""Of all flashblocks of one block, as JSON: also the limit of the builder's getPayload answer."""


MAX_AHEAD = 16
"""Flashblocks of a round that wait for a missing index: more than a block has, since they have no other use
and the missing one may arrive at any time before getPayload."""

PATIENCE_NS = 4_000_000_000
"""How long they wait: two blocks, by when the round is over."""


class RoundState(Enum):
    """Whether a round still takes flashblocks."""

    OPEN = "open"
    SEALED = "sealed"
    """getPayload has taken its block."""
    SUPERSEDED = "superseded"
    """A newer round began."""
    CANCELLED = "cancelled"
    """The fallback refused the build, so no getPayload will follow."""


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
    """One message of the builder's stream: decoded, and as received."""

    flashblock: Flashblock
    data: bytes
    binary: bool = False

    @property
    def size(self) -> int:
        """Bytes as JSON, uncompressed."""
        return max(len(self.data), 2 * sum(map(len, self.flashblock.diff.transactions)))


@dataclass(frozen=True, slots=True)
class Publish:
    """The next flashblock of the newest round."""

    round: Round
    incoming: Incoming


@dataclass(frozen=True, slots=True)
class Hold:
    """Kept until the builder's payload id or the missing indices arrive."""

    awaited: int | None = None
    """The missing index; None: the builder's answer is awaited."""


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
    """The payload id computed per the specification."""

    defaults: bytes | None = None
    """The chain's EIP-1559 constants; None if unknown when the round began."""

    child: Child | None = None
    """The fields that the parent fixes; None if the parent was not seen."""

    state: RoundState = RoundState.OPEN
    fallback_id: bytes | None = None
    builder_id: bytes | None = None
    builder_answered: bool = False
    """Whether the builder has answered, successfully or not."""

    builder_failure: str = ""
    """Why the builder does not build, if it answered with a reason."""

    trouble: str = ""
    """The first fault of its flashblocks; a complete replay clears it."""

    equivocated: bool = False
    """The builder sent two contents for one index: every later flashblock is dropped."""

    flashblocks: list[Flashblock] = field(default_factory=list)
    """Accepted so far, from index 0 without a gap."""

    preconfirmed: list[Flashblock] = field(default_factory=list)
    """Published by an earlier round for the same request: not to be contradicted."""

    published: bool = False
    """Whether its flashblocks have gone to subscribers."""

    answer: Any = None
    """The envelope that getPayload returned. The same id never gets two different blocks."""

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
        """The block assembled from its flashblocks so far."""
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
        """The verdicts on a flashblock of this round, and on those that waited for it."""
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
        """Why a flashblock can have no place in this round, at any index."""
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
        """The verdict on the next one in order."""
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
        """How a flashblock departs from the request; empty if it does not."""
        if flashblock.index > 0:
            return later_difference(flashblock)
        return first_difference(
            flashblock, self.parent_hash, self.attributes, self.defaults
        ) or child_difference(flashblock, self.child)

    def _extend(self, incoming: Incoming) -> Verdict:
        """Add what the assembler accepted; a builder that replays after a gap starts again at index 0."""
        flashblock, index = incoming.flashblock, incoming.flashblock.index
        if index < len(self.flashblocks):
            if _same(self.flashblocks[index], flashblock):
                return Drop(DropReason.DUPLICATE)
            return self._refuse(DropReason.EQUIVOCATION, f"index {index}")
        if index < len(self.preconfirmed) and not _same(self.preconfirmed[index], flashblock):
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
        self._by_fallback_id: OrderedDict[bytes, Round] = OrderedDict()
        self._held: list[Incoming] = []
        self._held_bytes = 0
        self.parents = Parents()
        """Blocks that the fallback found valid, the possible parents of the next ones."""
        self.defaults: bytes | None = None
        """The chain's EIP-1559 constants as `eip1559Params`, taken from blocks of the fallback."""

    @property
    def current(self) -> Round | None:
        """The round begun last, whatever its state."""
        return self._current

    def learn(self, defaults: bytes | None) -> None:
        """Keep the chain's constants that a block of the fallback shows; None if it shows none."""
        self.defaults = self.defaults if defaults is None else defaults

    def begin(self, parent_hash: bytes, attributes: PayloadAttributes) -> Round:
        """The consensus client requests a block on `parent_hash`.

        A repeated request continues the same round: a retried call must not lose what is published.
        """
        expected = payload_id(parent_hash, attributes)
        current = self._current
        if current is not None and current.expected_id == expected and current.state is RoundState.OPEN:
            return current
        self.supersede()
        child = self.parents.child(parent_hash, attributes.timestamp)
        self._current = Round(parent_hash, attributes, expected, self.defaults, child)
        if current is not None and current.expected_id == expected:
            # A consensus client that lost the block requests it again, and the builder may build another.
            self._current.preconfirmed = current.flashblocks or current.preconfirmed
        return self._current

    def supersede(self) -> None:
        """The consensus client moves on to a block without the builder."""
        if self._current is not None and self._current.state is RoundState.OPEN:
            self._current.state = RoundState.SUPERSEDED
        self._forget_held()

    def fallback_answered(self, round_: Round, identity: bytes | None) -> None:
        """The fallback builds under the payload id `identity`; None if it does not build."""
        if identity is None:
            self.cancel(round_)
            return
        round_.fallback_id = identity
        self._by_fallback_id[identity] = round_
        self._by_fallback_id.move_to_end(identity)
        while len(self._by_fallback_id) > MAX_ROUNDS:
            self._by_fallback_id.popitem(last=False)

    def cancel(self, round_: Round) -> None:
        """Close a round for which no getPayload will follow."""
        if round_.state is RoundState.OPEN:
            round_.state = RoundState.CANCELLED

    def builder_answered(
        self, round_: Round, identity: bytes | None, now_ns: int, failure: str = ""
    ) -> list[tuple[Incoming, Verdict]]:
        """The builder builds under the payload id `identity`, or does not; the verdicts on what was held.

        Flashblocks that arrived under another id keep it: the builder's stream takes precedence over its
        answer, and both are checked against the attributes.
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
        """The verdicts on one message of the builder's stream, received at `now_ns` on a monotonic clock, and
        on those that waited for it."""
        round_ = self._current
        if round_ is not None and round_.owns(bytes.fromhex(incoming.flashblock.payload_id[2:])):
            return round_.accept(incoming, now_ns)
        return [(incoming, self._outside(incoming, round_))]

    def _outside(self, incoming: Incoming, round_: Round | None) -> Verdict:
        """The verdict on a flashblock that cannot be attributed to the current round."""
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
        """A flashblock of the open round may be missing: its block counts as incomplete until the next one in
        sequence shows that none is."""
        round_ = self._current
        if round_ is not None and round_.state is RoundState.OPEN:
            round_.trouble = round_.trouble or trouble

    def find(self, fallback_id: bytes) -> Round | None:
        """The round whose block getPayload requests."""
        return self._by_fallback_id.get(fallback_id)

    def seal(self, round_: Round) -> None:
        """getPayload takes the block now; flashblocks that arrive later are not part of it."""
        if round_.state in (RoundState.OPEN, RoundState.SUPERSEDED):
            round_.state = RoundState.SEALED

    def _forget_held(self) -> None:
        self._held = []
        self._held_bytes = 0


def _same(one: Flashblock, other: Flashblock) -> bool:
    """Whether two flashblocks preconfirm the same; metadata is ignored."""
    return one.diff == other.diff and one.base == other.base
