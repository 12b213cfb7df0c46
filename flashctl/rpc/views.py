"""Preconfirmed blocks, transactions, receipts and logs as JSON-RPC shows them.

The shapes are those of sealed ones (`chain.views`), but for what does not exist yet: the hash of the block
is zeros in blocks, receipts and logs and null in transactions, as Base's nodes show it.
"""

from __future__ import annotations

from typing import Any

from flashctl.eth.blocks import Header
from flashctl.eth.ordered_trie import ordered_root
from flashctl.ethrpc.filters import LogFilter
from flashctl.ethrpc.rpc_json import (
    PENDING_HASH,
    ReceiptContext,
    TxPosition,
    block_json,
    fee_parameters_of,
    log_json,
    receipt_json,
    transaction_json,
)
from flashctl.rpc.execution import PendingBlock

__all__ = [
    "pending_block_json",
    "pending_block_receipts_json",
    "pending_header",
    "pending_logs_json",
    "pending_receipt_json",
    "pending_transaction_json",
]


def pending_header(block: PendingBlock) -> Header:
    """The header so far: what index 0 fixed, and the totals that the newest flashblock announced."""
    totals = block.totals
    return block.context.header(
        block.fork,
        state_root=totals.state_root,
        withdrawals_root=totals.withdrawals_root,
        transactions_root=ordered_root([envelope.raw for envelope in block.envelopes]),
        receipts_root=totals.receipts_root,
        logs_bloom=totals.logs_bloom,
        gas_used=totals.gas_used,
        da_footprint=totals.blob_gas_used or 0,
    )


def pending_block_json(block: PendingBlock, *, full: bool) -> dict[str, Any]:
    """The block object; with `full` transactions are objects."""
    shown = block_json(
        pending_header(block), block.envelopes, block.receipts, full=full, block_hash=PENDING_HASH
    )
    if full:
        for transaction in shown["transactions"]:
            transaction["blockHash"] = None
    return shown


def pending_transaction_json(block: PendingBlock, index: int) -> dict[str, Any]:
    """The transaction object."""
    position = TxPosition(None, block.number, block.context.timestamp, index)
    return transaction_json(block.envelopes[index], position, block.context.base_fee, block.receipts[index])


def pending_receipt_json(block: PendingBlock, index: int) -> dict[str, Any]:
    """The receipt object."""
    before = block.receipts[index - 1].cumulative_gas_used if index else 0
    return receipt_json(
        block.envelopes[index],
        block.receipts[index],
        _position(block, index),
        ReceiptContext(block.fork, block.context.base_fee, fee_parameters_of(block.envelopes)),
        gas_used=block.receipts[index].cumulative_gas_used - before,
        first_log_index=sum(len(receipt.logs) for receipt in block.receipts[:index]),
    )


def pending_block_receipts_json(block: PendingBlock) -> list[dict[str, Any]]:
    """The receipt objects of all transactions so far."""
    return [pending_receipt_json(block, index) for index in range(len(block.receipts))]


def pending_logs_json(block: PendingBlock, wanted: LogFilter, *, first: int = 0) -> list[dict[str, Any]]:
    """The logs that a filter wants, of the transactions from index `first` on."""
    found: list[dict[str, Any]] = []
    log_index = 0
    for index, (envelope, receipt) in enumerate(zip(block.envelopes, block.receipts, strict=True)):
        for log in receipt.logs:
            if index >= first and wanted.matches(log):
                found.append(log_json(log, _position(block, index), envelope.hash, log_index))
            log_index += 1
    return found


def _position(block: PendingBlock, index: int) -> TxPosition:
    return TxPosition(PENDING_HASH, block.number, block.context.timestamp, index)
