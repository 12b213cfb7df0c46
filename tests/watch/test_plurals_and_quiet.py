"""One is singular; -q prints nothing beside a result that is elsewhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.watch_lab import HOLD, StreamServer, block, follow, message, text_frames, watch

from flashctl.watch.endpoint_comparison import Comparison, render_comparison
from flashctl.watch.line_output import describe_event
from flashctl.watch.recording import Replay
from flashctl.watch.stream_stats import StreamStats, render_stats


@pytest.fixture
def single(tmp_path: Path) -> Path:
    path = tmp_path / "one.ndjson"
    path.write_bytes(message(1, 0) + b"\n")
    return path


def test_one_of_each_is_singular(monkeypatch: pytest.MonkeyPatch, single: Path, tmp_path: Path) -> None:
    record = tmp_path / "copy.ndjson"
    code, output, errors = watch(
        monkeypatch, "--replay", str(single), "--stats", "-o", "line", "--record", str(record)
    )
    assert code == 0 and "1 flashblock of 1 payload in" in output + errors
    assert f"recorded 1 message to {record}" in errors
    stats = StreamStats()
    for event in follow([message(1, 0), message(3, 0)]):
        stats.add(event)
    report = stats.report() | {"missed_blocks": 1, "equivocations": 1, "reconnects": 1, "bytes": 1}
    text = "\n".join(render_stats(report))
    for words in ("1 time blocks missed", "1 equivocation,", "1 reconnect,", "1 byte received"):
        assert words in text.replace("1 equivocation\n", "1 equivocation,\n"), words
    missed = next(event for event in follow([message(1, 0), message(3, 0)]) if event.name == "missed")
    assert describe_event(missed) == "missed 1 block"
    closed = next(event for event in follow([message(1, 0)], end=True) if event.name == "closed")
    assert describe_event(closed).startswith("1 flashblock, ")


def test_one_flashblock_compared_and_one_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    comparison = Comparison(["a", "b"])
    for source in (0, 1):
        for event in follow([message(1, 0)]):
            comparison.see(source, event)
    assert next(iter(render_comparison(comparison.report()))) == "1 flashblock compared, equal content"
    monkeypatch.setattr("flashctl.watch.endpoint_check._LISTEN_S", 0.3)
    with StreamServer([*text_frames(block(1, 1)), 0.6, *text_frames(block(2, 1)), HOLD]) as server:
        _, output, _ = watch(monkeypatch, server.url, "--check", "--json")
    frame = next(step for step in map(json.loads, output.splitlines()) if step["step"] == "frame")
    assert "s of" in frame["text"] and "payload" in frame["text"]


@pytest.mark.parametrize("extra", [[], ["--exec", "true", "--on", "gap"], ["--stats-every", "1h"]])
def test_quiet_recordings_print_nothing(
    monkeypatch: pytest.MonkeyPatch, single: Path, tmp_path: Path, extra: list[str]
) -> None:
    record = tmp_path / "copy.ndjson.zst"
    single.write_bytes(b"\n".join(block(1, 4)) + b"\n")
    code, output, errors = watch(monkeypatch, "--replay", str(single), "--record", str(record), "-q", *extra)
    assert code == 0 and output == ""
    assert "recorded" not in errors and [arrival.data for arrival in Replay(record)] == block(1, 4)
    record.unlink()
    _, output, _ = watch(monkeypatch, "--replay", str(single), "--record", str(record), "-q", "-o", "line")
    assert output.count(" tx ") == 4, "a form that is asked for is printed"
