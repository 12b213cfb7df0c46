"""What users of the stream reported, replayed: each test is named after the report it answers."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.decode_lab import every_type, run_command
from support.flashblocks import make_flashblock
from support.watch_lab import (
    CLOSE,
    HOLD,
    START_NS,
    StreamServer,
    arrive,
    block,
    follow,
    message,
    names,
    text_frames,
)

from flashctl.core.flashblocks.wire import compress, encode
from flashctl.watch.endpoint_comparison import Comparison, render_comparison
from flashctl.watch.events import WatchEvent
from flashctl.watch.sealed_check import ShownPayload, judge
from flashctl.watch.stream_stats import StreamStats, render_stats
from flashctl.watch.tracker import Tracker

RAW = every_type()["eip1559"]


def watch(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[int, str, str]:
    return run_command(["watch", *arguments], monkeypatch)


def compare(*streams: list[bytes]) -> dict[str, Any]:
    """A comparison of streams whose frames arrive at the same pace, each 3 ms after the one before."""
    comparison = Comparison([f"ws://{number}" for number in range(len(streams))])
    trackers = [Tracker() for _ in streams]
    for number in range(max(map(len, streams))):
        for source, frames in enumerate(streams):
            if number < len(frames) and frames[number]:
                arrival = arrive(frames[number], number)
                late = replace(arrival, monotonic_ns=arrival.monotonic_ns + source * 3_000_000)
                for event in trackers[source].feed(late):
                    comparison.see(source, event)
    comparison.finish()
    return comparison.report()


def test_base_node_963_random_loss_shows_whose_fault_it_is() -> None:
    whole = [*block(1, 6), *block(2, 6), *block(3, 6), *block(4, 6)]
    lossy = [b"" if number in (2, 9) else frame for number, frame in enumerate(whole)]
    report = compare(whole, lossy)
    assert [source["missing"] for source in report["sources"]] == [0, 2]
    assert [source["first"] for source in report["sources"]] == [24, 0]
    assert report["sources"][1]["lag_ms"]["p50"] == pytest.approx(3.0) and report["differing"] == 0
    assert "missing" in "\n".join(render_comparison(report))


def test_base_694_a_gap_names_what_is_missing_and_how_it_ends() -> None:
    frames = [message(1, index) for index in (0, 1, 4, 5)] + block(2, 2)
    events = follow(frames)
    assert names(events) == [
        "flashblock", "flashblock", "flashblock", "flashblock", "gap", "closed", "flashblock", "flashblock",
    ]  # fmt: skip
    assert events[4].details["missing"] == [2, 3]
    after = [event.row for event in events[2:] if event.row is not None]
    assert after[0].marks == ("gap",) and after[0].gas_added is None and after[0].total_transactions is None
    assert after[2].total_transactions == 0, "the next index 0 is whole again"


def test_rollup_boost_449_one_that_was_overtaken_is_late_and_not_lost() -> None:
    events = follow([message(1, index) for index in (0, 2, 1, 3)] + block(2, 2))
    assert [name for name in names(events) if name != "flashblock"] == ["late", "closed"]
    assert events[2].details == {"after": 2, "reported_missing": False}
    assert [event.index for event in events if event.row is not None] == [0, 2, 1, 3, 0, 1]
    (report,) = [figures(events)]
    assert (report["late"], report["missing"], report["gaps"]) == (1, 0, 0)


@pytest.mark.parametrize(
    ("sent", "late"),
    [
        ([(1, 0), (1, 2), (1, 3), (1, 4), (1, 1), (2, 0)], 1),  # reported missing before it came
        ([(1, 0), (1, 1), (2, 0), (1, 2), (2, 1)], 1),  # overtaken by the next block
        ([(1, 0), (2, 1), (2, 0), (1, 1), (2, 2)], 2),  # by the middle of the next block
        ([(1, 2), (1, 3), (2, 0), (2, 1)], 0),  # joined in the middle
        ([(1, 0), (1, 2), (1, 2), (1, 1), (1, 1)], 1),  # each of them twice
    ],
)
def test_what_came_late_is_not_counted_as_lost(sent: list[tuple[int, int]], late: int) -> None:
    report = figures(follow([message(*place) for place in sent]))
    assert (report["late"], report["missing"]) == (late, 0)
    assert report["flashblocks"] == len({*sent})
    assert report["duplicates"] == len(sent) - len({*sent})


@given(st.permutations([(number, index) for number in (1, 2) for index in range(4)]))
def test_whatever_the_order_nothing_that_came_is_lost(sent: list[tuple[int, int]]) -> None:
    report = figures(follow([message(*place) for place in sent]))
    assert (report["flashblocks"], report["missing"], report["duplicates"]) == (8, 0, 0)


def figures(events: list[WatchEvent]) -> dict[str, Any]:
    stats = StreamStats()
    for event in events:
        stats.add(event)
    return stats.report()


def test_base_695_a_new_block_that_starts_later_is_an_event_and_no_error() -> None:
    events = follow([*block(1, 2), message(2, 3), message(2, 4), *block(3, 1)])
    assert names(events).count("joined-mid") == 1
    assert "undecodable" not in names(events) and names(events)[-1] == "flashblock"


def test_base_693_a_block_truncated_without_a_gap_is_proven_by_its_successor() -> None:
    first = make_flashblock(1, 0, 1, prev="0-0")
    second = make_flashblock(1, 1, 1, prev="1-0")
    successor = make_flashblock(2, 0, 2, prev="1-4")
    events = follow([first, second, successor])
    mismatch = next(event for event in events if event.name == "prev-mismatch")
    assert mismatch.details == {"claimed": "1-4", "actual": "1-1"}
    assert events[-1].row is not None and "prev" in events[-1].row.marks
    whole = follow([first, second, make_flashblock(2, 0, 2, prev="1-1")])
    assert "prev-mismatch" not in names(whole)


def test_base_4916_incomplete_sets_are_compared_block_by_block() -> None:
    whole = [*block(1, 5), *block(2, 5), *block(3, 5), *block(4, 5)]
    without_tail = [frame if number % 5 != 4 else b"" for number, frame in enumerate(whole)]
    report = compare(whole, whole, without_tail)
    assert [source["missing"] for source in report["sources"]][:2] == [0, 0]
    assert report["sources"][2]["missing"] >= 2


def test_endpoints_that_show_other_content_are_told_apart() -> None:
    ours, theirs = block(1, 3), block(1, 3)
    theirs[1] = message(1, 1, gas_used=1)
    assert compare(ours, theirs)["differing"] == 1


def test_op_rbuilder_101_fewer_flashblocks_than_slots_show_in_the_histogram() -> None:
    stats = StreamStats()
    for event in follow([*block(1, 10), *block(2, 8), *block(3, 10), *block(4, 1)]):
        stats.add(event)
    report = stats.report()
    assert report["flashblocks_per_payload"] == {"8": 1, "10": 2}
    assert report["per_index"]["0"]["interval_ms"]["p50"] == 200.0 and report["jitter_ms"]["max"] == 0.0
    assert "flashblocks per payload" in "\n".join(render_stats(report))


def test_optimism_17457_a_dropped_tail_is_found_in_the_sealed_block() -> None:
    shown = ShownPayload("0x01", 7, ["0xa", "0xb", "0xc"])
    verdict = judge(shown, ["0xa", "0xb"])
    assert (verdict.held, verdict.dropped, verdict.moved) == (False, ("0xc",), 0)
    assert judge(shown, ["0xa", "0xb", "0xc", "0xd"]).unseen == 1
    assert judge(shown, ["0xb", "0xa", "0xc"]).moved == 2 and not judge(shown, ["0xb", "0xa", "0xc"]).held
    partial = ShownPayload("0x01", 7, ["0xb", "0xc"], whole=False)
    assert judge(partial, ["0xa", "0xb", "0xc"]).held, "of a payload with gaps only the order can be judged"


def test_base_51_a_flashblock_before_its_slot_has_a_negative_offset() -> None:
    timestamp_ns = (1_700_000_000 + 2) * 1_000_000_000
    arrival = replace(arrive(message(1, 0)), received_ns=timestamp_ns - 150_000_000)
    (event,) = follow([arrival])
    assert event.row is not None and event.row.slot_offset_ns == -150_000_000


def test_rollup_boost_375_the_same_complaint_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with StreamServer([*["junk"] * 50, *text_frames(block(1, 2)), HOLD]) as server:
        code, output, errors = watch(monkeypatch, server.url, "-n", "2", "--raw", "--timeout", "20s")
    assert code == 0 and output.count("\n") == 2
    assert errors.count("not a flashblock") == 1


def test_base_web_2192_brotli_needs_no_flag(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = [compress(frame) for frame in block(1, 3)]
    with StreamServer([*frames, HOLD]) as server:
        code, output, _ = watch(monkeypatch, server.url, "-n", "3", "--raw", "--timeout", "20s")
    assert code == 0 and output.encode().split(b"\n")[:3] == block(1, 3)


def test_flashblocks_demo_29_receipts_that_vanish_change_nothing() -> None:
    with_receipts = json.loads(message(1, 0))
    with_receipts["metadata"]["receipts"] = {"0x" + "11" * 32: {"Eip1559": {"status": "0x1"}}}
    later = json.loads(message(1, 1))
    del later["metadata"]["receipts"]
    del later["metadata"]["new_account_balances"]
    events = follow([json.dumps(with_receipts).encode(), json.dumps(later).encode()])
    assert names(events) == ["flashblock", "flashblock"]


def test_rollup_boost_425_receipts_of_part_of_a_block_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    content = json.loads(encode(make_flashblock(1, 0, 1, transactions=(RAW, every_type()["legacy"]))))
    content["metadata"]["receipts"] = {"0x" + "22" * 32: {"Deposit": {"status": "0x1", "logs": []}}}
    code, output, _ = run_command(["decode", json.dumps(content), "--json"], monkeypatch)
    assert code == 0 and output.count('"from"') == 2


@pytest.mark.parametrize(
    ("refuse", "code", "words"),
    [
        ((429, "rate limit: 10 connections per address"), 69, ["429", "10 connections per address"]),
        ((403, "go away"), 77, ["403"]),
        ((405, "POST only"), 76, ["405", "POST only", "JSON-RPC endpoints of nodes do not serve the stream"]),
        ((404, "not here"), 76, ["404", "is the path right?"]),
        ((503, "upstream down"), 69, ["503", "upstream down"]),
    ],
    ids=["base/node#613 rate limit", "refused", "base/docs#1409 HTTP only", "wrong path", "down"],
)
def test_a_refused_handshake_says_status_and_body(
    monkeypatch: pytest.MonkeyPatch, refuse: tuple[int, str], code: int, words: list[str]
) -> None:
    with StreamServer([HOLD], refuse=refuse) as server:
        result, output, errors = watch(
            monkeypatch, server.url, "--no-reconnect", "--timeout", "20s", "-o", "line"
        )
    assert result == code
    for word in words:
        assert word in output + errors
    assert "Traceback" not in errors


def test_reth_20510_reconnects_back_off(monkeypatch: pytest.MonkeyPatch) -> None:
    with StreamServer([CLOSE]) as server:
        code, output, _ = watch(monkeypatch, server.url, "--json", "--duration", "1500ms")
        delays = [json.loads(line).get("retry_in_s") for line in output.splitlines()]
    waits = [delay for delay in delays if delay is not None]
    assert code == 0 and 2 <= server.connections <= 16, "a tight loop would make thousands"
    assert max(waits) <= 10.0


def test_base_node_1129_a_silent_stream_counts_as_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    with StreamServer([*text_frames(block(1, 1)), HOLD]) as server:
        code, output, _ = watch(
            monkeypatch, server.url, "--json", "--silence", "300ms", "--until", "event:disconnected",
            "--timeout", "20s",
        )  # fmt: skip
    assert code == 0 and "no frame for 0.3 s" in output


def test_an_http_url_is_told_apart_from_a_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    code, _, errors = watch(monkeypatch, "https://mainnet.base.org")
    assert code == 2 and "a flashblocks stream is ws:// or wss://" in errors


def test_a_bomb_and_an_endless_frame_do_not_stop_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = compress(b'{"a":"' + b"0" * 40_000_000 + b'"}')
    assert len(bomb) < 100_000
    with StreamServer([bomb, *text_frames(block(1, 2)), HOLD]) as server:
        code, output, _ = watch(monkeypatch, server.url, "--json", "-n", "2", "--timeout", "30s")
    events = [json.loads(line) for line in output.splitlines()]
    assert code == 0 and [event["event"] for event in events][-3:] == [
        "undecodable",
        "flashblock",
        "flashblock",
    ]
    assert "exceeds" in events[-3]["reason"]


def test_a_stream_that_repeats_itself_is_counted_as_duplicates() -> None:
    frames = block(1, 3)
    stats = StreamStats()
    for event in follow([frames[0], frames[1], frames[1], frames[0], frames[2]]):
        stats.add(event)
    report = stats.report()
    assert (report["duplicates"], report["flashblocks"], report["missing"]) == (2, 3, 0)


def test_the_clock_of_a_recording_survives_a_jump_of_the_wall_clock() -> None:
    first = arrive(message(1, 0))
    second = replace(arrive(message(1, 1), 1), received_ns=START_NS - 3_600_000_000_000)
    rows = [event.row for event in follow([first, second]) if event.row is not None]
    assert rows[1].elapsed_ns == 200_000_000, "intervals are measured on the steady clock"
