"""The 2048-bit filter of a receipt's or a block's logs.

Each address and topic sets three bits, chosen by its hash (Yellow Paper, section 4.3.1). A filter is
handled as one big integer while it grows: an OR is then one operation, and 256 bytes are made once.
"""

from __future__ import annotations

from collections.abc import Iterable

from flashctl.eth.keccak import keccak256

__all__ = ["BLOOM_SIZE", "EMPTY_BLOOM", "bloom_bits", "bloom_contains", "merge"]

BLOOM_SIZE = 256
"""Bytes of a filter."""

EMPTY_BLOOM = bytes(BLOOM_SIZE)


def bloom_bits(entry: bytes) -> int:
    """The three bits of one address or topic, as a mask."""
    chosen = int.from_bytes(keccak256(entry)[:6], "big")
    return 1 << (chosen >> 32 & 2047) | 1 << (chosen >> 16 & 2047) | 1 << (chosen & 2047)


def merge(blooms: Iterable[bytes]) -> bytes:
    """The filter that holds everything that any of `blooms` holds."""
    bits = 0
    for bloom in blooms:
        bits |= int.from_bytes(bloom, "big")
    return bits.to_bytes(BLOOM_SIZE, "big")


def bloom_contains(bloom: bytes, entry: bytes) -> bool:
    """Whether an address or topic may be in a filter; False is certain."""
    mask = bloom_bits(entry)
    return int.from_bytes(bloom, "big") & mask == mask
