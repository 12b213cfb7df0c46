"""The client side of a flashblocks stream: connect, notice when it is dead, come back.

    async for item in subscribe("wss://mainnet.flashblocks.base.org/ws"):
        match item:
            case Frame(data, binary): ...
            case Connected(url): ...
            case Disconnected(url, reason, retry_in_s): ...

The iterator never ends by itself and never raises for network failures: it yields Disconnected and retries
after a back-off with full jitter, doubling from 100 ms to 10 s and starting afresh once a connection held for
a while; the `Retry-After` of a full server is obeyed. Two failures raise as long as no connection has ever
worked, since the configuration is probably wrong: credentials that are refused, and a peer that is something
else than a WebSocket stream. Once a stream has worked they are temporary failures like any other: a gateway
before it answers 401 or 404 while it restarts.

Alive means data: TCP and pings may be fine while the builder behind them is not (base/node#1129), so
besides pings a silence limit counts as a disconnect.

Three ways back in after a disconnect, in the order of preference: a server that resumes (`resume` supplies
the position asked for in the query string), one that replays the open block, or the next index 0.
"""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import (
    ConnectionClosed,
    InvalidMessage,
    InvalidProxy,
    InvalidProxyStatus,
    InvalidStatus,
    InvalidURI,
    ProxyError,
    WebSocketException,
)

from flashctl.core.flashblocks.wire import MAX_FRAME_BYTES
from flashctl.core.net.environment_proxy import proxy_for
from flashctl.core.net.fast_receive import Direct, DirectConnection
from flashctl.core.net.keepalive import LinkStats
from flashctl.core.net.system_reason import system_reason
from flashctl.core.net.urls import hide_secrets, mask_url
from flashctl.errors import AuthError, FlashctlError, ProtocolError, UsageError

__all__ = [
    "Backoff",
    "Connected",
    "Disconnected",
    "NotAStream",
    "StreamFrame",
    "StreamItem",
    "StreamOptions",
    "check_stream_url",
    "failure_reason",
    "retry_after",
    "subscribe",
]

_LOG = logging.getLogger(__name__)

READ_AHEAD: Final = 16
"""Frames that may wait between socket and consumer before reading stops: three seconds of a usual stream, and
256 MB of one whose every frame is as large as may be. The sockets' buffers come on top."""

MAX_RETRY_AFTER_S: Final = 300.0
"""Longest `Retry-After` that is kept to: a server that is wrong about an hour must not cost an hour."""


@dataclass(frozen=True, slots=True)
class Connected:
    """The WebSocket handshake succeeded; frames follow."""

    url: str


@dataclass(frozen=True, slots=True)
class StreamFrame:
    """One message as received."""

    data: bytes
    binary: bool
    """Whether it was a binary frame; see `wire.decode`."""
    received_ns: int
    """Wall clock, nanoseconds since the epoch, before any decoding."""
    monotonic_ns: int
    url: str = ""
    """Which server sent it."""


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The connection is gone or could not be made."""

    url: str
    reason: str
    retry_in_s: float


StreamItem = Connected | StreamFrame | Disconnected


class NotAStream(ProtocolError):
    """The endpoint exists, but it is not a flashblocks stream."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait before trying again: full jitter over a window that doubles."""

    initial_s: float = 0.1
    maximum_s: float = 10.0
    stable_after_s: float = 30.0
    """A connection that held this long starts the window afresh: a restart is not a failure."""

    def delay(self, attempt: int, random_unit: float) -> float:
        """Seconds before retry number `attempt` (0 first), for a random number in [0, 1).

        Full jitter (a uniform draw from the whole window) because all clients lose the stream at the same
        moment.
        """
        window = min(self.maximum_s, self.initial_s * 2.0 ** min(attempt, 30))
        return window * max(0.1, random_unit)


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """Options of `subscribe`; the defaults suit a public stream."""

    headers: Mapping[str, str] | None = None
    backoff: Backoff = Backoff()
    connect_timeout_s: float = 10.0
    ping_interval_s: float | None = 5.0
    pong_timeout_s: float | None = 5.0
    silence_timeout_s: float | None = 15.0
    """Longest time without a frame. Several block times: builders skip slots, and a reconnect costs more
    than a wait."""
    max_size: int = MAX_FRAME_BYTES
    tls: ssl.SSLContext | None = None
    """For wss:// with a private authority or a client certificate; None is the system's trust store."""
    deflate: bool = False
    """Offer permessage-deflate. Off: brotli frames do not shrink further, and inflating costs CPU on every
    frame."""
    resume: Callable[[], Mapping[str, str]] | None = None
    """Query parameters that ask for the position after the last frame held; called before each connection."""
    direct: Direct | None = None
    """Take messages in the socket's callback instead of as Frame items; the few that cannot go that way still
    come as items, in order. For a consumer to which 0.3 ms a message matters (core/net/fast_receive.py)."""
    link: LinkStats | None = None
    """Filled with what pings find out; only beside `direct`."""
    may_be_silent: Callable[[], bool] | None = None
    """Asked when the silence limit is reached: whether an answered ping is life enough for now."""
    reconnect: bool = True
    """False: one connection; the iterator ends with it."""
    patient: bool = False
    """Never raise for a refusal, not even before the first connection: for services that are started in any
    order, and for one stream of several."""


def check_stream_url(url: str, flag: str = "") -> None:
    """Refuse what is no ws:// or wss:// URL, naming the flag that it came from.

    Raises:
        UsageError: Without the URL's secrets in it.
    """
    where = f"{flag}: " if flag else ""
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("ws", "wss") and bool(parts.hostname) and parts.port != 0
        shown = mask_url(url)
    except ValueError:
        raise UsageError(f"{flag or 'the stream'}: not a URL", hint="ws://HOST:PORT/PATH") from None
    if parts.scheme in ("http", "https"):
        raise UsageError(
            f"{where}{shown} is an HTTP URL, a flashblocks stream is ws:// or wss://",
            hint="JSON-RPC endpoints answer requests; the stream has a URL of its own",
        )
    if not known:
        raise UsageError(f"{where}{shown!r} is not a ws:// or wss:// URL", hint="ws://HOST:PORT/PATH")


async def subscribe(url: str, options: StreamOptions | None = None) -> AsyncGenerator[StreamItem, None]:
    """The items of the stream at `url`, for as long as the caller iterates.

    Raises:
        UsageError: If `url` is not a ws:// or wss:// URL.
        AuthError: If the server refuses the credentials (401, 403), and no connection has worked yet.
        NotAStream: If the server answers, but is no WebSocket stream, and no connection has worked yet.
    """
    settings = options or StreamOptions()
    check_stream_url(url)
    shown = mask_url(url)
    attempt = 0
    has_worked = settings.patient
    while True:
        started = time.monotonic()
        asked_s = 0.0
        is_connected = False
        try:
            async with connect(_with_resume(url, settings), **_arguments(settings, url)) as connection:
                _LOG.debug("connected", extra={"url": shown})
                has_worked = is_connected = True
                yield Connected(shown)
                started = time.monotonic()
                async for frame in _frames(connection, shown, settings):
                    yield frame
        except (OSError, TimeoutError, WebSocketException, ImportError) as error:
            refusal = _refusal(error, shown, url)
            if refusal is not None and not has_worked:
                raise refusal from None
            reason = failure_reason(error, url, is_connected=is_connected)
            asked_s = retry_after(error, time.time())
        if time.monotonic() - started >= settings.backoff.stable_after_s:
            attempt = 0
        delay = settings.backoff.delay(attempt, random.random()) + asked_s if settings.reconnect else 0.0
        attempt += 1
        yield Disconnected(shown, reason, delay)
        if not settings.reconnect:
            return
        await asyncio.sleep(delay)


async def _frames(
    connection: ClientConnection, shown: str, settings: StreamOptions
) -> AsyncGenerator[StreamFrame, None]:
    """The frames of one connection until it closes.

    Raises:
        TimeoutError: If no frame arrives within the silence limit.
        ConnectionClosed: If the connection breaks.
    """
    direct = settings.direct
    if isinstance(connection, DirectConnection) and settings.ping_interval_s is not None:
        link = settings.link or LinkStats()
        connection.start_keep_alive(link, settings.ping_interval_s, settings.pong_timeout_s)
    patience = settings.silence_timeout_s
    while True:
        if direct is not None and isinstance(connection, DirectConnection):
            connection.go_direct(direct, settings.max_size)
        try:
            async with asyncio.timeout(patience):
                message = await connection.recv()
        except TimeoutError:
            patience = _patience_left(connection, settings.silence_timeout_s)
            if patience > 0:
                continue
            if settings.may_be_silent is not None and settings.may_be_silent():
                patience = settings.silence_timeout_s
                continue
            raise TimeoutError(f"no frame for {settings.silence_timeout_s:g} s") from None
        patience = settings.silence_timeout_s
        wall, steady = time.time_ns(), time.monotonic_ns()
        if isinstance(message, str):
            yield StreamFrame(message.encode(), False, wall, steady, shown)
        else:
            yield StreamFrame(message, True, wall, steady, shown)


def _patience_left(connection: ClientConnection, silence_timeout_s: float | None) -> float:
    """Seconds until the silence limit, counted from the last message that went the direct way."""
    last = connection.last_direct if isinstance(connection, DirectConnection) else 0.0
    return last + (silence_timeout_s or 0.0) - time.monotonic()


def _with_resume(url: str, settings: StreamOptions) -> str:
    position = settings.resume() if settings.resume is not None else {}
    if not position:
        return url
    parts = urlsplit(url)
    query = [
        (name, value)
        for name, value in parse_qsl(parts.query, keep_blank_values=True)
        if name not in position
    ]
    return urlunsplit(parts._replace(query=urlencode([*query, *position.items()])))


def _arguments(settings: StreamOptions, url: str) -> dict[str, Any]:
    return {
        **({"ssl": settings.tls} if settings.tls is not None and url.startswith("wss:") else {}),
        "additional_headers": dict(settings.headers or {}),
        **({"create_connection": DirectConnection} if settings.direct is not None else {}),
        "compression": "deflate" if settings.deflate else None,
        "open_timeout": settings.connect_timeout_s,
        "close_timeout": 1.0,
        "ping_interval": settings.ping_interval_s if settings.direct is None else None,
        "ping_timeout": settings.pong_timeout_s,
        "max_size": settings.max_size,
        "max_queue": READ_AHEAD,
        "user_agent_header": "flashctl",
    }


def _refusal(error: BaseException, shown: str, url: str) -> FlashctlError | None:
    """The error that ends the first attempt, if its cause is a wrong setting."""
    if isinstance(error, InvalidURI):
        return UsageError(f"{shown!r} is not a WebSocket URL")
    if isinstance(error, InvalidMessage):
        # The socket closed in the middle of the handshake, or what answered is not HTTP.
        return (
            None
            if isinstance(error.__cause__, EOFError | ConnectionError)
            else NotAStream(f"{shown} does not speak HTTP", hint="is the port right?")
        )
    if not isinstance(error, InvalidStatus):
        return None
    status = error.response.status_code
    if status in (401, 403):
        return AuthError(
            f"{shown} refuses the connection: HTTP {status}", hint="does it need a key or a header?"
        )
    if status in (200, 400, 404, 405, 426):
        return NotAStream(
            f"{shown} is not a WebSocket stream: HTTP {status}{hide_secrets(_body(error), url)}",
            hint="is the path right? A proxy's is /ws; JSON-RPC endpoints of nodes do not serve the stream",
        )
    return None


def retry_after(error: BaseException, now: float) -> float:
    """The server's `Retry-After` in seconds, 0 without one; `now` is wall clock."""
    if not isinstance(error, InvalidStatus):
        return 0.0
    text = error.response.headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        return min(MAX_RETRY_AFTER_S, float(text[:10]))
    try:
        moment = parsedate_to_datetime(text)
        seconds = (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp() - now
    except (ValueError, OverflowError):
        return 0.0
    return min(MAX_RETRY_AFTER_S, max(0.0, seconds))


def failure_reason(error: BaseException, url: str, *, is_connected: bool) -> str:
    """Why a connection to `url` broke or could not be made, without secrets.

    What fails before it is made fails at the proxy of the environment, where there is one.
    """
    reason = hide_secrets(_reason(error), url)
    met_the_server = isinstance(error, InvalidStatus | InvalidURI | InvalidMessage | ConnectionClosed)
    if is_connected or (met_the_server and not isinstance(error, ProxyError)):
        return reason
    proxy = proxy_for(url)
    return reason if proxy is None else f"{proxy.shown}: {reason}"


def _reason(error: BaseException) -> str:
    match error:
        case InvalidProxy():
            return f"not a proxy: {error.msg}"  # its own text quotes the URL with the credentials
        case InvalidProxyStatus():
            return f"HTTP {error.response.status_code}"
        case ImportError():
            return "a SOCKS proxy needs the package python-socks"
        case InvalidStatus():
            retry = error.response.headers.get("Retry-After")
            return f"HTTP {error.response.status_code}{_body(error)}" + (
                f", retry after {retry}" if retry else ""
            )
        case ConnectionClosed():
            return _closed(error)
        case InvalidURI():
            return "redirected to what is no WebSocket URL"
        case TimeoutError():
            return str(error) or "timed out"
        case OSError():
            return system_reason(error)
        case _:
            return str(error) or type(error).__name__


def _closed(error: ConnectionClosed) -> str:
    if error.rcvd is None and error.sent is not None:
        return f"closed by us: {error.sent.reason or error.sent.code}"
    if error.rcvd is None:
        return str(error.__cause__ or "connection lost")
    return f"closed by the server: {error.rcvd.code} {error.rcvd.reason}".rstrip()


def _body(error: InvalidStatus) -> str:
    """The start of an error page, if it is short text: servers name the limit that was hit there."""
    body = bytes(error.response.body or b"")[:200].decode(errors="replace").strip()
    return f" ({body})" if body and "<" not in body else ""
