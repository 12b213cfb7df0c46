"""`flashctl proxy` as a process: upstreams, relay, hub and status port."""

from __future__ import annotations

import json
import logging
import ssl
from functools import partial
from pathlib import Path

from flashctl.core.hub import (
    Encoding,
    HubLimits,
    HubServer,
    serve,
)
from flashctl.core.hub.pages import answer_pages
from flashctl.core.service.lifecycle import Lifecycle, run_role
from flashctl.core.service.metrics import EXPOSITION_TYPE
from flashctl.core.service.status import Health, PageAnswer, StatusServer, probe_pages, serve_status
from flashctl.errors import ExitCode, IoError, UsageError
from flashctl.proxy.config import Compression, ProxyConfig
from flashctl.proxy.keys import load_keys
from flashctl.proxy.metrics import proxy_metrics
from flashctl.proxy.parts import ProxyParts, load_limits
from flashctl.proxy.status import status_of

__all__ = ["Proxy", "run", "server_tls"]

_LOG = logging.getLogger(__name__)


def run(config: ProxyConfig, *, ready_fd: int | None = None) -> ExitCode:
    """Serve until a signal; the exit code."""
    return run_role(partial(Proxy, config), ready_fd=ready_fd)


class Proxy(ProxyParts):
    """The parts of one proxy, running."""

    def __init__(self, config: ProxyConfig) -> None:
        """Read and resolve every setting; opens no connection and no port.

        Raises:
            UsageError, IoError: If a setting, or a file that one names, is unusable.
        """
        if not config.upstream.urls and config.bus.url is None:
            raise UsageError("no upstream", hint="--upstream-ws ws://HOST:PORT, or --bus redis://HOST")
        super().__init__(config)
        self._tls = server_tls(config.clients.tls_cert, config.clients.tls_key)
        self.server: HubServer | None = None
        self.status_server: StatusServer | None = None
        self.metrics = proxy_metrics(self)

    async def start(self, life: Lifecycle) -> None:
        """Open the listeners and follow the upstreams.

        Raises:
            ListenFailed: If a port is taken.
        """
        life.on_stop(self.close, "listeners")
        await self._listen(life)
        life.on_reload(self.reload, "keys and limits")
        life.on_reload(self.reload_certificate, "certificate")
        for upstream in self.upstreams.all:
            life.keep(partial(self.upstreams.follow, upstream), "proxy.upstream")
        if self.bus is not None:
            if not self.config.bus.chain:
                _LOG.warning(
                    "--bus without --bus-chain: all proxies on this Redis and prefix share one stream"
                )
            life.keep(self.bus.run, "proxy.bus")
        if self.shared_limits is not None:
            life.keep(self.shared_limits.run, "proxy.limits")

    async def _listen(self, life: Lifecycle) -> None:
        config = self.config
        probes = probe_pages(self.health, lambda: life.stopping or self.hub.closing)
        self.server = await serve(
            self.hub,
            config.clients.listen.host,
            config.clients.listen.port,
            admit=self.access.admit,
            # On the clients' port too, where load balancers look for them.
            pages=answer_pages(probes),
            tls=self._tls,
            limits=HubLimits(
                handshake_s=config.clients.handshake_timeout_s,
                ping_interval_s=config.clients.ping_interval_s if config.clients.pings else 0.0,
                pong_timeout_s=config.clients.pong_timeout_s,
            ),
            encodings=_encodings(config),
        )
        self.server.handshake_exempt = self.access.addresses.is_trusted
        where = {"url": f"{self.server.url}/ws"}
        if (address := config.metrics.listen) is not None:
            pages = probes | {
                "/metrics": lambda: PageAnswer(200, self.metrics.render(), EXPOSITION_TYPE),
                "/status": lambda: PageAnswer(200, json.dumps(status_of(self)).encode(), "application/json"),
            }
            self.status_server = await serve_status(address.host, address.port, pages)
            where["status"] = self.status_server.url
        _LOG.info("listening", extra=where)

    async def close(self) -> None:
        """Close the clients' connections (WebSocket 1001) and stop listening."""
        if self.server is not None:
            await self.server.close()
        if self.status_server is not None:
            await self.status_server.close()
        for connection in (self.bus, self.shared_limits):
            if connection is not None:
                await connection.close()

    def reload(self) -> None:
        """SIGHUP: read keys and limits again.

        Raises:
            UsageError, IoError: If a file is unusable; keys and limits stay unchanged.
        """
        keys = load_keys(self.config.access.api_keys, self.config.access.api_keys_file)
        limits = load_limits(self.config)
        self.access.keys = keys
        self.access.limits = limits
        _LOG.info(
            "reloaded",
            extra={"keys": len(keys), "instance_limit": limits.instance, "per_ip_limit": limits.per_address},
        )

    def reload_certificate(self) -> None:
        """SIGHUP: new connections get the certificate now in the files.

        Raises:
            IoError: If they are unusable; the certificate stays.
        """
        if self._tls is None:
            return
        cert, key = self.config.clients.tls_cert, self.config.clients.tls_key
        server_tls(cert, key)  # checked first: loading a mismatched pair would break the context in use
        assert cert is not None
        self._tls.load_cert_chain(cert, key)

    def health(self) -> Health:
        """Ready while messages arrive. Always healthy, as the Rust proxy: a probe of that path restarts the
        process, which would bring no upstream back."""
        if self.fresh():
            return Health(True)
        connected = any(upstream.connected for upstream in self.upstreams.all) or (
            self.bus is not None and self.bus.connected
        )
        detail = "no message from any upstream lately" if connected else "no upstream connected"
        return Health(False, detail, healthy=True)


def _encodings(config: ProxyConfig) -> frozenset[Encoding]:
    if config.clients.compression is Compression.OFF:
        return frozenset()
    return frozenset({Encoding.DEFLATE, Encoding.BROTLI, Encoding.ZSTD})


def server_tls(cert: Path | None, key: Path | None) -> ssl.SSLContext | None:
    """The context of a TLS listener, or None without a certificate.

    Raises:
        UsageError: If only one of the two is given.
        IoError: If they cannot be read, or do not belong together.
    """
    if cert is None and key is None:
        return None
    if cert is None or key is None:
        raise UsageError("--tls-cert and --tls-key belong together")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(cert, key)
    except (OSError, ssl.SSLError) as error:
        raise IoError(f"TLS certificate {cert}: {getattr(error, 'strerror', None) or error}") from None
    return context
