"""A hub behind a real listener, and clients that are slow on purpose."""

from __future__ import annotations

import array
import asyncio
import fcntl
import json
import socket
import termios
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from support.proxy_lab import run
from support.raw_websocket import RawClient, upgrade_request
from support.waiting import until
from websockets.asyncio.client import ClientConnection
from websockets.frames import Frame, Opcode
from websockets.protocol import Event

from flashctl.core.hub import Hub, HubLimits, HubServer, serve
from flashctl.core.hub.connection import Connection

__all__ = [
    "QUICK", "PingCounter", "Stuck", "message", "publish", "run", "serving", "small_send_buffers", "unread",
    "unsent", "until",
]  # fmt: skip

QUICK = HubLimits(handshake_s=0.4, close_s=0.3, ping_interval_s=0)


@asynccontextmanager
async def serving(hub: Hub, **settings: Any) -> AsyncIterator[HubServer]:
    """A listener for `hub` with short deadlines; closed at the end."""
    server = await serve(hub, "127.0.0.1", 0, **{"limits": QUICK, **settings})
    try:
        yield server
    finally:
        await server.close(timeout_s=0.5)


def message(block: int, index: int, size: int = 0) -> bytes:
    """A message that says where it belongs, of about `size` bytes."""
    return json.dumps({"block": block, "index": index, "padding": "x" * size}).encode()


def publish(hub: Hub, block: int, index: int, size: int = 0, binary: bool = False) -> bytes:
    """Publish one and return its bytes."""
    data = message(block, index, size)
    hub.publish(data, binary=binary, payload_id=f"0x{block:x}", index=index, block_number=block)
    return data


class Stuck(RawClient):
    """A client that never reads, with as little room in its socket as the kernel allows."""

    @classmethod
    async def connect(
        cls, port: int, path: str = "/ws", headers: Mapping[str, str | None] | None = None
    ) -> Stuck:
        raw = socket.socket()
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.connect(("127.0.0.1", port))
        raw.sendall(upgrade_request(path, headers))
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += await asyncio.to_thread(raw.recv, 1)
        reader = asyncio.StreamReader(limit=4096)
        raw.setblocking(False)
        client = cls(reader, None)  # type: ignore[arg-type]
        client.raw = raw
        return client

    raw: socket.socket

    def close(self) -> None:
        self.raw.close()

    async def start_reading(self) -> None:
        """Become an ordinary client."""
        self.reader, self.writer = await asyncio.open_connection(sock=self.raw)


class PingCounter(ClientConnection):
    """A client of the library that counts the pings which it answers; for `create_connection`."""

    pings = 0

    def process_event(self, event: Event) -> None:
        self.pings += isinstance(event, Frame) and event.opcode is Opcode.PING
        super().process_event(event)


def _queued(sock: socket.socket, request: int) -> int:
    found = array.array("i", [0])
    fcntl.ioctl(sock.fileno(), request, found)
    return found[0]


def unread(connection: Connection) -> int:
    """Bytes that a client has sent and the server has not read yet; 0 for a connection that is closed."""
    sock = connection.transport.get_extra_info("socket")
    return 0 if sock is None or sock.fileno() < 0 else _queued(sock, termios.FIONREAD)


def unsent(sock: socket.socket) -> int:
    """Bytes that a socket has taken and the peer's kernel has not yet."""
    return _queued(sock, termios.TIOCOUTQ)


def small_send_buffers(server: HubServer) -> None:
    """Let sockets fill up after a few messages instead of megabytes."""
    for connection in server.connections():
        raw = connection.transport.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
