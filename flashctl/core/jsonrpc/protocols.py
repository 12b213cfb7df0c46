"""Limits uvicorn does not enforce: header size, header time-out, connections, clients that stop reading.

They stand in subclasses of its protocols; nothing else of it is changed.

uvicorn reads a request head of any length, waits for it without limit, accepts any number of connections and
requests with two Host headers or none, waits without limit for a client to read, gives an application no way
to drop a WebSocket whose client stopped reading, and forgets the body of a request that offers an unknown
upgrade.
"""

from __future__ import annotations

import asyncio
import ipaddress
import time
from collections import Counter
from typing import Any, ClassVar, Final

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import InvalidState
from websockets.frames import CloseCode
from websockets.protocol import State

from flashctl.core.jsonrpc.dispatch import RpcLimits
from flashctl.core.jsonrpc.outbound import Outbound, WriteWatch

__all__ = ["CONNECTION", "HttpConnection", "WebSocketConnection", "bounded_protocols"]

CONNECTION: Final = "flashctl.connection"
"""The key of an ASGI scope under which the connection itself is, an `HttpConnection` or
`WebSocketConnection`."""

_CHECKED: Final = frozenset({b"host", b"authorization", b"expect"})

_HOP_BY_HOP: Final = (b"connection", b"upgrade", b"http2-settings", b"keep-alive")
"""Headers that are about an upgrade, or about the connection."""


class HttpConnection(HttpToolsProtocol):
    """uvicorn's HTTP protocol under `limits`."""

    limits: ClassVar[RpcLimits]
    per_address: ClassVar[Counter[str]]
    """Connections of each address, WebSockets included."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_bytes = 0
        self._hosts = 0
        self._receiving_since: float | None = None
        """When the request now arriving began; None between requests and while one is answered."""
        self._timer: asyncio.TimerHandle | None = None
        self._watch: WriteWatch | None = None
        self._address = ""
        self._ignores_upgrade = False
        """Whether the request now arriving offers an upgrade that this server does not support."""

    # --- connecting ---

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        limits = self.limits
        self._watch = WriteWatch(self.loop, transport, limits.write_s)
        self._address = _address(self.client)
        self.per_address[self._address] += 1
        if len(self.connections) > limits.connections:
            self._refuse(503, "Service Unavailable", "too many connections")
            return
        if self.per_address[self._address] > limits.connections_per_address:
            self._refuse(503, "Service Unavailable", "too many connections from this address")
            return
        self._receiving_since = self.loop.time()
        # One timer for the life of the connection, not one for each request: that costs 2 us each.
        self._timer = self.loop.call_later(limits.request_s, self._check_progress)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        if self._watch is not None:
            self._watch.resumed()
        _leave(self.per_address, self._address)
        # uvicorn leaves it running after an error, and with it everything here.
        self._unset_keepalive_if_required()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self) -> None:
        self._stop_timer()
        if self._watch is not None:
            self._watch.resumed()
        super().handle_websocket_upgrade()

    # --- receiving ---

    def data_received(self, data: bytes) -> None:
        """As uvicorn's, but an upgrade that is not taken leaves its request as it is (RFC 9110, 7.8)."""
        self._unset_keepalive_if_required()
        rest: memoryview | bytes = data
        while True:
            try:
                self.parser.feed_data(rest)
            except httptools.HttpParserUpgrade as upgrade:
                if not self._ignores_upgrade:
                    self.handle_websocket_upgrade()
                    return
                # llhttp ends a request with its head where that offers an upgrade; the body comes behind it.
                head = self._head_without_upgrade()
                self.parser = httptools.HttpRequestParser(self)
                self._ignores_upgrade = False
                rest = memoryview(rest)[upgrade.args[0] :]
                if not self._feed(head):
                    return
                continue
            except httptools.HttpParserError:
                self.send_400_response("Invalid HTTP request received.")
            return

    def _feed(self, head: bytes) -> bool:
        try:
            self.parser.feed_data(head)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            # CONNECT is an upgrade without an Upgrade header: there is no request behind it.
            self.send_400_response("Invalid HTTP request received.")
            return False
        return True

    def _head_without_upgrade(self) -> bytes:
        parts = [self.parser.get_method(), b" ", self.url, b" HTTP/1.1\r\n"]
        for name, value in self.headers:
            if name not in _HOP_BY_HOP:
                parts += [name, b": ", value, b"\r\n"]
        parts.append(b"\r\n")
        return b"".join(parts)

    def on_message_begin(self) -> None:
        self._head_bytes = 0
        self._hosts = 0
        if self._receiving_since is None:
            self._receiving_since = self.loop.time()
        super().on_message_begin()
        self.scope[CONNECTION] = self  # type: ignore[typeddict-unknown-key]

    def on_url(self, url: bytes) -> None:
        self._count_head(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """As uvicorn's, written out: it runs some six times for each request."""
        name = name.lower()
        self._head_bytes += len(name) + len(value) + 4
        if self._head_bytes > self.limits.head_bytes:
            self._count_head(0)
        if name in _CHECKED:
            self._check_header(name, value)
        self.headers.append((name, value))

    def _check_header(self, name: bytes, value: bytes) -> None:
        if name == b"expect":
            self.expect_100_continue = value.lower() == b"100-continue"
        elif name == b"host":
            self._hosts += 1
        elif any(known == name for known, _ in self.headers):
            # Of two credentials each reader would take another.
            raise ValueError("more than one Authorization header")

    def on_headers_complete(self) -> None:
        # RFC 9112, 3.2.
        if self._hosts != 1 and (self._hosts or self.parser.get_http_version() != "1.0"):
            raise ValueError("not one Host header")
        if self.parser.should_upgrade() and not self._should_upgrade():
            self._ignores_upgrade = True
            return
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        if self._ignores_upgrade:
            return
        self._receiving_since = None
        super().on_message_complete()

    def _check_progress(self) -> None:
        now = self.loop.time()
        since = now if self._receiving_since is None else self._receiving_since
        due = since + self.limits.request_s
        if now >= due:
            self._refuse(408, "Request Timeout", "request not received in time")
        else:
            self._timer = self.loop.call_at(due, self._check_progress)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _count_head(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > self.limits.head_bytes:
            # Out through feed_data, which is answered with 400 and closes.
            raise ValueError("request head too large")

    # --- sending ---

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._watch is not None:
            self._watch.paused()

    def resume_writing(self) -> None:
        if self._watch is not None:
            self._watch.resumed()
        super().resume_writing()

    async def respond(self, cycle: RequestResponseCycle, head: bytes, body: bytes) -> None:
        """What two calls of uvicorn's `send` do for a whole answer, in one write and a seventh of the time.

        Args:
            cycle: the request that is answered.
            head: status line and headers, with the length; without the empty line.
            body: all of it.
        """
        if self.flow.write_paused and not cycle.disconnected:
            await self.flow.drain()
        if cycle.disconnected:
            return
        cycle.response_started = cycle.response_complete = True
        cycle.waiting_for_100_continue = False
        end = b"\r\n" if cycle.keep_alive else b"connection: close\r\n\r\n"
        self.transport.write(head + end + body)
        cycle.message_event.set()
        if not cycle.keep_alive:
            self.transport.close()
        cycle.on_response()

    async def drained(self) -> None:
        """Return when the client has taken nearly all that was written, or is gone."""
        if self.flow.write_paused:
            await self.flow.drain()

    def abort(self) -> None:
        """Drop the connection and what it did not take."""
        self.transport.abort()

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection; one that did not even take its last answer has waited long enough."""
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            super().timeout_keep_alive_handler()

    def _refuse(self, status: int, phrase: str, text: str) -> None:
        if self.transport.is_closing():
            return
        self.transport.write(
            f"HTTP/1.1 {status} {phrase}\r\ncontent-type: text/plain\r\n"
            f"content-length: {len(text)}\r\nconnection: close\r\n\r\n{text}".encode()
        )
        self.transport.close()


class WebSocketConnection(WebSocketsSansIOProtocol):
    """uvicorn's WebSocket protocol, which drops a client that does not read."""

    limits: ClassVar[RpcLimits]
    per_address: ClassVar[Counter[str]]
    inbound: ClassVar[Outbound]
    """What all connections hold of messages half received."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._watch: WriteWatch | None = None
        self._half = self.inbound.join(self._refuse_message)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._watch = WriteWatch(self.loop, self.transport, self.limits.write_s)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._watch is not None:
            self._watch.resumed()
        _leave(self.per_address, _address(self.client))
        super().connection_lost(exc)
        self._forget_half()

    # --- receiving ---

    def data_received(self, data: bytes) -> None:
        """As uvicorn's; what is left of a message that is not all here is counted."""
        super().data_received(data)
        half = len(self.conn.reader.buffer) + (self.conn.current_size or 0)
        if half < self._half.size:
            # another message, with a time of its own
            self._half.release()
        more = half - self._half.size
        if more and self.conn.close_sent is None and not self._half.add(more):
            self._refuse_message()

    def _refuse_message(self) -> None:
        """Close: there is no room for the message that is arriving (RFC 6455, registry: try again later)."""
        if self.conn.state is State.OPEN:
            self.conn.fail(CloseCode.TRY_AGAIN_LATER, "too many messages are being received")
            self.handle_parser_exception()
        else:
            self.transport.abort()
        self._forget_half()

    def _forget_half(self) -> None:
        """It would stay with websockets' parser, which is a cycle, until a collection."""
        self._half.release()
        self.frames = []
        self.conn.reader.buffer.clear()

    # --- sending ---

    async def run_asgi(self) -> None:
        """Run the application with `CONNECTION` in its scope."""
        self.scope[CONNECTION] = self  # type: ignore[typeddict-unknown-key]
        await super().run_asgi()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._watch is not None:
            self._watch.paused()

    def resume_writing(self) -> None:
        if self._watch is not None:
            self._watch.resumed()
        super().resume_writing()

    async def send_text(self, frame: bytes) -> None:
        """Send one message, and return when the client has taken nearly all of it.

        Raises:
            ConnectionError: If the connection is gone, or closing.
        """
        await self.writable.wait()
        if self.disconnected or self.close_sent:
            raise ConnectionError("closed")
        try:
            self.conn.send_text(frame)
        except InvalidState:
            raise ConnectionError("closed") from None
        self.transport.write(b"".join(self.conn.data_to_send()))
        await self.writable.wait()

    def keepalive_timeout(self) -> None:
        """No pong: close, and do not wait for what the client has not taken either."""
        super().keepalive_timeout()
        if self.transport.get_write_buffer_size():
            self.transport.abort()

    def abort(self) -> None:
        """Drop the connection without flushing it: with a full socket no close frame would arrive."""
        self.transport.abort()


def bounded_protocols(limits: RpcLimits) -> tuple[type[HttpConnection], type[WebSocketConnection]]:
    """The protocols of one server, which share what they count."""
    shared = {"limits": limits, "per_address": Counter[str]()}
    inbound = Outbound(limits.inbound_total_bytes, time.monotonic)
    http: type[HttpConnection] = type("Http", (HttpConnection,), dict(shared))
    websocket: type[WebSocketConnection] = type(
        "WebSocket", (WebSocketConnection,), {**shared, "inbound": inbound}
    )
    return http, websocket


def _address(client: tuple[str, int] | None) -> str:
    """What one party has few of: an IPv4 address, the half of an IPv6 address that a network is given."""
    host = client[0] if client else ""
    if ":" not in host:
        return host
    try:
        address = ipaddress.IPv6Address(host.partition("%")[0])
    except ValueError:
        return host
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return address.packed[:8].hex()


def _leave(counts: Counter[str], address: str) -> None:
    counts[address] -= 1
    if counts[address] <= 0:
        del counts[address]
