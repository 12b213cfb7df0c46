"""Blocks and what is in them over JSON-RPC: the same answers of a builder's node and of an overlay."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from flashctl.core.jsonrpc.errors import ErrorCode, RpcError
from flashctl.core.jsonrpc.methods import Handler
from flashctl.eth.blocks import encode_header
from flashctl.eth.hexdata import quantity, to_hex
from flashctl.eth.receipts import encode_receipt
from flashctl.ethrpc.block_view import (
    block_of,
    raw_block_of,
    receipt_of,
    receipts_of,
    shown_hash,
    transaction_of,
)
from flashctl.ethrpc.interfaces import BlockAnswer, BlockView, NamedBlock, Place, Provider
from flashctl.ethrpc.params import bool_param, hash_param, quantity_param
from flashctl.ethrpc.rpc_json import header_json

__all__ = ["BlockApi", "TransactionApi"]


class BlockApi:
    """Methods that read a block."""

    def answers(self) -> Iterator[tuple[str, BlockAnswer]]:
        """Names and answers."""
        for way in ("ByNumber", "ByHash"):
            yield f"eth_getBlock{way}", self.block
            yield f"eth_getHeader{way}", self.header
            yield f"eth_getBlockTransactionCount{way}", self.count
        for way in ("Number", "Hash"):
            yield f"eth_getUncleCountByBlock{way}", self.uncle_count
            yield f"eth_getUncleByBlock{way}AndIndex", self.uncle
            yield f"eth_getTransactionByBlock{way}AndIndex", self.transaction
            yield f"eth_getRawTransactionByBlock{way}AndIndex", self.raw_transaction
        yield "eth_getBlockReceipts", self.receipts
        yield "debug_getRawBlock", self.raw_block
        yield "debug_getRawHeader", self.raw_header
        yield "debug_getRawReceipts", self.raw_receipts

    async def block(self, block: NamedBlock, params: list[Any]) -> Any:
        view, full = block.find(), bool_param(params, 1, False)
        return None if view is None else block_of(view, full=full)

    async def header(self, block: NamedBlock, params: list[Any]) -> Any:
        view = block.find()
        return None if view is None else header_json(view.header, shown_hash(view))

    async def count(self, block: NamedBlock, params: list[Any]) -> str | None:
        view = block.find()
        return None if view is None else quantity(len(view.envelopes))

    async def uncle_count(self, block: NamedBlock, params: list[Any]) -> str | None:
        return None if block.find() is None else "0x0"

    async def uncle(self, block: NamedBlock, params: list[Any]) -> None:
        """There is none in any block of the OP Stack."""
        block.find()
        quantity_param(params, 1, "index")

    async def transaction(self, block: NamedBlock, params: list[Any]) -> Any:
        view, index = block.find(), quantity_param(params, 1, "index")
        return None if view is None or index >= len(view.envelopes) else transaction_of(Place(view, index))

    async def raw_transaction(self, block: NamedBlock, params: list[Any]) -> str:
        view, index = block.find(), quantity_param(params, 1, "index")
        return "0x" if view is None or index >= len(view.envelopes) else to_hex(view.envelopes[index].raw)

    async def receipts(self, block: NamedBlock, params: list[Any]) -> Any:
        view = block.find()
        return None if view is None else receipts_of(view)

    async def raw_block(self, block: NamedBlock, params: list[Any]) -> str:
        return raw_block_of(_existing(block))

    async def raw_header(self, block: NamedBlock, params: list[Any]) -> str:
        return to_hex(encode_header(_existing(block).header))

    async def raw_receipts(self, block: NamedBlock, params: list[Any]) -> list[str]:
        return [to_hex(encode_receipt(receipt)) for receipt in _existing(block).receipts]


class TransactionApi:
    """Methods that look a transaction up by its hash."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    def handlers(self) -> Iterator[tuple[str, Handler]]:
        """Names and handlers."""
        yield "eth_getTransactionByHash", self.transaction
        yield "eth_getTransactionReceipt", self.receipt
        for name in ("eth_getRawTransactionByHash", "debug_getRawTransaction"):
            yield name, partial(self.raw, name)

    async def transaction(self, params: list[Any]) -> Any:
        return await self._answer("eth_getTransactionByHash", params, transaction_of)

    async def receipt(self, params: list[Any]) -> Any:
        return await self._answer("eth_getTransactionReceipt", params, receipt_of)

    async def raw(self, method: str, params: list[Any]) -> Any:
        return await self._answer(method, params, _raw)

    async def _answer(self, method: str, params: list[Any], show: Callable[[Place], Any]) -> Any:
        tx_hash = hash_param(params, 0)
        place = self._provider.find_transaction(tx_hash)
        if place is not None:
            return show(place)
        return await self._provider.other_transaction(method, params, tx_hash, show)


def _raw(place: Place) -> str:
    return to_hex(place.block.envelopes[place.index].raw)


def _existing(block: NamedBlock) -> BlockView:
    view = block.find()
    if view is None:
        raise RpcError(ErrorCode.SERVER_ERROR, "block not found")
    return view
