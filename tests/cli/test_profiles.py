"""The profiles that come with flashctl are valid for every role they speak to, and settings follow one
precedence."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from flashctl.cli.options import ROLES
from flashctl.core.settings.profile import load_profile

PROFILES = Path(__file__).resolve().parents[2] / "profiles"
NAMES = (
    "devnet",
    "base-mainnet",
    "base-sepolia",
    "unichain-mainnet",
    "unichain-sepolia",
    "op-mainnet",
    "op-sepolia",
)


def test_the_promised_profiles_exist() -> None:
    assert sorted(NAMES) == sorted(path.stem for path in PROFILES.glob("*.toml"))
    assert all(load_profile(name).description for name in NAMES)


@pytest.mark.parametrize(
    ("name", "interval"), [("op", "250ms"), ("op-sepolia", "250ms"), ("unichain", "200ms")]
)
def test_a_chain_s_interval_is_what_jitter_is_measured_against(name: str, interval: str) -> None:
    command = [sys.executable, "-m", "flashctl", "watch", name, "--save-profile", "-"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert tomllib.loads(done.stdout)["watch"]["interval"] == interval
    assert done.stderr == ""


@pytest.mark.parametrize(("name", "since"), [("base", "2026-11-05"), ("base-sepolia", "2026-10-21")])
def test_whoever_asks_for_a_stream_that_ended_is_told_since_when_and_what_instead(
    name: str, since: str
) -> None:
    command = [sys.executable, "-m", "flashctl", "watch", "--check", name, "--url", "ws://127.0.0.1:1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert since in done.stderr and "newHeads" in done.stderr
    profile = load_profile(name)
    assert since in profile.description and since in profile.notice


PAIRS = [(name, role) for name in NAMES for role in load_profile(name).tables]


@pytest.mark.parametrize(("name", "role"), PAIRS)
def test_every_key_is_a_flag_of_its_role(name: str, role: str, tmp_path: Path) -> None:
    """`--save-profile` parses everything and runs nothing, so it shows what a profile amounts to."""
    assert role in ROLES
    saved = tmp_path / "saved.toml"
    result = subprocess.run(
        [sys.executable, "-m", "flashctl", role, "--profile", name, "--save-profile", str(saved)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 0, result.stderr
    effective = tomllib.loads(saved.read_text())[role]
    for key, value in load_profile(name).tables[role].items():
        assert effective[key] == value


@pytest.mark.parametrize(
    "flags",
    [
        ["--bus", "redis://:hunter2@localhost:6379"],
        ["--redis-url", "redis://:hunter2@localhost:6379"],
        ["--upstream-header", "X-Key: hunter2"],
        ["--upstream-api-key", "hunter2"],
        ["--upstream-ws", "wss://user:hunter2@example.org/ws"],
    ],
    ids=lambda flags: flags[0],
)
def test_secrets_are_not_written_down(flags: list[str], tmp_path: Path) -> None:
    saved = tmp_path / "saved.toml"
    done = subprocess.run(
        [sys.executable, "-m", "flashctl", "proxy", *flags, "--save-profile", str(saved)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0
    assert "may be a secret and was not written" in done.stderr
    assert "hunter2" not in saved.read_text() + done.stderr


def test_every_command_of_a_role_reads_the_role_s_table(tmp_path: Path) -> None:
    profile = tmp_path / "mine.toml"
    profile.write_text('[boost]\nbuilder_url = "http://127.0.0.1:4444"\ndebug_server_port = 9\n')

    def debug() -> str:
        done = subprocess.run(
            [sys.executable, "-m", "flashctl", "boost", "debug", "-P", str(profile)],
            capture_output=True,
            text=True,
            timeout=60,
        )
        return done.stderr.splitlines()[0]

    assert "127.0.0.1:9" in debug()
    profile.write_text("[boost]\ndebug_sever_port = 9\n")
    assert "has no setting 'debug_sever_port'" in debug()


@pytest.mark.parametrize(
    ("given", "limit"),
    [
        ({}, 7),
        ({"INSTANCE_CONNECTION_LIMIT": "6"}, 6),
        ({"INSTANCE_CONNECTION_LIMIT": "6", "FLASHCTL_PROXY_INSTANCE_CONNECTION_LIMIT": "5"}, 5),
        ({"INSTANCE_CONNECTION_LIMIT": "6", "flag": "4"}, 4),
    ],
)
def test_a_flag_of_a_group_comes_from_flag_environment_or_profile(
    given: dict[str, str], limit: int, tmp_path: Path
) -> None:
    """websocket-proxy's own variable counts too, after ours."""
    profile, saved = tmp_path / "mine.toml", tmp_path / "saved.toml"
    profile.write_text("[proxy]\ninstance_connection_limit = 7\n")
    flag = given.pop("flag", None)
    more = ["--instance-connection-limit", flag] if flag else []
    command = ["proxy", "--profile", str(profile), "--save-profile", str(saved), *more]
    subprocess.run(
        [sys.executable, "-m", "flashctl", *command], env={**os.environ, **given}, timeout=30, check=True
    )
    assert tomllib.loads(saved.read_text())["proxy"]["instance_connection_limit"] == limit
