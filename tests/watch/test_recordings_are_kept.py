"""No recording is destroyed, and none has holes because output is not read."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest
from support.decode_lab import run_command
from support.waiting import wait_until
from support.watch_lab import HOLD, StreamServer, block, text_frames
from websockets.asyncio.server import ServerConnection, serve

from flashctl.core.service.printer import Printer
from flashctl.watch.recording import QueuedFile, Replay

MESSAGES = [*block(1, 4), *block(2, 4)]


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "cap.ndjson"
    path.write_bytes(b"\n".join(MESSAGES) + b"\n")
    return path


@pytest.mark.parametrize("link", ["same", "symbolic", "hard"])
def test_a_recording_is_not_replayed_into_itself(
    monkeypatch: pytest.MonkeyPatch, recording: Path, link: str
) -> None:
    other = recording
    if link != "same":
        other = recording.with_name("other.ndjson")
        (os.symlink if link == "symbolic" else os.link)(recording, other)
    before = recording.read_bytes()
    code, _, errors = run_command(["watch", "--replay", str(recording), "--record", str(other)], monkeypatch)
    assert code == 2 and "same file" in errors
    assert recording.read_bytes() == before


def test_a_recording_is_not_written_over(
    monkeypatch: pytest.MonkeyPatch, recording: Path, tmp_path: Path
) -> None:
    kept = tmp_path / "kept.ndjson"
    command = ["watch", "--replay", str(recording), "--record", str(kept), "-q"]
    assert run_command(command, monkeypatch)[0] == 0
    before = kept.read_bytes()
    code, _, errors = run_command(command, monkeypatch)
    assert code == 2 and "exists and is not empty" in errors
    assert kept.read_bytes() == before
    kept.write_bytes(b"")  # as mktemp leaves it
    assert run_command(command, monkeypatch)[0] == 0
    assert [arrival.data for arrival in Replay(kept)] == MESSAGES


@pytest.mark.parametrize("suffix", [".xz", ".bz2", ".zip", ".zstd"])
def test_a_compression_that_is_not_known_is_refused(
    monkeypatch: pytest.MonkeyPatch, recording: Path, suffix: str
) -> None:
    path = recording.with_suffix(suffix)
    code, _, errors = run_command(["watch", "--replay", str(recording), "--record", str(path)], monkeypatch)
    assert code == 2 and suffix in errors and not path.exists()


def test_a_recording_on_stdout_is_one(
    monkeypatch: pytest.MonkeyPatch, recording: Path, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    code, output, _ = run_command(
        ["watch", "--replay", str(recording), "--record", "-", "--stats"], monkeypatch
    )
    assert code == 0 and not (tmp_path / "-").exists()
    again = tmp_path / "again.ndjson"
    again.write_text(output)
    assert [arrival.data for arrival in Replay(again)] == MESSAGES
    code, _, errors = run_command(
        ["watch", "--replay", str(recording), "--record", "-", "--json"], monkeypatch
    )
    assert code == 2 and "both want stdout" in errors


@pytest.mark.parametrize(
    ("flags", "errors"),
    [(["--json"], subprocess.DEVNULL), (["--raw", "--stats-every", "50ms"], subprocess.STDOUT)],
    ids=["stdout", "stdout and stderr on one pipe"],
)
def test_a_blocked_reader_stops_no_recording(tmp_path: Path, flags: list[str], errors: int) -> None:
    """400 messages of 4 KB fill the pipe many times over; the last is a block's first, which is flushed."""
    path = tmp_path / "cap.ndjson"
    frames = [message for number in range(1, 101) for message in block(number, 4)]
    frames = [frame[:-1] + b',"padding":"' + b"x" * 4000 + b'"}' for frame in frames]
    junk = [f"junk {number}" for number in range(20)]
    steps = [*text_frames(frames), *junk, *text_frames(block(200, 1)), HOLD]
    with StreamServer(steps) as server:
        process = subprocess.Popen(
            [sys.executable, "-m", "flashctl", "watch", server.url, *flags, "--record", str(path)],
            stdout=subprocess.PIPE,
            stderr=errors,
        )
        try:

            def kept() -> bool:
                assert process.poll() is None
                return path.exists() and path.read_bytes().count(b'"n":') >= len(frames) + 1

            wait_until(kept)
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
        finally:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()
    arrivals = list(Replay(path, complain=lambda _: None))
    assert [arrival.data for arrival in arrivals if b"junk" not in arrival.data][: len(frames)] == frames


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("is_read_at_last", [True, False])
def test_a_fifo_that_is_not_read_stops_nothing_and_is_whole_or_an_error(
    tmp_path: Path, suffix: str, is_read_at_last: bool
) -> None:
    """1.6 MB of messages that do not compress, and a pipe that holds 64 KB."""
    fifo, shown = tmp_path / f"fifo{suffix}", tmp_path / "shown"
    os.mkfifo(fifo)
    frames = [message for number in range(1, 101) for message in block(number, 4)]
    frames = [frame[:-1] + b',"padding":"%s"}' % os.urandom(2000).hex().encode() for frame in frames]
    with StreamServer([*text_frames(frames), HOLD]) as server, shown.open("wb") as stdout:
        process = subprocess.Popen(
            [sys.executable, "-m", "flashctl", "watch", server.url, "--json", "--record", str(fifo)],
            stdout=stdout,
            stderr=subprocess.PIPE,
        )
        reader = os.open(fifo, os.O_RDONLY)
        taken = b""
        try:
            while shown.read_bytes().count(b'"event":"flashblock"') < len(frames):
                assert process.poll() is None
                time.sleep(0.05)
            process.send_signal(signal.SIGTERM)
            while is_read_at_last and (piece := os.read(reader, 1 << 16)):
                taken += piece
            assert process.wait(60) == (0 if is_read_at_last else 74)
            assert process.stderr is not None
            assert is_read_at_last or b"is lost: its reader did not take" in process.stderr.read()
        finally:
            os.close(reader)
            process.kill()
            process.communicate()
    if is_read_at_last:
        (copy := tmp_path / f"copy{suffix}").write_bytes(taken)
        assert [arrival.data for arrival in Replay(copy)] == frames


def test_a_recording_whose_reader_is_too_far_behind_ends_instead_of_having_a_hole(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    file = QueuedFile(Printer(writer, most=200_000))
    with pytest.raises(OSError, match="behind"):
        for _ in range(1000):
            file.write(b"x" * 1000)
    os.close(reader)
    os.close(writer)


@pytest.mark.parametrize(("record", "code"), [("-", 141), ("fifo", 74)])
def test_the_reader_of_a_recording_leaves(tmp_path: Path, record: str, code: int) -> None:
    """stdout as any output; a file that cannot be written is an error."""
    path, fifo = tmp_path / "cap.ndjson", tmp_path / "fifo"
    frames = [message for number in range(1, 1000) for message in block(number, 1)]
    path.write_bytes(b"".join(frame[:-1] + b',"padding":"' + b"x" * 4000 + b'"}\n' for frame in frames))
    os.mkfifo(fifo)
    process = subprocess.Popen(
        [sys.executable, "-m", "flashctl", "watch", "-q", "--replay", str(path), "--record", record],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
    )
    assert process.stdout is not None
    with process.stdout if record == "-" else fifo.open("rb") as stream:
        stream.read(10)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == code
    assert (b"Broken pipe" in errors) == (record == "fifo")


def test_the_files_of_a_run_are_distinct(recording: Path, tmp_path: Path) -> None:
    """Whoever writes them: a flag or the shell."""
    new = tmp_path / "new.svg"
    cases = [
        ["--replay", str(recording), "--record", str(new), "--json"],  # > new.svg
        ["--replay", str(recording), "--record", str(new), "--plot", str(new)],
        ["--replay", str(recording), "--plot", str(recording)],
        ["--replay", str(recording), "--plot", str(new)],  # > new.svg
    ]
    before = recording.read_bytes()
    for case in cases:
        with new.open("wb") as stdout:
            result = subprocess.run(
                [sys.executable, "-m", "flashctl", "watch", *case],
                stdout=stdout, stderr=subprocess.PIPE, timeout=60, check=False,
            )  # fmt: skip
        assert result.returncode == 2 and b"file" in result.stderr, case
        assert new.read_bytes() == b"" and recording.read_bytes() == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("moment", ["printing", "printed"])
def test_a_replay_into_a_blocked_pipe_ends_at_the_first_signal(
    tmp_path: Path, number: signal.Signals, moment: str
) -> None:
    """Whether the blocked reader is met in the middle or after the last message."""
    path, count = tmp_path / "cap.ndjson", 1000 if moment == "printing" else 40
    frames = [message for number in range(1, count) for message in block(number, 1)]
    path.write_bytes(b"".join(frame[:-1] + b',"padding":"' + b"x" * 4000 + b'"}\n' for frame in frames))
    process = subprocess.Popen(
        [sys.executable, "-m", "flashctl", "watch", "--replay", str(path), "--json"], stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        pipe = process.stdout.fileno()

        def full() -> bool:
            assert process.poll() is None
            return _unread(pipe) >= 60_000

        wait_until(full)
        time.sleep(0.2)  # nothing tells when the writer has come to wait for the pipe
        process.send_signal(number)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("source", ["stdin", "fifo"])
def test_a_replay_of_a_silent_pipe_ends_at_the_first_signal(
    tmp_path: Path, number: signal.Signals, source: str
) -> None:
    """After the messages that the pipe had, which are printed as they come."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    replay = "-" if source == "stdin" else str(fifo)
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "flashctl",
            "watch",
            "--replay",
            replay,
            "--raw",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        with process.stdin if source == "stdin" else fifo.open("wb") as writer:
            writer.write(b"\n".join(MESSAGES) + b"\n")
            writer.flush()
            assert [process.stdout.readline().rstrip() for _ in MESSAGES] == MESSAGES
            process.send_signal(number)
            assert process.wait(60) == 0
        assert b"Fatal" not in process.stderr.read()
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdout, process.stderr):
            assert stream is not None
            stream.close()


def test_a_piped_recording_is_replayed_whole(tmp_path: Path) -> None:
    frames = [message for number in range(1, 101) for message in block(number, 4)]
    result = subprocess.run(
        [sys.executable, "-m", "flashctl", "watch", "--replay", "-", "--raw"],
        input=b"\n".join([*frames, b"junk"]) + b"\n", capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert result.stdout.splitlines() == frames
    assert result.returncode == 65 and b"line 401: not JSON" in result.stderr


def _unread(descriptor: int) -> int:
    """Bytes in a pipe."""
    return int.from_bytes(fcntl.ioctl(descriptor, termios.FIONREAD, bytes(4)), sys.byteorder)


def test_who_reads_slowly_gets_everything_in_the_end(tmp_path: Path) -> None:
    frames = [message for number in range(1, 101) for message in block(number, 4)]

    async def run() -> bytes:
        async def handle(connection: ServerConnection) -> None:
            for frame in frames:
                await connection.send(frame.decode())
            await connection.wait_closed()

        async with serve(handle, "127.0.0.1", 0) as server:
            url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "flashctl", "watch", url, "--json", "-n", "400"),
                stdout=asyncio.subprocess.PIPE,
                limit=1024,
            )
            assert process.stdout is not None
            output = b""
            while piece := await process.stdout.read(4096):
                output += piece
                await asyncio.sleep(0)
            assert await process.wait() == 0
            return output

    events = [json.loads(line) for line in asyncio.run(run()).splitlines()]
    assert sum(event["event"] == "flashblock" for event in events) == 400


def test_a_printer_has_a_bound_and_tells() -> None:
    reader, writer = os.pipe()
    printer = Printer(writer, most=200_000)
    for number in range(1000):
        printer.raw(b"%04d" % number + b"x" * 995 + b"\n")
    assert 700 < printer.skipped < 1000
    printer.finish(0.0)
    kept = 1000 - printer.skipped
    output = b""
    while output.count(b"\n") < kept:
        output += os.read(reader, 1 << 16)
    numbers = [int(line[:4]) for line in output.splitlines()]
    assert numbers == sorted(set(numbers)) and len(numbers) == kept
    printer.finish(None)
    os.close(reader)
    with pytest.raises(BrokenPipeError):
        while True:
            printer.raw(b"x" * 1000)
    with pytest.raises(BrokenPipeError):
        printer.finish(None)
    os.close(writer)
