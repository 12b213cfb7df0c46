"""What uvicorn leaves open, closed: head size, header time-out, number of connections, deaf clients.

uvicorn reads a request head of any length, waits for it for ever, accepts without limit, and gives an
application no way to drop a WebSocket whose client stopped reading. These are the cheapest ways to exhaust
a service from outside, so they are bounded here, in subclasses of its protocols. Nothing else of uvicorn
is touched.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from flashctl.core.jsonrpc.dispatch import ServerLimits

__all__ = ["ABORT", "BoundedWebSocket", "EmbeddedServer", "bounded_protocol"]

ABORT = "flashctl.abort"
"""The ASGI extension of a WebSocket scope that drops the connection without flushing it."""


CLOSE_POLL_S = 0.005
"""How often a closing server looks whether its connections are gone."""


class EmbeddedServer(uvicorn.Server):
    """uvicorn as a guest in a running loop: signals stay with whoever runs the loop.

    Its main loop, which polls ten times a second for a signal and refreshes a Date header we do not send,
    becomes the wait for `stop`.
    """

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Start the graceful shutdown."""
        self._stopping.set()

    async def main_loop(self) -> None:
        """Serve until `stop`."""
        await self._stopping.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop listening, let requests under way finish within the graceful time, drop what is left.

        Instead of uvicorn's, which polls every 100 ms and leaves connections behind that do not close.
        """
        loop = asyncio.get_running_loop()
        state = self.server_state
        deadline = loop.time() + (self.config.timeout_graceful_shutdown or 0)
        for server in self.servers:
            server.close()
        for connection in tuple(state.connections):
            connection.shutdown()
        while (state.connections or state.tasks) and loop.time() < deadline:  # noqa: ASYNC110 - two sets of uvicorn
            await asyncio.sleep(CLOSE_POLL_S)
        for task in tuple(state.tasks):
            task.cancel()
        for connection in tuple(state.connections):
            connection.transport.abort()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Install nothing."""
        yield


class BoundedWebSocket(WebSocketsSansIOProtocol):
    """uvicorn's WebSocket protocol, able to abort."""

    async def run_asgi(self) -> None:
        """Run the application with `ABORT` in its scope."""
        extensions: dict[str, Any] = self.scope["extensions"]
        extensions[ABORT] = self.transport.abort
        await super().run_asgi()


def bounded_protocol(limits: ServerLimits) -> type[asyncio.Protocol]:
    """uvicorn's HTTP protocol under `limits`."""

    class BoundedProtocol(HttpToolsProtocol):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self._head_bytes = 0
            self._receiving_since: float | None = None
            """When the request now arriving began; None between requests and while one is answered."""
            self._timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            if len(self.connections) > limits.connections:
                self._refuse(503, "Service Unavailable", "too many connections")
                return
            self._receiving_since = self.loop.time()
            # One timer for the life of the connection, not one for each request: that costs 2 us each.
            self._timer = self.loop.call_later(limits.request_s, self._check_progress)

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_timer()
            super().connection_lost(exc)

        def handle_websocket_upgrade(self) -> None:
            self._stop_timer()
            super().handle_websocket_upgrade()

        def on_message_begin(self) -> None:
            self._head_bytes = 0
            if self._receiving_since is None:
                self._receiving_since = self.loop.time()
            super().on_message_begin()

        def on_url(self, url: bytes) -> None:
            self._count_head(len(url))
            super().on_url(url)

        def on_header(self, name: bytes, value: bytes) -> None:
            self._count_head(len(name) + len(value) + 4)
            super().on_header(name, value)

        def on_message_complete(self) -> None:
            self._receiving_since = None
            super().on_message_complete()

        def _check_progress(self) -> None:
            now = self.loop.time()
            since = now if self._receiving_since is None else self._receiving_since
            due = since + limits.request_s
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
            if self._head_bytes > limits.head_bytes:
                # Out through feed_data, which uvicorn answers with 400 and closes.
                raise ValueError("request head too large")

        def _refuse(self, status: int, phrase: str, text: str) -> None:
            if self.transport.is_closing():
                return
            self.transport.write(
                f"HTTP/1.1 {status} {phrase}\r\ncontent-type: text/plain\r\n"
                f"content-length: {len(text)}\r\nconnection: close\r\n\r\n{text}".encode()
            )
            self.transport.close()

    return BoundedProtocol
