"""What a hub counts: plain integers, raised per flush or per event and never per delivery."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

__all__ = ["FANOUT_BUCKETS_S", "HubStats", "LatencyHistogram"]

FANOUT_BUCKETS_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
"""From one client on a quiet core (20 us) to a fan-out slower than a flashblock interval."""


@dataclass(slots=True)
class LatencyHistogram:
    """Cumulative buckets, as in Prometheus' text format, without its locks on the path."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(FANOUT_BUCKETS_S) + 1))
    total_s: float = 0.0

    def observe(self, seconds: float) -> None:
        """Count one observation."""
        self.total_s += seconds
        for number, bound in enumerate(FANOUT_BUCKETS_S):
            if seconds <= bound:
                self.counts[number] += 1
                return
        self.counts[-1] += 1

    def cumulative(self) -> list[tuple[float, float]]:
        """`(upper bound, observations up to it)` pairs, ending with infinity."""
        pairs: list[tuple[float, float]] = []
        seen = 0
        for bound, count in zip((*FANOUT_BUCKETS_S, math.inf), self.counts, strict=True):
            seen += count
            pairs.append((bound, float(seen)))
        return pairs


@dataclass(slots=True)
class HubStats:
    """Counters since the hub was made, except `subscribers`, which is the present."""

    messages: int = 0
    message_bytes: int = 0
    largest_message: int = 0
    deliveries: int = 0
    """Messages handed to a client's socket, once per client; pings are not counted."""
    sent_bytes: int = 0
    subscribers: int = 0
    subscribers_total: int = 0
    skipped: int = 0
    """Times a client was skipped to the next index 0."""
    replayed: int = 0
    """Clients that began with messages of the past."""
    pings: int = 0
    ended: Counter[str] = field(default_factory=Counter)
    """Connections by the cause of their end."""
    fanout: LatencyHistogram = field(default_factory=LatencyHistogram)
    """From `publish` to the last live client's write."""
