"""The command line of watch: values that are refused, hints, and a help that fits a narrow terminal."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.decode_lab import run_command
from support.watch_lab import watch

from flashctl.errors import ExitCode


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--color", "sometimes"], "always"),
        (["--source", "foo"], "raw"),
        (["-o", "tables"], "table"),
        (["--stage", "mined"], "sealed"),
        (["--on", "gaps", "--bell"], "gap"),
        (["--fail-on", "gapp"], "gap"),
        (["--on", "gap"], "--exec"),
        (["--type", "eip15"], "eip1559"),
        (["--until", "event:gaps"], "gap"),
        (["--log-level", "loud"], "debug"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_unknown_values_are_refused_and_the_known_ones_named(
    monkeypatch: pytest.MonkeyPatch, recording: Path, flags: list[str], words: str
) -> None:
    code, output, errors = watch(monkeypatch, "--replay", str(recording), *flags)
    assert code == ExitCode.USAGE and output == "" and words in errors


@pytest.mark.parametrize(
    "address", ["127.0.0.1:27999", "localhost:27999/ws", "node.example/ws", "[::1]:8545", "example.org:443"]
)
def test_an_address_without_a_scheme_is_told_how_to_write_it(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    code, _, errors = watch(monkeypatch, address)
    assert code == ExitCode.USAGE and f"write ws://{address}" in errors


@pytest.mark.parametrize("columns", [40, 60, 80, 120])
def test_help_fits_the_terminal(monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    code, output, errors = run_command(["watch", "--help"], monkeypatch)
    assert code == 0 and errors == ""
    lines = output.partition("Examples:")[0].splitlines()
    assert max(map(len, lines)) <= max(columns, 50)  # a list of values is one word


def test_every_flag_has_a_panel_and_a_word_for_its_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "110")
    _, output, _ = run_command(["watch", "--help"], monkeypatch)
    flags = [line for line in output.splitlines() if line.startswith("  -")]
    assert len(flags) > 50 and not any(" TEXT" in line or "<str>" in line for line in flags)
    assert "Options:" not in output
    for flag in (
        "--silence DURATION",
        "--duration DURATION",
        "--source auto|raw|rpc",
        "-H, --header 'NAME: VALUE'",
    ):
        assert any(flag in line for line in flags), flag
