"""The command line as a user meets it: real processes, their output, their exit codes, their start-up."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from flashctl.cli.app import main
from flashctl.cli.completions import FILES, completion_script
from flashctl.cli.help import _examples
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
    result = flashctl("--help", COLUMNS="90")
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


def complete(words: str) -> list[str]:
    """What bash offers for the last of the words, which is empty after a trailing blank."""
    position = len(words.split(" ")) - 1
    variables = {"_FLASHCTL_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(position)}
    return flashctl(**variables).stdout.split()


def test_completion_knows_roles_flags_and_profiles() -> None:
    assert complete("flashctl de") == ["devnet", "decode"]
    assert "--upstream-ws" in complete("flashctl proxy --up")
    assert complete("flashctl watch -P base") == ["base-mainnet", "base-sepolia"]


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("flashctl boost ", ["debug"]),
        ("flashctl proxy st", ["status"]),
        ("flashctl proxy --bus x ", []),
        ("flashctl boost debug set", ["set-execution-mode"]),
        ("flashctl boost debug set-execution-mode d", ["dry-run", "disabled"]),
        ("flashctl boost --execution-mode ", ["enabled", "dry-run", "disabled"]),
        ("flashctl boost --block-selection-policy ", ["gas-used"]),
        ("flashctl proxy --on-lag ", ["evict", "conflate"]),
        ("flashctl proxy --compression n", ["negotiate"]),
        ("flashctl proxy --log-level w", ["warning"]),
        ("flashctl rpc --log-format ", ["text", "json"]),
        ("flashctl rpc --latest ", ["sealed", "preconfirmed"]),
        ("flashctl rpc --chain base", ["base-mainnet", "base-sepolia"]),
        ("flashctl rpc --http.api eth,tx", ["eth,txpool"]),
        ("flashctl builder --flashblocks.dialect b", ["base"]),
        ("flashctl decode --chain ink", ["ink-mainnet"]),
        ("flashctl decode --fields from,blockHa", ["from,blockHash"]),
        ("flashctl decode --as flash", ["flashblock"]),
        ("flashctl decode --color a", ["auto", "always"]),
        ("flashctl watch --source r", ["raw", "rpc"]),
    ],
)
def test_completion_knows_subcommands_and_values(words: str, offered: list[str]) -> None:
    assert complete(words) == offered


def commands() -> Iterator[tuple[str, ...]]:
    for role in ROLES:
        yield (role,)
    yield ("boost", "debug")
    yield ("proxy", "status")


def help_of(
    words: Sequence[str], columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> str:
    monkeypatch.setenv("COLUMNS", str(columns))
    assert main([*words, "--help"]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("words", [*commands()], ids=" ".join)
def test_help_is_in_panels_and_says_units_and_values(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = help_of(words, 110, monkeypatch, capsys)
    flags = shown[: shown.index("\nExamples:")]
    assert "Profile, logging and operation:" in flags and "--install-completion" not in flags
    assert not re.search(r"<(str|int|float|path|list)\b| (TEXT|NUMBER|VALUE) |x>=|<=x", flags), "a type"
    for line in re.findall(r"^  (-.*)", flags, re.M):
        name, _, explanation = line.partition("  ")
        assert explanation or len(name) > 28, f"{name}: not explained"


@pytest.mark.parametrize("columns", [40, 60, 79, 80, 200])
@pytest.mark.parametrize("words", [(), *commands()], ids=" ".join)
def test_help_fits_the_terminal(
    words: tuple[str, ...],
    columns: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shown = help_of(words, columns, monkeypatch, capsys)
    assert [line for line in shown.splitlines() if len(line) > columns and " " in line.strip()] == []
    if columns < 80 and words:
        assert re.search(r"^  --\S.*\n      \S", shown, re.M), "the explanation stands below the flag"


def test_a_command_of_an_example_that_is_broken_is_the_same_to_a_shell() -> None:
    text = "watch x --json | jq 'select(.event == \"gap\")'   what is lost\n"
    *lines, last = _examples(text, 30)
    assert lines[0] == "# what is lost" and all(len(line) <= 30 for line in lines)
    joined = " ".join([*(line.removesuffix("\\") for line in lines[1:]), last])
    assert shlex.split(joined) == shlex.split(text)[:6]


def test_the_help_of_a_service_lists_its_commands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["boost", "--help"]) == 0
    assert re.search(r"Commands:\n  debug  Ask", capsys.readouterr().out)
    assert main(["proxy", "--help"]) == 0
    assert re.search(r"Commands:\n  status  Show", capsys.readouterr().out)


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
