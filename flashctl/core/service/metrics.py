"""Metrics of one service: instruments that are written to, sources that are read at every scrape.

    metrics = Metrics("flashctl_builder")
    sent = metrics.counter("messages", "Messages sent.", ["kind"])         # flashctl_builder_messages_total
    sent.labels("flashblock").inc()
    metrics.register(lambda: [gauge("flashctl_builder_head", "Newest block.", chain.head.number)])
    metrics.render()

No registry of the process: tests run several services in one, and two of them may not share a counter. What
counts per delivery counts in plain integers of its own and is a source here, so that it costs no metric.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final, TypeVar, overload

from flashctl import __version__
from flashctl.core.service import defects, loop_turns
from flashctl.core.service.exposition import (
    EXPOSITION_TYPE,
    NO_LABELS,
    Kind,
    Labels,
    MetricFamily,
    Sample,
    gauge,
    render,
)
from flashctl.core.service.instruments import (
    Counter,
    Distribution,
    Gauge,
    Histogram,
    Instrument,
    Labelled,
    Summary,
)

__all__ = ["EXPOSITION_TYPE", "LATENCY_BUCKETS_S", "Metrics", "Source"]

LATENCY_BUCKETS_S: Final = (
    0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3,
    0.5, 1.0, 2.0, 5.0,
)  # fmt: skip
"""Fine below 200 ms: that is one flashblock, and the question is always which part of it a step took."""

Source = Callable[[], Iterable[MetricFamily]]
"""Gives families, with their whole names, at every scrape."""

T = TypeVar("T", bound=Instrument)


class Metrics:
    """The metrics of one service; every instrument's name gets the `prefix` of the service."""

    def __init__(self, prefix: str, *, labels: Labels = NO_LABELS) -> None:
        """`labels` are on every sample."""
        self.prefix: Final = prefix
        self._labels = labels
        self._sources: list[Source] = [
            defects.families,
            loop_turns.families,
            lambda: [
                gauge("target_info", "Target metadata", [({"service": prefix}, 1)]),
                gauge(f"{prefix}_build_info", "Version of flashctl.", [({"version": __version__}, 1)]),
            ],
        ]
        self._names: set[str] = set()

    @overload
    def counter(self, name: str, help_text: str, *, exact: bool = False) -> Counter: ...
    @overload
    def counter(
        self, name: str, help_text: str, labels: Sequence[str], *, exact: bool = False
    ) -> Labelled[Counter]: ...
    def counter(
        self, name: str, help_text: str, labels: Sequence[str] = (), *, exact: bool = False
    ) -> Counter | Labelled[Counter]:
        """A count that only rises, shown as `<prefix>_<name>_total`; `exact` shows it without `_total`, for
        the names of a tool that this one replaces."""
        shown = name if exact or name.endswith("_total") else f"{name}_total"
        return self._add(shown, "counter", help_text, labels, Counter)

    @overload
    def gauge(self, name: str, help_text: str) -> Gauge: ...
    @overload
    def gauge(self, name: str, help_text: str, labels: Sequence[str]) -> Labelled[Gauge]: ...
    def gauge(self, name: str, help_text: str, labels: Sequence[str] = ()) -> Gauge | Labelled[Gauge]:
        """A value that goes up and down."""
        return self._add(name, "gauge", help_text, labels, Gauge)

    @overload
    def histogram(
        self, name: str, help_text: str, *, buckets: Sequence[float] = LATENCY_BUCKETS_S
    ) -> Histogram: ...
    @overload
    def histogram(
        self,
        name: str,
        help_text: str,
        labels: Sequence[str],
        buckets: Sequence[float] = LATENCY_BUCKETS_S,
    ) -> Labelled[Histogram]: ...
    def histogram(
        self,
        name: str,
        help_text: str,
        labels: Sequence[str] = (),
        buckets: Sequence[float] = LATENCY_BUCKETS_S,
    ) -> Histogram | Labelled[Histogram]:
        """A distribution in buckets, by default of seconds."""
        return self._add(name, "histogram", help_text, labels, lambda: Histogram(buckets))

    @overload
    def summary(self, name: str, help_text: str) -> Summary: ...
    @overload
    def summary(self, name: str, help_text: str, labels: Sequence[str]) -> Labelled[Summary]: ...
    def summary(self, name: str, help_text: str, labels: Sequence[str] = ()) -> Summary | Labelled[Summary]:
        """A distribution with quantiles of the last minute."""
        return self._add(name, "summary", help_text, labels, Summary)

    @overload
    def distribution(
        self, name: str, help_text: str, *, histogram: str, buckets: Sequence[float] = LATENCY_BUCKETS_S
    ) -> Distribution: ...
    @overload
    def distribution(
        self,
        name: str,
        help_text: str,
        labels: Sequence[str],
        *,
        histogram: str,
        buckets: Sequence[float] = LATENCY_BUCKETS_S,
    ) -> Labelled[Distribution]: ...
    def distribution(
        self,
        name: str,
        help_text: str,
        labels: Sequence[str] = (),
        *,
        histogram: str,
        buckets: Sequence[float] = LATENCY_BUCKETS_S,
    ) -> Distribution | Labelled[Distribution]:
        """A summary under `name`, as a peer has it, and beside it a histogram under the name `histogram`."""
        if not labels:
            return Distribution(
                self.summary(name, help_text), self.histogram(histogram, help_text, buckets=buckets)
            )
        both = Labelled(labels, lambda: Distribution(Summary(), Histogram(buckets)))
        self._show(name, "summary", help_text, _OneOfEach(both, lambda each: each.summary))
        self._show(histogram, "histogram", help_text, _OneOfEach(both, lambda each: each.histogram))
        return both

    def register(self, source: Source) -> None:
        """Show what `source` gives, too."""
        self._sources.append(source)

    def families(self) -> list[MetricFamily]:
        """Everything at this moment."""
        found: list[MetricFamily] = []
        for source in self._sources:
            # One figure that cannot be had must not take the page with it.
            with defects.contained("metrics"):
                found += source()
        return found

    def render(self) -> bytes:
        """Everything in the text format that Prometheus scrapes."""
        return render(self.families(), self._labels)

    def _add(
        self, name: str, kind: Kind, help_text: str, labels: Sequence[str], make: Callable[[], T]
    ) -> T | Labelled[T]:
        instrument = Labelled(labels, make) if labels else make()
        self._show(name, kind, help_text, instrument)
        return instrument

    def _show(self, name: str, kind: Kind, help_text: str, instrument: Instrument) -> None:
        full = f"{self.prefix}_{name}"
        if full in self._names:
            raise ValueError(f"{full} is registered already")
        self._names.add(full)
        self._sources.append(lambda: [MetricFamily(full, kind, help_text, instrument.samples(NO_LABELS))])


class _OneOfEach:
    """One of the instruments in each child of a `Labelled`."""

    def __init__(self, labelled: Labelled[Distribution], part: Callable[[Distribution], Instrument]) -> None:
        self._labelled = labelled
        self._part = part

    def samples(self, labels: Labels) -> list[Sample]:
        """The lines of all of them."""
        return [
            sample
            for own, child in self._labelled.items()
            for sample in self._part(child).samples({**labels, **own})
        ]
