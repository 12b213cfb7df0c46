"""A transaction of nearly a whole block's gas is mined beside many small ones, which go on being mined."""

from __future__ import annotations

import pytest
from support.chains import transfer
from support.devnet import devnet, rpc
from support.waiting import wait_until

from flashctl.eth.hexdata import to_hex

LOOP = b"\x5b\x5f\x56"
"""JUMPDEST PUSH0 JUMP."""

WITHIN_BLOCKS = 100
"""Five on a machine with a core to spare; a machine that has none may take its time."""


def next_block(url: str, last: int) -> int | None:
    """The number of the head, once it is after `last`."""
    number = int(rpc(url, "eth_blockNumber"), 16)
    return number if number > last else None


@pytest.mark.timeout(300)
def test_a_large_transaction_and_small_ones_both_get_in() -> None:
    with devnet("--tx-rate", "20") as running:
        url = running.url("builder")
        chain_id = running.ready["chain_id"]
        large = transfer(9, to=None, data=LOOP, gas_limit=58_000_000, tip=1, chain_id=chain_id)
        following = transfer(9, 1, chain_id=chain_id)
        sent_at = int(rpc(url, "eth_blockNumber"), 16)
        for envelope in (large, following):
            rpc(url, "eth_sendRawTransaction", to_hex(envelope.raw))
        receipt, number = None, sent_at
        while receipt is None or int(receipt["blockNumber"], 16) > number:
            number = wait_until(lambda last=number: next_block(url, last)) or 0
            assert number <= sent_at + WITHIN_BLOCKS
            receipt = rpc(url, "eth_getTransactionReceipt", to_hex(following.hash))
        mined = rpc(url, "eth_getTransactionReceipt", to_hex(large.hash))
        assert mined["gasUsed"] == hex(58_000_000) and mined["status"] == "0x0"
        last = int(receipt["blockNumber"], 16)
        sizes = [
            int(rpc(url, "eth_getBlockTransactionCountByNumber", hex(block)), 16)
            for block in range(sent_at + 1, last + 1)
        ]
        # The deposit and these two are not all.
        assert sum(sizes) > len(sizes) + 2
