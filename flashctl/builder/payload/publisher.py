"""Encoding of a sealed flashblock as a message of the stream.

The message carries what the block gained and the roots of all of it so far; which metadata goes along is the
dialect's choice (core/flashblocks/dialects.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flashctl.builder.payload.job import BuiltFlashblock
from flashctl.core.flashblocks.dialects import OP_RBUILDER, Dialect
from flashctl.core.flashblocks.wire import Base, Diff, Flashblock, Metadata, encode
from flashctl.core.hub import Hub, Prepared
from flashctl.eth.blocks import Header
from flashctl.eth.hexdata import quantity, to_hex
from flashctl.eth.receipts import Receipt
from flashctl.evm.state import Account

__all__ = ["Publisher", "flashblock_of"]


class Publisher:
    """Publishes flashblocks through a hub, each encoded once for all subscribers."""

    def __init__(self, hub: Hub, dialect: Dialect) -> None:
        self._hub = hub
        self._dialect = dialect
        self._previous: tuple[int, int] | None = None

    def message(self, made: BuiltFlashblock) -> Prepared:
        """The encoded message of a flashblock, provided it is the next to be published; from any thread.

        The payload jobs ensure that nothing is published between this and `publish`: a replaced job publishes
        nothing further.
        """
        data = encode(flashblock_of(made, self._previous, self._dialect), self._dialect)
        return self._hub.prepare(data, made.index)

    def publish(self, made: BuiltFlashblock) -> int:
        """Publish one flashblock to all subscribers; returns its size in bytes."""
        message = made.message if made.message is not None else self.message(made)
        number = made.sealed.header.number
        self._hub.publish(
            message.data,
            payload_id=to_hex(made.payload_id),
            index=made.index,
            block_number=number,
            prepared=message,
        )
        self._previous = (number, made.index)
        return len(message.data)


def flashblock_of(
    made: BuiltFlashblock, previous: tuple[int, int] | None = None, dialect: Dialect = OP_RBUILDER
) -> Flashblock:
    """The message of one flashblock.

    Args:
        previous: Block number and index of the message before it on this stream.
        dialect: Determines the metadata; receipts take two thirds of a message's time.
    """
    sealed = made.sealed
    header = sealed.header
    return Flashblock(
        payload_id=to_hex(made.payload_id),
        index=made.index,
        base=_base(header) if made.index == 0 else None,
        diff=_diff(header, tuple(envelope.raw for envelope in made.added)),
        metadata=Metadata(
            block_number=header.number,
            new_account_balances=_balances(made.changed) if dialect.carries("new_account_balances") else None,
            receipts=_receipts(made) if dialect.carries("receipts") else None,
            prev_flashblock_id=f"{previous[0]}-{previous[1]}" if previous is not None else "0-0",
        ),
    )


def _receipts(made: BuiltFlashblock) -> Mapping[str, Any]:
    """The receipts of the transactions added, by hash."""
    results = made.sealed.results
    added = results[len(results) - len(made.added) :]
    return {
        to_hex(envelope.hash): receipt_object(result.receipt)
        for envelope, result in zip(made.added, added, strict=True)
    }


def receipt_object(receipt: Receipt) -> Mapping[str, Any]:
    """A receipt as op-rbuilder writes it: the consensus fields, with the type inside."""
    written: dict[str, Any] = {
        "type": hex(receipt.tx_type),
        "status": "0x1" if receipt.succeeded else "0x0",
        "cumulativeGasUsed": hex(receipt.cumulative_gas_used),
        "logs": [
            {
                "address": "0x" + log.address.hex(),
                "topics": ["0x" + topic.hex() for topic in log.topics],
                "data": "0x" + log.data.hex(),
            }
            for log in receipt.logs
        ],
    }
    if receipt.deposit_nonce is not None:
        written["depositNonce"] = quantity(receipt.deposit_nonce)
    if receipt.deposit_receipt_version is not None:
        written["depositReceiptVersion"] = quantity(receipt.deposit_receipt_version)
    return written


def _balances(accounts: Mapping[int, Account | None]) -> Mapping[str, str]:
    """The balance of every account that the block has changed so far, as op-rbuilder sends them."""
    return {
        f"0x{address:040x}": hex(account.balance) if account is not None else "0x0"
        for address, account in accounts.items()
    }


def _base(header: Header) -> Base:
    return Base(
        parent_beacon_block_root=header.parent_beacon_block_root or bytes(32),
        parent_hash=header.parent_hash,
        fee_recipient=header.fee_recipient,
        prev_randao=header.prev_randao,
        block_number=header.number,
        gas_limit=header.gas_limit,
        timestamp=header.timestamp,
        extra_data=header.extra_data,
        base_fee_per_gas=header.base_fee_per_gas or 0,
    )


def _diff(header: Header, transactions: tuple[bytes, ...]) -> Diff:
    return Diff(
        transactions=transactions,
        gas_used=header.gas_used,
        receipts_root=header.receipts_root,
        logs_bloom=header.logs_bloom,
        state_root=header.state_root,
        block_hash=header.hash,
        withdrawals_root=header.withdrawals_root or bytes(32),
        blob_gas_used=header.blob_gas_used,
    )
