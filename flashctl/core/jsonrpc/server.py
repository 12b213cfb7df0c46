"""JSON-RPC over HTTP and WebSocket on one port.

    server = await serve(methods, "127.0.0.1", 8545, cors=("*",))
    ... server.port, server.url ...
    await server.close()

uvicorn with a raw ASGI app: 40 k requests/s on one core here, where frameworks on top of it halve that.
It runs as a guest of the caller's loop: no signal handlers, no logging, no process control.

A POST to any path is a request, a WebSocket upgrade on any path a connection; GET answers only the paths
given as `pages` (health, for example). With a JWT secret both need a token, pages do not.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import uvicorn

from flashctl.core.engine import jwt
from flashctl.core.jsonrpc.app import App
from flashctl.core.jsonrpc.dispatch import DEFAULT_RPC_LIMITS, Dispatcher, RpcLimits
from flashctl.core.jsonrpc.listener import EmbeddedServer
from flashctl.core.jsonrpc.methods import Fallback, Methods
from flashctl.core.jsonrpc.namespaces import warn_of_exposed
from flashctl.core.jsonrpc.protocols import bounded_protocols
from flashctl.core.net.listening import listening_sockets
from flashctl.core.service.status import Pages
from flashctl.errors import UnavailableError

__all__ = ["RunningServer", "serve"]

KEEP_ALIVE_S = 75
"""How long an idle HTTP connection stays. Above the 25 s of our own client, so that the client is the side
that closes it and no request meets a closing connection."""

DRAIN_S = 3
"""What `close` waits for answers under way; the whole service has 5 s to stop."""

WEBSOCKET_PING_S = 20.0


@dataclass(slots=True)
class RunningServer:
    """A server that answers until it is closed."""

    host: str
    port: int
    """The real one, also where 0 was asked for."""

    _server: EmbeddedServer
    _task: asyncio.Task[None]
    _sockets: list[socket.socket]

    @property
    def url(self) -> str:
        """`http://host:port`, as a client on this machine would write it."""
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self.host, self.host)
        if ":" in host and not host.startswith("["):
            host = f"[{host}]"
        return f"http://{host}:{self.port}"

    @property
    def websocket_url(self) -> str:
        """The same address as a WebSocket client would write it."""
        return "ws" + self.url.removeprefix("http")

    async def close(self) -> None:
        """Stop listening, let answers under way finish within `DRAIN_S`, close what is left."""
        self._server.stop()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait([self._task])
        for sock in self._sockets:
            sock.close()

    async def wait_closed(self) -> None:
        """Return when the server has ended; raises what it ended with."""
        await asyncio.shield(self._task)


async def serve(
    methods: Methods,
    host: str,
    port: int,
    *,
    jwt_secret: bytes | jwt.JwtSecret | None = None,
    fallback: Fallback | None = None,
    cors: Sequence[str] = (),
    pages: Pages | None = None,
    limits: RpcLimits = DEFAULT_RPC_LIMITS,
    websocket: bool = True,
    namespaces: Collection[str] | None = None,
) -> RunningServer:
    """Answer `methods` on `host:port` (0 = any free port) until closed.

    Args:
        methods: the table.
        host: address or name to listen on.
        port: TCP port.
        jwt_secret: require a fresh token signed with it.
        fallback: answers methods the table lacks.
        cors: origins whose browser pages may call, `*` for any; none by default.
        pages: GET paths and what they answer, without a token.
        limits: see `RpcLimits`.
        websocket: whether upgrades are accepted.
        namespaces: what may be called here, also of what the fallback answers; None for everything. Those
            beyond the user's are warned of where no token is needed.

    Raises:
        ListenFailed: If the address cannot be listened on.
    """
    sockets = listening_sockets(host, port)
    dispatcher = Dispatcher(methods, fallback=fallback, limits=limits, namespaces=namespaces)
    app = App(dispatcher, jwt_secret, tuple(cors), pages or {}, limits)
    http_protocol, websocket_protocol = bounded_protocols(limits)
    config = uvicorn.Config(
        app,
        lifespan="off",
        http=http_protocol,
        ws=websocket_protocol if websocket else "none",
        ws_max_size=limits.request_bytes,
        ws_ping_interval=WEBSOCKET_PING_S,
        ws_ping_timeout=WEBSOCKET_PING_S,
        # Answers are JSON on a local network: deflating them costs more than it saves.
        ws_per_message_deflate=False,
        log_config=None,
        log_level="critical",
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=DRAIN_S,
    )
    server = EmbeddedServer(config)
    task = asyncio.create_task(server.serve(sockets=sockets), name=f"jsonrpc {host}:{port}")
    while not server.started:
        if task.done():
            await task
            raise UnavailableError(f"cannot serve on {host}:{port}")
        await asyncio.sleep(0)
    running = RunningServer(host, sockets[0].getsockname()[1], server, task, sockets)
    if jwt_secret is None and namespaces is not None:
        warn_of_exposed(namespaces, running.url)
    return running
