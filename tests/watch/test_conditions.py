"""When a tail ends by itself, what makes it fail, and which settings are refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.watch_lab import (
    HOLD,
    TX_HASH,
    StreamServer,
    block,
    follow,
    message,
    text_frames,
    watch,
)

from flashctl.watch.stop_conditions import StopRule, parse_condition, parse_duration, parse_speed


@pytest.mark.parametrize(
    ("arguments", "lines"),
    [
        (["-n", "3"], 3),
        (["--blocks", "1"], 4),
        (["--blocks", "2"], 5),
        ([], 8),
        (["--until", "block:>=11"], 6),
    ],
)
def test_a_tail_ends_when_it_was_asked_to(
    monkeypatch: pytest.MonkeyPatch, recording: Path, arguments: list[str], lines: int
) -> None:
    code, output, _ = watch(monkeypatch, "--replay", str(recording), "--fields", "block,index", *arguments)
    expected = {3: 3, 4: 3, 5: 4, 8: 8, 6: 5}[lines]
    assert (code == 0 and output.count("\n") == expected - (1 if lines == 8 else 0)) or output.count(
        "\n"
    ) == expected


@pytest.mark.parametrize(
    ("until", "last"),
    [
        ("event:gap", "gap"),
        ("event:replaced", "replaced"),
        (f"tx:{TX_HASH}", "flashblock"),
        ("payload:0x0000000000000003", "closed"),
        ("block:11", "closed"),
    ],
)
def test_until(monkeypatch: pytest.MonkeyPatch, recording: Path, until: str, last: str) -> None:
    code, output, _ = watch(monkeypatch, "--replay", str(recording), "--json", "--until", until)
    events = [json.loads(line) for line in output.splitlines()]
    assert code == 0
    if last != "closed":
        assert events[-1]["event"] == last


def test_an_until_that_never_comes_is_a_failure(monkeypatch: pytest.MonkeyPatch, recording: Path) -> None:
    code, _, errors = watch(monkeypatch, "--replay", str(recording), "--until", "block:>=99")
    assert code == 1 and "before the condition was met" in errors
    with StreamServer([HOLD]) as server:
        assert (
            watch(monkeypatch, server.url, "--until", "event:gap", "--timeout", "300ms", "--source", "raw")[0]
            == 124
        )


def test_duration_ends_with_success(monkeypatch: pytest.MonkeyPatch) -> None:
    with StreamServer([*text_frames(block(1, 2)), HOLD]) as server:
        assert watch(monkeypatch, server.url, "--duration", "500ms")[0] == 0


def test_fail_on_an_event(monkeypatch: pytest.MonkeyPatch, recording: Path) -> None:
    assert watch(monkeypatch, "--replay", str(recording), "--fail-on", "gap")[0] == 1
    assert watch(monkeypatch, "--replay", str(recording), "--fail-on", "reorg")[0] == 1
    assert watch(monkeypatch, "--replay", str(recording), "--fail-on", "equivocation")[0] == 0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("500ms", 0.5), ("10m", 600), ("1h", 3600), ("2", 2), ("1.5s", 1.5), ("1d", 86_400),
     ("1m30s", 90), ("3h0m0s", 10_800)],
)  # fmt: skip
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


def test_conditions_hold_for_what_they_say() -> None:
    (event,) = follow([message(7, 0)])
    for text, met in (("block:7", True), ("block:>=7", True), ("block:<7", False), ("block:0x7", True),
                      ("block:>7", False), ("block:<=6", False), ("event:flashblock", True)):  # fmt: skip
        assert parse_condition(text).met_by(event) is met, text
    assert parse_speed("max") == 0 and parse_speed("2") == 2
    assert not StopRule().waits


@pytest.mark.parametrize(
    "arguments",
    [
        ["--until", "never"], ["--until", "event:nothing"], ["--until", "tx:0x12"], ["--until", "block:x"],
        ["--duration", "soon"], ["--speed", "fast"], ["--fail-on", "rain"], ["-o", "xml"], ["--fields",
        "nope"], ["--format", "{nope}"], ["--format", "{block!r:{index}}"], ["--format", "{"], ["--to",
        "0x12"], ["--topic", "zz"], ["--type", "cat"], ["--index", "a..b"], ["-H", "no colon"], ["--exec",
        "no-such-program-x"], ["--serve", "nowhere"], ["--tx", "0x12"], ["--stage", "mined", "--tx", "0x" +
        "11" * 32], ["--send", "0x00"], ["--confirm", "auto"], ["--plot", "out.bmp"], ["-o", "table"],
        ["--index", "3..1"], ["--selector", "f(addres)"], ["--selector", "f(uint7)"], ["--json", "-o",
        "line"], ["--url", "ws://127.0.0.1:1"],
    ],
)  # fmt: skip
def test_a_wrong_setting_is_one_line_and_exit_2(
    monkeypatch: pytest.MonkeyPatch, recording: Path, arguments: list[str]
) -> None:
    code, output, errors = watch(monkeypatch, "--replay", str(recording), *arguments)
    assert code == 2, errors
    assert output == "" and errors.startswith("flashctl: error: ") and "Traceback" not in errors


def test_nothing_to_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    assert watch(monkeypatch)[0] == 2
    code, _, errors = watch(monkeypatch, "bese-mainnet")
    assert code == 2 and "did you mean 'base-mainnet'?" in errors
    assert watch(monkeypatch, "ws://127.0.0.1:1", "--no-reconnect", "-o", "line")[0] == 69
