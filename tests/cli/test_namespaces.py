"""`--http.api` and `--http.corsdomain` of builder and rpc, and what the devnet gives its children."""

from __future__ import annotations

from pathlib import Path

import pytest

from flashctl.core.jsonrpc.namespaces import parse_origins
from flashctl.devnet.commands import Layout, role_commands
from flashctl.devnet.config import DevnetConfig
from flashctl.errors import UsageError
from tests.cli.test_inputs import flashctl


@pytest.mark.parametrize("role", ["builder", "rpc"])
@pytest.mark.parametrize(
    ("flag", "value", "complaint"),
    [
        ("--http.api", "eth;net", "not a list of namespaces"),
        ("--http.corsdomain", "dapp.example", "'dapp.example' is not an origin"),
        ("--http.corsdomain", "https://dapp.example/page", "is not an origin"),
    ],
)
def test_what_is_no_namespace_or_origin_is_a_usage_error(
    role: str, flag: str, value: str, complaint: str
) -> None:
    done = flashctl(role, "-P", "devnet", flag, value, "--check")
    assert done.returncode == 2
    assert complaint in done.stderr.splitlines()[0]


def test_origins_come_repeated_and_by_commas() -> None:
    assert parse_origins(None) == ()
    assert parse_origins(["https://a, http://b:3000/", "null"]) == ("https://a", "http://b:3000", "null")
    with pytest.raises(UsageError):
        parse_origins(["*", "a"])


def test_a_devnet_opens_its_ports_to_browsers_and_debuggers(tmp_path: Path) -> None:
    commands = role_commands(DevnetConfig(), Layout(tmp_path), DevnetConfig().ports)
    for name in ("builder", "fallback", "rpc"):
        command = commands[name]
        assert command[command.index("--http.corsdomain") + 1] == "*"
        assert "debug" in command[command.index("--http.api") + 1]
        assert "miner" not in command[command.index("--http.api") + 1]
