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
import logging
import socket
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
import uvicorn

from flashctl.core import jwt
from flashctl.core.jsonrpc.caller import caller, caller_of
from flashctl.core.jsonrpc.dispatch import DEFAULT_LIMITS, Dispatcher, ServerLimits
from flashctl.core.jsonrpc.errors import Code, error_object
from flashctl.core.jsonrpc.listener import ABORT, BoundedWebSocket, EmbeddedServer, bounded_protocol
from flashctl.core.jsonrpc.methods import Fallback, Methods
from flashctl.core.jsonrpc.namespaces import warn_of_exposed
from flashctl.core.jsonrpc.session import Session
from flashctl.core.listening import ListenFailed
from flashctl.core.seldom import Seldom
from flashctl.errors import AuthError, UnavailableError

__all__ = ["Page", "RunningServer", "serve"]

log = logging.getLogger(__name__)

KEEP_ALIVE_S = 75
"""How long an idle HTTP connection stays. Above the 25 s our own client trusts one, so that the client is
the side that lets go and no request meets a closing connection."""

DRAIN_S = 3
"""What `close` waits for answers under way; the whole service has 5 s to stop."""

WEBSOCKET_PING_S = 20.0

_JSON = (b"content-type", b"application/json")
_TEXT = (b"content-type", b"text/plain; charset=utf-8")

Page = Callable[[], tuple[int, str]]
"""Answers a GET with a status and a line of text."""

Headers = list[tuple[bytes, bytes]]
Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


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
    pages: Mapping[str, Page] | None = None,
    limits: ServerLimits = DEFAULT_LIMITS,
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
        limits: see `ServerLimits`.
        websocket: whether upgrades are accepted.
        namespaces: what may be called here, also of what the fallback answers; None for everything. Those
            beyond the user's are warned of where no token is needed.

    Raises:
        ListenFailed: If the address cannot be listened on.
    """
    sockets = _bind(host, port)
    dispatcher = Dispatcher(methods, fallback=fallback, limits=limits, namespaces=namespaces)
    app = _App(dispatcher, jwt_secret, tuple(cors), pages or {}, limits)
    config = uvicorn.Config(
        app,
        lifespan="off",
        http=bounded_protocol(limits),
        ws=BoundedWebSocket if websocket else "none",
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


def _bind(host: str, port: int) -> list[socket.socket]:
    """Listening sockets for every address of `host`, the same port on each."""
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError, OverflowError) as error:
        raise ListenFailed(host, port, error) from None
    sockets: list[socket.socket] = []
    for family, _, _, _, address in dict.fromkeys(found):
        try:
            sock = socket.create_server(
                (address[0], port or (sockets[0].getsockname()[1] if sockets else 0)),
                family=family,
                backlog=2048,
            )
        except (OSError, OverflowError) as error:
            if sockets and family == socket.AF_INET6:
                # `localhost` on a machine whose IPv6 is switched off.
                continue
            for opened in sockets:
                opened.close()
            raise ListenFailed(host, port, error) from None
        sock.setblocking(False)
        sockets.append(sock)
    return sockets


class _App:
    """The ASGI application."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        jwt_secret: bytes | jwt.JwtSecret | None,
        cors: tuple[str, ...],
        pages: Mapping[str, Page],
        limits: ServerLimits,
    ) -> None:
        self._dispatcher = dispatcher
        self._jwt_secret = jwt_secret
        self._cors = frozenset(cors)
        self._pages = pages
        self._limits = limits
        self._seldom = Seldom()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        caller.set(caller_of(scope.get("client")))
        try:
            if scope["type"] == "http":
                await self._http(scope, receive, send)
            elif scope["type"] == "websocket":
                await self._websocket(scope, receive, send)
        except OSError:
            # uvicorn's ClientDisconnected among them: nobody is left to answer.
            pass

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = _Head(scope["headers"])
        extra = self._cors_headers(headers.origin)
        page = self._pages.get(scope["path"])
        if page is not None:
            status, text = page()
            await _respond(send, status, text.encode(), [_TEXT, *extra])
        elif scope["method"] == "OPTIONS":
            await _respond(send, 204 if extra else 403, b"", extra)
        elif scope["method"] != "POST":
            await _respond(send, 405, b"JSON-RPC is POST here\n", [_TEXT, (b"allow", b"POST, OPTIONS")])
        else:
            status, body = await self._post(headers, receive)
            await _respond(send, status, body, [_JSON if status != 401 else _TEXT, *extra])

    async def _post(self, headers: _Head, receive: Receive) -> tuple[int, bytes]:
        if (refusal := self._unauthorized(headers)) is not None:
            return 401, refusal
        # A page of any origin may POST text or a form without asking first; only JSON is preflighted. So
        # insisting on it keeps browsers of strangers out of ports on this machine.
        if headers.content_type and b"json" not in headers.content_type.lower():
            return 415, _plain_failure(Code.INVALID_REQUEST, "content type must be application/json")
        if headers.origin and not self._allows(headers.origin):
            return 403, _plain_failure(Code.INVALID_REQUEST, "origin not allowed")
        limit = self._limits.request_bytes
        if headers.content_length > limit:
            return 413, _plain_failure(Code.INVALID_REQUEST, f"request too large (limit {limit} bytes)")
        body = await _read_body(receive, limit)
        if body is None:
            return 413, _plain_failure(Code.INVALID_REQUEST, f"request too large (limit {limit} bytes)")
        reply = await self._dispatcher.handle(body)
        return 200, reply or b""

    def _unauthorized(self, headers: _Head) -> bytes | None:
        if self._jwt_secret is None:
            return None
        try:
            jwt.verify(self._jwt_secret, headers.authorization, time.time())
        except AuthError as error:
            if times := self._seldom.due(type(error).__name__):
                log.warning("refused a request: %s", error, extra={"times": times})
            return f"{error}\n".encode()
        return None

    def _allows(self, origin: bytes) -> bool:
        return "*" in self._cors or origin.decode("latin-1") in self._cors

    def _cors_headers(self, origin: bytes) -> Headers:
        if not origin or not self._allows(origin):
            return []
        return [
            (b"access-control-allow-origin", b"*" if "*" in self._cors else origin),
            (b"access-control-allow-methods", b"POST, OPTIONS"),
            (b"access-control-allow-headers", b"content-type, authorization"),
            (b"access-control-max-age", b"600"),
            (b"vary", b"origin"),
        ]

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        headers = _Head(scope["headers"])
        status, reason = 403, b"origin not allowed\n"
        refusal = self._unauthorized(headers)
        if refusal is not None:
            status, reason = 401, refusal
        # Programs send no Origin; a browser always does, and WebSockets know no preflight.
        if refusal is not None or (headers.origin and not self._allows(headers.origin)):
            await send({"type": "websocket.http.response.start", "status": status, "headers": [_TEXT]})
            await send({"type": "websocket.http.response.body", "body": reason})
            return
        await send({"type": "websocket.accept"})
        await self._converse(receive, send, scope["extensions"][ABORT])

    async def _converse(self, receive: Receive, send: Send, abort: Callable[[], None]) -> None:
        async def send_text(frame: bytes) -> None:
            await send({"type": "websocket.send", "text": frame.decode()})

        session = Session(self._dispatcher, self._limits, send_text)
        reading = asyncio.create_task(_read_messages(receive, session))
        writing = asyncio.create_task(session.write_queued())
        overflow = asyncio.create_task(session.overflowed.wait())
        tasks = (reading, writing, overflow)
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if session.overflowed.is_set():
                # Its socket is full, so no close frame would reach it and a flushing close never end.
                log.warning("dropped a WebSocket client that does not read")
                abort()
        finally:
            session.end()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


class _Head:
    """The request headers that matter here."""

    __slots__ = ("authorization", "content_length", "content_type", "origin")

    def __init__(self, headers: Headers) -> None:
        self.authorization: bytes | None = None
        self.content_type = b""
        self.content_length = 0
        self.origin = b""
        for name, value in headers:
            if name == b"content-type":
                self.content_type = value
            elif name == b"content-length" and value.isdigit():
                self.content_length = int(value)
            elif name == b"authorization":
                self.authorization = value
            elif name == b"origin":
                self.origin = value


async def _read_body(receive: Receive, limit: int) -> bytes | None:
    """The whole body, or None as soon as it passes `limit`; the listener sees to it that it arrives in time.

    Raises:
        ConnectionError: If the client goes away first.
    """
    chunks: list[bytes] = []
    size = 0
    more = True
    while more and size <= limit:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionError("client went away")
        chunk = message.get("body", b"")
        size += len(chunk)
        chunks.append(chunk)
        more = message.get("more_body", False)
    if size > limit:
        return None
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


async def _read_messages(receive: Receive, session: Session) -> None:
    while (message := await receive())["type"] == "websocket.receive":
        text = message.get("text")
        await session.receive(message["bytes"] if text is None else text.encode())


async def _respond(send: Send, status: int, body: bytes, headers: Headers) -> None:
    if status != 204:
        headers = [*headers, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _plain_failure(code: int, message: str) -> bytes:
    """An error for a request that was never read, so its id is unknown."""
    return orjson.dumps({"jsonrpc": "2.0", "id": None, "error": error_object(code, message)})
