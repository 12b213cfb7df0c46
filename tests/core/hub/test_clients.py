"""The hub's clients over real sockets: slow, silent, hostile, and those that want compression."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
import zlib
from collections.abc import Callable

import brotli
import pytest
import websockets
import zstandard
from support.hub_lab import (
    PingCounter,
    Stuck,
    message,
    publish,
    run,
    serving,
    small_send_buffers,
    unread,
    unsent,
)
from support.raw_websocket import RawClient, client_frame, upgrade_request
from support.waiting import turns, until

from flashctl.core.hub import (
    CloseCode,
    Encoding,
    Hub,
    HubLimits,
    HubOptions,
    LagBudget,
    LagPolicy,
)
from flashctl.core.hub.server import MAX_CUT_OFF


class TestSlowClients:
    def test_evicted_with_a_close_frame_that_says_why(self) -> None:
        async def test() -> None:
            hub = Hub(HubOptions(budget=LagBudget(max_messages=5, stall_s=60)))
            async with serving(hub, limits=HubLimits(close_s=5, ping_interval_s=0)) as server:
                good = await RawClient.connect(server.port)
                slow = await Stuck.connect(server.port)
                small_send_buffers(server)
                sent = [publish(hub, 1, 0, size=100_000)]
                while hub.stats.subscribers == 2:
                    sent.append(publish(hub, 1, len(sent), size=100_000))
                    await good.frames(1)
                    hub.sweep()
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
            now = 0.0
            hub = Hub(HubOptions(budget=LagBudget(stall_s=60, max_messages=10_000)), clock=lambda: now)
            async with serving(hub) as server, await Stuck.connect(server.port):
                await until(lambda: hub.stats.subscribers == 1)
                small_send_buffers(server)
                (connection,) = server.connections()
                for index in range(50):
                    publish(hub, 1, index, size=50_000)
                    await turns()
                    assert connection.buffered() <= 60_000, "one message at most is held for it"
                hub.sweep()
                assert hub.stats.subscribers == 1
                now = 61.0
                hub.sweep()
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
                    await turns()
                    hub.sweep()
                assert hub.stats.skipped > 0
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
                    await turns()
                assert hub.behind == 1
                await slow.start_reading()
                assert await slow.frames(100) == sent
                sent = publish(hub, 1, 100)
                assert await slow.frames(1) == [sent]
                assert hub.behind == 0

        run(test)


class TestPings:
    LIMITS = HubLimits(ping_interval_s=0.2, pong_timeout_s=0.5, close_s=0.3)

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
            async with (
                serving(hub, limits=self.LIMITS) as server,
                websockets.connect(server.url, create_connection=PingCounter) as client,
            ):
                await until(lambda: client.pings >= 5)  # longer than pong_timeout_s
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
                assert "permessage-deflate" in first.response.headers["Sec-WebSocket-Extensions"]
                assert "Sec-WebSocket-Extensions" not in plain.response.headers
                assert hub.ring[0].raw is not None
            assert set(hub.ring[0].frames) == {Encoding.DEFLATE_TAKEOVER}, "and none that nobody uses"

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

    def test_deflate_frames_are_independent_for_a_client_without_a_context(self) -> None:
        async def test() -> None:
            hub = Hub()
            offer = {"Sec-WebSocket-Extensions": "permessage-deflate; server_no_context_takeover"}
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
                        await asyncio.sleep(0.05)  # a client that is slow, but not silent

                dripping = asyncio.create_task(drip())
                await slow.gone()
                dripping.cancel()
                assert hub.stats.ended["handshake_timeout"] == 1

        run(test)

    def test_many_that_come_due_together_are_cut_off_in_turns(self) -> None:
        """Others are served between two of them."""

        async def test() -> None:
            hub = Hub()
            async with serving(hub, limits=HubLimits(handshake_s=30)) as server:
                slow = [await RawClient.open(server.port) for _ in range(MAX_CUT_OFF + 20)]
                await until(lambda: len(server._handshakes) == len(slow))
                later = time.monotonic() + 60
                server.sweep(later)
                await until(lambda: hub.stats.ended["handshake_timeout"] == MAX_CUT_OFF)
                assert len(server._handshakes) == 20
                server.sweep(later)
                await until(lambda: not server._handshakes)
                for client in slow:
                    await client.gone()

        run(test)

    def test_handshakes_of_one_address_are_bounded(self) -> None:
        async def test() -> None:
            limits = HubLimits(max_handshakes_per_ip=3, handshake_s=30)
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
            limits = HubLimits(max_handshakes=2, handshake_s=30)
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
                await until(lambda: unread(connection) == unsent(client.raw) == 0)
                await turns()
                assert connection.buffered() <= before + 125, "a close frame at most"

        run(test)

    def test_a_thousand_connects_at_once(self) -> None:
        async def test() -> None:
            hub = Hub()
            async with serving(
                hub, limits=HubLimits(max_handshakes=4000, max_handshakes_per_ip=4000)
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
