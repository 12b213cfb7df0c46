"""Fan-out in Python as one would write it without flashctl's hub; prints its port.

    python bench/fanout_peers.py broadcast ws://…      websockets' server and its `broadcast`
    python bench/fanout_peers.py transports ws://…     a frame made once, written to every asyncio transport

Both on uvloop, without compression, limits or a ring; bench/proxy.py runs them.
"""

from __future__ import annotations

import asyncio
import sys
from base64 import b64encode
from hashlib import sha1
from typing import ClassVar

import uvloop
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, broadcast, serve

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


async def by_broadcast(upstream: str) -> None:
    """`websockets.broadcast` to all connections."""
    clients: set[ServerConnection] = set()

    async def keep(client: ServerConnection) -> None:
        clients.add(client)
        try:
            await client.wait_closed()
        finally:
            clients.discard(client)

    async with serve(keep, "127.0.0.1", 0, compression=None, ping_interval=None, backlog=4096) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        async with connect(upstream, compression=None, max_size=None) as stream:
            async for message in stream:
                broadcast(clients, message)


class PlainClient(asyncio.Protocol):
    """A client after the handshake, whose frames are not looked at."""

    clients: ClassVar[set[asyncio.Transport]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.head = b""

    def data_received(self, data: bytes) -> None:
        if self.transport in self.clients:
            return
        self.head += data
        if b"\r\n\r\n" not in self.head:
            return
        lines = dict(line.split(b": ", 1) for line in self.head.split(b"\r\n")[1:] if b": " in line)
        key = {name.lower(): value for name, value in lines.items()}[b"sec-websocket-key"]
        accept = b64encode(sha1(key + GUID).digest())
        self.transport.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        self.clients.add(self.transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.clients.discard(self.transport)


def frame(message: str) -> bytes:
    """A text frame of a server."""
    data = message.encode()
    size = len(data)
    if size < 126:
        return bytes((0x81, size)) + data
    if size < 65536:
        return b"\x81\x7e" + size.to_bytes(2, "big") + data
    return b"\x81\x7f" + size.to_bytes(8, "big") + data


async def by_transports(upstream: str) -> None:
    """One frame, one `transport.write` for each client."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(PlainClient, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with connect(upstream, compression=None, max_size=None) as stream:
        async for message in stream:
            made = frame(message)
            for transport in PlainClient.clients:
                transport.write(made)


if __name__ == "__main__":
    uvloop.run({"broadcast": by_broadcast, "transports": by_transports}[sys.argv[1]](sys.argv[2]))
