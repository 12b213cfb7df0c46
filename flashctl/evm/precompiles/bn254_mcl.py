"""alt_bn128 by mcl, the C++ library that the wheel `mclbn256` carries for Linux and macOS on x86-64.

The wheel's own interface is fixed to another curve (its "BN254" is not Ethereum's), so only its shared
library is used: initialised for SNARK1, which is mcl's name for alt_bn128, through ctypes. ctypes frees the
GIL during the calls.
"""

from __future__ import annotations

from ctypes import Array, byref, c_char, create_string_buffer
from typing import Any, Final

from flashctl.evm.precompiles.bn254_curve import FIELD_MODULUS, G1, G2, InvalidPoint, on_curve
from flashctl.evm.precompiles.contract import Check, unbounded

__all__ = ["Mcl"]

_CURVE_SNARK1: Final = 4
_COMPILED_SIZES: Final = 44
"""Four words for the base field, four for the scalar field (times ten): mcl's check against a wrong header.
"""

_FP: Final = 32
_G1_SIZE: Final = 3 * _FP
_G2_SIZE: Final = 6 * _FP
_GT_SIZE: Final = 12 * _FP
_ORIGIN: Final = (0, 0)

_Buffer = Array[c_char]


class Mcl:
    """The contracts' arithmetic in mcl. Points are buffers in mcl's own layout: x, y, z."""

    def __init__(self) -> None:
        """Load and initialise the library.

        Raises:
            ImportError: If the wheel is absent, or its library has another field than alt_bn128's.
            OSError: If the library cannot be loaded on this machine.
        """
        from mclbn256 import mclbn256

        self._lib: Final[Any] = mclbn256.lib
        if self._lib.mclBn_init(_CURVE_SNARK1, _COMPILED_SIZES) != 0:
            raise ImportError("mcl lacks the curve alt_bn128")
        order = create_string_buffer(128)
        size = self._lib.mclBn_getFieldOrder(order, len(order))
        if order.raw[:size] != str(FIELD_MODULUS).encode():
            raise ImportError("mcl was initialised for another curve than alt_bn128")

    def add(self, left: G1, right: G1) -> G1:
        result = create_string_buffer(_G1_SIZE)
        self._lib.mclBnG1_add(result, self._g1(left), self._g1(right))
        return self._coordinates(result)

    def multiply(self, point: G1, scalar: int) -> G1:
        factor = create_string_buffer(_FP)
        self._lib.mclBnFr_setLittleEndianMod(factor, scalar.to_bytes(32, "little"), 32)
        result = create_string_buffer(_G1_SIZE)
        self._lib.mclBnG1_mul(result, self._g1(point), factor)
        return self._coordinates(result)

    def pairing_is_one(self, pairs: list[tuple[G1, G2]], check: Check = unbounded) -> bool:
        g1s, g2s = bytearray(), bytearray()
        count = 0
        for point, twisted in pairs:
            check()
            left, right = self._g1(point), self._g2(twisted)
            # Infinity pairs to one with everything, but its partner must still be valid.
            if point != _ORIGIN and any(twisted):
                g1s += left.raw
                g2s += right.raw
                count += 1
        if count == 0:
            return True
        result = create_string_buffer(_GT_SIZE)
        self._lib.mclBn_millerLoopVec(result, bytes(g1s), bytes(g2s), count)
        self._lib.mclBn_finalExp(result, result)
        return bool(self._lib.mclBnGT_isOne(result))

    def _set(self, buffer: _Buffer, index: int, value: int) -> None:
        self._lib.mclBnFp_setLittleEndianMod(byref(buffer, index * _FP), value.to_bytes(32, "little"), 32)

    def _g1(self, point: G1) -> _Buffer:
        buffer = create_string_buffer(_G1_SIZE)
        if point != _ORIGIN:
            # mcl's own check also multiplies by the group order (60 us), which a curve of prime order
            # does not need.
            if not on_curve(point):
                raise InvalidPoint
            for index, value in enumerate((*point, 1)):
                self._set(buffer, index, value)
        return buffer

    def _g2(self, point: G2) -> _Buffer:
        buffer = create_string_buffer(_G2_SIZE)
        if any(point):
            for index, value in enumerate((*point, 1)):
                self._set(buffer, index, value)
            if not (self._lib.mclBnG2_isValid(buffer) and self._lib.mclBnG2_isValidOrder(buffer)):
                raise InvalidPoint
        return buffer

    def _coordinates(self, point: _Buffer) -> G1:
        if self._lib.mclBnG1_isZero(point):
            return _ORIGIN
        self._lib.mclBnG1_normalize(point, point)
        return self._get(point, 0), self._get(point, 1)

    def _get(self, buffer: _Buffer, index: int) -> int:
        output = create_string_buffer(_FP)
        size = self._lib.mclBnFp_getLittleEndian(output, _FP, byref(buffer, index * _FP))
        return int.from_bytes(output.raw[:size], "little")
