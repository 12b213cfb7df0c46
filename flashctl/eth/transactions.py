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
from typing import Final

from flashctl.errors import DataError
from flashctl.eth.keccak import keccak256
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
    """A field's content is malformed; the caller knows which field it was."""


def decode_transaction(raw: bytes) -> Transaction:
    """The transaction of one EIP-2718 encoding.

    Raises:
        InvalidTransaction: An unknown type, malformed RLP, or a field of the wrong width.
    """
    if not raw:
        raise InvalidTransaction("no bytes")
    type_byte = raw[0]
    try:
        if type_byte >= 0xC0:
            return _legacy(decode_list(raw))
        decoder = _DECODERS.get(type_byte)
        if decoder is None:
            raise InvalidTransaction(f"unknown transaction type 0x{type_byte:02x}")
        return decoder(decode_list(raw, 1))
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
    """The hash that names a transaction; of raw bytes at hand, `keccak256(raw)` is the same and cheaper."""
    return keccak256(encode_transaction(tx))


def signing_hash(tx: SignedTransaction) -> bytes:
    """What the sender signs: everything but the signature (EIP-155 for a legacy transaction that names a
    chain).
    """
    fields = _common(tx)
    if isinstance(tx, LegacyTx):
        if tx.chain_id is not None:
            fields += [encode_uint(tx.chain_id), b"\x80", b"\x80"]
        return keccak256(join_list(fields))
    return keccak256(bytes((tx.type_byte,)) + join_list(fields))


def max_fee(tx: Transaction) -> int:
    """The most a transaction pays per gas, in wei; a deposit pays nothing."""
    match tx:
        case LegacyTx() | AccessListTx():
            return tx.gas_price
        case DepositTx():
            return 0
        case _:
            return tx.max_fee_per_gas


def priority_fee(tx: Transaction, base_fee: int) -> int:
    """What is left per gas for the fee recipient at `base_fee`; negative when the transaction does not
    cover it.
    """
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
        case LegacyTx() | AccessListTx():
            return tx.gas_price
        case DepositTx():
            return 0
        case _:
            return min(tx.max_fee_per_gas, base_fee + tx.max_priority_fee_per_gas)


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
# `_locate` walks the fields again to name the culprit. That keeps a good type-2 transaction under 4 us.


def _uint(item: Item, width: int = _WORD) -> int:
    """A canonical integer of at most `width` bytes."""
    if len(item) > width or not isinstance(item, bytes):
        raise _BadField(
            "expected an integer" if isinstance(item, list) else f"integer wider than {width} bytes", item
        )
    if item and item[0] == 0:
        raise _BadField("integer with leading zeros", item)
    return int.from_bytes(item, "big")


def _u64(item: Item) -> int:
    if len(item) > 8 or not isinstance(item, bytes):
        return _uint(item, 8)
    if item and item[0] == 0:
        raise _BadField("integer with leading zeros", item)
    return int.from_bytes(item, "big")


def _nonce(item: Item) -> int:
    value = _u64(item)
    if value == _U64:
        raise _BadField("nonce is 2^64 - 1, which no account can reach (EIP-2681)", item)
    return value


def _parity(item: Item) -> int:
    if item == b"":
        return 0
    if item == b"\x01":
        return 1
    raise _BadField("y parity is neither 0 nor 1", item)


def _address(item: Item) -> bytes:
    if isinstance(item, bytes) and len(item) == 20:
        return item
    raise _BadField(f"address is {_size_of(item)}, expected 20 bytes", item)


def _callee(item: Item) -> bytes | None:
    return None if item == b"" else _address(item)


def _bytes(item: Item) -> bytes:
    if isinstance(item, bytes):
        return item
    raise _BadField("expected bytes, found a list", item)


def _hash(item: Item) -> bytes:
    if isinstance(item, bytes) and len(item) == 32:
        return item
    raise _BadField(f"hash is {_size_of(item)}, expected 32 bytes", item)


def _list(item: Item) -> list[Item]:
    if isinstance(item, list):
        return item
    raise _BadField("expected a list", item)


def _fields(item: Item, count: int, what: str) -> list[Item]:
    fields = _list(item)
    if len(fields) != count:
        raise _BadField(f"{what} of {len(fields)} fields, expected {count}", item)
    return fields


def _size_of(item: Item) -> str:
    return f"{len(item)} bytes" if isinstance(item, bytes) else "a list"


def _access_list(item: Item) -> tuple[AccessListEntry, ...]:
    if item == []:
        return ()
    return tuple(_access_entry(entry) for entry in _list(item))


def _access_entry(item: Item) -> AccessListEntry:
    address, keys = _fields(item, 2, "access list entry")
    return AccessListEntry(_address(address), tuple(_hash(key) for key in _list(keys)))


def _authorization(item: Item) -> Authorization:
    chain_id, address, nonce, y_parity, r, s = _fields(item, 6, "authorization")
    # A parity of up to 255 and a nonce of 2^64 - 1 decode: such an authorization is skipped by execution
    # (EIP-7702).
    return Authorization(
        _uint(chain_id), _address(address), _u64(nonce), _uint(y_parity, 1), _uint(r), _uint(s)
    )


def _legacy(items: list[Item]) -> LegacyTx:
    nonce, gas_price, gas, to, value, data, v, r, s = _expect(items, 9)
    tx = LegacyTx(
        _nonce(nonce),
        _uint(gas_price),
        _u64(gas),
        _callee(to),
        _uint(value),
        _bytes(data),
        _uint(v),
        _uint(r),
        _uint(s),
    )
    # 0 and 1 are what an unsigned or misconverted transaction carries; nothing between 28 and 35 was ever
    # assigned.
    if tx.v not in (27, 28) and tx.v < 35:
        raise _BadField(f"v is {tx.v}, expected 27, 28 or 35 and more (EIP-155)", v)
    return tx


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
        _bytes(data), _access_list(access), _uint(blob_fee), tuple(_hash(entry) for entry in _list(hashes)),
        _parity(parity), _uint(r), _uint(s),
    )  # fmt: skip


def _set_code_tx(items: list[Item]) -> SetCodeTx:
    chain, nonce, tip, fee, gas, to, value, data, access, auths, parity, r, s = _expect(items, 13)
    return SetCodeTx(
        _u64(chain), _nonce(nonce), _uint(tip), _uint(fee), _u64(gas), _address(to), _uint(value),
        _bytes(data), _access_list(access), tuple(_authorization(entry) for entry in _list(auths)),
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
        raise _BadField(f"{len(items)} fields, expected {count}", None)
    return items


_BEFORE_DATA = {
    0: ("nonce", "gas price", "gas limit", "to", "value", "data", "v", "r", "s"),
    1: ("chain id", "nonce", "gas price", "gas limit", "to", "value", "data", "access list"),
    DEPOSIT_TYPE: ("source hash", "sender", "to", "mint", "value", "gas limit", "is system", "data"),
}
_FEE_MARKET_FIELDS = (
    "chain id", "nonce", "max priority fee", "max fee", "gas limit", "to", "value", "data", "access list",
)  # fmt: skip
_FIELD_NAMES = {
    **_BEFORE_DATA,
    1: (*_BEFORE_DATA[1], "y parity", "r", "s"),
    2: (*_FEE_MARKET_FIELDS, "y parity", "r", "s"),
    3: (*_FEE_MARKET_FIELDS, "max blob fee", "blob hashes", "y parity", "r", "s"),
    4: (*_FEE_MARKET_FIELDS, "authorizations", "y parity", "r", "s"),
}


def _locate(raw: bytes, error: _BadField) -> tuple[str, int]:
    """The reason with the name of its field, and where that field starts in `raw`.

    The culprit inside a nested list is reported at the field that holds the list.
    """
    reason, culprit = error.args
    type_byte = raw[0] if raw[0] < 0xC0 else 0
    if culprit is None:
        return reason, 0
    start = 0 if type_byte == 0 else 1
    position = _payload_start(raw, start)
    for name in _FIELD_NAMES[type_byte]:
        item, end = decode_prefix(raw, position)
        if _holds(item, culprit):
            return f"{name}: {reason}", position
        position = end
    return reason, 0


def _payload_start(raw: bytes, start: int) -> int:
    first = raw[start]
    return start + 1 if first < 0xF8 else start + 1 + first - 0xF7


def _holds(item: Item, culprit: Item) -> bool:
    return item == culprit or (isinstance(item, list) and any(_holds(child, culprit) for child in item))
