"""`flashctl watch` as a person and a script use it: output, conditions, exit codes, and the one-liners of
the README."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from support.decode_lab import FRIEND, SENDER, TOKEN, check_golden, every_type, run_command
from support.flashblocks import base_sepolia_block, make_flashblock
from support.watch_lab import HOLD, NodeServer, StreamServer, arrive, block, follow, message, text_frames

from flashctl.core.output import Output
from flashctl.core.wire import encode
from flashctl.eth.keccak import keccak256
from flashctl.watch.conditions import StopRule, parse_condition, parse_duration, parse_speed
from flashctl.watch.config import FilterConfig
from flashctl.watch.filters import make_filter
from flashctl.watch.lines import FIELDS, JsonLines, TextLines
from flashctl.watch.live import LiveView, Screen, fill_bar
from flashctl.watch.recording import line_of_arrival
from flashctl.watch.stats import StreamStats, render_stats, sparkline

GOLDEN = Path(__file__).parent / "golden"
RAWS = every_type()
TX = RAWS["eip1559"]
TX_HASH = "0x" + keccak256(TX).hex()
SHELL = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


def watch(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[int, str, str]:
    return run_command(["watch", *arguments], monkeypatch)


def story() -> list[bytes]:
    """A stream on which everything happens once."""
    attributes, legacy, create = RAWS["attributes"], RAWS["legacy"], RAWS["create"]
    return [
        encode(make_flashblock(10, 0, 1, transactions=(attributes,), gas_used=46_000)),
        encode(make_flashblock(10, 1, 1, transactions=(TX, legacy), gas_used=1_240_000)),
        encode(make_flashblock(10, 1, 1, transactions=(TX, legacy), gas_used=1_240_000)),
        encode(make_flashblock(10, 4, 1, transactions=(create,), gas_used=2_000_000)),
        b'{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"no"}}',
        encode(make_flashblock(10, 0, 2, transactions=(attributes,), gas_used=46_000)),
        encode(make_flashblock(11, 0, 3, transactions=(attributes,), gas_used=46_000)),
        encode(make_flashblock(14, 2, 4, transactions=(TX,), gas_used=460_000)),
        encode(make_flashblock(15, 0, 5, transactions=(attributes,), gas_used=46_000)),
    ]


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "story.ndjson"
    path.write_bytes(b"".join(line_of_arrival(arrive(frame, n)) for n, frame in enumerate(story())))
    return path


@pytest.fixture
def sepolia(tmp_path: Path) -> Path:
    path = tmp_path / "sepolia.ndjson"
    frames = [json.dumps(content).encode() for content in base_sepolia_block()]
    start = int(base_sepolia_block()[0]["base"]["timestamp"], 16) * 10**9 - 2 * 10**9
    path.write_bytes(b"".join(line_of_arrival(arrive(f, n, start_ns=start)) for n, f in enumerate(frames)))
    return path


# -- conditions -----------------------------------------------------------------------------------


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
    ("text", "seconds"), [("30s", 30), ("500ms", 0.5), ("10m", 600), ("1h", 3600), ("2", 2), ("1.5s", 1.5)]
)
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
        "11" * 32], ["--send", "0x00"], ["--confirm"], ["--plot", "out.bmp"], ["-o", "table"],
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


# -- forms of output ------------------------------------------------------------------------------


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
    assert view.needle == "#15" and "#15 " in text and "#11 " not in text
    for character in "/\r":
        view.key(character)
    assert view.needle == ""


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


# -- filters --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "shown"),
    [
        (FilterConfig(targets=["0x" + TOKEN.hex()]), [1, 7]),
        (FilterConfig(senders=[SENDER]), [1, 3, 7]),
        (FilterConfig(addresses=["0x" + FRIEND.hex()]), [1]),
        (FilterConfig(selectors=["0xa9059cbb"]), [1, 7]),
        (FilterConfig(types=["deposit"]), [0, 5, 6, 8]),
        (FilterConfig(types=["0x2"]), [1, 7]),
        (FilterConfig(no_deposits=True), [1, 3, 7]),
        (FilterConfig(min_value=10**18), [1, 3]),
        (FilterConfig(indices="1..3"), [1, 7]),
        (FilterConfig(indices="2.."), [3, 7]),
        (FilterConfig(indices="..0"), [0, 5, 6, 8]),
        (FilterConfig(types=["0x2"], min_value=1), []),
        (FilterConfig(topics=["0x" + "dd" * 32]), []),
    ],
)  # fmt: skip
def test_filters(settings: FilterConfig, shown: list[int]) -> None:
    wanted = make_filter(settings)
    assert wanted is not None
    events = [event for event in follow(story()) if event.name == "flashblock"]
    numbers = [story().index(event.text) for event in events if wanted.apply(event) is not None]
    assert numbers == shown


def test_other_events_pass_a_filter(monkeypatch: pytest.MonkeyPatch, recording: Path) -> None:
    output = watch(monkeypatch, "--replay", str(recording), "--json", "--selector", "0xa9059cbb")[1]
    events = [json.loads(line) for line in output.splitlines()]
    assert [event["event"] for event in events].count("flashblock") == 2
    assert "gap" in [event["event"] for event in events]
    assert events[0]["event"] == "flashblock" and events[0]["match_hashes"] == [TX_HASH]


def test_no_filter_is_no_filter() -> None:
    assert make_filter(FilterConfig()) is None


# -- statistics -----------------------------------------------------------------------------------


def test_statistics_on_standard_output_with_q(monkeypatch: pytest.MonkeyPatch, sepolia: Path) -> None:
    code, output, errors = watch(monkeypatch, "--replay", str(sepolia), "--stats", "-q")
    assert (code, errors) == (0, "")
    assert output.startswith("11 flashblocks of 1 payloads in 2.0 s (5.50/s), 24 tx, 4,846,652 gas")
    assert "losses: none" in output and "slot offset" in output


def test_statistics_as_json(monkeypatch: pytest.MonkeyPatch, recording: Path) -> None:
    output = watch(monkeypatch, "--replay", str(recording), "--json", "--stats")[1]
    report = json.loads(output.splitlines()[-1])
    assert report["event"] == "stats"
    figures = {
        name: report[name]
        for name in (
            "flashblocks",
            "missing",
            "gaps",
            "duplicates",
            "replaced",
            "missed_blocks",
            "joined_mid",
            "undecodable",
        )
    }
    assert figures == {"flashblocks": 7, "missing": 2, "gaps": 1, "duplicates": 1, "replaced": 1,
                       "missed_blocks": 1, "joined_mid": 1, "undecodable": 1}  # fmt: skip
    assert report["interval_ms"]["p50"] == 200.0
    text = "\n".join(render_stats(report))
    assert "2 missing, 1 duplicate" in text


def test_a_million_samples_are_thinned_not_kept() -> None:
    from flashctl.watch.stats import MAX_SAMPLES, Samples

    samples = Samples()
    for value in range(3 * MAX_SAMPLES):
        samples.add(float(value))
    report = samples.report()
    assert len(samples._values) <= MAX_SAMPLES and report["count"] == 3 * MAX_SAMPLES
    assert (
        report["p50"] == pytest.approx(1.5 * MAX_SAMPLES, rel=0.01) and report["max"] == 3 * MAX_SAMPLES - 1
    )


# -- following a transaction ----------------------------------------------------------------------


def sealed_block(number: int, hashes: list[str]) -> dict[str, Any]:
    return {"number": hex(number), "hash": "0x" + "ab" * 32, "transactions": hashes}


def test_a_transaction_is_followed_to_its_flashblock(monkeypatch: pytest.MonkeyPatch) -> None:
    with StreamServer([*text_frames(story()[:2]), HOLD]) as server:
        code, output, _ = watch(monkeypatch, server.url, "--tx", TX_HASH, "--timeout", "20s", "--json")
        (event,) = [json.loads(line) for line in output.splitlines()]
        assert code == 0 and event["event"] == "tx" and event["stage"] == "preconfirmed"
        assert (event["block"], event["index"], event["position"]) == (10, 1, 1) and event["ms"] >= 0
        absent = "0x" + "11" * 32
        assert watch(monkeypatch, server.url, "--tx", absent, "--timeout", "400ms")[0] == 124


@pytest.mark.parametrize(
    ("hashes", "code", "words"),
    [
        (["0x" + "00" * 32, TX_HASH], 0, "sealed in #10 position 1 after"),
        ([TX_HASH], 0, "position 0, moved from 1"),
        (["0x" + "00" * 32], 1, "dropped: block #10 was sealed without it"),
    ],
)
def test_and_to_the_sealed_block(
    monkeypatch: pytest.MonkeyPatch, hashes: list[str], code: int, words: str
) -> None:
    answers = {
        "eth_getBlockByNumber": lambda params: sealed_block(10, hashes) if params[0] == "0xa" else None,
        "eth_getTransactionReceipt": lambda params: None,
    }
    with StreamServer([*text_frames(story()[:2]), HOLD]) as server, NodeServer(**answers) as node:
        result, output, _ = watch(
            monkeypatch, server.url, "--tx", TX_HASH, "--rpc", node.url, "--timeout", "20s", "-o", "line"
        )
    assert result == code and "preconfirmed in #10 flashblock 1 position 1" in output and words in output


def test_send_and_follow(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = {
        "eth_sendRawTransaction": lambda params: TX_HASH,
        "eth_getBlockByNumber": lambda params: None,
        "eth_getTransactionReceipt": lambda params: None,
    }
    with StreamServer([0.5, *text_frames(story()[:2]), HOLD]) as server, NodeServer(**answers) as node:
        code, output, _ = watch(
            monkeypatch, server.url, "--send", "0x" + TX.hex(), "--rpc", node.url, "--stage", "preconfirmed",
            "--timeout", "20s", "-o", "line",
        )  # fmt: skip
    assert code == 0 and "sent" in output and "preconfirmed" in output
    assert ("eth_sendRawTransaction", ["0x" + TX.hex()]) in node.calls


def test_a_transaction_that_the_node_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(params: list[Any]) -> Any:
        raise ValueError("nonce too low")

    with StreamServer([HOLD]) as server, NodeServer(
        eth_sendRawTransaction=refuse, eth_getTransactionReceipt=lambda params: None
    ) as node:  # fmt: skip
        code, _, errors = watch(
            monkeypatch, server.url, "--send", "0x" + TX.hex(), "--rpc", node.url, "--timeout", "20s",
            "--source", "raw",
        )  # fmt: skip
    assert code == 1 and "nonce too low" in errors


def test_confirm_compares_with_sealed_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    def chain(params: list[Any]) -> Any:
        number = int(params[0], 16)
        hashes = ["0x" + keccak256(RAWS["attributes"]).hex(), TX_HASH]
        return sealed_block(number, hashes[:1] if number == 2 else hashes)

    frames = []
    for number in (1, 2, 3):
        frames += [
            encode(make_flashblock(number, 0, number, transactions=(RAWS["attributes"],), gas_used=1)),
            encode(make_flashblock(number, 1, number, transactions=(TX,), gas_used=2)),
        ]
    with StreamServer([*text_frames(frames), HOLD]) as server, NodeServer(eth_getBlockByNumber=chain) as node:
        code, output, _ = watch(
            monkeypatch, server.url, "--confirm", "--rpc", node.url, "--json", "--duration", "1500ms"
        )
    events = {event["event"]: event for event in map(json.loads, output.splitlines())}
    assert code == 0
    assert events["sealed"]["block"] in (1, 3) and events["sealed"]["held"] is True
    assert events["dropped"]["block"] == 2 and events["dropped"]["dropped"] == [TX_HASH]
    assert events["confirm"]["payloads_judged"] == 3
    assert events["confirm"]["reorg_rate"] == pytest.approx(1 / 3, abs=1e-5)


# -- everything else ------------------------------------------------------------------------------


def test_compare_two_endpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = text_frames([*block(1, 5), *block(2, 5)])
    lossy = [frame for number, frame in enumerate(whole) if number != 2]
    spaced = lambda frames: [step for frame in frames for step in (frame, 0.15)]  # noqa: E731
    with (
        StreamServer([0.4, *spaced(whole), HOLD]) as first,
        StreamServer([0.4, *spaced(lossy), HOLD]) as second,
    ):
        code, output, _ = watch(
            monkeypatch, first.url, "--compare", second.url, "--duration", "2500ms", "--json"
        )
    report = next(e for e in map(json.loads, output.splitlines()) if e["event"] == "compare")
    assert code == 0 and report["compared"] >= 9 and report["differing"] == 0
    assert [source["missing"] for source in report["sources"]] == [0, 1]


def test_hooks_run_without_a_shell_and_never_hold_the_stream(
    monkeypatch: pytest.MonkeyPatch, recording: Path, tmp_path: Path
) -> None:
    script = tmp_path / "hook.sh"
    script.write_text(
        f'#!/bin/sh\necho "$FB_EVENT $FB_BLOCK $FB_INDEX" >> {tmp_path}/log\ncat >> {tmp_path}/json\n'
    )
    script.chmod(0o755)
    code, _, _ = watch(monkeypatch, "--replay", str(recording), "--exec", str(script), "--on", "gap", "-q")
    assert code == 0
    assert (tmp_path / "log").read_text() == "gap 10 2\n"
    assert json.loads((tmp_path / "json").read_text())["missing"] == [2, 3]


def test_a_replay_served_again_is_the_same_stream(recording: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "flashctl", "watch", "--replay", str(recording), "--serve", "127.0.0.1:0",
         "--speed", "max", "--raw"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stderr is not None
        url = process.stderr.readline().decode().split()[-1]
        code, output, _ = watch(monkeypatch, url, "--raw", "--no-reconnect", "--timeout", "20s")
        assert process.wait(20) == 0
    frames = [frame for number, frame in enumerate(story()) if number not in (2, 4)]
    assert output.encode().splitlines() == frames and code in (0, 124)


def test_check_finds_what_is_wrong_and_says_how_to_mend_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flashctl.watch.doctor._LISTEN_S", 0.5)
    monkeypatch.setattr("flashctl.watch.sources.PROBE_TIMEOUT_S", 0.3)
    monkeypatch.setattr("flashctl.watch.doctor._FIRST_FRAME_S", 1.0)
    frames = [
        step for number in range(1, 9) for frame in text_frames(block(number, 3)) for step in (frame, 0.05)
    ]
    with StreamServer([*frames, HOLD]) as server:
        code, output, _ = watch(monkeypatch, server.url, "--check", "--json")
        steps = {step["step"]: step for step in map(json.loads, output.splitlines())}
        assert code == 0 and {
            name: steps[name]["status"] for name in ("tcp", "upgrade", "frame", "order")
        } == dict.fromkeys(("tcp", "upgrade", "frame", "order"), "ok")
        assert steps["clock"]["status"] == "warn" and "clock" in steps["clock"]["fix"]
    code, output, _ = watch(monkeypatch, "ws://127.0.0.1:1", "--check")
    assert code == 1 and "fix:" in output
    with StreamServer([HOLD], refuse=(405, "POST only")) as server:
        code, output, _ = watch(monkeypatch, server.url, "--check")
        assert code == 1 and "405" in output
    with StreamServer([HOLD]) as server:
        code, output, _ = watch(monkeypatch, server.url, "--check")
        assert code == 1 and "is the builder running?" in output
    with NodeServer(eth_getBlockByNumber=lambda params: sealed_block(5, [])) as node:
        code, output, _ = watch(monkeypatch, "ws://127.0.0.1:1", "--check", "--rpc", node.url)
        assert "rpc" in output and "block 5" in output


def test_plot_needs_matplotlib_or_draws(
    monkeypatch: pytest.MonkeyPatch, sepolia: Path, tmp_path: Path
) -> None:
    path = tmp_path / "out.svg"
    code, _, errors = watch(monkeypatch, "--replay", str(sepolia), "--plot", str(path), "-o", "line")
    if code == 2:
        assert "pip install 'flashctl[plot]'" in errors
    else:
        assert path.read_bytes().startswith(b"<?xml") and code == 0


# -- the one-liners of the README -----------------------------------------------------------------


def shell(command: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**SHELL, **variables}
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True, timeout=90, env=environment
    )


@pytest.fixture
def profile(tmp_path: Path) -> Any:
    """A stream behind a profile called `base`, as in the one-liners."""
    frames = [*text_frames(story()), *text_frames([f for n in range(20, 40) for f in block(n, 4)])]
    with StreamServer([*frames, HOLD]) as server:
        folder = tmp_path / "config" / "flashctl" / "profiles"
        folder.mkdir(parents=True)
        (folder / "base.toml").write_text(f'[watch]\nurl = "{server.url}"\n')
        yield {"XDG_CONFIG_HOME": str(tmp_path / "config"), "HERE": str(tmp_path)}


def test_one_liner_gaps_with_a_filter(profile: dict[str, str]) -> None:
    program = 'import sys,json; [print(l,end="") for l in sys.stdin if json.loads(l)["event"]=="gap"]'
    select = f"python3 -c '{program}'"
    result = shell(f"flashctl watch base --json -n 20 | {select}", **profile)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["missing"] == [2, 3]


def test_one_liner_summary_like_pings(profile: dict[str, str]) -> None:
    result = shell("flashctl watch base -n 50 --stats -q", **profile)
    assert result.returncode == 0 and result.stdout.startswith("50 flashblocks of") and result.stderr == ""


def test_one_liner_wait_for_a_preconfirmation(profile: dict[str, str]) -> None:
    result = shell('flashctl watch base --tx "$H" --timeout 10s && echo preconfirmed', H=TX_HASH, **profile)
    assert result.returncode == 0 and result.stdout.splitlines()[-1] == "preconfirmed"


def test_one_liners_record_replay_and_decode(profile: dict[str, str]) -> None:
    result = shell(
        "cd $HERE && flashctl watch base --record cap.ndjson.zst --duration 1s -q > /dev/null && "
        "flashctl watch --replay cap.ndjson.zst --json | flashctl decode - --fields from | sort | uniq -c",
        **profile,
    )
    assert result.returncode == 0, result.stderr
    counts = {line.split()[1]: int(line.split()[0]) for line in result.stdout.splitlines()}
    assert counts[SENDER] == 4


def test_one_liner_compare_for_a_while(profile: dict[str, str]) -> None:
    with StreamServer([*text_frames(story()), HOLD]) as other:
        result = shell(f"flashctl watch base --compare {other.url} --duration 1s -o stats", **profile)
    assert result.returncode == 0 and "flashblocks compared" in result.stdout
    assert other.url in result.stdout and "losses:" in result.stdout


def test_head_ends_it_silently(profile: dict[str, str]) -> None:
    started = time.monotonic()
    result = shell("flashctl watch base --json | head -3", **profile)
    assert result.returncode == 141 and result.stderr == "" and result.stdout.count("\n") == 3
    assert time.monotonic() - started < 60


def test_ctrl_c_is_success_with_a_summary(profile: dict[str, str]) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "flashctl", "watch", "base", "--stats"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**SHELL, **profile},
    ) as process:  # fmt: skip
        assert process.stdout is not None and process.stderr is not None
        for _ in range(20):
            assert process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
        assert b"losses:" in process.stderr.read()


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_slow_reader_loses_nothing(tmp_path: Path, unbuffered: str) -> None:
    """A pipe that is full makes the writer wait; it must never make a line, or the end of one, vanish."""
    path = tmp_path / "long.ndjson"
    frames = [
        frame for number in range(1, 61) for frame in block(number, 5, transactions=(bytes(2_000),) * 8)
    ]
    path.write_bytes(b"".join(line_of_arrival(arrive(frame, n)) for n, frame in enumerate(frames)))
    with subprocess.Popen(
        [sys.executable, "-m", "flashctl", "watch", "--replay", str(path), "--raw"],
        stdout=subprocess.PIPE, env={**SHELL, "PYTHONUNBUFFERED": unbuffered},
    ) as process:  # fmt: skip
        assert process.stdout is not None
        time.sleep(1.0)
        received = process.stdout.read().splitlines()
        assert process.wait(30) == 0
    assert received == frames
