"""Addresses as people read them: with the checksum in the case of the letters."""

from __future__ import annotations

from flashctl.eth.keccak import keccak256

__all__ = ["checksum_address"]


def checksum_address(address: bytes) -> str:
    """The EIP-55 form of an address: a letter is a capital where the hash of the digits has 8 or more."""
    digits = address.hex()
    nibbles = keccak256(digits.encode()).hex()[:40]
    return "0x" + "".join(
        digit.upper() if nibble > "7" else digit for digit, nibble in zip(digits, nibbles, strict=True)
    )
