"""A bare RLP item, as `cast from-rlp` shows it: nested lists of hex.

Read with the `rlp` package, whose import costs 173 ms: only this rarely used form pays for it.
"""

from __future__ import annotations

from typing import Any

from flashctl.decode.spans import read_span
from flashctl.decode.tx_report import Options, Report, report_transaction
from flashctl.errors import DataError

__all__ = ["report_item"]


def report_item(raw: bytes, options: Options) -> Report:
    """The structure of an RLP item; a string that holds a typed transaction is reported as that transaction.

    Raises:
        DataError: The bytes are not canonical RLP, or nested deeper than the reader goes.
    """
    read_span(raw)  # names the offset of broken structure, and bounds the depth before rlp recurses
    import rlp
    from rlp.exceptions import DecodingError

    try:
        item = rlp.decode(raw)
    except DecodingError as error:
        raise DataError(f"not canonical RLP: {error}") from None
    if isinstance(item, bytes) and item[:1] in (b"\x01", b"\x02", b"\x03", b"\x04", b"\x7e"):
        return report_transaction(item, options)
    return {"item": _hex(item), "flashctl": {"kind": "rlp"}}


def _hex(item: Any) -> Any:
    if isinstance(item, list | tuple):
        return [_hex(member) for member in item]
    return "0x" + bytes(item).hex()
