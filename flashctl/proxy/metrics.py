"""The proxy's metrics: the names of the existing proxies' dashboards, and further ones.

Values are read at scrape time from the integers that the parts count in anyway: a delivery updates no metric.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Literal

from flashctl.core.service.exposition import Labels, MetricFamily, counter, gauge, histogram_samples
from flashctl.core.service.metrics import Metrics
from flashctl.proxy.connection_limits import Limit
from flashctl.proxy.parts import ProxyParts

__all__ = ["PREFIX", "proxy_metrics"]

PREFIX = "websocket_proxy"

Value = tuple[Labels, float]


class _Families:
    """Collects families whose names begin with PREFIX."""

    def __init__(self) -> None:
        self.all: list[MetricFamily] = []

    def add(
        self, kind: Literal["counter", "gauge"], name: str, help_text: str, values: float | Iterable[Value]
    ) -> None:
        """One metric; a bare number is its only sample."""
        make = counter if kind == "counter" else gauge
        self.all.append(make(f"{PREFIX}_{name}", help_text, values))


def proxy_metrics(parts: ProxyParts) -> Metrics:
    """The metrics of one proxy, with the common labels of its settings."""
    metrics = Metrics(PREFIX, labels=dict(parts.config.metrics.labels))
    metrics.register(partial(_families, parts))
    return metrics


def _families(proxy: ProxyParts) -> list[MetricFamily]:
    found = _Families()
    _clients(found, proxy)
    _access(found, proxy)
    _upstreams(found, proxy)
    _stream(found, proxy)
    _bus(found, proxy)
    return found.all


def _clients(found: _Families, proxy: ProxyParts) -> None:
    stats = proxy.hub.stats
    ended = stats.ended
    found.add("counter", "sent_messages", "Messages handed to clients' sockets; no pings.", stats.deliveries)
    found.add("counter", "sent_bytes", "Bytes handed to clients' sockets.", stats.sent_bytes)
    found.add(
        "counter", "failed_messages", "Clients dropped because their socket took nothing.", ended["stalled"]
    )
    found.add("counter", "new_connections", "Clients admitted.", stats.subscribers_total)
    found.add(
        "counter",
        "closed_connections",
        "Clients that left or were closed.",
        stats.subscribers_total - stats.subscribers,
    )
    found.add(
        "counter",
        "lagged_connections",
        "Clients closed for being too far behind.",
        ended["lagged"] + ended["stalled"],
    )
    found.add("counter", "skipped_clients", "Times a client was skipped to the next block.", stats.skipped)
    found.add("counter", "replayed_clients", "Clients that began with past messages.", stats.replayed)
    found.add("gauge", "active_connections", "Clients connected now.", stats.subscribers)
    found.add("gauge", "lagging_connections", "Clients behind the stream now.", proxy.hub.behind)
    found.add("gauge", "max_client_lag_messages", "The lag of the slowest client.", proxy.hub.max_lag())
    found.add(
        "counter", "client_pong_disconnects", "Clients closed for not answering.", ended["pong_timeout"]
    )
    found.add("counter", "client_pings", "Pings sent to clients.", stats.pings)
    found.add(
        "counter",
        "connections_ended",
        "Connections by the cause of their end.",
        [({"cause": cause}, count) for cause, count in sorted(ended.items())],
    )


def _access(found: _Families, proxy: ProxyParts) -> None:
    stats = proxy.access.stats
    refused = stats.refused
    found.add("counter", "rate_limited_requests", "Requests refused by a limit.", sum(refused.values()))
    found.add(
        "counter", "per_ip_rate_limited_requests", "Refused by the address's limit.", refused[Limit.ADDRESS]
    )
    found.add(
        "counter", "global_rate_limited_requests", "Refused by the instance's limit.", refused[Limit.INSTANCE]
    )
    found.add("counter", "per_key_rate_limited_requests", "Refused by the key's limit.", refused[Limit.KEY])
    found.add("counter", "unauthorized_requests", "Requests without a valid API key.", stats.unauthorized)
    found.add(
        "counter",
        "connections_by_app",
        "Connections admitted, by the name of their key.",
        [({"app": app}, count) for app, count in sorted(stats.by_app.items())],
    )


def _upstreams(found: _Families, proxy: ProxyParts) -> None:
    upstreams = proxy.upstreams.all
    total = {
        name: sum(getattr(upstream.stats, name) for upstream in upstreams)
        for name in ("attempts", "successes", "failures", "errors", "ping_failures", "silences")
    }
    found.add("counter", "upstream_errors", "Upstream connections broken or refused.", total["errors"])
    found.add(
        "gauge",
        "upstream_connections",
        "Upstreams connected now.",
        sum(upstream.connected for upstream in upstreams),
    )
    found.add("counter", "upstream_connection_attempts", "Upstream connections tried.", total["attempts"])
    found.add("counter", "upstream_connection_successes", "Upstream connections made.", total["successes"])
    found.add("counter", "upstream_connection_failures", "Upstream connections failed.", total["failures"])
    pings = sum(upstream.link.pings for upstream in upstreams)
    found.add("counter", "ping_attempts", "Pings to upstreams.", pings)
    found.add("counter", "ping_sent", "The same, by its other name.", pings)
    found.add(
        "gauge",
        "upstream_round_trip_seconds",
        "Of the ping answered last.",
        [({"upstream": upstream.name}, upstream.link.round_trip_s) for upstream in upstreams],
    )
    found.add("counter", "ping_failures", "Upstreams dropped for not answering.", total["ping_failures"])
    found.add("counter", "upstream_silences", "Upstreams dropped for saying nothing.", total["silences"])
    found.add("counter", "upstream_messages", "Messages received.", _by_upstream(proxy, "by_upstream"))
    found.add(
        "counter", "upstream_first", "Messages this upstream was first with.", _by_upstream(proxy, "won")
    )


def _bus(found: _Families, proxy: ProxyParts) -> None:
    bus, limits = proxy.bus, proxy.shared_limits
    if bus is not None:
        found.add("gauge", "bus_connected", "Whether the bus answers.", bus.connected)
        found.add("counter", "bus_reconnects", "Times the bus was lost.", bus.reconnects)
        found.add("counter", "bus_written", "Messages written to the bus.", bus.written)
        found.add("counter", "bus_given_up", "Messages the bus was away for too long for.", bus.given_up)
        found.add("counter", "bus_skipped", "Entries of the bus that are no messages.", bus.skipped)
    if limits is not None:
        found.add(
            "counter",
            "bus_limits_repaired",
            "Shared counts that were none, and were dropped.",
            limits.repaired,
        )
        found.add("gauge", "bus_limits_failing", "Whether limits are not shared now.", limits.failing)


def _by_upstream(proxy: ProxyParts, field: str) -> Iterator[Value]:
    counts = getattr(proxy.relay.stats, field)
    return (({"upstream": upstream.name}, counts[upstream.name]) for upstream in proxy.upstreams.all)


def _stream(found: _Families, proxy: ProxyParts) -> None:
    hub, relay = proxy.hub, proxy.relay.stats
    found.add("counter", "bytes_broadcasted", "Payload bytes published, once each.", hub.stats.message_bytes)
    found.add("counter", "messages_broadcasted", "Messages published, once each.", hub.stats.messages)
    found.add("gauge", "broadcast_queue_size", "Messages kept for late and slow clients.", len(hub.ring))
    found.add("gauge", "broadcast_queue_bytes", "Their bytes.", hub.ring.size)
    found.add("gauge", "largest_message_bytes", "Largest message so far.", relay.largest)
    found.add(
        "counter",
        "dropped_messages",
        "Messages not forwarded, by reason.",
        [
            ({"reason": reason}, relay.dropped[reason])
            for reason in ("duplicate", "equivocation", "stale", "invalid", "defect")
        ],
    )
    found.add("counter", "unplaced_messages", "Forwarded without being understood.", relay.unplaced)
    found.add(
        "counter",
        "sequence_breaches",
        "Breaches of the sequence rules (--validate), by cause.",
        [({"cause": cause}, count) for cause, count in sorted(proxy.relay.validator.breaches.items())],
    )
    if relay.last_message_at is not None:
        age = time.monotonic() - relay.last_message_at
        found.add("gauge", "last_message_age_seconds", "Since the last message.", age)
    if proxy.relay.last is not None:
        found.add("gauge", "block_number", "Block of the last message.", proxy.relay.last.block_number)
    found.add(
        "gauge",
        "compression_ratio",
        "Payload bytes to frame bytes of the messages kept, by encoding in use.",
        [({"encoding": encoding.value}, ratio) for encoding, ratio in hub.ring.compression_ratios()],
    )
    fanout = hub.stats.fanout
    samples = histogram_samples(fanout.cumulative(), fanout.total_s)
    help_text = "Seconds from the arrival of a message to its write to the last client."
    found.all.append(MetricFamily(f"{PREFIX}_message_send_duration", "histogram", help_text, samples))
