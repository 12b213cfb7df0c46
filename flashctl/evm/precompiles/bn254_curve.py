"""alt_bn128 (EIP-196, EIP-197): its field, its points, and the interface of an implementation."""

from __future__ import annotations

from typing import Final, NamedTuple, Protocol

from flashctl.evm.precompiles.contract import Check, unbounded

__all__ = ["FIELD_MODULUS", "G1", "G2", "GROUP_ORDER", "InvalidPoint", "PairingBackend", "on_curve"]

FIELD_MODULUS: Final = 21888242871839275222246405745257275088696311157297823662689037894645226208583
GROUP_ORDER: Final = 21888242871839275222246405745257275088548364400416034343698204186575808495617

G1 = tuple[int, int]
"""Affine coordinates; (0, 0) is the point at infinity."""


class G2(NamedTuple):
    """Affine coordinates over the quadratic extension, x = x0 + x1 i; all zero is the point at infinity."""

    x0: int
    x1: int
    y0: int
    y1: int


class InvalidPoint(ValueError):
    """Coordinates that are not on the curve, or not in the subgroup."""


class PairingBackend(Protocol):
    """What an implementation offers. Coordinates are already below the field's modulus."""

    def add(self, left: G1, right: G1) -> G1:
        """The sum of two points; raises InvalidPoint."""
        ...

    def multiply(self, point: G1, scalar: int) -> G1:
        """A multiple of a point, the scalar below the group order; raises InvalidPoint."""
        ...

    def pairing_is_one(self, pairs: list[tuple[G1, G2]], check: Check = unbounded) -> bool:
        """Whether the product of the pairings is one; raises InvalidPoint, and what `check` raises."""
        ...


def on_curve(point: G1) -> bool:
    """Whether finite coordinates satisfy y^2 = x^3 + 3; every point that does is in the group."""
    x, y = point
    return (y * y - x * x * x - 3) % FIELD_MODULUS == 0
