"""No input makes decode fail in a way nobody foresaw: there is a report, or an error that is one line."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from support.decode_lab import every_type

from flashctl.decode.engine import Engine
from flashctl.decode.facts import Options, report_transaction
from flashctl.decode.render import Style, TextPresenter
from flashctl.eth.rlp import encode

RAWS = list(every_type().values())
OPTIONS = Options()

rlp_items = st.recursive(
    st.binary(max_size=40), lambda members: st.lists(members, max_size=12), max_leaves=40
)
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=20)
    | st.binary(max_size=8).map(lambda data: "0x" + data.hex()),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(
        st.sampled_from([
            "payload_id", "index", "base", "diff", "metadata", "transactions", "gas_used", "result",
            "params", "method", "t", "d", "raw", "v", "event", "data", "nonce", "gas", "type", "logs",
            "topics", "address",
            "parentHash", "stateRoot", "transactionsRoot", "blockHash", "feeRecipient", "status", "hash",
            "baseFeePerGas", "extraData", "input", "value", "sourceHash", "executionPayload",
            "flashctl",
        ]),
        inner, max_size=8,
    ),
    max_leaves=12,
)  # fmt: skip


def survive(line: str) -> None:
    """Decode and lay out a line; whatever it is, that must end well."""
    presenter = TextPresenter(Style(80, True), full=True)
    for report in Engine(OPTIONS).line(line, 1):
        json.dumps(report)
        if "error" in report:
            assert "\n" not in report["error"]["message"]
        for text in presenter.show(report):
            assert "\x1b[2J" not in text
    list(presenter.finish())


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    survive("0x" + data.hex())


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([b"", b"\x01", b"\x02", b"\x03", b"\x04", b"\x7e"]), rlp_items)
def test_any_rlp_of_any_type(prefix: bytes, item: Any) -> None:
    survive("0x" + (prefix + encode(item)).hex())


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(RAWS), st.data())
def test_any_damage_to_a_real_transaction(raw: bytes, data: st.DataObject) -> None:
    position = data.draw(st.integers(0, len(raw) - 1))
    cut = data.draw(st.integers(0, 3))
    insert = data.draw(st.binary(max_size=3))
    survive("0x" + (raw[:position] + insert + raw[position + cut :]).hex())


@settings(max_examples=200, deadline=None)
@given(json_values)
def test_any_json(value: Any) -> None:
    survive(json.dumps(value))


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=200))
def test_any_text(text: str) -> None:
    survive(text.strip() or "0x")


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(RAWS))
def test_a_report_is_the_same_twice(raw: bytes) -> None:
    assert report_transaction(raw, OPTIONS) == report_transaction(raw, OPTIONS)
