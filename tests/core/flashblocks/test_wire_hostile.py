"""Any field of any dialect, made anything: a flashblock whose numbers are in bounds, or InvalidFlashblock."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.flashblocks import base_sepolia_block, rollup_boost_message
from support.hostile import HOSTILE_VALUES, dialects, mutations

from flashctl.core.flashblocks import wire
from flashctl.core.flashblocks.dialects import DIALECTS
from flashctl.core.flashblocks.sequence import Assembler
from flashctl.core.flashblocks.wire import MAX_INDEX, Flashblock, InvalidFlashblock
from flashctl.eth.hexdata import MAX_HEIGHT, MAX_TIMESTAMP, MAX_WORD


def check(text: bytes, assembler: Assembler) -> None:
    try:
        flashblock = wire.decode(text)
    except InvalidFlashblock as error:
        assert len(str(error)) < 300
        return
    assert 0 <= flashblock.index <= MAX_INDEX
    assert 0 <= flashblock.block_number <= MAX_HEIGHT
    for part, most in (("gas_used", MAX_HEIGHT), ("blob_gas_used", MAX_HEIGHT)):
        assert 0 <= (getattr(flashblock.diff, part) or 0) <= most
    if flashblock.base is not None:
        assert 0 <= flashblock.base.timestamp <= MAX_TIMESTAMP
        assert 0 <= flashblock.base.gas_limit <= MAX_HEIGHT
        assert 0 <= flashblock.base.base_fee_per_gas <= MAX_WORD
    assembler.feed(flashblock, 0)
    for dialect in DIALECTS.values():
        again = wire.decode(wire.encode(flashblock, dialect))
        assert (again.payload_id, again.index) == (flashblock.payload_id, flashblock.index)


@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize("dialect", list(dialects()))
def test_one_wrong_field(dialect: str, index: int) -> None:
    assembler = Assembler()
    for place, text in mutations(dialects(7, index)[dialect]):
        try:
            check(text, assembler)
        except Exception as error:
            raise AssertionError(f"{dialect} index {index}: {place}: {text[:2000]!r}") from error


def _values() -> st.SearchStrategy[Any]:
    return st.recursive(
        st.sampled_from(HOSTILE_VALUES) | st.text(max_size=8) | st.integers(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
        max_leaves=6,
    )


@given(st.data())
def test_several_wrong_fields(data: st.DataObject) -> None:
    samples = dialects(7, data.draw(st.sampled_from([0, 1])))
    message = samples[data.draw(st.sampled_from(sorted(samples)))]
    top = message["params"]["result"] if "params" in message else message
    for _ in range(data.draw(st.integers(1, 4))):
        holder = data.draw(st.sampled_from([top, *(part for part in top.values() if isinstance(part, dict))]))
        if holder:
            holder[data.draw(st.sampled_from(sorted(holder)))] = data.draw(_values())
    check(json.dumps(message).encode(), Assembler())


def test_recorded_messages_are_none_of_these() -> None:
    for message in [*base_sepolia_block(), rollup_boost_message()]:
        flashblock = wire.from_object(message)
        assert isinstance(flashblock, Flashblock) and {field.name for field in fields(flashblock)}
