"""The command line as a user meets it: real processes, their output, their exit codes, their start-up."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from flashctl.cli.app import main
from flashctl.cli.completions import FILES, completion_script
from flashctl.cli.options import ROLES

REPOSITORY = Path(__file__).resolve().parents[2]


def flashctl(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "flashctl", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environment},
    )


def test_help_lists_every_role() -> None:
    result = flashctl("--help")
    assert result.returncode == 0 and result.stderr == ""
    for role, summary in ROLES.items():
        assert role in result.stdout and summary in result.stdout


def test_no_command_is_help_and_a_usage_error() -> None:
    result = flashctl()
    assert result.returncode == 2 and "Commands:" in result.stdout


def test_version() -> None:
    assert flashctl("--version").stdout.startswith("flashctl 0.")


@pytest.mark.parametrize("role", ROLES)
def test_every_role_has_help_with_an_example(role: str) -> None:
    result = flashctl(role, "--help")
    assert result.returncode == 0, result.stderr
    assert f"  flashctl {role}" in result.stdout, "no example"


@pytest.mark.parametrize(
    ("arguments", "error", "hint"),
    [
        (("wathc",), "no command named 'wathc'", "did you mean 'watch'?"),
        (("decode", "--nope"), "No such option: --nope", "flashctl decode --help"),
        (("decode", "--profile", "base-sepola", "0x"), "no profile named", "did you mean 'base-sepolia'?"),
        (("decode", "--log-level", "loud", "0x"), "'loud': not a level", "levels: error, warning"),
    ],
)
def test_a_wrong_command_line_is_one_error_and_one_hint(
    arguments: tuple[str, ...], error: str, hint: str
) -> None:
    result = flashctl(*arguments)
    assert result.returncode == 2
    assert result.stdout == ""
    first, second = result.stderr.splitlines()
    assert first.startswith("flashctl: error: ") and error in first
    assert second.startswith("hint: ") and hint in second


def test_a_reader_that_leaves_is_exit_141_without_a_word() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    with os.fdopen(write_end, "wb") as closed:
        result = subprocess.run(
            [sys.executable, "-m", "flashctl", "--help"], stdout=closed, stderr=subprocess.PIPE, timeout=30
        )
    assert result.returncode == 141
    assert result.stderr == b""


def imported_by(code: str) -> set[str]:
    script = f"import sys; {code}; print('\\n'.join(sys.modules))"
    output = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    return set(output.split())


HEAVY = (
    "asyncio", "uvloop", "websockets", "httpx", "httptools", "uvicorn", "orjson", "brotli", "zstandard",
    "prometheus_client", "coincurve", "Crypto", "cryptography", "rlp", "rich", "pydantic", "tomli_w",
    "flashctl.core",
    "flashctl.eth", "flashctl.evm", "flashctl.op", "flashctl.chain",
)  # fmt: skip


def test_the_command_line_module_imports_typer_and_little_else() -> None:
    assert imported_by("import flashctl.cli.app").isdisjoint(HEAVY)


@pytest.mark.parametrize("role", ROLES)
def test_a_roles_flags_cost_no_import_of_the_role(role: str) -> None:
    loaded = imported_by(f"import flashctl.cli.{role}")
    assert loaded.isdisjoint(HEAVY)
    assert not any(name.startswith(f"flashctl.{role}") for name in loaded)


@pytest.mark.parametrize(
    "arguments", [("--help",), ("proxy", "--help"), ("decode", "0x02"), ("rpc", "--http.port", "70000")]
)
def test_parsing_flags_imports_no_pydantic(arguments: tuple[str, ...]) -> None:
    """typer 0.29 would, for every value: 60 ms of the 150 that a `flashctl decode` may take."""
    loaded = imported_by(f"from flashctl.cli.app import main; main({list(arguments)!r})")
    assert "pydantic" not in loaded


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("rpc", "--http.port", "x"), "'x' is not an integer"),
        (("rpc", "--http.port", "-1"), "-1 is less than 0"),
        (("devnet", "--tx-rate", "many"), "'many' is not a number"),
    ],
)
def test_values_that_do_not_fit_are_named(arguments: tuple[str, ...], message: str) -> None:
    result = flashctl(*arguments)
    assert result.returncode == 2 and message in result.stderr


@pytest.mark.parametrize("shell", FILES)
def test_completion_files_are_current(shell: str) -> None:
    committed = (REPOSITORY / "completions" / FILES[shell]).read_text()
    assert committed == completion_script(shell), "run: make completions"


def test_completion_knows_roles_flags_and_profiles() -> None:
    def complete(words: str, position: int) -> list[str]:
        variables = {"_FLASHCTL_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(position)}
        return flashctl(**variables).stdout.split()

    assert complete("flashctl de", 1) == ["devnet", "decode"]
    assert "--upstream-ws" in complete("flashctl proxy --up", 2)
    assert complete("flashctl watch -P base", 3) == ["base-mainnet", "base-sepolia"]


@pytest.mark.parametrize("role", ROLES)
def test_help_names_values_and_no_types(role: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([role, "--help"]) == 0
    shown = capsys.readouterr().out
    options = shown[shown.index("\nOptions:") :]
    assert not re.search(r"<(str|int|float|path|list)\b", options) and "--install-completion" not in options


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [(("boost", "status"), "boost debug"), (("boost", "debgu"), "did you mean 'debug'"),
     (("proxy", "statu"), "did you mean 'status'"), (("boost", "--nonsense"), "flashctl boost --help")],
)  # fmt: skip
def test_a_word_that_is_no_command_of_a_role_is_answered_with_those_that_are(
    arguments: tuple[str, ...], hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert hint in capsys.readouterr().err


@pytest.mark.parametrize("role", ["boost", "proxy"])
def test_the_usage_of_a_service_shows_no_verb(role: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([role, "--help"]) == 0
    assert capsys.readouterr().out.startswith(f"Usage: flashctl {role} [OPTIONS]")
