"""The methods the overlay answers itself; all others go to the canonical node as they are.

Each has the same plan: asked about `pending` and something is pending, answer from it; else ask the node,
with `pending` read as `latest`, so that nobody ever gets null or an error because a stream paused
(base/base#178). What is named by a transaction hash is looked for among the preconfirmed first, then at the
node, then among blocks that were pending a moment ago.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final

from flashctl.chain.blocktag import Tag, parse_block_ref
from flashctl.chain.by_identity import ByIdentity
from flashctl.chain.call_api import CALL_METHODS
from flashctl.chain.call_jobs import CallJob, Setting, SimulateJob, TraceCallJob, params_text
from flashctl.chain.filters import LogFilter
from flashctl.chain.params import address_param, bool_param, hash_param, quantity_param, slot_param
from flashctl.chain.state_api import storage_values_json, storage_values_param
from flashctl.chain.trace_api import trace_seconds
from flashctl.chain.trace_params import trace_config
from flashctl.core.jsonrpc.methods import Handler, Methods, optional, required
from flashctl.eth.hexdata import parse_quantity, quantity, to_hex
from flashctl.op.context import BlockContext
from flashctl.rpc.arrivals import Arrivals, wait_for
from flashctl.rpc.config import RpcConfig
from flashctl.rpc.execution import PendingBlock
from flashctl.rpc.latest import LatestCalls
from flashctl.rpc.node import Node
from flashctl.rpc.overlay import Overlay, PendingView
from flashctl.rpc.pending_calls import PendingCalls
from flashctl.rpc.state import StateView
from flashctl.rpc.views import (
    pending_block_json,
    pending_block_receipts_json,
    pending_header,
    pending_logs_json,
    pending_receipt_json,
    pending_transaction_json,
)

__all__ = ["PendingApi"]

_ZERO_HASH: Final = "0x" + "00" * 32


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
    ) -> None:
        """`next_nonce` tells the nonce of an account after what it has sent, given the one it has."""
        self._overlay = overlay
        self._node = node
        self._latest = latest
        self._calls = calls
        self._arrivals = arrivals
        self._next_nonce = next_nonce
        self._options = options
        self._settings: ByIdentity[BlockContext, list[Setting]] = ByIdentity(lambda _: [])

    def register(self, methods: Methods) -> None:
        """Add the methods to a table."""
        methods.register_all(self._handlers())

    def _handlers(self) -> Iterator[tuple[str, Handler]]:
        yield "eth_getBlockByNumber", self.block_by_number
        yield "eth_getBlockByHash", self.block_by_hash
        yield "eth_getBlockTransactionCountByNumber", self.transaction_count_of_block
        yield "eth_getBlockReceipts", self.block_receipts
        yield "eth_getTransactionByBlockNumberAndIndex", self.transaction_by_index
        yield "eth_getBlockTransactionCountByHash", self.transaction_count_by_hash
        yield "eth_getTransactionByBlockHashAndIndex", self.transaction_by_hash_and_index
        yield "eth_getTransactionByHash", self.transaction
        for name in ("eth_getRawTransactionByHash", "debug_getRawTransaction"):
            yield name, partial(self.raw_transaction, name)
        yield "eth_getTransactionReceipt", self.receipt
        yield "eth_getBalance", self.balance
        yield "eth_getTransactionCount", self.nonce
        yield "eth_getCode", self.code
        yield "eth_getStorageAt", self.storage_at
        yield "eth_getStorageValues", self.storage_values
        yield "eth_getProof", self.proof
        yield "eth_feeHistory", self.fee_history
        for name in CALL_METHODS:
            yield name, partial(self.call, name)
        yield "eth_simulateV1", self.simulate
        yield "debug_traceCall", self.trace_call
        yield "eth_getLogs", self.logs

    # --- blocks ---

    async def block_by_number(self, params: list[Any]) -> Any:
        view = self._pending(params, 0)
        if view is None:
            return await self._ask("eth_getBlockByNumber", params, 0)
        return pending_block_json(view.latest, full=bool_param(params, 1, False))

    async def block_by_hash(self, params: list[Any]) -> Any:
        """Receipts of preconfirmed transactions name a block of hash zero, and clients look it up
        (viem#3873)."""
        view = self._pending_by_hash(params)
        if view is None:
            return await self._node.client.call("eth_getBlockByHash", params)
        return pending_block_json(view.latest, full=bool_param(params, 1, False))

    async def transaction_count_of_block(self, params: list[Any]) -> Any:
        view = self._pending(params, 0)
        if view is None:
            return await self._ask("eth_getBlockTransactionCountByNumber", params, 0)
        return quantity(len(view.latest.envelopes))

    async def block_receipts(self, params: list[Any]) -> Any:
        view = self._pending(params, 0)
        if view is None:
            return await self._ask("eth_getBlockReceipts", params, 0)
        return pending_block_receipts_json(view.latest)

    async def transaction_by_index(self, params: list[Any]) -> Any:
        view = self._pending(params, 0)
        if view is None:
            return await self._ask("eth_getTransactionByBlockNumberAndIndex", params, 0)
        return _transaction_at(view.latest, quantity_param(params, 1, "index"))

    async def transaction_count_by_hash(self, params: list[Any]) -> Any:
        view = self._pending_by_hash(params)
        if view is None:
            return await self._node.client.call("eth_getBlockTransactionCountByHash", params)
        return quantity(len(view.latest.envelopes))

    async def transaction_by_hash_and_index(self, params: list[Any]) -> Any:
        view = self._pending_by_hash(params)
        if view is None:
            return await self._node.client.call("eth_getTransactionByBlockHashAndIndex", params)
        return _transaction_at(view.latest, quantity_param(params, 1, "index"))

    # --- transactions ---

    async def transaction(self, params: list[Any]) -> Any:
        found = self._preconfirmed(wanted := hash_param(params, 0))
        if found is not None:
            return pending_transaction_json(*found)
        answer = await self._node.client.call("eth_getTransactionByHash", params)
        if isinstance(answer, dict) and answer.get("blockNumber") is not None:
            return answer
        # In a mempool, says the node; but it may have been preconfirmed meanwhile, or just now been sealed.
        with self._arrivals.expect(wanted) as event:
            found = self._preconfirmed(wanted) or self._overlay.recent(wanted)
            if found is None and answer is not None and await wait_for(event, self._options.pool_wait_s):
                found = self._preconfirmed(wanted)
        return answer if found is None else pending_transaction_json(*found)

    async def raw_transaction(self, method: str, params: list[Any]) -> Any:
        found = self._preconfirmed(wanted := hash_param(params, 0))
        if found is None:
            answer = await self._node.client.call(method, params)
            found = self._overlay.recent(wanted) if answer in (None, "0x") else None
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
        found = self._preconfirmed(transaction_hash) or self._overlay.recent(transaction_hash)
        return None if found is None else pending_receipt_json(*found)

    def _preconfirmed(self, transaction_hash: bytes) -> tuple[PendingBlock, int] | None:
        view = self._overlay.view
        return None if view is None else view.find(transaction_hash)

    # --- state ---

    async def balance(self, params: list[Any]) -> Any:
        address = address_param(params, 0)
        view = self._pending(params, 1)
        if view is None:
            return await self._ask("eth_getBalance", params, 1)
        return quantity((await self._calls.account(view.latest, _int(address))).balance)

    async def nonce(self, params: list[Any]) -> Any:
        """What the next transaction of an account has to carry.

        The nonce after the pending block counts, and what has been sent but not streamed yet, or a wallet
        replaces its own transaction (xlayer-reth#256).
        """
        address = address_param(params, 0)
        value = params[1] if len(params) > 1 else None
        tag = parse_block_ref(value, index=1)
        if tag is not Tag.PENDING and not (tag is Tag.LATEST and self._options.latest_nonce_is_pending):
            return await self._node.client.call("eth_getTransactionCount", params)
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
        return quantity(self._next_nonce(address, nonce) if self._options.nonce_includes_pool else nonce)

    async def code(self, params: list[Any]) -> Any:
        address = address_param(params, 0)
        view = self._pending(params, 1)
        if view is None:
            return await self._ask("eth_getCode", params, 1)

        def read(state: StateView) -> bytes:
            account = state.account(_int(address))
            return b"" if account is None else state.code(account.code_hash)

        return to_hex(await self._calls.read(view.latest, read))

    async def storage_at(self, params: list[Any]) -> Any:
        address, slot = address_param(params, 0), slot_param(params, 1)
        view = self._pending(params, 2)
        if view is None:
            return await self._ask("eth_getStorageAt", params, 2)
        value = await self._calls.read(view.latest, lambda state: state.storage(_int(address), slot))
        return to_hex(value.to_bytes(32, "big"))

    async def storage_values(self, params: list[Any]) -> Any:
        slots = storage_values_param(params)
        view = self._pending(params, 1)
        if view is None:
            return await self._ask("eth_getStorageValues", params, 1)
        return await self._calls.read(view.latest, lambda state: storage_values_json(slots, state))

    async def proof(self, params: list[Any]) -> Any:
        """There is no state trie of what is pending: proofs are those of the latest block."""
        return await self._ask("eth_getProof", params, 2)

    async def fee_history(self, params: list[Any]) -> Any:
        """Of sealed blocks; the base fee after the latest of them is that of the pending one."""
        return await self._ask("eth_feeHistory", params, 1)

    # --- executions ---

    async def call(self, method: str, params: list[Any]) -> Any:
        view = self._pending(params, 1)
        if view is None:
            return await self._ask(method, params, 1)
        block = view.latest  # the block that the call believes to be in
        job = CallJob(method, params_text(params), self._setting(block), self._options.call_gas)
        return await self._calls.execute(block, job)

    async def simulate(self, params: list[Any]) -> Any:
        """Blocks upon the pending one. Their state roots are zeros: the overlay has no state trie."""
        view = self._pending(params, 1)
        if view is None:
            return await self._ask("eth_simulateV1", params, 1)
        block, fields = view.latest, required(params, 0, "simulation")
        text = params_text([fields])
        job = SimulateJob(text, block.config, pending_header(block), self._options.call_gas)
        return await self._calls.execute(block, job)

    async def trace_call(self, params: list[Any]) -> Any:
        view = self._pending(params, 1)
        if view is None:
            return await self._ask("debug_traceCall", params, 1)
        block, config = view.latest, trace_config(optional(params, 2), index=2)
        text = params_text([*params[:2], config.state_overrides, config.block_overrides])
        job = TraceCallJob(text, self._setting(block), self._options.call_gas, config.options)
        return await self._calls.execute(block, job, timeout_s=trace_seconds(config, self._calls.timeout_s))

    def _setting(self, block: PendingBlock) -> Setting:
        """Chain and block, the same object for all flashblocks of a block."""
        known = self._settings.of(block.context)
        if not known:
            known.append(Setting(block.config, block.context))
        return known[0]

    # --- logs ---

    async def logs(self, params: list[Any]) -> Any:
        """Sealed logs from the node, then those of all pending blocks when the range ends in `pending`."""
        fields = required(params, 0, "filter")
        wanted = LogFilter.parse(fields)
        view = self._overlay.view
        if wanted.to_block is not Tag.PENDING and wanted.from_block is not Tag.PENDING:
            return await self._node.client.call("eth_getLogs", params)
        if view is None:
            return await self._latest.call("eth_getLogs", [_without_pending(fields)])
        pending = [log for block in view.blocks for log in pending_logs_json(block, wanted)]
        head = view.canonical.block.number
        if wanted.from_block is Tag.PENDING or (
            isinstance(wanted.from_block, int) and wanted.from_block > head
        ):
            lowest = wanted.from_block if isinstance(wanted.from_block, int) else head + 1
            return [log for log in pending if parse_quantity(log["blockNumber"]) >= lowest]
        sealed = await self._node.client.call("eth_getLogs", [_without_pending(fields)])
        # The node may have sealed a block since the view was taken: what it reports is not repeated.
        known = {(log["blockNumber"], log["logIndex"]) for log in sealed}
        return [*sealed, *(log for log in pending if (log["blockNumber"], log["logIndex"]) not in known)]

    # --- the rest ---

    def _pending(self, params: list[Any], index: int) -> PendingView | None:
        """What is pending, if that is what the block parameter asks about."""
        value = params[index] if index < len(params) else None
        return self._overlay.view if parse_block_ref(value, index=index) is Tag.PENDING else None

    def _pending_by_hash(self, params: list[Any]) -> PendingView | None:
        """What is pending, if the block hash is the one that preconfirmed transactions are shown with."""
        return self._overlay.view if required(params, 0, "block hash") == _ZERO_HASH else None

    async def _ask(self, method: str, params: list[Any], index: int) -> Any:
        """The node's answer, with `pending` read as `latest`: its own pending block is not the stream's."""
        value = params[index] if index < len(params) else None
        if value is not None and parse_block_ref(value, index=index) is Tag.PENDING:
            params = [*params[:index], Tag.LATEST.value, *params[index + 1 :]]
            return await self._latest.call(method, params)
        return await self._node.client.call(method, params)


def _without_pending(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: Tag.LATEST.value if value == Tag.PENDING.value else value for name, value in fields.items()}


def _transaction_at(block: PendingBlock, index: int) -> dict[str, Any] | None:
    return pending_transaction_json(block, index) if index < len(block.envelopes) else None


def _int(address: bytes) -> int:
    return int.from_bytes(address, "big")
