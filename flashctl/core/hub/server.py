"""The listening side of a hub: accepts, bounds what strangers may hold, keeps every deadline, drains.

One sweep, every SWEEP_S while there is a deadline, looks after all connections: handshakes that take too
long, unanswered close frames, pings that are due. Pings are spread over the interval, so that 5,000 clients
are not pinged at once.
"""

from __future__ import annotations

import asyncio
import math
import ssl
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from itertools import islice

from flashctl.core.hub.connection import Connection, ConnectionState
from flashctl.core.hub.encoding import Encoding
from flashctl.core.hub.framing import CloseCode
from flashctl.core.hub.handshake import Admission, HttpResponse, UpgradeRequest
from flashctl.core.hub.hub import Hub
from flashctl.core.hub.limits import HubLimits
from flashctl.core.net.listening import ListenFailed, listen_arguments

__all__ = ["Admit", "HubLimits", "HubServer", "Pages", "serve"]

SWEEP_S = 0.25
NOISE_S = 1.0
"""Over which `max_input_per_s` is counted."""

MAX_CUT_OFF = 64
CUT_OFF_AGAIN_S = 0.01
"""Connections past their deadline are cut off so many at a time, with a pause: a thousand slow handshakes
that came together also come due together, 12 to 28 ms in which no client would be served (1.6 ms this
way)."""

PING_SLICES = 16
"""Connections are pinged in so many groups per interval."""

READ_BYTES = 16 << 10
"""Read from a client at once: the longest request head, or more pongs than any client owes."""

ACCEPT_BACKLOG = 4096
"""Cut down by net.core.somaxconn; a reconnect storm after a restart must not meet refusals."""

Admit = Callable[[UpgradeRequest], Admission | HttpResponse | Awaitable[Admission | HttpResponse]]
Pages = Callable[[UpgradeRequest], HttpResponse | None]


async def serve(
    hub: Hub,
    host: str,
    port: int,
    *,
    admit: Admit | None = None,
    pages: Pages | None = None,
    tls: ssl.SSLContext | None = None,
    limits: HubLimits | None = None,
    encodings: frozenset[Encoding] = frozenset({Encoding.DEFLATE, Encoding.BROTLI, Encoding.ZSTD}),
    subscriber_limit: int | None = None,
) -> HubServer:
    """Serve `hub` on a WebSocket listener; port 0 takes any.

    Args:
        admit: Decides about each request that no page answers; by default every path is the stream.
        pages: Plain HTTP answers on the same port (`/healthz`, …); None from it means "not a page".
        encodings: Compressions a client may choose.
        subscriber_limit: Clients beyond it are closed with 1013, as op-rbuilder does.

    Raises:
        ListenFailed: If the address cannot be bound.
    """
    server = HubServer(
        hub, admit=admit, pages=pages, limits=limits, encodings=encodings, subscriber_limit=subscriber_limit
    )
    await server.listen(host, port, tls)
    return server


class HubServer:
    """A running listener; made by `serve`."""

    def __init__(
        self,
        hub: Hub,
        *,
        admit: Admit | None = None,
        pages: Pages | None = None,
        limits: HubLimits | None = None,
        encodings: frozenset[Encoding] = frozenset(),
        subscriber_limit: int | None = None,
    ) -> None:
        self.hub = hub
        self.limits = limits or HubLimits()
        self.encodings = encodings
        self.host = ""
        self.port = 0
        self.secure = False
        self.handshake_exempt: Callable[[str], bool] = lambda _address: False
        """Addresses `max_handshakes_per_ip` does not apply to: a load balancer has all connections from one
        address."""
        self.input_buffer = memoryview(bytearray(READ_BYTES))
        """What clients send arrives here, one at a time."""
        self.noisy: set[Connection] = set()
        """Connections that sent something since the last look."""
        self._admit = admit or self._admit_all
        self._pages = pages
        self._subscriber_limit = subscriber_limit
        self._handshakes: dict[Connection, float] = {}
        self._handshakes_by_ip: Counter[str] = Counter()
        self._closing: dict[Connection, float] = {}
        self._open: tuple[set[Connection], ...] = tuple(set() for _ in range(PING_SLICES))
        self._next_bucket = 0
        self._next_ping_slice = 0
        self._ping_due = 0.0
        self._noise_due = 0.0
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._sweep_timer: asyncio.TimerHandle | None = None
        self._pong_check_due = 0.0
        self._emptied = asyncio.Event()

    @property
    def url(self) -> str:
        """Where a client connects."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'wss' if self.secure else 'ws'}://{host}:{self.port}"

    async def listen(self, host: str, port: int, tls: ssl.SSLContext | None = None) -> None:
        """Bind and begin to accept.

        Raises:
            ListenFailed: If the address cannot be bound.
        """
        loop = asyncio.get_running_loop()
        self.secure = tls is not None
        try:
            self._server = await loop.create_server(
                lambda: Connection(self),
                **listen_arguments(host, port, backlog=ACCEPT_BACKLOG),
                ssl=tls,
                ssl_handshake_timeout=self.limits.handshake_s if tls else None,
            )
        except OSError as error:
            raise ListenFailed(host, port, error) from None
        self.host = host
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self, reason: str = "server shutting down", *, timeout_s: float = 2.0) -> None:
        """Accept no more, flush, send 1001 to all clients and wait for their answers, then drop the rest."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        self.hub.closing = True
        self.hub.flush()
        for connection in tuple(self._handshakes):
            connection.abort()
        for connection in self.connections():
            connection.end(CloseCode.GOING_AWAY, reason, "shutdown")
        self._emptied.clear()
        if self._closing:
            try:
                await asyncio.wait_for(self._emptied.wait(), timeout_s)
            except TimeoutError:
                pass
        for connection in tuple(self._closing):
            connection.abort()
        if self._sweep_timer is not None:
            self._sweep_timer.cancel()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.sleep(0)

    def connections(self) -> list[Connection]:
        """Every open connection."""
        return [connection for bucket in self._open for connection in bucket]

    # -- called by connections ------------------------------------------------------------------------------

    def arrived(self, connection: Connection) -> None:
        """A socket was accepted; its handshake deadline starts."""
        limits = self.limits
        address = connection.address
        self._handshakes[connection] = time.monotonic() + limits.handshake_s
        self._arm(SWEEP_S)
        self._handshakes_by_ip[address] += 1
        if self._handshakes_by_ip[address] > limits.max_handshakes_per_ip and not self.handshake_exempt(
            address
        ):
            connection.abort()
        elif len(self._handshakes) > limits.max_handshakes:
            next(iter(self._handshakes)).abort()

    def page_for(self, request: UpgradeRequest) -> HttpResponse | None:
        """The plain HTTP answer to `request`, if it is for a page."""
        return None if self._pages is None else self._pages(request)

    def admit(
        self, request: UpgradeRequest
    ) -> Admission | HttpResponse | Awaitable[Admission | HttpResponse]:
        """Whether the requester may join."""
        if self._subscriber_limit is not None and self.hub.stats.subscribers >= self._subscriber_limit:
            return Admission(
                close=(
                    CloseCode.TRY_AGAIN_LATER,
                    "subscriber limit reached, please try again later",
                )
            )
        return self._admit(request)

    @staticmethod
    def _admit_all(request: UpgradeRequest) -> Admission | HttpResponse:
        return request.upgrade_problem() or Admission()

    def heard(self, connection: Connection) -> None:
        """The client sent something; how much is looked at once a second."""
        if not self.noisy and self._sweep_timer is None:
            self._arm(NOISE_S)
        self.noisy.add(connection)

    def spawn(self, work: Coroutine[object, object, None]) -> None:
        """Run an admission that has to wait; cancelled at shutdown."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def opened(self, connection: Connection) -> None:
        """The handshake is complete."""
        self._end_handshake(connection)
        self._open[self._next_bucket].add(connection)
        self._next_bucket = (self._next_bucket + 1) % PING_SLICES

    def closing(self, connection: Connection) -> None:
        """A close frame or the last answer is on its way."""
        self._end_handshake(connection)
        for bucket in self._open:
            bucket.discard(connection)
        self._closing[connection] = time.monotonic() + self.limits.close_s
        self._arm(SWEEP_S)

    def left(self, connection: Connection) -> None:
        """The socket is closed."""
        self.hub.stats.ended[connection.cause] += 1
        self._end_handshake(connection)
        for bucket in self._open:
            bucket.discard(connection)
        self.noisy.discard(connection)
        self._closing.pop(connection, None)
        if not self._closing:
            self._emptied.set()

    def _end_handshake(self, connection: Connection) -> None:
        if self._handshakes.pop(connection, None) is not None:
            self._handshakes_by_ip[connection.address] -= 1
            if not self._handshakes_by_ip[connection.address]:
                del self._handshakes_by_ip[connection.address]

    # -- deadlines ------------------------------------------------------------------------------------------

    def _arm(self, delay_s: float) -> None:
        """Sweep in `delay_s`, unless that is going to happen sooner anyway."""
        loop = asyncio.get_running_loop()
        if self._sweep_timer is not None:
            if self._sweep_timer.when() <= loop.time() + delay_s:
                return
            self._sweep_timer.cancel()
        self._sweep_timer = loop.call_later(delay_s, self._sweep_again)

    def _sweep_again(self) -> None:
        self._sweep_timer = None
        now = time.monotonic()
        self.sweep(now)
        if self._next_deadline() <= now:
            self._arm(CUT_OFF_AGAIN_S)
            return
        # Waking for nothing is not free: 0.2 ms of CPU, as much as a message to twenty clients.
        if self._handshakes or self._closing:
            self._arm(SWEEP_S)
        elif any(self._open) and self.limits.ping_interval_s > 0:
            self._arm(max(0.02, min(1.0, self.limits.ping_interval_s / PING_SLICES)))
        elif self.noisy:
            self._arm(NOISE_S)

    def _next_deadline(self) -> float:
        waiting = (self._handshakes, self._closing)
        return min((next(iter(deadlines.values())) for deadlines in waiting if deadlines), default=math.inf)

    def sweep(self, now: float) -> None:
        """Enforce the deadlines that have passed, of MAX_CUT_OFF connections at most."""
        for deadlines, cause in ((self._handshakes, "handshake_timeout"), (self._closing, None)):
            # Both are in the order of their deadlines, since every entry waits equally long.
            for connection, deadline in tuple(islice(deadlines.items(), MAX_CUT_OFF)):
                if deadline > now:
                    break
                if cause is not None:
                    connection.cause = cause
                connection.abort()
        if now >= self._noise_due:
            self._noise_due = now + NOISE_S
            for connection in self.noisy:
                connection.input_bytes = 0
            self.noisy.clear()
        if self.limits.ping_interval_s > 0:
            self._ping(now)

    def _ping(self, now: float) -> None:
        slice_s = self.limits.ping_interval_s / PING_SLICES
        if now - self._ping_due > self.limits.ping_interval_s:
            self._ping_due = now  # the first sweep, or the first after a time without clients
        while self._ping_due <= now:
            for connection in self._open[self._next_ping_slice]:
                connection.ping(now)
            self._next_ping_slice = (self._next_ping_slice + 1) % PING_SLICES
            self._ping_due += slice_s
        # Checking every client takes 0.3 ms at 5,000 clients: not at every sweep.
        if now < self._pong_check_due:
            return
        self._pong_check_due = now + min(1.0, self.limits.pong_timeout_s / 8)
        oldest = now - self.limits.pong_timeout_s
        for connection in self.connections():
            if (
                connection.pinged_at
                and connection.pinged_at < oldest
                and connection.state is ConnectionState.OPEN
            ):
                connection.end(
                    CloseCode.POLICY,
                    f"no pong for {self.limits.pong_timeout_s:g} s",
                    "pong_timeout",
                )
