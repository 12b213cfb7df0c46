"""DATA and QUANTITY, both ways."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashctl.errors import DataError
from flashctl.eth.hexdata import InvalidHex, parse_hex, parse_number, parse_quantity, quantity, to_hex


@given(st.binary(max_size=64))
def test_data_round_trips(data: bytes) -> None:
    assert parse_hex(to_hex(data)) == data
    assert parse_hex(to_hex(data), size=len(data)) == data


@given(st.integers(min_value=0, max_value=2**256 - 1))
def test_quantity_round_trips(value: int) -> None:
    assert parse_quantity(quantity(value)) == value


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("1234", "no 0x prefix"),
        ("0x123", "odd number of digits"),
        ("0x12zz", "'z' at position 2"),
        ("0x 1 2", "' ' at position 0|white space"),
        ("0x12 34 ", "white space|' '"),
    ],
)
def test_malformed_data_names_the_fault(text: str, reason: str) -> None:
    with pytest.raises(InvalidHex, match=reason):
        parse_hex(text)


@pytest.mark.parametrize(
    "text",
    [
        *("", "0x", "12", "0x-1", "0x+1", "-0x1", "0x1_0", "0x_1", "0x 1", " 0x1", "0x1\n"),
        *("0x\u0663", "0x\uff11", "0x" + "f" * 65),
    ],
)
def test_malformed_quantity(text: str) -> None:
    with pytest.raises(InvalidHex):
        parse_quantity(text)


@pytest.mark.parametrize("value", [None, 5, b"0x12", ["0x12"]])
def test_json_of_another_type_is_an_error_not_a_crash(value: object) -> None:
    for parse in (parse_hex, parse_quantity):
        with pytest.raises(DataError, match="expected a string"):
            parse(value)  # type: ignore[operator]


@given(st.text(max_size=8) | st.integers() | st.floats() | st.booleans() | st.none(), st.integers(0, 2**64))
def test_a_number_is_plain_digits_or_refused(value: object, most: int) -> None:
    try:
        number = parse_number(value, most=most)
    except DataError:
        return
    assert 0 <= number <= most
    assert value in (number, str(number)) or (isinstance(value, str) and value[:2].lower() == "0x")


@pytest.mark.parametrize("text", ["-1", "+1", "1_0", " 1", "1\n", "01", "", "1.0", "1e3", "\u0663", "9" * 79])
def test_decimal_digits_are_nothing_else(text: str) -> None:
    with pytest.raises(DataError):
        parse_number(text, most=2**256 - 1)


def test_numbers_are_bounded() -> None:
    assert (
        parse_number("255", most=255) == parse_number("0xff", most=255) == parse_number(255, most=255) == 255
    )
    for value in ("256", "0x100", 256, -1):
        with pytest.raises(DataError):
            parse_number(value, most=255)
    with pytest.raises(InvalidHex, match="over 255"):
        parse_quantity("0x100", most=255)


def test_leading_zeros_of_a_quantity_are_accepted() -> None:
    assert parse_quantity("0x00") == 0
    assert parse_quantity("0x0010") == 16


def test_wrong_size_says_both_sizes() -> None:
    with pytest.raises(InvalidHex, match="2 bytes, expected 20"):
        parse_hex("0x1234", size=20)


def test_long_input_is_shortened_in_the_message() -> None:
    with pytest.raises(InvalidHex) as caught:
        parse_hex("0x" + "zz" * 10_000)
    assert len(str(caught.value)) < 200
