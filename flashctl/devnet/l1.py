"""The simulated L1 of a devnet.

An OP Stack block starts with a deposit that carries the attributes of an L1 block. The devnet has no L1, so
it derives one from the clock: a block every 12 s, its hash a hash of its number, its fees constant. Two runs
    at the
same second have the same L1, and after a restart with the same datadir it never goes back.
"""

from __future__ import annotations

from dataclasses import dataclass

from flashctl.eth.keccak import keccak256

__all__ = ["L1_BLOCK_TIME", "L1Fees", "L1Origin", "l1_origin_at"]

L1_BLOCK_TIME = 12
"""Seconds between the blocks of Ethereum's beacon chain."""

_GENESIS = 1_600_000_000
"""Genesis time of the simulated L1 (Unix seconds): early enough that every origin has a positive number."""


@dataclass(frozen=True, slots=True)
class L1Fees:
    """L1 gas prices, the input of the L1 data fee."""

    base_fee: int = 1_000_000_000
    """Wei per gas."""

    blob_base_fee: int = 1
    """Wei per blob gas."""


@dataclass(frozen=True, slots=True)
class L1Origin:
    """The L1 block that an L2 block names as its origin."""

    number: int
    timestamp: int
    hash: bytes
    prev_randao: bytes
    parent_beacon_block_root: bytes


def l1_origin_at(timestamp: int) -> L1Origin:
    """The newest L1 block that an L2 block of `timestamp` (Unix seconds) may name."""
    number = max(1, (timestamp - _GENESIS) // L1_BLOCK_TIME)
    tag = number.to_bytes(8, "big")
    return L1Origin(
        number=number,
        timestamp=_GENESIS + number * L1_BLOCK_TIME,
        hash=keccak256(b"flashctl devnet l1 block" + tag),
        prev_randao=keccak256(b"flashctl devnet randao" + tag),
        parent_beacon_block_root=keccak256(b"flashctl devnet beacon root" + tag),
    )
