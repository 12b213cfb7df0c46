"""A block of a chain to look at, and what JSON-RPC shows of one, sealed or not.

A block that is not sealed has no hash yet: it is shown as zeros in blocks, receipts and logs, and as null in
transactions, as Base's nodes do. Its hash changes with every flashblock and is that of no block that anyone
could find later.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flashctl.eth.blocks import Block, Header, encode_block
from flashctl.eth.hexdata import to_hex
from flashctl.eth.receipts import Receipt
from flashctl.ethrpc.filters import LogFilter
from flashctl.ethrpc.interfaces import BlockView, Place
from flashctl.ethrpc.rpc_json import (
    PENDING_HASH,
    ReceiptContext,
    TxPosition,
    block_json,
    block_receipts_json,
    fee_parameters_of,
    log_json,
    receipt_json,
    transaction_json,
)
from flashctl.op.config import ChainConfig
from flashctl.op.envelope import TxEnvelope
from flashctl.op.forks import OpFork

__all__ = [
    "ChainBlockView",
    "block_of",
    "logs_of",
    "raw_block_of",
    "receipt_of",
    "receipts_of",
    "shown_hash",
    "transaction_of",
]


@dataclass(frozen=True, slots=True)
class ChainBlockView:
    """A `BlockView` of a block whose header is at hand."""

    config: ChainConfig
    header: Header
    envelopes: Sequence[TxEnvelope]
    receipts: Sequence[Receipt]
    is_pending: bool = False

    @property
    def number(self) -> int:
        """The block number."""
        return self.header.number

    @property
    def timestamp(self) -> int:
        """Seconds since the epoch."""
        return self.header.timestamp

    @property
    def base_fee(self) -> int:
        """Wei per gas."""
        return self.header.base_fee_per_gas or 0

    @property
    def fork(self) -> OpFork:
        """Whose rules the block follows."""
        return self.config.fork_at(self.header.timestamp)


def shown_hash(view: BlockView) -> bytes:
    """The hash that callers see."""
    return PENDING_HASH if view.is_pending else view.header.hash


def block_of(view: BlockView, *, full: bool) -> dict[str, Any]:
    """The block object; with `full` transactions are objects."""
    shown = block_json(view.header, view.envelopes, view.receipts, full=full, block_hash=shown_hash(view))
    if full and view.is_pending:
        for transaction in shown["transactions"]:
            transaction["blockHash"] = None
    return shown


def raw_block_of(view: BlockView) -> str:
    """The block as RLP; one that is not sealed as if what is there so far were the whole."""
    raws = tuple(envelope.raw for envelope in view.envelopes)
    header = view.header
    withdrawals = None if header.withdrawals_root is None else ()
    return to_hex(encode_block(Block(header, raws, withdrawals)))


def transaction_of(place: Place) -> dict[str, Any]:
    """The transaction object."""
    view, index = place.block, place.index
    block_hash = None if view.is_pending else view.header.hash
    position = TxPosition(block_hash, view.number, view.timestamp, index)
    return transaction_json(view.envelopes[index], position, view.base_fee, view.receipts[index])


def receipt_of(place: Place) -> dict[str, Any]:
    """The receipt object of one transaction."""
    view, index = place.block, place.index
    receipts = view.receipts
    gas_before = receipts[index - 1].cumulative_gas_used if index else 0
    return receipt_json(
        view.envelopes[index],
        receipts[index],
        _position(view, index),
        ReceiptContext(view.fork, view.base_fee, fee_parameters_of(view.envelopes)),
        gas_used=receipts[index].cumulative_gas_used - gas_before,
        first_log_index=sum(len(receipt.logs) for receipt in receipts[:index]),
    )


def receipts_of(view: BlockView) -> list[dict[str, Any]]:
    """The receipt objects of all transactions."""
    return block_receipts_json(
        view.fork, view.header, view.envelopes, view.receipts, block_hash=shown_hash(view)
    )


def logs_of(
    view: BlockView, wanted: LogFilter, *, first: int = 0, removed: bool = False
) -> list[dict[str, Any]]:
    """The log objects that a filter wants, of the transactions from index `first` on, in order."""
    if not view.is_pending and not wanted.may_match(view.header.logs_bloom):
        return []
    found: list[dict[str, Any]] = []
    log_index = 0
    for index, (envelope, receipt) in enumerate(zip(view.envelopes, view.receipts, strict=True)):
        position = _position(view, index)
        for log in receipt.logs:
            if index >= first and wanted.matches(log):
                found.append(log_json(log, position, envelope.hash, log_index, removed=removed))
            log_index += 1
    return found


def _position(view: BlockView, index: int) -> TxPosition:
    return TxPosition(shown_hash(view), view.number, view.timestamp, index)
