"""The three contracts over alt_bn128: addition, multiplication, pairing check (EIP-196, 197, 1108).

Two implementations of the same four functions: `bn254_mcl` where the C++ library mcl can be loaded,
`bn254_python` elsewhere. A block on OP Mainnet may hold 84 pairing checks; mcl needs 0.3 ms a pair, py_ecc
would need 310 ms.
"""

from __future__ import annotations

from functools import cache
from typing import Final

from flashctl.evm.precompiles.bn254_curve import (
    FIELD_MODULUS,
    G1,
    G2,
    GROUP_ORDER,
    InvalidPoint,
    PairingBackend,
)
from flashctl.evm.precompiles.contract import Check, Precompile, PrecompileError, unbounded

__all__ = ["BN254_ADD", "BN254_MUL", "BN254_PAIRING", "backend"]


@cache
def backend() -> PairingBackend:
    """The fastest implementation that this machine has."""
    from flashctl.evm.precompiles import bn254_mcl, bn254_python

    try:
        return bn254_mcl.Mcl()
    except (ImportError, OSError):
        return bn254_python.PurePython()


def _coordinate(data: bytes, start: int) -> int:
    value = int.from_bytes(data[start : start + 32], "big")
    if value >= FIELD_MODULUS:
        raise PrecompileError("coordinate exceeds field modulus")
    return value


def _point(data: bytes, start: int) -> G1:
    return _coordinate(data, start), _coordinate(data, start + 32)


def _encoded(point: G1) -> bytes:
    return point[0].to_bytes(32, "big") + point[1].to_bytes(32, "big")


def _add(data: bytes) -> bytes:
    data = data[:128].ljust(128, b"\0")
    try:
        return _encoded(backend().add(_point(data, 0), _point(data, 64)))
    except InvalidPoint:
        raise PrecompileError("malformed point") from None


def _multiply(data: bytes) -> bytes:
    data = data[:96].ljust(96, b"\0")
    scalar = int.from_bytes(data[64:96], "big") % GROUP_ORDER
    try:
        return _encoded(backend().multiply(_point(data, 0), scalar))
    except InvalidPoint:
        raise PrecompileError("malformed point") from None


_PAIR: Final = 192


def _pairing(data: bytes, check: Check = unbounded) -> bytes:
    if len(data) % _PAIR:
        raise PrecompileError("bad elliptic curve pairing size")
    pairs = []
    for start in range(0, len(data), _PAIR):
        x1, x0, y1, y0 = (_coordinate(data, start + offset) for offset in (64, 96, 128, 160))
        pairs.append((_point(data, start), G2(x0, x1, y0, y1)))
    try:
        return backend().pairing_is_one(pairs, check).to_bytes(32, "big")
    except InvalidPoint:
        raise PrecompileError("malformed point") from None


BN254_ADD: Final = Precompile(0x06, "bn254Add", lambda data: 150, _add)
BN254_MUL: Final = Precompile(0x07, "bn254ScalarMul", lambda data: 6_000, _multiply)
BN254_PAIRING: Final = Precompile(
    0x08, "bn254Pairing", lambda data: 45_000 + 34_000 * (len(data) // _PAIR), _pairing, _pairing
)
