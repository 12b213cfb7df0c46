"""The names of transaction types."""

from __future__ import annotations

__all__ = ["TYPE_NAMES", "type_label"]

TYPE_NAMES = {
    0: "legacy",
    1: "eip2930",
    2: "eip1559",
    3: "eip4844",
    4: "eip7702",
    0x7D: "post-exec",
    0x7E: "deposit",
}
"""Type byte to the name users know. 0x7d (OP Stack Lagoon) is named although its content is not decoded."""


def type_label(type_byte: int) -> str:
    """`2 (eip1559)`; types without a decimal tradition keep hex."""
    number = f"{type_byte}" if type_byte < 0x10 else f"0x{type_byte:02x}"
    return f"{number} ({TYPE_NAMES.get(type_byte, 'unknown')})"
