"""Many proxies, one stream and one set of limits, over a real redis-server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from support.proxy_lab import UpstreamServer, port_of, run, running
from support.raw_websocket import RawClient, http, upgrade_request
from support.redis_server import RedisServer
from support.waiting import until, until_answered

from flashctl.errors import UsageError
from flashctl.proxy.config import BusFailure
from flashctl.proxy.connection_limits import (
    ConnectionCounts,
    ConnectionLimits,
    ConnectionRefused,
    ConnectionTicket,
    Limit,
)
from flashctl.proxy.redis_client import connect_redis
from flashctl.proxy.service import Proxy
from flashctl.proxy.shared_limits import RedisLimits


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


async def upstream() -> UpstreamServer:
    return await UpstreamServer().start()


class TestStream:
    def test_a_machine_without_upstreams_serves_what_another_writes(self, redis: RedisServer) -> None:
        async def test() -> None:
            source = await upstream()
            async with (
                running(source, bus_url=redis.url) as writer,
                running(bus_url=redis.url) as reader,
                await RawClient.connect(port_of(reader)) as client,
            ):
                sent = [source.publish(7, index) for index in range(5)]
                sent.append(source.publish(7, 5, binary=True))
                assert await client.frames(6) == sent
                await until(lambda: writer.relay.stats.dropped["duplicate"] == 6), "its own, read back"
                assert reader.fresh()

        run(test)

    def test_several_writers_make_one_stream(self, redis: RedisServer) -> None:
        async def test() -> None:
            first, second = await upstream(), await upstream()
            async with (
                running(first, bus_url=redis.url) as one,
                running(second, bus_url=redis.url) as two,
                running(bus_url=redis.url) as reader,
                await RawClient.connect(port_of(reader)) as client,
            ):
                for index in range(20):
                    sent = [first.publish(7, index)]
                    second.publish(7, index)
                    assert await client.frames(1) == sent
                await until(lambda: one.bus.written == two.bus.written == 20 or one.bus.written > 0)
                sent = [first.publish(8, 0)]
                assert await client.frames(1) == sent, "nothing twice"
                assert reader.relay.stats.forwarded == 21

        run(test)

    def test_one_that_starts_late_has_the_open_block(self, redis: RedisServer) -> None:
        async def test() -> None:
            source = await upstream()
            async with running(source, bus_url=redis.url) as writer:
                sent = [source.publish(7, index) for index in range(4)]
                await until(lambda: writer.bus.written == 4)
                async with running(bus_url=redis.url) as late:
                    await until(lambda: late.relay.stats.forwarded == 4)
                    async with await RawClient.connect(port_of(late)) as client:
                        assert await client.frames(4) == sent

        run(test)

    def test_redis_may_go_and_come_back(self, redis: RedisServer) -> None:
        async def test() -> None:
            source = await upstream()
            async with (
                running(source, bus_url=redis.url) as writer,
                running(bus_url=redis.url) as reader,
                await RawClient.connect(port_of(writer)) as near,
                await RawClient.connect(port_of(reader)) as far,
            ):
                sent = [source.publish(7, 0)]
                assert await far.frames(1) == await near.frames(1) == sent
                redis.stop()
                # Whoever is at the writer notices nothing.
                sent = [source.publish(7, 1), source.publish(7, 2)]
                assert await near.frames(2) == sent
                await until(lambda: not reader.bus.connected)
                redis.start()
                sent.append(source.publish(7, 3))
                assert await far.frames(3) == sent
                assert reader.bus.connected
                assert writer.bus.given_up == 0

        run(test)

    def test_the_password_is_nowhere(self, redis: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level("DEBUG", logger="flashctl")

        async def test() -> None:
            async with running(bus_url=redis.url) as proxy:
                await until(lambda: proxy.bus.connected)
                for page in ("/status", "/metrics"):
                    request = f"GET {page} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
                    _, _, body = await http(proxy.status_server.port, request)
                    assert b"s3cret" not in body
                redis.stop()
                await until(lambda: not proxy.bus.connected)

        run(test)
        assert "s3cret" not in caplog.text

    def test_a_url_that_is_none(self) -> None:
        pytest.importorskip("redis")
        with pytest.raises(UsageError, match="redis://"):
            connect_redis("http://x")


LIMITS = ConnectionLimits(instance=0, per_address=3)


def instance(
    redis: RedisServer, failure: BusFailure = BusFailure.CLOSED
) -> tuple[ConnectionCounts, RedisLimits]:
    counts = ConnectionCounts()
    return counts, RedisLimits(redis.url, "t", counts, failure)


async def is_admitted(who: tuple[ConnectionCounts, RedisLimits]) -> bool:
    return isinstance(await acquire(who), ConnectionTicket)


async def is_not_limited(proxy: Proxy) -> bool:
    return (await http(port_of(proxy), upgrade_request("/ws?compression=x")))[0] != 429


async def acquire(
    pair: tuple[ConnectionCounts, RedisLimits],
    address: str = "a",
    app: str | None = None,
    app_limit: int | None = None,
) -> ConnectionTicket | ConnectionRefused | None:
    """As proxy.access does it: here first, then everywhere."""
    counts, shared = pair
    own = counts.acquire(LIMITS, address, app, app_limit)
    assert isinstance(own, ConnectionTicket)
    ticket = await shared.acquire(LIMITS, address, app, app_limit)
    if isinstance(ticket, ConnectionTicket):
        return ConnectionTicket(lambda: (own.release(), ticket.release()))
    own.release()
    return ticket


class TestLimits:
    def test_counted_across_instances(self, redis: RedisServer) -> None:
        async def test() -> None:
            one, two = instance(redis), instance(redis)
            held = [await acquire(one), await acquire(two), await acquire(one)]
            assert await acquire(two) == ConnectionRefused(Limit.ADDRESS, 3)
            assert isinstance(await acquire(two, "2001:db8::/64"), ConnectionTicket), (
                "others are not concerned"
            )
            held[0].release()
            await until(lambda: not one[1]._tasks)
            assert isinstance(await acquire(two), ConnectionTicket)

        run(test)

    def test_a_refusal_by_the_key_leaves_the_address_alone(self, redis: RedisServer) -> None:
        async def test() -> None:
            one, two = instance(redis), instance(redis)
            await acquire(two, app="x", app_limit=1)
            for _ in range(5):
                assert await acquire(one, app="x", app_limit=1) == ConnectionRefused(Limit.KEY, 1)
            assert isinstance(await acquire(one), ConnectionTicket)
            assert isinstance(await acquire(one), ConnectionTicket)
            assert await acquire(one) == ConnectionRefused(Limit.ADDRESS, 3)

        run(test)

    def test_simultaneous_requests_never_exceed_a_limit(self, redis: RedisServer) -> None:
        async def test() -> None:
            pairs = [instance(redis) for _ in range(4)]
            tickets = await asyncio.gather(*(acquire(pair) for pair in pairs for _ in range(3)))
            assert sum(isinstance(ticket, ConnectionTicket) for ticket in tickets) == 3

        run(test)

    def test_a_crashed_instance_gives_its_connections_back(
        self, redis: RedisServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("flashctl.proxy.shared_limits.HEARTBEAT_TTL_S", 0.3)

        async def test() -> None:
            crashed, other = instance(redis), instance(redis)
            for _ in range(3):
                assert isinstance(await acquire(crashed), ConnectionTicket)
            assert isinstance(await acquire(other), ConnectionRefused)
            await until_answered(lambda: is_admitted(other))
            client = connect_redis(redis.url)
            assert list(await client.hgetall("t:ip:a")) == [other[1].instance.encode()]
            await client.aclose()

        run(test)

    def test_every_key_has_a_time_to_live(self, redis: RedisServer) -> None:
        async def test() -> None:
            source = await upstream()
            async with (
                running(source, bus_url=redis.url, access_api_keys=("app:key:9",)) as proxy,
                await RawClient.connect(port_of(proxy), "/ws/key"),
            ):
                source.publish(7, 0)
                await until(lambda: proxy.bus.written == 1)
                client = connect_redis(redis.url)
                for key in await client.keys("*"):
                    if not key.endswith(b":stream"):
                        assert await client.pttl(key) > 0, key
                await client.aclose()

        run(test)

    def test_the_heartbeat_repairs_what_redis_forgot(self, redis: RedisServer) -> None:
        async def test() -> None:
            one, two = instance(redis), instance(redis)
            for _ in range(3):
                await acquire(one)
            client = connect_redis(redis.url)
            await client.flushall()
            await client.aclose()
            await one[1].beat()
            assert await acquire(two) == ConnectionRefused(Limit.ADDRESS, 3)

        run(test)

    def test_fail_open_or_closed(self, redis: RedisServer) -> None:
        async def test() -> None:
            redis.stop()
            assert await acquire(instance(redis, BusFailure.OPEN)) is None
            assert await acquire(instance(redis, BusFailure.CLOSED)) == ConnectionRefused(Limit.BUS, 0)

        run(test)

    def test_a_proxy_whose_bus_is_away(self, redis: RedisServer) -> None:
        async def test() -> None:
            redis.stop()
            source = await upstream()
            async with (
                running(source, bus_url=redis.url, access_per_ip_limit=1) as proxy,
                await RawClient.connect(port_of(proxy)) as client,
            ):
                sent = source.publish(7, 0)
                assert await client.frames(1) == [sent]
                assert (await http(port_of(proxy), upgrade_request()))[0] == 429, "its own limit holds"
            async with running(source, bus_url=redis.url, bus_on_failure=BusFailure.CLOSED) as proxy:
                status, headers, body = await http(port_of(proxy), upgrade_request())
                assert status == 429
                assert b"Shared limits unavailable" in body
                assert headers["retry-after"] == "2"

        run(test)

    def test_two_proxies_share_a_limit(self, redis: RedisServer) -> None:
        async def test() -> None:
            settings = {"bus_url": redis.url, "access_per_ip_limit": 2}
            async with (
                running(**settings) as one,
                running(**settings) as two,
                await RawClient.connect(port_of(one)),
                await RawClient.connect(port_of(two)) as second,
            ):
                assert (await http(port_of(one), upgrade_request()))[0] == 429
                second.close()
                await until_answered(lambda: is_not_limited(one))

        run(test)
