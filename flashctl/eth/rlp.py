"""RLP, Ethereum's serialisation: a byte string, or a list of items.

Our own codec because of its price elsewhere: the `rlp` package adds 173 ms to the start of a command and
decodes 82 k transactions a second; our decoders reach 245 k. The package is the oracle of the tests.

Decoding is strict: one encoding per value, so that a hash identifies a value. Encoding has two forms:
`encode` for whole items, and `encode_bytes` / `encode_list_payload` for code that joins parts already
encoded (trie nodes, block bodies).

Source: Yellow Paper, appendix B.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, TypeAlias

from flashctl.errors import DataError

__all__ = [
    "EMPTY_LIST",
    "EMPTY_STRING",
    "MAX_DEPTH",
    "Encodable",
    "Item",
    "RlpError",
    "decode",
    "decode_list",
    "decode_prefix",
    "encode",
    "encode_bytes",
    "encode_list_payload",
    "encode_pair",
    "encode_uint",
    "int_to_bytes",
    "join_list",
]

Item: TypeAlias = "bytes | list[Item]"
"""What decoding yields: a byte string or a list of items."""

Encodable: TypeAlias = "bytes | Sequence[Encodable]"
"""What encoding takes: the same, with any sequence for a list."""

EMPTY_STRING = b"\x80"
EMPTY_LIST = b"\xc0"

MAX_DEPTH = 256
"""Nested lists beyond this are refused.

Blocks nest five deep; unbounded depth would end in a RecursionError.
"""


MAX_ITEMS = 500_000
"""Items of one value beyond this are refused before the first of them is made: a list of sixteen million
single bytes, which fits one message, takes a gigabyte. A block of 400 Mgas holds 210,000 storage keys."""


class RlpError(DataError):
    """Bytes are not the one canonical RLP encoding of an item."""

    reason: Final[str]
    offset: Final[int]
    """Where the malformed item starts, counted from the first byte given."""

    def __init__(self, reason: str, offset: int) -> None:
        self.reason = reason
        self.offset = offset
        super().__init__(f"invalid RLP at byte {offset}: {reason}")


def int_to_bytes(value: int) -> bytes:
    """`value` in the fewest big-endian bytes; zero is no byte at all."""
    return value.to_bytes((value.bit_length() + 7) >> 3, "big")


def _header_of(size: int, short: int) -> bytes:
    """What comes before a payload of `size` bytes; `short` is 0x80 for strings, 0xc0 for lists."""
    if size < 56:
        return bytes((short + size,))
    length = int_to_bytes(size)
    return bytes((short + 55 + len(length),)) + length


_PREPARED = 640
"""Payload sizes whose headers are made beforehand; a full branch of a trie has 529 bytes. It takes a
tenth off a state root, and 0.3 ms at import."""

_STRING_HEADERS = [_header_of(size, 0x80) for size in range(_PREPARED)]
_LIST_HEADERS = [_header_of(size, 0xC0) for size in range(_PREPARED)]


def encode_bytes(data: bytes) -> bytes:
    """The encoding of one byte string."""
    size = len(data)
    if size == 1 and data[0] < 0x80:
        return data
    return (_STRING_HEADERS[size] if size < _PREPARED else _header_of(size, 0x80)) + data


def encode_uint(value: int) -> bytes:
    """The encoding of a non-negative integer: its fewest big-endian bytes as a string."""
    if 0 < value < 0x80:
        return bytes((value,))
    size = (value.bit_length() + 7) >> 3
    header = _STRING_HEADERS[size] if size < _PREPARED else _header_of(size, 0x80)
    return header + value.to_bytes(size, "big")


def encode_list_payload(payload: bytes) -> bytes:
    """The encoding of a list whose items are already encoded and joined in `payload`."""
    size = len(payload)
    return (_LIST_HEADERS[size] if size < _PREPARED else _header_of(size, 0xC0)) + payload


def encode_pair(first: bytes, second: bytes) -> bytes:
    """The encoding of a list of two byte strings, which is what a leaf of a trie is.

    In one expression where both need a header: the calls otherwise take a third of the time of a leaf's
    hash, and there is one leaf for everything that changes.
    """
    if 1 < len(first) < _PREPARED and 1 < len(second) < _PREPARED:
        payload = b"".join((_STRING_HEADERS[len(first)], first, _STRING_HEADERS[len(second)], second))
    elif len(first) == 1 and first < b"\x80" and 1 < len(second) < _PREPARED:
        # An empty path or one digit, as at nearly every leaf of a list of transactions or receipts.
        payload = b"".join((first, _STRING_HEADERS[len(second)], second))
    else:
        payload = encode_bytes(first) + encode_bytes(second)
    size = len(payload)
    return (_LIST_HEADERS[size] if size < _PREPARED else _header_of(size, 0xC0)) + payload


def encode(item: Encodable) -> bytes:
    """The encoding of a byte string, or of a list or tuple of items."""
    if isinstance(item, bytes):
        return encode_bytes(item)
    return encode_list_payload(b"".join(map(encode, item)))


def decode(data: bytes, *, most: int = MAX_ITEMS) -> Item:
    """The one item that `data` encodes, of at most `most` items.

    Raises:
        RlpError: Not canonical, cut short, followed by more bytes, or too many items.
    """
    item, end = decode_prefix(data, most=most)
    if end != len(data):
        raise RlpError(f"{len(data) - end} bytes follow the item", end)
    return item


def decode_prefix(data: bytes, start: int = 0, *, most: int = MAX_ITEMS) -> tuple[Item, int]:
    """The item that begins at `start`, of at most `most` items, and where it ends.

    Raises:
        RlpError: Not canonical, cut short, or too many items.
    """
    if start >= len(data):
        raise RlpError("no bytes", start)
    is_list, begin, end = _header(data, start, len(data))
    if not is_list:
        return data[begin:end], end
    if end - begin > most:
        _refuse_too_many(data, begin, end, most)
    return _items(data, begin, end, 1), end


def decode_list(data: bytes, start: int = 0, *, most: int = MAX_ITEMS) -> list[Item]:
    """The items of the list that fills `data` from `start` to its end, at most `most` with those of inner
    lists.

    Raises:
        RlpError: Not one canonical list, or too many items.
    """
    if start >= len(data):
        raise RlpError("no bytes", start)
    is_list, begin, end = _header(data, start, len(data))
    if not is_list:
        raise RlpError("expected a list", start)
    if end != len(data):
        raise RlpError(f"{len(data) - end} bytes follow the list", end)
    if end - begin > most:
        _refuse_too_many(data, begin, end, most)
    return _items(data, begin, end, 1)


def _refuse_too_many(data: bytes, position: int, end: int, most: int) -> None:
    """Count without making anything; an item takes a byte at least, so most lists need no counting.

    A malformed item ends the count; decoding it reports the error.
    """
    start, count = position, 0
    while position < end:
        count += 1
        if count > most:
            raise RlpError(f"more than {most:,} items", start)
        first = data[position]
        if first < 0x80:
            position += 1
        elif first < 0xB8:
            position += first - 0x7F
        elif first < 0xC0:
            width = first - 0xB7
            position += 1 + width + int.from_bytes(data[position + 1 : position + 1 + width], "big")
        else:
            position += 1 if first < 0xF8 else first - 0xF6  # and on with the items in it


def _items(data: bytes, position: int, end: int, depth: int) -> list[Item]:
    """The items between two positions. Short strings, most of what there is, take no call."""
    items: list[Item] = []
    append = items.append
    while position < end:
        first = data[position]
        if first < 0x80:
            append(data[position : position + 1])
            position += 1
        elif first < 0xB8:
            begin = position + 1
            stop = begin + first - 0x80
            if stop > end:
                raise RlpError("string runs past the end", position)
            if first == 0x81 and data[begin] < 0x80:
                raise RlpError("single byte with a length prefix", position)
            append(data[begin:stop])
            position = stop
        else:
            is_list, begin, stop = _header(data, position, end)
            if is_list:
                if depth >= MAX_DEPTH:
                    raise RlpError(f"lists nested deeper than {MAX_DEPTH}", position)
                append(_items(data, begin, stop, depth + 1))
            else:
                append(data[begin:stop])
            position = stop
    return items


def _header(data: bytes, position: int, limit: int) -> tuple[bool, int, int]:
    """Whether the item at `position` is a list, and where its payload begins and ends."""
    first = data[position]
    if first < 0x80:
        return False, position, position + 1
    is_list = first >= 0xC0
    short = first - (0xC0 if is_list else 0x80)
    begin = position + 1
    if short < 56:
        end = begin + short
    else:
        width = short - 55
        begin += width
        if begin > limit:
            raise RlpError("length runs past the end", position)
        if data[position + 1] == 0:
            raise RlpError("length with a leading zero", position)
        size = int.from_bytes(data[position + 1 : begin], "big")
        if size < 56:
            raise RlpError("long form for a short length", position)
        end = begin + size
    if end > limit:
        raise RlpError(f"{'list' if is_list else 'string'} runs past the end", position)
    if first == 0x81 and data[begin] < 0x80:
        raise RlpError("single byte with a length prefix", position)
    return is_list, begin, end


def join_list(parts: Iterable[bytes]) -> bytes:
    """The encoding of a list of parts that are already encoded."""
    return encode_list_payload(b"".join(parts))
