"""A value of a million items is refused before anything of it is made."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashctl.errors import DataError
from flashctl.eth.blocks import decode_block
from flashctl.eth.receipts import decode_receipt
from flashctl.eth.rlp import MAX_ITEMS, Encodable, Item, RlpError, decode, decode_list, decode_prefix, encode
from flashctl.eth.transactions import InvalidTransaction, decode_transaction

FLAT = encode([b"\x01"] * 1_000_000)
NESTED = encode([[b"\x01"] * 1000] * 1000)
EMPTY_LISTS = encode([[]] * 1_000_000)
LONG_STRINGS = encode([b"x" * 10] * (MAX_ITEMS + 1))


@pytest.mark.parametrize("data", [FLAT, NESTED, EMPTY_LISTS, LONG_STRINGS])
def test_a_million_items(data: bytes) -> None:
    for read in (decode, decode_list, decode_prefix):
        with pytest.raises(RlpError, match="more than 500,000 items"):
            read(data)  # type: ignore[operator]


def test_refusing_takes_no_memory() -> None:
    for data in (FLAT, NESTED, EMPTY_LISTS):
        tracemalloc.start()
        with pytest.raises(RlpError, match="more than 2,000 items"):
            decode(data, most=2000)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 50_000


@pytest.mark.parametrize("data", [FLAT, NESTED])
def test_every_container_refuses_it(data: bytes) -> None:
    for read in (decode_transaction, decode_block, decode_receipt):
        with pytest.raises(DataError):
            read(data)  # type: ignore[operator]
        with pytest.raises(DataError):
            read(b"\x02" + data)  # type: ignore[operator]


def test_a_transaction_has_a_bound_of_its_own() -> None:
    key = b"\x01" * 32
    fields: list[Encodable] = [b"\x01", b"", b"", b"\x01", b"\x52\x08", b"\x01" * 20, b"", b""]
    signature: list[Encodable] = [b"", b"\x01", b"\x01"]
    for count, fits in ((1000, True), (260_000, False)):
        raw = b"\x02" + encode([*fields, [[b"\x01" * 20, [key] * count]], *signature])
        if fits:
            decode_transaction(raw)
        else:
            with pytest.raises(InvalidTransaction, match="items"):
                decode_transaction(raw)


ITEMS = st.recursive(st.binary(max_size=70), lambda inner: st.lists(inner, max_size=8), max_leaves=10)


def count(item: Item) -> int:
    return 1 if isinstance(item, bytes) else 1 + sum(map(count, item))


@given(st.lists(ITEMS, max_size=4))
def test_the_count_is_of_all_items(items: list[Item]) -> None:
    data = encode(items)
    inside = sum(map(count, items))
    assert decode_list(data, most=inside) == decode(data, most=inside) == items
    if inside:
        with pytest.raises(RlpError, match="items"):
            decode_list(data, most=inside - 1)


@given(st.binary(max_size=80))
def test_counting_changes_no_other_answer(data: bytes) -> None:
    def outcome(most: int) -> object:
        try:
            return decode(data, most=most)
        except RlpError as error:
            return None if "items" in error.reason else error.reason

    small, full = outcome(5), outcome(MAX_ITEMS)
    assert small is None or small == full
