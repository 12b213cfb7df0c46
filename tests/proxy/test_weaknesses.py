"""The eighteen weaknesses of today's proxies (reference section 5), one class each; each test fails on the
described behaviour."""

from __future__ import annotations

import asyncio
import itertools
import json
import socket
import ssl
import struct
import zlib
from pathlib import Path

import brotli
import pytest
import websockets
from support.certificates import self_signed
from support.flashblocks import base_sepolia_block
from support.hub_lab import PingCounter
from support.proxy_lab import UpstreamServer, flashblock, payload_id, port_of, run, running
from support.raw_websocket import Gone, RawClient, http, upgrade_request
from support.waiting import until

from flashctl.core.hub import CloseCode, LagPolicy
from flashctl.proxy.config import Compression, Validation


async def upstream() -> UpstreamServer:
    return await UpstreamServer().start()


async def get(port: int, path: str) -> tuple[int, dict[str, str], bytes]:
    return await http(port, f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())


class Test01LateJoinersAndReconnectsLoseNothing:
    def test_a_late_joiner_gets_the_open_block(self) -> None:
        async def test() -> None:
            source = await upstream()
            async with running(source) as proxy:
                sent = [source.publish(7, index) for index in range(4)]
                await until(lambda: proxy.relay.stats.forwarded == 4)
                async with await RawClient.connect(port_of(proxy)) as client:
                    sent.append(source.publish(7, 4))
                    assert await client.frames(5) == sent

        run(test)

    def test_a_client_that_reconnects_resumes(self) -> None:
        async def test() -> None:
            source = await upstream()
            async with running(source) as proxy:
                async with await RawClient.connect(port_of(proxy)) as client:
                    sent = [source.publish(7, index) for index in range(3)]
                    assert await client.frames(3) == sent
                missed = [source.publish(7, index) for index in range(3, 6)] + [source.publish(8, 0)]
                await until(lambda: proxy.relay.stats.forwarded == 7)
                path = "/ws?block_number=7&flashblock_index=2"
                async with await RawClient.connect(port_of(proxy), path) as client:
                    live = source.publish(8, 1)
                    assert await client.frames(5) == [*missed, live]

        run(test)

    def test_the_proxy_itself_resumes_upstream(self) -> None:
        async def test() -> None:
            source = await upstream()
            async with running(source) as proxy, await RawClient.connect(port_of(proxy)) as client:
                sent = [source.publish(7, 0), source.publish(7, 1)]
                await until(lambda: proxy.relay.stats.forwarded == 2)
                await source.stop()
                # Published while the proxy was away.
                sent += [source.publish(7, 2), source.publish(8, 0), source.publish(8, 1)]
                await source.start()
                sent.append(source.publish(8, 2))
                assert await client.frames(6) == sent
                query = source.requests[-1][1]
                assert query["block_number"] == ["7"]
                assert query["flashblock_index"] == ["1"]

        run(test)


class Test02SeveralUpstreamsAreOneStream:
    def test_each_flashblock_once(self) -> None:
        async def test() -> None:
            first, second = await upstream(), await upstream()
            async with running(first, second) as proxy, await RawClient.connect(port_of(proxy)) as client:
                sent = []
                for index in range(10):
                    sent.append(first.publish(7, index))
                    second.publish(7, index)
                    assert await client.frames(1) == sent[-1:]
                await until(lambda: proxy.relay.stats.dropped["duplicate"] == 10)
                source = first.publish(8, 0)
                assert await client.frames(1) == [source], "nothing came twice in between"

        run(test)

    def test_a_late_copy_from_a_lagging_upstream_is_not_delivered(self) -> None:
        async def test() -> None:
            first, second = await upstream(), await upstream()
            async with running(first, second) as proxy, await RawClient.connect(port_of(proxy)) as client:
                sent = [first.publish(7, 0), first.publish(8, 0)]
                assert await client.frames(2) == sent
                second.publish(7, 0)
                second.publish(7, 1)
                await until(lambda: sum(proxy.relay.stats.dropped.values()) == 2)
                sent = [first.publish(8, 1)]
                assert await client.frames(1) == sent

        run(test)


class Test03FailoverIsNotAReconnect:
    def test_the_stream_goes_on_without_a_pause_when_one_dies(self) -> None:
        async def test() -> None:
            first, second = await upstream(), await upstream()
            async with running(first, second) as proxy, await RawClient.connect(port_of(proxy)) as client:
                sent = [first.publish(7, 0)]
                second.publish(7, 0)
                await first.stop()
                sent.append(second.publish(7, 1))
                assert await client.frames(2) == sent

        run(test)

    def test_a_silent_upstream_is_dialled_again(self) -> None:
        async def test() -> None:
            source = await upstream()
            async with running(source, upstream_stale_s=0.3) as proxy:
                await until(lambda: proxy.upstreams.all[0].stats.silences >= 1)
                await until(lambda: len(source.requests) >= 2)

        run(test)

    def test_an_address_that_never_answers_does_not_hold_up_the_others(self) -> None:
        async def test() -> None:
            with socket.socket() as deaf:  # accepts by its backlog, never speaks
                deaf.bind(("127.0.0.1", 0))
                deaf.listen()
                source = await upstream()
                black_hole = f"ws://127.0.0.1:{deaf.getsockname()[1]}/"
                async with running(black_hole, source, wait=False, upstream_connect_timeout_s=0.2) as proxy:
                    await until(lambda: proxy.upstreams.all[1].connected)
                    await until(lambda: proxy.upstreams.all[0].stats.failures >= 2)

        run(test)


class Test04ClosesSayWhy:
    def test_shutdown_is_1001(self) -> None:
        async def test() -> None:
            source = await upstream()
            async with running(source) as proxy, await RawClient.connect(port_of(proxy)) as client:
                closing = asyncio.create_task(proxy.close())
                end = await client.closed()
                assert end.close_code == CloseCode.GOING_AWAY
                assert end.close_reason
                client.close()
                await closing

        run(test)

    def test_a_client_that_closes_is_answered(self) -> None:
        async def test() -> None:
            source = await upstream()
            async with running(source) as proxy:
                client = await websockets.connect(f"ws://127.0.0.1:{port_of(proxy)}/ws")
                await client.close()
                assert client.close_code == 1000

        run(test)


class Test05SlowConsumers:
    def test_a_stalled_client_is_closed_by_the_send_timeout_though_it_answers_no_ping(self) -> None:
        async def test() -> None:
            source = await upstream()
            async with (
                running(source, clients_backlog_send_timeout_s=0.3, clients_pong_timeout_s=60.0) as proxy,
                await RawClient.connect(port_of(proxy)) as good,
            ):
                stuck = await _stuck_client(proxy)
                await until(lambda: proxy.hub.stats.subscribers == 2)
                for index in itertools.count():
                    is_over = proxy.hub.stats.subscribers == 1
                    sent = source.publish(7, index, padding="x" * 100_000)
                    assert await good.frames(1) == [sent], "others do not notice"
                    if is_over:
                        break
                    if proxy.hub.behind:
                        await until(lambda: proxy.hub.stats.subscribers == 1)
                await until(lambda: proxy.hub.stats.ended["stalled"] == 1)
                assert proxy.hub.stats.ended["pong_timeout"] == 0
                stuck.close()

        run(test)

    def test_conflate_keeps_the_client(self) -> None:
        async def test() -> None:
            source = await upstream()
            async with running(
                source, clients_backlog_on_lag=LagPolicy.CONFLATE, clients_backlog_messages=4
            ) as proxy:
                stuck = await _stuck_client(proxy)
                await until(lambda: proxy.hub.stats.subscribers == 1)
                for block in range(30):
                    for index in range(3):
                        source.publish(block, index, padding="x" * 50_000)
                    await until(lambda block=block: proxy.relay.stats.forwarded == 3 * (block + 1))
                await until(lambda: proxy.hub.stats.skipped > 0)
                assert proxy.hub.stats.subscribers == 1
                stuck.close()

        run(test)


async def _stuck_client(proxy) -> socket.socket:
    """A client that never reads; small buffers on both ends, so that it shows soon."""
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.connect(("127.0.0.1", port_of(proxy)))
    raw.sendall(upgrade_request())
    await asyncio.to_thread(raw.recv, 1)
    for connection in proxy.server.connections():
        accepted = connection.transport.get_extra_info("socket")
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
    return raw


ADDRESS = "0x" + "ab" * 20
TOPIC = "0x" + "cd" * 32
LOGS = {"logs": [{"address": ADDRESS, "topics": [TOPIC]}]}


class Test06Filters:
    """Their logic is tested in test_filters.py; here, end to end."""

    @pytest.mark.parametrize("receipt", [{"type": "0x2", **LOGS}, {"Eip1559": LOGS}])
    def test_flat_and_tagged_receipts(self, receipt: dict) -> None:
        async def test() -> None:
            source = await upstream()
            path = f"/ws/filter?addresses={ADDRESS}"
            async with running(source) as proxy, await RawClient.connect(port_of(proxy), path) as client:
                base = source.publish(7, 0)
                source.publish(7, 1)
                hit = source.publish(7, 2, metadata={"block_number": 7, "receipts": {"0x1": receipt}})
                assert await client.frames(2) == [base, hit]

        run(test)

    def test_filtered_clients_get_pings(self) -> None:
        async def test() -> None:
            source = await upstream()
            path = f"/ws/filter?topics={TOPIC}"
            settings = {"clients_ping_interval_s": 0.1, "clients_pong_timeout_s": 0.4}
            async with (
                running(source, **settings) as proxy,
                websockets.connect(
                    f"ws://127.0.0.1:{port_of(proxy)}{path}", create_connection=PingCounter
                ) as client,
            ):
                await until(lambda: client.pings >= 8)  # longer than clients_pong_timeout_s
                base = source.publish(7, 0)
                assert await client.recv(decode=False) == base

        run(test)


def _publish_recorded(source: UpstreamServer, block: list[bytes], index: int) -> None:
    source.hub.publish(block[index], payload_id=payload_id(1), index=index, block_number=33439826)


class Test07CompressionIsNegotiated:
    def test_stock_clients_get_it_without_knowing(self) -> None:
        async def test() -> None:
            source = await upstream()
            async with (
                running(source) as proxy,
                websockets.connect(f"ws://127.0.0.1:{port_of(proxy)}/ws") as stock,
                await RawClient.connect(port_of(proxy)) as plain,
                await RawClient.connect(port_of(proxy), "/ws?compression=brotli") as knows,
            ):
                sent = source.publish(7, 0, padding="x" * 5000)
                assert await stock.recv(decode=False) == sent
                assert await plain.frames(1) == [sent]
                assert brotli.decompress((await knows.frames(1))[0]) == sent

        run(test)

    def test_one_compression_for_all(self, monkeypatch: pytest.MonkeyPatch) -> None:
        made = []
        original = zlib.compressobj

        def counting(*args):
            made.append(1)
            return original(*args)

        monkeypatch.setattr("flashctl.core.hub.encoding.zlib.compressobj", counting)

        async def test() -> None:
            source = await upstream()
            offer = {"Sec-WebSocket-Extensions": "permessage-deflate"}
            async with running(source) as proxy:
                clients = [await RawClient.connect(port_of(proxy), headers=offer) for _ in range(20)]
                source.publish(7, 0)
                for client in clients:
                    assert (await client.frame()).rsv1
                    client.close()
                assert len(made) == 1

        run(test)

    def test_one_deflate_context_for_all_over_a_reconnect_of_the_upstream(self) -> None:
        """A recorded block: 0.63 of the bytes; a restarted upstream replays it from index 0."""
        block = [json.dumps(part, separators=(",", ":")).encode() for part in base_sepolia_block()]
        ratios: dict[str, float] = {}

        async def test() -> None:
            source = await upstream()
            offer = {"Sec-WebSocket-Extensions": "permessage-deflate; server_no_context_takeover"}
            async with (
                running(source) as proxy,
                websockets.connect(f"ws://127.0.0.1:{port_of(proxy)}/ws") as stock,
                await RawClient.connect(port_of(proxy), headers=offer) as alone,
            ):
                for place, data in enumerate(block):
                    if place == 5:
                        await source.stop()
                        source.hub.ring.trim(float("inf"))
                        await source.start()
                        await until(lambda: source.hub.stats.subscribers == 1)
                        for again in range(place):
                            _publish_recorded(source, block, again)
                    _publish_recorded(source, block, place)
                    assert await stock.recv(decode=False) == data
                    assert (await alone.frame()).rsv1
                async with websockets.connect(f"ws://127.0.0.1:{port_of(proxy)}/ws") as late:
                    assert [await late.recv(decode=False) for _ in block] == block
                ratios.update((e.value, ratio) for e, ratio in proxy.hub.ring.compression_ratios())

        run(test)
        assert ratios["deflate"] < 3.6
        assert ratios["deflate-takeover"] > 5.5

    def test_enable_compression_as_today(self) -> None:
        async def test() -> None:
            source = await upstream()
            async with (
                running(source, clients_compression=Compression.BROTLI) as proxy,
                await RawClient.connect(port_of(proxy)) as client,
            ):
                sent = source.publish(7, 0)
                frame = await client.frame()
                assert frame.opcode == 2
                assert brotli.decompress(frame.payload) == sent

        run(test)


class Test08TextStaysText:
    def test_opcode(self) -> None:
        async def test() -> None:
            source = await upstream()
            async with running(source) as proxy, await RawClient.connect(port_of(proxy)) as client:
                source.publish(7, 0)
                assert (await client.frame()).opcode == 1
                source.publish(7, 1, binary=True)
                assert (await client.frame()).opcode == 2

        run(test)


class Test09RefusalsHelp:
    def test_429_names_the_limit_and_when_to_retry(self) -> None:
        async def test() -> None:
            source = await upstream()
            async with (
                running(source, access_per_ip_limit=1) as proxy,
                await RawClient.connect(port_of(proxy)),
            ):
                status, headers, body = await http(port_of(proxy), upgrade_request())
                assert status == 429
                assert int(headers["retry-after"]) > 0
                assert headers["content-type"] == "application/json"
                refusal = {"message": "IP limit exceeded", "limit": "per_ip", "allowed": 1}
                assert json.loads(body) == refusal

        run(test)

    def test_an_idle_connection_is_cut_off(self) -> None:
        async def test() -> None:
            source = await upstream()
            async with (
                running(source, clients_handshake_timeout_s=0.3) as proxy,
                await RawClient.open(port_of(proxy)) as client,
            ):
                await client.gone()

        run(test)

    def test_the_header_of_a_stranger_buys_no_identity(self) -> None:
        async def test() -> None:
            source = await upstream()
            async with (
                running(source, access_per_ip_limit=1) as proxy,
                await RawClient.connect(port_of(proxy), headers={"X-Forwarded-For": "1.1.1.1"}),
            ):
                forged = upgrade_request(headers={"X-Forwarded-For": "2.2.2.2"})
                assert (await http(port_of(proxy), forged))[0] == 429
            async with (
                running(source, access_per_ip_limit=1, access_trusted_proxies=("127.0.0.0/8",)) as proxy,
                await RawClient.connect(port_of(proxy), headers={"X-Forwarded-For": "1.1.1.1"}),
                await RawClient.connect(port_of(proxy), headers={"X-Forwarded-For": "2.2.2.2"}),
            ):
                pass

        run(test)


class Test10MessageSize:
    def test_a_message_over_the_limit_is_named_not_forwarded(self) -> None:
        async def test() -> None:
            source = await upstream()
            async with running(source, upstream_max_message_bytes=10_000) as proxy:
                source.publish(7, 0, padding="x" * 20_000)
                await until(lambda: proxy.upstreams.all[0].stats.errors >= 1)
                assert proxy.relay.stats.forwarded == 0

        run(test)

    def test_a_large_one_within_it_arrives(self) -> None:
        async def test() -> None:
            source = await upstream()
            async with running(source) as proxy, await RawClient.connect(port_of(proxy)) as client:
                sent = source.publish(7, 0, padding="x" * (8 << 20))
                assert await client.frames(1) == [sent]
                status, _, body = await get(proxy.status_server.port, "/metrics")
                assert status == 200
                assert f"websocket_proxy_largest_message_bytes {len(sent)}" in body.decode()

        run(test)


class Test11Validation:
    def test_breaches_are_counted_and_the_stream_goes_on(self) -> None:
        async def test() -> None:
            source = await upstream()
            async with (
                running(source, upstream_validate=Validation.WARN) as proxy,
                await RawClient.connect(port_of(proxy)) as client,
            ):
                sent = [source.publish(7, 3), source.publish(7, 5)]
                assert await client.frames(2) == sent
                assert sum(proxy.relay.validator.breaches.values()) == 2
                _, _, body = await get(proxy.status_server.port, "/metrics")
                assert b"websocket_proxy_sequence_breaches{cause=" in body

        run(test)


class Test12PingsAreOn:
    def test_by_default(self) -> None:
        async def test() -> None:
            source = await upstream()
            async with (
                running(source, clients_ping_interval_s=0.1) as proxy,
                await RawClient.connect(port_of(proxy)) as client,
            ):
                assert proxy.config.clients.pings
                assert (await client.frame()).opcode == 9

        run(test)


class Test13Readiness:
    def test_ready_means_an_upstream_that_speaks(self) -> None:
        async def test() -> None:
            source = await upstream()
            async with running(source, upstream_stale_s=5.0) as proxy:
                assert (await get(port_of(proxy), "/readyz"))[0] == 503
                source.publish(7, 0)
                await until(lambda: proxy.relay.stats.forwarded == 1)
                assert (await get(port_of(proxy), "/readyz"))[0] == 200
                await source.stop()
                await until(lambda: not proxy.upstreams.all[0].connected)
                status, _, body = await get(port_of(proxy), "/readyz")
                assert (status, body) == (503, b"no upstream connected\n")
                assert (await get(port_of(proxy), "/healthz"))[0] == 200

        run(test)


class Test14TlsOnBothSides:
    def test_wss_upstream_with_a_private_authority_and_wss_clients(self, tmp_path: Path) -> None:
        certificate, key = self_signed(tmp_path)

        async def test() -> None:
            from flashctl.proxy.service import server_tls

            source = await UpstreamServer().start(tls=server_tls(certificate, key))
            url = f"wss://localhost:{source.port}/"
            trust = ssl.create_default_context(cafile=str(certificate))
            async with (
                running(
                    url, upstream_ca=certificate, clients_tls_cert=certificate, clients_tls_key=key
                ) as proxy,
                websockets.connect(f"wss://localhost:{port_of(proxy)}/ws", ssl=trust) as client,
            ):
                sent = source.publish(7, 0)
                assert await client.recv(decode=False) == sent

        run(test)

    def test_an_unknown_authority_is_not_trusted(self, tmp_path: Path) -> None:
        certificate, key = self_signed(tmp_path)

        async def test() -> None:
            from flashctl.proxy.service import server_tls

            source = await UpstreamServer().start(tls=server_tls(certificate, key))
            url = f"wss://localhost:{source.port}/"
            async with running(url, wait=False) as proxy:
                await until(lambda: proxy.upstreams.all[0].stats.failures >= 1)
                assert "certificate" in proxy.upstreams.all[0].trouble.lower()

        run(test)


class Test15NobodyIsServedFirstForEver:
    def test_everybody_is_first_equally_often(self) -> None:
        """The kernel notes when a segment arrived: whoever was written to first has the earliest."""

        async def test() -> None:
            source = await upstream()
            async with running(source) as proxy:
                clients = [await asyncio.to_thread(stamping_client, port_of(proxy)) for _ in range(3)]
                await until(lambda: proxy.hub.stats.subscribers == 3)
                firsts: list[int] = []
                for index in range(1000):
                    source.publish(7, index)
                    stamps = [await asyncio.to_thread(arrival, client) for client in clients]
                    if None not in stamps:
                        firsts.append(stamps.index(min(stamps)))
                    else:  # the kernel begins to take times some moments after it is asked, later when busy
                        await asyncio.sleep(0.05)
                    if len(firsts) == 9:
                        break
                for client in clients:
                    client.close()
                assert sorted(firsts) == [0, 0, 0, 1, 1, 1, 2, 2, 2]

        run(test)


SO_TIMESTAMPNS = 35
"""Of asm-generic/socket.h; Python has no name for it."""


def stamping_client(port: int) -> socket.socket:
    """A client whose kernel says when data came."""
    raw = socket.create_connection(("127.0.0.1", port), timeout=10)
    raw.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    raw.sendall(upgrade_request())
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += raw.recv(1)
    return raw


def arrival(raw: socket.socket) -> tuple[int, int] | None:
    """Seconds and nanoseconds at which the next message, which fits one segment, arrived."""
    _, ancillary, _, _ = raw.recvmsg(1 << 16, 256)
    for level, kind, content in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, SO_TIMESTAMPNS):
            return struct.unpack("qq", content)
    return None


class Test16RefusalsLeakNothing:
    def test_the_address_keeps_its_slots_when_the_key_refuses(self) -> None:
        async def test() -> None:
            source = await upstream()
            settings = {"access_api_keys": ("a:key1:1", "b:key2:5"), "access_per_ip_limit": 3}
            async with running(source, **settings) as proxy:
                async with await RawClient.connect(port_of(proxy), "/ws/key1"):
                    for _ in range(5):
                        assert (await http(port_of(proxy), upgrade_request("/ws/key1")))[0] == 429
                    async with (
                        await RawClient.connect(port_of(proxy), "/ws/key2"),
                        await RawClient.connect(port_of(proxy), "/ws/key2"),
                    ):
                        pass
                await until(lambda: proxy.access.counts.total == 0)
                assert not proxy.access.counts.by_address

        run(test)


class Test17MemoryPerClient:
    def test_an_idle_client_keeps_no_buffers(self) -> None:
        async def test() -> None:
            source = await upstream()
            async with running(source, access_instance_limit=0) as proxy:
                import gc
                import tracemalloc

                async def crowd(count: int) -> list[socket.socket]:
                    found = []
                    for _ in range(count):
                        raw = socket.create_connection(("127.0.0.1", port_of(proxy)))
                        raw.setblocking(False)
                        raw.send(upgrade_request())
                        found.append(raw)
                    return found

                warm = await crowd(20)
                await until(lambda: proxy.hub.stats.subscribers == 20)
                gc.collect()
                tracemalloc.start()
                clients = await crowd(200)
                await until(lambda: proxy.hub.stats.subscribers == 220)
                for raw in clients:
                    raw.recv(4096)
                del raw
                gc.collect()
                held, _ = tracemalloc.get_traced_memory()
                tracemalloc.stop()
                # The test's own sockets are in it; measured 1.3 KiB for both, against 137 KiB.
                assert held / 200 < 4096
                for raw in warm + clients:
                    raw.close()

        run(test)


class Test18Nagle:
    def test_is_off(self) -> None:
        async def test() -> None:
            source = await upstream()
            async with running(source) as proxy, await RawClient.connect(port_of(proxy)):
                (connection,) = proxy.server.connections()
                accepted = connection.transport.get_extra_info("socket")
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

        run(test)


def test_raw_client_sees_the_end() -> None:
    """The tools of this file notice a connection that is cut without a word."""

    async def test() -> None:
        source = await upstream()
        async with running(source) as proxy, await RawClient.connect(port_of(proxy)) as client:
            for connection in proxy.server.connections():
                connection.abort()
            with pytest.raises(Gone):
                await client.frame()
            assert flashblock(1, 0)

    run(test)
