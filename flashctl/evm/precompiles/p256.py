"""P256VERIFY: does a secp256r1 signature match (RIP-7212 on OP from Fjord, EIP-7951 on Ethereum from Osaka)?

Input is hash, r, s, x, y as five words; output is the word 1, or nothing. Wrong input is no failure.
"""

from __future__ import annotations

from typing import Final

from flashctl.evm.precompiles.contract import Precompile

__all__ = ["P256VERIFY", "P256VERIFY_GAS_FJORD", "P256VERIFY_GAS_OSAKA"]

P256VERIFY_GAS_FJORD: Final = 3_450
P256VERIFY_GAS_OSAKA: Final = 6_900

_INPUT_SIZE: Final = 160
_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_YES: Final = (1).to_bytes(32, "big")


def _run(data: bytes) -> bytes:
    if len(data) != _INPUT_SIZE:
        return b""
    r, s, x, y = (int.from_bytes(data[start : start + 32], "big") for start in range(32, 160, 32))
    if not (0 < r < _ORDER and 0 < s < _ORDER):
        return b""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric import ec, utils
    from cryptography.hazmat.primitives.hashes import SHA256

    try:
        key = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
    except ValueError:
        return b""
    try:
        key.verify(utils.encode_dss_signature(r, s), data[:32], ec.ECDSA(utils.Prehashed(SHA256())))
    except InvalidSignature:
        return b""
    return _YES


P256VERIFY: Final = Precompile(0x100, "p256Verify", lambda data: P256VERIFY_GAS_FJORD, _run)
