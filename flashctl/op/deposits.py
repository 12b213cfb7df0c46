"""Source hashes of deposit transactions: what makes two otherwise equal deposits different transactions.

https://specs.optimism.io/protocol/deposits.html#source-hash-computation
"""

from __future__ import annotations

from typing import Final

from flashctl.eth.keccak import keccak256

__all__ = ["l1_attributes_source_hash", "upgrade_source_hash", "user_deposit_source_hash"]

_USER_DOMAIN: Final = bytes(32)
_L1_ATTRIBUTES_DOMAIN: Final = (1).to_bytes(32, "big")
_UPGRADE_DOMAIN: Final = (2).to_bytes(32, "big")


def user_deposit_source_hash(l1_block_hash: bytes, log_index: int) -> bytes:
    """Of a deposit made on L1: the L1 block and the index of its event in that block."""
    return keccak256(_USER_DOMAIN + keccak256(l1_block_hash + log_index.to_bytes(32, "big")))


def l1_attributes_source_hash(l1_block_hash: bytes, sequence_number: int) -> bytes:
    """Of the L1 attributes deposit: the L1 origin and the block's distance from that epoch's first."""
    return keccak256(_L1_ATTRIBUTES_DOMAIN + keccak256(l1_block_hash + sequence_number.to_bytes(32, "big")))


def upgrade_source_hash(intent: str) -> bytes:
    """Of a deposit that a fork's activation block brings, such as `Ecotone: L1 Block Proxy Update`."""
    return keccak256(_UPGRADE_DOMAIN + keccak256(intent.encode()))
