"""What `flashctl proxy` can be told; the command line fills it, everything below reads it."""

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
    """What clients may choose from."""

    NEGOTIATE = "negotiate"
    """Everything: permessage-deflate by handshake, brotli and zstd by query or subprotocol."""
    BROTLI = "brotli"
    """Brotli for clients that ask for nothing else; what `--enable-compression` means to operators today."""
    OFF = "off"


class Validation(Enum):
    """How much the proxy minds what it forwards."""

    OFF = "off"
    WARN = "warn"
    """Count and log breaches of the sequence rules; forward everything."""
    STRICT = "strict"
    """Drop messages that no consumer could use: not a flashblock, or contradicting what went before."""


class BusFailure(Enum):
    """Who gets in while the bus that holds the shared limits does not answer."""

    OPEN = "open"
    """Clients that this instance's own limits allow."""
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class UpstreamConfig:
    """Where messages come from. Times in seconds, sizes in bytes."""

    urls: tuple[str, ...] = ()
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """Sent with every handshake; they may hold a key."""
    ca: Path | None = None
    connect_timeout_s: float = 10.0
    stale_s: float = 10.0
    """A connected upstream without a message for so long is dialled anew; 0 for never."""
    max_backoff_s: float = 20.0
    """Longest pause between two attempts to connect."""
    ping_interval_s: float = 2.0
    pong_timeout_s: float = 4.0
    max_message_bytes: int = 16 << 20
    resume: bool = True
    """Ask an upstream that comes back for what was missed."""
    validate: Validation = Validation.OFF


@dataclass(frozen=True, slots=True)
class BacklogConfig:
    """How far a client may be behind, and what is kept for those that are or that come late."""

    messages: int = 32
    bytes: int = 8 << 20
    on_lag: LagPolicy = LagPolicy.EVICT
    send_timeout_s: float = 1.0
    """Time a client's socket may refuse every byte."""
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
    """Who may connect, and how many; a limit of 0 is none."""

    instance_limit: int = 100
    per_ip_limit: int = 10
    api_keys: tuple[str, ...] = field(default=(), repr=False)
    api_keys_file: Path | None = None
    limits_file: Path | None = None
    public: bool = False
    """Whether clients without a key may connect where there are keys."""
    ip_header: str = "X-Forwarded-For"
    trusted_proxies: tuple[str, ...] = ()
    """Networks whose `ip_header` is believed; that of other peers is not."""


@dataclass(frozen=True, slots=True)
class BusConfig:
    """The Redis that proxies share, as far as they share one."""

    url: str | None = field(default=None, repr=False)
    """Where stream and limits are shared."""
    chain: str = ""
    """Whose stream it is; proxies with another one have another stream."""
    limits_url: str | None = field(default=None, repr=False)
    """Where the limits are shared; None: where the stream is, if it is."""
    prefix: str = "flashblocks"
    on_failure: BusFailure = BusFailure.OPEN


@dataclass(frozen=True, slots=True)
class MetricsConfig:
    """The status port."""

    listen: ListenAddress | None = ListenAddress("127.0.0.1", 9000)
    """None: there is none."""
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
