"""The 2048-bit filter of a receipt's or a block's logs.

Each address and topic sets three bits, chosen by its hash (Yellow Paper, section 4.3.1). A filter is
handled as one big integer while it grows: an OR is then one operation, and 256 bytes are made once.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING

from flashctl.eth.keccak import keccak256

if TYPE_CHECKING:
    from flashctl.eth.receipts import Log

__all__ = ["BLOOM_SIZE", "EMPTY_BLOOM", "bloom_bits", "bloom_contains", "logs_bloom", "merge"]

BLOOM_SIZE = 256
"""Bytes of a filter."""

EMPTY_BLOOM = bytes(BLOOM_SIZE)


@lru_cache(maxsize=16_384)
def bloom_bits(entry: bytes) -> int:
    """The three bits of one address or topic, as a mask.

    Cached: a block of token transfers repeats the token's address and the event's topic in every log.
    """
    digest = keccak256(entry)
    first = int.from_bytes(digest[0:2], "big") & 2047
    second = int.from_bytes(digest[2:4], "big") & 2047
    third = int.from_bytes(digest[4:6], "big") & 2047
    return (1 << first) | (1 << second) | (1 << third)


def logs_bloom(logs: Iterable[Log]) -> bytes:
    """The filter of some logs, 256 bytes."""
    bits = 0
    for log in logs:
        bits |= bloom_bits(log.address)
        for topic in log.topics:
            bits |= bloom_bits(topic)
    return bits.to_bytes(BLOOM_SIZE, "big") if bits else EMPTY_BLOOM


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
