"""The ASGI application of a JSON-RPC server: authorization, bounds on bodies, and how answers are written."""

from __future__ import annotations

import asyncio
import logging
import time
import zlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

import orjson

from flashctl.core.engine import jwt
from flashctl.core.jsonrpc.caller import caller, caller_of
from flashctl.core.jsonrpc.dispatch import Dispatcher, RpcLimits
from flashctl.core.jsonrpc.errors import ErrorCode, error_object
from flashctl.core.jsonrpc.outbound import SMALL_BYTES, Outbound
from flashctl.core.jsonrpc.protocols import CONNECTION, HttpConnection, WebSocketConnection
from flashctl.core.jsonrpc.session import RpcSession
from flashctl.core.service.log_throttle import Seldom
from flashctl.core.service.status import Pages, page_answer
from flashctl.errors import AuthError

__all__ = ["App"]

log = logging.getLogger(__name__)

WRITE_BYTES: Final = 256 * 1024
"""A large answer leaves in pieces of this; the next is written when the client has taken most of the last."""

THREAD_BYTES: Final = 16 * 1024
"""Packed requests beyond this are unpacked in a thread."""

_OK: Final = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n"

_JSON = (b"content-type", b"application/json")
_TEXT = (b"content-type", b"text/plain; charset=utf-8")

Headers = list[tuple[bytes, bytes]]
Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


class App:
    """The ASGI application."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        jwt_secret: bytes | jwt.JwtSecret | None,
        cors: tuple[str, ...],
        pages: Pages,
        limits: RpcLimits,
    ) -> None:
        self._dispatcher = dispatcher
        self._jwt_secret = jwt_secret
        self._cors = frozenset(cors)
        self._pages = pages
        self._limits = limits
        self._seldom = Seldom()
        self._outbound = Outbound(limits.outbound_total_bytes, time.monotonic)
        self._inbound = 0
        """Bytes of bodies half received, of all connections."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        caller.set(caller_of(scope.get("client")))
        try:
            if scope["type"] == "http":
                await self._http(scope, receive, send)
            elif scope["type"] == "websocket":
                await self._websocket(scope, receive, send)
        except OSError:
            # uvicorn's ClientDisconnected among them: the client is gone.
            pass

    # --- HTTP ---

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = _Head(scope["headers"])
        extra = self._cors_headers(headers.origin)
        page = self._pages.get(scope["path"])
        if page is not None and scope["method"] in ("GET", "HEAD"):
            status, body, content_type = page_answer(page)
            extra = [(b"content-type", content_type.encode()), *extra]
        elif scope["method"] == "OPTIONS":
            status, body = 204 if extra else 403, b""
        elif scope["method"] != "POST":
            status, body = 405, b"send JSON-RPC requests with POST\n"
            extra = [_TEXT, (b"allow", b"POST, OPTIONS")]
        else:
            status, body = await self._post(headers, receive)
            if status == 200 and len(body) <= SMALL_BYTES and not extra:
                connection: HttpConnection = scope[CONNECTION]
                # `send` is a method of the request that it answers.
                await connection.respond(send.__self__, _OK % len(body), body)  # type: ignore[attr-defined]
                return
            extra = [_JSON if status != 401 else _TEXT, *extra]
            if status == 415:
                extra.append((b"accept-encoding", b"gzip, identity"))
        if len(body) <= SMALL_BYTES:
            await _respond(send, status, body, extra)
        else:
            await self._respond_at_length(send, status, body, extra, scope[CONNECTION])

    async def _respond_at_length(
        self, send: Send, status: int, body: bytes, headers: Headers, connection: HttpConnection
    ) -> None:
        """Send a large answer piece by piece, and count it until the client has taken it."""
        share = self._outbound.join(connection.abort)
        try:
            if not share.add(len(body)):
                share.release()
                self._tell_of_slow_readers()
                refusal = _plain_failure(ErrorCode.LIMIT_EXCEEDED, "too many large answers are being read")
                await _respond(send, 503, refusal, headers)
                return
            await send(_start(status, headers, len(body)))
            pieces = memoryview(body)
            for start in range(0, len(pieces), WRITE_BYTES):
                piece = pieces[start : start + WRITE_BYTES]
                await send({"type": "http.response.body", "body": piece, "more_body": True})
                await connection.drained()
                share.sub(len(piece))
            await send({"type": "http.response.body", "body": b""})
        finally:
            share.release()

    async def _post(self, headers: _Head, receive: Receive) -> tuple[int, bytes]:
        if (refusal := self._unauthorized(headers)) is not None:
            return 401, refusal
        # A page of any origin may POST text or a form without asking first; only JSON is preflighted. So
        # insisting on it keeps browsers of strangers out of ports on this machine.
        if headers.content_type and b"json" not in headers.content_type.lower():
            return 415, _plain_failure(ErrorCode.INVALID_REQUEST, "content type must be application/json")
        if headers.content_encoding not in (b"", b"identity", b"gzip", b"x-gzip"):
            return 415, _plain_failure(ErrorCode.INVALID_REQUEST, "content encoding must be gzip or none")
        if headers.origin and not self._allows(headers.origin):
            return 403, _plain_failure(ErrorCode.INVALID_REQUEST, "origin not allowed")
        too_large = f"request too large (limit {self._limits.request_bytes} bytes)"
        if headers.content_length > self._limits.request_bytes:
            return 413, _plain_failure(ErrorCode.INVALID_REQUEST, too_large)
        try:
            body = await self._read_body(receive)
            if headers.content_encoding in (b"gzip", b"x-gzip"):
                body = await self._unpacked(body)
        except _TooLarge:
            return 413, _plain_failure(ErrorCode.INVALID_REQUEST, too_large)
        except _TooMany:
            return 503, _plain_failure(ErrorCode.LIMIT_EXCEEDED, "too many large requests are being received")
        except zlib.error:
            return 400, _plain_failure(ErrorCode.PARSE_ERROR, "parse error: not gzip")
        reply = await self._dispatcher.handle(body)
        return 200, reply or b""

    async def _read_body(self, receive: Receive) -> bytes:
        """The whole body; the connection sees to it that it arrives in time.

        Raises:
            _TooLarge: As soon as it passes its limit.
            _TooMany: If all bodies together pass theirs.
            ConnectionError: If the client goes away first.
        """
        message = await receive()
        chunk: bytes = message.get("body", b"")
        if message["type"] == "http.request" and not message.get("more_body", False):
            if len(chunk) > self._limits.request_bytes:
                raise _TooLarge
            return chunk
        chunks: list[bytes] = []
        size = 0
        try:
            while True:
                if message["type"] == "http.disconnect":
                    raise ConnectionError("client went away")
                chunk = message.get("body", b"")
                size += len(chunk)
                self._inbound += len(chunk)
                if size > self._limits.request_bytes:
                    raise _TooLarge
                if self._inbound > self._limits.inbound_total_bytes:
                    raise _TooMany
                chunks.append(chunk)
                if not message.get("more_body", False):
                    return b"".join(chunks)
                message = await receive()
        finally:
            self._inbound -= size

    async def _unpacked(self, body: bytes) -> bytes:
        limit = self._limits.request_bytes
        if len(body) <= THREAD_BYTES:
            return _gunzip(body, limit)
        return await asyncio.to_thread(_gunzip, body, limit)

    # --- authorization ---

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

    # --- WebSocket ---

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
        await self._converse(receive, scope[CONNECTION])

    async def _converse(self, receive: Receive, connection: WebSocketConnection) -> None:
        share = self._outbound.join(connection.abort)
        session = RpcSession(self._dispatcher, self._limits, connection.send_text, share)
        reading = asyncio.create_task(_read_messages(receive, session))
        writing = asyncio.create_task(session.write_queued())
        overflow = asyncio.create_task(session.overflowed.wait())
        tasks = (reading, writing, overflow)
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            if session.overflowed.is_set():
                # Its socket is full, so no close frame would reach it and a flushing close never end.
                self._tell_of_slow_readers()
                connection.abort()
        finally:
            session.end()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _tell_of_slow_readers(self) -> None:
        if times := self._seldom.due("slow"):
            log.warning("dropped a client that does not read what it asked for", extra={"times": times})


class _TooLarge(Exception):
    """A body passed its limit."""


class _TooMany(Exception):
    """All bodies together passed theirs."""


class _Head:
    """The request headers that matter here."""

    __slots__ = ("authorization", "content_encoding", "content_length", "content_type", "origin")

    def __init__(self, headers: Headers) -> None:
        self.authorization: bytes | None = None
        self.content_type = b""
        self.content_encoding = b""
        self.content_length = 0
        self.origin = b""
        for name, value in headers:
            if name == b"content-type":
                self.content_type = value
            elif name == b"content-length" and value.isdigit():
                # By its length first: a number of a million digits is not made.
                self.content_length = int(value) if len(value) <= 18 else 10**18
            elif name == b"content-encoding":
                self.content_encoding = value.strip().lower()
            elif name == b"authorization":
                self.authorization = value
            elif name == b"origin":
                self.origin = value


def _gunzip(body: bytes, limit: int) -> bytes:
    unpacking = zlib.decompressobj(16 + zlib.MAX_WBITS)
    text = unpacking.decompress(body, limit + 1)
    if len(text) > limit:
        raise _TooLarge
    if not unpacking.eof:
        raise zlib.error("cut short")
    return text


async def _read_messages(receive: Receive, session: RpcSession) -> None:
    while (message := await receive())["type"] == "websocket.receive":
        text = message.get("text")
        await session.receive(message["bytes"] if text is None else text.encode())


async def _respond(send: Send, status: int, body: bytes, headers: Headers) -> None:
    await send(_start(status, headers, len(body)))
    await send({"type": "http.response.body", "body": body})


def _start(status: int, headers: Headers, size: int) -> Mapping[str, Any]:
    if status != 204:
        headers = [*headers, (b"content-length", b"%d" % size)]
    return {"type": "http.response.start", "status": status, "headers": headers}


def _plain_failure(code: int, message: str) -> bytes:
    """An error for a request that was never read, so its id is unknown."""
    return orjson.dumps({"jsonrpc": "2.0", "id": None, "error": error_object(code, message)})
