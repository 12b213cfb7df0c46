"""Keccak-256, the hash of everything in Ethereum.

Two libraries, one function. `safe-pysha3` (the `fast` extra) hashes 0.8-1.0 M short inputs a second,
`pycryptodome` 0.15-0.24 M; a quarter of the time of a state root is spent here, so the faster one is used
where it is installed. Python's own hashlib has SHA-3, whose padding differs: it is no substitute.
"""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["EMPTY_CODE_HASH", "KECCAK_LIBRARY", "keccak256"]


def _load() -> tuple[str, Callable[[bytes], bytes]]:
    try:
        from sha3 import keccak_256
    except ImportError:
        from Crypto.Hash import keccak

        new = keccak.new

        def portable(data: bytes) -> bytes:
            digest: bytes = new(digest_bits=256, data=data).digest()
            return digest

        return "pycryptodome", portable

    def fast(data: bytes) -> bytes:
        digest: bytes = keccak_256(data).digest()
        return digest

    return "safe-pysha3", fast


KECCAK_LIBRARY, keccak256 = _load()
"""The library in use, for `--version` and benchmarks; and the hash itself, 32 bytes of any byte string."""

EMPTY_CODE_HASH = keccak256(b"")
"""The code hash of an account without code."""
