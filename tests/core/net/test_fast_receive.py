"""Messages in the socket's callback: the same, in the same order, as the usual way."""

from __future__ import annotations

import asyncio
import random
import struct
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from support.proxy_lab import run
from support.waiting import turns, until
from websockets.utils import accept_key

from flashctl.core.flashblocks import client
from flashctl.core.flashblocks.client import Connected, Disconnected, StreamFrame, StreamOptions, subscribe
from flashctl.core.hub.framing import data_frame
from flashctl.core.net.fast_receive import DirectConnection
from flashctl.core.net.keepalive import KeepAlive, LinkStats


class Script:
    """A server that answers the handshake and then writes exactly what a test says."""

    def __init__(self) -> None:
        self.writer: asyncio.StreamWriter | None = None
        self.greeting = b""
        """Sent in one piece with the answer to the handshake."""
        self.port = 0
        self.received = b""
        """After the handshake."""

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Script]:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            request = (await reader.readuntil(b"\r\n\r\n")).decode()
            key = next(line.split(": ")[1] for line in request.split("\r\n") if "Key:" in line)
            writer.write(
                b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Accept: " + accept_key(key).encode() + b"\r\n\r\n" + self.greeting
            )
            self.writer = writer
            while (data := await reader.read(4096)) and data[0] != 0x88:
                self.received += data
            writer.close()

        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            if self.writer is not None and not self.writer.is_closing():
                self.writer.transport.abort()
            server.close()

    async def write(self, data: bytes, sizes: list[int] | None = None) -> None:
        """Write, in pieces of the given sizes."""
        assert self.writer is not None
        for size in sizes or [len(data)]:
            self.writer.write(data[:size])
            data = data[size:]
            await turns()
        if data:
            self.writer.write(data)


def server_frame(first: int, payload: bytes) -> bytes:
    if len(payload) < 126:
        return bytes((first, len(payload))) + payload
    if len(payload) < 1 << 16:
        return struct.pack("!BBH", first, 126, len(payload)) + payload
    return struct.pack("!BBQ", first, 127, len(payload)) + payload


class Reader:
    """Everything a subscription delivers, in the order it comes, and which way it came."""

    def __init__(self) -> None:
        self.messages: list[tuple[bytes, bool]] = []
        self.direct = 0
        self.frames: list[bytes | None] = []
        self.last: list[bool] = []
        self.reasons: list[str] = []
        self.connected = asyncio.Event()

    async def follow(self, port: int, **settings: object) -> None:
        options = StreamOptions(direct=self.take, reconnect=False, **settings)  # type: ignore[arg-type]
        async for item in subscribe(f"ws://127.0.0.1:{port}/", options):
            match item:
                case StreamFrame(data, binary):
                    self.messages.append((data, binary))
                case Connected():
                    self.connected.set()
                case Disconnected(_, reason):
                    self.reasons.append(reason)

    def take(self, data: bytes, binary: bool, frame: bytes | None, last: bool) -> None:
        self.direct += 1
        self.frames.append(frame)
        self.last.append(last)
        self.messages.append((data, binary))


@asynccontextmanager
async def reading(script: Script, **settings: object) -> AsyncIterator[Reader]:
    reader = Reader()
    async with script.serving():
        task = asyncio.create_task(reader.follow(script.port, **settings))
        await reader.connected.wait()
        await turns()
        yield reader
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


TEXT, BINARY = 0x81, 0x82


def test_messages_go_the_direct_way() -> None:
    async def test() -> None:
        script = Script()
        async with reading(script) as reader:
            await script.write(server_frame(TEXT, b"one") + server_frame(BINARY, b"\xff"))
            await until(lambda: len(reader.messages) == 2)
            assert reader.messages == [(b"one", False), (b"\xff", True)]
            assert reader.direct == 2
            assert reader.frames == [server_frame(TEXT, b"one"), server_frame(BINARY, b"\xff")]

    run(test)


def test_the_frame_is_the_one_that_a_server_would_make() -> None:
    longer = b"\x81\x7e\x00\x03abc"  # 16 bits of length where 7 would do
    longest = b"\x82\x7f" + (200).to_bytes(8, "big") + b"b" * 200
    messages = [b"", b"a" * 125, b"a" * 126, b"a" * 0xFFFF, b"a" * 0x10000]

    async def test() -> None:
        script = Script()
        async with reading(script) as reader:
            await script.write(longer + longest)
            await until(lambda: len(reader.messages) == 2)
            assert reader.frames == [None, None]
            assert reader.last == [False, True]
            for message in messages:
                await script.write(server_frame(TEXT, message))
                await until(lambda message=message: reader.messages[-1] == (message, False))
            assert reader.frames[2:] == [data_frame(message, binary=False) for message in messages]
            assert all(reader.last[2:])

    run(test)


def test_what_is_not_all_there_makes_no_message_the_last() -> None:
    async def test() -> None:
        script = Script()
        async with reading(script) as reader:
            await script.write(server_frame(TEXT, b"one") + b"\x81")
            await until(lambda: len(reader.messages) == 1)
            await script.write(b"\x03two")
            await until(lambda: len(reader.messages) == 2)
            assert reader.last == [False, True]

    run(test)


class TestKeepAlive:
    """Its pings; the server of `Script` never answers by itself."""

    @staticmethod
    async def _answer(script: Script, ping: bytes) -> None:
        mask, payload = ping[2:6], ping[6:10]
        await script.write(server_frame(0x8A, bytes(a ^ b for a, b in zip(mask, payload, strict=True))))

    def test_one_an_interval_and_its_round_trip(self) -> None:
        async def test() -> None:
            script, link = Script(), LinkStats()
            async with reading(script, ping_interval_s=0.2, pong_timeout_s=5.0, link=link) as reader:
                for number in range(3):
                    await until(lambda number=number: len(script.received) == 10 * (number + 1))
                    ping = bytes(script.received[-10:])
                    assert ping[:2] == b"\x89\x84"
                    assert link.round_trip_s == 0.0, "not answered yet"
                    await self._answer(script, ping)
                    await until(lambda: link.round_trip_s > 0.0)
                    link.round_trip_s = 0.0
                assert link.pings == 3
                assert reader.reasons == []

        run(test)

    def test_a_message_takes_the_ping_along(self) -> None:
        async def test() -> None:
            script, link = Script(), LinkStats()
            made = []
            keep = KeepAlive.__init__

            def note(self: KeepAlive, *arguments: object, **settings: object) -> None:
                keep(self, *arguments, **settings)  # type: ignore[arg-type]
                made.append(self)

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(KeepAlive, "__init__", note)
                async with reading(
                    script, ping_interval_s=3600.0, pong_timeout_s=3600.0, link=link
                ) as reader:
                    await script.write(server_frame(TEXT, b"x"))
                    await until(lambda: len(reader.messages) == 1)
                    assert link.pings == 0, "not due"
                    made[0].due = time.monotonic()
                    await script.write(server_frame(TEXT, b"x"))
                    await until(lambda: link.pings == 1)
                    await until(lambda: len(script.received) == 10)

        run(test)

    def test_no_answer_is_the_end_even_while_data_flows(self) -> None:
        async def test() -> None:
            script = Script()
            async with reading(script, ping_interval_s=0.1, pong_timeout_s=0.2) as reader:

                def data_until_the_end() -> list[str]:
                    assert script.writer is not None
                    if not script.writer.is_closing():
                        script.writer.write(server_frame(TEXT, b"x"))
                    return reader.reasons

                await until(data_until_the_end)
                assert "ping timeout" in reader.reasons[0]

        run(test)

    def test_an_answer_may_come_between_fragments(self) -> None:
        async def test() -> None:
            script, link = Script(), LinkStats()
            async with reading(script, ping_interval_s=0.1, pong_timeout_s=5.0, link=link) as reader:
                await script.write(server_frame(0x01, b"be"))
                await until(lambda: len(script.received) == 10)
                await self._answer(script, bytes(script.received[-10:]))
                await until(lambda: link.pings == 2)
                assert reader.reasons == []

        run(test)


def test_what_comes_with_the_handshake_comes_first() -> None:
    async def test() -> None:
        script = Script()
        script.greeting = b"".join(server_frame(TEXT, b"%d" % number) for number in range(5))
        async with reading(script) as reader:
            await script.write(server_frame(TEXT, b"5"))
            await until(lambda: len(reader.messages) == 6)
            assert [data for data, _ in reader.messages] == [b"%d" % number for number in range(6)]
            assert reader.direct >= 1

    run(test)


@pytest.mark.parametrize("seed", range(6))
def test_any_mixture_in_any_pieces_arrives_in_order(seed: int) -> None:
    source = random.Random(seed)
    expected: list[tuple[bytes, bool]] = []
    stream = b""
    for _ in range(40):
        kind = source.choice(["text", "text", "binary", "ping", "fragments", "large"])
        payload = source.randbytes(source.choice([0, 1, 125, 126, 700])).hex().encode()
        if kind == "ping":
            stream += server_frame(0x89, payload[:100])
            continue
        if kind == "large":
            payload *= 60
        expected.append((payload, kind == "binary"))
        if kind == "fragments":
            middle = len(payload) // 2
            stream += server_frame(0x01, payload[:middle]) + server_frame(0x8A, b"pong")
            stream += server_frame(0x80, payload[middle:])
        else:
            stream += server_frame(BINARY if kind == "binary" else TEXT, payload)
    sizes = [source.choice([1, 2, 3, 9, 200, 5000]) for _ in range(80)]

    async def test() -> None:
        script = Script()
        async with reading(script, ping_interval_s=None) as reader:
            await script.write(stream, sizes)
            await until(lambda: len(reader.messages) >= len(expected))
            assert reader.messages == expected

    run(test)


def test_silence_is_counted_from_the_last_direct_message() -> None:
    async def test() -> None:
        script = Script()
        left: list[float] = []
        measure = client._patience_left

        def note(*arguments: Any) -> float:
            left.append(measure(*arguments))
            return left[-1]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(client, "_patience_left", note)
            async with reading(script, silence_timeout_s=1.0) as reader:

                def data_until_the_limit() -> bool:
                    assert script.writer is not None
                    script.writer.write(server_frame(TEXT, b"x"))
                    return bool(left)

                await until(data_until_the_limit)
                assert left[0] > 0 and reader.reasons == []
                await until(lambda: bool(reader.reasons))
                assert reader.reasons == ["no frame for 1 s"]

    run(test)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (server_frame(TEXT, b"\xff\xfe"), "invalid start byte"),
        (server_frame(TEXT, b"x" * 2000), "exceeds limit"),
        (server_frame(0x83, b""), "opcode"),
        (b"\xc1\x01x", "reserved"),
        (b"\x81\x83maskabc" + bytes(200), "masking"),
        (server_frame(0x88, b"\x03\xf5later"), "1013 later"),
    ],
)
def test_errors_are_the_librarys(data: bytes, reason: str) -> None:
    async def test() -> None:
        script = Script()
        async with reading(script, max_size=1000) as reader:
            await script.write(server_frame(TEXT, b"fine") + data)
            await until(lambda: bool(reader.reasons))
            assert reader.messages == [(b"fine", False)]
            assert reason in reader.reasons[0].lower()

    run(test)


def test_another_version_of_the_library_is_no_harm() -> None:
    async def test() -> None:
        script = Script()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(DirectConnection, "_library_is_idle", lambda self: False)
            async with reading(script) as reader:
                await script.write(server_frame(TEXT, b"one") + server_frame(TEXT, b"two"))
                await until(lambda: len(reader.messages) == 2)
                assert reader.direct == 0

    run(test)
