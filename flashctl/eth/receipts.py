"""Receipts: what a transaction left behind besides state, in the form that the receipts root commits to.

A deposit's receipt carries two more fields (OP Stack specs, protocol/deposits.md): since Regolith the
nonce of its sender, since Canyon a version that puts both into the hashed encoding.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields, make_dataclass
from functools import lru_cache
from typing import Any, Final

from flashctl.errors import DataError
from flashctl.eth.bloom import BLOOM_SIZE, EMPTY_BLOOM, bloom_bits
from flashctl.eth.rlp import (
    EMPTY_LIST,
    Item,
    RlpError,
    decode_list,
    encode_bytes,
    encode_list_payload,
    encode_uint,
)

__all__ = [
    "InvalidReceipt",
    "Log",
    "Receipt",
    "decode_receipt",
    "encode_log",
    "encode_receipt",
    "logs_bloom",
    "new_logs",
    "new_receipt",
]

_DEPOSIT_TYPE = 0x7E
_TOPIC_HEADERS = tuple(encode_list_payload(bytes(33 * count))[: -33 * count or None] for count in range(5))
"""What comes before the list of 0 to 4 topics, 33 bytes each."""

_BLOOM_HEADER = b"\xb9\x01\x00"
"""What comes before a string of 256 bytes."""

_KNOWN_TYPES = frozenset((1, 2, 3, 4, _DEPOSIT_TYPE))


class InvalidReceipt(DataError):
    """Bytes are not the encoding of a receipt."""

    reason: Final[str]

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"invalid receipt: {reason}")


@dataclass(frozen=True, slots=True)
class Log:
    """One event that a contract emitted."""

    address: bytes
    """The contract, 20 bytes."""
    topics: tuple[bytes, ...]
    """Up to four words; the first usually names the event."""
    data: bytes


def logs_bloom(logs: Iterable[Log]) -> bytes:
    """The filter of some logs, 256 bytes."""
    bits = 0
    for log in logs:
        bits |= bloom_bits(log.address)
        for topic in log.topics:
            bits |= bloom_bits(topic)
    return bits.to_bytes(BLOOM_SIZE, "big") if bits else EMPTY_BLOOM


@dataclass(frozen=True, slots=True)
class Receipt:
    """The consensus part of a receipt."""

    tx_type: int
    """The EIP-2718 type byte of the transaction; 0 for a legacy one."""
    succeeded: bool
    cumulative_gas_used: int
    """Gas of the block up to and including this transaction."""
    logs: tuple[Log, ...]
    deposit_nonce: int | None = None
    """The sender's nonce before a deposit, since Regolith."""
    deposit_receipt_version: int | None = None
    """1 since Canyon: the deposit nonce is part of the hashed encoding."""
    bloom: bytes = field(default=b"", compare=False)
    """The filter of the logs; computed when it is not given."""

    def __post_init__(self) -> None:
        if not self.bloom:
            object.__setattr__(self, "bloom", logs_bloom(self.logs))


def _draft_of(frozen: type) -> Any:
    """A class with the slots of a frozen one that is not frozen, so that an object can be filled as this and
    become that: half the time of the frozen constructor, which sets every field through `object`.
    """
    names = [each.name for each in fields(frozen)]
    return make_dataclass(f"{frozen.__name__}Draft", names, slots=True, eq=False, repr=False)


_LogDraft: Final[Any] = _draft_of(Log)
_ReceiptDraft: Final[Any] = _draft_of(Receipt)


def new_logs(entries: Iterable[tuple[int, Iterable[int], bytes]]) -> tuple[tuple[Log, ...], int]:
    """Logs from the numbers that the EVM works with, and the filter of all of them as a number.

    Args:
        entries: Address, topics and data of each.
    """
    logs: list[Log] = []
    bits = 0
    for address, topics, data in entries:
        emitter, mask = _entry(address, 20)
        bits |= mask
        words: list[bytes] = []
        for topic in topics:
            word, mask = _entry(topic, 32)
            bits |= mask
            words.append(word)
        log = _LogDraft(emitter, tuple(words), data)
        log.__class__ = Log
        logs.append(log)
    return tuple(logs), bits


@lru_cache(maxsize=16_384)
def _entry(number: int, size: int) -> tuple[bytes, int]:
    """An address or a topic as bytes, and its bits in the filter.

    Cached: a block of token transfers repeats the token's address and the event's name in every log, its
    holders from block to block. Both at once, because finding one by the other costs as much again.
    """
    entry = number.to_bytes(size, "big")
    return entry, bloom_bits(entry)


def new_receipt(
    tx_type: int,
    succeeded: bool,
    cumulative_gas_used: int,
    logs: tuple[Log, ...],
    bits: int,
    deposit_nonce: int | None,
    deposit_receipt_version: int | None,
) -> Receipt:
    """A receipt whose filter is already known as a number, from `new_logs`."""
    bloom = bits.to_bytes(BLOOM_SIZE, "big")
    receipt = _ReceiptDraft(
        tx_type, succeeded, cumulative_gas_used, logs, deposit_nonce, deposit_receipt_version, bloom
    )
    receipt.__class__ = Receipt
    return receipt  # type: ignore[no-any-return]


def encode_log(log: Log) -> bytes:
    """The RLP of one log.

    Address and topics have fixed sizes, so their headers are constants: a log takes 1.5 us instead of 7, and
    a block of token transfers has one in every receipt.
    """
    topics = log.topics
    encoded_topics = b"".join([b"\xa0" + topic for topic in topics])
    header = _TOPIC_HEADERS[len(topics)]
    return encode_list_payload(
        b"".join((b"\x94", log.address, header, encoded_topics, encode_bytes(log.data)))
    )


def encode_receipt(receipt: Receipt) -> bytes:
    """The EIP-2718 encoding, as it enters the receipts trie."""
    logs = receipt.logs
    payload = b"".join(
        (
            b"\x01" if receipt.succeeded else b"\x80",
            encode_uint(receipt.cumulative_gas_used),
            _BLOOM_HEADER,
            receipt.bloom,
            encode_list_payload(b"".join([encode_log(log) for log in logs])) if logs else EMPTY_LIST,
        )
    )
    if receipt.deposit_nonce is not None and receipt.deposit_receipt_version is not None:
        payload += encode_uint(receipt.deposit_nonce) + encode_uint(receipt.deposit_receipt_version)
    encoded = encode_list_payload(payload)
    return bytes((receipt.tx_type,)) + encoded if receipt.tx_type else encoded


def decode_receipt(raw: bytes) -> Receipt:
    """The receipt of one EIP-2718 encoding.

    Raises:
        InvalidReceipt: An unknown type, malformed RLP or a field of another shape.
    """
    if not raw:
        raise InvalidReceipt("no bytes")
    tx_type = 0 if raw[0] >= 0xC0 else raw[0]
    if tx_type and tx_type not in _KNOWN_TYPES:
        raise InvalidReceipt(f"unknown transaction type 0x{tx_type:02x}")
    try:
        items = decode_list(raw, 1 if tx_type else 0)
    except RlpError as error:
        raise InvalidReceipt(str(error)) from None
    # Between Regolith and Canyon a deposit's receipt has the nonce and no version; neither is hashed then.
    if len(items) != 4 and not (tx_type == _DEPOSIT_TYPE and len(items) in (5, 6)):
        raise InvalidReceipt(f"{len(items)} fields, expected 4")
    status, gas, bloom, logs = items[:4]
    if status not in (b"", b"\x01"):
        raise InvalidReceipt("status is neither 0 nor 1")
    if not isinstance(bloom, bytes) or len(bloom) != 256:
        raise InvalidReceipt("bloom is not 256 bytes")
    if not isinstance(logs, list):
        raise InvalidReceipt("logs are not a list")
    nonce = _uint(items[4]) if len(items) > 4 else None
    version = _uint(items[5]) if len(items) > 5 else None
    return Receipt(
        tx_type, status == b"\x01", _uint(gas), tuple(map(_log, logs)), nonce, version, bloom=bloom
    )


def _log(item: Item) -> Log:
    match item:
        case [bytes(address), list(topics), bytes(data)] if len(address) == 20:
            return Log(address, _topics(topics), data)
    raise InvalidReceipt("log is not an address, topics and data")


def _topics(items: Sequence[Item]) -> tuple[bytes, ...]:
    topics: list[bytes] = []
    for item in items:
        if not isinstance(item, bytes) or len(item) != 32:
            raise InvalidReceipt("topic is not 32 bytes")
        topics.append(item)
    return tuple(topics)


def _uint(item: Item) -> int:
    if not isinstance(item, bytes) or len(item) > 8 or item[:1] == b"\x00":
        raise InvalidReceipt("expected an integer of at most 8 bytes")
    return int.from_bytes(item, "big")
