"""What `flashctl proxy` can be told; the command line fills it, everything below reads it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from flashctl.core.hub import LagPolicy

__all__ = ["BusFailure", "Compression", "ProxyConfig", "Validation"]


class Compression(Enum):
    """What clients may choose from."""

    NEGOTIATE = "negotiate"
    """Everything: permessage-deflate by handshake, brotli and zstd by query or subprotocol."""
    BROTLI = "brotli"
    """Brotli for whoever asks for nothing else; what `--enable-compression` means to operators today."""
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
    """Whoever this instance's own limits allow."""
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class ProxyConfig:
    """The settings of one proxy process; times in seconds, sizes in bytes, limits of 0 mean none."""

    upstreams: tuple[str, ...] = ()
    listen_addr: str = "127.0.0.1:8547"
    tls_cert: Path | None = None
    tls_key: Path | None = None

    upstream_headers: tuple[tuple[str, str], ...] = ()
    upstream_ca: Path | None = None
    upstream_connect_timeout_s: float = 10.0
    upstream_stale_s: float = 10.0
    """A connected upstream without a message for so long is dialled anew."""
    subscriber_max_interval_s: float = 20.0
    subscriber_ping_interval_s: float = 2.0
    subscriber_pong_timeout_s: float = 4.0
    max_message_size: int = 16 << 20
    resume_upstream: bool = True
    """Ask an upstream that comes back for what was missed."""

    message_buffer_size: int = 32
    """Messages a client may be behind."""
    lag_bytes: int = 8 << 20
    on_lag: LagPolicy = LagPolicy.EVICT
    client_send_timeout_s: float = 1.0
    """Time a client's socket may refuse every byte."""
    resume_buffer_s: float = 10.0
    resume_buffer_bytes: int = 64 << 20
    client_ping: bool = True
    client_ping_interval_s: float = 15.0
    client_pong_timeout_s: float = 30.0
    handshake_timeout_s: float = 5.0
    compression: Compression = Compression.NEGOTIATE

    instance_connection_limit: int = 100
    per_ip_connection_limit: int = 10
    api_keys: tuple[str, ...] = ()
    api_keys_file: Path | None = None
    limits_file: Path | None = None
    public_access: bool = False
    ip_addr_http_header: str = "X-Forwarded-For"
    trusted_proxies: tuple[str, ...] = ()
    """Networks whose `ip_addr_http_header` is believed; nobody else's is."""

    validate: Validation = Validation.OFF

    bus: str | None = None
    """Redis that stream and limits are shared in."""
    bus_chain: str = ""
    """Whose stream it is; proxies with another one have another stream."""
    redis_url: str | None = None
    """Redis that the limits are shared in; None: the bus, if there is one."""
    bus_prefix: str = "flashblocks"
    bus_fail: BusFailure = BusFailure.OPEN

    metrics: bool = True
    metrics_addr: str = "127.0.0.1:9000"
    metrics_labels: tuple[tuple[str, str], ...] = ()
