"""Metrics of one service: prometheus-client with a registry of its own.

Not the global registry: a devnet test runs several services in one process, and two of them may not share a
counter. Names follow the upstream tools where the meaning is the same, so existing dashboards keep working.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, generate_latest

from flashctl import __version__
from flashctl.core.service.defects import DefectFigures
from flashctl.core.service.loop_turns import TurnFigures

__all__ = ["EXPOSITION_TYPE", "LATENCY_BUCKETS_S", "Metrics"]

EXPOSITION_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
"""Content type of `Metrics.render`."""

LATENCY_BUCKETS_S: Final = (
    0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3,
    0.5, 1.0, 2.0, 5.0,
)  # fmt: skip
"""Fine below 200 ms: that is one flashblock, and the question is always which part of it a step took."""


class Metrics:
    """The metrics of one service; every name gets the `prefix` of the service.

    metrics = Metrics("flashctl_proxy")
    frames = metrics.counter("upstream_messages", "Frames received.", ["upstream"])
    frames.labels(url).inc()
    """

    def __init__(self, prefix: str, *, labels: dict[str, str] | None = None) -> None:
        self._prefix = prefix
        self.registry = CollectorRegistry(auto_describe=True)
        self.registry.register(DefectFigures())
        self.registry.register(TurnFigures())
        self.registry.set_target_info({"service": prefix, **(labels or {})})
        self.info = Info(f"{prefix}_build", "Version of flashctl.", registry=self.registry)
        self.info.info({"version": __version__})

    def counter(self, name: str, help_text: str, labels: Sequence[str] = ()) -> Counter:
        """A count that only rises; shown as `<prefix>_<name>_total`."""
        return Counter(f"{self._prefix}_{name}", help_text, labels, registry=self.registry)

    def gauge(self, name: str, help_text: str, labels: Sequence[str] = ()) -> Gauge:
        """A value that goes up and down."""
        return Gauge(f"{self._prefix}_{name}", help_text, labels, registry=self.registry)

    def histogram(
        self,
        name: str,
        help_text: str,
        labels: Sequence[str] = (),
        buckets: Sequence[float] = LATENCY_BUCKETS_S,
    ) -> Histogram:
        """A distribution, by default of seconds."""
        return Histogram(f"{self._prefix}_{name}", help_text, labels, registry=self.registry, buckets=buckets)

    def render(self) -> bytes:
        """Everything in the text format that Prometheus scrapes."""
        return generate_latest(self.registry)
