"""What the JSON-RPC surface asks of the parts below and beside it.

Named by what is asked of them, so that this package imports neither a chain nor a role:

    Provider         what the methods are answered from: a builder's chain (`chain_provider`), or an overlay
                     upon a node that is somewhere else
    NamedBlock       the block that one question names, with its BlockView and its BlockState
    ChainReader      blocks, the canonical branch, states: the embedded chain
    PendingProvider  the block under construction: a builder's payload job
    TransactionPool  transactions that wait for a block: a builder's mempool
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, TypeVar

from flashctl.core.jsonrpc.methods import Handler
from flashctl.eth.blocks import Header
from flashctl.eth.receipts import Receipt
from flashctl.ethrpc.block_tags import BlockRef
from flashctl.ethrpc.call_jobs import Setting
from flashctl.ethrpc.call_source import CallSource
from flashctl.evm.state import StateReader
from flashctl.evm.world import World
from flashctl.op.config import ChainConfig
from flashctl.op.context import AncestorHash
from flashctl.op.envelope import TxEnvelope
from flashctl.op.forks import OpFork

__all__ = [
    "BlockAnswer",
    "BlockState",
    "BlockView",
    "BranchChange",
    "ChainReader",
    "NamedBlock",
    "Origin",
    "PendingProvider",
    "Place",
    "Provider",
    "StoredBlock",
    "TransactionPool",
    "UnsealedBlock",
]

_T = TypeVar("_T")


class BlockView(Protocol):
    """A block to look at, sealed or not."""

    @property
    def number(self) -> int: ...

    @property
    def timestamp(self) -> int:
        """Seconds since the epoch."""

    @property
    def base_fee(self) -> int:
        """Wei per gas."""

    @property
    def fork(self) -> OpFork: ...

    @property
    def envelopes(self) -> Sequence[TxEnvelope]: ...

    @property
    def receipts(self) -> Sequence[Receipt]: ...

    @property
    def is_pending(self) -> bool:
        """Whether it has no hash yet that could be shown."""

    @property
    def header(self) -> Header:
        """The header, so far. Of a streamed block its roots are computed: ask only for what needs it."""


class BlockState(Protocol):
    """The state after a block: for look-ups, and for executions in that block behind its last transaction."""

    @property
    def header(self) -> Header: ...

    @property
    def setting(self) -> Setting:
        """The chain and the block, as executions believe them to be."""

    @property
    def world(self) -> World | None:
        """The state as a trie, for proofs; None where there is none."""

    def source(self) -> CallSource:
        """A source for one execution."""

    async def read(self, work: Callable[[StateReader], _T]) -> _T:
        """The result of `work`, which only looks something up. It may run several times.

        Raises:
            FlashctlError: If a part of the state cannot be had.
        """


class NamedBlock(Protocol):
    """The block that a question names. It is looked up when the answer comes to it: of two wrong parameters
    the first one is complained of, as geth does."""

    @property
    def ref(self) -> BlockRef:
        """How it is named.

        Raises:
            RpcError, InvalidBlockRef: If the parameter names no block.
        """

    def find(self) -> BlockView | None:
        """The block, None if there is none; raises what `ref` does."""

    def state(self) -> BlockState:
        """The state after it.

        Raises:
            RpcError: If there is no such block; also what `ref` raises.
            FlashctlError: If its state is no longer kept.
        """


BlockAnswer: TypeAlias = Callable[[NamedBlock, list[Any]], Awaitable[Any]]
"""Answers a method of `block_methods.BLOCK_METHODS`."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a transaction stands."""

    block: BlockView
    index: int


@dataclass(frozen=True, slots=True)
class Origin:
    """What a block began on, for executing it once more."""

    setting: Setting
    parent_timestamp: int
    """Of the block before, seconds."""
    source: CallSource


class Provider(Protocol):
    """What the shared methods are answered from."""

    def handler(self, method: str, answer: BlockAnswer) -> Handler:
        """The handler of a method that takes a block: finds the block it names and has `answer` tell of it.

        Where a provider does not know the block, the handler may leave the question to a node that does.
        """

    def find_transaction(self, tx_hash: bytes) -> Place | None:
        """A transaction in a block that this provider shows."""

    async def other_transaction(
        self, method: str, params: list[Any], tx_hash: bytes, show: Callable[[Place], Any]
    ) -> Any:
        """What a method that takes a transaction's hash answers where `find_transaction` found none.

        Args:
            show: Writes the answer, should the transaction get into a block meanwhile.
        """

    async def pending_nonce(self, address: bytes) -> int:
        """What the next transaction of an account has to carry."""

    async def fee_history(self, newest: NamedBlock, count: int, percentiles: list[float]) -> dict[str, Any]:
        """What eth_feeHistory answers of up to `count` blocks that end in `newest`."""

    async def logs(self, params: list[Any]) -> list[Any]:
        """What eth_getLogs answers."""

    def origin(self, block: BlockView) -> Origin:
        """What a block of this provider began on.

        Raises:
            RpcError: If it is the genesis block.
            FlashctlError: If that state is no longer kept.
        """

    async def ask_elsewhere(self, method: str, params: list[Any]) -> Any:
        """The answer of a method that has no handler here.

        Raises:
            RpcError: If there is no such method.
        """


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
class UnsealedBlock:
    """The block under construction, as far as it is sealed."""

    header: Header
    envelopes: Sequence[TxEnvelope]
    receipts: Sequence[Receipt]
    world: World
    """The state after its transactions so far."""


PendingProvider: TypeAlias = Callable[[], UnsealedBlock | None]
"""Called at every use of `pending`; None stands for the latest block."""


class TransactionPool(Protocol):
    """Transactions that wait for a block."""

    async def submit(self, raw: bytes) -> TxEnvelope:
        """Decode and admit a transaction.

        Raises:
            FlashctlError: If it is refused; its text is the message of the JSON-RPC error.
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
