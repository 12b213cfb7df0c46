"""From the name of a block to the block: what `latest`, `safe` or `pending` mean on a chain right now.

`pending` is the block being built where somebody builds one, otherwise the latest. Both look alike to the
methods above, as a `BlockView`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flashctl.core.jsonrpc.errors import Code, RpcError
from flashctl.eth.blocks import Header
from flashctl.eth.receipts import Receipt
from flashctl.ethrpc.block_methods import BLOCK_METHODS, is_zero_hash
from flashctl.ethrpc.block_tags import BlockHash, BlockRef, Tag
from flashctl.ethrpc.by_identity import ByIdentity
from flashctl.ethrpc.call_jobs import Setting
from flashctl.ethrpc.interfaces import ChainReader, PendingBlock, PendingProvider
from flashctl.ethrpc.rpc_json import PENDING_HASH
from flashctl.ethrpc.world_source import NewNodes, WorldSource
from flashctl.evm.world import World
from flashctl.op.context import AncestorHash, BlockContext
from flashctl.op.envelope import TxEnvelope

__all__ = ["BlockView", "Resolver"]


@dataclass(frozen=True, slots=True)
class BlockView:
    """A block to look at, sealed or being built."""

    header: Header
    envelopes: Sequence[TxEnvelope]
    receipts: Sequence[Receipt]
    is_pending: bool = False

    @property
    def shown_hash(self) -> bytes:
        """The hash that callers see: zeros while the block is built, whose hash changes with every flashblock
        and is that of no block that anybody will ever find.
        """
        return PENDING_HASH if self.is_pending else self.header.hash


class Resolver:
    """Finds blocks, headers and states by their names."""

    def __init__(self, chain: ChainReader, pending: PendingProvider | None = None) -> None:
        self.chain = chain
        self._pending = pending
        self._new_nodes = NewNodes()
        self._settings: ByIdentity[Header, Setting] = ByIdentity(
            lambda header: Setting(chain.config, BlockContext.from_header(header))
        )

    def pending(self) -> PendingBlock | None:
        """The block being built; None if there is none upon the present head."""
        block = self._pending() if self._pending is not None else None
        if block is None or block.header.parent_hash != self.chain.head.hash:
            return None
        return block

    def unsealed(self, ref: BlockRef) -> PendingBlock | None:
        """The block being built, if that is what a reference names: by its tag, its number, or the hash that
        its receipts state."""
        if ref is not Tag.PENDING and not isinstance(ref, int) and not is_zero_hash(ref):
            return None
        pending = self.pending()
        if pending is None or (isinstance(ref, int) and ref != pending.header.number):
            return None
        return pending

    def header(self, ref: BlockRef) -> Header | None:
        """The header a reference names; None if there is no such block.

        Raises:
            RpcError: -32000 if the reference asks for a canonical block and it is not.
        """
        chain = self.chain
        pending = self.unsealed(ref)
        if pending is not None:
            return pending.header
        match ref:
            case Tag.LATEST | Tag.PENDING:
                return chain.head
            case Tag.SAFE:
                return chain.safe
            case Tag.FINALIZED:
                return chain.finalized
            case Tag.EARLIEST:
                return chain.genesis
            case BlockHash():
                header = chain.header(ref.hash)
                if header is not None and ref.require_canonical and not chain.is_canonical(header):
                    raise RpcError(Code.SERVER_ERROR, "hash is not currently canonical")
                return header
            case _:
                return chain.header_by_number(ref)

    def view(self, ref: BlockRef) -> BlockView | None:
        """The block a reference names, with transactions and receipts."""
        pending = self.unsealed(ref)
        if pending is not None:
            return BlockView(pending.header, pending.envelopes, pending.receipts, True)
        header = self.header(ref)
        block = None if header is None else self.chain.block(header.hash)
        return None if block is None else BlockView(block.header, block.envelopes, block.receipts)

    def state(self, ref: BlockRef) -> tuple[Header, World]:
        """The state after the block a reference names, with its header.

        Raises:
            RpcError: -32000 if there is no such block.
        """
        pending = self.unsealed(ref)
        if pending is not None:
            return pending.header, pending.world
        header = self.header(ref)
        if header is None:
            missing = "header for hash not found" if isinstance(ref, BlockHash) else "header not found"
            raise RpcError(Code.SERVER_ERROR, missing)
        return header, self.chain.world(header.hash)

    def state_for(self, method: str, params: list[Any]) -> tuple[Header, World]:
        """The state after the block that the parameters of a method name."""
        return self.state(BLOCK_METHODS[method].ref(params))

    def setting(self, header: Header) -> Setting:
        """The chain and the block with this header, for executions in it."""
        return self._settings.of(header)

    def source_for(self, method: str, params: list[Any]) -> tuple[Header, WorldSource]:
        """The same state for an execution in the block that was named."""
        header, world = self.state_for(method, params)
        parent = self.chain.header(header.parent_hash)
        ancestor_hash = _no_ancestors if parent is None else self.chain.ancestor_hash(parent.hash)
        return header, self._source(world, header.parent_hash, ancestor_hash, header)

    def source_below(self, header: Header) -> WorldSource:
        """The state that a block begins on, for executing it once more.

        Raises:
            FlashctlError: If there is no such state.
        """
        parent_hash = header.parent_hash
        world, ancestor_hash = self.chain.world(parent_hash), self.chain.ancestor_hash(parent_hash)
        return self._source(world, parent_hash, ancestor_hash, self.chain.header(parent_hash))

    def _source(
        self, world: World, parent_hash: bytes, ancestor_hash: AncestorHash, after: Header | None
    ) -> WorldSource:
        chain = self.chain

        def stored_parent() -> World | None:
            """The state below that `after`, a block being built."""
            if after is None or chain.header(after.hash) is not None:
                return None
            return chain.world(after.parent_hash)

        return WorldSource(world, parent_hash, ancestor_hash, chain.node, self._new_nodes, stored_parent)

    def view_for(self, method: str, params: list[Any]) -> BlockView | None:
        """The block that the parameters of a method name."""
        return self.view(BLOCK_METHODS[method].ref(params))


def _no_ancestors(number: int) -> bytes:
    return bytes(32)
