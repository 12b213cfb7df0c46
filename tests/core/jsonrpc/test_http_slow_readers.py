"""Clients that ask for much and read nothing: memory is bounded, others are served, in the end they go."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import resource
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import pytest
import uvloop
from support.raw_websocket import RawClient, client_frame, upgrade_request
from support.waiting import until, until_answered
from websockets.frames import CloseCode

from flashctl.core.jsonrpc.client import JsonRpcClient
from flashctl.core.jsonrpc.dispatch import RpcLimits
from flashctl.core.jsonrpc.errors import RpcError
from flashctl.core.jsonrpc.methods import Methods, Subscription
from flashctl.core.jsonrpc.outbound import GRACE_S, Outbound, OutboundShare
from flashctl.core.jsonrpc.server import RunningServer, serve
from flashctl.core.net.http1 import ClientLimits
from flashctl.errors import FlashctlError

SIZE = 8 << 20
READERS = 60
LIMIT = 32 << 20
LARGE = b'{"id":1,"method":"large"}'
REQUEST = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%b" % (len(LARGE), LARGE)


def resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


class Source:
    """A server's methods."""

    def __init__(self) -> None:
        self.asked = 0
        self.live: set[Subscription] = set()

    async def relay(self, method: str, request: bytes) -> bytes:
        self.asked += 1
        return b'{"jsonrpc":"2.0","id":1,"result":"' + b"x" * SIZE + b'"}'

    async def chain_id(self, params: list[Any]) -> Any:
        return "0x1"

    async def ticks(self, params: list[Any], subscription: Subscription) -> None:
        self.live.add(subscription)
        subscription.on_close(lambda: self.live.discard(subscription))

    def methods(self) -> Methods:
        table = Methods()
        table.register("eth_chainId", self.chain_id)
        table.register_subscription("eth", "ticks", self.ticks)
        return table


def deaf(port: int) -> socket.socket:
    """A connection whose client has room for nearly nothing."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect(("127.0.0.1", port))
    sock.setblocking(False)
    return sock


async def upgrade(sock: socket.socket) -> None:
    """Make a WebSocket of a connection, and read nothing after the handshake."""
    loop, head = asyncio.get_running_loop(), b""
    sock.send(upgrade_request())
    while not head.endswith(b"\r\n\r\n"):
        head += await loop.sock_recv(sock, 1)


def with_server(
    scenario: Callable[[Source, RunningServer, JsonRpcClient], Awaitable[None]], limits: RpcLimits
) -> None:
    async def main() -> None:
        source = Source()
        server = await serve(source.methods(), "127.0.0.1", 0, fallback=source.relay, limits=limits)
        client = JsonRpcClient(server.url, timeout_s=60)
        try:
            await scenario(source, server, client)
        finally:
            await client.close()
            await server.close()

    uvloop.run(main())


async def ended(server: RunningServer) -> None:
    """Wait until the server has ended every connection."""
    await until(lambda: not server._server.server_state.connections)


def resident_when_trimmed() -> int:
    """Memory of the process without what the C library keeps of what was freed, where it can be asked."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    return resident()


@pytest.mark.parametrize("transport", ["http", "websocket"])
def test_answers_that_nobody_reads(transport: str) -> None:
    async def scenario(source: Source, server: RunningServer, client: JsonRpcClient) -> None:
        gc.collect()
        before = resident()
        sockets = [deaf(server.port) for _ in range(READERS)]
        for sock in sockets:
            if transport == "http":
                sock.send(REQUEST * 2)
            else:
                await upgrade(sock)
                sock.send(client_frame(1, LARGE) * 2)
            await asyncio.sleep(0)
        most = 0
        while source.asked < READERS or most == 0:
            assert await client.call("eth_chainId") == "0x1"
            most = max(most, resident() - before)
        # What waits, the answers being made, and what the allocator has not given back of either.
        assert most < READERS * SIZE / 4
        await until(lambda: resident_when_trimmed() - before <= 3 * SIZE)
        for sock in sockets:
            sock.close()
        assert await client.call("eth_chainId") == "0x1"

    with_server(scenario, RpcLimits(outbound_total_bytes=LIMIT, write_s=1.5))


def test_notifications_that_nobody_reads() -> None:
    async def scenario(source: Source, server: RunningServer, client: JsonRpcClient) -> None:
        sock = deaf(server.port)
        await upgrade(sock)
        sock.send(client_frame(1, b'{"id":1,"method":"eth_subscribe","params":["ticks"]}'))
        await until(lambda: source.live)
        (subscription,) = source.live
        while not subscription.closed:
            subscription.notify("x" * 1000)
            await asyncio.sleep(0)
        await ended(server)
        sock.close()

    with_server(scenario, RpcLimits(outbound_bytes=1 << 30, write_s=0.3))


def test_no_further_request_is_begun_for_a_client_that_does_not_read() -> None:
    async def scenario(source: Source, server: RunningServer, client: JsonRpcClient) -> None:
        sock = deaf(server.port)
        await upgrade(sock)
        for _ in range(50):
            sock.send(client_frame(1, LARGE))
            # An answer on another connection: the loop has looked at this one in between.
            assert await client.call("eth_chainId") == "0x1"
        assert source.asked <= 3
        sock.close()

    with_server(scenario, RpcLimits(outbound_bytes=1 << 30, outbound_total_bytes=1 << 30))


def test_readers_that_are_merely_slow_get_all_of_it() -> None:
    async def scenario(source: Source, server: RunningServer, client: JsonRpcClient) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1 << 16)
        writer.write(REQUEST)
        await reader.readuntil(b"\r\n\r\n")
        got = 0
        while got < SIZE:
            got += len(await reader.read(1 << 18))
            await asyncio.sleep(0.005)  # a slow reader
        writer.close()

    with_server(scenario, RpcLimits(write_s=0.2))


def test_connections_of_one_address() -> None:
    async def scenario(source: Source, server: RunningServer, client: JsonRpcClient) -> None:
        held = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(3)]
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        assert (await reader.read()).endswith(b"too many connections from this address")
        writer.close()
        reader, other = await asyncio.open_connection("127.0.0.1", server.port, local_addr=("127.0.0.2", 0))
        other.write(REQUEST.replace(LARGE, b'{"id":1,"method":"net_ping"}').replace(b": 25", b": 28"))
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        other.close()
        # A WebSocket is a connection as any, and leaves its place behind.
        upgraded, third = held.pop()
        third.write(upgrade_request())
        await upgraded.readuntil(b"\r\n\r\n")
        third.close()

        async def served() -> bool:
            try:
                return bool(await client.call("eth_chainId") == "0x1")
            except FlashctlError:  # the server has not seen yet that it left
                return False

        await until_answered(served)
        for _, each in held:
            each.close()

    with_server(scenario, RpcLimits(connections_per_address=3))


def test_bodies_half_sent() -> None:
    """All that are being received together have a limit, and leave their room behind."""

    async def scenario(source: Source, server: RunningServer, client: JsonRpcClient) -> None:
        half = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 900000\r\n\r\n" + bytes(400_000)
        held = []
        for _ in range(2):
            _, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(half)
            held.append(writer)
        app = server._server.config.app
        await until(lambda: app._inbound == 800_000)  # type: ignore[union-attr]
        reader, third = await asyncio.open_connection("127.0.0.1", server.port)
        third.write(half)
        assert b"503" in await reader.readline()
        third.close()
        for writer in held:
            writer.close()
        await until(lambda: app._inbound == 0)  # type: ignore[union-attr]
        assert await client.call("eth_chainId", ["x" * 900_000]) == "0x1"

    with_server(scenario, RpcLimits(inbound_total_bytes=1_000_000))


@pytest.mark.parametrize("fin", [True, False], ids=["frame", "fragments"])
def test_websocket_messages_half_sent(fin: bool) -> None:
    """All together have a limit: the oldest go when others need the room, and leave it behind."""

    async def scenario(source: Source, server: RunningServer, client: JsonRpcClient) -> None:
        half = (
            client_frame(1, bytes(900_000))[:400_000] if fin else client_frame(1, bytes(400_000), fin=False)
        )
        held = [await RawClient.connect(server.port) for _ in range(2)]
        for each in held:
            each.send(half)
        inbound = server._server.config.ws_protocol_class.inbound  # type: ignore[union-attr]
        await until(lambda: inbound.used >= 799_900)  # without heads of frames
        third = await RawClient.connect(server.port)
        third.send(half)
        assert (await third.closed()).close_code == CloseCode.TRY_AGAIN_LATER
        for share in inbound._shares:
            share.moved_at -= GRACE_S
        # Who sends the whole of a message is answered.
        async with await RawClient.connect(server.port) as live:
            live.send(client_frame(1, b'{"id":1,"method":"eth_chainId","params":["%b"]}' % (b"x" * 900_000)))
            assert orjson.loads((await live.frame()).payload)["result"] == "0x1"
        for each in held:
            assert (await each.closed()).close_code == CloseCode.TRY_AGAIN_LATER
        assert await client.call("eth_chainId") == "0x1"

    with_server(scenario, RpcLimits(inbound_total_bytes=1_000_000))


def test_a_server_full_of_readers_refuses_and_says_so() -> None:
    async def scenario(source: Source, server: RunningServer, client: JsonRpcClient) -> None:
        large = client.relay("eth_large", b'{"id":1,"method":"eth_large"}')
        assert len(await large) > SIZE, "always room for one"
        sock = deaf(server.port)
        sock.send(REQUEST)
        await until(lambda: source.asked == 2)
        assert await client.call("eth_chainId") == "0x1"
        with pytest.raises(RpcError, match="too many large answers are being read"):
            await client.call("eth_large")
        assert await client.call("eth_chainId") == "0x1"
        sock.close()

    with_server(scenario, RpcLimits(outbound_total_bytes=SIZE * 3 // 2))


class TestOutbound:
    """Who goes when there is no room: the largest that stands still."""

    def test_who_goes(self) -> None:
        now, dropped = 0.0, []
        outbound = Outbound(100, lambda: now)

        def join(name: str) -> OutboundShare:
            return outbound.join(lambda: dropped.append(name))

        small, large, moving, new = map(join, ("small", "large", "moving", "new"))
        assert small.add(20) and large.add(30) and moving.add(40)
        now = GRACE_S
        moving.sub(10)
        assert new.add(20)
        assert not dropped
        assert new.add(10)
        assert dropped == ["large"] and outbound.used == 20 + 30 + 30
        assert not new.add(50)
        assert dropped == ["large", "small"] and outbound.used == 30 + 80
        new.release()
        new.release()
        large.sub(30)
        assert outbound.used == 30
        moving.release()
        assert outbound.used == 0


def test_many_honest_readers() -> None:
    """As many large answers at once as there is room for are read to their end."""

    async def scenario(source: Source, server: RunningServer, client: JsonRpcClient) -> None:
        many = JsonRpcClient(server.url, timeout_s=60, limits=ClientLimits(connections=4))
        answers = await asyncio.gather(
            *(many.relay("eth_large", orjson.dumps({"id": 1, "method": "eth_large"})) for _ in range(12))
        )
        assert {len(answer) for answer in answers} == {len(b'{"jsonrpc":"2.0","id":1,"result":""}') + SIZE}
        await many.close()

    with_server(scenario, RpcLimits(outbound_total_bytes=6 * SIZE))
