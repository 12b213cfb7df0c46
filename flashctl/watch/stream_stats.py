"""Figures of a stream, as `ping` has them for a host: intervals, jitter, offsets in the slot, losses, bytes.

Samples are kept in full up to a limit and thinned beyond it, so that percentiles of an hour are exact and
those of a week are close. Pure: events in, a report out.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from flashctl.core.output import counted
from flashctl.watch.events import WatchEvent

__all__ = ["Samples", "StreamStats", "render_stats"]

MAX_SAMPLES: Final = 100_000
"""Per series: 5.5 hours at 200 ms."""

MAX_INDICES: Final = 64
"""Indices with a row of their own; a 2 s block at 200 ms has 11."""

RECENT: Final = 60
"""Arrivals in the sparkline."""


class Samples:
    """A series of numbers with percentiles."""

    def __init__(self) -> None:
        self._values: list[float] = []
        self._stride = 1
        self.count = 0
        self.total = 0.0
        self.largest: float | None = None
        self.smallest: float | None = None

    def add(self, value: float) -> None:
        """Append one sample."""
        if self.count % self._stride == 0:
            self._values.append(value)
            if len(self._values) > MAX_SAMPLES:
                # Every second one: an even thinning keeps the distribution.
                self._values = self._values[::2]
                self._stride *= 2
        self.count += 1
        self.total += value
        self.largest = value if self.largest is None else max(self.largest, value)
        self.smallest = value if self.smallest is None else min(self.smallest, value)

    @property
    def mean(self) -> float | None:
        return self.total / self.count if self.count else None

    def report(self) -> dict[str, Any]:
        """min, p50, p95, p99, max and mean, rounded to a microsecond when samples are milliseconds."""
        if not self.count:
            return {"count": 0}
        ordered = sorted(self._values)

        def at(share: float) -> float:
            return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 3)

        assert self.smallest is not None and self.largest is not None and self.mean is not None
        return {
            "count": self.count,
            "min": round(self.smallest, 3),
            "p50": at(0.50),
            "p95": at(0.95),
            "p99": at(0.99),
            "max": round(self.largest, 3),
            "mean": round(self.mean, 3),
        }


@dataclass(slots=True)
class _PerIndex:
    interval: Samples = field(default_factory=Samples)
    offset: Samples = field(default_factory=Samples)


class StreamStats:
    """Everything that `--stats` reports about one stream."""

    def __init__(self, interval_ms: float = 200.0) -> None:
        self._interval_ms = interval_ms
        self.started_ns: int | None = None
        self.ended_ns: int | None = None
        self.flashblocks = 0
        self.transactions = 0
        self.gas = 0
        self.events: Counter[str] = Counter()
        self.missing = 0
        self.wire_bytes = 0
        self.text_bytes = 0
        self.interval = Samples()
        self.jitter = Samples()
        self.offset = Samples()
        self.per_index: dict[int, _PerIndex] = {}
        self.per_payload: Counter[int] = Counter()
        """Flashblocks per closed payload."""
        self.recent: deque[float] = deque(maxlen=RECENT)
        """Intervals of the last arrivals, milliseconds."""
        self.downtime_ns = 0
        self._down_since: int | None = None
        self._payloads: set[str] = set()
        self.payloads = 0

    def add(self, event: WatchEvent) -> None:
        """Count one event."""
        if self.started_ns is None:
            self.started_ns = event.received_ns
        self.ended_ns = event.received_ns
        self.events[event.name] += 1
        match event.name:
            case "flashblock":
                self._flashblock(event)
            case "gap":
                self.missing += len(event.details["missing"])
            case "late" if event.details["reported_missing"]:
                self.missing -= 1
            case "closed":
                self.per_payload[event.details["flashblocks"]] += 1
            case "disconnected":
                self._down_since = self._down_since or event.received_ns
            case "connected" if self._down_since is not None:
                self.downtime_ns += max(0, event.received_ns - self._down_since)
                self._down_since = None

    def _flashblock(self, event: WatchEvent) -> None:
        row = event.row
        assert row is not None and event.index is not None and event.arrival is not None
        self.flashblocks += 1
        self.transactions += row.new_transactions
        self.gas += row.gas_added or 0
        self.wire_bytes += event.arrival.wire_bytes
        self.text_bytes += len(event.text)
        if event.payload_id not in self._payloads and event.payload_id is not None:
            self._payloads.add(event.payload_id)
            self.payloads += 1
            if len(self._payloads) > 1024:
                self._payloads = {event.payload_id}
        own = self.per_index.setdefault(event.index, _PerIndex()) if event.index < MAX_INDICES else None
        if row.elapsed_ns is not None:
            interval = row.elapsed_ns / 1e6
            self.recent.append(interval)
            self.interval.add(interval)
            self.jitter.add(abs(interval - self._interval_ms))
            if own is not None:
                own.interval.add(interval)
        if row.slot_offset_ns is not None:
            self.offset.add(row.slot_offset_ns / 1e6)
            if own is not None:
                own.offset.add(row.slot_offset_ns / 1e6)

    @property
    def seconds(self) -> float:
        """Between the first and the last event."""
        if self.started_ns is None or self.ended_ns is None:
            return 0.0
        return max(0, self.ended_ns - self.started_ns) / 1e9

    def report(self) -> dict[str, Any]:
        """The figures as one JSON object; times in milliseconds."""
        ratio = round(self.text_bytes / self.wire_bytes, 3) if self.wire_bytes else None
        return {
            "seconds": round(self.seconds, 3),
            "flashblocks": self.flashblocks,
            "payloads": self.payloads,
            "transactions": self.transactions,
            "gas": self.gas,
            "interval_ms": self.interval.report(),
            "jitter_ms": self.jitter.report(),
            "slot_offset_ms": self.offset.report(),
            "per_index": {
                str(index): {"interval_ms": own.interval.report(), "slot_offset_ms": own.offset.report()}
                for index, own in sorted(self.per_index.items())
            },
            "flashblocks_per_payload": {str(n): count for n, count in sorted(self.per_payload.items())},
            "missing": self.missing,
            "late": self.events["late"],
            "gaps": self.events["gap"],
            "duplicates": self.events["duplicate"],
            "equivocations": self.events["equivocation"],
            "joined_mid": self.events["joined-mid"],
            "inconsistent": self.events["inconsistent"],
            "replaced": self.events["replaced"],
            "rewound": self.events["rewound"],
            "missed_blocks": self.events["missed"],
            "truncated": self.events["prev-mismatch"],
            "undecodable": self.events["undecodable"],
            "reconnects": max(0, self.events["connected"] - 1),
            "downtime_ms": round(self.downtime_ns / 1e6, 3),
            "bytes": self.wire_bytes,
            "decompressed_bytes": self.text_bytes,
            "compression_ratio": ratio,
        }


# -- text -----------------------------------------------------------------------------------------


def render_stats(report: Mapping[str, Any], *, unicode: bool = True) -> Iterator[str]:
    """The report as one screen of text."""
    seconds = report["seconds"] or 0.0
    rate = report["flashblocks"] / seconds if seconds else 0.0
    yield (
        f"{counted(report['flashblocks'], 'flashblock')} of {counted(report['payloads'], 'payload')} "
        f"in {seconds:.1f} s "
        f"({rate:.2f}/s), {report['transactions']} tx, {report['gas']:,} gas"
    )
    ratio = report["compression_ratio"]
    yield (
        f"{counted(report['bytes'], 'byte')} received, {report['decompressed_bytes']:,} decompressed"
        + (f" (ratio {ratio:.2f})" if ratio else "")
    )
    troubles = [_trouble(report[key], label) for key, label in _TROUBLES if report[key]]
    yield "losses: " + (", ".join(troubles) if troubles else "none")
    if report["reconnects"] or report["downtime_ms"]:
        reconnects = counted(report["reconnects"], "reconnect")
        yield f"{reconnects}, {report['downtime_ms'] / 1000:.1f} s without connection"
    yield ""
    yield f"{'milliseconds':<14}{'count':>8}{'min':>10}{'p50':>10}{'p95':>10}{'p99':>10}{'max':>10}"
    for key, label in (
        ("interval_ms", "interval"),
        ("jitter_ms", "jitter"),
        ("slot_offset_ms", "slot offset"),
    ):
        yield _series(label, report[key])
    for index, own in report["per_index"].items():
        # An index that arrived only as catch-up after joining late has no timings.
        if own["interval_ms"]["count"] or own["slot_offset_ms"]["count"]:
            yield _series(f"  [{index}] interval", own["interval_ms"])
            yield _series("      offset", own["slot_offset_ms"])
    if histogram := report["flashblocks_per_payload"]:
        yield ""
        yield "flashblocks per payload"
        yield from _histogram(histogram, unicode=unicode)


_TROUBLES: Final = (
    ("missing", "missing"),
    ("late", "late"),
    ("duplicates", "duplicate"),
    ("equivocations", "equivocation(s)"),
    ("joined_mid", "joined mid-block"),
    ("inconsistent", "inconsistent"),
    ("replaced", "replaced"),
    ("rewound", "rewound"),
    ("missed_blocks", "time(s) blocks missed"),
    ("truncated", "truncated"),
    ("undecodable", "undecodable"),
)


def _trouble(number: int, label: str) -> str:
    """`2 missing`; a noun marked with `(s)` is counted."""
    noun, is_noun, rest = label.partition("(s)")
    return f"{counted(number, noun)}{rest}" if is_noun else f"{number:,} {label}"


def _series(label: str, series: Mapping[str, Any]) -> str:
    if not series["count"]:
        return f"{label:<14}{0:>8}"
    values = "".join(f"{series[name]:>10.1f}" for name in ("min", "p50", "p95", "p99", "max"))
    return f"{label:<14}{series['count']:>8}{values}"


def _histogram(counts: Mapping[str, int], *, unicode: bool) -> Iterator[str]:
    largest = max(counts.values())
    bar = "█" if unicode else "#"
    for number, count in counts.items():
        yield f"{number:>6} {count:>6} {bar * max(1, round(40 * count / largest))}"


_TICKS: Final = "▁▂▃▄▅▆▇█"
_ASCII_TICKS: Final = "_.-=+*#@"


def sparkline(values: Sequence[float], *, unicode: bool = True) -> str:
    """The values as a row of bars, the largest full height."""
    ticks = _TICKS if unicode else _ASCII_TICKS
    top = max(values, default=0.0)
    if top <= 0:
        return ticks[0] * len(values)
    return "".join(ticks[min(len(ticks) - 1, int(value / top * (len(ticks) - 1) + 0.5))] for value in values)
