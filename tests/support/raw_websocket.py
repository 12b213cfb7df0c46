"""A WebSocket client that can misbehave: tests say what goes over the wire, byte for byte."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["Gone", "RawClient", "RawFrame", "client_frame", "http", "upgrade_request"]

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
"""The nonce of RFC 6455 section 1.3, whose answer is s3pPLMBiTxaQ9kYGzzhZRbK+xOo=."""

MASK = b"\x12\x34\x56\x78"


class Gone(Exception):
    """The server closed the socket."""


@dataclass(frozen=True)
class RawFrame:
    """One frame as it arrived."""

    opcode: int
    payload: bytes
    rsv1: bool = False

    @property
    def close_code(self) -> int:
        """Of a close frame."""
        return int(struct.unpack_from("!H", self.payload)[0])

    @property
    def close_reason(self) -> str:
        """Of a close frame."""
        return self.payload[2:].decode()


def upgrade_request(path: str = "/ws", headers: Mapping[str, str | None] | None = None) -> bytes:
    """A handshake; a header given as None is left out."""
    fields: dict[str, str | None] = {
        "Host": "test",
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": KEY,
        "Sec-WebSocket-Version": "13",
        **(headers or {}),
    }
    lines = [f"GET {path} HTTP/1.1"] + [f"{k}: {v}" for k, v in fields.items() if v is not None]
    return "\r\n".join([*lines, "", ""]).encode()


def client_frame(
    opcode: int, payload: bytes = b"", *, fin: bool = True, masked: bool = True, rsv: int = 0
) -> bytes:
    """A frame as a client sends it, or as it must not."""
    first = (0x80 if fin else 0) | rsv | opcode
    flag = 0x80 if masked else 0
    if len(payload) < 126:
        head = bytes((first, flag | len(payload)))
    elif len(payload) < 1 << 16:
        head = struct.pack("!BBH", first, flag | 126, len(payload))
    else:
        head = struct.pack("!BBQ", first, flag | 127, len(payload))
    if not masked:
        return head + payload
    return head + MASK + bytes(byte ^ MASK[number % 4] for number, byte in enumerate(payload))


class RawClient:
    """A connection; `async with RawClient.connect(port) as client`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.head = ""

    @classmethod
    async def open(cls, port: int) -> RawClient:
        """A TCP connection, nothing sent."""
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    @classmethod
    async def connect(
        cls, port: int, path: str = "/ws", headers: Mapping[str, str | None] | None = None
    ) -> RawClient:
        """A connection whose handshake succeeded."""
        client = await cls.open(port)
        client.writer.write(upgrade_request(path, headers))
        client.head = (await asyncio.wait_for(client.reader.readuntil(b"\r\n\r\n"), 60)).decode()
        assert client.head.startswith("HTTP/1.1 101 "), client.head
        return client

    async def __aenter__(self) -> RawClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Drop the connection."""
        self.writer.transport.abort()

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.writer.write(data)

    async def frame(self, within_s: float = 60.0) -> RawFrame:
        """The next frame.

        Raises:
            Gone: If the server closed the socket.
        """
        return await asyncio.wait_for(self._frame(), within_s)

    async def _frame(self) -> RawFrame:
        try:
            first, second = await self.reader.readexactly(2)
            length = second & 127
            assert not second & 128, "server frames are not masked"
            if length == 126:
                (length,) = struct.unpack("!H", await self.reader.readexactly(2))
            elif length == 127:
                (length,) = struct.unpack("!Q", await self.reader.readexactly(8))
            payload = await self.reader.readexactly(length)
        except (asyncio.IncompleteReadError, ConnectionError):
            raise Gone from None
        return RawFrame(first & 15, payload, bool(first & 0x40))

    async def frames(self, count: int) -> list[bytes]:
        """The payloads of the next `count` data frames."""
        found: list[bytes] = []
        while len(found) < count:
            frame = await self.frame()
            if frame.opcode in (1, 2):
                found.append(frame.payload)
        return found

    async def closed(self) -> RawFrame:
        """The close frame that ends the connection, whatever comes before it."""
        while (frame := await self.frame()).opcode != 8:
            pass
        return frame

    async def gone(self, within_s: float = 60.0) -> None:
        """Wait until the server has closed the socket."""

        async def read() -> None:
            try:
                while await self.reader.read(1 << 16):
                    pass
            except ConnectionError:
                pass

        await asyncio.wait_for(read(), within_s)


async def http(port: int, request: bytes) -> tuple[int, dict[str, str], bytes]:
    """Send a request, read the answer to its end: status, headers in lower case, body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    answer = await asyncio.wait_for(reader.read(), 60)
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    return int(status.split(" ")[1]), headers, body
