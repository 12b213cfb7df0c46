"""`flashctl proxy`: flags to ProxyConfig; `flashctl proxy status` asks a running one.

Flags and environment variables are those of websocket-proxy, so its env files carry over; what it lacks comes
after. Durations keep its unit, milliseconds.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core

from flashctl.cli.options import Common, command, new_app
from flashctl.errors import ExitCode, UsageError

__all__ = ["app"]


class _Nameless(typer.Context):
    """The context of the command that runs without being named: its path is that of the group."""

    @property
    def command_path(self) -> str:
        return super().command_path.rstrip()


class _ServeByDefault(typer.core.TyperGroup):
    """`flashctl proxy [flags]` serves; only `flashctl proxy status` is something else."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, args if args[:1] == ["status"] else ["proxy", *args])

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, resolved, rest = super().resolve_command(ctx, args)
        if name == "proxy" and resolved is not None:
            resolved.context_class = _Nameless
            name = None
        return name, resolved, rest


app = new_app()
app.info.cls = _ServeByDefault


def _option(*decls: str, env: str | list[str] | None = None, help: str = "", **settings: Any) -> Any:
    return typer.Option(*decls, envvar=env, help=help, **settings)


@command(
    app,
    "proxy",
    service=True,
    example="flashctl proxy --upstream-ws ws://127.0.0.1:1112 --listen-addr 0.0.0.0:8545\n"
    "flashctl proxy status --json",
)
def proxy(
    upstream_ws: Annotated[
        list[str] | None,
        _option(
            "--upstream-ws",
            env="UPSTREAM_WS",
            metavar="URL",
            help="Stream to fan out; repeat, or separate by commas, for several: all are connected and the "
            "first copy of each flashblock wins.",
        ),
    ] = None,
    listen_addr: Annotated[
        str, _option("--listen-addr", env="LISTEN_ADDR", metavar="HOST:PORT", help="Where clients connect.")
    ] = "0.0.0.0:8545",
    message_buffer_size: Annotated[
        int,
        _option(
            "--message-buffer-size",
            env="MESSAGE_BUFFER_SIZE",
            min=1,
            help="Messages a client may be behind before --on-lag applies.",
        ),
    ] = 32,
    instance_connection_limit: Annotated[
        int,
        _option(
            "--instance-connection-limit",
            env="INSTANCE_CONNECTION_LIMIT",
            min=0,
            help="Clients at once; 0 = no limit.",
        ),
    ] = 100,
    per_ip_connection_limit: Annotated[
        int,
        _option(
            "--per-ip-connection-limit",
            env="PER_IP_CONNECTION_LIMIT",
            min=0,
            help="Clients at once of one address (IPv6: one /64); 0 = no limit.",
        ),
    ] = 10,
    enable_compression: Annotated[
        bool,
        _option(
            "--enable-compression",
            env="ENABLE_COMPRESSION",
            help="Brotli for every client that asks for nothing else; the same as --compression brotli.",
        ),
    ] = False,
    ip_addr_http_header: Annotated[
        str,
        _option(
            "--ip-addr-http-header",
            env="IP_ADDR_HTTP_HEADER",
            metavar="NAME",
            help="Header that names the client, believed from --trusted-proxies only.",
        ),
    ] = "X-Forwarded-For",
    trusted_proxies: Annotated[
        list[str] | None,
        _option(
            "--trusted-proxies", env="TRUSTED_PROXIES", metavar="NETWORK", help="Load balancers: 10.0.0.0/8."
        ),
    ] = None,
    metrics: Annotated[
        bool, _option("--metrics/--no-metrics", env="METRICS", help="Serve /metrics and /status.")
    ] = True,
    metrics_addr: Annotated[
        str, _option("--metrics-addr", env="METRICS_ADDR", metavar="HOST:PORT", help="Where.")
    ] = "0.0.0.0:9000",
    metrics_global_labels: Annotated[
        str,
        _option(
            "--metrics-global-labels",
            env="METRICS_GLOBAL_LABELS",
            metavar="K=V,…",
            help="Added to every metric.",
        ),
    ] = "",
    metrics_host_label: Annotated[
        bool, _option("--metrics-host-label", env="METRICS_HOST_LABEL", help="Add a hostname label.")
    ] = False,
    api_keys: Annotated[
        str,
        _option(
            "--api-keys",
            env="API_KEYS",
            metavar="APP:KEY[:LIMIT],…",
            help="Who may connect; a key may be given as sha256=HEX.",
        ),
    ] = "",
    api_keys_file: Annotated[
        Path | None,
        _option(
            "--api-keys-file",
            env="API_KEYS_FILE",
            metavar="FILE",
            help="The same, one a line; read again on SIGHUP.",
        ),
    ] = None,
    limits_file: Annotated[
        Path | None,
        _option(
            "--limits-file",
            env="LIMITS_FILE",
            metavar="FILE",
            help="TOML with the two connection limits; read again on SIGHUP.",
        ),
    ] = None,
    public_access_enabled: Annotated[
        bool,
        _option(
            "--public-access-enabled",
            env="PUBLIC_ACCESS_ENABLED",
            help="Keep /ws open to clients without a key although keys are set.",
        ),
    ] = False,
    subscriber_max_interval_ms: Annotated[
        int,
        _option(
            "--subscriber-max-interval-ms",
            env="SUBSCRIBER_MAX_INTERVAL_MS",
            min=1,
            help="Longest wait before an upstream is dialled again.",
        ),
    ] = 20_000,
    subscriber_ping_interval_ms: Annotated[
        int,
        _option(
            "--subscriber-ping-interval-ms",
            env="SUBSCRIBER_PING_INTERVAL_MS",
            min=0,
            help="Between pings to an upstream; 0 = none.",
        ),
    ] = 2_000,
    subscriber_pong_timeout_ms: Annotated[
        int,
        _option(
            "--subscriber-pong-timeout-ms",
            env="SUBSCRIBER_PONG_TIMEOUT_MS",
            min=0,
            help="Without an answer the upstream is dialled again.",
        ),
    ] = 4_000,
    upstream_stale_ms: Annotated[
        int,
        _option(
            "--upstream-stale-ms",
            env="UPSTREAM_STALE_MS",
            min=0,
            help="An upstream that says nothing for so long is dialled again; 0 = never.",
        ),
    ] = 10_000,
    upstream_connect_timeout_ms: Annotated[
        int,
        _option(
            "--upstream-connect-timeout-ms", env="UPSTREAM_CONNECT_TIMEOUT_MS", min=1, help="For a handshake."
        ),
    ] = 10_000,
    upstream_header: Annotated[
        list[str] | None,
        _option(
            "--upstream-header", env="UPSTREAM_HEADER", metavar="'NAME: VALUE'", help="Sent to upstreams."
        ),
    ] = None,
    upstream_api_key: Annotated[
        str | None,
        _option(
            "--upstream-api-key", env="UPSTREAM_API_KEY", metavar="KEY", help="Sent to upstreams as bearer."
        ),
    ] = None,
    upstream_ca: Annotated[
        Path | None,
        _option("--upstream-ca", env="UPSTREAM_CA", metavar="FILE", help="Authority for wss:// upstreams."),
    ] = None,
    resume_upstream: Annotated[
        bool,
        _option(
            "--resume-upstream/--no-resume-upstream",
            env="RESUME_UPSTREAM",
            help="Ask an upstream that comes back for what was missed.",
        ),
    ] = True,
    max_message_size: Annotated[
        int,
        _option("--max-message-size", env="MAX_MESSAGE_SIZE", min=1024, help="Bytes of an upstream message."),
    ] = 16 << 20,
    client_ping_enabled: Annotated[
        bool,
        _option("--client-ping-enabled/--no-client-ping", env="CLIENT_PING_ENABLED", help="Ping clients."),
    ] = True,
    client_ping_interval_ms: Annotated[
        int,
        _option("--client-ping-interval-ms", env="CLIENT_PING_INTERVAL_MS", min=1, help="Between pings."),
    ] = 15_000,
    client_pong_timeout_ms: Annotated[
        int,
        _option(
            "--client-pong-timeout-ms",
            env="CLIENT_PONG_TIMEOUT_MS",
            min=1,
            help="A client that answers no ping for so long is closed (1008).",
        ),
    ] = 30_000,
    client_send_timeout_ms: Annotated[
        int,
        _option(
            "--client-send-timeout-ms",
            env="CLIENT_SEND_TIMEOUT_MS",
            min=1,
            help="A client whose socket takes no byte for so long is closed (1013).",
        ),
    ] = 1_000,
    handshake_timeout_ms: Annotated[
        int,
        _option("--handshake-timeout-ms", env="HANDSHAKE_TIMEOUT_MS", min=1, help="For a client's request."),
    ] = 5_000,
    on_lag: Annotated[
        str,
        _option(
            "--on-lag",
            "--slow-client",
            env="ON_LAG",
            metavar="evict|conflate",
            help="Close a client that is too far behind (1013), or skip it to the next index 0.",
        ),
    ] = "evict",
    lag_bytes: Annotated[
        int, _option("--lag-bytes", env="LAG_BYTES", min=1, help="Bytes a client may be behind.")
    ] = 8 << 20,
    resume_buffer_ms: Annotated[
        int,
        _option(
            "--resume-buffer-ms",
            env="RESUME_BUFFER_MS",
            min=0,
            help="Past kept for ?block_number=&flashblock_index=; the open block is kept in any case.",
        ),
    ] = 10_000,
    compression: Annotated[
        str,
        _option(
            "--compression",
            env="COMPRESSION",
            metavar="negotiate|brotli|off",
            help="negotiate: what each client asks for, made once for all.",
        ),
    ] = "negotiate",
    validate: Annotated[
        str,
        _option(
            "--validate",
            env="VALIDATE",
            metavar="off|warn|strict",
            help="Check the sequence rules; strict drops what nobody could use.",
        ),
    ] = "off",
    tls_cert: Annotated[
        Path | None, _option("--tls-cert", env="TLS_CERT", metavar="FILE", help="Serve wss://.")
    ] = None,
    tls_key: Annotated[
        Path | None, _option("--tls-key", env="TLS_KEY", metavar="FILE", help="Its private key.")
    ] = None,
    bus: Annotated[
        str | None,
        _option(
            "--bus",
            "--redis-url",
            env=["BUS", "REDIS_URL"],
            metavar="redis://…",
            help="Share stream and limits with proxies on other machines.",
        ),
    ] = None,
    bus_prefix: Annotated[
        str,
        _option(
            "--bus-prefix", "--redis-key-prefix", env=["BUS_PREFIX", "REDIS_KEY_PREFIX"], help="Of keys."
        ),
    ] = "flashblocks",
    bus_fail: Annotated[
        str,
        _option(
            "--bus-fail",
            env="BUS_FAIL",
            metavar="open|closed",
            help="Whether clients get in while the bus does not answer.",
        ),
    ] = "open",
    *,
    common: Common,
) -> ExitCode:
    """Fan one flashblocks stream out to many clients."""
    from flashctl.core.hub import LagPolicy
    from flashctl.proxy.config import BusFailure, Compression, ProxyConfig, Validation
    from flashctl.proxy.service import Proxy, run

    headers = [_header(text) for text in upstream_header or []]
    if upstream_api_key:
        headers.append(("Authorization", f"Bearer {upstream_api_key}"))
    config = ProxyConfig(
        upstreams=_split(upstream_ws),
        listen_addr=listen_addr,
        tls_cert=tls_cert,
        tls_key=tls_key,
        upstream_headers=tuple(headers),
        upstream_ca=upstream_ca,
        upstream_connect_timeout_s=upstream_connect_timeout_ms / 1e3,
        upstream_stale_s=upstream_stale_ms / 1e3,
        subscriber_max_interval_s=subscriber_max_interval_ms / 1e3,
        subscriber_ping_interval_s=subscriber_ping_interval_ms / 1e3,
        subscriber_pong_timeout_s=subscriber_pong_timeout_ms / 1e3,
        max_message_size=max_message_size,
        resume_upstream=resume_upstream,
        message_buffer_size=message_buffer_size,
        lag_bytes=lag_bytes,
        on_lag=_choice(LagPolicy, on_lag, "--on-lag"),
        client_send_timeout_s=client_send_timeout_ms / 1e3,
        resume_buffer_s=resume_buffer_ms / 1e3,
        client_ping=client_ping_enabled,
        client_ping_interval_s=client_ping_interval_ms / 1e3,
        client_pong_timeout_s=client_pong_timeout_ms / 1e3,
        handshake_timeout_s=handshake_timeout_ms / 1e3,
        compression=Compression.BROTLI
        if enable_compression
        else _choice(Compression, compression, "--compression"),
        instance_connection_limit=instance_connection_limit,
        per_ip_connection_limit=per_ip_connection_limit,
        api_keys=_split([api_keys]),
        api_keys_file=api_keys_file,
        limits_file=limits_file,
        public_access=public_access_enabled,
        ip_addr_http_header=ip_addr_http_header,
        trusted_proxies=_split(trusted_proxies),
        validate=_choice(Validation, validate, "--validate"),
        bus=bus,
        bus_prefix=bus_prefix,
        bus_fail=_choice(BusFailure, bus_fail, "--bus-fail"),
        metrics=metrics,
        metrics_addr=metrics_addr,
        metrics_labels=_labels(metrics_global_labels, host=metrics_host_label),
    )
    if common.check_only:
        Proxy(config)
        return ExitCode.OK
    return run(config, ready_fd=common.ready_fd)


@command(app, "proxy", name="status", example="flashctl proxy status --json")
def status(
    url: Annotated[
        str, typer.Option("--url", metavar="URL", help="The proxy's --metrics-addr.")
    ] = "http://127.0.0.1:9000",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
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
