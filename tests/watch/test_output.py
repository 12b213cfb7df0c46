"""Every form of output: lines, JSON, templates, the live view; golden where a person reads it."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.decode_lab import check_golden
from support.watch_lab import (
    block,
    follow,
    message,
    story,
    watch,
)

from flashctl.core.output import Output
from flashctl.watch.line_output import FIELDS, JsonLines, TextLines
from flashctl.watch.live_rows import Screen, fill_bar
from flashctl.watch.live_view import LiveView
from flashctl.watch.stream_stats import StreamStats, sparkline

GOLDEN = Path(__file__).parent / "golden"


def test_fields_and_templates(monkeypatch: pytest.MonkeyPatch, recording: Path) -> None:
    fields = watch(
        monkeypatch, "--replay", str(recording), "--fields", "block,index,ntx,gas,marks", "-n", "3"
    )[1]
    assert fields == "10\t0\t1\t46000\t\n10\t1\t2\t1194000\t\n10\t4\t1\t\tgap\n"
    template = r"{block}/{index} {ntx:>3} {gas}\n"
    output = watch(monkeypatch, "--replay", str(recording), "--format", template, "-n", "2")[1]
    assert output == "10/0   1 46000\n10/1   2 1194000\n"
    assert watch(monkeypatch, "--replay", str(recording), "--format", "{block.__class__}")[0] == 2


def test_every_field_has_a_value_or_none(recording: Path) -> None:
    for event in follow(story()):
        for name, read in FIELDS.items():
            assert read(event) is None or isinstance(read(event), (int, float, str)), name


def test_raw_prints_messages_and_nothing_else(monkeypatch: pytest.MonkeyPatch, recording: Path) -> None:
    code, output, _ = watch(monkeypatch, "--replay", str(recording), "--raw")
    frames = [frame for number, frame in enumerate(story()) if number not in (2, 4)]
    assert code == 0 and output.encode().splitlines() == frames


def without_clock(text: str) -> str:
    """Local times depend on the machine's time zone."""
    return "\n".join(line[13:] for line in text.splitlines()) + "\n"


@pytest.mark.parametrize("color", ["never", "always"])
def test_golden_lines(monkeypatch: pytest.MonkeyPatch, recording: Path, color: str) -> None:
    output = watch(monkeypatch, "--replay", str(recording), "-o", "line", "--color", color)[1]
    assert ("\x1b[" in output) == (color == "always")
    plain = output.replace("\x1b[31m", "<red>").replace("\x1b[35m", "<magenta>").replace("\x1b[2m", "<dim>")
    lines = [line.replace("\x1b[0m", "</>") for line in plain.splitlines()]
    # The clock stands after the colour where there is one.
    check_golden(GOLDEN / f"lines-{color}.txt", "\n".join(_drop_clock(line) for line in lines) + "\n")


def _drop_clock(line: str) -> str:
    head, _, rest = line.partition(" ")
    colour = head[: head.index(">") + 1] if head.startswith("<") else ""
    return f"{colour}{rest}"


def test_golden_json(monkeypatch: pytest.MonkeyPatch, recording: Path) -> None:
    output = watch(monkeypatch, "--replay", str(recording), "--json")[1]
    check_golden(GOLDEN / "events.ndjson", output)


def live_view(width: int, height: int, *, color: bool = False, unicode: bool = True) -> LiveView:
    stats = StreamStats()
    view = LiveView("ws://127.0.0.1:1111", stats, Screen(width, height, color, unicode))
    for event in follow(story()):
        stats.add(event)
        view.show(event)
    return view


@pytest.mark.parametrize(
    ("name", "width", "height", "color", "unicode"),
    [
        ("live-80", 80, 24, False, True),
        ("live-wide", 140, 40, False, True),
        ("live-colour", 80, 24, True, True),
        ("live-ascii", 80, 24, False, False),
        ("live-tiny", 40, 8, False, True),
        ("live-50", 50, 24, False, True),
        ("live-200", 200, 24, False, True),
    ],
)
def test_golden_live_view(name: str, width: int, height: int, color: bool, unicode: bool) -> None:
    lines = live_view(width, height, color=color, unicode=unicode).frame()
    assert len(lines) < height
    if not color:
        assert max(map(len, lines)) < width
    if not unicode:
        assert "".join(lines).isascii()
    check_golden(GOLDEN / f"{name}.txt", "\n".join(lines).replace("\x1b", "<esc>") + "\n")


def test_the_live_view_draws_only_what_changed_and_nothing_while_paused() -> None:
    view = live_view(80, 24)
    assert view.draw() and view.draw() == ""
    assert not view.key(" ") and view.paused
    view.show(follow([message(20, 0)])[0])
    assert view.draw() == "" and "PAUSED" in view.draw(force=True)
    view.key(" ")
    assert "#20" in view.draw()
    assert view.key("q")


def test_the_live_view_filters_by_typed_text() -> None:
    view = live_view(140, 40)
    for character in "/#15x\x7f\r":
        view.key(character)
    text = "\n".join(view.frame())
    assert view.filter.text == "#15" and "#15 " in text and "#11 " not in text
    for character in "/\r":
        view.key(character)
    assert not view.filter


def test_what_leaves_the_live_view_goes_to_the_scrollback_once() -> None:
    stats = StreamStats()
    view = LiveView("t", stats, Screen(80, 16, False, True))
    written = ""
    for event in follow([frame for number in range(1, 21) for frame in block(number, 4)]):
        stats.add(event)
        view.show(event)
        written += view.draw()
    written += view.close()
    lasting = [line for line in written.split("\n") if line.startswith("#1 ")]
    assert lasting, "the first block was printed"
    assert "#20 0x0000..0014" in written


def test_bars_and_sparklines() -> None:
    assert fill_bar(0.5, 4) == "██  " and fill_bar(1.0, 4) == "████" and fill_bar(0, 4) == "    "
    assert fill_bar(1 / 32, 4) == "▏   " and fill_bar(0.5, 4, unicode=False) == "##.."
    assert (
        sparkline([0, 1, 2, 4]) == "▁▃▅█"
        and sparkline([], unicode=False) == ""
        and len(sparkline([0, 0])) == 2
    )


def test_text_from_the_network_cannot_drive_the_terminal(tmp_path: Path) -> None:
    frame = b'{"payload_id":"\x1b]0;evil\x07", "index":0}'
    event = follow([frame.replace(b"\x1b", b"\\u001b").replace(b"\x07", b"\\u0007")])[0]
    sink = (tmp_path / "out").open("wb")
    TextLines(Output(sink)).show(event)
    JsonLines(Output(sink)).show(event)
    sink.close()
    assert b"\x1b" not in (tmp_path / "out").read_bytes()
