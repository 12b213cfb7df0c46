"""Hex as Ethereum's JSON writes it: DATA (`0x` and two digits a byte) and QUANTITY (`0x` and no leading
zeros).

Both directions live here, so that every role reports a malformed value in the same words, and so that no
other module passes untrusted text to int(), which accepts signs, underscores, white space and the digits of
every script.
Parsing a quantity accepts leading zeros: the builders on the wire disagree about them (`0x00` is common in
flashblocks), and no value becomes ambiguous by accepting them.
"""

from __future__ import annotations

from typing import Final

from flashctl.errors import DataError

__all__ = [
    "MAX_HEIGHT",
    "MAX_QUANTITY_DIGITS",
    "MAX_TIMESTAMP",
    "MAX_U64",
    "MAX_WORD",
    "InvalidHex",
    "InvalidNumber",
    "parse_hex",
    "parse_number",
    "parse_quantity",
    "quantity",
    "to_hex",
]

MAX_QUANTITY_DIGITS = 64
"""A quantity is at most a 256-bit word; a longer one would only cost time to convert."""

MAX_U64: Final = 2**64 - 1
MAX_WORD: Final = 2**256 - 1

MAX_HEIGHT: Final = 2**63 - 1
"""Largest block number, and amount of gas: geth and SQLite hold both in signed 64 bits."""

MAX_TIMESTAMP: Final = 253_402_300_799
"""The last second of the year 9999: beyond it no calendar shows a time, and arithmetic on dates overflows."""

_DECIMAL_DIGITS: Final = 78
"""Of 2**256 - 1."""

_DIGITS = frozenset("0123456789abcdefABCDEF")


class InvalidHex(DataError):
    """A string is not the hex that its place asks for."""

    text: Final[str]
    """What was given, in full; the message shortens it."""

    def __init__(self, text: object, reason: str) -> None:
        self.text = text if isinstance(text, str) else repr(text)
        shown = self.text if len(self.text) <= 40 else f"{self.text[:24]}... ({len(self.text)} characters)"
        super().__init__(f"not a hex value: {shown!r}: {reason}")


class InvalidNumber(DataError):
    """A value is not the number that its place asks for."""

    def __init__(self, value: object, reason: str) -> None:
        shown = repr(value)
        shown = shown if len(shown) <= 40 else f"{shown[:24]}..."
        super().__init__(f"not a number: {shown}: {reason}")


def to_hex(data: bytes) -> str:
    """`data` as DATA: lower-case digits after `0x`."""
    return "0x" + data.hex()


def quantity(value: int) -> str:
    """`value` as QUANTITY: no leading zeros, zero is `0x0`."""
    return hex(value)


def parse_hex(text: str, *, size: int | None = None) -> bytes:
    """The bytes of a DATA string.

    Args:
        size: The number of bytes it must have, where its place fixes one.

    Raises:
        InvalidHex: No `0x` prefix, an odd number of digits, another character than a digit, or another size.
    """
    if not isinstance(text, str):
        raise InvalidHex(text, "expected a string")
    if text[:2] not in ("0x", "0X"):
        raise InvalidHex(text, "no 0x prefix")
    if len(text) % 2:
        raise InvalidHex(text, "odd number of digits")
    digits = text[2:]
    try:
        data = bytes.fromhex(digits)
    except ValueError:
        raise InvalidHex(text, _bad_digit(digits)) from None
    # bytes.fromhex skips white space, which JSON data never contains on purpose.
    if len(data) * 2 != len(digits):
        raise InvalidHex(text, "white space between digits")
    if size is not None and len(data) != size:
        raise InvalidHex(text, f"{len(data)} bytes, expected {size}")
    return data


def parse_quantity(text: str, *, most: int | None = None) -> int:
    """The number of a QUANTITY string, at most 256 bits.

    Args:
        most: The largest number that its place can hold.

    Raises:
        InvalidHex: No `0x` prefix, no digit, another character than a digit, more than 64 digits, or a number
            over `most`.
    """
    if not isinstance(text, str):
        raise InvalidHex(text, "expected a string")
    if text[:2] not in ("0x", "0X"):
        raise InvalidHex(text, "no 0x prefix")
    digits = text[2:]
    if not digits:
        raise InvalidHex(text, "no digits")
    if len(digits) > MAX_QUANTITY_DIGITS:
        raise InvalidHex(text, f"more than {MAX_QUANTITY_DIGITS} digits")
    if not _DIGITS.issuperset(digits):
        raise InvalidHex(text, _bad_digit(digits))
    number = int(digits, 16)
    if most is not None and number > most:
        raise InvalidHex(text, f"over {most}")
    return number


def parse_number(value: object, *, most: int) -> int:
    """A number as JSON of several makers writes it: an integer, its decimal digits in a string, or QUANTITY.

    Raises:
        InvalidNumber: Anything else: a sign, a fraction, leading zeros of decimal digits, or over `most`.
        InvalidHex: A malformed QUANTITY.
    """
    if isinstance(value, str):
        if value[:2] in ("0x", "0X"):
            return parse_quantity(value, most=most)
        is_decimal = value.isascii() and value.isdigit() and len(value) <= _DECIMAL_DIGITS
        if not is_decimal or (value[0] == "0" and len(value) > 1):
            raise InvalidNumber(value, "expected decimal digits, or 0x and hex digits")
        number = int(value)
    elif isinstance(value, int) and not isinstance(value, bool):
        number = value
    else:
        raise InvalidNumber(value, "expected an integer")
    if number < 0:
        raise InvalidNumber(value, "negative")
    if number > most:
        raise InvalidNumber(value, f"over {most}")
    return number


def _bad_digit(digits: str) -> str:
    for position, character in enumerate(digits):
        if character not in _DIGITS:
            return f"{character!r} at position {position} is not a hex digit"
    return "not hex digits"
