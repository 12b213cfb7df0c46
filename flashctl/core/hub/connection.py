"""One client's connection: handshake, then frames out and control frames in, then an orderly end.

    HEAD ──request complete──> ADMITTING ──admitted──> OPEN ──close frame sent──> CLOSING ──> gone
      └── page or refusal ─────────┴──────────────────────────────────────────────────┘

Written for many and for long: attributes are slots, the HTTP parser goes with the handshake, the frame
parser exists only while a frame is incomplete, and there are no tasks or timers per connection; deadlines are
kept by the server, which looks at all of them in one sweep.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from enum import IntEnum
from typing import Protocol, cast

from flashctl.core.hub.encoding import Encoding
from flashctl.core.hub.framing import (
    ClientFrames,
    CloseCode,
    CloseFrame,
    FrameError,
    Ping,
    close_frame,
    ping_frame,
    pong_frame,
)
from flashctl.core.hub.handshake import (
    Admission,
    HeadParser,
    HttpResponse,
    InvalidRequest,
    Negotiation,
    UpgradeRequest,
    negotiate,
    parse_resume,
    upgrade_response,
)
from flashctl.core.hub.hub import Hub
from flashctl.core.hub.limits import HubLimits
from flashctl.core.hub.subscriber import Subscriber
from flashctl.core.service import defects

__all__ = ["Connection", "ConnectionState"]

_PING = ping_frame()

EVENT_BYTES = 512
"""What a control frame counts for in `max_input_per_s`."""


class ConnectionState(IntEnum):
    """Where a connection is in its life."""

    HEAD = 0
    ADMITTING = 1
    OPEN = 2
    CLOSING = 3
    GONE = 4


class Server(Protocol):
    """What a connection asks of its listener, and reports to it (`hub.server.HubServer`)."""

    hub: Hub
    limits: HubLimits
    encodings: frozenset[Encoding]
    secure: bool
    input_buffer: memoryview

    def arrived(self, connection: Connection) -> None: ...

    def heard(self, connection: Connection) -> None: ...

    def opened(self, connection: Connection) -> None: ...

    def closing(self, connection: Connection) -> None: ...

    def left(self, connection: Connection) -> None: ...

    def page_for(self, request: UpgradeRequest) -> HttpResponse | None: ...

    def admit(
        self, request: UpgradeRequest
    ) -> Admission | HttpResponse | Awaitable[Admission | HttpResponse]: ...

    def spawn(self, work: Coroutine[object, object, None]) -> None: ...


class Connection(asyncio.BufferedProtocol):
    """The asyncio side of a subscriber; made by the server for every accepted socket."""

    __slots__ = (
        "_deflate",
        "_frames",
        "_head",
        "_release",
        "address",
        "cause",
        "input_bytes",
        "pinged_at",
        "server",
        "state",
        "subscriber",
        "transport",
    )

    transport: asyncio.Transport

    def __init__(self, server: Server) -> None:
        self.server = server
        self.state = ConnectionState.HEAD
        self.address = ""
        self.subscriber: Subscriber | None = None
        self.cause = "refused"
        """What the end of this connection is counted under."""
        self.pinged_at = 0.0
        """When the oldest unanswered ping was sent; 0 when none is."""
        self.input_bytes = 0
        """Received since the server last looked."""
        self._head: HeadParser | None = None
        self._frames: ClientFrames | None = None
        self._deflate = False
        self._release: Callable[[], None] | None = None

    def __repr__(self) -> str:
        return f"<Connection {self.address} {self.state.name}>"

    # -- called by the event loop ---------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Accepted: wait for a request, but not for long."""
        self.transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        self.address = peer[0] if isinstance(peer, tuple) else "local"
        if not self.server.secure:
            # Any byte the kernel does not take at once means the client is behind; the ring keeps its
            # messages. A TLS transport holds records of its own and would never report that it drained.
            self.transport.set_write_buffer_limits(high=0)
        self._head = HeadParser(self.address)
        self.server.arrived(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next bytes go: one buffer for all connections, since they are looked at there and then.

        It also bounds what is read from a client before its first frame header is judged. An ordinary
        Protocol is handed 256 KiB at a time, each in memory of its own.
        """
        return self.server.input_buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Bytes of the handshake, or frames."""
        data = bytes(self.server.input_buffer[:nbytes])
        self.pinged_at = 0.0
        if self.state is ConnectionState.HEAD:
            self._read_head(data)
        elif self.state is ConnectionState.ADMITTING:
            # A client that sends frames before the 101; what it may send then is bounded by the size of a
            # head.
            assert self._head is not None
            self._head.rest += data
            if len(self._head.rest) > self.server.limits.max_client_message:
                self._gone("flooded")
        else:
            self._read_frames(data)

    def eof_received(self) -> bool:
        """The client will send no more; a WebSocket needs both directions, so this is the end."""
        if self.state is ConnectionState.OPEN:
            self.cause = "client_gone"
        return False

    def pause_writing(self) -> None:
        """The socket is full."""
        if self.subscriber is not None and self.state is ConnectionState.OPEN:
            self.server.hub.pause(self.subscriber)

    def resume_writing(self) -> None:
        """The socket is empty again."""
        if self.subscriber is not None and self.state is ConnectionState.OPEN:
            self.server.hub.resume(self.subscriber)

    def connection_lost(self, exc: Exception | None) -> None:
        """The end of the connection, by either side."""
        if self.state is ConnectionState.OPEN:
            self.cause = "client_gone"
        self.state = ConnectionState.GONE
        if self.subscriber is not None:
            self.server.hub.unsubscribe(self.subscriber)
            # It refers back to here; without the cycle a client is freed as it leaves.
            self.subscriber = None
        self._head = None
        self._frames = None
        if self._release is not None:
            release, self._release = self._release, None
            release()
        self.server.left(self)

    # -- the handshake --------------------------------------------------------------------------------------

    def _read_head(self, data: bytes) -> None:
        assert self._head is not None
        try:
            request = self._head.feed(data)
        except InvalidRequest as error:
            self._answer(error.response)
            return
        if request is None:
            return
        page = self.server.page_for(request)
        if page is not None:
            self._answer(page, head_only=request.method == "HEAD")
            return
        self.state = ConnectionState.ADMITTING
        try:
            decision = self.server.admit(request)
        except InvalidRequest as error:
            decision = error.response
        if inspect.isawaitable(decision):
            self.server.spawn(self._admit_later(request, decision))
        else:
            self._decide(request, decision)

    async def _admit_later(
        self, request: UpgradeRequest, decision: Awaitable[Admission | HttpResponse]
    ) -> None:
        try:
            self._decide(request, await decision)
        except InvalidRequest as error:
            self._answer(error.response)
        except Exception as error:
            defects.caught("hub.admission", error)
            self._answer(HttpResponse.text(500, ""))

    def _decide(self, request: UpgradeRequest, decision: Admission | HttpResponse) -> None:
        if isinstance(decision, HttpResponse):
            self._answer(decision, head_only=request.method == "HEAD")
            return
        if self.state is not ConnectionState.ADMITTING:
            # Gone while a shared limit was being asked; give back what it granted.
            if decision.release is not None:
                decision.release()
            return
        self._release = decision.release
        try:
            if (problem := request.upgrade_problem()) is not None:
                raise InvalidRequest(problem)
            agreed = negotiate(request, decision.default_encoding, self.server.encodings)
            resume, payload_id = parse_resume(request)
        except InvalidRequest as error:
            self._answer(error.response)
            return
        self.transport.write(upgrade_response(request, agreed))
        self._open(decision, agreed)
        if decision.close is not None:
            self.end(*decision.close, "refused")
            return
        rest = self._head.rest if self._head is not None else b""
        self._head = None
        assert self.subscriber is not None
        if self.transport.get_write_buffer_size():
            # Not even the answer to the handshake has gone out.
            self.server.hub.pause(self.subscriber)
        self.server.hub.subscribe(self.subscriber, resume=resume, payload_id=payload_id)
        if rest:
            self._read_frames(rest)

    def _open(self, decision: Admission, agreed: Negotiation) -> None:
        self.state = ConnectionState.OPEN
        self.cause = "server"
        self._deflate = agreed.deflate_frames
        self.subscriber = Subscriber(
            self, encoding=agreed.encoding, selector=decision.selector, label=decision.label
        )
        self.server.opened(self)

    def _answer(self, response: HttpResponse, *, head_only: bool = False) -> None:
        if self.state in (ConnectionState.CLOSING, ConnectionState.GONE):
            return
        self.state = ConnectionState.CLOSING
        self.cause = "answered" if response.status < 400 else "refused"
        self._head = None
        self.transport.write(response.serialize(head_only=head_only))
        self.transport.close()
        self.server.closing(self)

    # -- frames ---------------------------------------------------------------------------------------------

    def _read_frames(self, data: bytes) -> None:
        if self.state is ConnectionState.GONE or self.transport.is_closing():
            return
        self.input_bytes += len(data)
        if self.input_bytes > self.server.limits.max_input_per_s:
            self.end(CloseCode.POLICY, "too much input; this stream takes none", "flooded")
            self.transport.pause_reading()
            return
        self.server.heard(self)
        frames = self._frames or ClientFrames(
            max_message=self.server.limits.max_client_message, deflate=self._deflate
        )
        try:
            events = frames.feed(data)
        except FrameError as error:
            self.end(error.code, error.reason, "protocol_error")
            self.transport.pause_reading()
            return
        self._frames = None if frames.idle else frames
        # Answering costs as much as reading half a kilobyte.
        self.input_bytes += len(events) * EVENT_BYTES
        for event in events:
            match event:
                case Ping(payload):
                    self._pong(payload)
                case CloseFrame(code, _):
                    self._closed_by_client(code)
                case _:
                    pass

    def _pong(self, payload: bytes) -> None:
        # A client that does not read gets no pongs either: they would be the private queue it must not have.
        if self.state is ConnectionState.OPEN and self.subscriber is not None and not self.subscriber.paused:
            self.transport.write(pong_frame(payload))

    def _closed_by_client(self, code: int | None) -> None:
        if self.state is ConnectionState.OPEN:
            self.end(CloseCode.NORMAL if code is None else code, "", "client_closed")
        self.transport.close()

    def ping(self, now: float) -> None:
        """Send a ping, unless one is unanswered or the socket is full, which is the budget's matter."""
        if self.subscriber is None or self.subscriber.paused:
            self.pinged_at = 0.0
        elif not self.pinged_at:
            self.pinged_at = now
            self.transport.write(_PING)
            self.server.hub.stats.pings += 1

    # -- the hub's Peer -------------------------------------------------------------------------------------

    def fileno(self) -> int:
        """The accepted socket; -1 when TLS stands between."""
        if self.server.secure:
            return -1
        # uvloop closes the socket after connection_lost, where the hub drops this client: it never writes to
        # a descriptor number that now belongs to another client.
        return int(self.transport.get_extra_info("socket").fileno())

    def write(self, data: bytes | memoryview) -> None:
        """Through the transport, which keeps what the socket does not take."""
        self.transport.write(data)

    def write_many(self, frames: Sequence[bytes]) -> None:
        """One gathering write; the frames stay shared."""
        if len(frames) == 1:
            self.transport.write(frames[0])
        else:
            self.transport.writelines(frames)

    def buffered(self) -> int:
        """Bytes the kernel has not taken."""
        return self.transport.get_write_buffer_size()

    def end(self, code: int, reason: str, cause: str) -> None:
        """Send a close frame; the server aborts the connection if the client does not answer in time."""
        if self.state is not ConnectionState.OPEN:
            return
        self.state = ConnectionState.CLOSING
        self.cause = cause
        if self.subscriber is not None:
            self.server.hub.unsubscribe(self.subscriber)
        self.transport.write(close_frame(code, reason))
        self.server.closing(self)

    def _gone(self, cause: str) -> None:
        self.cause = cause
        self.abort()

    def abort(self) -> None:
        """Drop the socket now."""
        self.transport.abort()
