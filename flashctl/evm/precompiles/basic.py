"""The contracts of Frontier: ECRECOVER, SHA256, RIPEMD160 and IDENTITY (Yellow Paper, appendix E)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from typing import Final

from flashctl.eth.keccak import keccak256
from flashctl.evm.precompiles.contract import Precompile, PrecompileUnavailable, word_count

__all__ = ["ECRECOVER", "IDENTITY", "RIPEMD160", "SHA256"]

_V_OFFSET: Final = 27


def _ecrecover(data: bytes) -> bytes:
    """Hash, v, r, s as four words in; the padded address out, or nothing if no key made this signature.

    A high s is accepted here, unlike in a transaction's signature.
    """
    if len(data) < 128:
        data = data.ljust(128, b"\0")
    parity = int.from_bytes(data[32:64], "big") - _V_OFFSET
    if parity not in (0, 1):
        return b""
    key = _recoverer()(data[:32], data[64:128], parity)
    return b"" if key is None else keccak256(key)[12:].rjust(32, b"\0")


@cache
def _recoverer() -> Callable[[bytes, bytes, int], bytes | None]:
    """Public key of (hash, r and s, parity), through the C library's own functions.

    coincurve's objects cost a third more and its recovery insists on nothing else that is needed here.
    """
    try:
        from coincurve._libsecp256k1 import ffi, lib
        from coincurve.context import GLOBAL_CONTEXT
    except ImportError:
        raise PrecompileUnavailable("ecRecover", "coincurve") from None
    context = GLOBAL_CONTEXT.ctx

    def recover(message_hash: bytes, compact: bytes, parity: int) -> bytes | None:
        signature = ffi.new("secp256k1_ecdsa_recoverable_signature *")
        if not lib.secp256k1_ecdsa_recoverable_signature_parse_compact(context, signature, compact, parity):
            return None
        key = ffi.new("secp256k1_pubkey *")
        if not lib.secp256k1_ecdsa_recover(context, key, signature, message_hash):
            return None
        output, size = ffi.new("unsigned char[65]"), ffi.new("size_t *", 65)
        lib.secp256k1_ec_pubkey_serialize(context, output, size, key, lib.SECP256K1_EC_UNCOMPRESSED)
        return bytes(ffi.buffer(output, 65)[1:])

    return recover


def _sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


@cache
def _ripemd160_library() -> Callable[[bytes], bytes]:
    """hashlib has RIPEMD-160 only where OpenSSL loads its legacy provider; pycryptodome always does."""
    try:
        hashlib.new("ripemd160", b"")
    except ValueError:
        from Crypto.Hash import RIPEMD160 as portable

        return lambda data: bytes(portable.new(data).digest())
    return lambda data: hashlib.new("ripemd160", data).digest()


def _ripemd160(data: bytes) -> bytes:
    return _ripemd160_library()(data).rjust(32, b"\0")


ECRECOVER: Final = Precompile(0x01, "ecRecover", lambda data: 3000, _ecrecover)
SHA256: Final = Precompile(0x02, "sha256", lambda data: 60 + 12 * word_count(data), _sha256)
RIPEMD160: Final = Precompile(0x03, "ripemd160", lambda data: 600 + 120 * word_count(data), _ripemd160)
IDENTITY: Final = Precompile(0x04, "identity", lambda data: 15 + 3 * word_count(data), lambda data: data)
