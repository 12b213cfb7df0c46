"""`flashctl proxy`: flags to ProxyConfig; `flashctl proxy status` asks a running one.

Flags and environment variables are those of websocket-proxy, so its env files carry over; what it lacks comes
after. Durations keep its unit, milliseconds.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import typer

from flashctl import default_ports
from flashctl.cli.options import Common, command, new_app
from flashctl.cli.verbs import serve_without_verb
from flashctl.errors import ExitCode, IoError, UsageError

__all__ = ["app"]


app = new_app()
serve_without_verb(app, "proxy")


def _flag(help: str, *decls: str, env: str | None = None, **settings: Any) -> Any:
    """A flag; typer makes its name of the field's, `decls` add or replace."""
    return typer.Option(*decls, envvar=env, help=help, **settings)


class Upstream(NamedTuple):
    """Upstreams"""

    upstream_ws: Annotated[
        list[str] | None,
        _flag(
            "Stream to fan out; several, repeated or separated by commas, are all connected, and the first "
            "copy of each flashblock wins.",
            metavar="URL",
        ),
    ] = None
    upstream_header: Annotated[
        list[str] | None, _flag("Header to send to upstreams.", metavar="'NAME: VALUE'")
    ] = None
    upstream_api_key: Annotated[
        str | None, _flag("Key to send to upstreams as Authorization: Bearer.", metavar="KEY")
    ] = None
    upstream_api_key_file: Annotated[
        Path | None, _flag("The same from a file, which `ps` does not show.", metavar="FILE")
    ] = None
    upstream_ca: Annotated[
        Path | None, _flag("PEM of the authority that signs wss:// upstreams.", metavar="FILE")
    ] = None
    upstream_connect_timeout_ms: Annotated[int, _flag("Timeout of an upstream's handshake.", min=1)] = 10_000
    upstream_stale_ms: Annotated[
        int, _flag("Silence after which an upstream is dialled again; 0 = never.", min=0)
    ] = 10_000
    subscriber_max_interval_ms: Annotated[
        int, _flag("Longest pause before an upstream is dialled again.", min=1)
    ] = 20_000
    subscriber_ping_interval_ms: Annotated[
        int, _flag("Between pings to an upstream; 0 = no pings.", min=0)
    ] = 2_000
    subscriber_pong_timeout_ms: Annotated[
        int, _flag("Time for the pong, after which an upstream is dialled again.", min=0)
    ] = 4_000
    resume_upstream: Annotated[bool, _flag("After a disconnect, ask an upstream for what was missed.")] = True
    max_message_size: Annotated[int, _flag("Longest upstream message.", metavar="BYTES", min=1024)] = 16 << 20
    validate: Annotated[
        Literal["off", "warn", "strict"],
        _flag("Check the sequence rules: count breaches (warn), or also drop unusable messages (strict)."),
    ] = "off"


class Clients(NamedTuple):
    """Clients"""

    listen_addr: Annotated[
        str, _flag("Where clients connect; port 0 takes any free one.", metavar="HOST:PORT")
    ] = f"127.0.0.1:{default_ports.PROXY}"
    tls_cert: Annotated[Path | None, _flag("PEM certificate chain, to serve wss://.", metavar="FILE")] = None
    tls_key: Annotated[Path | None, _flag("PEM private key of --tls-cert.", metavar="FILE")] = None
    message_buffer_size: Annotated[
        int, _flag("Messages a client may be behind before --on-lag applies.", min=1, metavar="N")
    ] = 32
    lag_bytes: Annotated[int, _flag("Bytes a client may be behind before --on-lag applies.", min=1)] = 8 << 20
    on_lag: Annotated[
        Literal["evict", "conflate"],
        _flag(
            "A client too far behind: close it with 1013, or skip it to the next index 0.",
            "--on-lag", "--slow-client",
        ),
    ] = "evict"  # fmt: skip
    resume_buffer_ms: Annotated[
        int,
        _flag("How far back ?block_number=&flashblock_index= reaches; at least the open block.", min=0),
    ] = 10_000
    enable_compression: Annotated[
        bool,
        _flag(
            "The same as --compression brotli.",
            "--enable-compression",
        ),
    ] = False
    compression: Annotated[
        Literal["negotiate", "brotli", "off"],
        _flag("What each client asks for; brotli: also for those that ask for nothing."),
    ] = "negotiate"
    client_ping_enabled: Annotated[bool, _flag("Ping clients.", "--client-ping-enabled/--no-client-ping")] = (
        True
    )
    client_ping_interval_ms: Annotated[int, _flag("Between pings to a client.", min=1)] = 15_000
    client_pong_timeout_ms: Annotated[
        int, _flag("Time without a pong after which a client is closed with 1008.", min=1)
    ] = 30_000
    client_send_timeout_ms: Annotated[
        int, _flag("Time without a byte taken after which a client is closed with 1013.", min=1)
    ] = 1_000
    handshake_timeout_ms: Annotated[int, _flag("Timeout of a client's HTTP request.", min=1)] = 5_000


class Access(NamedTuple):
    """Access and limits"""

    instance_connection_limit: Annotated[int, _flag("Most clients at once; 0 = no limit.", min=0)] = 100
    per_ip_connection_limit: Annotated[
        int, _flag("Most clients at once of one address (IPv6: one /64); 0 = no limit.", min=0)
    ] = 10
    ip_addr_http_header: Annotated[
        str, _flag("Header with a client's address, believed from --trusted-proxies only.", metavar="NAME")
    ] = "X-Forwarded-For"
    trusted_proxies: Annotated[
        list[str] | None, _flag("Networks of load balancers, as 10.0.0.0/8.", metavar="NETWORK")
    ] = None
    api_keys: Annotated[
        str,
        _flag("Keys that may connect, and their limits; KEY may be sha256=HEX.", metavar="APP:KEY[:LIMIT],…"),
    ] = ""
    api_keys_file: Annotated[
        Path | None, _flag("The same from a file, one a line; read again on SIGHUP.", metavar="FILE")
    ] = None
    limits_file: Annotated[
        Path | None, _flag("TOML with the two connection limits; read again on SIGHUP.", metavar="FILE")
    ] = None
    public_access_enabled: Annotated[
        bool,
        _flag("Let clients without a key connect to /ws although keys are set.", "--public-access-enabled"),
    ] = False


class Bus(NamedTuple):
    """Several proxies on one Redis"""

    bus: Annotated[
        str | None,
        _flag(
            "Redis through which proxies share stream and limits; see --bus-chain.",
            metavar="redis://…",
        ),
    ] = None
    bus_chain: Annotated[
        str,
        _flag(
            "Chain of the stream: only proxies of the same one share.",
            metavar="NAME|ID",
        ),
    ] = ""
    redis_url: Annotated[
        str | None,
        _flag("Redis through which proxies share limits only.", env="REDIS_URL", metavar="redis://…"),
    ] = None
    bus_prefix: Annotated[
        str,
        _flag(
            "First part of every Redis key.",
            "--bus-prefix",
            "--redis-key-prefix",
            env="REDIS_KEY_PREFIX",
            metavar="PREFIX",
        ),
    ] = "flashblocks"
    bus_fail: Annotated[
        Literal["open", "closed"], _flag("Accept or refuse clients while the bus does not answer.")
    ] = "open"


class Metrics(NamedTuple):
    """Metrics"""

    metrics: Annotated[bool, _flag("Serve /metrics and /status.")] = True
    metrics_addr: Annotated[str, _flag("Where /metrics and /status are served.", metavar="HOST:PORT")] = (
        "127.0.0.1:9000"
    )
    metrics_global_labels: Annotated[str, _flag("Labels of every metric.", metavar="K=V,…")] = ""
    metrics_host_label: Annotated[
        bool, _flag("Add the host's name to every metric as label hostname.", "--metrics-host-label")
    ] = False


@command(
    app,
    "proxy",
    service=True,
    bare_environment=True,
    example="flashctl proxy --upstream-ws ws://127.0.0.1:1112 --listen-addr 0.0.0.0:8547\n"
    "flashctl proxy status --json",
)
def proxy(
    upstream: Upstream, clients: Clients, access: Access, bus: Bus, metrics: Metrics, *, common: Common
) -> ExitCode:
    """Fan one flashblocks stream out to many clients."""
    from flashctl.core.hub import LagPolicy
    from flashctl.core.net.addresses import ListenAddress
    from flashctl.proxy.config import (
        AccessConfig,
        BacklogConfig,
        BusConfig,
        BusFailure,
        ClientConfig,
        Compression,
        MetricsConfig,
        ProxyConfig,
        UpstreamConfig,
        Validation,
    )
    from flashctl.proxy.service import run

    headers = [_header(text) for text in upstream.upstream_header or []]
    if key := _upstream_key(upstream):
        headers.append(("Authorization", f"Bearer {key}"))
    if clients.enable_compression and clients.compression not in ("negotiate", "brotli"):
        raise UsageError("--enable-compression and --compression contradict each other")
    config = ProxyConfig(
        upstream=UpstreamConfig(
            urls=_split(upstream.upstream_ws),
            headers=tuple(headers),
            ca=upstream.upstream_ca,
            connect_timeout_s=upstream.upstream_connect_timeout_ms / 1e3,
            stale_s=upstream.upstream_stale_ms / 1e3,
            max_backoff_s=upstream.subscriber_max_interval_ms / 1e3,
            ping_interval_s=upstream.subscriber_ping_interval_ms / 1e3,
            pong_timeout_s=upstream.subscriber_pong_timeout_ms / 1e3,
            max_message_bytes=upstream.max_message_size,
            resume=upstream.resume_upstream,
            validate=_choice(Validation, upstream.validate, "--validate"),
        ),
        clients=ClientConfig(
            listen=ListenAddress.parse(clients.listen_addr, "--listen-addr"),
            tls_cert=clients.tls_cert,
            tls_key=clients.tls_key,
            pings=clients.client_ping_enabled,
            ping_interval_s=clients.client_ping_interval_ms / 1e3,
            pong_timeout_s=clients.client_pong_timeout_ms / 1e3,
            handshake_timeout_s=clients.handshake_timeout_ms / 1e3,
            compression=Compression.BROTLI
            if clients.enable_compression
            else _choice(Compression, clients.compression, "--compression"),
            backlog=BacklogConfig(
                messages=clients.message_buffer_size,
                bytes=clients.lag_bytes,
                on_lag=_choice(LagPolicy, clients.on_lag, "--on-lag"),
                send_timeout_s=clients.client_send_timeout_ms / 1e3,
                kept_s=clients.resume_buffer_ms / 1e3,
            ),
        ),
        access=AccessConfig(
            instance_limit=access.instance_connection_limit,
            per_ip_limit=access.per_ip_connection_limit,
            api_keys=_split([access.api_keys]),
            api_keys_file=access.api_keys_file,
            limits_file=access.limits_file,
            public=access.public_access_enabled,
            ip_header=access.ip_addr_http_header,
            trusted_proxies=_split(access.trusted_proxies),
        ),
        bus=BusConfig(
            url=bus.bus,
            chain=bus.bus_chain,
            limits_url=bus.redis_url,
            prefix=bus.bus_prefix,
            on_failure=_choice(BusFailure, bus.bus_fail, "--bus-fail"),
        ),
        metrics=MetricsConfig(
            listen=ListenAddress.parse(metrics.metrics_addr, "--metrics-addr") if metrics.metrics else None,
            labels=_labels(metrics.metrics_global_labels, host=metrics.metrics_host_label),
        ),
    )
    if common.check_only:
        from flashctl.proxy.check import check

        return check(config)
    return run(config, ready_fd=common.ready_fd)


@command(app, "proxy", name="status", example="flashctl proxy status --json")
def status(
    url: Annotated[
        str, typer.Option("--url", metavar="URL", help="The proxy's --metrics-addr, as a URL or HOST:PORT.")
    ] = "http://127.0.0.1:9000",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> ExitCode:
    """Show what a running proxy is doing; exit code 1 when it is not ready."""
    from flashctl.proxy.status import show_status

    return show_status(url, as_json=as_json)


def _split(values: list[str] | None) -> tuple[str, ...]:
    """Elements of repeated and comma-separated values; empty ones dropped."""
    return tuple(part for value in values or [] for item in value.split(",") if (part := item.strip()))


def _choice(kind: Any, value: str, flag: str) -> Any:
    try:
        return kind(value)
    except ValueError:
        names = ", ".join(member.value for member in kind)
        raise UsageError(f"{flag}: {value!r} is not one of {names}") from None


def _upstream_key(upstream: Upstream) -> str | None:
    path = upstream.upstream_api_key_file
    if path is None:
        return upstream.upstream_api_key
    if upstream.upstream_api_key:
        raise UsageError("--upstream-api-key and --upstream-api-key-file both name the key")
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise IoError(f"cannot read {path}: {getattr(error, 'strerror', None) or 'not ASCII'}") from None


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise UsageError("--upstream-header: expected 'NAME: VALUE'")
    return name.strip(), value.strip()


def _labels(text: str, *, host: bool) -> tuple[tuple[str, str], ...]:
    """`k=v,k2=v2` as labels; malformed pairs are skipped, as websocket-proxy does, with a warning."""
    import logging
    import re

    labels: list[tuple[str, str]] = []
    for pair in text.split(","):
        name, equals, value = (part.strip() for part in pair.partition("="))
        if equals and value and re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", name):
            labels.append((name, value))
        elif pair.strip():
            logging.getLogger(__name__).warning("--metrics-global-labels: %r is not name=value", pair)
    if host:
        import socket

        labels.append(("hostname", socket.gethostname()))
    return tuple(labels)
