"""What other clients of the stream assume, and what is true: one test per mistake found in the field."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import orjson
import pytest
from support.decode_lab import TOKEN, every_type, run_command
from support.flashblocks import make_flashblock
from support.watch_lab import CLOSE, HOLD, StreamServer, arrive, block, follow, message, names, text_frames

from flashctl.core.flashblocks.dialects import DIALECTS
from flashctl.core.flashblocks.wire import compress, encode
from flashctl.eth.keccak import keccak256
from flashctl.watch.config import FilterConfig
from flashctl.watch.filters import make_filter
from flashctl.watch.line_output import envelope
from flashctl.watch.sealed_check import ShownPayload, judge
from flashctl.watch.stream_stats import StreamStats

RAW = every_type()["eip1559"]
TX_HASH = "0x" + keccak256(RAW).hex()


@pytest.mark.parametrize("count", [1, 4, 10, 11, 17, 40])
def test_there_is_no_last_index(count: int) -> None:
    events = follow([*block(1, count), *block(2, 1)])
    closed = next(event for event in events if event.name == "closed")
    assert closed.details["flashblocks"] == count and closed.details["reason"] == "next"
    assert "gap" not in names(events)


def test_the_payload_id_groups_not_the_block_number() -> None:
    events = follow([*block(1, 3, payload=1), *block(1, 2, payload=2)])
    assert names(events) == [
        "flashblock", "flashblock", "flashblock", "closed", "replaced", "flashblock", "flashblock",
    ]  # fmt: skip
    rows = [event.row for event in events if event.row is not None]
    assert [row.gas_added for row in rows] == [21_000] * 5, "totals start again with the new payload"
    assert rows[3].marks == ("replaced",)


def test_an_index_that_restarts_means_one_of_four_things() -> None:
    start = block(10, 2)
    assert "replaced" in names(follow([*start, message(10, 0, payload=99)]))
    assert names(follow([*start, message(11)]))[-2:] == ["closed", "flashblock"]
    missed = follow([*start, message(14)])
    assert next(event for event in missed if event.name == "missed").details["blocks"] == [11, 12, 13]
    rewound = follow([*start, message(7)])
    assert next(event for event in rewound if event.name == "rewound").details["from_block"] == 10


def test_the_block_number_is_that_of_the_base() -> None:
    first = json.loads(message(500, 0))
    first["metadata"]["block_number"] = 7
    second = json.loads(message(7, 1, payload=500))
    events = follow([json.dumps(first).encode(), json.dumps(second).encode()])
    assert [event.block for event in events] == [500, 500]


def test_joined_in_the_middle_the_number_of_the_metadata_serves() -> None:
    events = follow([message(9, 4)])
    assert names(events) == ["joined-mid", "flashblock"] and events[1].block == 9
    assert events[1].row is not None and events[1].row.total_transactions is None
    assert events[1].row.marks == ("joined",)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_receipts_are_not_needed(dialect: str) -> None:
    frame = encode(make_flashblock(1, 0, 1, transactions=(RAW,)), DIALECTS[dialect])
    events = follow([frame])
    wanted = make_filter(FilterConfig(targets=["0x" + TOKEN.hex()]))
    assert wanted is not None
    shown = wanted.apply(events[0])
    assert shown is not None and shown.details["match_hashes"] == [TX_HASH]


TOPIC = "0x" + "dd" * 32


@pytest.mark.parametrize(
    "receipt",
    [
        {
            "Eip1559": {
                "status": "0x1",
                "logs": [{"address": "0x" + TOKEN.hex(), "topics": [TOPIC], "data": "0x"}],
            }
        },
        {"type": "0x2", "status": "0x1", "logs": [{"address": "0x" + TOKEN.hex(), "topics": [TOPIC]}]},
        {"type": "0x2", "status": True, "logs": [{"address": "0x" + TOKEN.hex(), "topics": [TOPIC.upper()]}]},
        None,
    ],
    ids=["tagged", "flat", "boolean status", "absent"],
)
def test_receipts_have_four_shapes(receipt: dict[str, Any] | None) -> None:
    content = json.loads(encode(make_flashblock(1, 0, 1, transactions=(RAW,))))
    content["metadata"]["receipts"] = {} if receipt is None else {TX_HASH: receipt}
    wanted = make_filter(FilterConfig(topics=[TOPIC]))
    assert wanted is not None and wanted.needs_receipts
    shown = wanted.apply(follow([json.dumps(content).encode()])[0])
    assert (shown is not None) == (receipt is not None)
    assert wanted.saw_receipts == (receipt is not None)


def test_a_binary_frame_may_be_json_brotli_or_zstd_and_text_is_json() -> None:
    import zstandard

    plain = message(1, 0)
    variants = [(plain, False), (plain, True), (b"\n " + plain, True), (compress(plain), True),
                (zstandard.compress(plain), True)]  # fmt: skip
    for data, binary in variants:
        (event,) = follow([arrive(data, binary=binary)])
        assert event.name == "flashblock" and event.text.strip() == plain


def test_gas_used_is_the_total_of_the_block() -> None:
    frames = [message(1, index, gas_used=gas) for index, gas in enumerate((50_000, 50_000, 81_000))]
    rows = [event.row for event in follow(frames) if event.row is not None]
    assert [(row.gas_added, row.gas_used) for row in rows] == [
        (50_000, 50_000),
        (0, 50_000),
        (31_000, 81_000),
    ]


def test_a_zero_state_root_is_passed_on_and_never_shown_as_a_value(monkeypatch: pytest.MonkeyPatch) -> None:
    code, output, _ = run_command(["decode", message(1, 0).decode()], monkeypatch)
    assert code == 0 and "stateRoot             -" in output


def test_the_block_hash_is_no_identity() -> None:
    same = make_flashblock(1, 0, 1)
    assert names(follow([same, same])) == ["flashblock", "duplicate"]
    content = json.loads(encode(same))
    content["diff"]["block_hash"] = "0x" + "77" * 32
    assert names(follow([encode(same), json.dumps(content).encode()])) == ["flashblock", "equivocation"]
    # Whether a payload held is decided by its transactions alone.
    assert judge(ShownPayload("0x1", 1, ["0xaa", "0xbb"]), ["0xaa", "0xbb"]).held


def test_a_lost_connection_is_noticed_and_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = text_frames(block(1, 2)), text_frames(block(2, 2))
    with StreamServer([*first, CLOSE], [*second, HOLD]) as server:
        code, output, _ = run_command(
            ["watch", server.url, "--json", "-n", "4", "--timeout", "20s"], monkeypatch
        )
    events = [json.loads(line) for line in output.splitlines()]
    assert code == 0
    kinds = [event["event"] for event in events]
    assert kinds[:4] == ["connected", "flashblock", "flashblock", "disconnected"]
    assert kinds.count("connected") == 2 and kinds.count("flashblock") == 4
    assert next(event for event in events if event["event"] == "disconnected")["retry_in_s"] > 0


def test_bad_frames_are_counted_not_swallowed() -> None:
    frames = [message(1, 0), b"<html>", b"{}", b"null", message(1, 1)]
    events = follow(frames)
    assert names(events) == ["flashblock", *["undecodable"] * 3, "flashblock"]
    assert events[1].details["hint"] is not None, "a web page is recognised"
    stats = StreamStats()
    for event in events:
        stats.add(event)
    assert stats.report()["undecodable"] == 3


def test_strict_makes_the_first_bad_frame_fatal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "bad.ndjson"
    path.write_bytes(b"\n".join([message(1, 0), b'{"payload_id": 5}', message(1, 1)]))
    assert run_command(["watch", "--replay", str(path), "--strict"], monkeypatch)[0] == 65
    code, output, _ = run_command(["watch", "--replay", str(path)], monkeypatch)
    assert code == 0 and "not a flashblock" in output and output.count("gas") == 2


def test_json_is_lossless_down_to_the_byte() -> None:
    odd = (
        b'{"zz_unknown": {"a": [1, 2.50, 1E2]}, "payload_id":"0x0000000000000001",  "index":0,'
        b'"diff":{"gas_used":"0x00","transactions":[], "new_field":18446744073709551617},'
        b'"metadata":{"block_number":3,"access_list":{"min_tx_index":0}}}'
    )
    (joined, event) = follow([odd.replace(b'"index":0', b'"index":3')])
    assert joined.name == "joined-mid"
    line = envelope(event)
    assert odd.replace(b'"index":0', b'"index":3') in line
    assert json.loads(line)["data"]["diff"]["new_field"] == 18446744073709551617


def test_numbers_beyond_a_double_stay_exact() -> None:
    content = json.loads(message(1, 0))
    content["base"]["base_fee_per_gas"] = hex(2**70 + 1)
    (event,) = follow([json.dumps(content).encode()])
    assert event.row is not None and event.row.base_fee == 2**70 + 1


def test_nothing_is_ever_sent_to_a_raw_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    with StreamServer([*text_frames(block(1, 3)), HOLD]) as server:
        code, _, _ = run_command(["watch", server.url, "-n", "3", "-o", "line"], monkeypatch)
        assert code == 0 and server.received == []


def answer_like_a_node(request: dict[str, Any]) -> list[dict[str, Any]]:
    head = {"jsonrpc": "2.0", "id": request["id"]}
    if request["method"] == "eth_subscribe":
        notification = {
            "jsonrpc": "2.0",
            "method": "eth_subscription",
            "params": {"subscription": "0x1", "result": json.loads(message(78, 0))},
        }
        return [{**head, "result": "0x1"}, notification]
    return [{**head, "result": "0x385"}]


def test_a_node_given_as_a_stream_is_recognised_and_subscribed_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flashctl.watch.sources.QUIET_BEFORE_PROBE_S", 0.2)
    with StreamServer([HOLD], answer=answer_like_a_node) as server:
        code, output, errors = run_command(
            ["watch", server.url, "-n", "1", "--timeout", "20s", "-o", "line"], monkeypatch
        )
    assert code == 0 and "#78" in output
    assert "is a node: following its newFlashblocks subscription" in errors


def test_pending_blocks_of_a_node_become_the_flashblocks_they_stand_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from flashctl.decode.tx_report import Options, report_transaction

    raws = every_type()
    members = [report_transaction(raw, Options()) for raw in [raws.pop("attributes"), *raws.values()][:4]]

    def pending(count: int, number: int) -> dict[str, Any]:
        return {
            "number": hex(number), "hash": None, "parentHash": "0x" + f"{number:02x}" * 32,
            "miner": "0x" + "00" * 20, "gasLimit": "0x1c9c380", "timestamp": "0x1",
            "gasUsed": hex(21_000 * count), "stateRoot": "0x" + "00" * 32, "receiptsRoot": "0x" + "00" * 32,
            "baseFeePerGas": "0x7", "transactions": members[:count],
        }  # fmt: skip

    def answer(request: dict[str, Any]) -> list[dict[str, Any]]:
        head = {"jsonrpc": "2.0", "id": request["id"], "result": "0x1"}
        blocks = [pending(1, 5), pending(3, 5), pending(3, 5), pending(1, 6), pending(4, 6)]
        method = {"jsonrpc": "2.0", "method": "eth_subscription"}
        return [head, *({**method, "params": {"subscription": "0x1", "result": block}} for block in blocks)]

    with StreamServer([HOLD], answer=answer) as server:
        code, output, _ = run_command(
            [
                "watch",
                server.url,
                "--source",
                "rpc",
                "-n",
                "5",
                "--timeout",
                "20s",
                "--fields",
                "block,index,ntx,gas",
            ],
            monkeypatch,
        )
    assert code == 0
    assert output == "5\t0\t1\t21000\n5\t1\t2\t42000\n5\t2\t0\t0\n6\t0\t1\t21000\n6\t1\t3\t63000\n"


def test_camel_case_feeds_inside_json_rpc_are_read() -> None:
    wrapped = {
        "jsonrpc": "2.0", "method": "subscribe",
        "params": {"subscription": "x", "result": {
            "payloadId": "0x0000000000000001", "index": "0", "metadata": {"blockNumber": 5},
            "base": {
                "parentBeaconBlockRoot": "0x" + "00" * 32, "parentHash": "0x" + "00" * 32,
                "feeRecipient": "0x" + "00" * 20, "prevRandao": "0x" + "00" * 32, "blockNumber": "0x5",
                "gasLimit": "0x1", "timestamp": "0x1", "extraData": "0x", "baseFeePerGas": "0x1",
            },
            "diff": {"transactions": ["0x" + RAW.hex()], "gasUsed": "0x5208"},
        }},
    }  # fmt: skip
    (event,) = follow([orjson.dumps(wrapped)])
    assert event.name == "flashblock" and event.block == 5 and event.index == 0


def test_a_recorded_raw_frame_replays_as_it_was(tmp_path: Path) -> None:
    from flashctl.watch.recording import Recorder, Replay

    frame = compress(message(1, 0))
    recorder = Recorder(tmp_path / "raw.ndjson", "ws://x", raw=True)
    recorder.record(arrive(frame, binary=True))
    recorder.close()
    line = json.loads((tmp_path / "raw.ndjson").read_bytes().splitlines()[1])
    assert base64.b64decode(line["raw"]) == frame and line["enc"] == "br"
    (arrival,) = Replay(tmp_path / "raw.ndjson")
    assert arrival.data == frame and arrival.binary
