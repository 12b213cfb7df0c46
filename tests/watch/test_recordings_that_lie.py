"""Recordings that are cut short, damaged, bombs, or none: what can be read is shown, then the error."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import zstandard
from support.decode_lab import run_command
from support.watch_lab import TX, TX_HASH, block, message

from flashctl.core.settings.files import open_for_writing

MESSAGES = [*block(1, 4), *block(2, 4), *block(3, 3)]


def shown(monkeypatch: pytest.MonkeyPatch, path: Path) -> tuple[int, int, str]:
    """Exit code, flashblocks shown, stderr of a replay."""
    code, output, errors = run_command(["watch", "--replay", str(path), "--json"], monkeypatch)
    events = [json.loads(line)["event"] for line in output.splitlines()]
    return code, events.count("flashblock"), errors


@pytest.mark.parametrize("suffix", [".gz", ".zst", ".br"])
def test_a_file_that_is_cut_short(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"cap.ndjson{suffix}"
    file = open_for_writing(path)
    for number, text in enumerate(MESSAGES):
        file.write(text + b"\n")
        if number % 4 == 3:
            file.flush()
    file.close()
    assert shown(monkeypatch, path)[:2] == (0, 11)
    path.write_bytes(path.read_bytes()[:-1])
    code, flashblocks, errors = shown(monkeypatch, path)
    assert code == 74 and 8 <= flashblocks <= 11
    assert "ends in the middle of its compressed data" in errors


def test_garbage_lines_are_told_and_skipped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "cap.ndjson"
    lines = [MESSAGES[0], b"garbage", MESSAGES[1], b"[1]", b"\xff\xfe", b"", MESSAGES[2], MESSAGES[3][:50]]
    path.write_bytes(b"\n".join(lines))
    code, flashblocks, errors = shown(monkeypatch, path)
    assert (code, flashblocks) == (65, 3)
    for number in (2, 4, 5, 8):
        assert f"line {number}: not" in errors
    assert "4 lines skipped" in errors


def test_a_thousand_garbage_lines_are_not_told_one_by_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "cap.ndjson"
    path.write_bytes(MESSAGES[0] + b"\n" + b"garbage\n" * 1000)
    code, flashblocks, errors = shown(monkeypatch, path)
    assert (code, flashblocks) == (65, 1)
    assert errors.count("\n") < 30 and "1,000 lines skipped" in errors


@pytest.mark.parametrize("content", [b"", b"\n\n", b'{"flashctl":1,"url":"ws://x","started":1}\n'])
def test_a_recording_of_nothing_is_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "cap.ndjson"
    path.write_bytes(content)
    code, _, errors = shown(monkeypatch, path)
    assert code == 65 and "holds no message" in errors


def test_a_byte_order_mark_is_no_garbage(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "cap.ndjson"
    path.write_bytes(b"\xef\xbb\xbf" + b"\r\n".join(MESSAGES))
    assert shown(monkeypatch, path)[:2] == (0, 11)


def blank_lines(path: Path, mebibytes: int) -> Path:
    with path.open("wb") as sink, zstandard.ZstdCompressor(level=19).stream_writer(sink) as file:
        for _ in range(mebibytes):
            file.write(b"\n" * 1024 * 1024)
    assert path.stat().st_size < 50_000
    return path


@pytest.mark.slow
def test_a_bomb_of_blank_lines_ends(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    code, flashblocks, errors = shown(monkeypatch, blank_lines(tmp_path / "bomb.zst", 400))
    assert (code, flashblocks) == (65, 0) and "500 times its size" in errors


def test_a_signal_is_heard_among_blank_lines(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    with path.open("wb") as file:
        file.write(message(1, 0) + b"\n")
        file.truncate(64 * 1024**3)  # a hole: one long line of zeros after another, and no message
    process = subprocess.Popen(
        [sys.executable, "-m", "flashctl", "watch", "--replay", str(path), "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert process.stdout is not None and b"flashblock" in process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) in (0, 143)
    finally:
        process.kill()
        process.wait()


def test_decode_shows_what_can_be_read_then_the_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "cap.ndjson.zst"
    file = open_for_writing(path)
    file.write(b"\n".join(message(2, index, transactions=(TX,)) for index in range(8)) + b"\n")
    file.flush()
    file.write(MESSAGES[8])
    file.flush()
    whole = path.read_bytes()
    file.close()
    path.write_bytes(whole)
    code, output, errors = run_command(["decode", str(path)], monkeypatch)
    assert code == 74 and "ends in the middle" in errors and output.count("0x0000000000000002")
    code, output, errors = run_command(["decode", "--json", str(path)], monkeypatch)
    assert code == 74 and output.count(TX_HASH) == 8


def test_decode_refuses_a_bomb(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import brotli

    path = tmp_path / "bomb.br"
    packer = brotli.Compressor(quality=9, lgwin=24)
    packed = b"".join(packer.process(b"0x00" * 262_144) for _ in range(200)) + packer.finish()
    path.write_bytes(packed)
    code, _, errors = run_command(["decode", str(path)], monkeypatch)
    assert code == 65 and "500 times its size" in errors
