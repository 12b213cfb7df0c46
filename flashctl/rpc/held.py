"""The payloads that the overlay holds, by payload id, from index 0 until something ends them.

A payload has one life here and it ends once: settled by the node's block, replaced by another build of its
block, expired with its stream, or left without ground by a reorg. What ended is remembered by id, so that a
flashblock that comes later than its end is known for what it is and never taken for part of another payload.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from flashctl.core.flashblocks.sequence import Payload
from flashctl.core.flashblocks.wire import Base, Flashblock
from flashctl.lru import Lru
from flashctl.op.envelope import TxEnvelope, recover_all
from flashctl.rpc.execution import PendingBlock

__all__ = ["REMEMBERED_PAYLOADS", "Ended", "HeldPayload", "HeldPayloads"]

REMEMBERED_PAYLOADS: Final = 256
"""Ended payload ids that are still known: a stream minutes behind its node, or an hour of replaced builds."""


class Ended(Enum):
    """Why a payload is not held any more, or never was."""

    SETTLED = "settled"
    """The node has a block of its number."""
    REPLACED = "replaced"
    """Its block, or one below it, is built again."""
    EXPIRED = "expired"
    """Its stream went silent."""
    REORGANISED = "reorganised"
    """The chain below it is another one."""
    NODE_BEHIND = "node behind"
    """The node is so many blocks behind that nothing can be built on what it knows."""
    LATE = "late"
    """It began when the node had its block already."""


@dataclass(slots=True, eq=False)
class HeldPayload:
    """A payload of the stream and how far it has been executed."""

    payload_id: str
    number: int
    base: Base
    flashblocks: list[Flashblock] = field(default_factory=list)
    """Those that are or will be executed, from index 0 without a hole."""
    is_whole: bool = True
    """Whether, as far as we know, nothing of it was lost; a block on top of it needs that."""
    given_up: str = ""
    """Why nothing more of it is taken in. What was executed stays pending: its builder did promise it."""
    block: PendingBlock | None = None
    """None until it has a parent to be executed on."""
    _envelopes: dict[int, list[TxEnvelope]] = field(default_factory=dict)

    @property
    def executed(self) -> int:
        """How many flashblocks have been executed."""
        return 0 if self.block is None else self.block.index + 1

    @property
    def is_executed(self) -> bool:
        """Whether all flashblocks that are here have been executed."""
        return self.executed == len(self.flashblocks)

    @property
    def shown(self) -> PendingBlock | None:
        """The block if any flashblock of it has been executed."""
        return self.block if self.executed else None

    @property
    def payload(self) -> Payload:
        """What is here, as one value; at least index 0 must be."""
        return Payload(self.payload_id, self.number, self.base, tuple(self.flashblocks))

    def envelopes(self, index: int) -> list[TxEnvelope]:
        """The transactions of a flashblock, decoded once.

        Raises:
            InvalidTransaction, InvalidSignature: If one of them is none.
        """
        known = self._envelopes.get(index)
        if known is None:
            known = self._envelopes[index] = recover_all(self.flashblocks[index].diff.transactions)
        return known

    def give_up(self, reason: str) -> None:
        """Take in nothing more, and forget what has not been executed."""
        self.given_up = reason
        self.is_whole = False
        del self.flashblocks[self.executed :]


class HeldPayloads:
    """See the module docstring. Ordered by block number, one payload for each."""

    def __init__(self) -> None:
        self._by_id: dict[str, HeldPayload] = {}
        self._ended = Lru[str, Ended](REMEMBERED_PAYLOADS)

    def __iter__(self) -> Iterator[HeldPayload]:
        return iter(tuple(self._by_id.values()))

    def __len__(self) -> int:
        return len(self._by_id)

    def __contains__(self, held: HeldPayload) -> bool:
        return self._by_id.get(held.payload_id) is held

    @property
    def first(self) -> HeldPayload | None:
        """The one with the lowest number."""
        return next(iter(self._by_id.values()), None)

    def get(self, payload_id: str) -> HeldPayload | None:
        """The payload of this id, if it is held."""
        return self._by_id.get(payload_id)

    def how_it_ended(self, payload_id: str) -> Ended | None:
        """Why a payload is not held; None if it is, or was never heard of."""
        return self._ended.peek(payload_id)

    def add(self, held: HeldPayload) -> None:
        """Hold a payload whose number is above all others'."""
        assert all(other.number < held.number for other in self._by_id.values())
        self._by_id[held.payload_id] = held

    def end(self, payload_id: str, how: Ended) -> None:
        """Hold a payload no longer, and remember why."""
        self._by_id.pop(payload_id, None)
        self._ended.put(payload_id, how)

    def above(self, number: int) -> list[HeldPayload]:
        """The payloads of later blocks than `number`, in order."""
        return [held for held in self._by_id.values() if held.number > number]
