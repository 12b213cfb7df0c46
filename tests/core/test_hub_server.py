"""The hub over real sockets: fan-out, late joiners, slow clients, hostile clients, the end."""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
import ssl
import zlib
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager

import brotli
import pytest
import uvloop
import websockets
import zstandard
from support.raw_websocket import Gone, RawClient, client_frame, http, upgrade_request

from flashctl.core.hub import (
    Admission,
    CloseCode,
    HttpResponse,
    Hub,
    HubOptions,
    HubServer,
    LagBudget,
    LagPolicy,
    ListenFailed,
    Request,
    ServerLimits,
    serve,
)

QUICK = ServerLimits(handshake_s=0.4, close_s=0.3, ping_interval_s=0)


def run(test: Callable[[], Awaitable[None]]) -> None:
    """Run a test on the loop the product runs on."""

    async def limited() -> None:
        async with asyncio.timeout(30):
            await test()

    uvloop.run(limited())


@asynccontextmanager
async def serving(hub: Hub, **settings):
    server = await serve(hub, "127.0.0.1", 0, **{"limits": QUICK, **settings})
    try:
        yield server
    finally:
        await server.close(timeout_s=0.5)


def message(block: int, index: int, size: int = 0) -> bytes:
    return json.dumps({"block": block, "index": index, "padding": "x" * size}).encode()


def publish(hub: Hub, block: int, index: int, size: int = 0, binary: bool = False) -> bytes:
    data = message(block, index, size)
    hub.publish(data, binary=binary, payload_id=f"0x{block:x}", index=index, block_number=block)
    return data


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - what is waited for is a counter of the product
        await asyncio.sleep(0.01)


class TestFanOut:
    def test_text_stays_text_and_binary_stays_binary(self) -> None:
        async def test() -> None:
            hub = Hub()
            async with serving(hub) as server, await RawClient.connect(server.port) as client:
                publish(hub, 1, 0)
                publish(hub, 1, 1, binary=True)
                assert (await client.frame()).opcode == 1
                assert (await client.frame()).opcode == 2

        run(test)

    def test_many_clients_get_everything_in_order(self) -> None:
        async def test() -> None:
            hub = Hub()
            async with serving(hub) as server:
                clients = [await RawClient.connect(server.port) for _ in range(50)]
                sent = [publish(hub, block, index) for block in range(5) for index in range(10)]
                for client in clients:
                    assert await client.frames(50) == sent
                assert hub.stats.deliveries == 2500
                for client in clients:
                    client.close()

        run(test)

    def test_a_burst_without_a_turn_of_the_loop(self) -> None:
        async def test() -> None:
            hub = Hub()
            async with serving(hub) as server, await RawClient.connect(server.port) as client:
                sent = [publish(hub, 1, index, size=20_000) for index in range(200)]
                assert await client.frames(200) == sent

        run(test)

    def test_nodelay_is_set(self) -> None:
        async def test() -> None:
            hub = Hub()
            async with serving(hub) as server, await RawClient.connect(server.port):
                (connection,) = server.connections()
                accepted = connection.transport.get_extra_info("socket")
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

        run(test)

    def test_the_order_rotates(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async def test() -> None:
            hub = Hub()
            async with serving(hub) as server:
                clients = [await RawClient.connect(server.port) for _ in range(5)]
                await until(lambda: hub.stats.subscribers == 5)
                order: list[int] = []

                def write(fd: int, data: bytes) -> int:
                    order.append(fd)
                    return len(data)

                monkeypatch.setattr("flashctl.core.hub.subscriber.os.write", write)
                first: set[int] = set()
                for index in range(20):
                    order.clear()
                    publish(hub, 1, index)
                    hub.flush()
                    assert len(set(order)) == len(order) == 5
                    first.add(order[0])
                monkeypatch.undo()
                assert len(first) == 5
                for client in clients:
                    client.close()

        run(test)

    def test_plain_asyncio_works_too(self) -> None:
        async def test() -> None:
            hub = Hub()
            async with serving(hub) as server, websockets.connect(server.url) as client:
                sent = publish(hub, 1, 0, size=900_000)
                assert await client.recv(decode=False) == sent

        asyncio.run(test())


class TestLateJoiners:
    def test_the_open_block_then_live_without_gap_or_repetition(self) -> None:
        async def test() -> None:
            hub = Hub()
            async with serving(hub) as server:
                for index in range(3):
                    publish(hub, 1, index)
                sent = [publish(hub, 2, index) for index in range(4)]
                async with await RawClient.connect(server.port) as client:
                    sent += [publish(hub, 2, index) for index in range(4, 8)]
                    assert await client.frames(8) == sent

        run(test)

    def test_joining_between_publish_and_flush(self) -> None:
        async def test() -> None:
            hub = Hub()
            async with serving(hub) as server, await RawClient.open(server.port) as client:
                client.send(upgrade_request())
                sent = []
                # The handshake is read somewhere in the middle of these.
                for index in range(200):
                    sent.append(publish(hub, 1, index))
                    if index % 10 == 0:
                        await asyncio.sleep(0)
                await client.reader.readuntil(b"\r\n\r\n")
                assert await client.frames(200) == sent

        run(test)

    def test_resume_after_a_position(self) -> None:
        async def test() -> None:
            hub = Hub()
            async with serving(hub) as server:
                sent = [publish(hub, block, index) for block in (1, 2) for index in range(5)]
                path = "/?block_number=1&flashblock_index=2"
                async with await RawClient.connect(server.port, path) as client:
                    sent.append(publish(hub, 2, 5))
                    assert await client.frames(8) == sent[3:]

        run(test)

    @pytest.mark.parametrize(
        "query", ["block_number=1", "block_number=x&flashblock_index=1", "block_number=-1&flashblock_index=1"]
    )
    def test_a_position_that_is_none_is_refused(self, query: str) -> None:
        async def test() -> None:
            async with serving(Hub()) as server:
                status, _, body = await http(server.port, upgrade_request(f"/?{query}"))
                assert status == 400
                assert b"flashblock_index" in body

        run(test)

    def test_replay_can_be_switched_off(self) -> None:
        async def test() -> None:
            hub = Hub(HubOptions(replay=False))
            async with serving(hub) as server:
                publish(hub, 1, 0)
                async with await RawClient.connect(server.port) as client:
                    live = publish(hub, 1, 1)
                    assert await client.frames(1) == [live]

        run(test)


class Stuck(RawClient):
    """A client that never reads, with as little room in its socket as the kernel allows."""

    @classmethod
    async def connect(cls, port: int, path: str = "/ws", headers=None) -> Stuck:
        raw = socket.socket()
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.connect(("127.0.0.1", port))
        raw.sendall(upgrade_request(path))
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


def small_send_buffers(server: HubServer) -> None:
    """Let sockets fill up after a few messages instead of megabytes."""
    for connection in server.connections():
        raw = connection.transport.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)


class TestSlowClients:
    def test_evicted_with_a_close_frame_that_says_why(self) -> None:
        async def test() -> None:
            hub = Hub(HubOptions(budget=LagBudget(max_messages=5, stall_s=60)))
            async with serving(hub, limits=ServerLimits(close_s=5, ping_interval_s=0)) as server:
                good = await RawClient.connect(server.port)
                slow = await Stuck.connect(server.port)
                small_send_buffers(server)
                sent = [publish(hub, 1, 0, size=100_000)]
                while hub.stats.subscribers == 2:
                    sent.append(publish(hub, 1, len(sent), size=100_000))
                    await good.frames(1)
                    await asyncio.sleep(0.02)
                assert len(sent) > 5
                await slow.start_reading()
                end = await slow.closed()
                assert end.close_code == CloseCode.TRY_AGAIN_LATER
                assert end.close_reason.startswith("lag: ")
                slow.close()
                good.close()

        run(test)

    def test_a_stalled_client_is_dropped_and_costs_no_copies(self) -> None:
        async def test() -> None:
            hub = Hub(HubOptions(budget=LagBudget(stall_s=0.2, max_messages=10_000)))
            async with serving(hub) as server, await Stuck.connect(server.port):
                await until(lambda: hub.stats.subscribers == 1)
                small_send_buffers(server)
                (connection,) = server.connections()
                index = 0
                while hub.stats.subscribers:
                    publish(hub, 1, index, size=50_000)
                    index += 1
                    await asyncio.sleep(0.01)
                    assert connection.buffered() <= 60_000, "one message at most is held for it"
                await until(lambda: hub.stats.ended["stalled"] == 1)

        run(test)

    def test_conflate_skips_to_an_index_0(self) -> None:
        async def test() -> None:
            budget = LagBudget(max_messages=4, stall_s=60, policy=LagPolicy.CONFLATE)
            hub = Hub(HubOptions(budget=budget))
            async with serving(hub) as server, await Stuck.connect(server.port) as slow:
                await until(lambda: hub.stats.subscribers == 1)
                small_send_buffers(server)
                for block in range(1, 40):
                    for index in range(5):
                        publish(hub, block, index, size=20_000)
                    await asyncio.sleep(0.02)
                await until(lambda: hub.stats.skipped > 0)
                await slow.start_reading()
                last = publish(hub, 100, 0)
                seen = []
                while not seen or seen[-1] != (100, 0):
                    frame = json.loads((await slow.frames(1))[0])
                    seen.append((frame["block"], frame["index"]))
                assert last
                jumps = [
                    (before, after)
                    for before, after in itertools.pairwise(seen)
                    if after != (before[0], before[1] + 1) and after != (before[0] + 1, 0)
                ]
                assert jumps, "it was skipped"
                assert all(after[1] == 0 for _, after in jumps), jumps
                assert seen == sorted(set(seen)), "in order, each once"
                assert hub.stats.subscribers == 1

        run(test)

    def test_a_client_that_catches_up_misses_nothing(self) -> None:
        async def test() -> None:
            hub = Hub(HubOptions(budget=LagBudget(max_messages=1000, stall_s=60)))
            async with serving(hub) as server, await Stuck.connect(server.port) as slow:
                await until(lambda: hub.stats.subscribers == 1)
                small_send_buffers(server)
                sent = []
                for index in range(100):
                    sent.append(publish(hub, 1, index, size=20_000))
                    await asyncio.sleep(0.002)
                assert hub.behind == 1
                await slow.start_reading()
                assert await slow.frames(100) == sent
                sent = publish(hub, 1, 100)
                assert await slow.frames(1) == [sent]
                assert hub.behind == 0

        run(test)


class TestPings:
    LIMITS = ServerLimits(ping_interval_s=0.2, pong_timeout_s=0.5, close_s=0.3)

    def test_a_client_that_does_not_answer_is_told_and_dropped(self) -> None:
        async def test() -> None:
            hub = Hub()
            async with (
                serving(hub, limits=self.LIMITS) as server,
                await RawClient.connect(server.port) as client,
            ):
                assert (await client.frame()).opcode == 9
                end = await client.closed()
                assert end.close_code == CloseCode.POLICY
                assert "pong" in end.close_reason
                await client.gone()
                await until(lambda: hub.stats.ended["pong_timeout"] == 1)

        run(test)

    def test_a_client_that_answers_stays(self) -> None:
        async def test() -> None:
            hub = Hub()
            async with serving(hub, limits=self.LIMITS) as server, websockets.connect(server.url) as client:
                await asyncio.sleep(1.2)
                data = publish(hub, 1, 0)
                assert await client.recv(decode=False) == data

        run(test)

    def test_pings_of_the_client_are_answered_with_their_payload(self) -> None:
        async def test() -> None:
            async with serving(Hub()) as server, await RawClient.connect(server.port) as client:
                client.send(client_frame(9, b"hello"))
                frame = await client.frame()
                assert (frame.opcode, frame.payload) == (10, b"hello")

        run(test)


class TestEnds:
    def test_shutdown_says_1001_and_everything_published_comes_first(self) -> None:
        async def test() -> None:
            hub = Hub()
            server = await serve(hub, "127.0.0.1", 0)
            async with websockets.connect(server.url) as client:
                sent = [publish(hub, 1, index) for index in range(5)]
                closing = asyncio.create_task(server.close("maintenance"))
                assert [await client.recv(decode=False) for _ in range(5)] == sent
                with pytest.raises(websockets.ConnectionClosed) as end:
                    await client.recv()
                assert (end.value.rcvd.code, end.value.rcvd.reason) == (1001, "maintenance")
                await closing
            with pytest.raises(OSError):
                await RawClient.open(server.port)

        run(test)

    def test_shutdown_does_not_wait_for_those_who_never_answer(self) -> None:
        async def test() -> None:
            server = await serve(Hub(), "127.0.0.1", 0)
            async with await RawClient.connect(server.port) as client:
                async with asyncio.timeout(2):
                    await server.close(timeout_s=0.2)
                await client.gone()

        run(test)

    def test_a_close_is_answered_with_its_code(self) -> None:
        async def test() -> None:
            async with serving(Hub()) as server, await RawClient.connect(server.port) as client:
                client.send(client_frame(8, b"\x0f\xa0bye"))
                assert (await client.frame()).close_code == 4000
                await client.gone()

        run(test)

    def test_half_close_ends_the_connection(self) -> None:
        async def test() -> None:
            hub = Hub()
            async with serving(hub) as server, await RawClient.connect(server.port) as client:
                client.writer.write_eof()
                await client.gone()
                await until(lambda: hub.stats.subscribers == 0)

        run(test)

    def test_a_port_that_is_taken(self) -> None:
        async def test() -> None:
            async with serving(Hub()) as server:
                with pytest.raises(ListenFailed, match=f"127.0.0.1:{server.port}"):
                    await serve(Hub(), "127.0.0.1", server.port)

        run(test)

    def test_subscriber_limit(self) -> None:
        async def test() -> None:
            async with (
                serving(Hub(), subscriber_limit=1) as server,
                await RawClient.connect(server.port),
                await RawClient.connect(server.port) as second,
            ):
                end = await second.closed()
                assert end.close_code == 1013
                assert "subscriber limit" in end.close_reason

        run(test)

    def test_what_admission_took_is_given_back_once(self) -> None:
        async def test() -> None:
            released: list[int] = []

            async def admit(request: Request) -> Admission:
                await asyncio.sleep(0.01)
                return Admission(release=lambda: released.append(1))

            hub = Hub()
            async with serving(hub, admit=admit) as server:
                async with await RawClient.connect(server.port):
                    pass
                await until(lambda: released == [1])
                # Gone before the decision.
                client = await RawClient.open(server.port)
                client.send(upgrade_request())
                await client.writer.drain()
                client.close()
                await until(lambda: released == [1, 1])
                # Admitted, but not a handshake.
                await http(server.port, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                await until(lambda: released == [1, 1, 1])

        run(test)


class TestHttp:
    @pytest.mark.parametrize(
        ("request_bytes", "status", "text"),
        [
            (b"GET /ws HTTP/1.1\r\nHost: x\r\n\r\n", 400, b"'upgrade'"),
            (upgrade_request(headers={"Upgrade": "h2c"}), 400, b"'websocket'"),
            (upgrade_request(headers={"Sec-WebSocket-Version": "8"}), 426, b"'13'"),
            (upgrade_request(headers={"Sec-WebSocket-Key": None}), 400, b"Key` header missing"),
            (upgrade_request(headers={"Sec-WebSocket-Key": "short"}), 400, b"16 bytes"),
            (b"POST /ws HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", 405, b"must be `GET`"),
            (b"nonsense\r\n\r\n", 400, b"HTTP/1.1"),
            (b"GET /ws HTTP/1.1\r\nX: " + b"x" * 20_000, 431, b"16384"),
            (upgrade_request("/?compression=lzma"), 400, b"one of: brotli, deflate, none, zstd"),
            (upgrade_request("/?compression=none&compression=none"), 400, b"duplicate field"),
        ],
    )
    def test_refusals(self, request_bytes: bytes, status: int, text: bytes) -> None:
        async def test() -> None:
            async with serving(Hub()) as server:
                got, _, body = await http(server.port, request_bytes)
                assert got == status
                assert text in body

        run(test)

    def test_the_version_refusal_names_the_version(self) -> None:
        async def test() -> None:
            async with serving(Hub()) as server:
                _, headers, _ = await http(
                    server.port, upgrade_request(headers={"Sec-WebSocket-Version": "8"})
                )
                assert headers["sec-websocket-version"] == "13"

        run(test)

    def test_pages(self) -> None:
        async def test() -> None:
            def pages(request: Request) -> HttpResponse | None:
                return HttpResponse.text(200, "fine") if request.path == "/healthz" else None

            async with serving(Hub(), pages=pages) as server:
                status, _, body = await http(server.port, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
                assert (status, body) == (200, b"fine")
                status, headers, body = await http(server.port, b"HEAD /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
                assert (status, headers["content-length"], body) == (200, "4", b"")

        run(test)

    def test_accept_is_that_of_the_rfc(self) -> None:
        async def test() -> None:
            async with serving(Hub()) as server, await RawClient.connect(server.port) as client:
                assert "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in client.head

        run(test)

    def test_frames_may_come_with_the_request(self) -> None:
        async def test() -> None:
            async with serving(Hub()) as server, await RawClient.open(server.port) as client:
                client.send(upgrade_request() + client_frame(9, b"early"))
                await client.reader.readuntil(b"\r\n\r\n")
                assert (await client.frame()).payload == b"early"

        run(test)


class TestCompression:
    DATA = message(1, 0, size=5000)

    def test_stock_clients_get_deflate_made_once_for_all(self) -> None:
        async def test() -> None:
            hub = Hub()
            async with (
                serving(hub) as server,
                websockets.connect(server.url) as first,
                websockets.connect(server.url) as second,
                websockets.connect(server.url, compression=None) as plain,
            ):
                for index in range(3):
                    sent = publish(hub, 1, index, size=5000)
                    for client in (first, second, plain):
                        assert await client.recv(decode=False) == sent
                assert "server_no_context_takeover" in first.response.headers["Sec-WebSocket-Extensions"]
                assert "Sec-WebSocket-Extensions" not in plain.response.headers
                assert len(hub.ring[0].frames) == 2, "one frame for each encoding in use, none for others"

        run(test)

    def test_a_smaller_window_is_not_negotiated(self) -> None:
        async def test() -> None:
            offer = {"Sec-WebSocket-Extensions": "permessage-deflate; server_max_window_bits=10"}
            async with (
                serving(Hub()) as server,
                await RawClient.connect(server.port, headers=offer) as client,
            ):
                assert "Extensions" not in client.head

        run(test)

    @pytest.mark.parametrize(
        ("path", "headers", "decode"),
        [
            ("/?compression=brotli", {}, brotli.decompress),
            ("/?compression=zstd", {}, zstandard.decompress),
            ("/", {"Sec-WebSocket-Protocol": "other, flashblocks.zstd"}, zstandard.decompress),
            ("/", {"Sec-WebSocket-Protocol": "flashblocks.brotli"}, brotli.decompress),
        ],
    )
    def test_by_query_or_subprotocol(self, path: str, headers: dict, decode: Callable) -> None:
        async def test() -> None:
            hub = Hub()
            async with serving(hub) as server, await RawClient.connect(server.port, path, headers) as client:
                hub.publish(self.DATA)
                frame = await client.frame()
                assert frame.opcode == 2
                assert decode(frame.payload) == self.DATA
                if headers:
                    assert "Sec-WebSocket-Protocol: flashblocks." in client.head

        run(test)

    def test_an_explicit_none_wins_over_the_extension(self) -> None:
        async def test() -> None:
            hub = Hub()
            offer = {"Sec-WebSocket-Extensions": "permessage-deflate"}
            async with (
                serving(hub) as server,
                await RawClient.connect(server.port, "/?compression=none", offer) as client,
            ):
                assert "Extensions" not in client.head
                hub.publish(self.DATA)
                assert await client.frames(1) == [self.DATA]

        run(test)

    def test_deflate_frames_are_independent(self) -> None:
        async def test() -> None:
            hub = Hub()
            offer = {"Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits"}
            async with serving(hub) as server, await RawClient.connect(server.port, headers=offer) as client:
                hub.publish(self.DATA)
                hub.publish(self.DATA)
                for _ in range(2):
                    frame = await client.frame()
                    assert frame.rsv1
                    inflater = zlib.decompressobj(-15)
                    assert inflater.decompress(frame.payload + b"\x00\x00\xff\xff") == self.DATA

        run(test)

    def test_what_is_compressed_already_is_left_alone(self) -> None:
        async def test() -> None:
            hub = Hub()
            offer = {"Sec-WebSocket-Extensions": "permessage-deflate"}
            compressed = brotli.compress(self.DATA)
            async with (
                serving(hub) as server,
                await RawClient.connect(server.port, headers=offer) as deflate,
                await RawClient.connect(server.port, "/?compression=brotli") as wants_brotli,
            ):
                hub.publish(compressed, binary=True)
                for client in (deflate, wants_brotli):
                    frame = await client.frame()
                    assert (frame.payload, frame.opcode, frame.rsv1) == (compressed, 2, False)

        run(test)


class TestHostileClients:
    @pytest.mark.parametrize(
        ("data", "code"),
        [
            (client_frame(1, b"x", masked=False), 1002),
            (client_frame(1, b"\xff"), 1007),
            (client_frame(9, b"x" * 126), 1002),
            (b"\x82\xff" + (100 << 20).to_bytes(8, "big"), 1009),
            (client_frame(8, b"\x03"), 1002),
        ],
    )
    def test_broken_frames_end_the_connection_with_a_code(self, data: bytes, code: int) -> None:
        async def test() -> None:
            hub = Hub()
            async with (
                serving(hub) as server,
                await RawClient.connect(server.port) as bad,
                await RawClient.connect(server.port) as good,
            ):
                bad.send(data)
                assert (await bad.frame()).close_code == code
                await bad.gone()
                sent = publish(hub, 1, 0)
                assert await good.frames(1) == [sent]

        run(test)

    def test_a_handshake_a_byte_at_a_time_is_cut_off(self) -> None:
        async def test() -> None:
            hub = Hub()
            async with serving(hub) as server, await RawClient.open(server.port) as slow:

                async def drip() -> None:
                    for byte in upgrade_request():
                        slow.send(bytes([byte]))
                        await asyncio.sleep(0.05)

                dripping = asyncio.create_task(drip())
                await slow.gone()
                dripping.cancel()
                assert hub.stats.ended["handshake_timeout"] == 1

        run(test)

    def test_handshakes_of_one_address_are_bounded(self) -> None:
        async def test() -> None:
            limits = ServerLimits(max_handshakes_per_ip=3, handshake_s=30)
            async with serving(Hub(), limits=limits) as server:
                held = [await RawClient.open(server.port) for _ in range(3)]
                async with await RawClient.open(server.port) as extra:
                    await extra.gone()
                for client in held:
                    client.close()
                await until(lambda: not server._handshakes)
                async with await RawClient.connect(server.port):
                    pass

        run(test)

    def test_the_oldest_handshake_makes_room(self) -> None:
        async def test() -> None:
            limits = ServerLimits(max_handshakes=2, handshake_s=30)
            async with serving(Hub(), limits=limits) as server:
                first = await RawClient.open(server.port)
                await until(lambda: len(server._handshakes) == 1)
                others = [await RawClient.open(server.port) for _ in range(2)]
                await first.gone()
                for client in others:
                    client.close()

        run(test)

    def test_a_flood_is_cut_off(self) -> None:
        async def test() -> None:
            hub = Hub()
            async with serving(hub) as server, await RawClient.connect(server.port) as client:
                client.send(client_frame(2, b"x" * 60_000) * 10)
                assert (await client.closed()).close_code == CloseCode.POLICY
                await client.gone()

        run(test)

    def test_a_flood_of_pings_does_not_pile_up_pongs(self) -> None:
        async def test() -> None:
            hub = Hub(HubOptions(budget=LagBudget(stall_s=60)))
            async with serving(hub) as server, await Stuck.connect(server.port) as client:
                await until(lambda: hub.stats.subscribers == 1)
                small_send_buffers(server)
                (connection,) = server.connections()
                for index in range(5):
                    publish(hub, 1, index, size=50_000)
                await until(lambda: hub.behind == 1)
                before = connection.buffered()
                client.raw.setblocking(True)
                client.raw.sendall(client_frame(9, b"x" * 100) * 1000)
                await asyncio.sleep(0.2)
                assert connection.buffered() <= before + 125, "a close frame at most"

        run(test)

    def test_a_thousand_connects_at_once(self) -> None:
        async def test() -> None:
            hub = Hub()
            async with serving(
                hub, limits=ServerLimits(max_handshakes=4000, max_handshakes_per_ip=4000)
            ) as server:
                good = await RawClient.connect(server.port)
                crowd = await asyncio.gather(*(RawClient.connect(server.port) for _ in range(500)))
                sent = publish(hub, 1, 0)
                assert await good.frames(1) == [sent]
                for client in crowd:
                    assert await client.frames(1) == [sent]
                    client.close()
                good.close()
                await until(lambda: hub.stats.subscribers == 0)

        run(test)

    def test_memory_of_an_idle_client(self) -> None:
        """No parser, no task, no timer is left behind by the handshake."""

        async def test() -> None:
            hub = Hub()
            async with serving(hub) as server, await RawClient.connect(server.port) as client:
                client.send(client_frame(10) + client_frame(1, b"x"))
                client.send(client_frame(9))
                await client.frame()
                (connection,) = server.connections()
                assert connection._head is None
                assert connection._frames is None
                assert not hasattr(connection, "__dict__")
                assert not hasattr(connection.subscriber, "__dict__")

        run(test)


def test_gone_is_reported_to_those_who_wait() -> None:
    async def test() -> None:
        server = await serve(Hub(), "127.0.0.1", 0)
        client = await RawClient.connect(server.port)
        await server.close(timeout_s=0)
        with pytest.raises(Gone):
            while True:
                await client.frame()

    run(test)


def test_tls(tmp_path) -> None:
    pytest.importorskip("cryptography")
    from support.certificates import self_signed

    certificate, key = self_signed(tmp_path)

    async def test() -> None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate, key)
        trust = ssl.create_default_context(cafile=str(certificate))
        hub = Hub()
        async with (
            serving(hub, tls=context) as server,
            websockets.connect(f"wss://localhost:{server.port}/", ssl=trust, compression=None) as client,
        ):
            assert server.url.startswith("wss://")
            for index in range(20):
                sent = publish(hub, 1, index, size=100_000)
                assert await client.recv(decode=False) == sent

    run(test)
