"""A proxy in this process with real upstreams and real clients around it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import uvloop
from support.waiting import until

from flashctl.core.hub import Hub, HubServer, serve
from flashctl.core.net.addresses import ListenAddress
from flashctl.core.service.lifecycle import Lifecycle
from flashctl.proxy.config import AccessConfig, ClientConfig, MetricsConfig, ProxyConfig, UpstreamConfig
from flashctl.proxy.service import Proxy

__all__ = [
    "FAST",
    "UpstreamServer",
    "configured",
    "flashblock",
    "payload_id",
    "port_of",
    "run",
    "running",
    "until",
]

ANY_PORT = ListenAddress("127.0.0.1", 0)

FAST = ProxyConfig(
    upstream=UpstreamConfig(max_backoff_s=0.2, connect_timeout_s=1.0),
    clients=ClientConfig(listen=ANY_PORT),
    access=AccessConfig(per_ip_limit=0),
    metrics=MetricsConfig(listen=ANY_PORT),
)


def configured(base: ProxyConfig, **settings: Any) -> ProxyConfig:
    """`base` with some settings of its parts, named `<part>_<field>`: `clients_backlog_bytes`."""
    for name, value in settings.items():
        part, _, field = name.partition("_")
        held = getattr(base, part)
        inner, _, inner_field = field.partition("_")
        if inner == "backlog" and inner_field:
            value, field = replace(held.backlog, **{inner_field: value}), inner
        base = replace(base, **{part: replace(held, **{field: value})})
    return base


def payload_id(number: int) -> str:
    """The payload id of a block, by number."""
    return f"0x{number:016x}"


def flashblock(block: int, index: int, **extra: Any) -> bytes:
    """The least that a proxy can place."""
    return json.dumps(
        {
            "payload_id": payload_id(block),
            "index": index,
            "diff": {"transactions": [], "gas_used": "0x0"},
            "metadata": {"block_number": block},
            **extra,
        }
    ).encode()


class UpstreamServer:
    """A builder's or boost's stream: a hub that can be stopped and started again on its port."""

    def __init__(self) -> None:
        self.hub = Hub()
        self.port = 0
        self.server: HubServer | None = None
        self.requests: list[tuple[str, dict[str, list[str]], dict[str, str]]] = []
        """Path, query and headers of everybody who connected."""

    async def start(self, **settings: Any) -> UpstreamServer:
        """Listen, on the same port as last time."""
        from flashctl.core.hub import Admission

        def admit(request: Any) -> Any:
            self.requests.append((request.path, dict(request.query), dict(request.headers)))
            return request.upgrade_problem() or Admission()

        self.server = await serve(self.hub, "127.0.0.1", self.port, **{"admit": admit, **settings})
        self.port = self.server.port
        return self

    async def stop(self) -> None:
        """Close every connection and the port."""
        if self.server is not None:
            await self.server.close(timeout_s=0.1)
            self.server = None
            self.hub.closing = False

    @property
    def url(self) -> str:
        """For --upstream-ws."""
        return f"ws://127.0.0.1:{self.port}/"

    def publish(self, block: int, index: int, *, binary: bool = False, **extra: Any) -> bytes:
        """Publish a flashblock and return its bytes."""
        data = flashblock(block, index, **extra)
        self.hub.publish(data, binary=binary, payload_id=payload_id(block), index=index, block_number=block)
        return data


@asynccontextmanager
async def running(
    *upstreams: UpstreamServer | str, wait: bool = True, **settings: Any
) -> AsyncIterator[Proxy]:
    """A proxy that serves, connected to its upstreams."""
    urls = tuple(upstream.url if isinstance(upstream, UpstreamServer) else upstream for upstream in upstreams)
    proxy = Proxy(configured(FAST, upstream_urls=urls, **settings))
    life = Lifecycle()
    await proxy.start(life)
    try:
        if wait:
            await until(lambda: all(upstream.connected for upstream in proxy.upstreams.all))
        yield proxy
    finally:
        await life.drain()


def port_of(proxy: Proxy) -> int:
    """Where its clients connect."""
    assert proxy.server is not None
    return proxy.server.port


def run(test: Callable[[], Awaitable[None]], *, within_s: float = 100.0) -> None:
    """Run a test on the loop the product runs on."""

    async def limited() -> None:
        async with asyncio.timeout(within_s):
            await test()

    uvloop.run(limited())
