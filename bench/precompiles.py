"""Worst speed of every precompiled contract, in gas per second.

    python bench/precompiles.py                with the libraries that are installed
    python bench/precompiles.py --fallbacks    pure Python where it exists (bn254, BLAKE2F)

What a block full of a contract's dearest calls would take. Several inputs are tried and the slowest per gas
is shown: long operands with short exponents, points with full-size scalars, the fewest pairs. None may be
below 5 Mgas/s, or a call costs a builder more time than its gas pays for. The last column compares with
py_ecc, py-evm's library for the curves, where it is installed.
"""

from __future__ import annotations

import argparse
import importlib
import random
import sys
import time
from collections.abc import Callable, Iterator

from flashctl.evm.precompiles import Precompile, bn254
from flashctl.evm.precompiles.bn254_curve import G2, GROUP_ORDER
from flashctl.evm.precompiles.bn254_python import PurePython
from flashctl.evm.precompiles.modexp import MODEXP, MODEXP_OSAKA
from flashctl.evm.precompiles.tables import OSAKA

FLOOR_MGAS = 5.0
CALL_GAS = 100
"""What calling a contract that is warm costs, as precompiled contracts always are."""
BUDGET_S = 0.3
"""Time given to each input."""

SOURCE = random.Random(5)
G2_GENERATOR = G2(
    10857046999023057135944570762232829481370756359578518086990519993285655852781,
    11559732032986387107991004021392285783925812861821192530917403151452391805634,
    8495653923123431417604973247489272438418190587263600148770280649306958101930,
    4082367875863433681332203403145435568316851327593401208105741076214120093531,
)
KZG_EXAMPLE = bytes.fromhex(
    "01e798154708fe7789429634053cbf9f99b619f9f084048927333fce637f549b564c0a11a0f704f4fc3e8acfe0f8245f0ad1347b"
    "378fbf96e206da11a5d3630624d25032e67a7e6a4910df5834b8fe70e6bcfeeac0352434196bdf4b2485d5a18f59a8d2a1a625a1"
    "7f3fea0fe5eb8c896db3764f3185481bc22f91b4aaffcca25f26936857bc3a7c2539ea8ec3a952b7873033e038326e87ed3e1276"
    "fd140253fa08e9fc25fb2d9a98527fc22a2c9612fbeafdad446cbc7bcdbdcd780af2c16a"
)


def word(value: int) -> bytes:
    return value.to_bytes(32, "big")


def modexp_inputs(longest: int) -> Iterator[bytes]:
    """All-ones exponents, where every bit multiplies; even and odd moduli; long bases."""
    for size in (32, 64, 128, 256, 512, longest):
        for exponent_size in (1, 3, 32, size):
            for odd in (0, 1):
                modulus = ((1 << 8 * size) - 2 | odd).to_bytes(size, "big")
                base = b"\xfe" * size
                lengths = word(size) + word(exponent_size) + word(size)
                yield lengths + base + b"\xff" * exponent_size + modulus


def bn254_pairs(count: int) -> bytes:
    g2 = b"".join(map(word, (G2_GENERATOR.x1, G2_GENERATOR.x0, G2_GENERATOR.y1, G2_GENERATOR.y0)))
    pairs = []
    for _ in range(count):
        x, y = bn254.backend().multiply((1, 2), SOURCE.randrange(GROUP_ORDER))
        pairs.append(word(x) + word(y) + g2)
    return b"".join(pairs)


def p256_input() -> bytes:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, utils

    key = ec.derive_private_key(12345, ec.SECP256R1())
    digest = b"\x5a" * 32
    signature = key.sign(digest, ec.ECDSA(utils.Prehashed(hashes.SHA256())))
    numbers = key.public_key().public_numbers()
    return digest + b"".join(map(word, (*utils.decode_dss_signature(signature), numbers.x, numbers.y)))


def bls_inputs() -> dict[int, list[bytes]]:
    """Points by mapping field elements, so that all of them are in the groups."""
    map_g1, map_g2 = OSAKA[0x10], OSAKA[0x11]
    field = [bytes(16) + bytes((5,)) + SOURCE.randbytes(47) for _ in range(4)]
    g1 = [map_g1.run(element) for element in field]
    g2 = [map_g2.run(field[0] + element) for element in field]
    scalar = word(GROUP_ORDER * 2)
    return {
        0x0B: [g1[0] + g1[1], g1[0] + g1[0]],
        0x0C: [(g1[0] + scalar) * count for count in (1, 2, 16, 128, 1024)],
        0x0D: [g2[0] + g2[1], g2[0] + g2[0]],
        0x0E: [(g2[0] + scalar) * count for count in (1, 2, 16, 128, 512)],
        0x0F: [(g1[0] + g2[0]) * count for count in (1, 2, 8)],
        0x10: [field[0]],
        0x11: [field[0] + field[1]],
    }


def inputs() -> Iterator[tuple[Precompile, list[bytes]]]:
    signature = b"\x5a" * 32 + word(27) + word(1) + word(2)
    yield OSAKA[0x01], [signature]
    for address in (0x02, 0x03, 0x04):
        yield OSAKA[address], [b"", bytes(32), bytes(1024), bytes(100_000)]
    yield MODEXP, list(modexp_inputs(2048))
    yield MODEXP_OSAKA, list(modexp_inputs(1024))
    x, y = bn254.backend().multiply((1, 2), 7)
    point = word(x) + word(y)
    yield OSAKA[0x06], [point + point, point + word(1) + word(2)]
    yield OSAKA[0x07], [point + word(2**256 - 1), point + word(GROUP_ORDER - 1)]
    yield OSAKA[0x08], [bn254_pairs(count) for count in (1, 2, 10)]
    yield OSAKA[0x09], [rounds.to_bytes(4, "big") + bytes(208) + b"\x01" for rounds in (1, 12, 20_000)]
    yield OSAKA[0x0A], [KZG_EXAMPLE]
    for address, choices in bls_inputs().items():
        yield OSAKA[address], choices
    yield OSAKA[0x100], [p256_input()]


def seconds_per_call(run: Callable[[bytes], bytes], data: bytes) -> float:
    """Best of as many calls as fit the budget, at least three."""
    run(data)
    best, spent, count = float("inf"), 0.0, 0
    while (spent < BUDGET_S and count < 2_000) or count < 3:
        start = time.perf_counter()
        run(data)
        elapsed = time.perf_counter() - start
        best, spent, count = min(best, elapsed), spent + elapsed, count + 1
    return best


def py_ecc_seconds(contract: Precompile, data: bytes) -> float | None:
    """The same pairing check through py_ecc, if it is installed."""
    if contract.address != 0x08:
        return None
    try:
        curve = importlib.import_module("py_ecc.optimized_bn128")
    except ImportError:
        return None
    start = time.perf_counter()
    for _ in range(len(data) // 192):
        curve.pairing(curve.G2, curve.G1)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--fallbacks", action="store_true", help="pure Python for bn254 and BLAKE2F")
    if parser.parse_args().fallbacks:
        bn254.backend = PurePython  # type: ignore[assignment]
        sys.modules["blake2b"] = None  # type: ignore[assignment]
    print(f"{'contract':16} {'slowest input':>14} {'gas':>10} {'time':>11} {'Mgas/s':>8}")
    slowest = float("inf")
    for contract, choices in inputs():
        rates = []
        for data in choices:
            elapsed = seconds_per_call(contract.run, data)
            rates.append(((contract.gas(data) + CALL_GAS) / elapsed / 1e6, elapsed, data))
        rate, elapsed, data = min(rates, key=lambda entry: entry[0])
        slowest = min(slowest, rate)
        other = py_ecc_seconds(contract, data)
        ratio = f"   {other / elapsed:.0f}x py_ecc" if other is not None else ""
        mark = "   below the floor" if rate < FLOOR_MGAS else ""
        print(
            f"{contract.name:16} {len(data):>8} bytes {contract.gas(data):>10,} {elapsed * 1e6:>8.1f} us "
            f"{rate:>8.1f}{ratio}{mark}"
        )
    print(f"worst {slowest:.1f} Mgas/s (floor {FLOOR_MGAS:g})")


if __name__ == "__main__":
    main()
