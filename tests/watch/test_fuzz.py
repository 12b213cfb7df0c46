"""Whatever a stream sends, watch tells events and goes on; what it tells can be printed in every form."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.examples import examples
from support.watch_lab import START_NS, arrive, message, story

from flashctl.core.output import Output
from flashctl.watch.endpoint_comparison import Comparison
from flashctl.watch.events import EVENT_NAMES
from flashctl.watch.line_output import FIELDS, JsonLines, RawMessages, TextLines
from flashctl.watch.live_rows import Screen
from flashctl.watch.live_view import LiveView
from flashctl.watch.stream_stats import StreamStats, render_stats
from flashctl.watch.tracker import Tracker

MESSAGES = [
    message(block, index, payload, gas_used=gas, prev=prev)
    for block in (1, 2, 5)
    for index in (0, 1, 2, 7)
    for payload in (1, 2)
    for gas, prev in ((0, None), (10**30, "1-0"))
]


def play(frames: list[tuple[bytes, bool]], sink: Path) -> None:
    """Feed frames and show what comes of them in every form."""
    tracker, stats = Tracker(), StreamStats()
    view = LiveView("title", stats, Screen(60, 12))
    with sink.open("wb") as file:
        output = Output(file)
        renderers = [TextLines(output, color=True, verbose=True), JsonLines(output), RawMessages(output)]
        comparison = Comparison(["a", "b"])
        for number, (data, binary) in enumerate(frames):
            for event in tracker.feed(arrive(data, number, binary=binary)):
                assert event.name in EVENT_NAMES
                stats.add(event)
                view.show(event)
                comparison.see(number % 2, event)
                for renderer in renderers:
                    renderer.show(event)
                for read in FIELDS.values():
                    read(event)
            assert len(view.frame()) < 12
            view.draw()
        for event in tracker.end(START_NS):
            stats.add(event)
        comparison.finish()
        json.dumps([stats.report(), comparison.report()])
        assert list(render_stats(stats.report()))
        view.close()


@settings(max_examples=examples(80))
@given(frames=st.lists(st.tuples(st.sampled_from(MESSAGES + story()), st.booleans()), max_size=12))
def test_any_order_of_messages(
    tmp_path_factory: pytest.TempPathFactory, frames: list[tuple[bytes, bool]]
) -> None:
    play(frames, tmp_path_factory.getbasetemp() / "sink")


@settings(max_examples=examples(80))
@given(frames=st.lists(st.tuples(st.binary(max_size=60), st.booleans()), max_size=4))
def test_any_bytes(tmp_path_factory: pytest.TempPathFactory, frames: list[tuple[bytes, bool]]) -> None:
    play(frames, tmp_path_factory.getbasetemp() / "sink")


@settings(max_examples=examples(100))
@given(
    message=st.sampled_from(MESSAGES),
    path=st.sampled_from(["payload_id", "index", "base", "diff", "metadata"]),
    name=st.sampled_from(["", "gas_used", "transactions", "block_number", "timestamp", "gas_limit"]),
    value=st.none() | st.integers() | st.text(max_size=5) | st.sampled_from(["0x" + "ff" * 32, []]),
)
def test_any_field_of_another_kind(
    tmp_path_factory: pytest.TempPathFactory, message: bytes, path: str, name: str, value: Any
) -> None:
    content = json.loads(message)
    if name and isinstance(content.get(path), dict):
        content[path][name] = value
    else:
        content[path] = value
    play([(json.dumps(content).encode(), False), (message, False)], tmp_path_factory.getbasetemp() / "sink")
