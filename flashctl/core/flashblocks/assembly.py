"""The block that a payload amounts to: base, all transactions in order, and the totals of the last diff.

A flashblock does not state the fork it was built under. Of the header's fields only requests_hash (Isthmus,
EIP-7685) depends on it without showing in the message, so both forms are tried against the block hash that
the builder announced, and the newer one is assumed when it announced none (Base and subblocks leave it out).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from flashctl.core.flashblocks.sequence import Payload
from flashctl.core.flashblocks.wire import ZERO_HASH, Base
from flashctl.errors import DataError
from flashctl.eth.blocks import EMPTY_OMMERS_HASH, EMPTY_REQUESTS_HASH, EMPTY_TRIE_ROOT, Block, Header
from flashctl.eth.ordered_trie import ordered_root
from flashctl.op.context import BlockContext

__all__ = ["MAX_GAS_LIMIT", "block_context", "full_block"]

MAX_GAS_LIMIT: Final = 2**33
"""Of a streamed block that is executed: gas is all that bounds the memory of a transaction, some 2 GB with
this much. Blocks of OP Stack chains have a twentieth of it at most."""


def block_context(base: Base) -> BlockContext:
    """The context that index 0 announces, for executing what follows.

    Raises:
        DataError: If the block has more than MAX_GAS_LIMIT.
    """
    if base.gas_limit > MAX_GAS_LIMIT:
        raise DataError(
            f"gas limit {base.gas_limit}, and blocks of more than {MAX_GAS_LIMIT} are not executed"
        )
    return BlockContext(
        number=base.block_number,
        timestamp=base.timestamp,
        parent_hash=base.parent_hash,
        gas_limit=base.gas_limit,
        base_fee=base.base_fee_per_gas,
        fee_recipient=base.fee_recipient,
        prev_randao=base.prev_randao,
        parent_beacon_block_root=base.parent_beacon_block_root,
        extra_data=base.extra_data,
    )


def full_block(payload: Payload) -> Block:
    """The block after the newest flashblock of `payload`.

    Its hash equals `payload.diff.block_hash` when the builder computes state roots; otherwise state and
    withdrawals root are the zeros of the wire and the hash means nothing.
    """
    base, diff = payload.base, payload.diff
    transactions = payload.transactions
    header = Header(
        parent_hash=base.parent_hash,
        ommers_hash=EMPTY_OMMERS_HASH,
        fee_recipient=base.fee_recipient,
        state_root=diff.state_root,
        transactions_root=ordered_root(transactions),
        receipts_root=diff.receipts_root,
        logs_bloom=diff.logs_bloom,
        difficulty=0,
        number=base.block_number,
        gas_limit=base.gas_limit,
        gas_used=diff.gas_used,
        timestamp=base.timestamp,
        extra_data=base.extra_data,
        prev_randao=base.prev_randao,
        nonce=bytes(8),
        base_fee_per_gas=base.base_fee_per_gas,
        withdrawals_root=diff.withdrawals_root,
        blob_gas_used=diff.blob_gas_used or 0,
        excess_blob_gas=0,
        parent_beacon_block_root=base.parent_beacon_block_root,
        requests_hash=EMPTY_REQUESTS_HASH,
    )
    if diff.block_hash not in (ZERO_HASH, header.hash):
        earlier = replace(
            header,
            requests_hash=None,
            withdrawals_root=EMPTY_TRIE_ROOT if diff.withdrawals_root == ZERO_HASH else diff.withdrawals_root,
        )
        if earlier.hash == diff.block_hash:
            header = earlier
    return Block(header, transactions)
