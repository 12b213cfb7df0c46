"""MODEXP: base ** exponent % modulus over numbers of any length (EIP-198).

Three lengths of 32 bytes, then the three numbers; what the input lacks reads as zero. Prices: EIP-2565 from
Berlin, EIP-7883 from Osaka, which also bounds every length to 1,024 bytes (EIP-7823).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final, NamedTuple

from flashctl.evm.precompiles.contract import Precompile, PrecompileError

__all__ = ["MODEXP", "MODEXP_OSAKA"]

_HEADER: Final = 96
_MIN_GAS: Final = 200
_MIN_GAS_OSAKA: Final = 500
_MAX_LENGTH_OSAKA: Final = 1024
_EXPONENT_HEAD: Final = 32
"""Only the exponent's first word is looked at for the price; the rest counts by its length."""


class _Lengths(NamedTuple):
    base: int
    exponent: int
    modulus: int


def _lengths(data: bytes) -> _Lengths:
    header = data[:_HEADER].ljust(_HEADER, b"\0")
    return _Lengths(*(int.from_bytes(header[start : start + 32], "big") for start in (0, 32, 64)))


def _number(data: bytes, start: int, length: int) -> int:
    """The number at an offset; bytes past the end of the input are zero."""
    present = data[start : start + length]
    return int.from_bytes(present, "big") << 8 * (length - len(present))


def _exponent_iterations(data: bytes, lengths: _Lengths, per_byte: int) -> int:
    """Squarings that the exponent may need, at least one.

    `per_byte` prices each byte past the first 32.
    """
    head = _number(data, _HEADER + lengths.base, min(lengths.exponent, _EXPONENT_HEAD))
    iterations = per_byte * max(lengths.exponent - _EXPONENT_HEAD, 0) + max(head.bit_length() - 1, 0)
    return max(iterations, 1)


def _gas_berlin(data: bytes) -> int:
    lengths = _lengths(data)
    words = (max(lengths.base, lengths.modulus) + 7) // 8
    if words == 0:
        return _MIN_GAS
    return max(_MIN_GAS, words * words * _exponent_iterations(data, lengths, 8) // 3)


def _gas_osaka(data: bytes) -> int:
    lengths = _lengths(data)
    longest = max(lengths.base, lengths.modulus)
    words = (longest + 7) // 8
    complexity = 2 * words * words if longest > 32 else 16
    return max(_MIN_GAS_OSAKA, complexity * _exponent_iterations(data, lengths, 16))


def _run(data: bytes) -> bytes:
    lengths = _lengths(data)
    if lengths.modulus == 0:
        return b""
    modulus_start = _HEADER + lengths.base + lengths.exponent
    modulus = _number(data, modulus_start, lengths.modulus)
    if modulus <= 1:
        return bytes(lengths.modulus)
    base = _number(data, _HEADER, lengths.base)
    exponent = _number(data, _HEADER + lengths.base, lengths.exponent)
    return pow(base, exponent, modulus).to_bytes(lengths.modulus, "big")


def _run_osaka(data: bytes) -> bytes:
    if max(_lengths(data)) > _MAX_LENGTH_OSAKA:
        raise PrecompileError(f"modexp operand longer than {_MAX_LENGTH_OSAKA} bytes")
    return _run(data)


MODEXP: Final = Precompile(0x05, "modexp", _gas_berlin, _run, holds_interpreter=True)
MODEXP_OSAKA: Final = replace(MODEXP, gas=_gas_osaka, compute=_run_osaka)
