"""The length of data under FastLZ level 1: the size estimate that L1 fees are based on since Fjord.

Only the length counts, so nothing is written: a literal run of r bytes costs r + ceil(r / 32), a match of up
to 264 bytes two or three. The matcher must be reproduced to the letter, table collisions included, because
every node's fee depends on it: an 8,192-entry hash table of three-byte windows that starts out pointing at
position 0, a search window of 8,191 bytes, no search in the last 13 bytes.
https://specs.optimism.io/protocol/fjord/exec-engine.html#fjord-l1-cost-fee-changes-fastlz-estimator

A 181-byte token transfer takes 30-60 us; callers keep the result with the transaction
(`envelope.TxEnvelope`).
"""

from __future__ import annotations

from array import array
from typing import Final

__all__ = ["compressed_length"]

_HASH_MULTIPLIER: Final = 2654435769
_WINDOW: Final = 0x1FFF
_TAIL: Final = 13
"""Bytes at the end in which no match may start."""

_MATCH_TAIL: Final = 4
"""Bytes at the end that no match may cover."""

_EMPTY_TABLE: Final = bytes(4 * (_WINDOW + 1))
_MAX_LITERALS: Final = 32
_MAX_MATCH: Final = 262
_STRIDE: Final = 32
"""Bytes compared at a time while a match goes on; long runs of zeros are common in ABI-encoded calls."""


def compressed_length(data: bytes) -> int:
    """Bytes that FastLZ level 1 would write for `data`."""
    size = len(data)
    limit = size - _TAIL
    if limit <= 2:
        return _literals(size)
    windows = [
        low | middle << 8 | high << 16 for low, middle, high in zip(data, data[1:], data[2:], strict=False)
    ]
    # Slots are computed as they are visited: what a match covers, often half of a call, is never hashed. An
    # array, because a list of 8,192 zeros costs 16 us where this costs one.
    table = array("I", _EMPTY_TABLE)
    position, anchor, total = 2, 0, 0
    # The reference looks one byte ahead before it accepts a match, so the last searchable position never
    # starts one.
    last = limit - 1
    while position < last:
        for here in range(position, last):
            window = windows[here]
            slot = window * _HASH_MULTIPLIER >> 19 & _WINDOW
            candidate = table[slot]
            table[slot] = here
            if windows[candidate] == window and here - candidate <= _WINDOW:
                break
        else:
            break
        if here > anchor:
            total += _literals(here - anchor)
        length = _match_length(data, candidate + 3, here + 3, size - _MATCH_TAIL)
        full, rest = divmod(length - 1, _MAX_MATCH)
        total += 3 * full + (3 if rest >= 6 else 2)
        position = here + length
        for _ in range(2):
            table[windows[position] * _HASH_MULTIPLIER >> 19 & _WINDOW] = position
            position += 1
        anchor = position
    return total + _literals(size - anchor)


def _literals(count: int) -> int:
    full, rest = divmod(count, _MAX_LITERALS)
    return (_MAX_LITERALS + 1) * full + (rest + 1 if rest else 0)


def _match_length(data: bytes, earlier: int, later: int, end: int) -> int:
    """How far two positions agree, the first differing byte included, as the reference counts it."""
    start, stop = later, end - _STRIDE
    while later < stop and data[earlier : earlier + _STRIDE] == data[later : later + _STRIDE]:
        earlier += _STRIDE
        later += _STRIDE
    while later < end:
        later += 1
        if data[earlier] != data[later - 1]:
            break
        earlier += 1
    return later - start
