"""What the JSON-RPC surface of a chain asks of parts above it: a transaction pool and the block being built.

A builder has both; a node that only follows has neither, and a pool of its own would be a lie. The parts
are named here by what is asked of them, so that `chain` knows no role.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from flashctl.eth.blocks import Header
from flashctl.eth.receipts import Receipt
from flashctl.evm.world import World
from flashctl.op.envelope import TxEnvelope

__all__ = ["PendingBlock", "PendingProvider", "TransactionPool"]


@dataclass(frozen=True, slots=True)
class PendingBlock:
    """The block being built, as far as it is sealed."""

    header: Header
    envelopes: Sequence[TxEnvelope]
    receipts: Sequence[Receipt]
    world: World
    """The state after its transactions so far."""


PendingProvider: TypeAlias = Callable[[], PendingBlock | None]
"""Asked at every use of `pending`; None stands for the latest block."""


class TransactionPool(Protocol):
    """Transactions that wait for a block."""

    async def submit(self, raw: bytes) -> TxEnvelope:
        """Decode and admit a transaction.

        Raises:
            FlashctlError: If it is refused; its text is what the sender is told.
        """
        ...

    def get(self, tx_hash: bytes) -> TxEnvelope | None:
        """A waiting transaction."""
        ...

    def given_up(self, tx_hash: bytes) -> str | None:
        """Why a transaction that was admitted waits no more though no block holds it; None if it was not
        given up."""
        ...

    def pending_nonce(self, address: bytes) -> int | None:
        """The nonce after an account's executable transactions; None if none of its waits."""
        ...

    def senders(self) -> Sequence[bytes]:
        """The accounts of which transactions wait."""
        ...

    def content_from(self, address: bytes) -> tuple[Sequence[TxEnvelope], Sequence[TxEnvelope]]:
        """An account's executable transactions and those behind a gap of nonces, each in order of nonce."""
        ...

    def counts(self) -> tuple[int, int]:
        """How many transactions there are of either kind."""
        ...

    def subscribe(self, callback: Callable[[TxEnvelope], None]) -> Callable[[], None]:
        """Call back for every admitted transaction, until the returned function is called."""
        ...
