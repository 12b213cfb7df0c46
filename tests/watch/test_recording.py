"""Recordings: what goes in comes out, byte for byte, in every compression; what is no recording says so."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.decode_lab import run_command
from support.examples import examples
from support.flashblocks import base_sepolia_block, streamed_block
from support.watch_lab import arrive, block, message

from flashctl.core.flashblocks.wire import compress
from flashctl.errors import DataError, IoError
from flashctl.watch.recording import Recorder, Replay, line_of_arrival


def record(path: Path, frames: list[bytes], *, raw: bool = False) -> None:
    recorder = Recorder(path, 'ws://host/"quoted"', raw=raw)
    for number, frame in enumerate(frames):
        binary = not frame.startswith(b"{")
        recorder.record(arrive(frame, number, binary=binary), None if binary else frame, f"0x{number // 4}")
    recorder.close()


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst", ".br"])
@pytest.mark.parametrize("raw", [False, True], ids=["json", "raw"])
def test_a_recording_gives_back_what_was_recorded(tmp_path: Path, suffix: str, raw: bool) -> None:
    path = tmp_path / f"cap.ndjson{suffix}"
    frames = [*block(1, 4), *block(2, 4)]
    record(path, frames, raw=raw)
    replay = Replay(path)
    arrivals = list(replay)
    assert [arrival.data for arrival in arrivals] == frames
    assert [arrival.received_ns for arrival in arrivals] == [arrive(b"", n).received_ns for n in range(8)]
    assert replay.url == 'ws://host/"quoted"' and replay.untimed == 0


def test_the_size_on_the_wire_is_kept(tmp_path: Path) -> None:
    frame = compress(message(1, 0))
    path = tmp_path / "cap.ndjson"
    recorder = Recorder(path, "ws://x")
    recorder.record(arrive(frame, binary=True), message(1, 0), "0x1")
    recorder.close()
    (arrival,) = Replay(path)
    assert arrival.wire_bytes == len(frame) and arrival.data == message(1, 0)


@pytest.mark.parametrize("suffix", [".zst", ""])
def test_a_recording_that_was_cut_off_keeps_every_finished_block(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"cap.ndjson{suffix}"
    recorder = Recorder(path, "ws://x")
    for number, frame in enumerate([*block(1, 4), *block(2, 4), *block(3, 1)]):
        recorder.record(arrive(frame, number), frame, f"0x{number // 4}")
    # Not closed: the process was killed. The first message of a block flushes the one before it.
    arrivals = []
    try:
        for arrival in Replay(path):
            arrivals.append(arrival)  # noqa: PERF402
    except (DataError, IoError):
        pass
    assert len(arrivals) >= 8


@settings(max_examples=examples(50))
@given(st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=20), max_size=5))
def test_any_object_survives_a_line(content: dict[str, object]) -> None:
    text = json.dumps(content).encode()
    line = line_of_arrival(arrive(text))
    assert line.count(b"\n") == 1
    assert json.loads(line)["d"] == json.loads(text)


def test_a_pretty_printed_message_becomes_one_line() -> None:
    text = json.dumps(json.loads(message(1, 0)), indent=2).encode()
    line = line_of_arrival(arrive(text))
    assert line.count(b"\n") == 1 and json.loads(line)["d"] == json.loads(text)


def test_an_array_and_plain_lines_are_read_with_made_up_times(tmp_path: Path) -> None:
    messages = base_sepolia_block()
    array, lines = tmp_path / "array.json", tmp_path / "lines.ndjson"
    array.write_text(json.dumps(messages, indent=1))
    lines.write_text("\n".join(map(json.dumps, messages)))
    for path in (array, lines):
        replay = Replay(path)
        arrivals = list(replay)
        assert len(arrivals) == 11 and replay.untimed == 11
        steps = {b.monotonic_ns - a.monotonic_ns for a, b in pairwise(arrivals)}
        assert steps == {200_000_000}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("not json\n", "line 1: not JSON"),
        ('{"t":1,"m":1,"enc":"json"}\n', "without d or raw"),
        ('{"t":"x","d":{}}\n', "t is not a time"),
        ('{"t":1,"m":1,"raw":"*"}\n', "raw is not base64"),
        ("[1,2\n", "not a recording"),
        ("5\n", "not a JSON object"),
    ],
)
def test_what_is_no_recording_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str, words: str
) -> None:
    path = tmp_path / "bad.ndjson"
    path.write_text(content)
    code, _, errors = run_command(["watch", "--replay", str(path)], monkeypatch)
    assert code == 65 and words in errors and "Traceback" not in errors


def test_files_that_cannot_be_read_or_written_exit_74(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert run_command(["watch", "--replay", str(tmp_path / "absent")], monkeypatch)[0] == 74
    broken = tmp_path / "broken.gz"
    broken.write_bytes(b"no gzip")
    assert run_command(["watch", "--replay", str(broken)], monkeypatch)[0] == 74
    code, _, errors = run_command(
        ["watch", "--replay", str(tmp_path / "x"), "--record", str(tmp_path / "no" / "dir")], monkeypatch
    )
    assert code == 74 and "cannot write" in errors


def test_record_then_replay_shows_the_same_events(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    source = tmp_path / "source.ndjson"
    source.write_text("\n".join(map(json.dumps, streamed_block())))
    kept = tmp_path / "kept.ndjson.zst"
    first = run_command(["watch", "--replay", str(source), "--json", "--record", str(kept)], monkeypatch)
    second = run_command(["watch", "--replay", str(kept), "--json"], monkeypatch)
    assert first[0] == second[0] == 0 and first[1] == second[1]
    # And the JSON output is itself a recording.
    again = tmp_path / "again.ndjson"
    again.write_text(second[1])
    third = run_command(["watch", "--replay", str(again), "--json"], monkeypatch)
    events = [[json.loads(line)["event"] for line in run[1].splitlines()] for run in (first, third)]
    assert events[0] == events[1]
