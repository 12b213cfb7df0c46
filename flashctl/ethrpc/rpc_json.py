"""Blocks, transactions, receipts and logs as JSON-RPC shows them.

Shapes are those of ethereum/execution-apis with the fields that OP Stack nodes add: a deposit's source
hash, mint and nonce, a receipt's L1 fee and operator fee. Everything derives from a header, the
transactions and the consensus receipts; what a block's L1 attributes deposit says about fees is read
from its calldata. So the same functions serve a sealed block, a block being built and an overlay that
has seen only a stream.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from flashctl.eth.blocks import Block, Header, encode_block
from flashctl.eth.hexdata import quantity, to_hex
from flashctl.eth.keccak import keccak256
from flashctl.eth.receipts import Log, Receipt
from flashctl.eth.rlp import encode_bytes, encode_uint, join_list
from flashctl.eth.transactions import (
    AccessListEntry,
    AccessListTx,
    Authorization,
    BlobTx,
    DepositTx,
    FeeMarketTx,
    LegacyTx,
    SetCodeTx,
    effective_gas_price,
    max_fee,
)
from flashctl.op.envelope import TxEnvelope
from flashctl.op.fees import L1FeeParameters, da_footprint_scalar_or_default, l1_fee, l1_gas_used
from flashctl.op.forks import OpFork
from flashctl.op.l1_attributes import InvalidL1Attributes, decode_l1_attributes

__all__ = [
    "PENDING_HASH",
    "ReceiptContext",
    "TxPosition",
    "block_json",
    "block_receipts_json",
    "created_address",
    "fee_parameters_of",
    "header_json",
    "log_json",
    "receipt_json",
    "transaction_json",
]

PENDING_HASH: Final = bytes(32)
"""What stands for the hash of a block that is still being built."""


@dataclass(frozen=True, slots=True)
class TxPosition:
    """Where a transaction stands."""

    block_hash: bytes | None
    """None where the block has no hash yet."""

    block_number: int
    block_timestamp: int
    """Seconds since the epoch."""

    index: int
    """Among the block's transactions."""


@dataclass(frozen=True, slots=True)
class ReceiptContext:
    """What a receipt's view needs to know of its block."""

    fork: OpFork
    base_fee: int
    """Wei per gas."""

    fees: L1FeeParameters | None
    """None for a block without an L1 attributes deposit; its receipts have no L1 fields."""


def header_json(header: Header, block_hash: bytes | None = None) -> dict[str, Any]:
    """The header fields of a block object, which are also what `newHeads` sends.

    Args:
        block_hash: Shown instead of the header's own hash, for a block that is not sealed.
    """
    shown: dict[str, Any] = {
        "hash": to_hex(header.hash if block_hash is None else block_hash),
        "parentHash": to_hex(header.parent_hash),
        "sha3Uncles": to_hex(header.ommers_hash),
        "miner": to_hex(header.fee_recipient),
        "stateRoot": to_hex(header.state_root),
        "transactionsRoot": to_hex(header.transactions_root),
        "receiptsRoot": to_hex(header.receipts_root),
        "logsBloom": to_hex(header.logs_bloom),
        "difficulty": quantity(header.difficulty),
        "number": quantity(header.number),
        "gasLimit": quantity(header.gas_limit),
        "gasUsed": quantity(header.gas_used),
        "timestamp": quantity(header.timestamp),
        "extraData": to_hex(header.extra_data),
        "mixHash": to_hex(header.prev_randao),
        "nonce": to_hex(header.nonce),
    }
    if header.base_fee_per_gas is not None:
        shown["baseFeePerGas"] = quantity(header.base_fee_per_gas)
    if header.withdrawals_root is not None:
        shown["withdrawalsRoot"] = to_hex(header.withdrawals_root)
    if header.blob_gas_used is not None:
        shown["blobGasUsed"] = quantity(header.blob_gas_used)
    if header.excess_blob_gas is not None:
        shown["excessBlobGas"] = quantity(header.excess_blob_gas)
    if header.parent_beacon_block_root is not None:
        shown["parentBeaconBlockRoot"] = to_hex(header.parent_beacon_block_root)
    if header.requests_hash is not None:
        shown["requestsHash"] = to_hex(header.requests_hash)
    return shown


def block_json(
    header: Header,
    envelopes: Sequence[TxEnvelope],
    receipts: Sequence[Receipt] | None = None,
    *,
    full: bool,
    block_hash: bytes | None = None,
) -> dict[str, Any]:
    """A block object.

    Args:
        receipts: Of the transactions, in order; give them where known, a deposit's nonce is in its receipt.
        full: Whether transactions are objects rather than hashes.
        block_hash: Shown instead of the header's own hash, for a block that is not sealed.
    """
    shown = header_json(header, block_hash)
    raws = tuple(envelope.raw for envelope in envelopes)
    withdrawals = None if header.withdrawals_root is None else ()
    shown["size"] = quantity(len(encode_block(Block(header, raws, withdrawals))))
    shown["uncles"] = []
    if withdrawals is not None:
        shown["withdrawals"] = []
    if not full:
        shown["transactions"] = [to_hex(envelope.hash) for envelope in envelopes]
        return shown
    shown_hash = header.hash if block_hash is None else block_hash
    shown["transactions"] = [
        transaction_json(
            envelope,
            TxPosition(shown_hash, header.number, header.timestamp, index),
            header.base_fee_per_gas,
            None if receipts is None else receipts[index],
        )
        for index, envelope in enumerate(envelopes)
    ]
    return shown


def transaction_json(
    envelope: TxEnvelope,
    position: TxPosition | None = None,
    base_fee: int | None = None,
    receipt: Receipt | None = None,
) -> dict[str, Any]:
    """A transaction object.

    Args:
        position: None for a transaction that is in no block.
        base_fee: Of its block in wei, which decides `gasPrice`; None shows the fee cap there.
        receipt: Of a deposit, whose nonce is recorded nowhere else.
    """
    tx = envelope.tx
    shown: dict[str, Any] = {
        "blockHash": None if position is None or position.block_hash is None else to_hex(position.block_hash),
        "blockNumber": None if position is None else quantity(position.block_number),
        "blockTimestamp": None if position is None else quantity(position.block_timestamp),
        "transactionIndex": None if position is None else quantity(position.index),
        "hash": to_hex(envelope.hash),
        "type": quantity(tx.type_byte),
        "from": to_hex(envelope.sender),
        "to": None if tx.to is None else to_hex(tx.to),
        "gas": quantity(tx.gas_limit),
        "value": quantity(tx.value),
        "input": to_hex(tx.data),
    }
    if isinstance(tx, DepositTx):
        return shown | _deposit_fields(tx, receipt)
    price = max_fee(tx) if base_fee is None else effective_gas_price(tx, base_fee)
    shown |= {"nonce": quantity(tx.nonce), "gasPrice": quantity(price)}
    if tx.chain_id is not None:
        shown["chainId"] = quantity(tx.chain_id)
    if isinstance(tx, LegacyTx):
        shown["v"] = quantity(tx.v)
    else:
        shown |= _typed_fields(tx)
    shown |= {"r": quantity(tx.r), "s": quantity(tx.s)}
    return shown


def _deposit_fields(tx: DepositTx, receipt: Receipt | None) -> dict[str, Any]:
    """What op-geth shows of a deposit; clients expect a signature, so there is one of zeros."""
    shown: dict[str, Any] = {
        "sourceHash": to_hex(tx.source_hash),
        "mint": quantity(tx.mint),
        "gasPrice": "0x0",
        "nonce": "0x0",
        "v": "0x0",
        "r": "0x0",
        "s": "0x0",
    }
    if tx.is_system:
        shown["isSystemTx"] = True
    if receipt is not None and receipt.deposit_nonce is not None:
        shown["nonce"] = quantity(receipt.deposit_nonce)
    if receipt is not None and receipt.deposit_receipt_version is not None:
        shown["depositReceiptVersion"] = quantity(receipt.deposit_receipt_version)
    return shown


def _typed_fields(tx: AccessListTx | FeeMarketTx | BlobTx | SetCodeTx) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "accessList": [_access_entry_json(entry) for entry in tx.access_list],
        "v": quantity(tx.y_parity),
        "yParity": quantity(tx.y_parity),
    }
    if not isinstance(tx, AccessListTx):
        shown["maxFeePerGas"] = quantity(tx.max_fee_per_gas)
        shown["maxPriorityFeePerGas"] = quantity(tx.max_priority_fee_per_gas)
    if isinstance(tx, BlobTx):
        shown["maxFeePerBlobGas"] = quantity(tx.max_fee_per_blob_gas)
        shown["blobVersionedHashes"] = [to_hex(blob) for blob in tx.blob_hashes]
    if isinstance(tx, SetCodeTx):
        shown["authorizationList"] = [_authorization_json(entry) for entry in tx.authorizations]
    return shown


def _access_entry_json(entry: AccessListEntry) -> dict[str, Any]:
    return {"address": to_hex(entry.address), "storageKeys": [to_hex(key) for key in entry.storage_keys]}


def _authorization_json(entry: Authorization) -> dict[str, Any]:
    return {
        "chainId": quantity(entry.chain_id),
        "address": to_hex(entry.address),
        "nonce": quantity(entry.nonce),
        "yParity": quantity(entry.y_parity),
        "r": quantity(entry.r),
        "s": quantity(entry.s),
    }


def log_json(
    log: Log, position: TxPosition, tx_hash: bytes, log_index: int, *, removed: bool = False
) -> dict[str, Any]:
    """A log object.

    Args:
        log_index: Among the logs of the whole block.
        removed: Whether a reorganisation took its block off the canonical chain.
    """
    return {
        "address": to_hex(log.address),
        "topics": [to_hex(topic) for topic in log.topics],
        "data": to_hex(log.data),
        "blockHash": None if position.block_hash is None else to_hex(position.block_hash),
        "blockNumber": quantity(position.block_number),
        "blockTimestamp": quantity(position.block_timestamp),
        "transactionHash": to_hex(tx_hash),
        "transactionIndex": quantity(position.index),
        "logIndex": quantity(log_index),
        "removed": removed,
    }


def created_address(envelope: TxEnvelope, receipt: Receipt) -> bytes | None:
    """The contract that a transaction creates; None for a call.

    A deposit has no nonce of its own: the one its sender had is in the receipt since Regolith.
    """
    tx = envelope.tx
    if tx.to is not None:
        return None
    nonce = (receipt.deposit_nonce or 0) if isinstance(tx, DepositTx) else tx.nonce
    return keccak256(join_list((encode_bytes(envelope.sender), encode_uint(nonce))))[12:]


def fee_parameters_of(envelopes: Sequence[TxEnvelope]) -> L1FeeParameters | None:
    """The fee parameters in the L1 attributes deposit that opens a block; None if it opens with another."""
    if not envelopes or not envelopes[0].is_deposit:
        return None
    try:
        layout, attributes = decode_l1_attributes(envelopes[0].tx.data)
    except InvalidL1Attributes:
        return None
    return L1FeeParameters.from_attributes(layout, attributes)


def receipt_json(
    envelope: TxEnvelope,
    receipt: Receipt,
    position: TxPosition,
    context: ReceiptContext,
    *,
    gas_used: int,
    first_log_index: int,
) -> dict[str, Any]:
    """A receipt object.

    Args:
        gas_used: Of this transaction alone.
        first_log_index: Number of logs before it in the block.
    """
    tx = envelope.tx
    contract = created_address(envelope, receipt)
    price = 0 if isinstance(tx, DepositTx) else effective_gas_price(tx, context.base_fee)
    shown: dict[str, Any] = {
        "blockHash": None if position.block_hash is None else to_hex(position.block_hash),
        "blockNumber": quantity(position.block_number),
        "transactionHash": to_hex(envelope.hash),
        "transactionIndex": quantity(position.index),
        "type": quantity(tx.type_byte),
        "from": to_hex(envelope.sender),
        "to": None if tx.to is None else to_hex(tx.to),
        "contractAddress": None if contract is None else to_hex(contract),
        "status": "0x1" if receipt.succeeded else "0x0",
        "gasUsed": quantity(gas_used),
        "cumulativeGasUsed": quantity(receipt.cumulative_gas_used),
        "effectiveGasPrice": quantity(price),
        "logsBloom": to_hex(receipt.bloom),
        "logs": [
            log_json(log, position, envelope.hash, first_log_index + offset)
            for offset, log in enumerate(receipt.logs)
        ],
    }
    if receipt.deposit_nonce is not None:
        shown["depositNonce"] = quantity(receipt.deposit_nonce)
    if receipt.deposit_receipt_version is not None:
        shown["depositReceiptVersion"] = quantity(receipt.deposit_receipt_version)
    if context.fees is not None and not envelope.is_deposit:
        shown |= _l1_fields(envelope, context.fees, context.fork)
    return shown


def _l1_fields(envelope: TxEnvelope, fees: L1FeeParameters, fork: OpFork) -> dict[str, Any]:
    """What OP nodes add to a receipt about the fees beside gas; a deposit pays none of them, and op-geth
    shows none."""
    scalar = da_footprint_scalar_or_default(fees.da_footprint_gas_scalar)
    size = envelope.fastlz_size if fork.prices_compressed_size else 0
    shown: dict[str, Any] = {
        "l1GasPrice": quantity(fees.base_fee),
        "l1GasUsed": quantity(l1_gas_used(fees, fork, envelope.raw, size)),
        "l1Fee": quantity(l1_fee(fees, fork, envelope.raw, size)),
    }
    if fees.bedrock_formula:
        # A decimal fraction as text, unlike every other number: so op-geth has shown it from the start.
        shown["l1FeeScalar"] = f"{fees.scalar / 1_000_000:.6f}".rstrip("0").rstrip(".")
        return shown
    shown["l1BaseFeeScalar"] = quantity(fees.base_fee_scalar)
    shown["l1BlobBaseFee"] = quantity(fees.blob_base_fee)
    shown["l1BlobBaseFeeScalar"] = quantity(fees.blob_base_fee_scalar)
    if fork.has_operator_fee and (fees.operator_fee_scalar or fees.operator_fee_constant):
        shown["operatorFeeScalar"] = quantity(fees.operator_fee_scalar)
        shown["operatorFeeConstant"] = quantity(fees.operator_fee_constant)
    if fork.has_da_footprint:
        shown["daFootprintGasScalar"] = quantity(scalar)
        shown["blobGasUsed"] = quantity(envelope.da_size * scalar)
    return shown


def block_receipts_json(
    fork: OpFork,
    header: Header,
    envelopes: Sequence[TxEnvelope],
    receipts: Sequence[Receipt],
    *,
    block_hash: bytes | None = None,
) -> list[dict[str, Any]]:
    """The receipt objects of a whole block."""
    context = ReceiptContext(fork, header.base_fee_per_gas or 0, fee_parameters_of(envelopes))
    shown_hash = header.hash if block_hash is None else block_hash
    shown: list[dict[str, Any]] = []
    gas_before = logs_before = 0
    for index, (envelope, receipt) in enumerate(zip(envelopes, receipts, strict=True)):
        shown.append(
            receipt_json(
                envelope,
                receipt,
                TxPosition(shown_hash, header.number, header.timestamp, index),
                context,
                gas_used=receipt.cumulative_gas_used - gas_before,
                first_log_index=logs_before,
            )
        )
        gas_before = receipt.cumulative_gas_used
        logs_before += len(receipt.logs)
    return shown
