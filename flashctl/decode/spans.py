"""A forgiving RLP reader that remembers where every item came from.

The strict decoder of `eth.rlp` answers "is this canonical?" quickly and stops at the first wrong byte. A
person who holds a rejected transaction wants the opposite: read as much as can be read, and say which byte
is wrong. So this reader accepts the encodings that are unambiguous but not canonical (a length with leading
zeros, a long form for a short item, a prefixed single byte), notes each as a `Defect`, and gives up only
where the structure itself is lost. It runs only when the strict decoder has refused the bytes, so it is
written for its messages and not for speed.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from flashctl.core.output import counted
from flashctl.errors import DataError

__all__ = ["MAX_DEPTH", "Defect", "Span", "SpanError", "encode_span", "read_span"]

MAX_DEPTH = 64
"""Nesting at which reading stops. No consensus object is nested deeper than six lists; Python's own limit
is near 1,000."""


class SpanError(DataError):
    """The bytes have no RLP structure that could be read."""

    def __init__(self, reason: str, offset: int) -> None:
        super().__init__(f"{reason} at offset {offset}")
        self.reason = reason
        self.offset = offset


@dataclass(frozen=True, slots=True)
class Defect:
    """One departure from the canonical encoding that does not hide the value."""

    offset: int
    """Position of the wrong byte in the bytes that the user gave."""
    reason: str


@dataclass(slots=True)
class Span:
    """One RLP item and the place it was read from."""

    offset: int
    """Where the item's prefix begins."""
    payload_offset: int
    """Where its content begins; equal to `offset` for a single byte that is its own encoding."""
    end: int
    data: bytes = b""
    """The content of a byte string; empty for a list."""
    items: list[Span] | None = None
    """The members of a list; None for a byte string."""

    @property
    def is_list(self) -> bool:
        return self.items is not None


@dataclass(slots=True)
class _Reader:
    data: bytes
    defects: list[Defect] = field(default_factory=list)

    def item(self, at: int, limit: int, depth: int) -> Span:
        if at >= limit:
            raise SpanError("the data ends where an item should begin", at)
        if depth > MAX_DEPTH:
            raise SpanError(f"lists are nested deeper than {MAX_DEPTH}", at)
        prefix = self.data[at]
        if prefix < 0x80:
            return Span(at, at, at + 1, self.data[at : at + 1])
        is_list = prefix >= 0xC0
        start, length = self._extent(at, prefix - (0xC0 if is_list else 0x80), limit)
        end = start + length
        if end > limit:
            raise SpanError(
                f"an item of {counted(length, 'byte')} runs {end - limit} past the end of its container", at
            )
        if is_list:
            return Span(at, start, end, items=self._members(start, end, depth))
        if length == 1 and self.data[start] < 0x80:
            self.defects.append(Defect(at, f"byte 0x{self.data[start]:02x} must be its own encoding"))
        return Span(at, start, end, self.data[start:end])

    def _extent(self, at: int, kind: int, limit: int) -> tuple[int, int]:
        """Where the content of the item at `at` starts, and its length."""
        if kind <= 55:
            return at + 1, kind
        size = kind - 55
        start = at + 1 + size
        if start > limit:
            raise SpanError("the data ends inside a length", at)
        length_bytes = self.data[at + 1 : start]
        length = int.from_bytes(length_bytes, "big")
        if length_bytes[0] == 0:
            self.defects.append(Defect(at + 1, "a length has leading zeros"))
        if length <= 55:
            self.defects.append(Defect(at, f"a length of {length} must use the short form"))
        return start, length

    def _members(self, start: int, end: int, depth: int) -> list[Span]:
        members = []
        at = start
        while at < end:
            member = self.item(at, end, depth + 1)
            members.append(member)
            at = member.end
        return members


def read_span(data: bytes, start: int = 0) -> tuple[Span, list[Defect]]:
    """Read the item at `start`; bytes left over after it are a defect too.

    Raises:
        SpanError: If lengths contradict each other, so that no structure can be read.
    """
    reader = _Reader(data)
    span = reader.item(start, len(data), 0)
    if span.end != len(data):
        reader.defects.append(Defect(span.end, f"{len(data) - span.end} bytes follow the end of the item"))
    return span, reader.defects


def encode_span(span: Span) -> bytes:
    """The canonical encoding of what was read."""
    if span.items is not None:
        return _prefixed(b"".join(map(encode_span, span.items)), 0xC0)
    if len(span.data) == 1 and span.data[0] < 0x80:
        return span.data
    return _prefixed(span.data, 0x80)


def _prefixed(payload: bytes, base: int) -> bytes:
    if len(payload) <= 55:
        return bytes((base + len(payload),)) + payload
    length = len(payload).to_bytes((len(payload).bit_length() + 7) // 8, "big")
    return bytes((base + 55 + len(length),)) + length + payload
