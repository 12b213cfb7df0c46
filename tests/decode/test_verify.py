"""`--verify` computes every hash, root and filter again that a container states."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.decode_lab import FRIEND, TOKEN, attributes_deposit
from support.flashblocks import derived_blocks, streamed_block
from support.sample_block import BLOCK, HEADER, OBJECT, TRANSACTIONS

from flashctl.core.engine.payloads import envelope_to_json, payload_to_json
from flashctl.decode.documents import Kind
from flashctl.decode.engine import Engine, Outcome, outcome_of
from flashctl.decode.tx_report import Options, Report
from flashctl.eth.blocks import (
    Block,
    encode_block,
    encode_header,
)
from flashctl.eth.hexdata import to_hex
from flashctl.eth.receipts import Log, Receipt, decode_receipt, encode_receipt
from flashctl.eth.rlp import decode_list, encode
from flashctl.eth.transactions import DepositTx, encode_transaction

RECEIPT = Receipt(2, True, 21_000, (Log(TOKEN, (b"\x77" * 32,), b"\x01"),))


def reports(*values: Any, forced: Kind | None = None) -> list[Report]:
    engine = Engine(Options(), forced)
    lines = (value if isinstance(value, str) else json.dumps(value) for value in values)
    return [report for line in lines for report in engine.line(line)]


def problems(report: Report) -> Iterator[str]:
    """Everything wrong in a report and in its transactions, what could not be decoded at all included."""
    if "error" in report:
        yield report["error"]["message"]
    yield from (report.get("flashctl") or {}).get("problems", ())
    for member in report.get("transactions") or ():
        if isinstance(member, dict):
            yield from problems(member)


def said_of(*values: Any, forced: Kind | None = None) -> str:
    return "; ".join(problem for report in reports(*values, forced=forced) for problem in problems(report))


def test_what_is_whole_has_no_problems() -> None:
    for whole in (to_hex(encode_block(BLOCK)), OBJECT, envelope_to_json(BLOCK), {**OBJECT, "hash": None}):
        assert said_of(whole) == ""
    assert said_of(to_hex(encode_receipt(RECEIPT))) == ""


# -- blocks in RLP ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"transactions_root": b"\x01" * 32}, "transactionsRoot"),
        ({"ommers_hash": b"\x01" * 32}, "sha3Uncles"),
        ({"extra_data": bytes(33)}, "extraData"),
        ({"extra_data": bytes.fromhex("010000000000000006") + bytes(8)}, "denominator"),
        ({"extra_data": bytes.fromhex("00000000fa00000000")}, "elasticity"),
        ({"gas_used": 30_000_001}, "gasUsed"),
        ({"difficulty": 1}, "difficulty"),
        ({"requests_hash": b"\x01" * 32}, "requestsHash"),
        ({"excess_blob_gas": 1}, "excessBlobGas"),
    ],
)
def test_a_header_that_does_not_fit_its_body(change: dict[str, Any], what: str) -> None:
    raw = encode_block(Block(replace(HEADER, **change), TRANSACTIONS))
    assert what in said_of(to_hex(raw))


def test_a_body_that_does_not_fit_its_header() -> None:
    header, transactions, ommers, withdrawals = decode_list(encode_block(BLOCK))
    assert isinstance(transactions, list)
    for body, what in (
        ([header, transactions[:-1], ommers, withdrawals], "transactionsRoot"),
        ([header, transactions, [header], withdrawals], "sha3Uncles"),
        ([header, transactions, ommers], "withdrawals"),
        ([header, transactions, ommers, [[b"", b"", bytes(20), b""]]], "1 withdrawal on"),
        ([header, transactions, ommers, withdrawals, []], "not a block"),
    ):
        assert what in said_of(to_hex(encode(body)), forced=Kind.BLOCK)
    early = encode_header(replace(HEADER, base_fee_per_gas=None, withdrawals_root=None))
    assert "withdrawals" in said_of(to_hex(encode([decode_list(early), transactions, [], []])))


# -- blocks as JSON --------------------------------------------------------------------------------

NOT_COMMITTED = frozenset(("size", "totalDifficulty"))
NOT_OF_A_TRANSACTION = frozenset(("gasPrice", "nonce", "depositReceiptVersion", "v", "r", "s", "yParity"))
"""Of a deposit, or computed from the block for the others."""


def changed(value: Any) -> Any:
    """Another value of the same form."""
    match value:
        case str() if len(value) > 2:
            last = "1" if value[-1] != "1" else "2"
            return value[:-1] + last
        case bool():
            return not value
    return None


@given(st.data())
def test_any_edit_of_a_nodes_block_is_found(data: st.DataObject) -> None:
    block = json.loads(json.dumps(OBJECT))
    place = data.draw(st.sampled_from(["block", *range(len(TRANSACTIONS)), "order", "missing"]))
    if place == "order":
        block["transactions"][1:] = block["transactions"][:0:-1]
    elif place == "missing":
        block["transactions"].pop(data.draw(st.integers(0, 2)))
    else:
        target = block if place == "block" else block["transactions"][place]
        excluded = NOT_COMMITTED if place == "block" else NOT_OF_A_TRANSACTION if place == 0 else {"gasPrice"}
        names = sorted(
            name for name in target if isinstance(target[name], str) and len(target[name]) > 2
            and name not in excluded
        )  # fmt: skip
        name = data.draw(st.sampled_from(names))
        if place == 2 and name == "gasPrice":
            return
        target[name] = changed(target[name])
    assert said_of(block) != ""


def test_v_against_y_parity() -> None:
    block = json.loads(json.dumps(OBJECT))
    block["transactions"][1]["v"] = "0x1" if block["transactions"][1]["yParity"] == "0x0" else "0x0"
    assert "yParity" in said_of(block)


def test_a_header_alone_is_hashed() -> None:
    header = {key: value for key, value in OBJECT.items() if key not in ("transactions", "uncles", "size")}
    assert said_of(header) == ""
    assert "hash" in said_of({**header, "stateRoot": "0x" + "01" * 32})


# -- engine payloads -------------------------------------------------------------------------------


@given(st.sampled_from(sorted(payload_to_json(BLOCK))))
def test_any_edit_of_a_payload_is_found(name: str) -> None:
    envelope = json.loads(json.dumps(envelope_to_json(BLOCK)))
    payload = envelope["executionPayload"]
    if name == "transactions":
        payload[name] = payload[name][:-1]
    elif name == "withdrawals":
        payload[name] = None
    else:
        payload[name] = changed(payload[name])
    assert said_of(envelope) != ""
    assert said_of(envelope | {"parentBeaconBlockRoot": "0x" + "00" * 32}) != ""


# -- receipts --------------------------------------------------------------------------------------


def test_the_bloom_of_a_receipt_holds_its_logs() -> None:
    assert "logsBloom" in said_of(to_hex(encode_receipt(replace(RECEIPT, bloom=bytes(256)))))
    log = {"address": to_hex(TOKEN), "topics": ["0x" + "77" * 32], "data": "0x01", "logIndex": "0x0",
           "transactionHash": "0x" + "88" * 32}  # fmt: skip
    receipt = {
        "status": "0x1", "cumulativeGasUsed": "0x5208", "gasUsed": "0x5208", "logs": [log],
        "logsBloom": to_hex(RECEIPT.bloom), "transactionHash": "0x" + "88" * 32, "transactionIndex": "0x0",
    }  # fmt: skip
    assert said_of(receipt) == ""
    assert "logsBloom" in said_of({**receipt, "logsBloom": "0x" + "00" * 256})
    assert "logsBloom" in said_of({**receipt, "logs": []})
    assert "transactionHash" in said_of({**receipt, "transactionHash": "0x" + "99" * 32})
    assert "gasUsed" in said_of({**receipt, "gasUsed": "0x5209"})


def test_a_deposit_receipt_between_regolith_and_canyon() -> None:
    whole = encode_receipt(Receipt(0x7E, True, 21_000, (), 9, 1))
    fields = decode_list(whole, 1)
    raw = whole[:1] + encode(fields[:5])
    receipt = decode_receipt(raw)
    assert (receipt.deposit_nonce, receipt.deposit_receipt_version) == (9, None)
    assert encode_receipt(receipt) == whole[:1] + encode(fields[:4])  # what the receipts root commits to
    (report,) = reports(to_hex(raw))
    assert report["depositNonce"] == "0x9" and report["flashctl"]["kind"] == "receipt"


@pytest.mark.parametrize("data", [b"", b"\x01\x02\x03\x04", attributes_deposit().data[:-1]])
def test_l1_attributes_that_cannot_be_read_are_no_users_deposit(data: bytes) -> None:
    raw = encode_transaction(replace(attributes_deposit(), data=data))
    (report,) = reports(to_hex(raw))
    deposit = report["flashctl"]["deposit"]
    assert deposit["kind"] == "l1-attributes" and deposit["malformed"]
    user = DepositTx(bytes(32), FRIEND, TOKEN, 0, 1, 21_000, False, data)
    assert reports(to_hex(encode_transaction(user)))[0]["flashctl"]["deposit"] == {"kind": "user"}


# -- flashblocks -----------------------------------------------------------------------------------


def test_recorded_flashblocks_have_no_problems() -> None:
    assert said_of(*streamed_block()) == ""


@pytest.mark.parametrize("name", ["state_root", "receipts_root", "logs_bloom", "gas_used", "block_hash"])
def test_a_sequence_is_held_against_its_hashes(name: str) -> None:
    messages = derived_blocks()[0]["flashblocks"]
    assert said_of(*messages) == ""
    messages[-1]["diff"][name] = changed(messages[-1]["diff"][name])
    assert "block_hash" in said_of(*messages)
    messages[-1]["diff"]["state_root"] = "0x" + "00" * 32  # then the receipts are all that is left
    if name in ("receipts_root", "logs_bloom", "gas_used"):
        assert name in said_of(*messages)


def test_a_sequence_without_one_of_its_transactions() -> None:
    messages = derived_blocks()[0]["flashblocks"]
    next(message for message in messages[1:] if message["diff"]["transactions"])["diff"]["transactions"].pop()
    assert "block_hash" in said_of(*messages)


def test_one_flashblock_twice_with_another_content() -> None:
    first, second, *_ = streamed_block()
    again = json.loads(json.dumps(second))
    assert said_of(first, second, again) == ""
    again["diff"]["gas_used"] = "0x1"
    assert "another content" in said_of(first, second, again)


def test_outcomes() -> None:
    (report,) = reports(to_hex(encode_block(Block(HEADER, TRANSACTIONS[:-1]))))
    assert outcome_of(report) is Outcome.PROBLEM
