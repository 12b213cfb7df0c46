"""HTTP responses from bytes, within limits: the sans-I/O half of `core.http1`."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Final

import httptools

from flashctl.core.net.upstream_errors import InvalidAnswer

__all__ = [
    "DEFAULT_LIMITS",
    "BodyBudget",
    "ClientLimits",
    "Reply",
    "ReplyTooLarge",
    "ResponseParser",
    "decoded",
]


@dataclass(frozen=True, slots=True)
class ClientLimits:
    """What one client may use, and what it accepts from the other side."""

    head_bytes: int = 64 * 1024
    """Longest status line and headers."""

    body_bytes: int = 128 * 1024 * 1024
    """Longest reply body, also once unpacked: a debug trace of a full block is the largest answer seen in
    the field."""

    bodies_bytes: int = 192 * 1024 * 1024
    """Replies that are being received, all connections together."""

    connections: int = 64
    """Open connections to the endpoint."""

    line: int = 1024
    """Requests that may wait for a connection."""

    line_bytes: int = 32 * 1024 * 1024
    """Their bytes."""

    line_s: float = 10.0
    """Longest wait for a connection, which is not part of the time that the exchange has."""

    idle_s: float = 25.0
    """How long an unused connection is trusted with a request that may be sent again. Below the 30 s after
    which common proxies cut one."""

    fresh_s: float = 4.0
    """The same for a request that may not. Below the 5 s of the servers that are first to cut one."""


DEFAULT_LIMITS = ClientLimits()


@dataclass(frozen=True, slots=True)
class Reply:
    """A complete HTTP response."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    """Names in lower case, in order of arrival."""

    body: bytes
    keep_alive: bool
    """Whether the connection may carry another request."""

    encoded: bool = False
    """Whether the body is in some content encoding."""

    def header(self, name: bytes) -> bytes | None:
        """The first value of a header, by its lower-case name."""
        return next((value for key, value in self.headers if key == name), None)


class ReplyTooLarge(InvalidAnswer):
    """A response head or body passed its limit."""

    public_text = "upstream's answer is too large"
    limit: Final[int]

    def __init__(self, part: str, limit: int) -> None:
        super().__init__(f"HTTP response {part} is over the limit of {limit} bytes")
        self.limit = limit


class BodyBudget:
    """Bytes of bodies half received, of all the connections that share it."""

    __slots__ = ("limit", "used")

    def __init__(self, limit: int) -> None:
        self.limit: Final = limit
        self.used = 0


class ResponseParser:
    """Bytes of one connection in, one `Reply` out.

    Interim responses (1xx) are passed over. Anything after the end of a reply is an error: a server that
    does not keep to one reply per request cannot be trusted with the next.

    httptools' parser holds this object and this one that: without `close` the two, and the body, stay until
    a collection of cycles, of which a service has few. A reply or an error closes it.
    """

    __slots__ = (
        "_body",
        "_body_size",
        "_budget",
        "_complete",
        "_encoded",
        "_error",
        "_framed",
        "_head_done",
        "_head_size",
        "_headers",
        "_keep_alive",
        "_limits",
        "_parser",
        "started",
    )

    started: bool
    """Whether any byte has arrived."""

    def __init__(self, limits: ClientLimits = DEFAULT_LIMITS, budget: BodyBudget | None = None) -> None:
        self._limits = limits
        self._budget = BodyBudget(limits.bodies_bytes) if budget is None else budget
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        self._error: InvalidAnswer | None = None
        self.started = False
        self._head_size = 0
        self._body_size = 0
        self._body: list[bytes] = []
        self._complete = False
        self.on_message_begin()

    def receive_data(self, data: bytes) -> Reply | None:
        """Take bytes from the socket; the reply once it is complete.

        Raises:
            InvalidAnswer: If the bytes are not HTTP/1.x, or pass a limit. The connection is then useless.
        """
        parser = self._parser
        if parser is None:
            return None
        self.started = True
        if not self._head_done:
            self._head_size += len(data)
        try:
            parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._error = InvalidAnswer("unexpected HTTP upgrade")
        except httptools.HttpParserError as error:
            self._error = self._error or InvalidAnswer(f"invalid HTTP response: {error}")
        if self._error is None and not self._head_done and self._head_size > self._limits.head_bytes:
            self._error = ReplyTooLarge("head", self._limits.head_bytes)
        if self._error is not None:
            raise self._closing()
        return self._reply(parser, keep_alive=self._keep_alive) if self._complete else None

    def receive_eof(self) -> Reply:
        """The reply that ends with its connection, for servers that give no length.

        Raises:
            InvalidAnswer: If the reply was cut short.
        """
        if self._parser is not None and self._head_done and not self._framed:
            return self._reply(self._parser, keep_alive=False)
        self.close()
        raise InvalidAnswer("connection closed before the end of the HTTP response")

    def _closing(self) -> InvalidAnswer:
        """The error to raise, of which nothing here keeps hold: its traceback will hold this object, and a
        local name for it where it is raised would be one more cycle."""
        error, self._error = self._error, None
        self.close()
        assert error is not None
        return error

    def close(self) -> None:
        """Release everything; bytes received from now on are ignored."""
        self._parser = None
        self._error = None
        self._body = []
        self._budget.used -= self._body_size
        self._body_size = 0

    def _reply(self, parser: httptools.HttpResponseParser, *, keep_alive: bool) -> Reply:
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        reply = Reply(parser.get_status_code(), tuple(self._headers), body, keep_alive, self._encoded)
        self.close()
        return reply

    # Called by httptools, by these names. What they raise comes out of feed_data as a parser error, hence
    # `_error`.

    def on_message_begin(self) -> None:
        if self._complete:
            # A second response behind the first must not be taken for the answer to a later request.
            raise self._fail(InvalidAnswer("more than one HTTP response to one request"))
        self._headers: list[tuple[bytes, bytes]] = []
        self._body = []
        self._budget.used -= self._body_size
        self._body_size = 0
        self._head_done = False
        self._framed = False
        self._encoded = False
        self._keep_alive = False

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        self._framed = self._framed or name in (b"content-length", b"transfer-encoding")
        if name == b"content-encoding":
            self._encoded = True
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        self._head_done = True

    def on_body(self, body: bytes) -> None:
        self._body_size += len(body)
        self._budget.used += len(body)
        if self._body_size > self._limits.body_bytes:
            raise self._fail(ReplyTooLarge("body", self._limits.body_bytes))
        if self._budget.used > self._budget.limit:
            raise self._fail(ReplyTooLarge("bodies together", self._budget.limit))
        self._body.append(body)

    def on_message_complete(self) -> None:
        parser = self._parser
        assert parser is not None
        self._complete = parser.get_status_code() >= 200
        # Only here: once the message is over the parser has forgotten it.
        self._keep_alive = parser.should_keep_alive()

    def _fail(self, error: InvalidAnswer) -> Exception:
        """Remember why. The exception that stops httptools is another: its traceback holds this object."""
        self._error = error
        return ValueError("refused")


def decoded(reply: Reply, limit: int) -> bytes:
    """The body of a reply without its content encoding.

    We ask for `identity`; gzip is what some gateways send all the same. Anything else is refused.

    Raises:
        InvalidAnswer: If it is encoded otherwise, damaged, or larger than `limit` bytes once unpacked.
    """
    encoding = (reply.header(b"content-encoding") or b"identity").strip().lower()
    if encoding == b"identity" or not reply.body:
        return reply.body
    if encoding not in (b"gzip", b"x-gzip"):
        raise InvalidAnswer("HTTP response in a content encoding that was not asked for")
    unpacking = zlib.decompressobj(16 + zlib.MAX_WBITS)
    try:
        body = unpacking.decompress(reply.body, limit + 1)
    except zlib.error:
        raise InvalidAnswer("HTTP response whose gzip is damaged") from None
    if len(body) > limit:
        raise ReplyTooLarge("body", limit)
    if not unpacking.eof:
        raise InvalidAnswer("HTTP response whose gzip is cut short")
    return body
