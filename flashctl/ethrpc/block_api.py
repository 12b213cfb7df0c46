"""Blocks, transactions and receipts over JSON-RPC."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from flashctl.core.jsonrpc.errors import Code, RpcError
from flashctl.core.jsonrpc.methods import Handler
from flashctl.eth.blocks import Block, Header, encode_block, encode_header
from flashctl.eth.hexdata import quantity, to_hex
from flashctl.eth.receipts import encode_receipt
from flashctl.ethrpc.interfaces import PendingBlock, TransactionPool
from flashctl.ethrpc.params import bool_param, hash_param, quantity_param
from flashctl.ethrpc.resolve import BlockView, Resolver
from flashctl.ethrpc.rpc_json import (
    ReceiptContext,
    TxPosition,
    block_json,
    block_receipts_json,
    fee_parameters_of,
    header_json,
    receipt_json,
    transaction_json,
)
from flashctl.op.envelope import TxEnvelope

__all__ = ["BlockApi", "raw_block_hex"]


class BlockApi:
    """Methods that read blocks and what is in them."""

    def __init__(self, resolver: Resolver, pool: TransactionPool | None) -> None:
        self._blocks = resolver
        self._chain = resolver.chain
        self._pool = pool
        self._places: tuple[Header | None, dict[bytes, int]] = (None, {})

    def handlers(self) -> Iterator[tuple[str, Handler]]:
        """Names and handlers."""
        yield "eth_blockNumber", self.block_number
        yield "eth_getBlockByNumber", self.block_by_number
        yield "eth_getBlockByHash", self.block_by_hash
        for name in ("eth_getHeaderByNumber", "eth_getHeaderByHash"):
            yield name, partial(self.header, name)
        for way in ("ByNumber", "ByHash"):
            yield (name := f"eth_getBlockTransactionCount{way}"), partial(self.count, name)
        for way in ("Number", "Hash"):
            yield (name := f"eth_getUncleCountByBlock{way}"), partial(self.uncle_count, name)
            yield (name := f"eth_getUncleByBlock{way}AndIndex"), partial(self.uncle, name)
            yield (name := f"eth_getTransactionByBlock{way}AndIndex"), partial(self.transaction_at, name)
            yield (
                (name := f"eth_getRawTransactionByBlock{way}AndIndex"),
                partial(self.raw_transaction_at, name),
            )
        yield "eth_getBlockReceipts", self.block_receipts
        yield "eth_getTransactionByHash", self.transaction_by_hash
        yield "eth_getRawTransactionByHash", self.raw_transaction
        yield "eth_getTransactionReceipt", self.transaction_receipt
        yield "debug_getRawBlock", self.raw_block
        yield "debug_getRawHeader", self.raw_header
        yield "debug_getRawReceipts", self.raw_receipts
        yield "debug_getRawTransaction", self.raw_transaction

    async def block_number(self, params: list[Any]) -> str:
        return quantity(self._chain.head.number)

    async def block_by_number(self, params: list[Any]) -> Any:
        view = self._blocks.view_for("eth_getBlockByNumber", params)
        return _block(view, bool_param(params, 1, False))

    async def block_by_hash(self, params: list[Any]) -> Any:
        view = self._blocks.view_for("eth_getBlockByHash", params)
        return _block(view, bool_param(params, 1, False))

    async def header(self, method: str, params: list[Any]) -> Any:
        view = self._blocks.view_for(method, params)
        return None if view is None else header_json(view.header, view.shown_hash)

    async def count(self, method: str, params: list[Any]) -> str | None:
        view = self._blocks.view_for(method, params)
        return None if view is None else quantity(len(view.envelopes))

    async def uncle_count(self, method: str, params: list[Any]) -> str | None:
        return None if self._blocks.view_for(method, params) is None else "0x0"

    async def uncle(self, method: str, params: list[Any]) -> None:
        """There is none in any block of the OP Stack."""
        self._blocks.view_for(method, params)
        quantity_param(params, 1, "index")

    async def block_receipts(self, params: list[Any]) -> Any:
        view = self._blocks.view_for("eth_getBlockReceipts", params)
        if view is None:
            return None
        fork = self._chain.config.fork_at(view.header.timestamp)
        return block_receipts_json(
            fork, view.header, view.envelopes, view.receipts, block_hash=view.shown_hash
        )

    async def transaction_by_hash(self, params: list[Any]) -> Any:
        tx_hash = hash_param(params, 0)
        found = self.find(tx_hash)
        if found is not None:
            return _transaction(*found)
        waiting = self._pool.get(tx_hash) if self._pool is not None else None
        return None if waiting is None else transaction_json(waiting)

    async def transaction_at(self, method: str, params: list[Any]) -> Any:
        view, index = self._blocks.view_for(method, params), quantity_param(params, 1, "index")
        return None if view is None or index >= len(view.envelopes) else _transaction(view, index)

    async def raw_transaction_at(self, method: str, params: list[Any]) -> str:
        view, index = self._blocks.view_for(method, params), quantity_param(params, 1, "index")
        return "0x" if view is None or index >= len(view.envelopes) else to_hex(view.envelopes[index].raw)

    async def raw_transaction(self, params: list[Any]) -> str:
        envelope = self._envelope(hash_param(params, 0))
        return "0x" if envelope is None else to_hex(envelope.raw)

    async def transaction_receipt(self, params: list[Any]) -> Any:
        found = self.find(hash_param(params, 0))
        return None if found is None else self.receipt(*found)

    async def raw_block(self, params: list[Any]) -> str:
        return raw_block_hex(self._existing("debug_getRawBlock", params))

    async def raw_header(self, params: list[Any]) -> str:
        return to_hex(encode_header(self._existing("debug_getRawHeader", params).header))

    async def raw_receipts(self, params: list[Any]) -> list[str]:
        view = self._existing("debug_getRawReceipts", params)
        return [to_hex(encode_receipt(receipt)) for receipt in view.receipts]

    # ---- shared with the methods that wait for a receipt ------------------------------------------

    def find(self, tx_hash: bytes) -> tuple[BlockView, int] | None:
        """The block with a transaction, sealed or being built, and its position there."""
        sealed = self._chain.transaction(tx_hash)
        if sealed is not None:
            block, index = sealed
            return BlockView(block.header, block.envelopes, block.receipts), index
        pending = self._blocks.pending()
        if pending is not None:
            place = self._places_in(pending).get(tx_hash)
            if place is not None:
                return BlockView(pending.header, pending.envelopes, pending.receipts, True), place
        return None

    def _places_in(self, pending: PendingBlock) -> dict[bytes, int]:
        """Where the block being built has which transaction: looked up once for each of its flashblocks."""
        header, places = self._places
        if header is not pending.header:
            places = {envelope.hash: place for place, envelope in enumerate(pending.envelopes)}
            self._places = (pending.header, places)
        return places

    def receipt(self, view: BlockView, index: int) -> dict[str, Any]:
        """The receipt object of one transaction of a block."""
        header, receipts = view.header, view.receipts
        context = ReceiptContext(
            self._chain.config.fork_at(header.timestamp),
            header.base_fee_per_gas or 0,
            fee_parameters_of(view.envelopes),
        )
        gas_before = receipts[index - 1].cumulative_gas_used if index else 0
        return receipt_json(
            view.envelopes[index],
            receipts[index],
            TxPosition(view.shown_hash, header.number, header.timestamp, index),
            context,
            gas_used=receipts[index].cumulative_gas_used - gas_before,
            first_log_index=sum(len(receipt.logs) for receipt in receipts[:index]),
        )

    def _envelope(self, tx_hash: bytes) -> TxEnvelope | None:
        found = self.find(tx_hash)
        if found is not None:
            view, index = found
            return view.envelopes[index]
        return self._pool.get(tx_hash) if self._pool is not None else None

    def _existing(self, method: str, params: list[Any]) -> BlockView:
        view = self._blocks.view_for(method, params)
        if view is None:
            raise RpcError(Code.SERVER_ERROR, "block not found")
        return view


def raw_block_hex(view: BlockView) -> str:
    """The encoded block; of one that is not sealed, as it would be if it were sealed now."""
    raws = tuple(envelope.raw for envelope in view.envelopes)
    withdrawals = None if view.header.withdrawals_root is None else ()
    return to_hex(encode_block(Block(view.header, raws, withdrawals)))


def _block(view: BlockView | None, full: bool) -> Any:
    if view is None:
        return None
    if not view.is_pending:
        return block_json(view.header, view.envelopes, view.receipts, full=full)
    shown = block_json(view.header, view.envelopes, view.receipts, full=full, block_hash=view.shown_hash)
    if full:
        for transaction in shown["transactions"]:
            transaction["blockHash"] = None
    return shown


def _transaction(view: BlockView, index: int) -> dict[str, Any]:
    header = view.header
    # None, not zeros: what is in no block yet is shown so everywhere.
    shown_hash = None if view.is_pending else header.hash
    position = TxPosition(shown_hash, header.number, header.timestamp, index)
    return transaction_json(view.envelopes[index], position, header.base_fee_per_gas, view.receipts[index])
