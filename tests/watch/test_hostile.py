"""Any field of any dialect made anything: watch tells of a bad frame and goes on, in every form."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.hostile import dialects, mutations
from support.watch_lab import arrive, message, watch

from flashctl.core.output import Output
from flashctl.core.service import defects
from flashctl.errors import ExitCode
from flashctl.watch.config import FilterConfig
from flashctl.watch.filters import make_filter
from flashctl.watch.line_output import FIELDS, JsonLines, TextLines
from flashctl.watch.live_rows import Screen
from flashctl.watch.live_view import LiveView
from flashctl.watch.stream_stats import StreamStats, render_stats
from flashctl.watch.tracker import Tracker


@pytest.mark.parametrize("index", [0, 1])
@pytest.mark.parametrize("dialect", list(dialects()))
def test_one_wrong_field(tmp_path: Path, dialect: str, index: int) -> None:
    tracker, stats = Tracker(), StreamStats()
    view = LiveView("title", stats, Screen(60, 12))
    chosen = make_filter(FilterConfig(topics=("0x" + "ab" * 32,), addresses=("0x" + "cd" * 20,)))
    with (tmp_path / "sink").open("wb") as file:
        renderers = [TextLines(Output(file), verbose=True), JsonLines(Output(file))]
        for number, (place, text) in enumerate(mutations(dialects(7, index)[dialect])):
            events = tracker.feed(arrive(text, number))
            assert events and not defects.counts(), place
            for event in events:
                stats.add(event)
                view.show(event)
                assert chosen is not None
                chosen.apply(event)
                for renderer in renderers:
                    renderer.show(event)
                for read in FIELDS.values():
                    read(event)
            if number % 50 == 0:
                view.draw()
    json.dumps(stats.report())
    assert list(render_stats(stats.report()))
    for line in (tmp_path / "sink").read_bytes().splitlines():
        assert b"\x1b" not in line


def test_a_stream_of_them_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = [text for _, text in mutations(dialects(7, 0)["op-rbuilder"]) if b"\\n" not in text][::7]
    recording = tmp_path / "bad.ndjson"
    recording.write_bytes(b"".join(text + b"\n" for text in [*bad, message(9, 0), message(9, 1)]))
    code, output, _ = watch(monkeypatch, "--replay", str(recording), "--json")
    assert code == ExitCode.OK and not defects.counts()
    told = [json.loads(line) for line in output.splitlines()]
    assert [
        event["index"] for event in told if event.get("block") == 9 and event["event"] == "flashblock"
    ] == [0, 1]
    assert sum(event["event"] == "undecodable" for event in told) > 100
