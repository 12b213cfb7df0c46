"""What a server sends to one who joins late says nothing about the pace of the stream."""

from __future__ import annotations

from support.watch_lab import START_NS, STEP_NS, block

from flashctl.watch.events import Arrival
from flashctl.watch.lines import envelope
from flashctl.watch.stats import StreamStats
from flashctl.watch.tracker import Tracker


def test_catch_up_is_marked_and_left_out_of_every_timing() -> None:
    tracker, stats = Tracker(), StreamStats()
    messages = [*block(1, 11), *block(2, 11)]
    joined = START_NS + 8 * STEP_NS + 60_000_000
    tracker.connected(joined)
    flashblocks = []
    for number, message in enumerate(messages):
        at = joined + 2_000_000 + number * 100_000 if number < 9 else START_NS + number * STEP_NS
        for event in tracker.feed(Arrival(message, False, at, at)):
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
        for event in tracker.feed(Arrival(message, False, START_NS + number, START_NS + number)):
            assert event.row is None or not event.row.replayed
