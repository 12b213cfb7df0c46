"""No input makes decode fail in a way nobody foresaw: there is a report, or an error that is one line."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from support.decode_lab import every_type
from support.examples import examples

from flashctl.decode.engine import Engine
from flashctl.decode.reading import signing_hash_of
from flashctl.decode.render import Style, TextPresenter
from flashctl.decode.tx_report import Options, report_transaction
from flashctl.eth.rlp import encode
from flashctl.eth.transactions import (
    AccessListEntry,
    AccessListTx,
    Authorization,
    BlobTx,
    DepositTx,
    FeeMarketTx,
    LegacyTx,
    SetCodeTx,
    encode_transaction,
    signing_hash,
)
from flashctl.ethrpc.transaction_objects import raw_from_object

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


@settings(max_examples=examples(150))
@given(st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    survive("0x" + data.hex())


@settings(max_examples=examples(100))
@given(st.sampled_from([b"", b"\x01", b"\x02", b"\x03", b"\x04", b"\x7e"]), rlp_items)
def test_any_rlp_of_any_type(prefix: bytes, item: Any) -> None:
    survive("0x" + (prefix + encode(item)).hex())


@settings(max_examples=examples(150))
@given(st.sampled_from(RAWS), st.data())
def test_any_damage_to_a_real_transaction(raw: bytes, data: st.DataObject) -> None:
    position = data.draw(st.integers(0, len(raw) - 1))
    cut = data.draw(st.integers(0, 3))
    insert = data.draw(st.binary(max_size=3))
    survive("0x" + (raw[:position] + insert + raw[position + cut :]).hex())


@settings(max_examples=examples(100))
@given(json_values)
def test_any_json(value: Any) -> None:
    survive(json.dumps(value))


@settings(max_examples=examples(100))
@given(st.text(max_size=200))
def test_any_text(text: str) -> None:
    survive(text.strip() or "0x")


@settings(max_examples=examples(100))
@given(st.sampled_from(RAWS))
def test_a_report_is_the_same_twice(raw: bytes) -> None:
    assert report_transaction(raw, OPTIONS) == report_transaction(raw, OPTIONS)


# -- round trips ----------------------------------------------------------------------------------

words = st.integers(0, 2**256 - 1)
small = st.integers(0, 2**64 - 2)
addresses = st.binary(min_size=20, max_size=20)
hashes = st.binary(min_size=32, max_size=32)
access_lists = st.lists(
    st.builds(AccessListEntry, addresses, st.lists(hashes, max_size=2).map(tuple)), max_size=2
).map(tuple)
authorizations = st.builds(Authorization, small, addresses, small, st.integers(0, 1), words, words)
signature = {"y_parity": st.integers(0, 1), "r": words, "s": words}
call = {"gas_limit": small, "value": words, "data": st.binary(max_size=80)}
fees = {"max_priority_fee_per_gas": words, "max_fee_per_gas": words, "access_list": access_lists}
anyone = addresses | st.none()
transactions = st.one_of(
    st.builds(
        LegacyTx, nonce=small, gas_price=words, to=anyone, r=words.filter(bool), s=words, **call,
        v=st.sampled_from([27, 28]) | st.integers(35, 2**64),
    ),
    st.builds(
        AccessListTx, chain_id=small, nonce=small, gas_price=words, to=anyone, access_list=access_lists,
        **call, **signature,
    ),
    st.builds(FeeMarketTx, chain_id=small, nonce=small, to=anyone, **fees, **call, **signature),
    st.builds(
        BlobTx, chain_id=small, nonce=small, to=addresses, max_fee_per_blob_gas=words,
        blob_hashes=st.lists(hashes, min_size=1, max_size=2).map(tuple), **fees, **call, **signature,
    ),
    st.builds(
        SetCodeTx, chain_id=small, nonce=small, to=addresses,
        authorizations=st.lists(authorizations, min_size=1, max_size=2).map(tuple),
        **fees, **call, **signature,
    ),
    st.builds(
        DepositTx, source_hash=hashes, sender=addresses, to=anyone, mint=words, **call,
        is_system=st.booleans(),
    ),
)  # fmt: skip


@settings(max_examples=examples(100))
@given(transactions)
def test_a_transaction_survives_the_way_to_json_and_back(tx: Any) -> None:
    raw = encode_transaction(tx)
    report = json.loads(json.dumps(report_transaction(raw, Options(senders=False))))
    assert raw_from_object(report) == raw
    assert report["flashctl"]["canonical"] is True


@settings(max_examples=examples(100))
@given(transactions)
def test_the_signing_hash_cut_out_of_the_bytes_is_that_of_the_fields(tx: Any) -> None:
    if not isinstance(tx, DepositTx):
        assert signing_hash_of(encode_transaction(tx), tx) == signing_hash(tx)
