"""What each field of each transaction type must look like, and which byte breaks the rule.

The tables repeat the EIPs (155, 2930, 1559, 4844, 7702 and the deposit type of the OP Stack specification,
`protocol/deposits.md`). They serve error messages and the repair of non-canonical input; the fast path of a
valid transaction never comes here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from flashctl.core.output import counted
from flashctl.decode.spans import Defect, Span, SpanError, encode_span, read_span

__all__ = ["Fault", "Repair", "inspect", "repair"]


class _Kind(Enum):
    UINT64 = "an integer of at most 8 bytes"
    UINT256 = "an integer of at most 32 bytes"
    PARITY = "0 or 1"
    ADDRESS = "20 bytes"
    TARGET = "0 or 20 bytes"
    HASH = "32 bytes"
    BYTES = "bytes"
    ACCESS_LIST = "a list of [address, storage keys]"
    AUTHORIZATIONS = "a list of authorizations"
    HASHES = "a list of 32-byte hashes"


_LEGACY = (
    ("nonce", _Kind.UINT64),
    ("gasPrice", _Kind.UINT256),
    ("gas", _Kind.UINT64),
    ("to", _Kind.TARGET),
    ("value", _Kind.UINT256),
    ("input", _Kind.BYTES),
    ("v", _Kind.UINT256),
    ("r", _Kind.UINT256),
    ("s", _Kind.UINT256),
)
_SIGNATURE = (("yParity", _Kind.PARITY), ("r", _Kind.UINT256), ("s", _Kind.UINT256))
_FEE_MARKET = (
    ("chainId", _Kind.UINT256),
    ("nonce", _Kind.UINT64),
    ("maxPriorityFeePerGas", _Kind.UINT256),
    ("maxFeePerGas", _Kind.UINT256),
    ("gas", _Kind.UINT64),
)
_BODY = (
    ("to", _Kind.TARGET),
    ("value", _Kind.UINT256),
    ("input", _Kind.BYTES),
    ("accessList", _Kind.ACCESS_LIST),
)
_ADDRESSED_BODY = (("to", _Kind.ADDRESS), *_BODY[1:])

_FIELDS: dict[int, tuple[tuple[str, _Kind], ...]] = {
    0: _LEGACY,
    1: (("chainId", _Kind.UINT256), *_LEGACY[:6], ("accessList", _Kind.ACCESS_LIST), *_SIGNATURE),
    2: (*_FEE_MARKET, *_BODY, *_SIGNATURE),
    3: (
        *_FEE_MARKET,
        *_ADDRESSED_BODY,
        ("maxFeePerBlobGas", _Kind.UINT256),
        ("blobVersionedHashes", _Kind.HASHES),
        *_SIGNATURE,
    ),
    4: (*_FEE_MARKET, *_ADDRESSED_BODY, ("authorizationList", _Kind.AUTHORIZATIONS), *_SIGNATURE),
    0x7E: (
        ("sourceHash", _Kind.HASH),
        ("from", _Kind.ADDRESS),
        ("to", _Kind.TARGET),
        ("mint", _Kind.UINT256),
        ("value", _Kind.UINT256),
        ("gas", _Kind.UINT64),
        ("isSystemTx", _Kind.PARITY),
        ("input", _Kind.BYTES),
    ),
}

_AUTHORIZATION = (
    ("chainId", _Kind.UINT256),
    ("address", _Kind.ADDRESS),
    ("nonce", _Kind.UINT64),
    ("yParity", _Kind.UINT64),
    ("r", _Kind.UINT256),
    ("s", _Kind.UINT256),
)


@dataclass(frozen=True, slots=True)
class Fault:
    """One rule that the bytes break, with the place."""

    message: str
    offset: int
    repairable: bool = False
    """True when the value is still unambiguous, so that a canonical re-encoding exists."""

    def __str__(self) -> str:
        return f"{self.message} at offset {self.offset}"


@dataclass(frozen=True, slots=True)
class Repair:
    """The canonical form of bytes that were readable but not canonical."""

    raw: bytes
    faults: tuple[Fault, ...]


def inspect(raw: bytes) -> list[Fault]:
    """Every rule of its type that a raw transaction breaks, in byte order; empty when it is well formed."""
    return _examine(raw)[1]


def repair(raw: bytes) -> Repair | None:
    """The canonical re-encoding of `raw`, or None when a fault hides the value."""
    span, faults = _examine(raw)
    if span is None or not faults or not all(fault.repairable for fault in faults):
        return None
    prefix = b"" if _is_legacy(raw) else raw[:1]
    return Repair(prefix + encode_span(span), tuple(faults))


def _is_legacy(raw: bytes) -> bool:
    return raw[0] >= 0xC0


def _examine(raw: bytes) -> tuple[Span | None, list[Fault]]:
    if not raw:
        return None, [Fault("no bytes at all", 0)]
    type_byte = 0 if _is_legacy(raw) else raw[0]
    fields = _FIELDS.get(type_byte)
    if fields is None or raw[:1] == b"\x00":
        return None, [Fault(f"unknown transaction type 0x{raw[0]:02x}", 0)]
    try:
        span, defects = read_span(raw, 0 if _is_legacy(raw) else 1)
    except SpanError as error:
        return None, [Fault(error.reason, error.offset)]
    if span.items is None:
        return None, [Fault("expected a list, got a byte string", span.offset)]
    faults = [_defect_fault(defect, span, fields) for defect in defects]
    if len(span.items) != len(fields):
        faults.append(_count_fault(span, fields))
    for number, (member, (name, kind)) in enumerate(zip(span.items, fields, strict=False)):
        faults += _check(member, kind, f"field {number} ({name})")
    return span, sorted(faults, key=lambda fault: fault.offset)


def _defect_fault(defect: Defect, span: Span, fields: Sequence[tuple[str, _Kind]]) -> Fault:
    """A defect of the encoding, named after the field it lies in."""
    where = ""
    for number, (member, (name, _)) in enumerate(zip(span.items or (), fields, strict=False)):
        if member.offset <= defect.offset < member.end:
            where = f"field {number} ({name}): "
    return Fault(where + defect.reason, defect.offset, repairable=True)


def _count_fault(span: Span, fields: Sequence[tuple[str, _Kind]]) -> Fault:
    items = span.items or []
    if len(items) < len(fields):
        return Fault(
            f"expected {counted(len(fields), 'field')}, got {len(items)}: {fields[len(items)][0]} is missing",
            span.end,
        )
    return Fault(f"expected {counted(len(fields), 'field')}, got {len(items)}", items[len(fields)].offset)


def _check(span: Span, kind: _Kind, where: str) -> list[Fault]:
    match kind:
        case _Kind.ACCESS_LIST:
            return _check_access_list(span, where)
        case _Kind.AUTHORIZATIONS:
            return _check_authorizations(span, where)
        case _Kind.HASHES:
            return _check_each(span, _Kind.HASH, where)
    if span.is_list:
        return [Fault(f"{where}: expected {kind.value}, got a list", span.offset)]
    return _check_bytes(span, kind, where)


def _check_bytes(span: Span, kind: _Kind, where: str) -> list[Fault]:
    size = len(span.data)
    sizes = {_Kind.ADDRESS: (20,), _Kind.TARGET: (0, 20), _Kind.HASH: (32,)}.get(kind)
    if sizes is not None and size not in sizes:
        return [Fault(f"{where}: expected {kind.value}, got {size}", span.payload_offset)]
    limit = {_Kind.UINT64: 8, _Kind.UINT256: 32, _Kind.PARITY: 1}.get(kind)
    if limit is None:
        return []
    faults = []
    if size and span.data[0] == 0:
        faults.append(Fault(f"{where}: leading zeros in an integer", span.payload_offset, repairable=True))
        span.data = span.data.lstrip(b"\x00")
        size = len(span.data)
    if size > limit:
        faults.append(Fault(f"{where}: expected {kind.value}, got {size}", span.payload_offset))
    elif kind is _Kind.PARITY and int.from_bytes(span.data, "big") > 1:
        faults.append(Fault(f"{where}: expected 0 or 1, got {span.data[0]}", span.payload_offset))
    return faults


def _check_each(span: Span, kind: _Kind, where: str) -> list[Fault]:
    if span.items is None:
        return [Fault(f"{where}: expected a list, got a byte string", span.offset)]
    return [
        fault
        for number, member in enumerate(span.items)
        for fault in _check(member, kind, f"{where}[{number}]")
    ]


def _check_access_list(span: Span, where: str) -> list[Fault]:
    if span.items is None:
        return [Fault(f"{where}: expected a list, got a byte string", span.offset)]
    faults: list[Fault] = []
    for number, entry in enumerate(span.items):
        place = f"{where}[{number}]"
        if entry.items is None or len(entry.items) != 2:
            faults.append(Fault(f"{place}: expected [address, storage keys]", entry.offset))
            continue
        faults += _check(entry.items[0], _Kind.ADDRESS, f"{place}.address")
        faults += _check_each(entry.items[1], _Kind.HASH, f"{place}.storageKeys")
    return faults


def _check_authorizations(span: Span, where: str) -> list[Fault]:
    if span.items is None:
        return [Fault(f"{where}: expected a list, got a byte string", span.offset)]
    faults: list[Fault] = []
    if not span.items:
        faults.append(Fault(f"{where}: expected at least one authorization", span.offset))
    for number, entry in enumerate(span.items):
        place = f"{where}[{number}]"
        if entry.items is None or len(entry.items) != len(_AUTHORIZATION):
            faults.append(Fault(f"{place}: expected {len(_AUTHORIZATION)} members", entry.offset))
            continue
        for member, (name, kind) in zip(entry.items, _AUTHORIZATION, strict=True):
            faults += _check(member, kind, f"{place}.{name}")
    return faults
