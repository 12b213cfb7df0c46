"""From bytes to an upgrade request, and from a decision to the bytes of the answer; no sockets.

The refusals and their texts are those of the field's proxies, so that scripts that match on them
keep working.
"""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import parse_qs, unquote, urlsplit

import httptools
from websockets.exceptions import InvalidHeader
from websockets.headers import parse_extension
from websockets.utils import accept_key

from flashctl.core.hub.encoding import Encoding
from flashctl.core.hub.ring import Position
from flashctl.core.hub.subscriber import Selector

__all__ = [
    "Admission",
    "HeadParser",
    "HttpResponse",
    "InvalidRequest",
    "Negotiation",
    "UpgradeRequest",
    "negotiate",
    "parse_resume",
    "upgrade_response",
]

MAX_HEAD_BYTES = 16 << 10
"""Request line and headers; other servers answer 400, but 431 (RFC 6585) is specific."""

MAX_QUERY_FIELDS = 64

_SUBPROTOCOLS = {
    "flashblocks.json": Encoding.RAW,
    "flashblocks.brotli": Encoding.BROTLI,
    "flashblocks.zstd": Encoding.ZSTD,
}
_BY_NAME = {encoding.value: encoding for encoding in Encoding}
_WINDOW_BITS = frozenset(str(bits) for bits in range(8, 16))


class InvalidRequest(Exception):
    """The request cannot be served; `response` is the HTTP answer."""

    def __init__(self, response: HttpResponse) -> None:
        super().__init__(f"{response.status} {response.body.decode(errors='replace')}")
        self.response = response


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """A complete answer; the connection closes after it."""

    status: int
    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = ()

    @classmethod
    def text(cls, status: int, text: str, **headers: str) -> HttpResponse:
        """A line of text; keyword arguments become headers, underscores hyphens."""
        return cls(status, text.encode(), headers=_header_pairs(headers))

    @classmethod
    def json(cls, status: int, content: Mapping[str, object], **headers: str) -> HttpResponse:
        """A JSON object."""
        body = json.dumps(content, separators=(",", ":")).encode()
        return cls(status, body, "application/json", _header_pairs(headers))

    def serialize(self, *, head_only: bool = False) -> bytes:
        """The bytes to send; without the body for a HEAD request."""
        lines = [f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}"]
        if self.body:
            lines.append(f"Content-Type: {self.content_type}")
        lines += [f"{name}: {value}" for name, value in self.headers]
        lines += [f"Content-Length: {len(self.body)}", "Connection: close", "", ""]
        return "\r\n".join(lines).encode("latin-1") + (b"" if head_only else self.body)


def _header_pairs(headers: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple((name.replace("_", "-").title(), value) for name, value in headers.items())


@dataclass(frozen=True, slots=True)
class UpgradeRequest:
    """One HTTP request head."""

    method: str
    path: str
    """Percent-decoded, without the query."""
    query: Mapping[str, list[str]]
    headers: tuple[tuple[str, str], ...]
    """Names in lower case, repeated headers in their order."""
    peer: str
    """Address of the TCP peer, without the port."""

    def header(self, name: str) -> str | None:
        """The first header of that name (lower case)."""
        return next((value for key, value in self.headers if key == name), None)

    def header_list(self, name: str) -> list[str]:
        """Every comma-separated element of every header of that name, in order, stripped."""
        joined = ",".join(value for key, value in self.headers if key == name)
        return [element for part in joined.split(",") if (element := part.strip())]

    def parameter(self, name: str) -> str | None:
        """A query parameter that may be given once.

        Raises:
            InvalidRequest: If it is repeated.
        """
        values = self.query.get(name, [])
        if len(values) > 1:
            raise InvalidRequest(
                HttpResponse.text(
                    400, f"Failed to deserialize query string: duplicate field `{printable(name)}`"
                )
            )
        return values[0] if values else None

    def upgrade_problem(self) -> HttpResponse | None:
        """Why this is not a WebSocket handshake (RFC 6455 section 4.2.1), or None when it is one."""
        if self.method != "GET":
            return HttpResponse.text(405, "Request method must be `GET`", allow="GET,HEAD")
        if "upgrade" not in (token.lower() for token in self.header_list("connection")):
            return HttpResponse.text(400, "Connection header did not include 'upgrade'")
        if "websocket" not in (token.lower() for token in self.header_list("upgrade")):
            return HttpResponse.text(400, "`Upgrade` header did not include 'websocket'")
        if self.header("sec-websocket-version") != "13":
            return HttpResponse.text(
                426,
                "`Sec-WebSocket-Version` header did not include '13'",
                sec_websocket_version="13",
                upgrade="websocket",
            )
        key = self.header("sec-websocket-key")
        if key is None:
            return HttpResponse.text(400, "`Sec-WebSocket-Key` header missing")
        try:
            if len(base64.b64decode(key, validate=True)) != 16:
                raise ValueError
        except (ValueError, binascii.Error):
            return HttpResponse.text(400, "`Sec-WebSocket-Key` header must be 16 bytes in base64")
        return None


@dataclass(frozen=True, slots=True)
class Admission:
    """Leave to join, and on what terms."""

    selector: Selector | None = None
    label: str = ""
    """Shown in metrics and logs: never a secret."""
    release: Callable[[], None] | None = None
    """Called once when the connection has ended, to give back what the admission took."""
    default_encoding: Encoding = Encoding.RAW
    """For a client that asks for none."""
    close: tuple[int, str] | None = None
    """Upgrade, then close at once with this code and reason: a refusal that WebSocket clients can read."""


class HeadParser:
    """Collects one request head; bytes after it are kept for the WebSocket parser."""

    __slots__ = ("_headers", "_parser", "_received", "_request", "_url", "peer", "rest")

    def __init__(self, peer: str) -> None:
        self.peer = peer
        self.rest = b""
        """Bytes behind the head: frames of a client that did not wait for the answer."""
        self._parser: httptools.HttpRequestParser | None = httptools.HttpRequestParser(self)
        self._headers: list[tuple[str, str]] = []
        self._url = b""
        self._received = 0
        self._request: UpgradeRequest | None = None

    def feed(self, data: bytes) -> UpgradeRequest | None:
        """The request once its head is complete, else None.

        Raises:
            InvalidRequest: If the bytes are not HTTP, or the head is too long.
        """
        parser = self._parser
        if parser is None:
            return self._request
        self._received += len(data)
        try:
            parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self.rest = data[upgrade.args[0] :]
        except httptools.HttpParserError:
            raise InvalidRequest(HttpResponse.text(400, "not an HTTP/1.1 request")) from None
        if self._request is None and self._received > MAX_HEAD_BYTES:
            raise InvalidRequest(HttpResponse.text(431, f"request head over {MAX_HEAD_BYTES} bytes"))
        if self._request is not None:
            self._parser = None  # it holds this object, and together they would wait for the collector
        return self._request

    def on_url(self, url: bytes) -> None:
        """Called by the HTTP parser, possibly several times."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by the HTTP parser."""
        self._headers.append((name.decode("latin-1").lower(), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        """Called by the HTTP parser."""
        if self._request is not None or self._parser is None:
            return  # a pipelined second request: the answer to the first closes the connection
        method = self._parser.get_method().decode("latin-1")
        try:
            parts = urlsplit(self._url.decode("ascii"))
            query = parse_qs(parts.query, keep_blank_values=True, max_num_fields=MAX_QUERY_FIELDS)
        except ValueError:
            raise InvalidRequest(HttpResponse.text(400, "malformed request target")) from None
        self._request = UpgradeRequest(
            method=method,
            path=unquote(parts.path),
            query=query,
            headers=tuple(self._headers),
            peer=self.peer,
        )


@dataclass(frozen=True, slots=True)
class Negotiation:
    """What handshake and query agree on."""

    encoding: Encoding = Encoding.RAW
    extension: str | None = None
    subprotocol: str | None = None
    deflate_frames: bool = field(default=False)
    """Whether the client may set RSV1."""


def negotiate(request: UpgradeRequest, default: Encoding, offered: frozenset[Encoding]) -> Negotiation:
    """Pick the encoding: query, subprotocol, the server's default, permessage-deflate, else raw.

    `offered` is what this server is willing to send besides raw messages.

    Raises:
        InvalidRequest: If `?compression=` names something unknown or not offered.
    """
    choices = offered | {Encoding.RAW, default}
    wanted = request.parameter("compression")
    deflate = _accept_deflate(request) if Encoding.DEFLATE in choices else None
    if wanted is not None:
        encoding = _BY_NAME.get(wanted)
        if encoding is Encoding.DEFLATE and deflate is not None:
            return deflate
        if encoding is Encoding.DEFLATE and encoding in choices:
            raise _refused(
                "compression=deflate is the WebSocket extension permessage-deflate, not offered here"
            )
        if encoding is None or encoding not in choices or encoding is Encoding.DEFLATE:
            names = ", ".join(sorted(choice.value for choice in choices))
            raise _refused(f"compression={printable(wanted)} is not offered; one of: {names}")
        return Negotiation(encoding)
    for protocol in request.header_list("sec-websocket-protocol"):
        encoding = _SUBPROTOCOLS.get(protocol)
        if encoding is not None and encoding in choices:
            return Negotiation(encoding, subprotocol=protocol)
    if default not in (Encoding.RAW, Encoding.DEFLATE):
        return Negotiation(default)
    return deflate or Negotiation()


def _refused(message: str) -> InvalidRequest:
    return InvalidRequest(HttpResponse.json(400, {"message": message}))


def _accept_deflate(request: UpgradeRequest) -> Negotiation | None:
    """The first acceptable permessage-deflate offer of a client, which lists them in order of preference."""
    for header in (value for name, value in request.headers if name == "sec-websocket-extensions"):
        try:
            offers = parse_extension(header)
        except InvalidHeader:
            continue
        for name, parameters in offers:
            if name == "permessage-deflate" and (agreed := _agree_on(parameters)) is not None:
                return agreed
    return None


def _agree_on(parameters: Sequence[tuple[str, str | None]]) -> Negotiation | None:
    """The answer to one offer (RFC 7692 section 7.1), or None where it has to be declined.

    A client that insists on a smaller window gets uncompressed messages: frames of its own would cost what
    all others together cost. The client is asked not to keep a context, since what it sends is never
    inflated.
    """
    offer = dict(parameters)
    if len(offer) != len(parameters):
        return None
    takeover = True
    answer = ["permessage-deflate", "client_no_context_takeover"]
    for parameter, value in offer.items():
        match parameter:
            case "server_no_context_takeover" if value is None:
                takeover = False
                answer.append(parameter)
            case "client_no_context_takeover" if value is None:
                pass
            case "client_max_window_bits" if value is None or value in _WINDOW_BITS:
                pass
            case "server_max_window_bits" if value == str(zlib.MAX_WBITS):
                answer.append(f"{parameter}={value}")
            case _:
                return None
    encoding = Encoding.DEFLATE_TAKEOVER if takeover else Encoding.DEFLATE
    return Negotiation(encoding, extension="; ".join(answer), deflate_frames=True)


def upgrade_response(request: UpgradeRequest, agreed: Negotiation) -> bytes:
    """The 101 that completes the handshake; the request has a valid key by now."""
    key = request.header("sec-websocket-key") or ""
    lines = [
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Accept: {accept_key(key)}",
    ]
    if agreed.extension is not None:
        lines.append(f"Sec-WebSocket-Extensions: {agreed.extension}")
    if agreed.subprotocol is not None:
        lines.append(f"Sec-WebSocket-Protocol: {agreed.subprotocol}")
    return "\r\n".join([*lines, "", ""]).encode()


def parse_resume(request: UpgradeRequest) -> tuple[Position | None, str | None]:
    """The position of `?block_number=&flashblock_index=` (base/base#1252), and our `payload_id` beside it.

    Raises:
        InvalidRequest: If one of the two is missing, or is not a number.
    """
    number = request.parameter("block_number")
    index = request.parameter("flashblock_index")
    payload_id = request.parameter("payload_id")
    if number is None and index is None:
        return None, None
    try:
        if number is None or index is None or not (number.isascii() and index.isascii()):
            raise ValueError
        if not (number.isdigit() and index.isdigit()) or len(number) > 20 or len(index) > 20:
            raise ValueError
    except ValueError:
        raise InvalidRequest(
            HttpResponse.json(
                400, {"message": "block_number and flashblock_index must be given together, as integers"}
            )
        ) from None
    return Position(int(number), int(index)), payload_id


def printable(text: str, limit: int = 64) -> str:
    """Text of a stranger, fit for an answer or a log line."""
    return "".join(char if char.isprintable() else "?" for char in text[:limit])
