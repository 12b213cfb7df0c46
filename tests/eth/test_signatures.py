"""Recovery and signing."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.examples import examples

from flashctl.eth.keccak import keccak256
from flashctl.eth.signatures import (
    ORDER,
    InvalidSignature,
    address_of_secret,
    recover_authority,
    recover_public_address,
    sign_authorization,
    sign_hash,
)
from flashctl.eth.transactions import Authorization

HASH = keccak256(b"message")
SECRET = b"\x11" * 32


def test_known_address() -> None:
    """The first account of the usual test mnemonic."""
    secret = bytes.fromhex("ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80")
    assert address_of_secret(secret).hex() == "f39fd6e51aad88f6f4ce6ab8827279cfffb92266"


@settings(max_examples=examples(30))
@given(st.integers(1, ORDER - 1), st.binary(min_size=32, max_size=32))
def test_what_is_signed_recovers(secret: int, message_hash: bytes) -> None:
    key = secret.to_bytes(32, "big")
    assert recover_public_address(message_hash, *sign_hash(message_hash, key)) == address_of_secret(key)


def test_malleated_and_out_of_range_signatures_are_refused() -> None:
    y_parity, r, s = sign_hash(HASH, SECRET)
    for parity, bad_r, bad_s in [
        (1 - y_parity, r, ORDER - s),
        (y_parity, 0, s),
        (y_parity, ORDER, s),
        (y_parity, r, 0),
        (2, r, s),
        (0, 5, s),
    ]:
        with pytest.raises(InvalidSignature):
            recover_public_address(HASH, parity, bad_r, bad_s)


def test_authority() -> None:
    auth = sign_authorization(901, b"\x01" * 20, 7, SECRET)
    assert recover_authority(auth) == address_of_secret(SECRET)
    assert recover_authority(Authorization(901, b"\x01" * 20, 7, 200, auth.r, auth.s)) is None
    assert recover_authority(Authorization(901, b"\x01" * 20, 7, auth.y_parity, 0, auth.s)) is None
