"""Which flashblocks are shown, and the figures of a stream."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.decode_lab import FRIEND, SENDER, TOKEN
from support.watch_lab import (
    TX_HASH,
    follow,
    story,
    watch,
)

from flashctl.watch.config import FilterConfig
from flashctl.watch.filters import make_filter
from flashctl.watch.stream_stats import render_stats


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


def test_statistics_on_standard_output_with_q(monkeypatch: pytest.MonkeyPatch, sepolia: Path) -> None:
    code, output, errors = watch(monkeypatch, "--replay", str(sepolia), "--stats", "-q")
    assert (code, errors) == (0, "")
    assert output.startswith("11 flashblocks of 1 payload in 2.0 s (5.50/s), 24 tx, 4,846,652 gas")
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
    from flashctl.watch.stream_stats import MAX_SAMPLES, Samples

    samples = Samples()
    for value in range(3 * MAX_SAMPLES):
        samples.add(float(value))
    report = samples.report()
    assert len(samples._values) <= MAX_SAMPLES and report["count"] == 3 * MAX_SAMPLES
    assert (
        report["p50"] == pytest.approx(1.5 * MAX_SAMPLES, rel=0.01) and report["max"] == 3 * MAX_SAMPLES - 1
    )
