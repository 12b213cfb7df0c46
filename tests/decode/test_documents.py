"""Whatever is pasted is recognised: wrappers come off, containers hold reports, one bad part hides
nothing."""

from __future__ import annotations

import base64
import json
from typing import Any

import orjson
import pytest
from support.decode_lab import SENDER, TOKEN, every_type
from support.flashblocks import base_sepolia_block, derived_blocks, rollup_boost_message
from support.reference import reference_path

from flashctl.core.flashblocks.wire import compress
from flashctl.decode.documents import Kind, UnknownDocument, classify_bytes, parse_hex_text
from flashctl.decode.engine import Engine, Outcome, outcome_of
from flashctl.decode.tx_report import Options, Report
from flashctl.eth.blocks import Block, Header, encode_block, encode_header
from flashctl.eth.receipts import Log, Receipt, encode_receipt
from flashctl.eth.rlp import encode, encode_bytes
from flashctl.ethrpc.transaction_objects import raw_from_object

RAWS = every_type()


def decode(text: str | dict[str, Any] | list[Any], forced: Kind | None = None) -> list[Report]:
    line = text if isinstance(text, str) else json.dumps(text)
    return list(Engine(Options(), forced).line(line, 1))


def header(number: int = 5) -> Header:
    return Header(
        bytes(32), bytes(32), bytes(20), bytes(32), bytes(32), bytes(32), bytes(256), 0, number, 30_000_000,
        21_000, 1_700_000_000, bytes.fromhex("01000000fa000000060000000000000001"), bytes(32), bytes(8), 7,
        bytes(32), 0, 0, bytes(32), bytes(32),
    )  # fmt: skip


BLOCK = Block(header(), (RAWS["attributes"], RAWS["eip1559"], RAWS["legacy"]))
RECEIPT = Receipt(
    2,
    True,
    21_000,
    (Log(TOKEN, (bytes.fromhex("ddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef"),
                 bytes(32), bytes(32)), (5).to_bytes(32, "big")),),
)  # fmt: skip


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (RAWS["eip1559"], Kind.TX),
        (RAWS["legacy"], Kind.TX),
        (RAWS["deposit"], Kind.TX),
        (encode_header(header()), Kind.HEADER),
        (encode_block(BLOCK), Kind.BLOCK),
        (encode_receipt(RECEIPT), Kind.RECEIPT),
        (encode([b"cat", [b"dog"]]), Kind.RLP),
        (encode_bytes(RAWS["eip1559"]), Kind.RLP),
        (b"\x55junk", Kind.TX),
    ],
)
def test_bytes_tell_what_they_are(raw: bytes, kind: Kind) -> None:
    assert classify_bytes(raw) is kind


@pytest.mark.parametrize("form", ["{}", "0x{}", "0X{}", '"0x{}"', "  0x{}  ", "'{}'"])
def test_hex_as_people_paste_it(form: str) -> None:
    assert parse_hex_text(form.format("02AbcD")) == bytes.fromhex("02abcd")


def test_hex_broken_over_lines_is_joined_and_bad_hex_is_located() -> None:
    assert parse_hex_text("0x02\n ab\tcd") == bytes.fromhex("02abcd")
    with pytest.raises(UnknownDocument, match="'g' at character 2"):
        parse_hex_text("0xabgd")
    with pytest.raises(UnknownDocument, match="odd number of digits"):
        parse_hex_text("0xabc")


TX_HEX = "0x" + RAWS["eip1559"].hex()
FLASHBLOCK: dict[str, Any] = {
    "payload_id": "0x0000000000000001", "index": 1, "metadata": {"block_number": 9},
    "diff": {"transactions": [TX_HEX], "gas_used": "0x5208"},
}  # fmt: skip


@pytest.mark.parametrize(
    "wrapped",
    [
        TX_HEX,
        json.dumps(TX_HEX),
        {"jsonrpc": "2.0", "id": 1, "result": TX_HEX},
        {"jsonrpc": "2.0", "id": 1, "method": "eth_sendRawTransaction", "params": [TX_HEX]},
        {"raw": TX_HEX},
        [TX_HEX],
        FLASHBLOCK,
        {"v": 1, "event": "flashblock", "recv_ns": 1, "data": FLASHBLOCK},
        {"t": 1, "m": 1, "enc": "json", "d": FLASHBLOCK},
        {"t": 1, "m": 1, "enc": "br", "raw": base64.b64encode(compress(orjson.dumps(FLASHBLOCK))).decode()},
        {
            "jsonrpc": "2.0",
            "method": "eth_subscription",
            "params": {"subscription": "0x1", "result": FLASHBLOCK},
        },
        {"method": "engine_forkchoiceUpdatedV3", "params": [{}, {"transactions": [TX_HEX]}]},
        {
            "method": "engine_newPayloadV4",
            "params": [{"blockHash": "0x", "feeRecipient": "0x", "transactions": [TX_HEX]}],
        },
        {"result": {"executionPayload": {"blockHash": "0x", "feeRecipient": "0x", "transactions": [TX_HEX]}}},
    ],
)
def test_every_wrapper_comes_off(wrapped: Any) -> None:
    from flashctl.decode.present import transactions_in

    (report,) = decode(wrapped)
    (transaction,) = transactions_in(report)
    assert transaction["from"] == SENDER and transaction["nonce"] == "0x9"


@pytest.mark.parametrize("line", [{"flashctl": 1, "url": "ws://x", "started": 1}, {"v": 1, "event": "gap"}])
def test_lines_that_hold_nothing_are_no_error(line: dict[str, Any]) -> None:
    assert decode(line) == []


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("0xzz", "not hex"),
        ("{", "not JSON"),
        ("{}", "unknown JSON object with keys (none)"),
        ('{"a":1}', "unknown JSON object with keys a"),
        ('{"jsonrpc":"2.0","id":1,"error":{"message":"no such block"}}', "no such block"),
        ('{"result":null}', "nothing to decode in a JSON null"),
        ("[" * 20 + "]" * 20, "wrapped more than"),
        ('{"t":1,"raw":"***"}', "not base64"),
        ('{"payload_id":"0x01","diff":{}}', "not a flashblock"),
    ],
)
def test_what_is_nothing_says_so(line: str, words: str) -> None:
    (report,) = decode(line)
    assert words in report["error"]["message"] and report["error"]["line"] == 1


def test_the_recorded_block_decodes_to_its_transactions() -> None:
    engine = Engine(Options())
    reports = [next(engine.line(json.dumps(message))) for message in base_sepolia_block()]
    transactions = [tx for report in reports for tx in report["transactions"]]
    assert len(transactions) == 24
    assert all(tx["flashctl"]["signature"] in ("valid", "none (deposit)") for tx in transactions)
    assert transactions[0]["flashctl"]["deposit"]["kind"] == "l1-attributes"
    # The base fee and the L1 prices of index 0 hold for the whole payload.
    assert all("effectiveTip" in tx["flashctl"] and "l1Fee" in tx["flashctl"] for tx in transactions[1:])
    assert reports[1]["stateRoot"] is None, "zero is unavailable, not a root"
    position = transactions[1]["flashctl"]
    assert (position["payloadId"], position["index"], position["position"]) == ("0x03c33cc62b81edb6", 1, 0)


def test_receipts_on_the_wire_are_put_beside_their_transactions() -> None:
    (report,) = decode(rollup_boost_message())
    (transaction,) = report["transactions"][:1]
    assert transaction["flashctl"]["succeeded"] is True
    assert int(transaction["flashctl"]["cumulativeGasUsed"], 16) == 0xAB4E


@pytest.mark.parametrize("shape", ["tagged", "flat", "status true", "absent"])
def test_all_four_receipt_shapes(shape: str) -> None:
    from flashctl.eth.keccak import keccak256

    tx_hash = "0x" + keccak256(RAWS["eip1559"]).hex()
    inner: dict[str, Any] = {"status": "0x1", "cumulativeGasUsed": "0x5208", "logs": []}
    receipts: dict[str, dict[str, Any]] = {
        "tagged": {tx_hash: {"Eip1559": inner}},
        "flat": {tx_hash: {"type": "0x2", **inner}},
        "status true": {tx_hash: {"type": "0x2", **inner, "status": True}},
    }
    metadata = {"block_number": 9} | ({"receipts": receipts[shape]} if shape in receipts else {})
    (report,) = decode({**FLASHBLOCK, "metadata": metadata})
    extras = report["transactions"][0]["flashctl"]
    assert extras.get("succeeded") is (None if shape == "absent" else True)


def test_an_unknown_type_does_not_hide_the_rest_of_its_flashblock() -> None:
    message = {**FLASHBLOCK, "diff": {"gas_used": "0x0", "transactions": ["0x7d0102", TX_HEX, "0x7600"]}}
    (report,) = decode(message)
    first, second, third = report["transactions"]
    assert "unknown transaction type 0x7d" in first["error"]["message"]
    assert first["error"]["raw"] == "0x7d0102" and len(first["error"]["hash"]) == 66
    assert second["from"] == SENDER and third["error"]["position"] == 2
    assert outcome_of(report) is Outcome.FAILED


def test_a_block_in_rlp() -> None:
    (report,) = decode("0x" + encode_block(BLOCK).hex())
    assert report["hash"] == "0x" + BLOCK.hash.hex() and report["number"] == "0x5"
    assert [tx["type"] for tx in report["transactions"]] == ["0x7e", "0x2", "0x0"]
    assert report["flashctl"]["eip1559"] == {
        "layout": "jovian", "denominator": 250, "elasticity": 6, "minBaseFee": "0x1",
    }  # fmt: skip
    assert "l1Fee" in report["transactions"][1]["flashctl"]


def test_a_header_and_a_receipt_in_rlp() -> None:
    (shown,) = decode("0x" + encode_header(header()).hex())
    assert shown["hash"] == "0x" + header().hash.hex() and "transactions" not in shown
    (receipt,) = decode("0x" + encode_receipt(RECEIPT).hex())
    assert receipt["status"] == "0x1" and receipt["logs"][0]["flashctl"]["event"]["name"] == "Transfer"


def test_forced_kinds_win_over_the_look_of_the_bytes() -> None:
    (report,) = decode(TX_HEX, Kind.RLP)
    assert "error" in report  # 0x02 is a whole item, and bytes follow it
    (item,) = decode("0x" + encode([b"cat", [b"dog", b""]]).hex(), Kind.RLP)
    assert item["item"] == ["0x636174", ["0x646f67", "0x"]]
    (wrapped,) = decode("0x" + encode_bytes(RAWS["eip1559"]).hex())
    assert wrapped["from"] == SENDER


def test_a_nodes_block_object_is_checked_against_its_own_hashes() -> None:
    members = [decode("0x" + raw.hex())[0] for raw in BLOCK.transactions]
    block = {
        "number": "0x5", "hash": "0x" + BLOCK.hash.hex(), "parentHash": "0x", "stateRoot": "0x",
        "transactionsRoot": "0x", "baseFeePerGas": "0x7", "extraData": "0x", "transactions": members,
    }  # fmt: skip
    (report,) = decode(block)
    assert [tx["hash"] for tx in report["transactions"]] == [tx["hash"] for tx in members]
    assert {outcome_of(transaction) for transaction in report["transactions"]} == {Outcome.FINE}
    members[1]["value"] = "0x1"
    (tampered,) = decode(block)
    assert "claims hash" in " ".join(tampered["transactions"][1]["flashctl"]["problems"])
    del members[2]["nonce"]
    (broken,) = decode(block)
    assert "nonce" in broken["transactions"][2]["error"]["message"]


@pytest.mark.parametrize("name", RAWS)
def test_a_report_re_encodes_to_its_bytes(name: str) -> None:
    (report,) = decode("0x" + RAWS[name].hex())
    assert raw_from_object(report) == RAWS[name]


def test_derived_blocks_decode_without_a_problem() -> None:
    seen = 0
    for case in derived_blocks()[:4]:
        messages = case if isinstance(case, list) else case.get("flashblocks") or case.get("messages")
        engine = Engine(Options())
        for message in messages:
            (report,) = engine.line(json.dumps(message))
            assert outcome_of(report) is Outcome.FINE
            seen += len(report["transactions"])
    assert seen > 20


def test_the_hive_chain_is_read_from_its_file_of_blocks() -> None:
    from flashctl.eth.rlp import decode_prefix

    data = reference_path("execution-apis/tests/chain.rlp").read_bytes()
    start, blocks, transactions = 0, 0, 0
    while start < len(data):
        _, end = decode_prefix(data, start)
        (report,) = decode("0x" + data[start:end].hex())
        assert outcome_of(report) is Outcome.FINE
        blocks, transactions, start = blocks + 1, transactions + len(report["transactions"]), end
    assert (blocks, transactions) == (54, 249)
