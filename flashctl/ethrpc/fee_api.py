"""What a transaction should offer: base fee, tips of recent blocks, a suggestion.

The suggestion follows op-geth: a fixed small tip while blocks have room, because more buys nothing there,
and otherwise a little above what the last full block paid.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from flashctl.core.jsonrpc.errors import ErrorCode, RpcError, invalid_params
from flashctl.core.jsonrpc.methods import Handler, optional
from flashctl.eth.blocks import Header
from flashctl.eth.hexdata import quantity
from flashctl.eth.receipts import Receipt
from flashctl.eth.transactions import priority_fee
from flashctl.ethrpc.interfaces import (
    BlockAnswer,
    BlockView,
    ChainReader,
    NamedBlock,
    Provider,
    StoredBlock,
)
from flashctl.ethrpc.params import quantity_param
from flashctl.op.base_fee import next_base_fee
from flashctl.op.config import ChainConfig
from flashctl.op.envelope import TxEnvelope

__all__ = ["FeeApi", "FeeHistoryApi", "history_json", "no_history", "suggested_tip"]

LEAST_TIP: Final = 1_000_000
"""Wei per gas suggested while blocks have room (0.001 gwei), as op-geth does."""

BLOB_BASE_FEE: Final = 1
"""EIP-4844's minimum: L2 blocks hold no blobs, so it never rises."""

MAX_BLOCKS: Final = 1024
MAX_PERCENTILES: Final = 100
"""Bounds of one eth_feeHistory; geth's."""


class FeeApi:
    """Prices of gas on a chain."""

    def __init__(self, chain: ChainReader) -> None:
        self._chain = chain

    def handlers(self) -> Iterator[tuple[str, Handler]]:
        """Names and handlers."""
        yield "eth_gasPrice", self.gas_price
        yield "eth_maxPriorityFeePerGas", self.tip
        yield "eth_baseFee", self.base_fee
        yield "eth_blobBaseFee", self.blob_base_fee

    async def gas_price(self, params: list[Any]) -> str:
        tip = suggested_tip(self._head())
        return quantity(tip + (self._chain.head.base_fee_per_gas or 0))

    async def tip(self, params: list[Any]) -> str:
        return quantity(suggested_tip(self._head()))

    async def base_fee(self, params: list[Any]) -> str:
        """Of the next block."""
        return quantity(_next_base_fee(self._chain.config, self._chain.head))

    async def blob_base_fee(self, params: list[Any]) -> str:
        return quantity(BLOB_BASE_FEE)

    def _head(self) -> StoredBlock:
        block = self._chain.block(self._chain.head.hash)
        if block is None:
            raise RpcError(ErrorCode.SERVER_ERROR, "header not found")
        return block


class FeeHistoryApi:
    """eth_feeHistory."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    def answers(self) -> Iterator[tuple[str, BlockAnswer]]:
        """Name and answer."""
        yield "eth_feeHistory", self.history

    async def history(self, block: NamedBlock, params: list[Any]) -> dict[str, Any]:
        """Base fees, fullness and tips by percentile of gas, over some blocks."""
        wanted = quantity_param(params, 0, "block count")
        _ = block.ref  # the second parameter is read before the third
        return await self._provider.fee_history(block, min(wanted, MAX_BLOCKS), percentiles_param(params))


def no_history() -> dict[str, Any]:
    """What eth_feeHistory answers of no blocks."""
    return {"oldestBlock": "0x0", "gasUsedRatio": []}


def history_json(
    config: ChainConfig, views: Sequence[BlockView], percentiles: Sequence[float]
) -> dict[str, Any]:
    """What eth_feeHistory tells of consecutive blocks, oldest first."""
    headers = [view.header for view in views]
    base_fees = [header.base_fee_per_gas or 0 for header in headers]
    base_fees.append(_next_base_fee(config, headers[-1]))
    shown: dict[str, Any] = {
        "oldestBlock": quantity(headers[0].number),
        "baseFeePerGas": [quantity(fee) for fee in base_fees],
        "gasUsedRatio": [header.gas_used / header.gas_limit if header.gas_limit else 0 for header in headers],
        "baseFeePerBlobGas": [quantity(BLOB_BASE_FEE)] * len(base_fees),
        "blobGasUsedRatio": [0] * len(headers),
    }
    if percentiles:
        shown["reward"] = [_rewards(view, percentiles) for view in views]
    return shown


def suggested_tip(head: StoredBlock) -> int:
    """A tip in wei per gas for the block after `head`."""
    receipts, header = head.receipts, head.header
    used = [receipt.cumulative_gas_used for receipt in receipts]
    largest = max((after - before for before, after in zip([0, *used], used, strict=False)), default=0)
    if header.gas_used + largest < header.gas_limit:
        return LEAST_TIP
    tips = sorted(tip for tip, _ in _paid(head.header, head.envelopes, receipts))
    if not tips:
        return LEAST_TIP
    return max(LEAST_TIP, tips[len(tips) // 2] * 11 // 10)


def _next_base_fee(config: ChainConfig, header: Header) -> int:
    return next_base_fee(config, header, header.timestamp + config.block_time)


def _paid(
    header: Header, envelopes: Sequence[TxEnvelope], receipts: Sequence[Receipt]
) -> list[tuple[int, int]]:
    """(tip per gas, gas used) of every transaction that pays; deposits do not take part in the market."""
    paid = []
    gas_before = 0
    for envelope, receipt in zip(envelopes, receipts, strict=True):
        gas = receipt.cumulative_gas_used - gas_before
        gas_before = receipt.cumulative_gas_used
        if not envelope.is_deposit:
            paid.append((priority_fee(envelope.tx, header.base_fee_per_gas or 0), gas))
    return paid


def _rewards(view: BlockView, percentiles: Sequence[float]) -> list[str]:
    """The tip at each percentile of the gas that paid one."""
    paid = sorted(_paid(view.header, view.envelopes, view.receipts))
    total = sum(gas for _, gas in paid)
    rewards = []
    index = reached = 0
    for percentile in percentiles:
        if not paid:
            rewards.append("0x0")
            continue
        while index < len(paid) - 1 and (reached + paid[index][1]) * 100 < total * percentile:
            reached += paid[index][1]
            index += 1
        rewards.append(quantity(paid[index][0]))
    return rewards


def percentiles_param(params: list[Any]) -> list[float]:
    """The percentiles that eth_feeHistory asks for."""
    value = optional(params, 2)
    if value is None:
        return []
    if not isinstance(value, list):
        raise invalid_params("invalid argument 2: expected a list of percentiles")
    if len(value) > MAX_PERCENTILES:
        raise invalid_params(f"invalid reward percentile: over the query limit {MAX_PERCENTILES}")
    percentiles: list[float] = []
    for item in value:
        if not isinstance(item, (int, float)) or isinstance(item, bool) or not 0 <= item <= 100:
            raise invalid_params(f"invalid reward percentile: {str(item)[:20]}")
        if percentiles and item < percentiles[-1]:
            raise invalid_params(f"invalid reward percentile: {item} after {percentiles[-1]}")
        percentiles.append(item)
    return percentiles
