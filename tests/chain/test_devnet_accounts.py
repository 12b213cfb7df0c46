"""The listed accounts against their derivation (BIP-39, BIP-32, BIP-44)."""

from __future__ import annotations

import hashlib
import hmac

from coincurve import PrivateKey

from flashctl.chain.devnet_accounts import DEVNET_ACCOUNTS, DEVNET_MNEMONIC
from flashctl.eth.signatures import address_of_secret

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
HARDENED = 2**31


def child(key: int, chain_code: bytes, index: int) -> tuple[int, bytes]:
    secret = key.to_bytes(32, "big")
    parent = b"\x00" + secret if index >= HARDENED else PrivateKey(secret).public_key.format()
    digest = hmac.new(chain_code, parent + index.to_bytes(4, "big"), hashlib.sha512).digest()
    return (key + int.from_bytes(digest[:32], "big")) % ORDER, digest[32:]


def test_accounts_are_those_of_the_mnemonic() -> None:
    seed = hashlib.pbkdf2_hmac("sha512", DEVNET_MNEMONIC.encode(), b"mnemonic", 2048)
    digest = hmac.new(b"Bitcoin seed", seed, hashlib.sha512).digest()
    key, chain_code = int.from_bytes(digest[:32], "big"), digest[32:]
    for step in (HARDENED + 44, HARDENED + 60, HARDENED, 0):
        key, chain_code = child(key, chain_code, step)
    for index, account in enumerate(DEVNET_ACCOUNTS):
        assert child(key, chain_code, index)[0].to_bytes(32, "big") == account.secret
        assert address_of_secret(account.secret) == account.address
