"""The transaction types of the OP Stack as data, fields in the order of the encoding.

Addresses and hashes are `bytes`, amounts are wei as `int`. `transactions.py` turns them into bytes and back,
`signatures.py` finds and makes their signatures.

    LegacyTx         -     before EIP-2718; replay-protected when `v` names a chain (EIP-155)
    AccessListTx     0x01  EIP-2930
    FeeMarketTx      0x02  EIP-1559
    BlobTx           0x03  EIP-4844; decoded and executed by tests, never valid in an L2 block
    SetCodeTx        0x04  EIP-7702
    DepositTx        0x7e  OP Stack: forced by L1, unsigned, free of fees
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, TypeAlias

__all__ = [
    "AccessListEntry",
    "AccessListTx",
    "Authorization",
    "BlobTx",
    "DepositTx",
    "FeeMarketTx",
    "LegacyTx",
    "SetCodeTx",
    "SignedTransaction",
    "Transaction",
]


@dataclass(frozen=True, slots=True)
class AccessListEntry:
    """One address that a transaction announces, with storage slots of it (EIP-2930)."""

    address: bytes
    storage_keys: tuple[bytes, ...]
    """Slots, 32 bytes each."""


@dataclass(frozen=True, slots=True)
class Authorization:
    """One account's signed wish to run the code of `address` (EIP-7702)."""

    chain_id: int
    """The chain it is for; 0 is any."""
    address: bytes
    nonce: int
    y_parity: int
    r: int
    s: int


@dataclass(frozen=True, slots=True)
class LegacyTx:
    """A transaction from before typed transactions."""

    type_byte: ClassVar[int] = 0
    nonce: int
    gas_price: int
    """Wei per gas."""
    gas_limit: int
    to: bytes | None
    """The callee; None creates a contract."""
    value: int
    data: bytes
    v: int
    """27 or 28, or `35 + 2 * chain_id` (EIP-155) plus the parity of y."""
    r: int
    s: int

    @property
    def chain_id(self) -> int | None:
        """The chain that the signature commits to; None for one that is valid on every chain."""
        return (self.v - 35) >> 1 if self.v >= 35 else None

    @property
    def y_parity(self) -> int:
        """The parity of the y coordinate that recovery needs."""
        return (self.v - 27) & 1


@dataclass(frozen=True, slots=True)
class AccessListTx:
    """An EIP-2930 transaction."""

    type_byte: ClassVar[int] = 1
    chain_id: int
    nonce: int
    gas_price: int
    gas_limit: int
    to: bytes | None
    value: int
    data: bytes
    access_list: tuple[AccessListEntry, ...]
    y_parity: int
    r: int
    s: int


@dataclass(frozen=True, slots=True)
class FeeMarketTx:
    """An EIP-1559 transaction."""

    type_byte: ClassVar[int] = 2
    chain_id: int
    nonce: int
    max_priority_fee_per_gas: int
    max_fee_per_gas: int
    gas_limit: int
    to: bytes | None
    value: int
    data: bytes
    access_list: tuple[AccessListEntry, ...]
    y_parity: int
    r: int
    s: int


@dataclass(frozen=True, slots=True)
class BlobTx:
    """An EIP-4844 transaction in its canonical form, without the blobs."""

    type_byte: ClassVar[int] = 3
    chain_id: int
    nonce: int
    max_priority_fee_per_gas: int
    max_fee_per_gas: int
    gas_limit: int
    to: bytes
    value: int
    data: bytes
    access_list: tuple[AccessListEntry, ...]
    max_fee_per_blob_gas: int
    blob_hashes: tuple[bytes, ...]
    y_parity: int
    r: int
    s: int


@dataclass(frozen=True, slots=True)
class SetCodeTx:
    """An EIP-7702 transaction."""

    type_byte: ClassVar[int] = 4
    chain_id: int
    nonce: int
    max_priority_fee_per_gas: int
    max_fee_per_gas: int
    gas_limit: int
    to: bytes
    value: int
    data: bytes
    access_list: tuple[AccessListEntry, ...]
    authorizations: tuple[Authorization, ...]
    y_parity: int
    r: int
    s: int


@dataclass(frozen=True, slots=True)
class DepositTx:
    """A transaction that L1 forces upon the chain (OP Stack specs, protocol/deposits.md)."""

    type_byte: ClassVar[int] = 0x7E
    source_hash: bytes
    """What on L1 it stems from; makes the hash unique."""
    sender: bytes
    to: bytes | None
    mint: int
    """Wei created on L2 for the sender before execution."""
    value: int
    gas_limit: int
    is_system: bool
    """Exempt from the block's gas; false since Regolith."""
    data: bytes


SignedTransaction: TypeAlias = LegacyTx | AccessListTx | FeeMarketTx | BlobTx | SetCodeTx
Transaction: TypeAlias = SignedTransaction | DepositTx
