"""What others wrote into the shared Redis costs nobody more than itself; a real redis-server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from support.proxy_lab import UpstreamServer, flashblock, port_of, run, running
from support.raw_websocket import RawClient, http, upgrade_request
from support.redis_server import RedisServer
from support.waiting import until

from flashctl.core.service import defects
from flashctl.proxy import redis_bus as bus_module
from flashctl.proxy import redis_client
from flashctl.proxy.config import BusFailure
from flashctl.proxy.connection_limits import (
    ConnectionCounts,
    ConnectionLimits,
    ConnectionRefused,
    ConnectionTicket,
    Limit,
)
from flashctl.proxy.redis_client import connect_redis
from flashctl.proxy.shared_limits import RedisLimits

STREAM = "flashblocks:stream"


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


HOSTILE: tuple[dict[str, Any], ...] = (
    {"foo": "bar"},
    {"d": ""},
    {"d": b"\xff\x00", "b": "1"},
    {"d": "null"},
    {"d": "[" * 5000},
    {"d": "x", "b": "7", "e": "f"},
    {"D": flashblock(7, 0)},
    {f"field{number}": "x" for number in range(2000)},
)


def test_entries_that_are_no_messages_are_skipped(
    redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        source = await UpstreamServer().start()
        client = connect_redis(redis.url)
        for fields in HOSTILE:
            await client.xadd(STREAM, fields)
        async with (
            running(source, bus_url=redis.url) as writer,
            running(bus_url=redis.url) as reader,
            await RawClient.connect(port_of(reader)) as far,
        ):
            await until(lambda: reader.bus.skipped == writer.bus.skipped == 4)
            before = reader.relay.stats.forwarded
            for fields in HOSTILE:
                await client.xadd(STREAM, fields)
            sent = [source.publish(7, index) for index in range(3)]
            await until(lambda: reader.relay.stats.forwarded >= before + 3)
            received: list[bytes] = []
            while received[-3:] != sent:
                received += await far.frames(1)
            assert reader.bus.connected and reader.bus.skipped == 8
            _, _, body = await http(reader.status_server.port, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b"websocket_proxy_bus_skipped 8" in body
        await client.aclose()

    run(test)
    assert not defects.counts()
    assert len([record for record in caplog.records if "only counted" in record.message]) == 2, "once each"


def test_entries_over_the_limit_are_not_fetched(redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_client, "REPLY_LIMIT", 100_000)

    async def test() -> None:
        source = await UpstreamServer().start()
        client = connect_redis(redis.url)
        for _ in range(3):
            await client.xadd(STREAM, {"d": "x" * 60_000, "b": "0"})
            await client.xadd(STREAM, {"d": "x" * 200_000})
            await client.xadd(STREAM, {"foo": "x" * 200_000})
        async with (
            running(source, bus_url=redis.url, upstream_max_message_bytes=50_000),
            running(bus_url=redis.url, upstream_max_message_bytes=50_000) as reader,
            await RawClient.connect(port_of(reader)) as far,
        ):
            await until(lambda: reader.bus.skipped == 9)
            sent = [source.publish(7, index) for index in range(3)]
            assert await far.frames(3) == sent
            assert reader.relay.stats.largest < 50_000
        await client.aclose()

    run(test)
    assert not defects.counts()


def test_a_key_of_another_type_is_an_outage_that_ends(redis: RedisServer) -> None:
    async def test() -> None:
        client = connect_redis(redis.url)
        await client.set(STREAM, "not a stream")
        source = await UpstreamServer().start()
        async with (
            running(source, bus_url=redis.url) as writer,
            running(bus_url=redis.url) as reader,
            await RawClient.connect(port_of(reader)) as far,
        ):
            sent = [source.publish(7, 0)]
            await until(lambda: writer.relay.stats.forwarded == 1 and bool(reader.bus.trouble))
            await client.delete(STREAM)
            assert await far.frames(1) == sent
        await client.aclose()

    run(test)
    assert not defects.counts()


def test_a_stream_that_begins_anew_below_is_followed(
    redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bus_module, "QUIET_BEFORE_LOOK_S", 0.0)

    async def test() -> None:
        client = connect_redis(redis.url)
        source = await UpstreamServer().start()
        await client.xadd(STREAM, {"foo": "bar"}, id="9999999999999-1")
        async with (
            running(source, bus_url=redis.url),
            running(bus_url=redis.url) as reader,
            await RawClient.connect(port_of(reader)) as far,
        ):
            await until(lambda: reader.bus.skipped == 1)
            await client.delete(STREAM)
            sent = [source.publish(7, 0)]
            assert await far.frames(1) == sent
        await client.aclose()

    run(test)


def test_the_last_id_there_is_ends_nothing(redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bus_module, "QUIET_BEFORE_LOOK_S", 0.0)

    async def test() -> None:
        client = connect_redis(redis.url)
        source = await UpstreamServer().start()
        async with (
            running(source, bus_url=redis.url),
            running(bus_url=redis.url) as reader,
            await RawClient.connect(port_of(reader)) as far,
        ):
            await client.xadd(STREAM, {"foo": "bar"}, id=f"{2**64 - 1}-{2**64 - 1}")
            await until(lambda: reader.bus.skipped == 1)
            sent = [source.publish(7, 0)]
            assert await far.frames(1) == sent
        await client.aclose()

    run(test)


def test_waiting_messages_are_bounded_in_bytes(redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bus_module, "QUEUE_BYTES", 1000)

    async def test() -> None:
        source = await UpstreamServer().start()
        redis.stop()
        async with running(source, bus_url=redis.url) as writer:
            for index in range(20):
                source.publish(7, index)
            await until(lambda: writer.relay.stats.forwarded == 20)
            size = len(flashblock(7, 19))
            assert writer.bus.given_up == 20 - 1000 // size
            redis.start()
            await until(lambda: writer.bus.written == 1000 // size)

    run(test)


LIMITS = ConnectionLimits(instance=0, per_address=2)


@pytest.mark.parametrize(
    "poison",
    [
        ["SET", "t:ip:a", "text"],
        ["RPUSH", "t:ip:a", "1", "2"],
        ["SADD", "t:ip:a", "1"],
        ["HSET", "t:ip:a", "x", "abc", "y", "nan", "z", "-5", "w", "1e300", "v", "9" * 300],
        ["HSET", "t:ip:a", *(str(number) for number in range(30_000))],
    ],
)
@pytest.mark.parametrize("when", ["before", "after"])
def test_limits_whose_data_are_none_go_on(redis: RedisServer, poison: list[str], when: str) -> None:
    async def test() -> None:
        client = connect_redis(redis.url)
        # Others that live: their counts would be believed.
        for name in ("x", "y", "z", "w", "v"):
            await client.set(f"t:alive:{name}", "1")
        counts = ConnectionCounts()
        shared = RedisLimits(redis.url, "t", counts, BusFailure.CLOSED)
        held = []

        async def acquire() -> ConnectionTicket | ConnectionRefused | None:
            own = counts.acquire(ConnectionLimits(instance=0, per_address=0), "a", None, None)
            assert isinstance(own, ConnectionTicket)
            return await shared.acquire(LIMITS, "a", None, None)

        if when == "after":
            held.append(await acquire())
            if poison[0] != "HSET":
                await client.delete("t:ip:a")
        await client.execute_command(*poison)
        if when == "after":
            await shared.beat()
        else:
            held.append(await acquire())
        for _ in range(2):
            await shared.beat()
            held.append(await acquire())
        assert [isinstance(one, ConnectionTicket) for one in held[:2]] == [True, True]
        assert held[2] == ConnectionRefused(Limit.ADDRESS, 2)
        assert shared.repaired and not shared.failing
        await shared.close()
        await client.aclose()

    run(test)


def test_the_instances_own_count_is_no_number(redis: RedisServer) -> None:
    async def test() -> None:
        client = connect_redis(redis.url)
        shared = RedisLimits(redis.url, "t", ConnectionCounts(), BusFailure.CLOSED)
        await client.hset("t:ip:a", shared.instance, "many")
        assert isinstance(await shared.acquire(LIMITS, "a", None, None), ConnectionTicket)
        assert await client.hget("t:ip:a", shared.instance) == b"1"
        await asyncio.sleep(0)
        await shared.close()
        await client.aclose()

    run(test)


def test_redis_url_alone_shares_limits_and_no_stream(redis: RedisServer) -> None:
    async def test() -> None:
        first, second = await UpstreamServer().start(), await UpstreamServer().start()
        shared = {"bus_limits_url": redis.url, "access_per_ip_limit": 1}
        async with (
            running(first, **shared) as one,
            running(second, **shared) as other,
            await RawClient.connect(port_of(other)) as client,
        ):
            first.publish(7, 0)
            await until(lambda: one.relay.stats.forwarded == 1)
            sent = second.publish(8, 0)
            assert await client.frames(1) == [sent] and other.relay.stats.forwarded == 1
            assert one.bus is None and other.bus is None
            code, _, _ = await http(port_of(one), upgrade_request("/ws"))
            assert code == 429, "the client of the other proxy counts"

    run(test)


def test_two_chains_on_one_redis_do_not_mix(redis: RedisServer) -> None:
    async def test() -> None:
        first, second = await UpstreamServer().start(), await UpstreamServer().start()
        async with (
            running(first, bus_url=redis.url, bus_chain="one") as writer,
            running(second, bus_url=redis.url, bus_chain="two"),
            running(bus_url=redis.url, bus_chain="one") as reader,
            await RawClient.connect(port_of(reader)) as client,
        ):
            second.publish(8, 0)
            sent = [first.publish(7, index) for index in range(3)]
            assert await client.frames(3) == sent
            await until(lambda: writer.bus.written == 3)
            assert reader.relay.stats.forwarded == 3

    run(test)
