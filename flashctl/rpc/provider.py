"""The provider over a stream: JSON-RPC on preconfirmed blocks; other calls are forwarded to the node.

A method that takes a block follows its entry in `ethrpc.block_methods`. For a streamed block it is answered
from that, rejected, or sent to the node at `latest`. For `pending` while nothing is pending it is answered by
the node's latest block, so that a paused stream never yields null or an error (base/base#178). All other
calls are forwarded byte for byte.

A transaction hash is looked up among preconfirmed transactions first, then at the node, then among recently
pending blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from flashctl.core.jsonrpc.errors import RpcError, invalid_params
from flashctl.core.jsonrpc.methods import Handler, PassOn, required
from flashctl.errors import InvalidParams
from flashctl.eth.hexdata import parse_quantity, quantity, to_hex
from flashctl.ethrpc.block_methods import BLOCK_METHODS, BlockMethod, Given, Means
from flashctl.ethrpc.block_tags import BlockHash, BlockRef, Tag
from flashctl.ethrpc.block_view import logs_of, receipt_of
from flashctl.ethrpc.fee_api import history_json, no_history
from flashctl.ethrpc.filters import LogFilter
from flashctl.ethrpc.interfaces import BlockAnswer, BlockView, NamedBlock, Origin, Place
from flashctl.ethrpc.tx_waiters import TxWaiters, wait_for
from flashctl.evm.state import EMPTY_ACCOUNT
from flashctl.remote.upstream_client import UpstreamClient
from flashctl.rpc.block_resolver import BlockResolver
from flashctl.rpc.config import AnswerConfig
from flashctl.rpc.execution import PendingBlock
from flashctl.rpc.fee_history import joined_histories
from flashctl.rpc.latest import LatestCalls
from flashctl.rpc.overlay import Overlay
from flashctl.rpc.pending_states import PendingBlockState, PendingStates
from flashctl.rpc.visibility import Visibility

__all__ = ["AnswerSources", "OverlayProvider"]


@dataclass(frozen=True, slots=True)
class AnswerSources:
    """What the listeners of one overlay share and answer from."""

    overlay: Overlay
    node: UpstreamClient
    latest: LatestCalls
    states: PendingStates


class OverlayProvider:
    """The answers of one listener of the overlay (`ethrpc.interfaces.Provider`)."""

    def __init__(
        self,
        sources: AnswerSources,
        waiters: TxWaiters,
        next_nonce: Callable[[bytes, int], int],
        options: AnswerConfig,
        showing: Visibility,
    ) -> None:
        """`next_nonce` returns an account's nonce after its sent transactions, given its current one."""
        self._overlay = sources.overlay
        self._node = sources.node
        self._latest = sources.latest
        self._states = sources.states
        self._waiters = waiters
        self._next_nonce = next_nonce
        self._options = options
        self._showing = showing
        self._naming = BlockResolver(sources.overlay, showing)

    # --- methods that take a block ---

    def handler(self, method: str, answer: BlockAnswer) -> Handler:
        """See `interfaces.Provider`; a method that the table does not serve here is rejected or forwarded."""
        line = BLOCK_METHODS[method]
        served = answer if line.overlay is Means.SERVED else None
        return lambda params: self._answer(line, served, params)

    def other_handlers(self) -> Iterator[tuple[str, Handler]]:
        """Handlers only an overlay needs: of methods not served for streamed blocks."""
        for name, line in BLOCK_METHODS.items():
            if line.overlay is not Means.SERVED:
                yield name, self._unserved(line)
        if self._showing.as_latest:
            yield "eth_blockNumber", self._block_number

    def _unserved(self, line: BlockMethod) -> Handler:
        if line.given is Given.FILTER:
            return lambda params: self._filtered(line, params)
        return lambda params: self._answer(line, None, params)

    async def _answer(self, method: BlockMethod, served: BlockAnswer | None, params: list[Any]) -> Any:
        try:
            ref = method.ref(params)
        except (InvalidParams, RpcError):
            if served is not None:
                raise
            raise PassOn from None  # parameters of an unknown form: the node may accept them
        if served is None and ref is Tag.LATEST:
            raise PassOn  # answered for sealed blocks only, so `latest` is the node's
        block = self._naming.streamed(ref)
        if served is not None and method.name == "eth_getTransactionCount" and ref is Tag.PENDING:
            return await served(_StreamedBlock(ref, block, self._states), params)  # counts what waits as well
        if block is None:
            if self._naming.is_latest(ref):
                return await self._latest.call(method.name, method.about(params, Tag.LATEST))
            raise PassOn
        if served is not None:
            return await served(_StreamedBlock(ref, block, self._states), params)
        raise method.refusal()

    async def _filtered(self, method: BlockMethod, params: list[Any]) -> Any:
        """A method with a block range that is not answered from the stream."""
        try:
            wanted = LogFilter.parse(params[method.index] if method.index < len(params) else None)
        except InvalidParams:
            raise PassOn from None
        bounds = [bound for bound in (wanted.from_block, wanted.to_block) if bound not in (None, Tag.LATEST)]
        if method.overlay is Means.REFUSED and any(map(self._naming.streamed, bounds)):
            raise method.refusal()
        if any(map(self._naming.is_latest, bounds)):
            return await self._latest.call(method.name, method.about(params, Tag.LATEST))
        raise PassOn

    async def _block_number(self, params: list[Any]) -> Any:
        view = self._overlay.view
        if view is None:
            return await self._latest.call("eth_blockNumber", [])
        return quantity(view.latest.number)

    def origin(self, block: BlockView) -> Origin:
        """See `interfaces.Provider`."""
        assert isinstance(block, PendingBlock)
        return Origin(self._states.setting(block), block.parent_timestamp, self._states.source(block.before))

    # --- transactions ---

    def find_transaction(self, tx_hash: bytes) -> Place | None:
        """A preconfirmed transaction."""
        view = self._overlay.view if self._showing.by_name else None
        found = None if view is None else view.find(tx_hash)
        return None if found is None else Place(*found)

    async def other_transaction(
        self, method: str, params: list[Any], tx_hash: bytes, show: Callable[[Place], Any]
    ) -> Any:
        """The node's answer; for a recently settled block the earlier answer, if the node lacks it yet."""
        match method:
            case "debug_traceTransaction":
                raise PassOn  # the node traces what is sealed
            case "eth_getTransactionByHash":
                return await self._waiting_transaction(params, tx_hash, show)
            case "eth_getTransactionReceipt":
                answer = await self._node.client.call(method, [to_hex(tx_hash)])
                is_unknown = not isinstance(answer, dict)
            case _:
                answer = await self._node.client.call(method, params)
                is_unknown = answer in (None, "0x")
        place = self._shown_lately(tx_hash) if is_unknown else None
        if place is not None:
            return show(place)
        return None if is_unknown and method == "eth_getTransactionReceipt" else answer

    async def _waiting_transaction(
        self, params: list[Any], tx_hash: bytes, show: Callable[[Place], Any]
    ) -> Any:
        answer = await self._node.client.call("eth_getTransactionByHash", params)
        if not self._showing.by_name or (isinstance(answer, dict) and answer.get("blockNumber") is not None):
            return answer
        # The node has it in its mempool; it may have been preconfirmed or sealed meanwhile.
        with self._waiters.expect(tx_hash) as event:
            place = self._shown_lately(tx_hash)
            if place is None and answer is not None and await wait_for(event, self._options.pool_wait_s):
                place = self.find_transaction(tx_hash)
        return answer if place is None else show(place)

    def _shown_lately(self, tx_hash: bytes) -> Place | None:
        """A preconfirmed transaction, or one of a recently settled block."""
        if not self._showing.by_name:
            return None
        place = self.find_transaction(tx_hash)
        if place is None and (found := self._overlay.recent(tx_hash)) is not None:
            place = Place(*found)
        return place

    async def receipt(self, tx_hash: bytes) -> dict[str, Any] | None:
        """The receipt of a preconfirmed or sealed transaction."""
        place = self.find_transaction(tx_hash)
        if place is not None:
            return receipt_of(place)
        answer: dict[str, Any] | None = await self.other_transaction(
            "eth_getTransactionReceipt", [], tx_hash, receipt_of
        )
        return answer

    async def pending_nonce(self, address: bytes) -> int:
        """The nonce after the pending block and after transactions sent but not streamed yet; otherwise a
        wallet would replace its own transaction (xlayer-reth#256)."""
        view, key = self._overlay.view, int.from_bytes(address, "big")
        if view is None or self._options.nonce_includes_pool:
            if self._options.nonce_includes_pool:
                asked = [to_hex(address), Tag.PENDING.value]
                answer = await self._node.client.call("eth_getTransactionCount", asked)
            else:
                answer = await self._latest.call(
                    "eth_getTransactionCount", [to_hex(address), Tag.LATEST.value]
                )
            nonce = max(parse_quantity(answer), self._latest.least_nonce(key))
        else:
            nonce = 0
        if view is not None:
            state = self._states.after(view.latest)
            account = await state.read(lambda known: known.account(key) or EMPTY_ACCOUNT)
            nonce = max(nonce, account.nonce)
        return self._next_nonce(address, nonce) if self._options.nonce_includes_pool else nonce

    # --- ranges of blocks ---

    async def fee_history(self, newest: NamedBlock, count: int, percentiles: list[float]) -> dict[str, Any]:
        """The node's history of the sealed blocks, followed by the streamed blocks up to `newest`."""
        if count == 0:
            return no_history()
        view, block = self._overlay.view, newest.find()
        assert isinstance(block, PendingBlock)
        blocks = [] if view is None else [each for each in view.blocks if each.number < block.number]
        shown = [*blocks, block][-count:]
        ours = history_json(block.config, shown, percentiles)
        left = min(count - len(shown), shown[0].number)
        if not left:
            return ours
        asked = [quantity(left), quantity(shown[0].number - 1), *([percentiles] if percentiles else [])]
        return joined_histories(await self._node.client.call("eth_feeHistory", asked), ours)

    async def logs(self, params: list[Any]) -> list[Any]:
        """Sealed logs from the node, then those of streamed blocks within the range."""
        fields = required(params, 0, "filter")
        wanted = LogFilter.parse(fields)
        if wanted.block_hash is not None:
            block = self._naming.streamed(BlockHash(wanted.block_hash))
            if block is None:
                raise PassOn
            return logs_of(block, wanted)
        view = self._overlay.view
        bounds = [Tag.LATEST if it is None else it for it in (wanted.from_block, wanted.to_block)]
        if view is None and any(map(self._naming.is_latest, bounds)):
            asked = BLOCK_METHODS["eth_getLogs"].about(params, Tag.LATEST)
            answer: list[Any] = await self._latest.call("eth_getLogs", asked)
            return answer
        first, last = map(self._naming.streamed, bounds)
        if view is None or (last is None and bounds[0] is not Tag.PENDING):
            raise PassOn  # among sealed blocks, or not to be found
        head, highest = view.canonical.block.number, view.latest.number if last is None else last.number
        # From `pending` on means from the first of them, as on Base's nodes.
        lowest = bounds[0] if isinstance(bounds[0], int) else 0
        if first is not None and bounds[0] is Tag.LATEST:
            lowest = first.number
        if isinstance(bounds[1], int) and max(lowest, first.number if first else 0) > highest:
            raise invalid_params("invalid block range params")
        pending = [
            log
            for block in view.blocks
            if lowest <= block.number <= highest
            for log in logs_of(block, wanted)
        ]
        if bounds[0] is Tag.PENDING or lowest > head:
            return pending
        end = quantity(head) if isinstance(bounds[1], int) else Tag.LATEST.value
        sealed = await self._node.client.call("eth_getLogs", [{**fields, "toBlock": end}])
        # The node may have sealed a block since the view was taken: its logs are not repeated.
        known = {(log["blockNumber"], log["logIndex"]) for log in sealed}
        return [*sealed, *(log for log in pending if (log["blockNumber"], log["logIndex"]) not in known)]

    async def ask_elsewhere(self, method: str, params: list[Any]) -> Any:
        """The node's answer."""
        return await self._node.client.call(method, params)


class _StreamedBlock:
    """A streamed block by its name (`ethrpc.interfaces.NamedBlock`)."""

    __slots__ = ("_block", "_states", "ref")

    def __init__(self, ref: BlockRef, block: PendingBlock | None, states: PendingStates) -> None:
        self.ref = ref
        self._block = block
        self._states = states

    def find(self) -> PendingBlock | None:
        return self._block

    def state(self) -> PendingBlockState:
        assert self._block is not None
        return self._states.after(self._block)
