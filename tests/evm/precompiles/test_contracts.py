"""What the vectors leave out: the fallbacks agree with the libraries, limits, empty and short inputs, fork
tables.
"""

from __future__ import annotations

import builtins
import hashlib
import json
import random
import sys
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.examples import examples
from support.reference import reference_path

from flashctl.evm.precompiles import PrecompileError, PrecompileUnavailable
from flashctl.evm.precompiles import blake2f as blake2f_module
from flashctl.evm.precompiles import bls12_381 as bls_module
from flashctl.evm.precompiles.basic import ECRECOVER, IDENTITY, RIPEMD160, SHA256
from flashctl.evm.precompiles.blake2f import BLAKE2F, compress
from flashctl.evm.precompiles.bls12_381 import BLS12_G1ADD, BLS12_G1MSM, BLS12_G2MSM
from flashctl.evm.precompiles.bn254 import BN254_ADD, BN254_MUL, BN254_PAIRING
from flashctl.evm.precompiles.bn254_curve import FIELD_MODULUS, G2, GROUP_ORDER, InvalidPoint
from flashctl.evm.precompiles.bn254_python import PurePython
from flashctl.evm.precompiles.modexp import MODEXP, MODEXP_OSAKA
from flashctl.evm.precompiles.tables import BERLIN, CANCUN, OSAKA, PRAGUE
from flashctl.op.forks import OpFork
from flashctl.op.rules import PRECOMPILES

GENERATOR_G2 = G2(
    10857046999023057135944570762232829481370756359578518086990519993285655852781,
    11559732032986387107991004021392285783925812861821192530917403151452391805634,
    8495653923123431417604973247489272438418190587263600148770280649306958101930,
    4082367875863433681332203403145435568316851327593401208105741076214120093531,
)


def word(value: int) -> bytes:
    return value.to_bytes(32, "big")


class TestBasics:
    def test_hashes_are_those_of_hashlib(self) -> None:
        assert SHA256.run(b"abc") == hashlib.sha256(b"abc").digest()
        assert RIPEMD160.run(b"abc").hex() == "0" * 24 + "8eb208f7e05d987a9b044a8e98c6b087f15a0bfc"
        assert IDENTITY.run(b"abc") == b"abc"

    def test_ripemd160_without_openssls_legacy_provider(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from flashctl.evm.precompiles.basic import _ripemd160_library

        expected = RIPEMD160.run(b"abc")
        _ripemd160_library.cache_clear()

        def refuse(name: str, *arguments: Any) -> Any:
            raise ValueError("unsupported hash type ripemd160")

        monkeypatch.setattr(hashlib, "new", refuse)
        assert RIPEMD160.run(b"abc") == expected
        _ripemd160_library.cache_clear()

    @pytest.mark.parametrize(
        ("contract", "size", "gas"),
        [(SHA256, 0, 60), (SHA256, 33, 84), (RIPEMD160, 1, 720), (IDENTITY, 0, 15), (IDENTITY, 64, 21)],
    )
    def test_word_prices(self, contract: Any, size: int, gas: int) -> None:
        assert contract.gas(bytes(size)) == gas

    def test_ecrecover_gives_nothing_for_a_wrong_signature(self) -> None:
        assert ECRECOVER.run(b"") == b""
        assert ECRECOVER.run(bytes(32) + word(27) + bytes(64)) == b""
        assert ECRECOVER.run(b"\x01" * 32 + word(29) + b"\x01" * 64) == b""
        assert ECRECOVER.run(b"\x01" * 32 + word(27) + b"\xff" * 64) == b""

    def test_ecrecover_accepts_a_high_s(self) -> None:
        order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
        low = ECRECOVER.run(b"\x01" * 32 + word(27) + word(1) + word(2))
        high = ECRECOVER.run(b"\x01" * 32 + word(28) + word(1) + word(order - 2))
        assert low == high != b""


class TestModexp:
    def test_lengths_beyond_the_input_read_as_zero(self) -> None:
        assert MODEXP.run(b"") == b""
        assert MODEXP.run(word(1) + word(1) + word(2) + b"\x03") == bytes(2)

    def test_zero_to_the_zero_is_one_unless_the_modulus_is_one(self) -> None:
        header = word(0) + word(0) + word(1)
        assert MODEXP.run(header + b"\x02") == b"\x01"
        assert MODEXP.run(header + b"\x01") == b"\x00"

    def test_an_absurd_exponent_length_costs_more_than_any_gas_limit(self) -> None:
        assert MODEXP.gas(word(1) + word(2**255) + word(1)) > 2**200
        assert MODEXP.gas(word(0) + word(2**255) + word(0)) == 200

    def test_osaka_bounds_every_operand(self) -> None:
        for lengths in ((1025, 0, 1), (0, 1025, 1), (0, 0, 1025)):
            with pytest.raises(PrecompileError):
                MODEXP_OSAKA.run(b"".join(map(word, lengths)))
        assert len(MODEXP_OSAKA.run(word(1024) * 3)) == 1024


class TestBlake2f:
    @given(st.integers(0, 30), st.binary(min_size=208, max_size=208), st.booleans())
    @settings(max_examples=examples(40))
    def test_the_python_compression_agrees_with_the_native_one(
        self, rounds: int, body: bytes, final: bool
    ) -> None:
        native = pytest.importorskip("blake2b")
        data = rounds.to_bytes(4, "big") + body + bytes((final,))
        parameters = native.decode_parameters(data)
        assert compress(*(tuple(p) if isinstance(p, list) else p for p in parameters)) == BLAKE2F.run(data)

    def test_twelve_rounds_are_blake2b(self, monkeypatch: pytest.MonkeyPatch) -> None:
        blake2f_module._compression.cache_clear()
        monkeypatch.setitem(sys.modules, "blake2b", None)
        state = bytearray(b"".join(value.to_bytes(8, "little") for value in blake2f_module._IV))
        state[0] ^= 64
        state[2] ^= 1
        state[3] ^= 1
        message = b"abc".ljust(128, b"\0")
        data = (
            (12).to_bytes(4, "big") + bytes(state) + message + (3).to_bytes(8, "little") + bytes(8) + b"\x01"
        )
        assert BLAKE2F.run(data) == hashlib.blake2b(b"abc").digest()
        blake2f_module._compression.cache_clear()


class TestBn254Fallback:
    """The Python implementation is checked as if mcl did not exist: against vectors and against mcl."""

    def vectors(self, name: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(
            reference_path(f"precompiles/go-ethereum/{name}.json").read_text()
        )
        return found

    @pytest.fixture(autouse=True)
    def python_only(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("flashctl.evm.precompiles.bn254.backend", PurePython)

    def test_vectors(self) -> None:
        for name, contract in (("bn256Add", BN254_ADD), ("bn256ScalarMul", BN254_MUL)):
            for case in self.vectors(name):
                assert contract.run(bytes.fromhex(case["Input"])).hex() == case["Expected"], case["Name"]

    def test_pairing_vectors(self) -> None:
        for case in self.vectors("bn256Pairing"):
            assert BN254_PAIRING.run(bytes.fromhex(case["Input"])).hex() == case["Expected"], case["Name"]

    def test_invalid_points(self) -> None:
        python = PurePython()
        with pytest.raises(InvalidPoint):
            python.add((1, 3), (0, 0))
        with pytest.raises(InvalidPoint):
            python.pairing_is_one([((0, 0), G2(1, 0, 1, 0))])

    def test_agrees_with_mcl(self) -> None:
        mcl_module = pytest.importorskip("flashctl.evm.precompiles.bn254_mcl")
        try:
            mcl = mcl_module.Mcl()
        except (ImportError, OSError) as error:
            pytest.skip(f"mcl cannot be loaded: {error}")
        python, generator = PurePython(), (1, 2)
        source = random.Random(254)
        for _ in range(10):
            a, b = source.randrange(GROUP_ORDER), source.randrange(GROUP_ORDER)
            left, right = mcl.multiply(generator, a), mcl.multiply(generator, b)
            assert python.multiply(generator, a) == left
            assert python.add(left, right) == mcl.add(left, right)
            assert python.add(left, left) == mcl.add(left, left)
            inverse = left[0], FIELD_MODULUS - left[1]
            assert python.add(left, inverse) == mcl.add(left, inverse) == (0, 0)
        left = mcl.multiply(generator, 5)
        cancelling = [(left, GENERATOR_G2), ((left[0], FIELD_MODULUS - left[1]), GENERATOR_G2)]
        for pairs in (cancelling, cancelling[:1], [], [((0, 0), GENERATOR_G2)], [(left, G2(0, 0, 0, 0))]):
            assert python.pairing_is_one(pairs) == mcl.pairing_is_one(pairs) == (pairs != cancelling[:1])
        outside = twist_point_outside_the_group()
        for implementation in (python, mcl):
            with pytest.raises(InvalidPoint):
                implementation.pairing_is_one([(left, outside)])

    @pytest.mark.parametrize("order", [10_069, 5_864_401, 1_875_725_156_269])
    @pytest.mark.parametrize("partner", [(1, 2), (0, 0)], ids=["finite", "infinity"])
    def test_points_of_a_small_order_are_refused(self, order: int, partner: tuple[int, int]) -> None:
        """The primes of the twist's cofactor below 2^64: alone, and hidden in a point of the group."""
        outside = twist_point_outside_the_group()
        cofactor = 2 * FIELD_MODULUS - GROUP_ORDER
        small = twist_multiple(outside, GROUP_ORDER * cofactor // order)
        hidden = twist_sum(small, GENERATOR_G2)
        for point in (small, hidden):
            with pytest.raises(InvalidPoint):
                PurePython().pairing_is_one([((1, 2), GENERATOR_G2), (partner, point)])

    def test_bilinear(self) -> None:
        """e(aP, bQ) e(-abP, Q) is one, and nothing near it is."""
        python, source = PurePython(), random.Random(7)
        a, b = source.randrange(GROUP_ORDER), source.randrange(GROUP_ORDER)
        x, y = python.multiply((1, 2), a * b % GROUP_ORDER)
        left = python.multiply((1, 2), a), twist_multiple(GENERATOR_G2, b)
        assert python.pairing_is_one([left, ((x, FIELD_MODULUS - y), GENERATOR_G2)])
        assert not python.pairing_is_one([left, ((x, y), GENERATOR_G2)])

    @given(st.integers(0, GROUP_ORDER - 1))
    @settings(max_examples=examples(25), suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_multiples(self, scalar: int) -> None:
        """Against doubling and adding, also near the ends and the middle, where a half of it is small."""
        python = PurePython()
        for factor in {scalar, min(scalar, 3), GROUP_ORDER - 1 - scalar % 3, scalar >> 126, scalar >> 127}:
            total = (0, 0)
            for bit in bin(factor)[2:]:
                total = python.add(total, total)
                total = python.add(total, (1, 2)) if bit == "1" else total
            assert python.multiply((1, 2), factor) == total


def twist_sum(left: G2, right: G2) -> G2:
    """Of two different finite points, or of one with itself."""
    from flashctl.evm.precompiles.bn254_python import _chords, _tangents, _third

    t, q = ((left[0], left[1]), (left[2], left[3])), ((right[0], right[1]), (right[2], right[3]))
    (slope,) = _tangents([t]) if t == q else _chords([t], [q])
    (x, y) = _third(t, q[0], slope)
    return G2(*x, *y)


def twist_multiple(point: G2, factor: int) -> G2:
    """By doubling and adding; the factor must not be one that leads to infinity on the way."""
    total = point
    for bit in bin(factor)[3:]:
        total = twist_sum(total, total)
        total = twist_sum(total, point) if bit == "1" else total
    return total


def twist_point_outside_the_group() -> G2:
    """The curve's twist has a large cofactor: nearly every point on it lies outside the group."""
    from flashctl.evm.precompiles.bn254_python import P, _inverse2, _mul2, _on_twist, _scale2

    b = _scale2(_inverse2((9, 1)), 3)
    for x0 in range(1, 100):
        x = (x0, 0)
        cube = _mul2(_mul2(x, x), x)
        square = (cube[0] + b[0]) % P, (cube[1] + b[1]) % P
        norm = pow((square[0] ** 2 + square[1] ** 2) % P, (P + 1) // 4, P)
        half = (square[0] + norm) * pow(2, -1, P) % P
        y0 = pow(half, (P + 1) // 4, P)
        y1 = square[1] * pow(2 * y0, -1, P) % P
        if _on_twist((x, (y0, y1))):
            return G2(*x, y0, y1)
    raise AssertionError("no point found")


class TestBls:
    def test_an_empty_list_is_refused(self) -> None:
        for contract in (BLS12_G1MSM, BLS12_G2MSM, PRAGUE[0x0F]):
            with pytest.raises(PrecompileError):
                contract.run(b"")

    def test_a_sum_of_many_is_the_sum_of_multiples(self) -> None:
        case = json.loads(reference_path("precompiles/go-ethereum/blsG1Mul.json").read_text())
        inputs = [bytes.fromhex(each["Input"]) for each in case if int(each["Expected"], 16)]
        total = bytes(128)
        for data in inputs:
            total = BLS12_G1ADD.run(total + BLS12_G1MSM.run(data))
        assert BLS12_G1MSM.run(b"".join(inputs)) == total

    @pytest.mark.parametrize(
        ("pairs", "g1", "g2"),
        [
            (0, 0, 0),
            (1, 12_000, 22_500),
            (2, 22_776, 45_000),
            (128, 797_184, 1_509_120),
            (200, 1_245_600, 2_358_000),
        ],
    )
    def test_discounts(self, pairs: int, g1: int, g2: int) -> None:
        assert BLS12_G1MSM.gas(bytes(160 * pairs)) == g1
        assert BLS12_G2MSM.gas(bytes(288 * pairs)) == g2

    def test_a_missing_library_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        bls_module.arkworks.cache_clear()
        real_import = builtins.__import__

        def without(name: str, *arguments: Any, **keywords: Any) -> Any:
            if name == "py_arkworks_bls12381":
                raise ImportError(name)
            return real_import(name, *arguments, **keywords)

        monkeypatch.setattr(builtins, "__import__", without)
        with pytest.raises(PrecompileUnavailable, match="needs the package py-arkworks-bls12381"):
            BLS12_G1ADD.run(bytes(256))
        bls_module.arkworks.cache_clear()


class TestForkTables:
    def test_ethereum(self) -> None:
        assert sorted(BERLIN) == list(range(1, 10))
        assert sorted(CANCUN) == list(range(1, 11))
        assert sorted(PRAGUE) == list(range(1, 18))
        assert sorted(OSAKA) == [*range(1, 18), 0x100]
        assert OSAKA[0x100].gas(b"") == 6_900

    def test_op_adds_p256_at_fjord_and_keeps_its_price_until_karst(self) -> None:
        assert 0x100 not in PRECOMPILES[OpFork.ECOTONE]
        assert PRECOMPILES[OpFork.FJORD][0x100].gas(b"") == 3_450
        assert PRECOMPILES[OpFork.JOVIAN][0x100].gas(b"") == 3_450
        assert PRECOMPILES[OpFork.KARST][0x100].gas(b"") == 6_900
        assert PRECOMPILES[OpFork.KARST][0x05] is MODEXP_OSAKA
        assert 0x0B not in PRECOMPILES[OpFork.HOLOCENE] and 0x0B in PRECOMPILES[OpFork.ISTHMUS]

    @pytest.mark.parametrize(
        ("fork", "address", "limit", "unit"),
        [
            (OpFork.GRANITE, 0x08, 112_687, 192),
            (OpFork.ISTHMUS, 0x08, 112_687, 192),
            (OpFork.JOVIAN, 0x08, 81_984, 192),
            (OpFork.KARST, 0x08, 57_600, 192),
            (OpFork.ISTHMUS, 0x0C, 513_760, 160),
            (OpFork.ISTHMUS, 0x0E, 488_448, 288),
            (OpFork.ISTHMUS, 0x0F, 235_008, 384),
            (OpFork.JOVIAN, 0x0C, 288_960, 160),
            (OpFork.JOVIAN, 0x0E, 278_784, 288),
            (OpFork.KARST, 0x0F, 156_672, 384),
        ],
    )
    def test_input_limits(self, fork: OpFork, address: int, limit: int, unit: int) -> None:
        contract = PRECOMPILES[fork][address]
        # Points at infinity are valid and cheap.
        assert contract.run(bytes(limit // unit * unit))
        with pytest.raises(PrecompileError, match=f"limit {limit}"):
            contract.run(bytes((limit // unit + 1) * unit))
        assert PRECOMPILES[OpFork.FJORD][0x08].run(bytes(112_896))
