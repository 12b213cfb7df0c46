"""BLAKE2F: the compression function of BLAKE2b with a free number of rounds (EIP-152).

One gas buys one round. blake2b-py runs 30 rounds in a microsecond, the Python below one in about eight, so
without the package a call is bounded by the transaction's wall budget and not by its gas.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import cache
from typing import Final

from flashctl.evm.precompiles.contract import Check, Precompile, PrecompileError, unbounded

__all__ = ["BLAKE2F", "compress"]

_INPUT_SIZE: Final = 213
_MASK: Final = 2**64 - 1
_IV: Final = (
    0x6A09E667F3BCC908,
    0xBB67AE8584CAA73B,
    0x3C6EF372FE94F82B,
    0xA54FF53A5F1D36F1,
    0x510E527FADE682D1,
    0x9B05688C2B3E6C1F,
    0x1F83D9ABFB41BD6B,
    0x5BE0CD19137E2179,
)
"""Fractional parts of the square roots of the first eight primes (RFC 7693, 2.6)."""

_SIGMA: Final = tuple(
    tuple(int(digit, 16) for digit in row)
    for row in (
        "0123456789abcdef",
        "ea489fd61c02b753",
        "b8c052fdae367194",
        "7931dcbe265a40f8",
        "905724afe1bc683d",
        "2c6a0b834d75fe19",
        "c51fed4a0763928b",
        "db7ec13950f4862a",
        "6fe9b308c2d714a5",
        "a2847615fb9e3cd0",
    )
)
"""Message word schedule, repeated every ten rounds (RFC 7693, 2.7)."""

_MIXES: Final = (
    (0, 4, 8, 12),
    (1, 5, 9, 13),
    (2, 6, 10, 14),
    (3, 7, 11, 15),
    (0, 5, 10, 15),
    (1, 6, 11, 12),
    (2, 7, 8, 13),
    (3, 4, 9, 14),
)
"""Columns, then diagonals."""

_ROUNDS_BETWEEN_CHECKS: Final = 256
"""Some 3 ms."""

_NATIVE_ROUNDS_PER_S: Final = 30e6

_State = tuple[int, ...]
_Compress = Callable[[int, _State, _State, tuple[int, int], bool, Check], bytes]


def compress(
    rounds: int, h: _State, m: _State, t: tuple[int, int], final: bool, check: Check = unbounded
) -> bytes:
    """One compression in Python: the 64 bytes of the new state.

    Args:
        rounds: 12 in BLAKE2b itself.
        h: State, 8 words.
        m: Message block, 16 words.
        t: Bytes hashed so far, low and high word.
        final: Whether this is the last block.
        check: Called every few hundred rounds.
    """
    v = [*h, *_IV]
    v[12] ^= t[0]
    v[13] ^= t[1]
    if final:
        v[14] ^= _MASK
    for number in range(rounds):
        if number % _ROUNDS_BETWEEN_CHECKS == 0:
            check()
        schedule = _SIGMA[number % 10]
        for index, (a, b, c, d) in enumerate(_MIXES):
            va = v[a] + v[b] + m[schedule[2 * index]] & _MASK
            vd = v[d] ^ va
            vd = (vd >> 32 | vd << 32) & _MASK
            vc = v[c] + vd & _MASK
            vb = v[b] ^ vc
            vb = (vb >> 24 | vb << 40) & _MASK
            va = va + vb + m[schedule[2 * index + 1]] & _MASK
            vd ^= va
            vd = (vd >> 16 | vd << 48) & _MASK
            vc = vc + vd & _MASK
            vb ^= vc
            v[a], v[b], v[c], v[d] = va, (vb >> 63 | vb << 1) & _MASK, vc, vd
    return struct.pack("<8Q", *(old ^ v[index] ^ v[index + 8] for index, old in enumerate(h)))


@cache
def _compression() -> _Compress:
    try:
        from blake2b import compress as native
    except ImportError:
        return compress

    def run(rounds: int, h: _State, m: _State, t: tuple[int, int], final: bool, check: Check) -> bytes:
        # It cannot be interrupted, so what would end too late is not begun.
        check(rounds / _NATIVE_ROUNDS_PER_S)
        return bytes(native(rounds, h, m, t, final))

    return run


def _run(data: bytes, check: Check = unbounded) -> bytes:
    if len(data) != _INPUT_SIZE:
        raise PrecompileError("invalid input length")
    if data[212] > 1:
        raise PrecompileError("invalid final flag")
    words = struct.unpack("<26Q", data[4:212])
    rounds = int.from_bytes(data[:4], "big")
    return _compression()(rounds, words[:8], words[8:24], (words[24], words[25]), data[212] == 1, check)


BLAKE2F: Final = Precompile(
    0x09, "blake2F", lambda data: int.from_bytes(data[:4], "big"), _run, _run, holds_interpreter=True
)
