"""The embedded chain: blocks in a tree, a canonical branch through it, and the state after every block.

    import_block   a block from outside: executed, compared with its header, kept
    insert         a block that this process executed itself (the builder's): kept as it is
    set_head       sets the canonical branch and notifies the listeners

A stored block is not canonical until `set_head` makes it so, as in the Engine API: newPayload imports,
forkchoiceUpdated chooses. Any kept block can be executed upon or asked about, canonical or not, as long as
its state is there: `prune` forgets those of old blocks, a little at a time.

Worlds of recent blocks share their trie nodes in memory (`evm.world`); older ones are opened from the
store at their root, which costs one look-up for each node on the way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from threading import RLock
from typing import Final, Protocol

from flashctl.chain.chain_block import BranchBlocks, ChainBlock, HeadChange
from flashctl.chain.genesis import Genesis
from flashctl.chain.pruning import Pruner
from flashctl.chain.store import BlockRow, Heads, OldestState, Store, StoreError
from flashctl.core.service import defects
from flashctl.errors import DataError, Failed
from flashctl.eth.blocks import Block, Header
from flashctl.eth.receipts import Receipt
from flashctl.eth.transactions import decode_transaction
from flashctl.evm.world import World
from flashctl.lru import Lru
from flashctl.op.config import ChainConfig
from flashctl.op.context import BlockContext
from flashctl.op.envelope import TxEnvelope
from flashctl.op.execution import BlockExecution, execute_block

__all__ = [
    "Chain",
    "ChainBlock",
    "HeadChange",
    "InvalidForkchoice",
    "Sealed",
    "StatePruned",
    "UnknownBlock",
]

RECENT_TRANSACTIONS: Final = 10_000
"""Transactions of blocks kept decoded, about 20 MB: a minute of a busy chain, hours of a quiet one."""

RECENT_HEADERS: Final = 4096
"""About 8 MB; walks along a branch go through these."""

RECENT_WORLDS: Final = 64
"""Worlds kept open. Reorganisations and payload jobs go back a few blocks; the rest is for `eth_call`."""

WORLD_RENEWAL: Final = 1024
"""Blocks after which a world is opened anew from the store. A lineage of worlds holds every node and code
ever touched in memory; cutting it now and then keeps that bounded, for one block of cold look-ups."""

BLOCK_HASH_WINDOW: Final = 256
"""How far `BLOCKHASH` looks back."""

NO_HASH: Final = bytes(32)
"""What forkchoice sends for a head it does not name."""


class UnknownBlock(DataError):
    """A block that this chain does not have."""

    hash: Final[bytes]

    def __init__(self, block_hash: bytes, what: str = "block") -> None:
        self.hash = block_hash
        super().__init__(f"unknown {what} 0x{block_hash.hex()}")


class StatePruned(Failed):
    """The state after a block was forgotten; the words are those of geth."""

    def __init__(self, header: Header) -> None:
        super().__init__(f"historical state 0x{header.state_root.hex()} is not available")


class InvalidForkchoice(Failed):
    """Safe or finalized block not on the branch of the head."""


class Sealed(Protocol):
    """What is kept of `op.execution.SealedBlock`."""

    @property
    def block(self) -> Block: ...

    @property
    def envelopes(self) -> tuple[TxEnvelope, ...]: ...

    @property
    def receipts(self) -> tuple[Receipt, ...]: ...

    @property
    def world(self) -> World: ...

    @property
    def new_codes(self) -> Mapping[bytes, bytes]: ...


class Chain:
    """One chain, in a directory or for the life of the process. Safe to use from several threads."""

    def __init__(
        self, config: ChainConfig, store: Store, genesis: Header, heads: Heads, keep_states: int
    ) -> None:
        self.config = config
        self.genesis = genesis
        self._store = store
        self._lock = RLock()
        self._keep_states = keep_states
        self._pruner = Pruner(store, self._begin_pruning)
        self.states_from = int.from_bytes(store.meta("states_from") or b"", "big")
        """Number of the oldest canonical block whose state is there."""
        self._headers = Lru[bytes, Header](RECENT_HEADERS)
        self._blocks = Lru[bytes, ChainBlock](RECENT_TRANSACTIONS, weigh=_weight)
        self._worlds = Lru[bytes, World](RECENT_WORLDS)
        self._listeners: list[Callable[[HeadChange], None]] = []
        self.head = self._known(heads.head)
        """The last block of the canonical branch."""
        self.safe = self._known(heads.safe)
        """The last block that L1 data confirms."""
        self.finalized = self._known(heads.finalized)
        """The last block that cannot be reorganised away."""

    @classmethod
    def open(cls, genesis: Genesis, datadir: Path | None = None, *, keep_states: int = 0) -> Chain:
        """The chain in a directory, started from `genesis` if the directory is new.

        Args:
            datadir: None for a chain that ends with the process.
            keep_states: Of how many blocks `prune` leaves the state at least; 0 for all.

        Raises:
            StoreError: If the directory cannot be used, is in use, or holds a chain of another genesis.
        """
        store = Store.open(datadir)
        header = genesis.block.header
        try:
            kept = store.meta("genesis")
            if kept is None:
                _write_genesis(store, genesis)
            elif kept != header.hash:
                raise StoreError(f"{datadir}: chain of genesis 0x{kept.hex()}, not of 0x{header.hash.hex()}")
            chain = cls(genesis.config, store, header, store.heads() or _heads_of(header), keep_states)
        except BaseException:
            store.close()
            raise
        if chain.head.hash == header.hash:
            # Loaded already; reading it back would only cost time.
            chain._worlds.put(header.hash, genesis.world)
        return chain

    def close(self) -> None:
        """Give the database back."""
        self._store.close()

    # ---- reading --------------------------------------------------------------------------------

    def header(self, block_hash: bytes) -> Header | None:
        """The header of a kept block, canonical or not."""
        header = self._headers.get(block_hash)
        if header is None:
            header = self._store.header(block_hash)
            if header is not None:
                self._headers.put(block_hash, header)
        return header

    def canonical_hash(self, number: int) -> bytes | None:
        """The hash of the canonical block with a number."""
        if number == self.head.number:
            return self.head.hash
        return self._store.canonical_hash(number) if 0 <= number < self.head.number else None

    def header_by_number(self, number: int) -> Header | None:
        """The header of the canonical block with a number."""
        block_hash = self.canonical_hash(number)
        return None if block_hash is None else self.header(block_hash)

    def is_canonical(self, header: Header) -> bool:
        """Whether a block is on the canonical branch."""
        return self.canonical_hash(header.number) == header.hash

    def block(self, block_hash: bytes) -> ChainBlock | None:
        """A kept block, canonical or not."""
        block = self._blocks.get(block_hash)
        if block is None:
            row = self._store.block(block_hash)
            if row is not None:
                block = _chain_block(row)
                self._blocks.put(block_hash, block)
        return block

    def transaction(self, tx_hash: bytes) -> tuple[ChainBlock, int] | None:
        """The canonical block with a transaction, and its position there."""
        place = self._store.transaction_place(tx_hash)
        if place is None:
            return None
        block = self.block(place.block_hash)
        return None if block is None else (block, place.index)

    def blooms(self, first: int, last: int) -> list[tuple[bytes, bytes]]:
        """(hash, logs bloom) of the canonical blocks in a range that have any logs, by number."""
        return self._store.blooms(first, last)

    def world(self, block_hash: bytes) -> World:
        """The state after a kept block.

        Raises:
            UnknownBlock: If there is no such block.
            StatePruned: If its state is no longer kept.
        """
        header = self._known(block_hash)
        if header.number < self.states_from:
            raise StatePruned(header)
        world = self._worlds.get(block_hash)
        if world is None:
            world = World.from_root(header.state_root, self._store.node, self._store.code)
            self._worlds.put(block_hash, world)
        return world

    def node(self, node_hash: bytes) -> bytes | None:
        """A stored trie node, as RLP."""
        return self._store.node(node_hash)

    def ancestor_hash(self, parent_hash: bytes) -> Callable[[int], bytes]:
        """How a block upon `parent_hash` looks up the hash of an ancestor by number.

        The returned function answers for the 256 numbers up to the parent's, and zeros for any other, as
        `BLOCKHASH` does. It walks the branch, so it is right beside the canonical one too.

        Raises:
            UnknownBlock: If there is no such parent.
        """
        parent = self._known(parent_hash)
        hashes = [parent_hash]
        oldest = [parent]

        def look_up(number: int) -> bytes:
            back = parent.number - number
            if not 0 <= back < BLOCK_HASH_WINDOW or number < 0:
                return NO_HASH
            while len(hashes) <= back:
                above = oldest[0]
                below = self.header(above.parent_hash)
                if below is None:
                    return NO_HASH
                hashes.append(below.hash)
                oldest[0] = below
            return hashes[back]

        return look_up

    # ---- changing -------------------------------------------------------------------------------

    def import_block(self, block: Block, begun: BlockExecution | None = None) -> ChainBlock:
        """Execute a block upon its parent, compare the outcome with its header, and keep it.

        A block that is kept already is returned as it is.

        Args:
            begun: An execution upon the same parent, continued if it is a beginning of this block.

        Raises:
            UnknownBlock: If the parent is not kept.
            InvalidBlock: If the block breaks a rule or its header does not match the result of execution.
            StoreError: If it cannot be kept.
        """
        known = self.block(block.hash)
        if known is not None:
            return known
        parent = self._known(block.header.parent_hash, "parent")
        world = self.world(parent.hash)
        ancestor_hash = self.ancestor_hash(parent.hash)
        return self.insert(execute_block(self.config, parent, block, world, ancestor_hash, begun))

    def open_block(self, context: BlockContext) -> BlockExecution:
        """An execution of a block that is not complete yet, upon the state after its parent.

        Raises:
            UnknownBlock: If the parent is not kept.
            StatePruned: If its state is no longer kept.
        """
        parent = self._known(context.parent_hash, "parent")
        world = self.world(parent.hash)
        return BlockExecution(self.config, parent, context, world, self.ancestor_hash(parent.hash))

    def insert(self, sealed: Sealed) -> ChainBlock:
        """Keep a block that was executed upon its parent in this process.

        Raises:
            UnknownBlock: If the parent is not kept.
            StoreError: If it cannot be kept.
        """
        block = sealed.block
        known = self.block(block.hash)
        if known is not None:
            return known
        kept = ChainBlock(block, sealed.envelopes, sealed.receipts)
        with self._lock:
            parent_world = self.world(self._known(block.header.parent_hash, "parent").hash)
            self._write(kept, sealed, parent_world)
            self._headers.put(kept.hash, kept.header)
            self._blocks.put(kept.hash, kept)
            if kept.number % WORLD_RENEWAL:
                self._worlds.put(kept.hash, sealed.world)
        return kept

    def _write(self, kept: ChainBlock, sealed: Sealed, parent_world: World) -> None:
        senders = tuple(envelope.sender for envelope in kept.envelopes)
        row = BlockRow(kept.header, kept.block.transactions, senders, kept.receipts)
        nodes = list(sealed.world.new_nodes(parent_world))
        with self._store.transaction():
            block = self._store.row_for(kept.hash)
            self._store.add_state(block, nodes, sealed.new_codes.items())
            self._store.add_block(block, row, [envelope.hash for envelope in kept.envelopes])

    def set_head(self, head: bytes, safe: bytes | None = None, finalized: bytes | None = None) -> HeadChange:
        """Make the branch that ends in `head` canonical, and notify the listeners if that changed anything.

        Args:
            safe: Hash of the safe block; None or zeros keep the one there is, if it is still on the branch.
            finalized: Likewise.

        Raises:
            UnknownBlock: If one of the blocks is not kept.
            InvalidForkchoice: If safe or finalized is not on the branch of the head.
            StatePruned: If the branches part where no state is kept any more.
            StoreError: If it cannot be written.
        """
        with self._lock:
            target = self._known(head, "head")
            old, new = self._branches(target)
            fork_point = target.number - len(new)
            if fork_point < self.states_from:
                raise StatePruned(target)
            new_safe = self._named(safe, self.safe, target, new, fork_point, "safe")
            new_finalized = self._named(finalized, self.finalized, target, new, fork_point, "finalized")
            with self._store.transaction():
                self._store.set_canonical(fork_point + 1 if old else None, [header.hash for header in new])
                self._store.set_heads(Heads(head, new_safe.hash, new_finalized.hash))
            self.head, self.safe, self.finalized = target, new_safe, new_finalized
            change = HeadChange(
                BranchBlocks(old, self._kept_block),
                BranchBlocks([header.hash for header in new], self._kept_block),
                target,
            )
        if old or new:
            for listener in tuple(self._listeners):
                try:
                    listener(change)
                except Exception as error:
                    # The head has moved: the other listeners must still be notified.
                    defects.caught("chain.listener", error, getattr(listener, "__qualname__", ""))
        return change

    def prune(self, seconds: float) -> bool:
        """Spend up to this time on forgetting the states of blocks older than those to keep.

        Returns:
            Whether there is more to do.

        Raises:
            StoreError: If it cannot be written.
        """
        return self._keep_states > 0 and self._pruner.step(seconds)

    def _begin_pruning(self) -> OldestState | None:
        """The state to keep from now on, when so many are left over that it is worth a walk."""
        with self._lock:
            number = self.head.number - self._keep_states
            header = self.header_by_number(number)
            row = None if header is None else self._store.row_of(header.hash)
            if header is None or row is None or number - self.states_from < self._keep_states:
                return None
            # Written before the first node is deleted: from here on no block is built upon an older state.
            with self._store.transaction():
                self._store.set_meta("states_from", number.to_bytes(8, "big"))
            self.states_from = number
            return OldestState(number, header.state_root, row)

    def subscribe(self, listener: Callable[[HeadChange], None]) -> Callable[[], None]:
        """Call `listener` after every change of the canonical branch, until the returned function is called.

        Listeners run in the thread of `set_head`, in order of subscription; they must not block. A change may
        cover thousands of blocks, each read on access: read few, and not in the listener.
        """
        self._listeners.append(listener)

        def unsubscribe() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return unsubscribe

    # ---- inside ---------------------------------------------------------------------------------

    def _branches(self, target: Header) -> tuple[list[bytes], list[Header]]:
        """Blocks that leave the canonical branch (from the head down, by hash) and that join it (upwards)."""
        new: list[Header] = []
        fork_point = target
        while not self.is_canonical(fork_point):
            new.append(fork_point)
            fork_point = self._known(fork_point.parent_hash, "ancestor")
        old = self._store.canonical_hashes(fork_point.number + 1, self.head.number)
        return old[::-1], new[::-1]

    def _named(
        self,
        block_hash: bytes | None,
        present: Header,
        target: Header,
        new: list[Header],
        fork_point: int,
        what: str,
    ) -> Header:
        """The safe or finalized block after `set_head`."""

        def on_branch(header: Header) -> bool:
            if header.number > fork_point:
                index = header.number - fork_point - 1
                return index < len(new) and new[index].hash == header.hash
            return self.is_canonical(header)

        if block_hash is None or block_hash == NO_HASH:
            return present if on_branch(present) else self.genesis
        header = self._known(block_hash, f"{what} block")
        if not on_branch(header):
            raise InvalidForkchoice(
                f"{what} block 0x{block_hash.hex()} is not an ancestor of head 0x{target.hash.hex()}"
            )
        return header

    def _known(self, block_hash: bytes, what: str = "block") -> Header:
        header = self.header(block_hash)
        if header is None:
            raise UnknownBlock(block_hash, what)
        return header

    def _kept_block(self, block_hash: bytes) -> ChainBlock:
        block = self.block(block_hash)
        if block is None:
            raise UnknownBlock(block_hash)
        return block


def _weight(block: ChainBlock) -> int:
    """What a decoded block takes in memory, in transactions."""
    return len(block.envelopes) + 1


def _heads_of(header: Header) -> Heads:
    return Heads(header.hash, header.hash, header.hash)


def _write_genesis(store: Store, genesis: Genesis) -> None:
    header, world = genesis.block.header, genesis.world
    codes = world.new_codes(stored.account.code_hash for stored in world.accounts())
    with store.transaction():
        block = store.row_for(header.hash)
        store.add_state(block, world.new_nodes(World.empty()), codes.items())
        store.add_block(block, BlockRow(header, (), (), ()), ())
        store.set_canonical(None, (header.hash,))
        store.set_heads(_heads_of(header))
        store.set_meta("genesis", header.hash)


def _chain_block(row: BlockRow) -> ChainBlock:
    """A block read back; the senders were kept, so no signature has to be recovered again."""
    withdrawals = None if row.header.withdrawals_root is None else ()
    return ChainBlock(
        Block(row.header, row.transactions, withdrawals),
        tuple(
            TxEnvelope(raw, decode_transaction(raw), sender)
            for raw, sender in zip(row.transactions, row.senders, strict=True)
        ),
        row.receipts,
    )
