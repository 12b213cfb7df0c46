"""Headers and blocks, and the constants that empty parts of them hash to.

A header's later fields are None before the fork that added them; the encoding ends at the first of them,
so a header of any fork round-trips. Transactions of a block stay raw bytes: most users of a block only
need them hashed or forwarded.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final

from flashctl.errors import DataError
from flashctl.eth.keccak import keccak256
from flashctl.eth.rlp import (
    EMPTY_LIST,
    Item,
    RlpError,
    decode_list,
    encode,
    encode_bytes,
    encode_uint,
    join_list,
)

__all__ = [
    "EMPTY_OMMERS_HASH",
    "EMPTY_REQUESTS_HASH",
    "EMPTY_TRIE_ROOT",
    "Block",
    "Header",
    "InvalidBlockEncoding",
    "Withdrawal",
    "decode_block",
    "decode_header",
    "encode_block",
    "encode_header",
    "encode_withdrawal",
    "header_hash",
]

EMPTY_OMMERS_HASH = keccak256(EMPTY_LIST)
EMPTY_TRIE_ROOT = keccak256(b"\x80")
EMPTY_REQUESTS_HASH = sha256(b"").digest()
"""The requests hash of a block without requests, which every L2 block is (EIP-7685)."""


class InvalidBlockEncoding(DataError):
    """Bytes are not the encoding of a header or block."""

    reason: Final[str]

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"invalid block: {reason}")


@dataclass(frozen=True, slots=True)
class Header:
    """A block header, fields in the order of its encoding."""

    parent_hash: bytes
    ommers_hash: bytes
    fee_recipient: bytes
    state_root: bytes
    transactions_root: bytes
    receipts_root: bytes
    logs_bloom: bytes
    difficulty: int
    number: int
    gas_limit: int
    gas_used: int
    timestamp: int
    """Seconds since 1970."""
    extra_data: bytes
    """EIP-1559 parameters since Holocene: 9 bytes; 17 with the minimum base fee since Jovian."""
    prev_randao: bytes
    nonce: bytes
    base_fee_per_gas: int | None = None
    """London, EIP-1559."""
    withdrawals_root: bytes | None = None
    """Shanghai; since Isthmus the storage root of L2ToL1MessagePasser."""
    blob_gas_used: int | None = None
    """Cancun; since Jovian the DA footprint of the block."""
    excess_blob_gas: int | None = None
    parent_beacon_block_root: bytes | None = None
    requests_hash: bytes | None = None
    """Prague, EIP-7685."""
    _hash: bytes | None = field(default=None, init=False, repr=False, compare=False)

    @property
    def hash(self) -> bytes:
        """The block's hash, computed at the first use."""
        known = self._hash
        if known is None:
            known = keccak256(encode_header(self))
            object.__setattr__(self, "_hash", known)
        return known


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """A withdrawal of the beacon chain (EIP-4895); L2 blocks have none, L1 test blocks do."""

    index: int
    validator_index: int
    address: bytes
    amount: int
    """Gwei."""


@dataclass(frozen=True, slots=True)
class Block:
    """A header with its transactions as raw EIP-2718 bytes."""

    header: Header
    transactions: tuple[bytes, ...]
    withdrawals: tuple[Withdrawal, ...] | None = ()
    """None before Shanghai (Canyon)."""

    @property
    def hash(self) -> bytes:
        """The hash of the header."""
        return self.header.hash

    @property
    def number(self) -> int:
        """The number in the header."""
        return self.header.number


def header_hash(header: Header) -> bytes:
    """The hash that names a block."""
    return header.hash


def encode_header(header: Header) -> bytes:
    """The RLP of a header, up to the last field its fork defines."""
    fields = [
        encode_bytes(header.parent_hash),
        encode_bytes(header.ommers_hash),
        encode_bytes(header.fee_recipient),
        encode_bytes(header.state_root),
        encode_bytes(header.transactions_root),
        encode_bytes(header.receipts_root),
        encode_bytes(header.logs_bloom),
        encode_uint(header.difficulty),
        encode_uint(header.number),
        encode_uint(header.gas_limit),
        encode_uint(header.gas_used),
        encode_uint(header.timestamp),
        encode_bytes(header.extra_data),
        encode_bytes(header.prev_randao),
        encode_bytes(header.nonce),
    ]
    for value in (
        header.base_fee_per_gas,
        header.withdrawals_root,
        header.blob_gas_used,
        header.excess_blob_gas,
        header.parent_beacon_block_root,
        header.requests_hash,
    ):
        if value is None:
            break
        fields.append(encode_uint(value) if isinstance(value, int) else encode_bytes(value))
    return join_list(fields)


def decode_header(raw: bytes) -> Header:
    """The header of one RLP encoding.

    Raises:
        InvalidBlockEncoding: Malformed RLP, or a field missing or of another shape.
    """
    try:
        return _header(decode_list(raw))
    except RlpError as error:
        raise InvalidBlockEncoding(str(error)) from None


def encode_block(block: Block) -> bytes:
    """The RLP of a block: header, transactions, no ommers, withdrawals."""
    transactions = join_list(raw if raw[0] >= 0xC0 else encode_bytes(raw) for raw in block.transactions)
    parts = [encode_header(block.header), transactions, EMPTY_LIST]
    if block.withdrawals is not None:
        parts.append(join_list(map(encode_withdrawal, block.withdrawals)))
    return join_list(parts)


def decode_block(raw: bytes) -> Block:
    """The block of one RLP encoding; its transactions are not looked into.

    Raises:
        InvalidBlockEncoding: Malformed RLP, or a part of another shape.
    """
    try:
        items = decode_list(raw)
    except RlpError as error:
        raise InvalidBlockEncoding(str(error)) from None
    match items:
        case [list(header), list(transactions), list(ommers)]:
            withdrawals = None
        case [list(header), list(transactions), list(ommers), list(entries)]:
            withdrawals = tuple(map(_withdrawal, entries))
        case _:
            raise InvalidBlockEncoding("expected a header, transactions, ommers and withdrawals")
    if ommers:
        raise InvalidBlockEncoding("has ommers")
    raws = tuple(item if isinstance(item, bytes) else encode(item) for item in transactions)
    return Block(_header(header), raws, withdrawals)


def encode_withdrawal(withdrawal: Withdrawal) -> bytes:
    """The RLP of one withdrawal, as it enters the withdrawals trie."""
    return join_list(
        (
            encode_uint(withdrawal.index),
            encode_uint(withdrawal.validator_index),
            encode_bytes(withdrawal.address),
            encode_uint(withdrawal.amount),
        )
    )


def _withdrawal(item: Item) -> Withdrawal:
    if not isinstance(item, list) or len(item) != 4:
        raise InvalidBlockEncoding("withdrawal is not four fields")
    index, validator, address, amount = item
    return Withdrawal(
        _uint(index, "withdrawal index"),
        _uint(validator, "validator index"),
        _fixed(address, 20, "withdrawal address"),
        _uint(amount, "withdrawal amount"),
    )


_MIN_FIELDS = 15
_MAX_FIELDS = 21


def _header(items: list[Item]) -> Header:
    if not _MIN_FIELDS <= len(items) <= _MAX_FIELDS:
        raise InvalidBlockEncoding(f"header of {len(items)} fields, expected {_MIN_FIELDS} to {_MAX_FIELDS}")
    later: list[Item | None] = [*items[_MIN_FIELDS:], *[None] * (_MAX_FIELDS - len(items))]
    base_fee, withdrawals_root, blob_gas_used, excess_blob_gas, beacon_root, requests_hash = later
    extra_data = items[12]
    if not isinstance(extra_data, bytes):
        raise InvalidBlockEncoding("header extra data is a list")
    return Header(
        parent_hash=_fixed(items[0], 32, "parent hash"),
        ommers_hash=_fixed(items[1], 32, "ommers hash"),
        fee_recipient=_fixed(items[2], 20, "fee recipient"),
        state_root=_fixed(items[3], 32, "state root"),
        transactions_root=_fixed(items[4], 32, "transactions root"),
        receipts_root=_fixed(items[5], 32, "receipts root"),
        logs_bloom=_fixed(items[6], 256, "logs bloom"),
        difficulty=_uint(items[7], "difficulty"),
        number=_uint(items[8], "number"),
        gas_limit=_uint(items[9], "gas limit"),
        gas_used=_uint(items[10], "gas used"),
        timestamp=_uint(items[11], "timestamp"),
        extra_data=extra_data,
        prev_randao=_fixed(items[13], 32, "prev randao"),
        nonce=_fixed(items[14], 8, "nonce"),
        base_fee_per_gas=None if base_fee is None else _uint(base_fee, "base fee"),
        withdrawals_root=None
        if withdrawals_root is None
        else _fixed(withdrawals_root, 32, "withdrawals root"),
        blob_gas_used=None if blob_gas_used is None else _uint(blob_gas_used, "blob gas used"),
        excess_blob_gas=None if excess_blob_gas is None else _uint(excess_blob_gas, "excess blob gas"),
        parent_beacon_block_root=None if beacon_root is None else _fixed(beacon_root, 32, "beacon root"),
        requests_hash=None if requests_hash is None else _fixed(requests_hash, 32, "requests hash"),
    )


def _fixed(item: Item, size: int, what: str) -> bytes:
    if not isinstance(item, bytes) or len(item) != size:
        raise InvalidBlockEncoding(f"{what} is not {size} bytes")
    return item


def _uint(item: Item, what: str) -> int:
    if not isinstance(item, bytes) or len(item) > 32 or item[:1] == b"\x00":
        raise InvalidBlockEncoding(f"{what} is not an integer")
    return int.from_bytes(item, "big")
