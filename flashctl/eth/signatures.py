"""secp256k1 signatures of transactions and authorizations: recovery, and signing for tests and the devnet.

Recovery is the most expensive part of admitting a transaction (45 us of about 75), so it goes to
libsecp256k1 through coincurve's raw bindings, which also release the GIL: `op.envelope.recover_all` runs
it in threads. coincurve is imported at the first use, because 47 ms is half of the start-up budget of a
command that may never need it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Final

from flashctl.errors import DataError
from flashctl.eth.keccak import keccak256
from flashctl.eth.rlp import encode, int_to_bytes
from flashctl.eth.transactions import (
    Authorization,
    DepositTx,
    LegacyTx,
    SignedTransaction,
    Transaction,
    signing_hash,
)

__all__ = [
    "HALF_ORDER",
    "ORDER",
    "InvalidSignature",
    "address_of_public_key",
    "address_of_secret",
    "authorization_hash",
    "recover_authority",
    "recover_public_address",
    "recover_sender",
    "sign_authorization",
    "sign_hash",
    "sign_transaction",
]

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
"""The order of the curve's group; r and s are between 1 and this."""

HALF_ORDER = ORDER // 2
"""The largest s that is not malleable (EIP-2)."""

_AUTHORIZATION_MAGIC = b"\x05"
"""What an EIP-7702 authorization is hashed behind, so that it can never double as a transaction."""


class InvalidSignature(DataError):
    """No sender can be recovered from a signature."""

    reason: Final[str]

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"invalid transaction signature: {reason}")


def recover_sender(tx: Transaction) -> bytes:
    """The address that signed a transaction; the stated sender of a deposit.

    Raises:
        InvalidSignature: r or s out of range, a high s (EIP-2), or no point on the curve.
    """
    if isinstance(tx, DepositTx):
        return tx.sender
    return recover_public_address(signing_hash(tx), tx.y_parity, tx.r, tx.s)


def recover_public_address(message_hash: bytes, y_parity: int, r: int, s: int) -> bytes:
    """The address whose key signed `message_hash`.

    Raises:
        InvalidSignature: r or s out of range, a high s (EIP-2), or no point on the curve.
    """
    if not 0 < r < ORDER:
        raise InvalidSignature("r is out of range")
    if not 0 < s <= HALF_ORDER:
        raise InvalidSignature("s is out of range or in the upper half of the order (EIP-2)")
    if y_parity not in (0, 1):
        raise InvalidSignature("y parity is neither 0 nor 1")
    key = _recoverer()(message_hash, r.to_bytes(32, "big") + s.to_bytes(32, "big"), y_parity)
    if key is None:
        raise InvalidSignature("no point on the curve has this r")
    return keccak256(key)[12:]


def authorization_hash(chain_id: int, address: bytes, nonce: int) -> bytes:
    """What the authority of an EIP-7702 authorization signs."""
    return keccak256(_AUTHORIZATION_MAGIC + encode([int_to_bytes(chain_id), address, int_to_bytes(nonce)]))


def recover_authority(auth: Authorization) -> bytes | None:
    """The account that an authorization speaks for; None for an invalid signature, which execution skips."""
    try:
        message_hash = authorization_hash(auth.chain_id, auth.address, auth.nonce)
        return recover_public_address(message_hash, auth.y_parity, auth.r, auth.s)
    except InvalidSignature:
        return None


def sign_hash(message_hash: bytes, secret: bytes) -> tuple[int, int, int]:
    """Sign 32 bytes with a secret key: (y parity, r, s), low s, the nonce deterministic (RFC 6979)."""
    from coincurve import PrivateKey

    signature: bytes = PrivateKey(secret).sign_recoverable(message_hash, hasher=None)
    return signature[64], int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:64], "big")


def sign_transaction(
    tx: SignedTransaction, secret: bytes, *, chain_id: int | None = None
) -> SignedTransaction:
    """`tx` with its signature replaced by that of `secret`.

    Args:
        chain_id: For a legacy transaction, the chain to protect it for (EIP-155); without it, the chain
            that its `v` already names, or none.
    """
    if isinstance(tx, LegacyTx):
        chain = chain_id if chain_id is not None else tx.chain_id
        base = 27 if chain is None else 35 + 2 * chain
        unsigned = replace(tx, v=base)
        y_parity, r, s = sign_hash(signing_hash(unsigned), secret)
        return replace(tx, v=base + y_parity, r=r, s=s)
    y_parity, r, s = sign_hash(signing_hash(tx), secret)
    return replace(tx, y_parity=y_parity, r=r, s=s)


def sign_authorization(chain_id: int, address: bytes, nonce: int, secret: bytes) -> Authorization:
    """An EIP-7702 authorization by the owner of `secret`."""
    y_parity, r, s = sign_hash(authorization_hash(chain_id, address, nonce), secret)
    return Authorization(chain_id, address, nonce, y_parity, r, s)


def address_of_secret(secret: bytes) -> bytes:
    """The address of a secret key."""
    from coincurve import PrivateKey

    return address_of_public_key(PrivateKey(secret).public_key.format(compressed=False)[1:])


def address_of_public_key(key: bytes) -> bytes:
    """The address of an uncompressed public key, 64 bytes without its prefix."""
    return keccak256(key)[12:]


@cache
def _recoverer() -> Callable[[bytes, bytes, int], bytes | None]:
    """A function of (hash, r and s, parity) to the public key's 64 bytes, or None.

    The raw bindings skip the objects of coincurve's public interface: 16.4 k to 22 k recoveries a second.
    """
    from coincurve._libsecp256k1 import ffi, lib
    from coincurve.context import GLOBAL_CONTEXT

    context = GLOBAL_CONTEXT.ctx
    parse = lib.secp256k1_ecdsa_recoverable_signature_parse_compact
    recover = lib.secp256k1_ecdsa_recover
    serialize = lib.secp256k1_ec_pubkey_serialize
    uncompressed = lib.SECP256K1_EC_UNCOMPRESSED

    def recover_key(message_hash: bytes, r_and_s: bytes, y_parity: int) -> bytes | None:
        signature = ffi.new("secp256k1_ecdsa_recoverable_signature *")
        if not parse(context, signature, r_and_s, y_parity):
            return None
        key = ffi.new("secp256k1_pubkey *")
        if not recover(context, key, signature, message_hash):
            return None
        output = ffi.new("unsigned char[65]")
        size = ffi.new("size_t *", 65)
        serialize(context, output, size, key, uncompressed)
        serialized: bytes = ffi.buffer(output, 65)[1:]
        return serialized

    return recover_key
