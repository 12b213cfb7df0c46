"""A transaction as it was read: what `reading` and `tx_formats` both return."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from flashctl.eth.transactions import Transaction

if TYPE_CHECKING:
    from flashctl.decode.tx_schema import Fault

__all__ = ["LAST_NONCE", "Reading", "Sidecar"]

LAST_NONCE: Final = 2**64 - 1
"""The nonce that no account reaches (EIP-2681)."""


class Sidecar(NamedTuple):
    """The blobs that travel beside a blob transaction."""

    form: str
    """`eip4844` or `eip7594`."""
    blobs: tuple[bytes, ...]
    commitments: tuple[bytes, ...]
    proofs: tuple[bytes, ...]

    def versioned_hashes(self) -> tuple[bytes, ...]:
        """What the transaction must name: 0x01 and the tail of each commitment's SHA-256 (EIP-4844)."""
        from hashlib import sha256

        return tuple(b"\x01" + sha256(commitment).digest()[1:] for commitment in self.commitments)


class Reading(NamedTuple):
    """A transaction and how it had to be read."""

    raw: bytes
    """The consensus encoding; what the hash is taken of."""
    tx: Transaction
    signed: bool = True
    """False when the bytes are those that a wallet signs."""
    faults: tuple[Fault, ...] = ()
    """Departures from the canonical encoding, in byte order; empty for bytes that a node accepts."""
    sidecar: Sidecar | None = None
