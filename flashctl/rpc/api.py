"""The methods the overlay answers itself; all others go to the canonical node as they are.

What a method makes of the block it is asked about is in the table of `chain.block_methods`; `block_dispatch`
follows it, and what is here answers of a streamed block. What is named by a transaction hash is looked for
among the preconfirmed first, then at the node, then among blocks that were pending a moment ago.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from flashctl.core.jsonrpc.errors import invalid_params
from flashctl.core.jsonrpc.methods import Handler, Methods, PassOn, optional, required
from flashctl.eth.hexdata import parse_quantity, quantity, to_hex
from flashctl.ethrpc.block_methods import BLOCK_METHODS
from flashctl.ethrpc.block_tags import BlockHash, Tag
from flashctl.ethrpc.by_identity import ByIdentity
from flashctl.ethrpc.call_api import CALL_METHODS
from flashctl.ethrpc.call_jobs import CallJob, Setting, SimulateJob, TraceBlockJob, TraceCallJob, params_text
from flashctl.ethrpc.filters import LogFilter
from flashctl.ethrpc.params import address_param, hash_param, slot_param
from flashctl.ethrpc.state_api import storage_values_json, storage_values_param
from flashctl.ethrpc.trace_api import trace_seconds
from flashctl.ethrpc.trace_params import trace_config
from flashctl.op.context import BlockContext
from flashctl.rpc.arrivals import Arrivals, wait_for
from flashctl.rpc.block_answers import BlockAnswers
from flashctl.rpc.block_dispatch import BlockDispatch, Served
from flashctl.rpc.config import RpcConfig
from flashctl.rpc.execution import PendingBlock
from flashctl.rpc.latest import LatestCalls
from flashctl.rpc.naming import Naming
from flashctl.rpc.node import Node
from flashctl.rpc.overlay import Overlay
from flashctl.rpc.pending_calls import PendingCalls
from flashctl.rpc.showing import Showing
from flashctl.rpc.state import StateView
from flashctl.rpc.views import (
    pending_header,
    pending_logs_json,
    pending_receipt_json,
    pending_transaction_json,
)

__all__ = ["PendingApi"]


class PendingApi:
    """See the module docstring."""

    def __init__(
        self,
        overlay: Overlay,
        node: Node,
        latest: LatestCalls,
        calls: PendingCalls,
        arrivals: Arrivals,
        next_nonce: Callable[[bytes, int], int],
        options: RpcConfig,
        showing: Showing,
    ) -> None:
        """`next_nonce` tells the nonce of an account after what it has sent, given the one it has."""
        self._overlay = overlay
        self._node = node
        self._latest = latest
        self._calls = calls
        self._arrivals = arrivals
        self._next_nonce = next_nonce
        self._options = options
        self._showing = showing
        self._naming = Naming(overlay, showing)
        self._dispatch = BlockDispatch(self._naming, latest)
        self._blocks = BlockAnswers(overlay, node)
        self._settings: ByIdentity[BlockContext, list[Setting]] = ByIdentity(lambda _: [])

    def register(self, methods: Methods) -> None:
        """Add the methods to a table."""
        methods.register_all(self._handlers())

    def _handlers(self) -> Iterator[tuple[str, Handler]]:
        for name in ("eth_getRawTransactionByHash", "debug_getRawTransaction"):
            yield name, partial(self.raw_transaction, name)
        yield "eth_getTransactionByHash", self.transaction
        yield "eth_getTransactionReceipt", self.receipt
        yield "debug_traceTransaction", self.trace_transaction
        served = dict(self._blocks.served()) | dict(self._served())
        for name in BLOCK_METHODS:
            if name not in ("eth_getTransactionCount", "eth_getLogs"):
                yield name, self._dispatch.handler(name, served.get(name))
        yield "eth_getTransactionCount", self.nonce
        yield "eth_getLogs", self.logs
        if self._showing.as_latest:
            yield "eth_blockNumber", self.block_number

    def _served(self) -> Iterator[tuple[str, Served]]:
        yield "eth_getBalance", self.balance
        yield "eth_getCode", self.code
        yield "eth_getStorageAt", self.storage_at
        yield "eth_getStorageValues", self.storage_values
        for name in CALL_METHODS:
            yield name, partial(self.call, name)
        yield "eth_simulateV1", self.simulate
        yield "debug_traceCall", self.trace_call
        yield "debug_traceBlockByNumber", self.trace_block
        yield "debug_traceBlockByHash", self.trace_block

    async def block_number(self, params: list[Any]) -> Any:
        view = self._overlay.view
        return (
            await self._latest.call("eth_blockNumber", []) if view is None else quantity(view.latest.number)
        )

    # --- transactions ---

    async def transaction(self, params: list[Any]) -> Any:
        found = self._preconfirmed(wanted := hash_param(params, 0))
        if found is not None:
            return pending_transaction_json(*found)
        answer = await self._node.client.call("eth_getTransactionByHash", params)
        if not self._showing.by_name or (isinstance(answer, dict) and answer.get("blockNumber") is not None):
            return answer
        # In a mempool, says the node; but it may have been preconfirmed meanwhile, or just now been sealed.
        with self._arrivals.expect(wanted) as event:
            found = self._shown_lately(wanted)
            if found is None and answer is not None and await wait_for(event, self._options.pool_wait_s):
                found = self._preconfirmed(wanted)
        return answer if found is None else pending_transaction_json(*found)

    async def raw_transaction(self, method: str, params: list[Any]) -> Any:
        found = self._preconfirmed(wanted := hash_param(params, 0))
        if found is None:
            answer = await self._node.client.call(method, params)
            found = self._shown_lately(wanted) if answer in (None, "0x") else None
            if found is None:
                return answer
        block, index = found
        return to_hex(block.envelopes[index].raw)

    async def receipt(self, params: list[Any]) -> Any:
        return await self.receipt_of(hash_param(params, 0))

    async def receipt_of(self, transaction_hash: bytes) -> dict[str, Any] | None:
        """The receipt of a preconfirmed or sealed transaction."""
        found = self._preconfirmed(transaction_hash)
        if found is not None:
            return pending_receipt_json(*found)
        answer = await self._node.client.call("eth_getTransactionReceipt", [to_hex(transaction_hash)])
        if isinstance(answer, dict):
            return answer
        found = self._shown_lately(transaction_hash)
        return None if found is None else pending_receipt_json(*found)

    def _preconfirmed(self, transaction_hash: bytes) -> tuple[PendingBlock, int] | None:
        view = self._overlay.view if self._showing.by_name else None
        return None if view is None else view.find(transaction_hash)

    def _shown_lately(self, transaction_hash: bytes) -> tuple[PendingBlock, int] | None:
        """A preconfirmed transaction, or one that was before its block was settled."""
        if not self._showing.by_name:
            return None
        return self._preconfirmed(transaction_hash) or self._overlay.recent(transaction_hash)

    # --- state ---

    async def balance(self, block: PendingBlock, params: list[Any]) -> Any:
        return quantity((await self._calls.account(block, _int(address_param(params, 0)))).balance)

    async def nonce(self, params: list[Any]) -> Any:
        """What the next transaction of an account has to carry.

        The nonce after the pending block counts, and what has been sent but not streamed yet, or a wallet
        replaces its own transaction (xlayer-reth#256).
        """
        address = address_param(params, 0)
        ref = BLOCK_METHODS["eth_getTransactionCount"].ref(params)
        if ref is not Tag.PENDING:
            block = self._naming.streamed(ref)
            if block is not None:
                return quantity((await self._calls.account(block, _int(address))).nonce)
            if self._naming.is_latest(ref):
                return await self._latest.call("eth_getTransactionCount", params)
            raise PassOn
        return quantity(await self.pending_nonce(address))

    async def pending_nonce(self, address: bytes) -> int:
        """The same for `pending`."""
        view = self._overlay.view
        if view is None or self._options.nonce_includes_pool:
            if self._options.nonce_includes_pool:
                asked = [to_hex(address), Tag.PENDING.value]
                answer = await self._node.client.call("eth_getTransactionCount", asked)
            else:
                answer = await self._latest.call(
                    "eth_getTransactionCount", [to_hex(address), Tag.LATEST.value]
                )
            nonce = max(parse_quantity(answer), self._latest.least_nonce(_int(address)))
        else:
            nonce = 0
        if view is not None:
            nonce = max(nonce, (await self._calls.account(view.latest, _int(address))).nonce)
        return self._next_nonce(address, nonce) if self._options.nonce_includes_pool else nonce

    async def code(self, block: PendingBlock, params: list[Any]) -> Any:
        address = _int(address_param(params, 0))

        def read(state: StateView) -> bytes:
            account = state.account(address)
            return b"" if account is None else state.code(account.code_hash)

        return to_hex(await self._calls.read(block, read))

    async def storage_at(self, block: PendingBlock, params: list[Any]) -> Any:
        address, slot = _int(address_param(params, 0)), slot_param(params, 1)
        value = await self._calls.read(block, lambda state: state.storage(address, slot))
        return to_hex(value.to_bytes(32, "big"))

    async def storage_values(self, block: PendingBlock, params: list[Any]) -> Any:
        slots = storage_values_param(params)
        return await self._calls.read(block, lambda state: storage_values_json(slots, state))

    # --- executions ---

    async def call(self, method: str, block: PendingBlock, params: list[Any]) -> Any:
        """In the block itself, behind its last transaction."""
        job = CallJob(method, params_text(params), self._setting(block), self._options.call_gas)
        return await self._calls.execute(block.state, job)

    async def simulate(self, block: PendingBlock, params: list[Any]) -> Any:
        """Blocks upon the streamed one. Their state roots are zeros: the overlay has no state trie."""
        text = params_text([required(params, 0, "simulation")])
        job = SimulateJob(text, block.config, pending_header(block), self._options.call_gas)
        return await self._calls.execute(block.state, job)

    async def trace_call(self, block: PendingBlock, params: list[Any]) -> Any:
        config = trace_config(optional(params, 2), index=2)
        text = params_text([*params[:2], config.state_overrides, config.block_overrides])
        job = TraceCallJob(text, self._setting(block), self._options.call_gas, config.options)
        return await self._calls.execute(
            block.state, job, timeout_s=trace_seconds(config, self._calls.timeout_s)
        )

    async def trace_transaction(self, params: list[Any]) -> Any:
        """On the state that its block has made before it. The node traces what is sealed."""
        found = self._preconfirmed(hash_param(params, 0))
        if found is None:
            raise PassOn
        block, index = found
        return await self._trace(block, index, index + 1, optional(params, 1), is_single=True)

    async def trace_block(self, block: PendingBlock, params: list[Any]) -> Any:
        return await self._trace(block, 0, len(block.envelopes), optional(params, 1), is_single=False)

    async def _trace(
        self, block: PendingBlock, first: int, end: int, options: Any, *, is_single: bool
    ) -> Any:
        """Traces of some transactions of a block, in order."""
        config = trace_config(options, index=1)
        envelopes = block.envelopes[:end]
        job = TraceBlockJob(
            self._setting(block), block.parent_timestamp, envelopes, first, config.options, is_single
        )
        seconds = trace_seconds(config, self._calls.timeout_s)
        return await self._calls.execute(block.before, job, timeout_s=seconds)

    def _setting(self, block: PendingBlock) -> Setting:
        """Chain and block, the same object for all flashblocks of a block."""
        known = self._settings.of(block.context)
        if not known:
            known.append(Setting(block.config, block.context))
        return known[0]

    # --- logs ---

    async def logs(self, params: list[Any]) -> Any:
        """Sealed logs from the node, then those of streamed blocks as far as the range goes."""
        fields = required(params, 0, "filter")
        wanted = LogFilter.parse(fields)
        if wanted.block_hash is not None:
            block = self._naming.streamed(BlockHash(wanted.block_hash))
            if block is None:
                raise PassOn
            return pending_logs_json(block, wanted)
        view = self._overlay.view
        bounds = [Tag.LATEST if it is None else it for it in (wanted.from_block, wanted.to_block)]
        if view is None and any(map(self._naming.is_latest, bounds)):
            asked = BLOCK_METHODS["eth_getLogs"].about(params, Tag.LATEST)
            return await self._latest.call("eth_getLogs", asked)
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
            for log in pending_logs_json(block, wanted)
        ]
        if bounds[0] is Tag.PENDING or lowest > head:
            return pending
        end = quantity(head) if isinstance(bounds[1], int) else Tag.LATEST.value
        sealed = await self._node.client.call("eth_getLogs", [{**fields, "toBlock": end}])
        # The node may have sealed a block since the view was taken: what it reports is not repeated.
        known = {(log["blockNumber"], log["logIndex"]) for log in sealed}
        return [*sealed, *(log for log in pending if (log["blockNumber"], log["logIndex"]) not in known)]


def _int(address: bytes) -> int:
    return int.from_bytes(address, "big")
