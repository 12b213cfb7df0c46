"""What a service measures with: counters, gauges, histograms and summaries, which threads may share."""

from __future__ import annotations

import math
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Sequence
from itertools import accumulate
from threading import Lock
from typing import Final, Generic, Protocol, TypeVar

from flashctl.core.service.exposition import Labels, Sample, histogram_samples, summary_samples

__all__ = ["Counter", "Distribution", "Gauge", "Histogram", "Instrument", "Labelled", "Summary"]

QUANTILES: Final = (0.0, 0.5, 0.9, 0.95, 0.99, 0.999, 1.0)
"""What the Rust tools' exporter gives of what they call a histogram."""

SUMMARY_WINDOW_S: Final = 60.0
SUMMARY_SAMPLES: Final = 1024
"""Of which observations a summary's quantiles are: those of the last minute, and no more than these."""


class Instrument(Protocol):
    """Anything that has samples."""

    def samples(self, labels: Labels) -> list[Sample]:
        """At this moment, each with `labels`."""
        ...


class Counter:
    """A count that only rises."""

    __slots__ = ("_lock", "_value")

    def __init__(self) -> None:
        self._value = 0.0
        self._lock = Lock()

    @property
    def value(self) -> float:
        """The count so far."""
        return self._value

    def inc(self, amount: float = 1.0) -> None:
        """Count `amount`, which is not below zero, more."""
        if amount < 0:
            raise ValueError("a counter only rises")
        with self._lock:
            self._value += amount

    def samples(self, labels: Labels) -> list[Sample]:
        """Its line."""
        return [Sample("", labels, self._value)]


class Gauge:
    """A value that goes up and down."""

    __slots__ = ("_lock", "_read", "_value")

    def __init__(self) -> None:
        self._value = 0.0
        self._read: Callable[[], float] | None = None
        self._lock = Lock()

    @property
    def value(self) -> float:
        """At this moment."""
        return self._value if self._read is None else float(self._read())

    def set(self, value: float) -> None:
        """It is `value` now."""
        self._value = float(value)

    def inc(self, amount: float = 1.0) -> None:
        """It is `amount` more."""
        with self._lock:
            self._value += amount

    def dec(self, amount: float = 1.0) -> None:
        """It is `amount` less."""
        self.inc(-amount)

    def set_function(self, read: Callable[[], float]) -> None:
        """Call `read` at every scrape."""
        self._read = read

    def samples(self, labels: Labels) -> list[Sample]:
        """Its line."""
        return [Sample("", labels, self.value)]


class Histogram:
    """Observations counted in buckets."""

    __slots__ = ("_bounds", "_counts", "_lock", "_total")

    def __init__(self, buckets: Sequence[float]) -> None:
        self._bounds = (*sorted(buckets), math.inf)
        self._counts = [0] * len(self._bounds)
        self._total = 0.0
        self._lock = Lock()

    def observe(self, value: float) -> None:
        """Count one observation."""
        with self._lock:
            self._counts[bisect_left(self._bounds, value)] += 1
            self._total += value

    def samples(self, labels: Labels) -> list[Sample]:
        """Its lines: buckets, sum and count."""
        with self._lock:
            cumulative = list(zip(self._bounds, accumulate(self._counts), strict=True))
            return histogram_samples(cumulative, self._total, labels)


class Summary:
    """Observations with quantiles of the last minute."""

    __slots__ = ("_clock", "_count", "_lock", "_recent", "_total")

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._recent: deque[tuple[float, float]] = deque(maxlen=SUMMARY_SAMPLES)
        """Moment and value."""
        self._count = 0
        self._total = 0.0
        self._lock = Lock()

    def observe(self, value: float) -> None:
        """Take in one observation."""
        with self._lock:
            self._recent.append((self._clock(), value))
            self._count += 1
            self._total += value

    def samples(self, labels: Labels) -> list[Sample]:
        """Its lines: quantiles, sum and count."""
        with self._lock:
            since = self._clock() - SUMMARY_WINDOW_S
            values = sorted(value for moment, value in self._recent if moment >= since)
            quantiles = [(share, _quantile(values, share)) for share in QUANTILES]
            return summary_samples(quantiles, self._count, self._total, labels)


def _quantile(ordered: Sequence[float], share: float) -> float:
    """The value that `share` of all are not above (nearest rank); NaN of none."""
    if not ordered:
        return math.nan
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


class Distribution:
    """A summary and a histogram of the same observations: the first for the dashboards of the Rust tools, the
    second because quantiles of several instances cannot be added up."""

    __slots__ = ("histogram", "summary")

    def __init__(self, summary: Summary, histogram: Histogram) -> None:
        self.summary = summary
        self.histogram = histogram

    def observe(self, value: float) -> None:
        """Take in one observation."""
        self.summary.observe(value)
        self.histogram.observe(value)

    def samples(self, labels: Labels) -> list[Sample]:
        """Those of the histogram; the two are of different families."""
        return self.histogram.samples(labels)


T = TypeVar("T", bound=Instrument)


class Labelled(Generic[T]):
    """One instrument per set of label values, made at its first use."""

    __slots__ = ("_children", "_make", "_names")

    def __init__(self, names: Sequence[str], make: Callable[[], T]) -> None:
        self._names = tuple(names)
        self._make = make
        self._children: dict[tuple[str, ...], T] = {}

    def labels(self, *values: str) -> T:
        """The instrument of these values, in the order of the names. They must be of a small fixed set: what
        is made here stays."""
        if len(values) != len(self._names):
            raise ValueError(f"{len(self._names)} labels wanted: {self._names}")
        child = self._children.get(values)
        if child is None:
            child = self._children.setdefault(values, self._make())
        return child

    def items(self) -> list[tuple[Labels, T]]:
        """Each with its labels."""
        return [
            (dict(zip(self._names, values, strict=True)), child)
            for values, child in tuple(self._children.items())
        ]

    def samples(self, labels: Labels) -> list[Sample]:
        """The lines of all of them."""
        return [sample for own, child in self.items() for sample in child.samples({**labels, **own})]
