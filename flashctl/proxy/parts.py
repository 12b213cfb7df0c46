"""The parts of one proxy: hub and relay, access control, upstreams and Redis."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

from flashctl.core.hub import Encoding, Hub, HubOptions, LagBudget, LagPolicy, RingLimits
from flashctl.core.settings.toml import read_toml
from flashctl.errors import UsageError
from flashctl.proxy.access import AccessControl
from flashctl.proxy.client_addresses import ClientAddresses
from flashctl.proxy.config import Compression, ProxyConfig
from flashctl.proxy.connection_limits import ConnectionLimits
from flashctl.proxy.keys import load_keys
from flashctl.proxy.redis_bus import RedisBus
from flashctl.proxy.relay import Relay
from flashctl.proxy.shared_limits import RedisLimits
from flashctl.proxy.stream_filters import FilterIndex
from flashctl.proxy.upstreams import Upstream, Upstreams
from flashctl.proxy.validation import Validator

__all__ = ["ProxyParts", "load_limits"]


class ProxyParts:
    """Constructed from the configuration; the service runs them, metrics and status read them."""

    def __init__(self, config: ProxyConfig) -> None:
        """Opens no connection and no port.

        Raises:
            UsageError, IoError: If a setting, or a file that one names, is unusable.
        """
        self.config: Final = config
        self.started_at = time.monotonic()
        self.hub = Hub(_hub_options(config), router=FilterIndex())
        self.relay = Relay(self.hub, Validator(config.upstream.validate, time.monotonic), time.monotonic)
        self.upstreams = Upstreams(config, self.relay)
        self.access = AccessControl(
            limits=load_limits(config),
            keys=load_keys(config.access.api_keys, config.access.api_keys_file),
            addresses=ClientAddresses(config.access.ip_header, config.access.trusted_proxies),
            public=config.access.public,
            default_encoding=_default_encoding(config),
        )
        self.bus: RedisBus | None = None
        self.shared_limits: RedisLimits | None = None
        if config.bus.url is not None:
            self.bus = RedisBus(
                config.bus.url,
                config.bus.prefix,
                self.relay,
                chain=config.bus.chain,
                start_back_s=config.clients.backlog.kept_s,
                max_message=config.upstream.max_message_bytes,
            )
        if (limits_at := config.bus.limits_url or config.bus.url) is not None:
            self.shared_limits = RedisLimits(
                limits_at, config.bus.prefix, self.access.counts, config.bus.on_failure
            )
            self.access.shared = self.shared_limits

    def fresh(self) -> bool:
        """Whether an upstream or the bus is connected and sent a message recently: the condition of
        /readyz."""
        limit = self.config.upstream.stale_s or float("inf")
        now = time.monotonic()
        sources: list[Upstream | RedisBus] = [*self.upstreams.all]
        if self.bus is not None:
            sources.append(self.bus)
        return any(
            source.connected and source.last_message_at is not None and now - source.last_message_at <= limit
            for source in sources
        )


def _hub_options(config: ProxyConfig) -> HubOptions:
    conflate = config.clients.backlog.on_lag is LagPolicy.CONFLATE
    return HubOptions(
        ring=RingLimits(max_age_s=config.clients.backlog.kept_s, max_bytes=config.clients.backlog.kept_bytes),
        budget=LagBudget(
            max_bytes=config.clients.backlog.bytes,
            max_messages=config.clients.backlog.messages,
            # A conflated client may stall as long as it may leave pings unanswered.
            stall_s=config.clients.pong_timeout_s if conflate else config.clients.backlog.send_timeout_s,
            policy=config.clients.backlog.on_lag,
        ),
    )


def _default_encoding(config: ProxyConfig) -> Encoding:
    return Encoding.BROTLI if config.clients.compression is Compression.BROTLI else Encoding.RAW


def load_limits(config: ProxyConfig) -> ConnectionLimits:
    """The limits in force: the file's where it sets them, else the command line's.

    Raises:
        IoError: If the file cannot be read.
        UsageError: If it has an unknown name or a value that is no limit.
    """
    values = {
        "instance_connection_limit": config.access.instance_limit,
        "per_ip_connection_limit": config.access.per_ip_limit,
    }
    if config.access.limits_file is not None:
        values.update(_read_limits(config.access.limits_file, values))
    return ConnectionLimits(values["instance_connection_limit"], values["per_ip_connection_limit"])


def _read_limits(path: Path, known: dict[str, int]) -> dict[str, int]:
    content = read_toml(path, "limits file")
    for name, value in content.items():
        if name not in known or isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise UsageError(f"limits file {path}: {name} = {value!r}", hint=f"known: {', '.join(known)}")
    return content
