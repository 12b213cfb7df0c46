"""Points of the curves behind the precompiled contracts, written as their inputs: valid ones, and ones that a
contract must refuse (off the curve, outside the subgroup, coordinates of the field's size)."""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import ec

__all__ = ["BLS12_381", "BN254", "Curve", "p256_signature", "twist_point"]

Point = tuple[int, int] | None
"""None is infinity."""


@dataclass(frozen=True, slots=True)
class Curve:
    """y^2 = x^3 + b over a prime field, and how a coordinate is written."""

    p: int
    b: int
    order: int
    generator: tuple[int, int]
    width: int
    """Bytes of a coordinate."""
    twist: tuple[int, int]
    """The b of the curve over the field's quadratic extension."""
    g2: tuple[tuple[int, int], tuple[int, int]]
    """Generator of the second group, each coordinate as (real, imaginary)."""
    imaginary_first: bool
    """How a number of the extension is written."""

    def add(self, left: Point, right: Point) -> Point:
        if left is None or right is None:
            return left or right
        if left[0] == right[0]:
            if (left[1] + right[1]) % self.p == 0:
                return None
            slope = 3 * left[0] ** 2 * pow(2 * left[1], -1, self.p)
        else:
            slope = (right[1] - left[1]) * pow(right[0] - left[0], -1, self.p)
        x = (slope * slope - left[0] - right[0]) % self.p
        return x, (slope * (left[0] - x) - left[1]) % self.p

    def times(self, scalar: int, point: Point | None = None) -> Point:
        """A multiple of a point, by default of the generator."""
        base: Point = point or self.generator
        found: Point = None
        while scalar:
            if scalar & 1:
                found = self.add(found, base)
            base, scalar = self.add(base, base), scalar >> 1
        return found

    def on_curve(self, start: int) -> tuple[int, int]:
        """The first point at or after an x. On BLS12-381 hardly any such point is in the subgroup."""
        for x in range(start, start + 100):
            square = (x**3 + self.b) % self.p
            root = pow(square, (self.p + 1) // 4, self.p)
            if root * root % self.p == square:
                return x, root
        raise AssertionError("no point within a hundred")

    def number(self, value: int) -> bytes:
        return value.to_bytes(self.width, "big")

    def g1(self, point: Point) -> bytes:
        return bytes(2 * self.width) if point is None else self.number(point[0]) + self.number(point[1])

    def pair(self, value: tuple[int, int]) -> bytes:
        """A number of the extension."""
        first, second = reversed(value) if self.imaginary_first else value
        return self.number(first) + self.number(second)

    def g2_bytes(self, point: tuple[tuple[int, int], tuple[int, int]] | None) -> bytes:
        return bytes(4 * self.width) if point is None else self.pair(point[0]) + self.pair(point[1])


BN254 = Curve(
    p=21888242871839275222246405745257275088696311157297823662689037894645226208583,
    b=3,
    order=21888242871839275222246405745257275088548364400416034343698204186575808495617,
    generator=(1, 2),
    width=32,
    twist=(
        19485874751759354771024239261021720505790618469301721065564631296452457478373,
        266929791119991161246907387137283842545076965332900288569378510910307636690,
    ),
    g2=(
        (
            10857046999023057135944570762232829481370756359578518086990519993285655852781,
            11559732032986387107991004021392285783925812861821192530917403151452391805634,
        ),
        (
            8495653923123431417604973247489272438418190587263600148770280649306958101930,
            4082367875863433681332203403145435568316851327593401208105741076214120093531,
        ),
    ),
    imaginary_first=True,
)
BLS12_381 = Curve(
    p=0x1A0111EA397FE69A4B1BA7B6434BACD764774B84F38512BF6730D2A0F6B0F6241EABFFFEB153FFFFB9FEFFFFFFFFAAAB,
    b=4,
    order=0x73EDA753299D7D483339D80809A1D80553BDA402FFFE5BFEFFFFFFFF00000001,
    generator=(
        0x17F1D3A73197D7942695638C4FA9AC0FC3688C4F9774B905A14E3A3F171BAC586C55E83FF97A1AEFFB3AF00ADB22C6BB,
        0x08B3F481E3AAA0F1A09E30ED741D8AE4FCF5E095D5D00AF600DB18CB2C04B3EDD03CC744A2888AE40CAA232946C5E7E1,
    ),
    width=64,
    twist=(4, 4),
    g2=(
        (
            0x024AA2B2F08F0A91260805272DC51051C6E47AD4FA403B02B4510B647AE3D1770BAC0326A805BBEFD48056C8C121BDB8,
            0x13E02B6052719F607DACD3A088274F65596BD0D09920B61AB5DA61BBDC7F5049334CF11213945D57E5AC7D055D042B7E,
        ),
        (
            0x0CE5D527727D6E118CC9CDC6DA2E351AADFD9BAA8CBDD3A76D429A695160D12C923AC9CC3BACA289E193548608B82801,
            0x0606C4A02EA734CC32ACD2B02BC28B99CB3E287E85A763AF267492AB572E99AB3F370D275CEC1DA1AAA9075FF05F79BE,
        ),
    ),
    imaginary_first=False,
)


def twist_point(curve: Curve, start: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """A point on the curve over the extension, in the subgroup with no likelihood at all.

    Its y is a root by the complex method: of a + bi the real part's square is (a + |a + bi|) / 2.
    """
    p = curve.p
    half = pow(2, -1, p)
    for x in range(start, start + 200):
        a, b = (x**3 + curve.twist[0]) % p, curve.twist[1]
        norm = pow(a * a + b * b, (p + 1) // 4, p)
        for length in (norm, -norm):
            real = pow((a + length) * half, (p + 1) // 4, p)
            if real and (real * real - (a + length) * half) % p == 0:
                imaginary = b * half * pow(real, -1, p) % p
                if (real * real - imaginary * imaginary - a) % p == 0:
                    return (x, 0), (real, imaginary)
    raise AssertionError("no point within two hundred")


P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


def p256_signature(secret: int, nonce: int, digest: bytes) -> tuple[int, int, int, int]:
    """r, s and the public key's coordinates; of a given nonce, so that the signature is always the same."""

    def multiple(scalar: int) -> tuple[int, int]:
        key = ec.derive_private_key(scalar, ec.SECP256R1()).public_key().public_numbers()
        return key.x, key.y

    r = multiple(nonce)[0] % P256_ORDER
    s = pow(nonce, -1, P256_ORDER) * (int.from_bytes(digest, "big") + r * secret) % P256_ORDER
    return r, s, *multiple(secret)
