"""A keep-alive HTTP/1.1 client for POST: what boost's multiplexing and rpc's pass-through run on.

`httpx` costs 0.8 ms a call here and falls to some 600 requests/s under 16 callers, with tails longer than
a flashblock; this client costs 0.2 ms and holds 40,000/s, because it does one thing. Two layers:

- `core.http_reply` and `core.endpoint` are sans-I/O: bytes in, `Reply` out. They know the limits.
- `HttpClient` owns sockets: a bounded pool of connections to one URL, and the line before it. A connection
  carries one request at a time, never two, and goes back to the pool only after a complete reply that allows
  keeping it. What must not wait behind other people's requests has a client of its own.

Nothing is retried, with one exception: a request that its caller calls repeatable, sent on a pooled
connection that ended before the first byte of a reply, is sent once more, on a new connection (RFC 9112,
9.3.1).
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import Final, cast

from flashctl.core.net.endpoint import Endpoint, encode_post, request_prefix
from flashctl.core.net.http_reply import (
    DEFAULT_LIMITS,
    BodyBudget,
    ClientLimits,
    Reply,
    ResponseParser,
    decoded,
)
from flashctl.core.net.system_reason import system_reason
from flashctl.core.net.upstream_errors import InvalidAnswer, TooManyInLine, Unreachable, UpstreamTimedOut

__all__ = ["DEFAULT_LIMITS", "ClientLimits", "HttpClient", "Reply"]


class _ConnectionLost(Exception):
    """The connection ended before a complete reply; `untouched` if not one byte of it had arrived."""

    def __init__(self, reason: str, *, untouched: bool) -> None:
        super().__init__(reason)
        self.untouched = untouched


class _Connection(asyncio.Protocol):
    """One socket, one request at a time."""

    def __init__(self, loop: asyncio.AbstractEventLoop, limits: ClientLimits, budget: BodyBudget) -> None:
        self._loop = loop
        self._limits = limits
        self._budget = budget
        self._transport: asyncio.Transport | None = None
        self._parser: ResponseParser | None = None
        self._waiter: asyncio.Future[Reply] | None = None
        self.reusable = True
        self.idle_since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def send(self, request: bytes) -> asyncio.Future[Reply]:
        """Write a request; the future ends with its reply, an `InvalidAnswer` or `_ConnectionLost`."""
        assert self._waiter is None
        waiter: asyncio.Future[Reply] = self._loop.create_future()
        if self._transport is None:
            waiter.set_exception(_ConnectionLost("connection closed", untouched=True))
            return waiter
        self._parser = ResponseParser(self._limits, self._budget)
        self._waiter = waiter
        self._transport.write(request)
        return waiter

    def data_received(self, data: bytes) -> None:
        parser = self._parser
        if parser is None:
            # Data without a request: it must not be read as the response to the next one.
            self.close()
            return
        try:
            reply = parser.receive_data(data)
        except InvalidAnswer as error:
            self.close()
            self._finish(error)
            return
        if reply is not None:
            self.reusable = self.reusable and reply.keep_alive
            self._finish(reply)

    def eof_received(self) -> None:
        self.reusable = False

    def connection_lost(self, exc: Exception | None) -> None:
        self.reusable = False
        self._transport = None
        parser = self._parser
        if parser is None:
            return
        if exc is None and parser.started:
            try:
                self._finish(parser.receive_eof())
            except InvalidAnswer as error:
                self._finish(error)
            return
        self._finish(_ConnectionLost(str(exc or "connection closed"), untouched=not parser.started))

    def _finish(self, result: Reply | Exception) -> None:
        waiter = self._waiter
        self._let_go()
        if waiter is None or waiter.done():
            return
        if isinstance(result, Reply):
            waiter.set_result(result)
        else:
            # Where it was raised is no news, and those frames hold what had been received.
            waiter.set_exception(result.with_traceback(None))

    def _let_go(self) -> None:
        if self._parser is not None:
            self._parser.close()
        self._parser = self._waiter = None

    def close(self) -> None:
        self.reusable = False
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Drop the connection at once: its reply is no longer wanted and would mix with the next."""
        self.reusable = False
        self._let_go()
        if self._transport is not None:
            self._transport.abort()


class _Line:
    """Places for requests under way, and the line of those that wait for one, first come, first served."""

    def __init__(self, limits: ClientLimits, shown: str) -> None:
        self._limits = limits
        self._shown = shown
        self._free = limits.connections
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._count = 0
        self._bytes = 0

    def enter(self) -> bool:
        """Take a place; False if one has to wait for it."""
        if self._free and not self._count:
            self._free -= 1
            return True
        return False

    async def wait(self, size: int) -> None:
        """Wait for a place for a request of `size` bytes.

        Raises:
            TooManyInLine: If the line is full, or no place came free in time.
        """
        limits = self._limits
        if self._count >= limits.line or self._bytes + size > limits.line_bytes:
            raise TooManyInLine(f"{self._shown}: {self._count} requests wait for a connection already")
        place = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        self._count += 1
        self._bytes += size
        try:
            async with asyncio.timeout(limits.line_s):
                await place
        except BaseException as error:
            if place.done() and not place.cancelled():
                self.leave()
            if isinstance(error, TimeoutError):
                raise TooManyInLine(
                    f"{self._shown}: no connection came free within {limits.line_s:g} s"
                ) from None
            raise
        finally:
            self._count -= 1
            self._bytes -= size

    def leave(self) -> None:
        """Give the place to the next in line."""
        while self._waiting:
            place = self._waiting.popleft()
            if not place.done():
                place.set_result(None)
                return
        self._free += 1


class HttpClient:
    """POSTs to one URL over a bounded pool of keep-alive connections.

    Use it within one event loop; call `close` when done. Cancelling a `post` drops its connection.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout_s: float = 10.0,
        limits: ClientLimits = DEFAULT_LIMITS,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Nothing is opened yet.

        Args:
            url: http or https; without a scheme http. `user:password@` is sent as Basic credentials.
            timeout_s: for a whole exchange, from connecting to the last byte of the reply. Waiting in line
                for a connection is not part of it, and bounded by `limits`.
            limits: see `ClientLimits`.
            tls: for https, instead of the system's trust store.

        Raises:
            UsageError: If the URL is not one.
        """
        self.endpoint: Final = Endpoint.parse(url)
        self._prefix = request_prefix(self.endpoint)
        self._timeout_s = timeout_s
        self._limits = limits
        self._tls = tls
        self._idle: deque[_Connection] = deque()
        self._busy: set[_Connection] = set()
        self._line = _Line(limits, self.endpoint.shown)
        self._budget = BodyBudget(limits.bodies_bytes)
        self._closed = False

    async def post(
        self,
        body: bytes,
        *,
        headers: Sequence[tuple[bytes, bytes]] = (),
        timeout_s: float | None = None,
        repeatable: bool = False,
    ) -> Reply:
        """Send one request and wait for its reply, whatever its status; its body is unpacked.

        Args:
            body: what is sent.
            headers: beside the usual ones.
            timeout_s: instead of the client's.
            repeatable: whether it may reach the server twice, because it changes nothing there.

        Raises:
            TooManyInLine: If no connection came free.
            UpstreamTimedOut: If the exchange did not end within the time-out.
            Unreachable: If no connection could be made, or it broke before the reply.
            InvalidAnswer: If what came back is not HTTP or passes a limit.
        """
        limit = self._timeout_s if timeout_s is None else timeout_s
        request = encode_post(self._prefix, headers, body)
        shown = self.endpoint.shown
        if not self._line.enter():
            await self._line.wait(len(request))
        try:
            async with asyncio.timeout(limit):
                reply = await self._exchange(request, repeatable=repeatable)
                if reply.encoded:
                    unpacked = await asyncio.to_thread(decoded, reply, self._limits.body_bytes)
                    reply = replace(reply, body=unpacked, encoded=False)
                return reply
        except TimeoutError:
            raise UpstreamTimedOut(f"{shown} did not answer within {limit:g} s") from None
        except InvalidAnswer as error:
            error.args = (f"{shown}: {error}",)
            raise
        finally:
            self._line.leave()

    async def _exchange(self, request: bytes, *, repeatable: bool) -> Reply:
        limits = self._limits
        connection = self._take_idle(limits.idle_s if repeatable else min(limits.fresh_s, limits.idle_s))
        if connection is not None:
            try:
                return await self._send(connection, request)
            except _ConnectionLost as error:
                if not (repeatable and error.untouched):
                    raise Unreachable(f"{self.endpoint.shown}: {error}") from None
        connection = await self._open()
        try:
            return await self._send(connection, request)
        except _ConnectionLost as error:
            raise Unreachable(f"{self.endpoint.shown}: {error}") from None

    async def _send(self, connection: _Connection, request: bytes) -> Reply:
        self._busy.add(connection)
        try:
            reply = await connection.send(request)
        except asyncio.CancelledError:
            connection.abort()
            raise
        finally:
            self._busy.discard(connection)
        self._give_back(connection)
        return reply

    def _take_idle(self, age_s: float) -> _Connection | None:
        """The most recently used live connection, if it was used within `age_s`: the rest age out."""
        oldest = asyncio.get_running_loop().time() - age_s
        while self._idle:
            connection = self._idle[-1]
            if connection.reusable and connection.idle_since < oldest:
                return None
            self._idle.pop()
            if connection.reusable:
                return connection
            connection.close()
        return None

    def _give_back(self, connection: _Connection) -> None:
        if self._closed or not connection.reusable:
            connection.close()
            return
        now = asyncio.get_running_loop().time()
        connection.idle_since = now
        self._idle.append(connection)
        while self._idle and self._idle[0].idle_since < now - self._limits.idle_s:
            self._idle.popleft().close()

    async def _open(self) -> _Connection:
        endpoint = self.endpoint
        if self._closed:
            raise Unreachable(f"{endpoint.shown}: client is closed")
        loop = asyncio.get_running_loop()
        if endpoint.tls and self._tls is None:
            # 20 to 50 ms of certificate loading, paid only by the first https request.
            self._tls = await asyncio.to_thread(ssl.create_default_context)
        # More than `connections` are open only as long as it takes an old one to close.
        while len(self._idle) + len(self._busy) >= self._limits.connections and self._idle:
            self._idle.popleft().close()
        try:
            _, connection = await loop.create_connection(
                lambda: _Connection(loop, self._limits, self._budget),
                endpoint.host,
                endpoint.port,
                ssl=self._tls if endpoint.tls else None,
            )
        except (OSError, UnicodeError) as error:
            raise Unreachable(f"{endpoint.shown} is unreachable: {_reason(error)}") from None
        return connection

    async def close(self) -> None:
        """Drop every connection; requests under way end with `Unreachable`."""
        self._closed = True
        for connection in (*self._idle, *self._busy):
            connection.close()
        self._idle.clear()
        # One turn of the loop, in which transports call connection_lost.
        await asyncio.sleep(0)


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return error.reason or str(error)
    return system_reason(error)
