"""POINT_EVALUATION: does a blob's polynomial have this value at this point (EIP-4844)?

Proof that p(z) = y for the polynomial behind a commitment: e(C - [y]G1, G2) = e(proof, [tau]G2 - [z]G2). Only
one constant of the trusted setup takes part, so no setup file is needed.
"""

from __future__ import annotations

import hashlib
from functools import cache
from typing import Any, Final

from flashctl.evm.precompiles.bls12_381 import arkworks
from flashctl.evm.precompiles.contract import Precompile, PrecompileError

__all__ = ["POINT_EVALUATION"]

_INPUT_SIZE: Final = 192
_VERSIONED_HASH: Final = b"\x01"
_FIELD_ELEMENTS_PER_BLOB: Final = 4096
_MODULUS: Final = 0x73EDA753299D7D483339D80809A1D80553BDA402FFFE5BFEFFFFFFFF00000001
"""Order of the BLS12-381 groups."""

_OUTPUT: Final = _FIELD_ELEMENTS_PER_BLOB.to_bytes(32, "big") + _MODULUS.to_bytes(32, "big")

_TAU_G2: Final = bytes.fromhex(
    "b5bfd7dd8cdeb128843bc287230af38926187075cbfbefa81009a2ce615ac53d2914e5870cb452d2afaaab24f3499f72"
    "185cbfee53492714734429b7b38608e23926c911cceceac9a36851477ba4c60b087041de621000edc98edada20c1def2"
)
"""[tau]G2 of Ethereum's KZG ceremony, compressed."""

_G2: Final = bytes.fromhex(
    "93e02b6052719f607dacd3a088274f65596bd0d09920b61ab5da61bbdc7f5049334cf11213945d57e5ac7d055d042b7e"
    "024aa2b2f08f0a91260805272dc51051c6e47ad4fa403b02b4510b647ae3d1770bac0326a805bbefd48056c8c121bdb8"
)
_G1: Final = bytes.fromhex(
    "97f1d3a73197d7942695638c4fa9ac0fc3688c4f9774b905a14e3a3f171bac586c55e83ff97a1aeffb3af00adb22c6bb"
)


@cache
def _generators() -> tuple[Any, Any, Any]:
    ark = arkworks("pointEvaluation")
    return (
        ark.G1Point.from_compressed_bytes(_G1),
        ark.G2Point.from_compressed_bytes(_G2),
        ark.G2Point.from_compressed_bytes(_TAU_G2),
    )


def _run(data: bytes) -> bytes:
    if len(data) != _INPUT_SIZE:
        raise PrecompileError("invalid input length")
    commitment, proof = data[96:144], data[144:192]
    if data[:32] != _VERSIONED_HASH + hashlib.sha256(commitment).digest()[1:]:
        raise PrecompileError("mismatched versioned hash")
    z, y = data[32:64], data[64:96]
    if max(int.from_bytes(z, "big"), int.from_bytes(y, "big")) >= _MODULUS:
        raise PrecompileError("field element out of range")
    ark = arkworks("pointEvaluation")
    g1, g2, tau_g2 = _generators()
    try:
        commitment_point = ark.G1Point.from_compressed_bytes(commitment)
        proof_point = ark.G1Point.from_compressed_bytes(proof)
    except ValueError:
        raise PrecompileError("invalid commitment or proof") from None
    # e(C - [y]G1 + [z]proof, G2) * e(-proof, [tau]G2) = 1 keeps all multiplications in the cheaper group.
    left = commitment_point - g1 * ark.Scalar.from_be_bytes(y) + proof_point * ark.Scalar.from_be_bytes(z)
    if not ark.GT.pairing_check([left, -proof_point], [g2, tau_g2]):
        raise PrecompileError("point evaluation proof does not hold")
    return _OUTPUT


POINT_EVALUATION: Final = Precompile(0x0A, "pointEvaluation", lambda data: 50_000, _run)
