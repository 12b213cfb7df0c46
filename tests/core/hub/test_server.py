"""The hub over real sockets: fan-out, late joiners, slow clients, hostile clients, the end."""

from __future__ import annotations

import asyncio
import socket
import ssl

import pytest
import websockets
from support.hub_lab import publish, run, serving
from support.raw_websocket import Gone, RawClient, client_frame, http, upgrade_request
from support.waiting import turns, until

from flashctl.core.hub import (
    Admission,
    HttpResponse,
    Hub,
    HubOptions,
    RingLimits,
    UpgradeRequest,
    serve,
)
from flashctl.core.net.listening import ListenFailed


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

    @pytest.mark.parametrize("limits", [RingLimits(max_age_s=0.0), RingLimits(max_bytes=1000)])
    def test_a_burst_that_the_ring_does_not_hold(self, limits: RingLimits) -> None:
        """Nothing is forgotten before it was sent."""

        async def test() -> None:
            hub = Hub(HubOptions(ring=limits))
            async with serving(hub) as server, await RawClient.connect(server.port) as client:
                sent = [publish(hub, block, index, size=200) for block in range(5) for index in range(8)]
                assert await client.frames(40) == sent

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
                async with asyncio.timeout(60):
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
                with pytest.raises(ListenFailed, match=f"127.0.0.1:{server.port}: address already in use"):
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
            asked: list[int] = []
            decided = asyncio.Event()
            decided.set()

            async def admit(request: UpgradeRequest) -> Admission:
                asked.append(1)
                await decided.wait()
                return Admission(release=lambda: released.append(1))

            hub = Hub()
            async with serving(hub, admit=admit) as server:
                async with await RawClient.connect(server.port):
                    pass
                await until(lambda: released == [1])
                # Gone before the decision.
                client = await RawClient.open(server.port)
                client.send(upgrade_request())
                decided.clear()
                await until(lambda: asked == [1, 1])
                client.close()
                await turns()
                decided.set()
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
            def pages(request: UpgradeRequest) -> HttpResponse | None:
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
