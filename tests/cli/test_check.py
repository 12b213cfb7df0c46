"""`--check`: a service's settings are read and resolved, and nothing is started."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

SECRET = "11" * 32


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "flashctl", *arguments], capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize(
    "arguments",
    [
        [
            "boost",
            "-P",
            "devnet",
            "--builder-url",
            "http://localhost:4444",
            "--l2-jwt-token",
            SECRET,
            "--rpc-port",
            "0",
            "--debug-server-port",
            "0",
            "--flashblocks-port",
            "0",
        ],
        ["builder", "-P", "devnet", "--http.port", "0", "--authrpc.port", "0", "--flashblocks.port", "0"],
        ["proxy", "-P", "devnet", "--listen-addr", "127.0.0.1:0", "--metrics-addr", "127.0.0.1:0"],
        ["rpc", "-P", "devnet", "--http.port", "0"],
        ["devnet", "--any-ports"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_good_settings_say_nothing(arguments: list[str]) -> None:
    done = run(*arguments, "--check")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["boost", "-P", "devnet"], "Missing Client JWT secret"),
        (["rpc"], "no flashblocks stream"),
        (["proxy", "-P", "devnet", "--validate", "maybe"], "--validate"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_bad_settings_are_named(arguments: list[str], complaint: str) -> None:
    done = run(*arguments, "--check")
    assert done.returncode == 2
    assert complaint in done.stderr.splitlines()[0]


@pytest.mark.parametrize(
    "arguments",
    [
        ["boost", "-P", "devnet", "--l2-jwt-token", SECRET, "--debug-server-port", "0", "--flashblocks-port",
         "0", "--rpc-port", "{port}"],
        ["builder", "--http.port", "0", "--flashblocks.port", "0", "--authrpc.port", "{port}"],
        ["proxy", "-P", "devnet", "--listen-addr", "127.0.0.1:{port}"],
        ["rpc", "-P", "devnet", "--http.port", "{port}"],
        ["devnet", "--any-ports", "--proxy-port", "{port}"],
    ],
    ids=lambda arguments: arguments[0],
)  # fmt: skip
def test_a_port_that_is_taken_is_named(arguments: list[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run(*(argument.replace("{port}", str(port)) for argument in arguments), "--check")
    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}" in done.stderr.splitlines()[0]


@pytest.mark.parametrize("role", ["builder", "devnet"])
def test_a_genesis_that_cannot_be_used_is_named(role: str, tmp_path: Path) -> None:
    genesis = tmp_path / "genesis.json"
    genesis.write_text("[]")
    done = run(role, "--genesis", str(genesis), "--check")
    assert done.returncode != 0 and "genesis.json" in done.stderr.splitlines()[0]


def test_a_jwt_secret_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    secret = tmp_path / "jwt.hex"
    secret.write_text("none")
    done = run("builder", "--authrpc.jwtsecret", str(secret), "--check")
    assert done.returncode == 2 and "JWT key" in done.stderr.splitlines()[0]
