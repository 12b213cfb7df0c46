"""Instruments, and the text that they become, as prometheus-client's parser reads it."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from flashctl.core.service import defects
from flashctl.core.service.exposition import MetricFamily, counter, gauge, render
from flashctl.core.service.instruments import Summary
from flashctl.core.service.metrics import Metrics

NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True)
VALUES = st.floats(allow_nan=False)
LABELS = st.dictionaries(NAMES.filter(lambda name: name not in ("le", "quantile")), st.text(), max_size=3)


def parsed(page: bytes) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every sample by its name and sorted labels."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(page.decode())
        for sample in family.samples
    }


@given(st.text(), st.lists(st.tuples(LABELS, VALUES), max_size=4), LABELS)
def test_any_text_and_any_value_is_read_back(
    help_text: str, values: list[tuple[dict[str, str], float]], every: dict[str, str]
) -> None:
    page = render([gauge("a_b", help_text, values)], every)
    expected = {("a_b", tuple(sorted({**every, **labels}.items()))): value for labels, value in values}
    assert parsed(page) == expected


def test_numbers_that_are_none() -> None:
    page = render([gauge("a", "", [({"n": "1"}, math.inf), ({"n": "2"}, -math.inf), ({"n": "3"}, math.nan)])])
    assert page.decode().splitlines()[2:] == ['a{n="1"} +Inf', 'a{n="2"} -Inf', 'a{n="3"} NaN']


def test_a_counter_has_exactly_its_name() -> None:
    """A dashboard of the Rust tools asks for the name without `_total`."""
    metrics = Metrics("rollup_boost")
    metrics.counter("rpc_blocks_created", "Blocks.", ["source"], exact=True).labels("l2").inc()
    metrics.counter("frames", "Frames.").inc(2)
    page = metrics.render()
    assert b'\nrollup_boost_rpc_blocks_created{source="l2"} 1.0\n' in page
    assert b"# TYPE rollup_boost_rpc_blocks_created counter\n" in page
    assert b"\nrollup_boost_frames_total 2.0\n" in page
    assert parsed(page)["rollup_boost_frames_total", ()] == 2.0


def test_histograms_are_cumulative() -> None:
    metrics = Metrics("p")
    seconds = metrics.histogram("seconds", "Seconds.", ["kind"], (0.1, 1.0))
    for value in (0.05, 0.1, 0.5, 3.0):
        seconds.labels("a").observe(value)
    samples = parsed(metrics.render())
    kind = ("kind", "a")
    found = [samples["p_seconds_bucket", tuple(sorted((kind, ("le", le))))] for le in ("0.1", "1.0", "+Inf")]
    assert found == [2, 3, 4]
    assert samples["p_seconds_count", (kind,)] == 4
    assert samples["p_seconds_sum", (kind,)] == pytest.approx(3.65)


def test_quantiles_are_of_the_last_minute_and_the_sum_of_all_time() -> None:
    now = 0.0
    summary = Summary(lambda: now)
    summary.observe(1000.0)
    now = 100.0
    for value in range(1, 101):
        summary.observe(float(value))
    found = {sample.labels.get("quantile", sample.suffix): sample.value for sample in summary.samples({})}
    assert {share: found[share] for share in ("0", "0.5", "0.99", "1")} == {
        "0": 1.0, "0.5": 50.0, "0.99": 99.0, "1": 100.0,
    }  # fmt: skip
    assert (found["_count"], found["_sum"]) == (101, 6050.0)
    now = 500.0
    assert all(math.isnan(each.value) for each in summary.samples({}) if "quantile" in each.labels)


def test_a_distribution_is_a_summary_and_a_histogram() -> None:
    metrics = Metrics("p")
    both = metrics.distribution("call", "Seconds.", ["status"], histogram="call_seconds", buckets=(1.0,))
    both.labels("ok").observe(0.5)
    page = metrics.render().decode()
    assert "# TYPE p_call summary" in page and "# TYPE p_call_seconds histogram" in page
    samples = parsed(page.encode())
    assert samples["p_call", (("quantile", "0.5"), ("status", "ok"))] == 0.5
    assert samples["p_call_seconds_bucket", (("le", "1.0"), ("status", "ok"))] == 1


def test_global_labels_are_on_every_sample() -> None:
    metrics = Metrics("p", labels={"region": "eu"})
    metrics.counter("frames", "Frames.").inc()
    assert all(("region", "eu") in labels for _, labels in parsed(metrics.render()))


def test_misuse_is_refused() -> None:
    metrics = Metrics("p")
    frames = metrics.counter("frames", "Frames.", ["kind"])
    with pytest.raises(ValueError, match="registered already"):
        metrics.counter("frames", "Frames.")
    with pytest.raises(ValueError, match="labels wanted"):
        frames.labels("a", "b")
    with pytest.raises(ValueError, match="only rises"):
        frames.labels("a").inc(-1)


def test_a_figure_that_cannot_be_had_costs_itself() -> None:
    def broken() -> list[MetricFamily]:
        raise KeyError("gone")

    metrics = Metrics("p")
    metrics.register(broken)
    metrics.register(lambda: [counter("p_frames", "Frames.", 1)])
    defects.forget()
    assert b"\np_frames 1.0\n" in metrics.render()
    assert set(defects.counts()) == {"metrics"}
    defects.forget()


def test_a_label_that_is_no_text_does_not_cost_the_page() -> None:
    """Part of a file's name, as `os.fsdecode` gives it."""
    page = render([gauge("a", "\udcff", [({"file": "x\udcff"}, 1.0)]), gauge("b", "", 2.0)])
    assert parsed(page)["b", ()] == 2.0
    assert ("a", (("file", r"x\udcff"),)) in parsed(page)
