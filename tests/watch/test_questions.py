"""A question that was not answered is not answered yes; a connection that never worked is said."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys

import pytest
from support.decode_lab import run_command
from support.waiting import wait_until
from support.watch_lab import HOLD, StreamServer, block, text_frames


def interrupted(server: StreamServer, number: signal.Signals, *flags: str) -> int:
    process = subprocess.Popen(
        [sys.executable, "-m", "flashctl", "watch", server.url, "--json", *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert process.stdout is not None
        if "--tx" in flags:  # prints nothing before it is found
            wait_until(lambda: server.connections)
        else:
            assert b"connected" in process.stdout.readline()
        process.send_signal(number)
        return process.wait(60)
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 143)]
)
@pytest.mark.parametrize(
    "flags", [("--tx", "0x" + "ab" * 32), ("--until", "block:>=1000")], ids=lambda f: f[0]
)
def test_an_interrupted_question_is_not_answered_yes(
    number: signal.Signals, code: int, flags: tuple[str, str]
) -> None:
    with StreamServer([*text_frames(block(1, 4)), HOLD]) as server:
        assert interrupted(server, number, *flags) == code


def test_an_interrupted_tail_is_a_success() -> None:
    with StreamServer([*text_frames(block(1, 4)), HOLD]) as server:
        assert interrupted(server, signal.SIGINT) == 0


def dead_url() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"ws://127.0.0.1:{probe.getsockname()[1]}"


def test_an_address_without_anybody_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    code, output, errors = run_command(["watch", dead_url(), "-o", "line"], monkeypatch)
    assert code == 69 and "onnect" in errors and "--wait" in errors
    assert "disconnected" in output and "trying again" not in output, "for it does not"


def test_who_waits_is_told_why_nothing_came(monkeypatch: pytest.MonkeyPatch) -> None:
    code, _, errors = run_command(["watch", dead_url(), "-o", "line", "--timeout", "1s"], monkeypatch)
    assert code == 124 and "nothing conclusive within 1 s; the connection: " in errors
    code, output, _ = run_command(
        ["watch", dead_url(), "-o", "line", "--wait", "--duration", "1s"], monkeypatch
    )
    assert code == 0 and output.count("disconnected") > 1


def test_a_server_that_comes_late_is_met_by_who_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    with StreamServer([1.0], [*text_frames(block(1, 2)), HOLD]) as server:
        code, output, _ = run_command(["watch", server.url, "-n", "2", "-o", "line"], monkeypatch)
    assert code == 0 and output.count(" tx ") == 2
