"""Transactions from bytes and to bytes, what is signed of them, and what they pay.

Decoding is on the hot path twice: every transaction that a builder admits and every one that a flashblock
carries. A type's fields are read in one pass by position; what each field may hold is checked where it is
converted, so a malformed transaction is refused with the name of the field and the byte where it starts.

Decoding refuses what no fork accepts as an encoding (EIP-2718, field widths, EIP-2681 nonces).
`check_transaction` adds the stateless rules that hold since Shanghai; what depends on a fork or on state
is for execution.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from flashctl.errors import DataError
from flashctl.eth.keccak import keccak256
from flashctl.eth.plain_transactions import decode_plain_fee_market
from flashctl.eth.rlp import (
    Item,
    RlpError,
    decode_list,
    decode_prefix,
    encode,
    encode_bytes,
    encode_uint,
    int_to_bytes,
    join_list,
)
from flashctl.eth.transaction_types import (
    AccessListEntry,
    AccessListTx,
    Authorization,
    BlobTx,
    DepositTx,
    FeeMarketTx,
    LegacyTx,
    SetCodeTx,
    SignedTransaction,
    Transaction,
)

__all__ = [
    "DEPOSIT_TYPE",
    "MAX_INITCODE_SIZE",
    "AccessListEntry",
    "AccessListTx",
    "Authorization",
    "BlobTx",
    "DepositTx",
    "FeeMarketTx",
    "InvalidTransaction",
    "LegacyTx",
    "SetCodeTx",
    "SignedTransaction",
    "Transaction",
    "check_transaction",
    "decode_transaction",
    "effective_gas_price",
    "encode_transaction",
    "max_fee",
    "priority_fee",
    "signing_hash",
    "transaction_hash",
]

DEPOSIT_TYPE = 0x7E

MAX_INITCODE_SIZE = 49_152
"""Bytes of a creation transaction's data, from Shanghai on (EIP-3860)."""

MAX_TRANSACTION_ITEMS = 250_000
"""Storage keys and addresses of the longest access list that 400 Mgas pay for, and some."""

_U64 = (1 << 64) - 1
_WORD = 32


class InvalidTransaction(DataError):
    """Bytes are not a transaction of a known type, or the transaction breaks a rule that needs no state."""

    reason: Final[str]
    offset: Final[int]
    """Where decoding stopped, counted from the type byte; 0 for a rule about the whole transaction."""

    def __init__(self, reason: str, offset: int = 0) -> None:
        self.reason = reason
        self.offset = offset
        super().__init__(f"invalid transaction: {reason}" + (f" (at byte {offset})" if offset else ""))


class _BadField(Exception):
    """A field's content is malformed; the caller adds the name of the field."""


def decode_transaction(raw: bytes) -> Transaction:
    """The transaction of one EIP-2718 encoding.

    Raises:
        InvalidTransaction: An unknown type, malformed RLP, or a field of the wrong width.
    """
    if not raw:
        raise InvalidTransaction("no bytes")
    type_byte = raw[0]
    if type_byte == 2 and (plain := decode_plain_fee_market(raw)) is not None:
        return plain
    try:
        if type_byte >= 0xC0:
            return _legacy(decode_list(raw, most=MAX_TRANSACTION_ITEMS))
        decoder = _DECODERS.get(type_byte)
        if decoder is None:
            raise InvalidTransaction(f"unknown transaction type 0x{type_byte:02x}")
        return decoder(decode_list(raw, 1, most=MAX_TRANSACTION_ITEMS))
    except _BadField as error:
        reason, offset = _locate(raw, error)
        raise InvalidTransaction(reason, offset) from None
    except RlpError as error:
        raise InvalidTransaction(error.reason, error.offset) from None


def encode_transaction(tx: Transaction) -> bytes:
    """The EIP-2718 encoding of a transaction."""
    match tx:
        case LegacyTx():
            return join_list([*_common(tx), encode_uint(tx.v), encode_uint(tx.r), encode_uint(tx.s)])
        case DepositTx():
            fields = [
                encode_bytes(tx.source_hash),
                encode_bytes(tx.sender),
                encode_bytes(tx.to or b""),
                encode_uint(tx.mint),
                encode_uint(tx.value),
                encode_uint(tx.gas_limit),
                encode_uint(int(tx.is_system)),
                encode_bytes(tx.data),
            ]
            return b"\x7e" + join_list(fields)
        case _:
            signature = [encode_uint(tx.y_parity), encode_uint(tx.r), encode_uint(tx.s)]
            return bytes((tx.type_byte,)) + join_list(_common(tx) + signature)


def transaction_hash(tx: Transaction) -> bytes:
    """The transaction hash. Where the raw bytes are available, `keccak256(raw)` is the same and cheaper."""
    return keccak256(encode_transaction(tx))


def signing_hash(tx: SignedTransaction) -> bytes:
    """What the sender signs: all but the signature; with the chain id, if a legacy one names it (EIP-155)."""
    fields = _common(tx)
    if isinstance(tx, LegacyTx):
        if tx.chain_id is not None:
            fields += [encode_uint(tx.chain_id), b"\x80", b"\x80"]
        return keccak256(join_list(fields))
    return keccak256(bytes((tx.type_byte,)) + join_list(fields))


def max_fee(tx: Transaction) -> int:
    """The most a transaction pays per gas, in wei; a deposit pays nothing."""
    match tx:
        case FeeMarketTx() | BlobTx() | SetCodeTx():
            return tx.max_fee_per_gas
        case LegacyTx() | AccessListTx():
            return tx.gas_price
        case DepositTx():
            return 0


def priority_fee(tx: Transaction, base_fee: int) -> int:
    """What is left per gas for the fee recipient; negative when the transaction does not cover `base_fee`."""
    match tx:
        case LegacyTx() | AccessListTx():
            return tx.gas_price - base_fee
        case DepositTx():
            return 0
        case _:
            return min(tx.max_priority_fee_per_gas, tx.max_fee_per_gas - base_fee)


def effective_gas_price(tx: Transaction, base_fee: int) -> int:
    """What a transaction pays per gas at `base_fee`, in wei (EIP-1559)."""
    match tx:
        case FeeMarketTx() | BlobTx() | SetCodeTx():
            return min(tx.max_fee_per_gas, base_fee + tx.max_priority_fee_per_gas)
        case LegacyTx() | AccessListTx():
            return tx.gas_price
        case DepositTx():
            return 0


def check_transaction(tx: Transaction, chain_id: int | None = None) -> None:
    """Apply the rules that need neither state nor fork: fee arithmetic, initcode size, chain id, list sizes.

    Raises:
        InvalidTransaction: With the rule that is broken.
    """
    if isinstance(tx, DepositTx):
        return
    if chain_id is not None and tx.chain_id is not None and tx.chain_id != chain_id:
        raise InvalidTransaction(f"invalid chain id: have {tx.chain_id}, want {chain_id}")
    if tx.to is None and len(tx.data) > MAX_INITCODE_SIZE:
        raise InvalidTransaction(
            f"max initcode size exceeded: {len(tx.data)} > {MAX_INITCODE_SIZE} (EIP-3860)"
        )
    if max_fee(tx) * tx.gas_limit >> 256:
        raise InvalidTransaction("gas limit times fee per gas exceeds 256 bits")
    if isinstance(tx, (FeeMarketTx, BlobTx, SetCodeTx)) and tx.max_priority_fee_per_gas > tx.max_fee_per_gas:
        raise InvalidTransaction(
            "max priority fee per gas higher than max fee per gas: "
            f"{tx.max_priority_fee_per_gas} > {tx.max_fee_per_gas}"
        )
    if isinstance(tx, BlobTx) and not tx.blob_hashes:
        raise InvalidTransaction("blob transaction without blobs")
    if isinstance(tx, SetCodeTx) and not tx.authorizations:
        raise InvalidTransaction("EIP-7702 transaction with an empty authorization list")


# ---- encoding ------------------------------------------------------------------------------------


def _common(tx: SignedTransaction) -> list[bytes]:
    """The encoded fields that come before the signature."""
    to = encode_bytes(tx.to) if tx.to is not None else b"\x80"
    call = [encode_uint(tx.gas_limit), to, encode_uint(tx.value), encode_bytes(tx.data)]
    if isinstance(tx, LegacyTx):
        return [encode_uint(tx.nonce), encode_uint(tx.gas_price), *call]
    head = [encode_uint(tx.chain_id), encode_uint(tx.nonce)]
    access_list = _encode_access_list(tx.access_list)
    if isinstance(tx, AccessListTx):
        return [*head, encode_uint(tx.gas_price), *call, access_list]
    fees = [encode_uint(tx.max_priority_fee_per_gas), encode_uint(tx.max_fee_per_gas)]
    fields = [*head, *fees, *call, access_list]
    if isinstance(tx, BlobTx):
        fields += [encode_uint(tx.max_fee_per_blob_gas), encode(tx.blob_hashes)]
    elif isinstance(tx, SetCodeTx):
        fields.append(join_list(map(_encode_authorization, tx.authorizations)))
    return fields


def _encode_access_list(entries: tuple[AccessListEntry, ...]) -> bytes:
    if not entries:
        return b"\xc0"
    return encode([[entry.address, list(entry.storage_keys)] for entry in entries])


def _encode_authorization(auth: Authorization) -> bytes:
    numbers = (auth.nonce, auth.y_parity, auth.r, auth.s)
    return encode([int_to_bytes(auth.chain_id), auth.address, *map(int_to_bytes, numbers)])


# ---- decoding ------------------------------------------------------------------------------------
# Each decoder converts all fields in one expression without per-field error handling; on failure
# `_locate` walks the fields again to name the culprit. Type 2 takes 10.7 us this way, on a core that hashes
# 1.0 M short inputs a second; most of them are spared it by `plain_transactions.py`.


def _uint(item: Item, width: int = _WORD) -> int:
    """A canonical integer of at most `width` bytes."""
    if len(item) > width or not isinstance(item, bytes):
        raise _BadField(
            "expected an integer" if isinstance(item, list) else f"integer wider than {width} bytes"
        )
    if item and item[0] == 0:
        raise _BadField("integer with leading zeros")
    return int.from_bytes(item, "big")


def _u64(item: Item) -> int:
    if len(item) > 8 or not isinstance(item, bytes):
        return _uint(item, 8)
    if item and item[0] == 0:
        raise _BadField("integer with leading zeros")
    return int.from_bytes(item, "big")


def _nonce(item: Item) -> int:
    value = _u64(item)
    if value == _U64:
        raise _BadField("nonce is 2^64 - 1, which no account can reach (EIP-2681)")
    return value


def _parity(item: Item) -> int:
    if item == b"":
        return 0
    if item == b"\x01":
        return 1
    raise _BadField("y parity is neither 0 nor 1")


def _address(item: Item) -> bytes:
    if isinstance(item, bytes) and len(item) == 20:
        return item
    raise _BadField(f"address is {_size_of(item)}, expected 20 bytes")


def _callee(item: Item) -> bytes | None:
    return None if item == b"" else _address(item)


def _bytes(item: Item) -> bytes:
    if isinstance(item, bytes):
        return item
    raise _BadField("expected bytes, found a list")


def _hash(item: Item) -> bytes:
    if isinstance(item, bytes) and len(item) == 32:
        return item
    raise _BadField(f"hash is {_size_of(item)}, expected 32 bytes")


def _list(item: Item) -> list[Item]:
    if isinstance(item, list):
        return item
    raise _BadField("expected a list")


def _fields(item: Item, count: int, what: str) -> list[Item]:
    fields = _list(item)
    if len(fields) != count:
        raise _BadField(f"{what} of {len(fields)} fields, expected {count}")
    return fields


def _size_of(item: Item) -> str:
    return f"{len(item)} bytes" if isinstance(item, bytes) else "a list"


def _legacy_v(item: Item) -> int:
    # 0 and 1 are what an unsigned or misconverted transaction carries; 29 to 34 were never assigned.
    value = _uint(item)
    if value < 35 and value not in (27, 28):
        raise _BadField(f"{value}, expected 27, 28 or 35 and more (EIP-155)")
    return value


def _hashes(item: Item) -> tuple[bytes, ...]:
    return tuple(_hash(entry) for entry in _list(item))


def _authorizations(item: Item) -> tuple[Authorization, ...]:
    return tuple(_authorization(entry) for entry in _list(item))


def _access_list(item: Item) -> tuple[AccessListEntry, ...]:
    if item == []:
        return ()
    return tuple(_access_entry(entry) for entry in _list(item))


def _access_entry(item: Item) -> AccessListEntry:
    address, keys = _fields(item, 2, "access list entry")
    return AccessListEntry(_address(address), _hashes(keys))


def _authorization(item: Item) -> Authorization:
    chain_id, address, nonce, y_parity, r, s = _fields(item, 6, "authorization")
    # A parity of up to 255 and a nonce of 2^64 - 1 decode: such an authorization is skipped by execution
    # (EIP-7702).
    return Authorization(
        _uint(chain_id), _address(address), _u64(nonce), _uint(y_parity, 1), _uint(r), _uint(s)
    )


def _legacy(items: list[Item]) -> LegacyTx:
    nonce, gas_price, gas, to, value, data, v, r, s = _expect(items, 9)
    return LegacyTx(
        _nonce(nonce), _uint(gas_price), _u64(gas), _callee(to), _uint(value), _bytes(data),
        _legacy_v(v), _uint(r), _uint(s),
    )  # fmt: skip


def _access_list_tx(items: list[Item]) -> AccessListTx:
    chain, nonce, price, gas, to, value, data, access, parity, r, s = _expect(items, 11)
    return AccessListTx(
        _u64(chain), _nonce(nonce), _uint(price), _u64(gas), _callee(to), _uint(value),
        _bytes(data), _access_list(access), _parity(parity), _uint(r), _uint(s),
    )  # fmt: skip


def _fee_market_tx(items: list[Item]) -> FeeMarketTx:
    chain, nonce, tip, fee, gas, to, value, data, access, parity, r, s = _expect(items, 12)
    return FeeMarketTx(
        _u64(chain), _nonce(nonce), _uint(tip), _uint(fee), _u64(gas), _callee(to), _uint(value),
        _bytes(data), _access_list(access), _parity(parity), _uint(r), _uint(s),
    )  # fmt: skip


def _blob_tx(items: list[Item]) -> BlobTx:
    chain, nonce, tip, fee, gas, to, value, data, access, blob_fee, hashes, parity, r, s = _expect(items, 14)
    return BlobTx(
        _u64(chain), _nonce(nonce), _uint(tip), _uint(fee), _u64(gas), _address(to), _uint(value),
        _bytes(data), _access_list(access), _uint(blob_fee), _hashes(hashes),
        _parity(parity), _uint(r), _uint(s),
    )  # fmt: skip


def _set_code_tx(items: list[Item]) -> SetCodeTx:
    chain, nonce, tip, fee, gas, to, value, data, access, auths, parity, r, s = _expect(items, 13)
    return SetCodeTx(
        _u64(chain), _nonce(nonce), _uint(tip), _uint(fee), _u64(gas), _address(to), _uint(value),
        _bytes(data), _access_list(access), _authorizations(auths),
        _parity(parity), _uint(r), _uint(s),
    )  # fmt: skip


def _deposit_tx(items: list[Item]) -> DepositTx:
    source, sender, to, mint, value, gas, is_system, data = _expect(items, 8)
    return DepositTx(
        _hash(source), _address(sender), _callee(to), _uint(mint), _uint(value), _u64(gas),
        bool(_parity(is_system)), _bytes(data),
    )  # fmt: skip


_DECODERS: dict[int, Callable[[list[Item]], Transaction]] = {
    1: _access_list_tx,
    2: _fee_market_tx,
    3: _blob_tx,
    4: _set_code_tx,
    DEPOSIT_TYPE: _deposit_tx,
}


def _expect(items: list[Item], count: int) -> list[Item]:
    if len(items) != count:
        raise _BadField(f"{len(items)} fields, expected {count}")
    return items


_Check: TypeAlias = Callable[[Item], object]
_CALL: list[tuple[str, _Check]] = [("gas limit", _u64), ("to", _callee), ("value", _uint), ("data", _bytes)]
_CHAIN: list[tuple[str, _Check]] = [("chain id", _u64), ("nonce", _nonce)]
_FEES: list[tuple[str, _Check]] = [("max priority fee", _uint), ("max fee", _uint)]
_ACCESS: list[tuple[str, _Check]] = [("access list", _access_list)]
_SIGNATURE: list[tuple[str, _Check]] = [("y parity", _parity), ("r", _uint), ("s", _uint)]
_FIELDS: dict[int, list[tuple[str, _Check]]] = {
    0: [("nonce", _nonce), ("gas price", _uint), *_CALL, ("v", _legacy_v), ("r", _uint), ("s", _uint)],
    1: [*_CHAIN, ("gas price", _uint), *_CALL, *_ACCESS, *_SIGNATURE],
    2: [*_CHAIN, *_FEES, *_CALL, *_ACCESS, *_SIGNATURE],
    3: [
        *_CHAIN, *_FEES, *_CALL, *_ACCESS, ("max blob fee", _uint), ("blob hashes", _hashes), *_SIGNATURE,
    ],
    4: [*_CHAIN, *_FEES, *_CALL, *_ACCESS, ("authorizations", _authorizations), *_SIGNATURE],
    DEPOSIT_TYPE: [
        ("source hash", _hash), ("sender", _address), ("to", _callee), ("mint", _uint), ("value", _uint),
        ("gas limit", _u64), ("is system", _parity), ("data", _bytes),
    ],
}  # fmt: skip
"""The fields of each type by name, for messages about malformed ones."""


def _locate(raw: bytes, error: _BadField) -> tuple[str, int]:
    """The first field that is malformed, with the reason, and where it starts in `raw`."""
    reason = str(error)
    start = 0 if raw[0] >= 0xC0 else 1
    items = decode_list(raw, start)
    fields = _FIELDS[raw[0] if start else 0]
    if len(items) != len(fields):
        return reason, start
    position = _payload_start(raw, start)
    for name, check in fields:
        item, end = decode_prefix(raw, position)
        try:
            check(item)
        except _BadField as fault:
            return f"{name}: {fault}", position
        position = end
    return reason, start


def _payload_start(raw: bytes, start: int) -> int:
    first = raw[start]
    return start + 1 if first < 0xF8 else start + 1 + first - 0xF7
