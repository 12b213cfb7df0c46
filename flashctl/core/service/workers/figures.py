"""Metrics of a pool of workers."""

from __future__ import annotations

from functools import partial
from typing import Final, Protocol

from flashctl.core.service.metrics import LATENCY_BUCKETS_S, Metrics
from flashctl.core.service.workers.schedule import JobLane

__all__ = ["PoolFigures"]

_RUN_BUCKETS_S: Final = (0.0002, 0.0005, *LATENCY_BUCKETS_S, 10.0, 30.0, 60.0)


class _Measured(Protocol):
    def waiting(self, lane: JobLane) -> int: ...

    @property
    def running(self) -> int: ...

    @property
    def resident_bytes(self) -> int: ...


class PoolFigures:
    """Counters and histograms; names begin with `worker_` or `call_`."""

    def __init__(self, metrics: Metrics) -> None:
        waiting = (
            "call_wait_seconds",
            "From submission to the first run of a call, by the lane of that run.",
        )
        running = ("call_run_seconds", "Runs of calls in worker processes, by lane.")
        self._wait = metrics.histogram(*waiting, ["lane"], _RUN_BUCKETS_S)
        self._run = metrics.histogram(*running, ["lane"], _RUN_BUCKETS_S)
        self._outcomes = metrics.counter("calls", "Calls over, by outcome.", ["outcome"])
        self._deaths = metrics.counter("worker_deaths", "Worker processes that ended unasked.")
        self._replaced = metrics.counter("worker_replacements", "Worker processes replaced for their size.")
        self._queued = metrics.gauge("calls_waiting", "Calls in line, by lane.", ["lane"])
        self._processes = metrics.gauge("workers", "Worker processes that run.")
        self._resident = metrics.gauge("worker_resident_bytes", "Memory of all worker processes.")

    def watch(self, pool: _Measured) -> None:
        """Read the gauges of this pool at every scrape."""
        for lane in JobLane:
            self._queued.labels(lane.value).set_function(partial(pool.waiting, lane))
        self._processes.set_function(lambda: pool.running)
        self._resident.set_function(lambda: pool.resident_bytes)

    def began(self, lane: JobLane, waited_s: float) -> None:
        """A call's first run begins."""
        self._wait.labels(lane.value).observe(waited_s)

    def ran(self, lane: JobLane, seconds: float) -> None:
        """A run ended, however."""
        self._run.labels(lane.value).observe(seconds)

    def over(self, outcome: str) -> None:
        """A call is over: answered, refused, full, expired, killed, died or broke."""
        self._outcomes.labels(outcome).inc()

    def died(self) -> None:
        """A process ended unasked."""
        self._deaths.inc()

    def replaced(self) -> None:
        """A process ended because it had grown."""
        self._replaced.inc()
