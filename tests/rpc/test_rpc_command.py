"""`flashctl rpc` as a process: what it says when it cannot do what it was asked."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest


def start(*arguments: str, pass_fds: tuple[int, ...] = ()) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "flashctl", "rpc", *arguments]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, pass_fds=pass_fds
    )


def outcome(*arguments: str) -> tuple[int, list[str]]:
    with start(*arguments) as process:
        try:
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    return process.returncode, errors.splitlines()


NOWHERE = ("--flashblocks-url", "ws://127.0.0.1:1", "--upstream-rpc", "http://127.0.0.1:1")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ((), 2, "no flashblocks stream"),
        (NOWHERE[:2], 2, "no canonical node"),
        (("--flashblocks-url", "http://127.0.0.1:1", *NOWHERE[2:], "--http.port", "0"), 2, "is an HTTP URL"),
        ((*NOWHERE, "--chain", "base-mainet"), 2, "unknown chain 'base-mainet'"),
        ((*NOWHERE, "--genesis", "absent.json"), 74, "cannot read absent.json"),
        ((*NOWHERE, "--http.port", "70000"), 2, "70000"),
        ((*NOWHERE, "--metrics-addr", "nowhere"), 2, "not HOST:PORT"),
    ],
)
def test_one_line_and_the_right_exit_code(arguments: tuple[str, ...], code: int, message: str) -> None:
    returned, lines = outcome(*arguments)
    assert returned == code
    errors = [line for line in lines if line.startswith("flashctl: error:")]
    assert len(errors) == 1 and message in errors[0]
    assert not any("Traceback" in line for line in lines)


def test_a_genesis_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "genesis.json").write_text("[]")
    returned, lines = outcome(*NOWHERE, "--genesis", str(tmp_path / "genesis.json"))
    assert returned == 65 and "not a JSON object" in lines[0]


def test_a_port_that_is_taken() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        returned, lines = outcome(*NOWHERE, "--http.port", str(taken.getsockname()[1]))
    assert returned == 1
    assert "flashctl: error:" in lines[0] and "in use" in lines[0]


def test_it_serves_while_stream_and_node_are_away_and_ends_on_sigterm() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    read_end, write_end = os.pipe()
    with start(
        *NOWHERE, "--http.port", str(port), "--ready-fd", str(write_end), pass_fds=(write_end,)
    ) as process:
        os.close(write_end)
        try:
            with os.fdopen(read_end) as ready:
                assert ready.read() == "ready\n"
            request = urllib.request.Request(
                f"http://127.0.0.1:{port}",
                json.dumps(
                    {"jsonrpc": "2.0", "id": 1, "method": "eth_getBalance", "params": ["0x" + "11" * 20]}
                ).encode(),
                {"content-type": "application/json"},
            )
            with urllib.request.urlopen(request, timeout=10) as reply:
                answer = json.load(reply)
            assert answer["error"]["message"] == "upstream is not available"
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=60) == 0
        finally:
            process.kill()
