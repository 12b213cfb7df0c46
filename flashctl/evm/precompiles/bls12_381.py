"""The seven BLS12-381 contracts (EIP-2537).

A field element is 64 bytes of which the top 16 must be zero and the value below the modulus; a point is its
affine coordinates, all zero for infinity. Addition checks the curve equation, the others the subgroup too.
"""

from __future__ import annotations

from functools import cache
from types import ModuleType
from typing import Any, Final

from flashctl.evm.precompiles.contract import Precompile, PrecompileError, PrecompileUnavailable

__all__ = [
    "BLS12_G1ADD",
    "BLS12_G1MSM",
    "BLS12_G2ADD",
    "BLS12_G2MSM",
    "BLS12_MAP_FP2_TO_G2",
    "BLS12_MAP_FP_TO_G1",
    "BLS12_PAIRING",
    "arkworks",
]

_MODULUS: Final = (
    0x1A0111EA397FE69A4B1BA7B6434BACD764774B84F38512BF6730D2A0F6B0F6241EABFFFEB153FFFFB9FEFFFFFFFFAAAB
)
_FIELD: Final = 64
_G1: Final = 128
_G2: Final = 256
_SCALAR: Final = 32
_PADDING: Final = bytes(16)
_NO: Final = bytes(32)
_YES: Final = (1).to_bytes(32, "big")


def _thousandths(table: str) -> tuple[int, ...]:
    return tuple(map(int, table.split()))


_G1_MULTIPLICATION_GAS: Final = 12_000
_G2_MULTIPLICATION_GAS: Final = 22_500
_MSM_UNIT: Final = 1_000
_G1_DISCOUNTS: Final = _thousandths(
    "1000 949 848 797 764 750 738 728 719 712 705 698 692 687 682 677 673 669 665 661 658 654 651 648 "
    "645 642 640 637 635 632 630 627 625 623 621 619 617 615 613 611 609 608 606 604 603 601 599 598 "
    "596 595 593 592 591 589 588 586 585 584 582 581 580 579 577 576 575 574 573 572 570 569 568 567 "
    "566 565 564 563 562 561 560 559 558 557 556 555 554 553 552 551 550 549 548 547 547 546 545 544 "
    "543 542 541 540 540 539 538 537 536 536 535 534 533 532 532 531 530 529 528 528 527 526 525 525 "
    "524 523 522 522 521 520 520 519 "
)
"""Thousandths of the price of k separate multiplications, by k - 1; the last applies to more than 128."""
_G2_DISCOUNTS: Final = _thousandths(
    "1000 1000 923 884 855 832 812 796 782 770 759 749 740 732 724 717 711 704 699 693 688 683 679 674 "
    "670 666 663 659 655 652 649 646 643 640 637 634 632 629 627 624 622 620 618 615 613 611 609 607 "
    "606 604 602 600 598 597 595 593 592 590 589 587 586 584 583 582 580 579 578 576 575 574 573 571 "
    "570 569 568 567 566 565 563 562 561 560 559 558 557 556 555 554 553 552 552 551 550 549 548 547 "
    "546 545 545 544 543 542 541 541 540 539 538 537 537 536 535 535 534 533 532 532 531 530 530 529 "
    "528 528 527 526 526 525 524 524 "
)


@cache
def arkworks(contract: str) -> ModuleType:
    """The library behind these contracts.

    Raises:
        PrecompileUnavailable: If it is not installed, naming the contract that needs it.
    """
    try:
        import py_arkworks_bls12381
    except ImportError:
        raise PrecompileUnavailable(contract, "py-arkworks-bls12381") from None
    return py_arkworks_bls12381


def _field(data: bytes, start: int) -> bytes:
    """The 48 significant bytes of a field element."""
    if data[start : start + 16] != _PADDING:
        raise PrecompileError("invalid field element top bytes")
    element = data[start + 16 : start + _FIELD]
    if int.from_bytes(element, "big") >= _MODULUS:
        raise PrecompileError("invalid field element encoding")
    return element


def _g1(data: bytes, start: int, *, subgroup: bool) -> Any:
    """The G1 point at an offset, checked."""
    coordinates = _field(data, start) + _field(data, start + _FIELD)
    kind = arkworks("bls12-381").G1Point
    return _checked(kind, coordinates, subgroup)


def _g2(data: bytes, start: int, *, subgroup: bool) -> Any:
    """The G2 point at an offset, checked. Coordinates are c0, c1 in both encodings."""
    coordinates = b"".join(_field(data, start + _FIELD * index) for index in range(4))
    kind = arkworks("bls12-381").G2Point
    return _checked(kind, coordinates, subgroup)


def _checked(kind: Any, coordinates: bytes, subgroup: bool) -> Any:
    try:
        point = kind.from_xy_bytes_unchecked_be(coordinates)
    except ValueError:
        raise PrecompileError("invalid point: not on curve") from None
    if subgroup and not point.is_in_subgroup():
        raise PrecompileError("point is not on correct subgroup")
    return point


def _encoded(point: Any) -> bytes:
    coordinates = bytes(point.to_xy_bytes_be())
    return b"".join(_PADDING + coordinates[start : start + 48] for start in range(0, len(coordinates), 48))


def _expect(data: bytes, size: int) -> None:
    if len(data) != size:
        raise PrecompileError("invalid input length")


def _items(data: bytes, size: int) -> range:
    """Offsets of the items of a list that must not be empty."""
    if not data or len(data) % size:
        raise PrecompileError("invalid input length")
    return range(0, len(data), size)


def _g1_add(data: bytes) -> bytes:
    _expect(data, 2 * _G1)
    return _encoded(_g1(data, 0, subgroup=False) + _g1(data, _G1, subgroup=False))


def _g2_add(data: bytes) -> bytes:
    _expect(data, 2 * _G2)
    return _encoded(_g2(data, 0, subgroup=False) + _g2(data, _G2, subgroup=False))


def _scalar(data: bytes, start: int) -> Any:
    return arkworks("bls12-381").Scalar.from_be_bytes_mod_order(data[start : start + _SCALAR])


def _g1_msm(data: bytes) -> bytes:
    offsets = _items(data, _G1 + _SCALAR)
    points = [_g1(data, start, subgroup=True) for start in offsets]
    scalars = [_scalar(data, start + _G1) for start in offsets]
    return _encoded(_combination(arkworks("blsG1MultiExp").G1Point, points, scalars))


def _g2_msm(data: bytes) -> bytes:
    offsets = _items(data, _G2 + _SCALAR)
    points = [_g2(data, start, subgroup=True) for start in offsets]
    scalars = [_scalar(data, start + _G2) for start in offsets]
    return _encoded(_combination(arkworks("blsG2MultiExp").G2Point, points, scalars))


def _combination(kind: Any, points: list[Any], scalars: list[Any]) -> Any:
    if len(points) == 1:
        return points[0] * scalars[0]
    return kind.multiexp_unchecked(points, scalars)


def _pairing(data: bytes) -> bytes:
    offsets = _items(data, _G1 + _G2)
    g1s, g2s = [], []
    for start in offsets:
        g1s.append(_g1(data, start, subgroup=True))
        g2s.append(_g2(data, start + _G1, subgroup=True))
    return _YES if arkworks("blsPairing").GT.pairing_check(g1s, g2s) else _NO


def _map_to_g1(data: bytes) -> bytes:
    _expect(data, _FIELD)
    return _encoded(arkworks("blsMapG1").G1Point.map_from_fp_be(_field(data, 0)))


def _map_to_g2(data: bytes) -> bytes:
    _expect(data, 2 * _FIELD)
    element = _field(data, 0) + _field(data, _FIELD)
    return _encoded(arkworks("blsMapG2").G2Point.map_from_fp2_be(element))


def _msm_gas(count: int, multiplication: int, discounts: tuple[int, ...]) -> int:
    if count == 0:
        return 0
    return count * multiplication * discounts[min(count, len(discounts)) - 1] // _MSM_UNIT


BLS12_G1ADD: Final = Precompile(0x0B, "blsG1Add", lambda data: 375, _g1_add)
BLS12_G1MSM: Final = Precompile(
    0x0C,
    "blsG1MultiExp",
    lambda data: _msm_gas(len(data) // (_G1 + _SCALAR), _G1_MULTIPLICATION_GAS, _G1_DISCOUNTS),
    _g1_msm,
    holds_interpreter=True,
)
BLS12_G2ADD: Final = Precompile(0x0D, "blsG2Add", lambda data: 600, _g2_add)
BLS12_G2MSM: Final = Precompile(
    0x0E,
    "blsG2MultiExp",
    lambda data: _msm_gas(len(data) // (_G2 + _SCALAR), _G2_MULTIPLICATION_GAS, _G2_DISCOUNTS),
    _g2_msm,
    holds_interpreter=True,
)
BLS12_PAIRING: Final = Precompile(
    0x0F,
    "blsPairing",
    lambda data: 37_700 + 32_600 * (len(data) // (_G1 + _G2)),
    _pairing,
    holds_interpreter=True,
)
BLS12_MAP_FP_TO_G1: Final = Precompile(0x10, "blsMapG1", lambda data: 5_500, _map_to_g1)
BLS12_MAP_FP2_TO_G2: Final = Precompile(0x11, "blsMapG2", lambda data: 23_800, _map_to_g2)
