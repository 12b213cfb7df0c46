"""State tests of the precompiled contracts: what each takes, and what each refuses.

A contract hands its calldata to the precompile, and logs whether that succeeded and what came back; what the
call cost is in the transaction's gas.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from hashlib import sha256

from vectors.curve_points import BLS12_381, BN254, P256_ORDER, Curve, p256_signature, twist_point
from vectors.state_worlds import CONTRACT, Json, Named, address, call, cancun, case, prague

from flashctl.eth.signatures import address_of_secret, sign_transaction
from flashctl.eth.transactions import LegacyTx, signing_hash

__all__ = ["precompiles"]

SEED = 381
PASS_ON = (
    "CALLDATASIZE PUSH0 PUSH0 CALLDATACOPY PUSH0 PUSH0 CALLDATASIZE PUSH0 PUSH0 PUSH2 {} GAS CALL "
    "RETURNDATASIZE PUSH0 PUSH0 RETURNDATACOPY RETURNDATASIZE PUSH0 LOG1"
)
Input = tuple[str, bytes]


def word(value: int, size: int = 32) -> bytes:
    return value.to_bytes(size, "big")


def hashes() -> Iterator[Input]:
    for size in (0, 1, 31, 32, 33, 55, 56, 64, 119, 128, 1000):
        yield f"{size} bytes", bytes(place % 251 for place in range(size))


def recoveries() -> Iterator[Input]:
    secret = word(0xC0FFEE)
    tx = sign_transaction(LegacyTx(0, 1, 21_000, bytes(20), 0, b"", 0, 0, 0), secret)
    digest, r, s = signing_hash(tx), tx.r, tx.s
    order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
    assert address_of_secret(secret)
    for name, v, left, right in (
        ("valid", tx.v, r, s), ("other parity", 55 - tx.v, r, s), ("high s", 55 - tx.v, r, order - s),
        ("v 26", 26, r, s), ("v 29", 29, r, s), ("v with high bits", 2**255 + 27, r, s), ("r zero", 27, 0, s),
        ("s zero", 27, r, 0), ("r too large", 27, order, s), ("s too large", 27, r, order), ("no point", 27, 5, 6),
        ("r all ones", 27, 2**256 - 1, s),
    ):  # fmt: skip
        yield name, digest + word(v) + word(left) + word(right)
    whole = digest + word(tx.v) + word(r) + word(s)
    yield "cut off", whole[:100]
    yield "with more behind", whole + b"\x01" * 7
    yield "nothing", b""


def powers() -> Iterator[Input]:
    rng = random.Random(SEED)

    def asked(base: bytes, exponent: bytes, modulus: bytes) -> bytes:
        sizes = b"".join(word(len(part)) for part in (base, exponent, modulus))
        return sizes + base + exponent + modulus

    yield "nothing", b""
    yield "zero sizes", word(0) * 3
    for name, base, exponent, modulus in (
        ("3^5 mod 7", b"\x03", b"\x05", b"\x07"), ("0^0", b"", b"", b"\x09"), ("mod 1", b"\x05", b"\x03", b"\x01"),
        ("mod 0", b"\x05", b"\x03", b"\x00"), ("even", b"\x05", b"\x03", b"\x10"),
        ("base larger", b"\xff" * 40, b"\x03", b"\x11"), ("leading zeros", bytes(30) + b"\x02", bytes(33) + b"\x08", bytes(9) + b"\xfb"),
        ("exponent zero", b"\x09", bytes(5), b"\x11"),
    ):  # fmt: skip
        yield name, asked(base, exponent, modulus)
    for size in (1, 31, 32, 33, 64, 96, 128, 256, 1024, 1025):
        modulus = rng.randbytes(size - 1) + b"\x01"
        yield f"{size} bytes", asked(rng.randbytes(size), rng.randbytes(min(size, 33)), modulus)
    yield "long exponent", asked(b"\x03", b"\x01" + bytes(63), b"\xfb" * 8)
    yield "cut off", asked(b"\x03", b"\x05", b"\x07" * 32)[:-20]
    yield "huge base", word(2**255) + word(0) + word(1)
    yield "huge exponent", word(1) + word(2**64) + word(1) + b"\x02"
    yield "huge modulus", word(0) + word(1) + word(2**200)
    yield "huge base, no modulus", word(2**64) + word(2**10) + word(0)


def blakes() -> Iterator[Input]:
    rng = random.Random(SEED)
    state = rng.randbytes(64 + 128 + 16)
    for rounds in (0, 1, 12, 300):
        for final in (b"\x00", b"\x01"):
            yield f"{rounds} rounds {final.hex()}", word(rounds, 4) + state + final
    yield "bad flag", word(12, 4) + state + b"\x02"
    yield "short", word(12, 4) + state
    yield "long", word(12, 4) + state + b"\x01\x00"
    yield "rounds for more gas than there is", word(2**32 - 1, 4) + state + b"\x01"
    yield "nothing", b""


def additions(curve: Curve) -> Iterator[Input]:
    one, two, three = (curve.g1(curve.times(n)) for n in (1, 2, 3))
    minus = curve.g1(curve.times(curve.order - 1))
    zero = curve.g1(None)
    yield "1 + 2", one + two
    yield "doubled", three + three
    yield "inverse", one + minus
    yield "with infinity", one + zero
    yield "infinity twice", zero + zero
    yield "off the curve", one + curve.number(1) + curve.number(1)
    yield "off the curve, first", curve.number(3) + curve.number(5) + one
    yield "coordinate too large", one + curve.number(curve.p) + curve.number(2)
    yield (
        "coordinate wrapped",
        curve.number(curve.generator[0] + curve.p) + curve.number(curve.generator[1]) + one,
    )
    yield "outside the subgroup", one + curve.g1(curve.on_curve(5))
    yield "cut off", (one + two)[:-1]
    yield "one point", one
    yield "more behind", one + two + b"\x01"
    yield "nothing", b""
    if curve is BLS12_381:
        yield "padding not zero", b"\x01" + one[1:] + two


def bn254_products() -> Iterator[Input]:
    one = BN254.g1(BN254.times(1))
    for scalar in (0, 1, 2, BN254.order - 1, BN254.order, BN254.order + 1, 2**256 - 1, 12345678901234567890):
        yield f"times {scalar}", one + word(scalar)
    yield "infinity", BN254.g1(None) + word(7)
    yield "off the curve", word(1) + word(3) + word(2)
    yield "coordinate too large", word(BN254.p) + word(2) + word(2)
    yield "cut off", one + b"\x01"
    yield "more behind", one + word(3) + b"\xff" * 9
    yield "nothing", b""


def pairings(curve: Curve) -> Iterator[Input]:
    one, minus = curve.g1(curve.times(1)), curve.g1(curve.times(curve.order - 1))
    two, g2 = curve.g1(curve.times(2)), curve.g2_bytes(curve.g2)
    zero1, zero2 = curve.g1(None), curve.g2_bytes(None)
    yield "nothing", b""
    yield "product one", one + g2 + minus + g2
    yield "product not one", one + g2 + two + g2
    yield "one pair", one + g2
    yield "infinities", zero1 + zero2
    yield "infinity and a point", zero1 + g2 + one + zero2
    yield "first off the curve", curve.number(1) + curve.number(1) + g2
    yield "second off the curve", one + curve.pair((1, 2)) + curve.pair((3, 4))
    yield "second outside the subgroup", one + curve.g2_bytes(twist_point(curve, 2))
    yield "coordinate too large", one + curve.pair((curve.p, 0)) + curve.pair((0, 1))
    yield "cut off", (one + g2)[:-1]
    yield "a byte more", one + g2 + b"\x00"
    if curve is BLS12_381:
        yield "first outside the subgroup", curve.g1(curve.on_curve(5)) + g2


def point_evaluations() -> Iterator[Input]:
    """Of constant polynomials: what they evaluate to is the same everywhere, and the proof is infinity."""

    def compressed(point: tuple[int, int] | None) -> bytes:
        if point is None:
            return b"\xc0" + bytes(47)
        flags = 0xA0 if point[1] > (BLS12_381.p - 1) // 2 else 0x80
        packed = point[0].to_bytes(48, "big")
        return bytes((packed[0] | flags,)) + packed[1:]

    infinity = compressed(None)
    for value, z in ((0, 0), (1, 5), (7, 2**200), (BLS12_381.order - 1, 1)):
        commitment = compressed(BLS12_381.times(value))
        digest = b"\x01" + sha256(commitment).digest()[1:]
        yield f"constant {value}", digest + word(z) + word(value) + commitment + infinity
    commitment = compressed(BLS12_381.times(7))
    digest = b"\x01" + sha256(commitment).digest()[1:]
    right = digest + word(5) + word(7) + commitment + infinity
    yield "wrong value", digest + word(5) + word(8) + commitment + infinity
    yield "wrong hash", b"\x01" + bytes(31) + right[32:]
    yield "wrong version", b"\x02" + right[1:]
    yield "z too large", digest + word(BLS12_381.order) + word(7) + commitment + infinity
    yield "y too large", digest + word(5) + word(BLS12_381.order) + commitment + infinity
    yield "proof no point", right[:144] + b"\x80" + bytes(46) + b"\x01"
    yield "wrong proof", right[:144] + compressed(BLS12_381.times(3))
    yield "cut off", right[:-1]
    yield "a byte more", right + b"\x00"
    yield "nothing", b""


def p256_checks() -> Iterator[Input]:
    digest = sha256(b"flashctl").digest()
    r, s, x, y = p256_signature(0xC0FFEE, 0xBEEF, digest)
    right = digest + word(r) + word(s) + word(x) + word(y)
    yield "valid", right
    yield "the other s", digest + word(r) + word(P256_ORDER - s) + word(x) + word(y)
    yield "another message", bytes(32) + right[32:]
    for name, place, value in (
        ("r zero", 1, 0), ("s zero", 2, 0), ("r too large", 1, P256_ORDER), ("s too large", 2, P256_ORDER),
        ("key off the curve", 3, 5), ("x too large", 3, 2**256 - 1), ("y zero", 4, 0), ("key zero", 3, 0),
    ):  # fmt: skip
        yield name, right[: 32 * place] + word(value) + right[32 * place + 32 :]
    yield "key at infinity", right[:96] + bytes(64)
    yield "cut off", right[:-1]
    yield "a byte more", right + b"\x00"
    yield "nothing", b""


def g1_products() -> Iterator[Input]:
    curve = BLS12_381
    one, five = curve.g1(curve.times(1)), curve.g1(curve.times(5))
    for scalar in (0, 1, 2, curve.order - 1, curve.order, 2**256 - 1):
        yield f"times {scalar}", one + word(scalar)
    yield "two", one + word(3) + five + word(2**200)
    yield "six", b"".join(curve.g1(curve.times(n)) + word(n**20) for n in range(1, 7))
    yield "infinity", curve.g1(None) + word(3)
    yield "outside the subgroup", curve.g1(curve.on_curve(5)) + word(3)
    yield "off the curve", curve.number(1) + curve.number(1) + word(3)
    yield "coordinate too large", curve.number(curve.p) + curve.number(1) + word(3)
    yield "cut off", (one + word(3))[:-1]
    yield "a byte more", one + word(3) + b"\x00"
    yield "nothing", b""


def g2_points() -> Iterator[Input]:
    """Of additions and, with a scalar behind each point, products."""
    curve = BLS12_381
    g2, zero = curve.g2_bytes(curve.g2), curve.g2_bytes(None)
    negative = curve.g2_bytes((curve.g2[0], (curve.p - curve.g2[1][0], curve.p - curve.g2[1][1])))
    stray = curve.g2_bytes(twist_point(curve, 2))
    yield "doubled", g2 + g2
    yield "inverse", g2 + negative
    yield "with infinity", g2 + zero
    yield "infinities", zero + zero
    yield "outside the subgroup", g2 + stray
    yield "off the curve", g2 + curve.pair((1, 2)) + curve.pair((3, 4))
    yield "coordinate too large", g2 + curve.pair((curve.p, 0)) + curve.pair((0, 1))
    yield "padding not zero", b"\x01" + g2[1:] + g2
    yield "cut off", (g2 + g2)[:-1]
    yield "nothing", b""


def g2_products() -> Iterator[Input]:
    size = 4 * BLS12_381.width
    for name, data in g2_points():
        points = [data[start : start + size] for start in range(0, len(data), size)]
        scalars = (3, BLS12_381.order - 2)
        yield name, b"".join(point + word(scalar) for point, scalar in zip(points, scalars, strict=False))


def mappings(parts: int) -> Iterator[Input]:
    curve = BLS12_381
    for value in (0, 1, 2, curve.p - 1, 123456789):
        yield f"{value}", curve.number(value) * parts
    yield "too large", curve.number(curve.p) * parts
    yield "padding not zero", b"\x01" + (curve.number(5) * parts)[1:]
    yield "cut off", (curve.number(5) * parts)[:-1]
    yield "a byte more", curve.number(5) * parts + b"\x00"
    yield "nothing", b""


def contracts(fork: str) -> dict[str, tuple[int, Iterator[Input]]]:
    """Name, address and inputs; a contract that a fork does not have is called as well, where it is cheap."""
    found: dict[str, tuple[int, Iterator[Input]]] = {
        "ecrecover": (1, recoveries()),
        "sha256": (2, hashes()),
        "ripemd160": (3, hashes()),
        "identity": (4, hashes()),
        "modexp": (5, powers()),
        "bn254Add": (6, additions(BN254)),
        "bn254Mul": (7, bn254_products()),
        "bn254Pairing": (8, pairings(BN254)),
        "blake2f": (9, blakes()),
        "p256Verify": (0x100, p256_checks()),
    }
    if cancun(fork):
        found["pointEvaluation"] = (10, point_evaluations())
    if prague(fork):
        found |= {
            "bls12G1Add": (11, additions(BLS12_381)),
            "bls12G1Msm": (12, g1_products()),
            "bls12G2Add": (13, g2_points()),
            "bls12G2Msm": (14, g2_products()),
            "bls12Pairing": (15, pairings(BLS12_381)),
            "bls12MapFpToG1": (16, mappings(1)),
            "bls12MapFp2ToG2": (17, mappings(2)),
        }
    return found


def precompiles(fork: str) -> Iterator[Named]:
    for name, (at, inputs) in contracts(fork).items():
        code = PASS_ON.format(at)
        for what, data in inputs:
            yield f"{name} {what}", case(fork, code, call(data=data.hex(), gas=2_000_000))
        yield f"{name} without gas", case(fork, code, call(data="01" * 160, gas=29_000))
        yield f"{name} warm", case(fork, code, call(data="", access_list=_listed(at), gas=500_000))


def _listed(at: int) -> list[Json]:
    entries: list[Json] = [[address(at), []], [address(CONTRACT), []]]  # type: ignore[list-item]
    return entries
