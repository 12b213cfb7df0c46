"""Blocks for chain tests without an EVM: state changes are given, roots and hashes are real.

What a chain does with blocks (keep, index, reorganise, recover) does not depend on how they were executed;
tests of that make hundreds of blocks and should not pay for execution.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from flashctl.chain.chain import Chain
from flashctl.chain.devnet_accounts import DEVNET_ACCOUNTS
from flashctl.chain.genesis import build_genesis, devnet_genesis
from flashctl.eth.blocks import Block, Header
from flashctl.eth.ordered_trie import ordered_root
from flashctl.eth.receipts import Log, Receipt, encode_receipt, logs_bloom
from flashctl.eth.signatures import sign_transaction
from flashctl.eth.transactions import FeeMarketTx, encode_transaction
from flashctl.evm.state import EMPTY_ACCOUNT, StateDiff
from flashctl.evm.world import World
from flashctl.op.envelope import TxEnvelope, recover_all

GENESIS = build_genesis(devnet_genesis(timestamp=1_700_000_000))
COUNTER = 0xC0DE
"""An account whose balance counts blocks and whose slot 1 names the last one."""


@dataclass(frozen=True, slots=True)
class LabBlock:
    """A sealed block as execution would return it."""

    block: Block
    envelopes: tuple[TxEnvelope, ...]
    receipts: tuple[Receipt, ...]
    world: World
    new_codes: dict[bytes, bytes]

    @property
    def hash(self) -> bytes:
        return self.block.hash


def transfer(sender: int, nonce: int, to: bytes = b"\x99" * 20, value: int = 1) -> bytes:
    """A signed transfer of a devnet account, as raw bytes."""
    tx = FeeMarketTx(901, nonce, 0, 10**10, 21_000, to, value, b"", (), 0, 0, 0)
    return encode_transaction(sign_transaction(tx, DEVNET_ACCOUNTS[sender].secret))


def next_block(
    chain: Chain,
    parent: Header,
    raws: Sequence[bytes] = (),
    *,
    salt: int = 0,
    logs: Sequence[Sequence[Log]] | None = None,
    codes: dict[bytes, bytes] | None = None,
    changes: StateDiff | None = None,
) -> LabBlock:
    """A block upon `parent` that counts, and holds transactions whose effects are not executed.

    Args:
        salt: Makes siblings differ.
        logs: Of each transaction.
        changes: To make of the state instead of counting.
    """
    world = chain.world(parent.hash)
    before = world.account(COUNTER) or EMPTY_ACCOUNT
    diff = changes or StateDiff(
        accounts={COUNTER: before._replace(balance=before.balance + 1)},
        storage={COUNTER: {1: (parent.number + 1) * 1000 + salt + 1}},
        codes=codes or {},
    )
    after = world.apply(diff)
    receipts = tuple(
        Receipt(2, True, 21_000 * (index + 1), tuple(logs[index]) if logs else ())
        for index in range(len(raws))
    )
    header = replace(
        parent,
        parent_hash=parent.hash,
        number=parent.number + 1,
        timestamp=parent.timestamp + 2,
        state_root=after.root,
        transactions_root=ordered_root(raws),
        receipts_root=ordered_root([encode_receipt(receipt) for receipt in receipts]),
        logs_bloom=logs_bloom(log for receipt in receipts for log in receipt.logs),
        gas_used=21_000 * len(raws),
    )
    return LabBlock(Block(header, tuple(raws)), tuple(recover_all(raws)), receipts, after, codes or {})


def grow(chain: Chain, count: int, *, parent: Header | None = None, salt: int = 0) -> list[LabBlock]:
    """Insert `count` blocks, one upon another, without making them canonical."""
    blocks = []
    head = parent or chain.head
    for _ in range(count):
        block = next_block(chain, head, salt=salt)
        chain.insert(block)
        blocks.append(block)
        head = block.block.header
    return blocks
