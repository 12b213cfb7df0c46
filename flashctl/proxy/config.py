"""The settings of `flashctl proxy`, filled from the command line."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from flashctl.core.hub import LagPolicy
from flashctl.core.net.addresses import ListenAddress

__all__ = [
    "AccessConfig",
    "BacklogConfig",
    "BusConfig",
    "BusFailure",
    "ClientConfig",
    "Compression",
    "MetricsConfig",
    "ProxyConfig",
    "UpstreamConfig",
    "Validation",
]


class Compression(Enum):
    """The compression offered to clients."""

    NEGOTIATE = "negotiate"
    """Everything: permessage-deflate by handshake, brotli and zstd by query or subprotocol."""
    BROTLI = "brotli"
    """Brotli by default: `--enable-compression` of flashbots' websocket-proxy."""
    OFF = "off"


class Validation(Enum):
    """How strictly the proxy checks what it forwards."""

    OFF = "off"
    WARN = "warn"
    """Count and log breaches of the sequence rules; forward everything."""
    STRICT = "strict"
    """Drop messages that no consumer could use: not a flashblock, or contradicting an earlier one."""


class BusFailure(Enum):
    """Which clients are admitted while the Redis with the shared limits does not answer."""

    OPEN = "open"
    """Those within this instance's own limits."""
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class UpstreamConfig:
    """The upstreams. Times in seconds, sizes in bytes."""

    urls: tuple[str, ...] = ()
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """Sent with every handshake; may contain a key."""
    ca: Path | None = None
    connect_timeout_s: float = 10.0
    stale_s: float = 10.0
    """A connected upstream that sends no message for so long is reconnected; 0 for never."""
    max_backoff_s: float = 20.0
    """Longest pause between two connection attempts."""
    ping_interval_s: float = 2.0
    pong_timeout_s: float = 4.0
    max_message_bytes: int = 16 << 20
    resume: bool = True
    """On reconnecting, request the flashblocks missed."""
    validate: Validation = Validation.OFF


@dataclass(frozen=True, slots=True)
class BacklogConfig:
    """How far a client may lag, and what is kept for lagging and late clients."""

    messages: int = 32
    bytes: int = 8 << 20
    on_lag: LagPolicy = LagPolicy.EVICT
    send_timeout_s: float = 1.0
    """How long a client's socket may accept no byte."""
    kept_s: float = 10.0
    kept_bytes: int = 64 << 20


@dataclass(frozen=True, slots=True)
class ClientConfig:
    """The port that clients connect to."""

    listen: ListenAddress = ListenAddress("127.0.0.1", 8547)
    tls_cert: Path | None = None
    tls_key: Path | None = None
    pings: bool = True
    ping_interval_s: float = 15.0
    pong_timeout_s: float = 30.0
    handshake_timeout_s: float = 5.0
    compression: Compression = Compression.NEGOTIATE
    backlog: BacklogConfig = BacklogConfig()


@dataclass(frozen=True, slots=True)
class AccessConfig:
    """API keys and connection limits; 0 is no limit."""

    instance_limit: int = 100
    per_ip_limit: int = 10
    api_keys: tuple[str, ...] = field(default=(), repr=False)
    api_keys_file: Path | None = None
    limits_file: Path | None = None
    public: bool = False
    """Whether clients without a key are admitted although keys are configured."""
    ip_header: str = "X-Forwarded-For"
    trusted_proxies: tuple[str, ...] = ()
    """Networks whose `ip_header` is used; that of other peers is ignored."""


@dataclass(frozen=True, slots=True)
class BusConfig:
    """The Redis shared by several proxies, if any."""

    url: str | None = field(default=None, repr=False)
    """Redis for the shared stream and limits."""
    chain: str = ""
    """The chain of the stream; proxies with another one have another stream."""
    limits_url: str | None = field(default=None, repr=False)
    """Redis for the shared limits; None: `url`, if set."""
    prefix: str = "flashblocks"
    on_failure: BusFailure = BusFailure.OPEN


@dataclass(frozen=True, slots=True)
class MetricsConfig:
    """The status port."""

    listen: ListenAddress | None = ListenAddress("127.0.0.1", 9000)
    """None: no status port."""
    labels: tuple[tuple[str, str], ...] = ()
    """On every metric."""


@dataclass(frozen=True, slots=True)
class ProxyConfig:
    """The settings of one proxy process."""

    upstream: UpstreamConfig = UpstreamConfig()
    clients: ClientConfig = ClientConfig()
    access: AccessConfig = AccessConfig()
    bus: BusConfig = BusConfig()
    metrics: MetricsConfig = MetricsConfig()
