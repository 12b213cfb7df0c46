"""The metrics of the tools that flashctl stands in for have their names and labels here, by docs/metrics.md,
which `tests/test_docs.py` holds against running roles."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.vectors import PeerMetric, peer_metrics

DOCS = Path(__file__).resolve().parents[2] / "docs" / "metrics.md"
ROW = re.compile(r"^\| `(\w+)` \| (\w+) \| ([^|]*) \|", re.MULTILINE)


def documented() -> dict[str, tuple[str, set[str]]]:
    """Type and labels by name; OpenMetrics' `_total` of a counter is no part of a name."""
    rows = ROW.findall(DOCS.read_text())
    return {
        name.removesuffix("_total") if kind == "counter" else name: (kind, set(re.findall(r"\w+", labels)))
        for name, kind, labels in rows
    }


SERVED = [metric for metric in peer_metrics() if metric.here]


@pytest.mark.parametrize("metric", SERVED, ids=lambda metric: metric.name)
def test_a_metric_of_the_field(metric: PeerMetric) -> None:
    kind, labels = documented()[metric.name]
    distributions = ("histogram", "summary")
    assert (kind in distributions) == (metric.kind in distributions)
    assert set(metric.labels) <= labels


def test_the_table_says_what_is_missing() -> None:
    names = [metric.name for metric in peer_metrics()]
    assert len(names) == len(set(names)) > 80
    assert {metric.role for metric in SERVED} == {"boost", "proxy", "rpc"}
