"""The text that Prometheus scrapes, version 0.0.4: families of samples in, bytes out.

    render([gauge("flashctl_rpc_head", "Newest block.", 17)])

Names leave as they are given. prometheus-client appends `_total` to every counter; the exporters of the Rust
tools do not, and a dashboard written for them finds nothing under another name.

Format: https://prometheus.io/docs/instrumenting/exposition_formats/. prometheus-client's parser reads
everything that is written here, in the tests.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

__all__ = [
    "EXPOSITION_TYPE",
    "NO_LABELS",
    "Kind",
    "Labels",
    "MetricFamily",
    "Sample",
    "counter",
    "gauge",
    "histogram_samples",
    "render",
    "summary_samples",
]

EXPOSITION_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
"""Content type of `render`'s bytes."""

Kind = Literal["counter", "gauge", "histogram", "summary"]
Labels = Mapping[str, str]

NO_LABELS: Final[Labels] = {}


@dataclass(frozen=True, slots=True)
class Sample:
    """One line."""

    suffix: str
    """What follows the family's name: `_bucket`, `_sum`, `_count`, or nothing."""

    labels: Labels
    value: float


@dataclass(frozen=True, slots=True)
class MetricFamily:
    """One metric with all its samples."""

    name: str
    kind: Kind
    help_text: str
    samples: Sequence[Sample]


Values = float | Iterable[tuple[Labels, float]]
"""The only sample of a family, or one per set of labels."""


def counter(name: str, help_text: str, values: Values) -> MetricFamily:
    """A count that only rises, under exactly this name."""
    return MetricFamily(name, "counter", help_text, _samples(values))


def gauge(name: str, help_text: str, values: Values) -> MetricFamily:
    """A value that goes up and down."""
    return MetricFamily(name, "gauge", help_text, _samples(values))


def _samples(values: Values) -> Sequence[Sample]:
    if isinstance(values, int | float):
        return (Sample("", NO_LABELS, values),)
    return tuple(Sample("", labels, value) for labels, value in values)


def histogram_samples(
    cumulative: Iterable[tuple[float, float]], total: float, labels: Labels = NO_LABELS
) -> list[Sample]:
    """The samples of one histogram.

    Args:
        cumulative: upper bounds with the observations up to each; the last bound is infinite.
        total: sum of all observations.
        labels: of all of its samples.
    """
    count = 0.0
    samples: list[Sample] = []
    for bound, count in cumulative:
        samples.append(Sample("_bucket", {**labels, "le": _number(bound)}, count))
    return [*samples, Sample("_sum", labels, total), Sample("_count", labels, count)]


def summary_samples(
    quantiles: Iterable[tuple[float, float]], count: float, total: float, labels: Labels = NO_LABELS
) -> list[Sample]:
    """The samples of one summary; a quantile's value is NaN where nothing was observed lately."""
    samples = [Sample("", {**labels, "quantile": f"{share:g}"}, value) for share, value in quantiles]
    return [*samples, Sample("_sum", labels, total), Sample("_count", labels, count)]


def render(families: Iterable[MetricFamily], labels: Labels = NO_LABELS) -> bytes:
    """All families as one page, every sample with `labels` before its own."""
    lines: list[str] = []
    for family in families:
        lines.append(f"# HELP {family.name} {_escape_help(family.help_text)}")
        lines.append(f"# TYPE {family.name} {family.kind}")
        for sample in family.samples:
            every = {**labels, **sample.labels}
            text = ",".join(f'{name}="{_escape_label(value)}"' for name, value in every.items())
            shown = f"{{{text}}}" if text else ""
            lines.append(f"{family.name}{sample.suffix}{shown} {_number(sample.value)}")
    lines.append("")
    # A file's name may hold bytes that are no text (`os.fsdecode`): one label must not cost the whole page.
    return "\n".join(lines).encode(errors="backslashreplace")


def _number(value: float) -> str:
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return "NaN" if math.isnan(value) else repr(float(value))


def _escape_help(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n")


def _escape_label(text: str) -> str:
    return _escape_help(text).replace('"', r"\"")
