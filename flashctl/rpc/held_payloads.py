"""The payloads that the overlay holds, by payload id, from index 0 until their end.

A payload ends once: settled by the node's block, replaced by another build of its block, expired with its
stream, or orphaned by a reorg. EndReason ids are kept, so that a late flashblock is recognised and never
attributed to another payload.
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

__all__ = ["REMEMBERED_PAYLOADS", "EndReason", "HeldPayload", "HeldPayloads"]

REMEMBERED_PAYLOADS: Final = 256
"""EndReason payload ids kept: a stream minutes behind its node, or an hour of replaced builds."""


class EndReason(Enum):
    """Why a payload is not held any more, or never was."""

    SETTLED = "settled"
    """The node has a block of its number."""
    REPLACED = "replaced"
    """Its block, or one below it, is built again."""
    EXPIRED = "expired"
    """Its stream went silent."""
    REORGANISED = "reorganised"
    """The chain below it changed."""
    NODE_BEHIND = "node behind"
    """The node is too many blocks behind to execute on its state."""
    LATE = "late"
    """It began after the node had its block."""


@dataclass(slots=True, eq=False)
class HeldPayload:
    """A payload of the stream and its executed part."""

    payload_id: str
    number: int
    base: Base
    flashblocks: list[Flashblock] = field(default_factory=list)
    """Executed or to be executed, from index 0 without a gap."""
    is_whole: bool = True
    """Whether no flashblock of it is known to be lost; required for a block on top of it."""
    given_up: str = ""
    """Why no further flashblock of it is accepted. The executed part stays pending: it was preconfirmed."""
    block: PendingBlock | None = None
    """None until it has a parent to be executed on."""
    _envelopes: dict[int, list[TxEnvelope]] = field(default_factory=dict)

    @property
    def executed(self) -> int:
        """How many flashblocks have been executed."""
        return 0 if self.block is None else self.block.index + 1

    @property
    def is_executed(self) -> bool:
        """Whether all flashblocks received have been executed."""
        return self.executed == len(self.flashblocks)

    @property
    def shown(self) -> PendingBlock | None:
        """The block if any flashblock of it has been executed."""
        return self.block if self.executed else None

    @property
    def payload(self) -> Payload:
        """The flashblocks received, as one payload; requires index 0."""
        return Payload(self.payload_id, self.number, self.base, tuple(self.flashblocks))

    def envelopes(self, index: int) -> list[TxEnvelope]:
        """The transactions of a flashblock, decoded once.

        Raises:
            InvalidTransaction, InvalidSignature: If one is malformed.
        """
        known = self._envelopes.get(index)
        if known is None:
            known = self._envelopes[index] = recover_all(self.flashblocks[index].diff.transactions)
        return known

    def give_up(self, reason: str) -> None:
        """Accept no further flashblock, and drop those not executed."""
        self.given_up = reason
        self.is_whole = False
        del self.flashblocks[self.executed :]


class HeldPayloads:
    """The held payloads, ordered by block number, one for each."""

    def __init__(self) -> None:
        self._by_id: dict[str, HeldPayload] = {}
        self._ended = Lru[str, EndReason](REMEMBERED_PAYLOADS)

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

    def how_it_ended(self, payload_id: str) -> EndReason | None:
        """Why a payload is not held; None if it is, or is unknown."""
        return self._ended.peek(payload_id)

    def add(self, held: HeldPayload) -> None:
        """Hold a payload whose number is above all others'."""
        assert all(other.number < held.number for other in self._by_id.values())
        self._by_id[held.payload_id] = held

    def end(self, payload_id: str, how: EndReason) -> None:
        """Remove a payload, and keep the reason."""
        self._by_id.pop(payload_id, None)
        self._ended.put(payload_id, how)

    def above(self, number: int) -> list[HeldPayload]:
        """The payloads of later blocks than `number`, in order."""
        return [held for held in self._by_id.values() if held.number > number]
