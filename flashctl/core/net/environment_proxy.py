"""The HTTP or SOCKS proxy that the environment names for a WebSocket URL.

WebSocket connections go through the proxy of `ws_proxy`/`wss_proxy`, `socks_proxy`, `https_proxy` or
`http_proxy`, unless `no_proxy` exempts the host: the order of `websockets.proxy.get_proxy`. A proxy that is
down is easily taken for an endpoint that is down, so errors name it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from flashctl.core.net.urls import mask_url

__all__ = ["EnvironmentProxy", "proxy_for"]


@dataclass(frozen=True, slots=True)
class EnvironmentProxy:
    """A proxy and where it is configured."""

    url: str
    variable: str
    """The environment variable; empty where the operating system's settings name the proxy."""

    @property
    def shown(self) -> str:
        """For a message: the URL without credentials, and the variable."""
        return f"proxy {mask_url(self.url)}" + (f" ({self.variable})" if self.variable else "")

    @property
    def fix(self) -> str:
        """What to do where the proxy is the fault."""
        return f"unset {self.variable or 'the proxy'}, or exempt the host with NO_PROXY"


def proxy_for(url: str) -> EnvironmentProxy | None:
    """The proxy that a connection to the ws:// or wss:// `url` goes through; None for a direct one."""
    from websockets.exceptions import InvalidURI
    from websockets.proxy import get_proxy
    from websockets.uri import parse_uri

    try:
        proxy = get_proxy(parse_uri(url))
    except InvalidURI:
        return None
    if proxy is None:
        return None
    schemes = ("wss", "socks", "https") if url.startswith("wss:") else ("ws", "socks", "https", "http")
    names = [name for scheme in schemes for name in (f"{scheme}_proxy", f"{scheme}_PROXY".upper())]
    return EnvironmentProxy(proxy, next((name for name in names if os.environ.get(name)), ""))
