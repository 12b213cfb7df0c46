"""Nothing that a user says is ignored without a word: flags, variables, profiles."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

SECRET = "11" * 32


def flashctl(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "flashctl", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environment},
    )


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (
            ("rpc", "--upstream-rpc", "http://a", "--upstream-rpc", "http://b"),
            "'--upstream-rpc': given twice",
        ),
        (("builder", "--chain", "a", "--genesis", "b"), "given twice"),
        (("boost", "--flashblocks", "--no-flashblocks"), "'--flashblocks': given twice"),
        (("boost", "--l2-jwt-token", SECRET, "--l2-jwt-path", "x"), "both name the secret"),
        (
            ("boost", "--l2-jwt-token", SECRET, "--builder-jwt-token", SECRET, "--builder-jwt-path", "x"),
            "--builder-jwt-token and --builder-jwt-path",
        ),
        (("proxy", "-P", "devnet", "-v", "--log-level", "info"), "both say how much is logged"),
        (("proxy", "-P", "devnet", "-v", "-q"), "contradict"),
        (
            ("proxy", "-P", "devnet", "--enable-compression", "--compression", "off"),
            "--enable-compression and --compression",
        ),
        (
            ("proxy", "-P", "devnet", "--upstream-api-key", "k", "--upstream-api-key-file", "f"),
            "--upstream-api-key and --upstream-api-key-file",
        ),
        (("watch", "ws://a", "--url", "ws://b"), "--url"),
        (("watch", "devnet", "-P", "devnet"), "devnet"),
        (("devnet", "-P", "base-mainnet"), "profile base-mainnet has no settings for devnet"),
        (("builder", "-P", "base"), "profile base-mainnet has no settings for builder"),
    ],
)
def test_two_answers_to_one_question_are_a_usage_error(arguments: tuple[str, ...], complaint: str) -> None:
    check = () if arguments[0] == "watch" else ("--check",)
    done = flashctl(*arguments, *check)
    assert done.returncode == 2, done.stderr
    assert complaint in done.stderr.splitlines()[0]


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (("boost", "--execution-mode"), "flashctl boost"),
        (("boost", "debug", "--debug-server-port"), "flashctl boost debug"),
        (("watch", "--timeout"), "flashctl watch"),
        (("--foo",), "flashctl"),
    ],
)
def test_the_hint_names_the_command_that_was_typed(arguments: tuple[str, ...], command: str) -> None:
    done = flashctl(*arguments)
    assert done.returncode == 2
    assert done.stderr.splitlines()[1] == f"hint: {command} --help"


def test_flags_that_may_repeat_still_do() -> None:
    urls = ("--upstream-ws", "ws://127.0.0.1:1", "--upstream-ws", "ws://127.0.0.1:2")
    done = flashctl("proxy", *urls, "--save-profile", "-")
    assert tomllib.loads(done.stdout)["proxy"]["upstream_ws"] == [urls[1], urls[3]]


class TestVariables:
    def test_unknown_ones_are_named_with_the_nearest(self) -> None:
        done = flashctl(
            "rpc", "-P", "devnet", "--check",
            FLASHCTL_RPC_UPSTREM_RPC="http://127.0.0.1:1", FLASHCTL_HTTP_PORT="1", FLASHCTL_PROXY_TYPO="1",
        )  # fmt: skip
        assert "FLASHCTL_RPC_UPSTREM_RPC is set" in done.stderr
        assert "did you mean FLASHCTL_RPC_UPSTREAM_RPC?" in done.stderr
        assert "did you mean FLASHCTL_RPC_HTTP_PORT?" in done.stderr
        assert "TYPO" not in done.stderr, "another role's"

    @pytest.mark.parametrize(
        ("role", "name"),
        [("boost", "TRACING"), ("boost", "LOG_FILE"), ("builder", "BUILDER_SECRET_KEY"),
         ("proxy", "WEBSOCKET_PROXY_LOG_FORMAT")],
    )  # fmt: skip
    def test_what_a_replaced_tool_reads_and_this_does_not_is_named(self, role: str, name: str) -> None:
        token = ("--l2-jwt-token", SECRET) if role == "boost" else ()
        assert name in flashctl(role, "-P", "devnet", *token, "--check", **{name: "hunter2"}).stderr
        off = flashctl(role, "-P", "devnet", *token, "--check", **{name: "false"})
        assert off.returncode in (0, 1, 69) and name not in off.stderr, (
            "1: a port is taken; 69: nobody answers"
        )

    @pytest.mark.parametrize(("given", "shown"), [("ERROR", 0), ("Warn", 1), ("WARNING", 1), ("debug", 1)])
    def test_log_level_is_read_in_any_case(self, given: str, shown: int) -> None:
        done = flashctl("proxy", "-P", "devnet", "--check", LOG_LEVEL=given, FLASHCTL_PROXY_X="1")
        assert done.stderr.count("FLASHCTL_PROXY_X") == shown

    def test_a_wrong_log_level_is_an_error_of_services_alone(self) -> None:
        assert flashctl("proxy", "-P", "devnet", "--check", LOG_LEVEL="loud").returncode == 2
        assert "not a level" not in flashctl("watch", "--replay", "/nowhere", LOG_LEVEL="loud").stderr

    def test_a_flag_goes_before_the_variable(self) -> None:
        done = flashctl("proxy", "-P", "devnet", "--check", "-q", LOG_LEVEL="debug", FLASHCTL_PROXY_X="1")
        assert "FLASHCTL_PROXY_X" not in done.stderr


class TestProfiles:
    def test_a_name_without_network_is_the_mainnet(self) -> None:
        saved = tomllib.loads(flashctl("rpc", "-P", "unichain", "--save-profile", "-").stdout)
        assert saved["rpc"]["upstream_rpc"] == "https://mainnet.unichain.org"

    def test_one_named_by_the_argument_of_watch_holds_settings_as_any_other(self, tmp_path: Path) -> None:
        mine = tmp_path / "mine.toml"
        mine.write_text('[watch]\nurl = "ws://127.0.0.1:1/ws"\ninterval = "250ms"\nno_deposits = true\n')
        by_argument = flashctl("watch", str(mine), "--save-profile", "-", FLASHCTL_PROFILE="devnet")
        assert by_argument.stdout == flashctl("watch", "-P", str(mine), "--save-profile", "-").stdout
        settings = tomllib.loads(by_argument.stdout)["watch"]
        assert (settings["interval"], settings["no_deposits"]) == ("250ms", True)
        mine.write_text('[watch]\nurl = "ws://127.0.0.1:1/ws"\nintervall = "250ms"\n')
        assert "did you mean 'interval'?" in flashctl("watch", str(mine)).stderr

    def test_a_profile_of_the_environment_may_be_about_others(self) -> None:
        done = flashctl("builder", "--save-profile", "-", FLASHCTL_PROFILE="unichain-mainnet")
        assert done.returncode == 0, done.stderr

    @pytest.mark.parametrize("text", ["a = " + "[" * 5000, "[proxy]\na = " + "{a=" * 5000])
    def test_deep_nesting_is_a_usage_error(self, text: str, tmp_path: Path) -> None:
        profile = tmp_path / "deep.toml"
        profile.write_text(text)
        for flag in ("--profile", "--limits-file"):
            done = flashctl("proxy", "--upstream-ws", "ws://127.0.0.1:1", flag, str(profile), "--check")
            assert done.returncode == 2
            assert "nested too deeply" in done.stderr.splitlines()[0]

    def test_a_setting_in_two_spellings_is_said_twice(self, tmp_path: Path) -> None:
        profile = tmp_path / "twice.toml"
        profile.write_text("[rpc]\nhttp-port = 1\nhttp_port = 2\n")
        assert "twice" in flashctl("rpc", "-P", str(profile), "--check").stderr

    def test_saved_ones_are_their_owner_s_alone(self, tmp_path: Path) -> None:
        saved, link = tmp_path / "saved.toml", tmp_path / "link.toml"
        saved.write_text("[watch]\nurl = 'ws://127.0.0.1:1'\n")
        saved.chmod(0o644)
        link.symlink_to(saved)
        assert flashctl("proxy", "-P", "devnet", "--save-profile", str(link)).returncode == 0
        assert link.is_symlink()
        assert stat.S_IMODE(saved.stat().st_mode) == 0o600
        assert set(tomllib.loads(saved.read_text())) == {"watch", "proxy"}
        assert sorted(path.name for path in tmp_path.iterdir()) == ["link.toml", "saved.toml"]

    def test_a_pipe_gets_the_table(self, tmp_path: Path) -> None:
        done = flashctl("proxy", "-P", "devnet", "--save-profile", "/dev/stdout")
        assert (done.returncode, done.stdout) == (
            0,
            flashctl("proxy", "-P", "devnet", "--save-profile", "-").stdout,
        )
        assert tomllib.loads(done.stdout)["proxy"]["listen_addr"] == "127.0.0.1:8547"

    @pytest.mark.parametrize("url", ["ws://host/v2/hunter2", "ws://host/?key=hunter2", "ws://u:hunter2@host"])
    def test_urls_that_may_hold_a_key_are_not_written(self, url: str) -> None:
        done = flashctl("rpc", "--flashblocks-url", url, "--upstream-rpc", "http://a", "--save-profile", "-")
        assert "hunter2" not in done.stdout + done.stderr
        assert "flashblocks_url may be a secret" in done.stderr


def test_any_ports_keeps_those_that_are_given() -> None:
    from flashctl.devnet.config import Ports

    ports = Ports(rpc=8888).others_free({"rpc"})
    assert (ports.rpc, ports.proxy, ports.builder_engine) == (8888, 0, 0)
