"""The provider over a chain: what `latest`, `safe` or `pending` mean on it now, and what is answered from it.

`pending` is the block under construction where there is one, otherwise the latest.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from flashctl.core.jsonrpc.errors import ErrorCode, RpcError, method_not_found
from flashctl.core.jsonrpc.methods import Handler, required
from flashctl.eth.blocks import Header
from flashctl.eth.hexdata import to_hex
from flashctl.ethrpc.block_methods import BLOCK_METHODS, is_zero_hash
from flashctl.ethrpc.block_readers import Readers
from flashctl.ethrpc.block_tags import BlockHash, BlockRef, Tag
from flashctl.ethrpc.block_view import ChainBlockView
from flashctl.ethrpc.by_identity import ByIdentity
from flashctl.ethrpc.call_jobs import Setting
from flashctl.ethrpc.fee_api import history_json, no_history
from flashctl.ethrpc.filters import LogFilter
from flashctl.ethrpc.interfaces import (
    BlockAnswer,
    BlockView,
    ChainReader,
    NamedBlock,
    Origin,
    PendingProvider,
    Place,
    StoredBlock,
    TransactionPool,
    UnsealedBlock,
)
from flashctl.ethrpc.log_search import LogSearch
from flashctl.ethrpc.rpc_json import transaction_json
from flashctl.ethrpc.world_source import NewNodes, WorldSource
from flashctl.evm.state import EMPTY_ACCOUNT, StateReader
from flashctl.evm.world import World
from flashctl.op.context import AncestorHash, BlockContext

__all__ = ["ChainProvider"]

_T = TypeVar("_T")


class ChainProvider:
    """Finds blocks, transactions and states of a chain. Safe to use from several threads, but for what is
    async."""

    def __init__(
        self,
        chain: ChainReader,
        pending: PendingProvider | None = None,
        pool: TransactionPool | None = None,
    ) -> None:
        """Answers from `chain`, the block under construction and the transactions that wait."""
        self.chain = chain
        self.readers = Readers()
        self.search = LogSearch(self)
        self._pending = pending
        self._pool = pool
        self._new_nodes = NewNodes()
        self._places: tuple[Header | None, dict[bytes, int]] = (None, {})
        self._settings: ByIdentity[Header, Setting] = ByIdentity(
            lambda header: Setting(chain.config, BlockContext.from_header(header))
        )

    def close(self) -> None:
        """Begin no more searches."""
        self.readers.close()

    # ---- blocks ---------------------------------------------------------------------------------

    def handler(self, method: str, answer: BlockAnswer) -> Handler:
        """See `interfaces.Provider`."""

        async def handle(params: list[Any]) -> Any:
            return await answer(_Named(self, method, params), params)

        return handle

    def pending(self) -> UnsealedBlock | None:
        """The block under construction; None if there is none upon the present head."""
        block = self._pending() if self._pending is not None else None
        if block is None or block.header.parent_hash != self.chain.head.hash:
            return None
        return block

    def unsealed(self, ref: BlockRef) -> UnsealedBlock | None:
        """The block under construction, if that is what a reference names: by its tag, its number, or the
        hash that its receipts state."""
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
                    raise RpcError(ErrorCode.SERVER_ERROR, "hash is not currently canonical")
                return header
            case _:
                return chain.header_by_number(ref)

    def view(self, ref: BlockRef) -> ChainBlockView | None:
        """The block a reference names, with transactions and receipts."""
        pending = self.unsealed(ref)
        if pending is not None:
            return self.pending_view(pending)
        header = self.header(ref)
        return None if header is None else self.stored_view(header.hash)

    def stored_view(self, block_hash: bytes) -> ChainBlockView | None:
        """A block of the chain by its hash."""
        block = self.chain.block(block_hash)
        return None if block is None else self.view_of(block)

    def view_of(self, block: StoredBlock) -> ChainBlockView:
        """A block of the chain."""
        return ChainBlockView(self.chain.config, block.header, block.envelopes, block.receipts)

    def pending_view(self, pending: UnsealedBlock) -> ChainBlockView:
        """The block under construction."""
        return ChainBlockView(
            self.chain.config, pending.header, pending.envelopes, pending.receipts, is_pending=True
        )

    # ---- states ---------------------------------------------------------------------------------

    def state(self, ref: BlockRef) -> ChainBlockState:
        """The state after the block a reference names.

        Raises:
            RpcError: -32000 if there is no such block.
        """
        pending = self.unsealed(ref)
        if pending is not None:
            return ChainBlockState(self, pending.header, pending.world)
        header = self.header(ref)
        if header is None:
            missing = "header for hash not found" if isinstance(ref, BlockHash) else "header not found"
            raise RpcError(ErrorCode.SERVER_ERROR, missing)
        return ChainBlockState(self, header, self.chain.world(header.hash))

    def setting(self, header: Header) -> Setting:
        """The chain and the block with this header, for executions in it."""
        return self._settings.of(header)

    def source(self, header: Header, world: World) -> WorldSource:
        """`world`, for an execution in the block with this header."""
        parent = self.chain.header(header.parent_hash)
        ancestor_hash = _no_ancestors if parent is None else self.chain.ancestor_hash(parent.hash)
        return self._source(world, header.parent_hash, ancestor_hash, header)

    def origin(self, block: BlockView) -> Origin:
        """See `interfaces.Provider`."""
        header = block.header
        parent = self.chain.header(header.parent_hash)
        if parent is None:
            raise RpcError(ErrorCode.SERVER_ERROR, "genesis is not traceable")
        setting, parent_hash = self.setting(header), header.parent_hash
        world, ancestor_hash = self.chain.world(parent_hash), self.chain.ancestor_hash(parent_hash)
        source = self._source(world, parent_hash, ancestor_hash, self.chain.header(parent_hash))
        return Origin(setting, parent.timestamp, source)

    def _source(
        self, world: World, parent_hash: bytes, ancestor_hash: AncestorHash, after: Header | None
    ) -> WorldSource:
        chain = self.chain

        def stored_parent() -> World | None:
            """The state below that `after`, a block under construction."""
            if after is None or chain.header(after.hash) is not None:
                return None
            return chain.world(after.parent_hash)

        return WorldSource(world, parent_hash, ancestor_hash, chain.node, self._new_nodes, stored_parent)

    # ---- transactions ---------------------------------------------------------------------------

    def find_transaction(self, tx_hash: bytes) -> Place | None:
        """The block with a transaction, sealed or under construction, and its position there."""
        sealed = self.chain.transaction(tx_hash)
        if sealed is not None:
            block, index = sealed
            return Place(self.view_of(block), index)
        pending = self.pending()
        if pending is not None:
            index_there = self._places_in(pending).get(tx_hash)
            if index_there is not None:
                return Place(self.pending_view(pending), index_there)
        return None

    def _places_in(self, pending: UnsealedBlock) -> dict[bytes, int]:
        """Indices by hash in the block under construction: collected once for each of its flashblocks."""
        header, places = self._places
        if header is not pending.header:
            places = {envelope.hash: place for place, envelope in enumerate(pending.envelopes)}
            self._places = (pending.header, places)
        return places

    async def other_transaction(
        self, method: str, params: list[Any], tx_hash: bytes, show: Callable[[Place], Any]
    ) -> Any:
        """What waits in the pool; nothing is known of any other."""
        waiting = self._pool.get(tx_hash) if self._pool is not None else None
        match method:
            case "eth_getTransactionByHash":
                return None if waiting is None else transaction_json(waiting)
            case "eth_getTransactionReceipt":
                return None
            case "debug_traceTransaction":
                raise RpcError(ErrorCode.SERVER_ERROR, "transaction not found")
            case _:
                return "0x" if waiting is None else to_hex(waiting.raw)

    async def pending_nonce(self, address: bytes) -> int:
        """Behind the block under construction and behind what waits in the pool."""
        world = self.state(Tag.PENDING).world
        nonce = (world.account(int.from_bytes(address, "big")) or EMPTY_ACCOUNT).nonce
        return nonce if self._pool is None else max(nonce, self._pool.pending_nonce(address) or 0)

    # ---- ranges of blocks -----------------------------------------------------------------------

    async def fee_history(self, newest: NamedBlock, count: int, percentiles: list[float]) -> dict[str, Any]:
        """See `interfaces.Provider`."""
        head = self.header(newest.ref)
        if head is None:
            raise RpcError(ErrorCode.SERVER_ERROR, "request beyond head block")
        count = min(count, head.number - self.chain.genesis.number + 1)
        if count == 0:
            return no_history()
        # A thousand blocks are read and decoded.
        return await self.readers.run(self._history, newest.ref, head.number, count, percentiles)

    def _history(self, newest: BlockRef, number: int, count: int, percentiles: list[float]) -> dict[str, Any]:
        views: list[ChainBlockView] = []
        view = self.view(newest)
        for _ in range(count):
            if view is None:
                raise RpcError(ErrorCode.SERVER_ERROR, f"block {number - len(views)} not found")
            views.append(view)
            view = self.stored_view(view.header.parent_hash)
        return history_json(self.chain.config, views[::-1], percentiles)

    async def logs(self, params: list[Any]) -> list[Any]:
        """See `interfaces.Provider`."""
        wanted = LogFilter.parse(required(params, 0, "filter"))
        return await self.readers.run(self.search.find, wanted)

    async def ask_elsewhere(self, method: str, params: list[Any]) -> Any:
        """There is nowhere else to ask."""
        raise method_not_found(method)


class ChainBlockState:
    """The state after a block (`interfaces.BlockState`)."""

    __slots__ = ("_provider", "header", "world")

    def __init__(self, provider: ChainProvider, header: Header, world: World) -> None:
        self._provider = provider
        self.header = header
        self.world = world

    @property
    def setting(self) -> Setting:
        """The chain and the block."""
        return self._provider.setting(self.header)

    def source(self) -> WorldSource:
        """A source for one execution."""
        return self._provider.source(self.header, self.world)

    async def read(self, work: Callable[[StateReader], _T]) -> _T:
        """The result of `work`; everything is here."""
        return work(self.world)


class _Named:
    """The block that the parameters of a method name (`interfaces.NamedBlock`)."""

    __slots__ = ("_method", "_params", "_provider")

    def __init__(self, provider: ChainProvider, method: str, params: list[Any]) -> None:
        self._provider = provider
        self._method = method
        self._params = params

    @property
    def ref(self) -> BlockRef:
        return BLOCK_METHODS[self._method].ref(self._params)

    def find(self) -> ChainBlockView | None:
        return self._provider.view(self.ref)

    def state(self) -> ChainBlockState:
        return self._provider.state(self.ref)


def _no_ancestors(number: int) -> bytes:
    return bytes(32)
