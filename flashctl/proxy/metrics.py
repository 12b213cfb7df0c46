"""The proxy's metrics: the names operators have on their dashboards, and what those dashboards miss.

Values are read when somebody asks, from the integers the parts count in anyway: a delivery costs no metric.
The text format is written here rather than by prometheus-client because that appends `_total` to counters,
which would break every query written for the Rust proxy.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping

from flashctl import __version__
from flashctl.core.service import defects
from flashctl.core.service import loop_turns as turns
from flashctl.proxy.limits import Limit
from flashctl.proxy.parts import ProxyParts

__all__ = ["PREFIX", "render_metrics"]

PREFIX = "websocket_proxy"

Labels = Mapping[str, str]
Sample = tuple[Labels, float]


class _Writer:
    """Lines of the Prometheus text format, every sample with the global labels."""

    def __init__(self, labels: Labels) -> None:
        self._labels = labels
        self.lines: list[str] = []

    def add(
        self, kind: str, name: str, help_text: str, samples: float | Iterable[Sample], prefix: str = PREFIX
    ) -> None:
        """One metric; a bare number is its only sample."""
        if isinstance(samples, int | float):
            samples = [({}, samples)]
        self.lines.append(f"# HELP {prefix}_{name} {help_text}")
        self.lines.append(f"# TYPE {prefix}_{name} {kind}")
        for labels, value in samples:
            self._sample(f"{prefix}_{name}", labels, value)

    def histogram(self, name: str, help_text: str, pairs: list[tuple[str, float]], total: float) -> None:
        """One histogram from cumulative buckets."""
        self.lines.append(f"# HELP {PREFIX}_{name} {help_text}")
        self.lines.append(f"# TYPE {PREFIX}_{name} histogram")
        for bound, count in pairs:
            self._sample(f"{PREFIX}_{name}_bucket", {"le": bound}, count)
        self._sample(f"{PREFIX}_{name}_sum", {}, total)
        self._sample(f"{PREFIX}_{name}_count", {}, pairs[-1][1])

    def _sample(self, name: str, labels: Labels, value: float) -> None:
        every = {**self._labels, **labels}
        text = ",".join(f'{key}="{_escape(content)}"' for key, content in every.items())
        number = str(int(value)) if value == int(value) else f"{value:.9g}"
        self.lines.append(f"{name}{{{text}}} {number}" if text else f"{name} {number}")


def _escape(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def render_metrics(proxy: ProxyParts) -> bytes:
    """The page that Prometheus scrapes."""
    writer = _Writer(dict(proxy.config.metrics_labels))
    _clients(writer, proxy)
    _access(writer, proxy)
    _upstreams(writer, proxy)
    _stream(writer, proxy)
    _bus(writer, proxy)
    writer.add("gauge", "build_info", "Version of flashctl.", [({"version": __version__}, 1)])
    writer.add(
        "counter",
        "defects_total",
        "Unforeseen exceptions, by the boundary that caught them.",
        [({"where": where}, count) for where, count in sorted(defects.counts().items())],
        prefix="flashctl",
    )
    writer.add(
        "counter",
        "loop_turns_over_5ms_total",
        "Turns of the event loop over 5 ms, by what ran in them.",
        [({"cause": cause}, count) for cause, count in sorted(turns.counts().items())],
        prefix="flashctl",
    )
    return ("\n".join(writer.lines) + "\n").encode()


def _clients(writer: _Writer, proxy: ProxyParts) -> None:
    stats = proxy.hub.stats
    ended = stats.ended
    writer.add("counter", "sent_messages", "Messages handed to clients' sockets; no pings.", stats.deliveries)
    writer.add("counter", "sent_bytes", "Bytes handed to clients' sockets.", stats.sent_bytes)
    writer.add(
        "counter", "failed_messages", "Clients dropped because their socket took nothing.", ended["stalled"]
    )
    writer.add("counter", "new_connections", "Clients admitted.", stats.subscribers_total)
    writer.add(
        "counter",
        "closed_connections",
        "Clients that left or were closed.",
        stats.subscribers_total - stats.subscribers,
    )
    writer.add(
        "counter",
        "lagged_connections",
        "Clients closed for being too far behind.",
        ended["lagged"] + ended["stalled"],
    )
    writer.add("counter", "skipped_clients", "Times a client was skipped to the next block.", stats.skipped)
    writer.add("counter", "replayed_clients", "Clients that began with past messages.", stats.replayed)
    writer.add("gauge", "active_connections", "Clients connected now.", stats.subscribers)
    writer.add("gauge", "lagging_connections", "Clients behind the stream now.", proxy.hub.behind)
    writer.add("gauge", "max_client_lag_messages", "The lag of the slowest client.", proxy.hub.max_lag())
    writer.add(
        "counter", "client_pong_disconnects", "Clients closed for not answering.", ended["pong_timeout"]
    )
    writer.add("counter", "client_pings", "Pings sent to clients.", stats.pings)
    writer.add(
        "counter",
        "connections_ended",
        "Connections by the cause of their end.",
        [({"cause": cause}, count) for cause, count in sorted(ended.items())],
    )


def _access(writer: _Writer, proxy: ProxyParts) -> None:
    stats = proxy.access.stats
    refused = stats.refused
    writer.add("counter", "rate_limited_requests", "Requests refused by a limit.", sum(refused.values()))
    writer.add(
        "counter", "per_ip_rate_limited_requests", "Refused by the address's limit.", refused[Limit.ADDRESS]
    )
    writer.add(
        "counter", "global_rate_limited_requests", "Refused by the instance's limit.", refused[Limit.INSTANCE]
    )
    writer.add("counter", "per_key_rate_limited_requests", "Refused by the key's limit.", refused[Limit.KEY])
    writer.add("counter", "unauthorized_requests", "Requests without a valid API key.", stats.unauthorized)
    writer.add(
        "counter",
        "connections_by_app",
        "Connections admitted, by the name of their key.",
        [({"app": app}, count) for app, count in sorted(stats.by_app.items())],
    )


def _upstreams(writer: _Writer, proxy: ProxyParts) -> None:
    upstreams = proxy.upstreams.all
    total = {
        name: sum(getattr(upstream.stats, name) for upstream in upstreams)
        for name in ("attempts", "successes", "failures", "errors", "ping_failures", "silences")
    }
    writer.add("counter", "upstream_errors", "Upstream connections broken or refused.", total["errors"])
    writer.add(
        "gauge",
        "upstream_connections",
        "Upstreams connected now.",
        sum(upstream.connected for upstream in upstreams),
    )
    writer.add("counter", "upstream_connection_attempts", "Upstream connections tried.", total["attempts"])
    writer.add("counter", "upstream_connection_successes", "Upstream connections made.", total["successes"])
    writer.add("counter", "upstream_connection_failures", "Upstream connections failed.", total["failures"])
    pings = sum(upstream.link.pings for upstream in upstreams)
    writer.add("counter", "ping_attempts", "Pings to upstreams.", pings)
    writer.add("counter", "ping_sent", "The same, by its other name.", pings)
    writer.add(
        "gauge",
        "upstream_round_trip_seconds",
        "Of the ping answered last.",
        [({"upstream": upstream.name}, upstream.link.round_trip_s) for upstream in upstreams],
    )
    writer.add("counter", "ping_failures", "Upstreams dropped for not answering.", total["ping_failures"])
    writer.add("counter", "upstream_silences", "Upstreams dropped for saying nothing.", total["silences"])
    writer.add("counter", "upstream_messages", "Messages received.", _by_upstream(proxy, "by_upstream"))
    writer.add(
        "counter", "upstream_first", "Messages this upstream was first with.", _by_upstream(proxy, "won")
    )


def _bus(writer: _Writer, proxy: ProxyParts) -> None:
    bus, limits = proxy.bus, proxy.shared_limits
    if bus is not None:
        writer.add("gauge", "bus_connected", "Whether the bus answers.", bus.connected)
        writer.add("counter", "bus_reconnects", "Times the bus was lost.", bus.reconnects)
        writer.add("counter", "bus_written", "Messages written to the bus.", bus.written)
        writer.add("counter", "bus_given_up", "Messages the bus was away for too long for.", bus.given_up)
        writer.add("counter", "bus_skipped", "Entries of the bus that are no messages.", bus.skipped)
    if limits is not None:
        writer.add(
            "counter",
            "bus_limits_repaired",
            "Shared counts that were none, and were dropped.",
            limits.repaired,
        )
        writer.add("gauge", "bus_limits_failing", "Whether limits are not shared now.", limits.failing)


def _by_upstream(proxy: ProxyParts, field: str) -> Iterator[Sample]:
    counts = getattr(proxy.relay.stats, field)
    return (({"upstream": upstream.name}, counts[upstream.name]) for upstream in proxy.upstreams.all)


def _stream(writer: _Writer, proxy: ProxyParts) -> None:
    hub, relay = proxy.hub, proxy.relay.stats
    writer.add("counter", "bytes_broadcasted", "Payload bytes published, once each.", hub.stats.message_bytes)
    writer.add("counter", "messages_broadcasted", "Messages published, once each.", hub.stats.messages)
    writer.add("gauge", "broadcast_queue_size", "Messages kept for late and slow clients.", len(hub.ring))
    writer.add("gauge", "broadcast_queue_bytes", "Their bytes.", hub.ring.size)
    writer.add("gauge", "largest_message_bytes", "Largest message so far.", relay.largest)
    writer.add(
        "counter",
        "dropped_messages",
        "Messages not forwarded, by reason.",
        [
            ({"reason": reason}, relay.dropped[reason])
            for reason in ("duplicate", "equivocation", "stale", "invalid", "defect")
        ],
    )
    writer.add("counter", "unplaced_messages", "Forwarded without being understood.", relay.unplaced)
    writer.add(
        "counter",
        "sequence_breaches",
        "Breaches of the sequence rules (--validate), by cause.",
        [({"cause": cause}, count) for cause, count in sorted(proxy.relay.validator.breaches.items())],
    )
    if relay.last_message_at is not None:
        age = time.monotonic() - relay.last_message_at
        writer.add("gauge", "last_message_age_seconds", "Since the last message.", age)
    if proxy.relay.last is not None:
        writer.add("gauge", "block_number", "Block of the last message.", proxy.relay.last.block_number)
    writer.add(
        "gauge",
        "compression_ratio",
        "Payload bytes to frame bytes of the messages kept, by encoding in use.",
        [({"encoding": encoding.value}, ratio) for encoding, ratio in hub.ring.compression_ratios()],
    )
    fanout = hub.stats.fanout
    writer.histogram(
        "message_send_duration",
        "Seconds from the arrival of a message to its write to the last client.",
        fanout.cumulative(),
        fanout.total_s,
    )
