"""What stands for a number, a choice or a function is checked before anything runs."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import zstandard
from support.decode_lab import every_type, run_command

from flashctl.cli.values import _integer, _number
from flashctl.core.output import wants_color
from flashctl.decode.inputs import MAX_BLANK_LINES, read_pieces
from flashctl.errors import DataError, UsageError
from flashctl.eth.keccak import keccak256
from flashctl.watch.config import FilterConfig
from flashctl.watch.filters import make_filter
from flashctl.watch.recording import Replay

RAW = "0x" + every_type()["eip1559"].hex()


@pytest.mark.parametrize("text", ["1_000", "", "٣", "1e3", "+5", "0x", "9" * 5000, "0b1", "--1"])
def test_what_is_no_integer(text: str) -> None:
    with pytest.raises(ValueError, match="not an integer"):
        _integer(text)


def test_integers_and_numbers() -> None:
    assert [_integer(text) for text in ("7", " 7 ", "-7", "0x3b", 7)] == [7, 7, -7, 0x3B, 7]
    assert [_number(text) for text in ("0.5", "7", "1e3")] == [0.5, 7.0, 1000.0]
    for text in ("nan", "inf", "1_0", ""):
        with pytest.raises(ValueError, match="not a number"):
            _number(text)


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["decode", RAW, "--base-fee", "-1"], "less than 0"),
        (["decode", RAW, "--color", "sometimes"], "--color"),
        (["watch", "ws://127.0.0.1:1", "--min-value", "-1"], "less than 0"),
        (["watch", "ws://127.0.0.1:1", "--color", "sometimes"], "--color"),
        (["watch", "ws://127.0.0.1:1", "--source", "foo"], "--source"),
        (["watch", "ws://127.0.0.1:1", "--json", "--fields", "block"], "--json and --fields"),
        (["watch", "ws://127.0.0.1:1", "--replay", "x"], "--replay"),
        (["watch", "127.0.0.1:27999"], "ws://127.0.0.1:27999"),
        (["watch", "ws://127.0.0.1:1", "--selector", "f(address to)"], "--selector"),
    ],
)
def test_bad_values_are_usage_errors(
    arguments: list[str], what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, _, errors = run_command(arguments, monkeypatch)
    assert code == 2 and what in errors


def test_hex_where_nodes_answer_hex(monkeypatch: pytest.MonkeyPatch) -> None:
    code, output, _ = run_command(
        ["decode", RAW, "--base-fee", "0x3b", "--chain-id", "0x2105", "effectiveGasPrice"], monkeypatch
    )
    assert code == 0 and output.startswith("0x")


def test_clicolor(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for name in ("NO_COLOR", "FORCE_COLOR", "CLICOLOR_FORCE", "CLICOLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert wants_color(Terminal())
    monkeypatch.setenv("CLICOLOR", "0")
    assert not wants_color(Terminal())


def test_a_selector_may_be_a_function() -> None:
    from flashctl.watch.filters import _selectors

    assert _selectors(["transfer(address, uint)"]) == {bytes.fromhex("a9059cbb")}
    assert _selectors(["f((int,bool[])[])"]) == {keccak256(b"f((int256,bool[])[])")[:4]}
    assert make_filter(FilterConfig(selectors=["0xa9059cbb"])) is not None
    with pytest.raises(UsageError):
        _selectors(["transfer(address"])


def test_blank_lines_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "blank.zst"
    path.write_bytes(zstandard.ZstdCompressor().compress(b"\n" * (MAX_BLANK_LINES + 10)))
    with pytest.raises(DataError, match="blank lines"):
        list(Replay(path).steps())
    with pytest.raises(DataError, match="blank lines"):
        list(read_pieces(io.BytesIO(b"\n" * (MAX_BLANK_LINES + 10))))
    found: Any = list(read_pieces(io.BytesIO(b"\n\n0x02\n\n\n0x03\n")))
    assert found == [(3, "0x02"), (6, "0x03")]
    code, _, errors = run_command(["decode", str(path), "--json"], monkeypatch)
    assert code == 65 and "nothing to decode" in errors


@pytest.mark.parametrize(("closed", "code"), [("<&-", 65), (">&-", 0), ("2>&-", 0)])
def test_a_closed_standard_stream_is_no_crash(closed: str, code: int) -> None:
    arguments = "" if closed == "<&-" else RAW
    result = subprocess.run(
        ["sh", "-c", f"{sys.executable} -m flashctl decode {arguments} {closed}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == code and "AttributeError" not in result.stderr


def test_values_that_the_command_line_repeats_are_those_of_the_code() -> None:
    """Flags state their values without importing the roles; each list equals its enumeration."""
    from typing import get_args, get_type_hints

    from flashctl.boost.modes import ExecutionMode
    from flashctl.cli import boost, common, decode, proxy
    from flashctl.core.hub import LagPolicy
    from flashctl.core.service.log import LOG_FORMATS, LOG_LEVELS
    from flashctl.decode.documents import Kind
    from flashctl.proxy.config import BusFailure, Compression, Validation

    assert (common.LOG_LEVELS, common.LOG_FORMATS) == (LOG_LEVELS, LOG_FORMATS)
    assert set(get_args(decode.Kind)) == {kind.value for kind in Kind}
    assert [ExecutionMode.parse(mode) for mode in boost._MODES] == [*ExecutionMode]
    flags = get_type_hints(proxy.Clients) | get_type_hints(proxy.Upstream) | get_type_hints(proxy.Bus)
    for name, values in {"on_lag": LagPolicy, "compression": Compression, "validate": Validation,
                         "bus_fail": BusFailure}.items():  # fmt: skip
        assert set(get_args(flags[name])) == {member.value for member in values}, name
