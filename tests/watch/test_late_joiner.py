"""What a server sends to one who joins late says nothing about the pace of the stream."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from support.flashblocks import make_flashblock
from support.watch_lab import (
    HOLD,
    START_NS,
    STEP_NS,
    TX,
    TX_HASH,
    NodeServer,
    StreamServer,
    arrive,
    block,
    text_frames,
    watch,
)

from flashctl.core.flashblocks.wire import encode
from flashctl.watch.endpoint_comparison import Comparison
from flashctl.watch.events import ReceivedMessage
from flashctl.watch.line_output import envelope
from flashctl.watch.stream_stats import StreamStats
from flashctl.watch.tracker import Tracker


def test_catch_up_is_marked_and_left_out_of_every_timing() -> None:
    tracker, stats = Tracker(), StreamStats()
    messages = [*block(1, 11), *block(2, 11)]
    joined = START_NS + 8 * STEP_NS + 60_000_000
    tracker.connected(joined)
    flashblocks = []
    for number, message in enumerate(messages):
        at = joined + 2_000_000 + number * 100_000 if number < 9 else START_NS + number * STEP_NS
        for event in tracker.feed(ReceivedMessage(message, False, at, at)):
            stats.add(event)
            if event.row is not None:
                flashblocks.append(event)
    assert [event.row.replayed for event in flashblocks if event.row] == [True] * 9 + [False] * 13
    assert b'"replayed":true' in envelope(flashblocks[0]) and b"replayed" not in envelope(flashblocks[9])
    report = stats.report()
    assert report["interval_ms"]["min"] == report["interval_ms"]["max"] == 200.0
    assert report["jitter_ms"]["max"] == 0.0
    assert report["flashblocks"] == 22 and report["slot_offset_ms"]["count"] == 13


def test_a_recording_has_no_catch_up() -> None:
    tracker = Tracker()
    for number, message in enumerate(block(1, 3)):
        for event in tracker.feed(ReceivedMessage(message, False, START_NS + number, START_NS + number)):
            assert event.row is None or not event.row.replayed


def late(*, replayed: int) -> list[object]:
    """A script that begins with part of the open block at once, as proxies greet a client that joins late."""
    frames = text_frames([*block(1, 6), *block(2, 6), *block(3, 6)])
    return [*frames[:replayed], *(step for frame in frames[replayed:] for step in (0.2, frame)), HOLD]


def test_check_states_the_pace_of_the_stream_and_not_of_the_catch_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flashctl.watch.endpoint_check._LISTEN_S", 2.0)
    with StreamServer(late(replayed=5)) as server:
        code, output, _ = watch(monkeypatch, server.url, "--check", "--json")
    order = next(step for step in map(json.loads, output.splitlines()) if step["step"] == "order")
    pace = int(order["text"].split("one every ")[1].split(" ms")[0])
    # The machine may be slow, never fast: with the catch-up among them the median interval were 0 or 1 ms.
    assert code == 0 and pace >= 195


def test_a_transaction_in_the_catch_up_has_no_latency(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = text_frames(
        [encode(make_flashblock(1, 0, 1)), encode(make_flashblock(1, 1, 1, transactions=(TX,)))]
    )
    sealed = {"number": "0x1", "hash": "0x" + "ab" * 32, "transactions": [TX_HASH]}
    with StreamServer([*frames, HOLD]) as server:
        flags = ("--tx", TX_HASH, "--timeout", "20s")
        _, text, _ = watch(monkeypatch, server.url, *flags, "-o", "line")
        _, output, _ = watch(monkeypatch, server.url, *flags, "--json")
        with NodeServer(
            eth_getBlockByNumber=lambda _: sealed, eth_getTransactionReceipt=lambda _: None
        ) as node:
            code, both, _ = watch(monkeypatch, server.url, *flags, "-o", "line", "--rpc", node.url)
    (event,) = map(json.loads, output.splitlines())
    assert (
        "preconfirmed in #1 flashblock 1 position 0 before this joined the stream" in text
        and " ms" not in text
    )
    assert event["ms"] is None and event["replayed"] is True
    assert code == 0 and "sealed in #1 position 0" in both and " ms" not in both


def test_catch_up_is_neither_lag_nor_loss_in_a_comparison() -> None:
    comparison, trackers = Comparison(["ws://0", "ws://1"]), (Tracker(), Tracker())
    trackers[1].connected(START_NS + 4 * STEP_NS)
    for number, frame in enumerate(block(1, 8)):
        for source in (0, 1):
            at = START_NS + number * STEP_NS
            if source == 1:
                at = max(at + 3_000_000, START_NS + 4 * STEP_NS + 5_000_000 + number)
            arrival = replace(arrive(frame), received_ns=at, monotonic_ns=at)
            for event in trackers[source].feed(arrival):
                comparison.see(source, event)
    comparison.finish()
    report = comparison.report()
    assert report["compared"] == 8 and report["differing"] == 0
    assert [source["missing"] for source in report["sources"]] == [0, 0]
    assert report["sources"][1]["lag_ms"] | {"mean": 0} == {
        "count": 3, "min": 3.0, "p50": 3.0, "p95": 3.0, "p99": 3.0, "max": 3.0, "mean": 0,
    }  # fmt: skip
