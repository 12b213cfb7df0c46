"""From raw bytes to a typed transaction, including the forms that are not a plain signed transaction.

Besides the consensus encoding people paste: a blob transaction with its sidecar as it travels between nodes
(EIP-4844 `[tx, blobs, commitments, proofs]`, EIP-7594 `[tx, version, blobs, commitments, cell_proofs]`),
the bytes that a wallet signs (no signature yet), an RLP string around a typed transaction (as block bodies
hold it), and encodings that a node refuses but a person can still read. `read_transaction` accepts them all
and says which one it was.
"""

from __future__ import annotations

from dataclasses import replace

from flashctl.decode.spans import Span, SpanError, encode_span, read_span
from flashctl.decode.tx_reading import LAST_NONCE, Reading, Sidecar
from flashctl.decode.tx_schema import Fault, inspect, repair
from flashctl.errors import DataError
from flashctl.eth.rlp import Item, RlpError, decode_list, encode, int_to_bytes
from flashctl.eth.transactions import DepositTx, InvalidTransaction, LegacyTx, decode_transaction

__all__ = ["Unreadable", "read_other_form"]

_UNSIGNED_FIELDS = {1: 8, 2: 9, 3: 11, 4: 10}
"""Fields of a typed transaction before its signature."""


class Unreadable(DataError):
    """The bytes are no transaction in any accepted form."""

    def __init__(self, fault: Fault, raw: bytes) -> None:
        super().__init__(str(fault))
        self.fault = fault
        self.offset = fault.offset
        self.raw = raw


def read_other_form(raw: bytes, refused: InvalidTransaction) -> Reading:
    """Read bytes that the strict decoder refused.

    Raises:
        Unreadable: With the first field and byte that cannot be understood.
    """
    for attempt in (_network_form, _unsigned_form, _last_nonce, _repaired):
        reading = attempt(raw)
        if reading is not None:
            return reading
    faults = inspect(raw)
    fault = next((fault for fault in faults if not fault.repairable), None)
    raise Unreadable(fault or Fault(refused.reason, refused.offset), raw) from None


# -- unsigned --------------------------------------------------------------------------------------


def _unsigned_form(raw: bytes) -> Reading | None:
    """The bytes a wallet signs: everything but the signature."""
    try:
        if raw[:1] >= b"\xc0":
            return _unsigned_legacy(decode_list(raw))
        items = decode_list(raw, 1) if raw and raw[0] in _UNSIGNED_FIELDS else []
        if items and len(items) == _UNSIGNED_FIELDS[raw[0]]:
            completed = raw[:1] + encode([*items, b"", b"", b""])
            return Reading(raw, decode_transaction(completed), signed=False)
    except (RlpError, InvalidTransaction):
        pass
    return None


def _unsigned_legacy(items: list[Item]) -> Reading | None:
    """Six fields, or nine that end in chain id and two empty strings (EIP-155)."""
    raw = encode(items)
    v = 27
    if len(items) == 9 and items[7:] == [b"", b""] and isinstance(items[6], bytes):
        v = 35 + 2 * int.from_bytes(items[6], "big")
    elif len(items) != 6:
        return None
    tx = decode_transaction(encode([*items[:6], int_to_bytes(v), b"", b""]))
    assert isinstance(tx, LegacyTx)
    return Reading(raw, tx, signed=False)


# -- a nonce that no account reaches ----------------------------------------------------------------


_LAST_NONCE = b"\xff" * 8


def _last_nonce(raw: bytes) -> Reading | None:
    """A transaction that EIP-2681 forbids for its nonce alone; what else it says can be shown."""
    if _LAST_NONCE not in raw:
        return None
    typed = raw[0] < 0xC0
    try:
        items = decode_list(raw, 1 if typed else 0)
        if len(items) <= typed or items[typed] != _LAST_NONCE:
            return None
        items[typed] = b"\xff" * 7 + b"\xfe"
        tx = decode_transaction((raw[:1] if typed else b"") + encode(items))
    except (RlpError, InvalidTransaction):
        return None
    return None if isinstance(tx, DepositTx) else Reading(raw, replace(tx, nonce=LAST_NONCE))


# -- blobs -----------------------------------------------------------------------------------------


def _network_form(raw: bytes) -> Reading | None:
    """A blob transaction with its sidecar."""
    if raw[:1] != b"\x03":
        return None
    try:
        span, _ = read_span(raw, 1)
    except SpanError:
        return None
    items = span.items
    if not items or not items[0].is_list:
        return None
    form, lists = ("eip4844", items[1:]) if len(items) == 4 else ("eip7594", items[2:])
    if len(lists) != 3 or not all(part.is_list for part in lists):
        raise Unreadable(
            Fault("a blob transaction with sidecar has 4 (EIP-4844) or 5 (EIP-7594) parts", span.offset), raw
        )
    if form == "eip7594" and items[1].data != b"\x01":
        raise Unreadable(Fault("unknown version of the blob sidecar, expected 1", items[1].offset), raw)
    canonical = b"\x03" + encode_span(items[0])
    try:
        tx = decode_transaction(canonical)
    except InvalidTransaction as error:
        shift = items[0].offset - 1
        raise Unreadable(Fault(error.reason, error.offset + shift), raw) from None
    sidecar = Sidecar(form, *(_strings(part, raw) for part in lists))
    return Reading(canonical, tx, sidecar=sidecar)


def _strings(span: Span, raw: bytes) -> tuple[bytes, ...]:
    for member in span.items or ():
        if member.is_list:
            raise Unreadable(Fault("expected bytes in the blob sidecar, got a list", member.offset), raw)
    return tuple(member.data for member in span.items or ())


# -- not canonical ---------------------------------------------------------------------------------


def _repaired(raw: bytes) -> Reading | None:
    mended = repair(raw)
    if mended is None:
        return None
    try:
        tx = decode_transaction(mended.raw)
    except InvalidTransaction:
        return None
    return Reading(mended.raw, tx, faults=mended.faults)
