"""The upstreams: all connected at once, each retried on its own; the relay forwards the first copy to arrive.

There is no election and no failover: while one upstream is dead, lagging or silent, the others' copies arrive
first. What remains is to detect a connected upstream that sends nothing, by the stream's silence limit, and
to request missed messages from one that comes back.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from flashctl.core.flashblocks.client import (
    Backoff,
    Connected,
    Disconnected,
    StreamFrame,
    StreamOptions,
    check_stream_url,
    subscribe,
)
from flashctl.core.net.keepalive import LinkStats
from flashctl.core.net.urls import mask_url
from flashctl.errors import IoError
from flashctl.proxy.config import ProxyConfig
from flashctl.proxy.relay import Relay

__all__ = ["Upstream", "UpstreamStats", "Upstreams", "client_tls"]

_LOG = logging.getLogger(__name__)


@dataclass(slots=True)
class UpstreamStats:
    """Counters of one upstream."""

    attempts: int = 0
    successes: int = 0
    failures: int = 0
    """Failed connection attempts."""
    errors: int = 0
    """Connections that broke, and failed attempts."""
    ping_failures: int = 0
    """Connections dropped because a ping was not answered."""
    silences: int = 0
    """Connections dropped because no message arrived."""


class Upstream:
    """One upstream and its state."""

    def __init__(self, url: str, name: str) -> None:
        self.url = url
        self.name = name
        """Unique, without credentials: for logs and labels."""
        self.stats = UpstreamStats()
        self.link = LinkStats()
        self.connected = False
        self.last_message_at: float | None = None
        """Monotonic seconds."""
        self.trouble = ""
        """Why it is not connected."""


class Upstreams:
    """All upstreams of a proxy."""

    def __init__(self, config: ProxyConfig, relay: Relay) -> None:
        self._config = config
        self._relay = relay
        self._tls = client_tls(config.upstream.ca)
        for url in config.upstream.urls:
            check_stream_url(url, "--upstream-ws")
        self.all = [
            Upstream(url, name)
            for url, name in zip(config.upstream.urls, _names(config.upstream.urls), strict=True)
        ]

    async def run(self) -> None:
        """Follow every upstream until cancelled.

        Raises:
            AuthError, NotAStream: If the only upstream refuses us at the first attempt.
        """
        # Not a TaskGroup, which would wrap a single error in a group.
        tasks = [asyncio.ensure_future(self.follow(upstream)) for upstream in self.all]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    async def follow(self, upstream: Upstream) -> None:
        """Follow one upstream until cancelled.

        Raises:
            AuthError, NotAStream: If it is the only one, and refuses us at the first attempt.
        """
        stats, relay, name = upstream.stats, self._relay, upstream.name

        def receive(data: bytes, binary: bool, frame: bytes | None = None, last: bool = False) -> None:
            upstream.last_message_at = time.monotonic()
            relay.receive(name, data, binary=binary, frame=frame, last=last)

        stats.attempts += 1
        options = replace(
            self._options(),
            direct=receive,
            link=upstream.link,
            may_be_silent=lambda: self._stands_by(upstream),
        )
        async with contextlib.aclosing(subscribe(upstream.url, options)) as items:
            async for item in items:
                if isinstance(item, StreamFrame):
                    receive(item.data, item.binary)
                elif isinstance(item, Connected):
                    stats.successes += 1
                    upstream.connected = True
                    upstream.trouble = ""
                    _LOG.info("upstream connected", extra={"upstream": upstream.name})
                elif isinstance(item, Disconnected):
                    self._disconnected(upstream, item)
                    stats.attempts += 1

    def _stands_by(self, upstream: Upstream) -> bool:
        """Whether a silent upstream may be a standby: it answers pings, and another one sends messages."""
        config = self._config
        if not config.upstream.ping_interval_s or not config.upstream.pong_timeout_s:
            return False
        heard = [other.last_message_at for other in self.all if other is not upstream]
        now = time.monotonic()
        return any(at is not None and now - at <= config.upstream.stale_s for at in heard)

    def _disconnected(self, upstream: Upstream, item: Disconnected) -> None:
        stats = upstream.stats
        stats.errors += 1
        if not upstream.connected:
            stats.failures += 1
        stats.ping_failures += "ping timeout" in item.reason
        stats.silences += item.reason.startswith("no frame for")
        upstream.connected = False
        upstream.trouble = item.reason
        _LOG.warning(
            "upstream disconnected: %s; trying again in %.1f s",
            item.reason,
            item.retry_in_s,
            extra={"upstream": upstream.name},
        )

    def _options(self) -> StreamOptions:
        config = self._config
        return StreamOptions(
            headers=_headers(config.upstream.headers),
            backoff=Backoff(maximum_s=config.upstream.max_backoff_s, stable_after_s=5.0),
            connect_timeout_s=config.upstream.connect_timeout_s,
            ping_interval_s=config.upstream.ping_interval_s or None,
            pong_timeout_s=config.upstream.pong_timeout_s or None,
            silence_timeout_s=config.upstream.stale_s or None,
            max_size=config.upstream.max_message_bytes,
            tls=self._tls,
            patient=len(self.all) > 1,
            resume=self._relay.resume_query if config.upstream.resume else None,
        )


def _headers(pairs: Sequence[tuple[str, str]]) -> Mapping[str, str] | None:
    return dict(pairs) or None


def _names(urls: Sequence[str]) -> list[str]:
    """Printable names; two that are equal after masking secrets get a number."""
    names: list[str] = []
    for url in urls:
        shown = mask_url(url)
        names.append(shown if shown not in names else f"{shown}#{len(names)}")
    return names


def client_tls(ca: Path | None) -> ssl.SSLContext | None:
    """A context that trusts the given authority beside the system's.

    Raises:
        IoError: If the file cannot be read, or is no certificate.
    """
    if ca is None:
        return None
    context = ssl.create_default_context()
    try:
        context.load_verify_locations(cafile=str(ca))
    except (OSError, ssl.SSLError) as error:
        raise IoError(f"certificate authority {ca}: {getattr(error, 'strerror', None) or error}") from None
    return context
