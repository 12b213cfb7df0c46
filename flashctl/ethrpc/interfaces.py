"""What the JSON-RPC surface asks of the parts below and beside it.

Named by what is asked of them, so that this package imports neither a chain nor a role:

    ChainReader      blocks, the canonical branch, states: the embedded chain
    PendingProvider  the block under construction: a builder's payload job
    TransactionPool  transactions that wait for a block: a builder's mempool
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from flashctl.eth.blocks import Header
from flashctl.eth.receipts import Receipt
from flashctl.evm.world import World
from flashctl.op.config import ChainConfig
from flashctl.op.context import AncestorHash
from flashctl.op.envelope import TxEnvelope

__all__ = [
    "BranchChange",
    "ChainReader",
    "PendingBlock",
    "PendingProvider",
    "StoredBlock",
    "TransactionPool",
]


class StoredBlock(Protocol):
    """A sealed block with decoded transactions and their receipts."""

    @property
    def header(self) -> Header: ...

    @property
    def hash(self) -> bytes: ...

    @property
    def number(self) -> int: ...

    @property
    def envelopes(self) -> Sequence[TxEnvelope]: ...

    @property
    def receipts(self) -> Sequence[Receipt]: ...


class BranchChange(Protocol):
    """What one move of the head did to the canonical branch. Blocks are read when they are looked at."""

    @property
    def old(self) -> Sequence[StoredBlock]:
        """No longer canonical, from the old head down."""

    @property
    def new(self) -> Sequence[StoredBlock]:
        """Now canonical, up to the new head."""

    @property
    def head(self) -> Header: ...


class ChainReader(Protocol):
    """A chain with every block and the states of the recent ones. Safe to use from several threads."""

    @property
    def config(self) -> ChainConfig: ...

    @property
    def genesis(self) -> Header: ...

    @property
    def head(self) -> Header: ...

    @property
    def safe(self) -> Header: ...

    @property
    def finalized(self) -> Header: ...

    def header(self, block_hash: bytes) -> Header | None:
        """Of any block that is kept, canonical or not."""

    def header_by_number(self, number: int) -> Header | None:
        """Of a canonical block."""

    def canonical_hash(self, number: int) -> bytes | None: ...

    def is_canonical(self, header: Header) -> bool: ...

    def block(self, block_hash: bytes) -> StoredBlock | None:
        """Any block that is kept, canonical or not."""

    def transaction(self, tx_hash: bytes) -> tuple[StoredBlock, int] | None:
        """The canonical block with a transaction, and its position there."""

    def blooms(self, first: int, last: int) -> list[tuple[bytes, bytes]]:
        """(hash, logs bloom) of the canonical blocks in a range that have any logs, by number."""

    def world(self, block_hash: bytes) -> World:
        """The state after a block.

        Raises:
            FlashctlError: If there is no such block, or its state is no longer kept.
        """

    def node(self, node_hash: bytes) -> bytes | None:
        """A stored trie node, as RLP."""

    def ancestor_hash(self, parent_hash: bytes) -> AncestorHash:
        """How a block upon `parent_hash` looks up the hash of an ancestor by number, as BLOCKHASH does."""

    def subscribe(self, listener: Callable[[BranchChange], None]) -> Callable[[], None]:
        """Call `listener` after every change of the canonical branch, in the thread that made it, until the
        returned function is called."""


@dataclass(frozen=True, slots=True)
class PendingBlock:
    """The block under construction, as far as it is sealed."""

    header: Header
    envelopes: Sequence[TxEnvelope]
    receipts: Sequence[Receipt]
    world: World
    """The state after its transactions so far."""


PendingProvider: TypeAlias = Callable[[], PendingBlock | None]
"""Called at every use of `pending`; None stands for the latest block."""


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
