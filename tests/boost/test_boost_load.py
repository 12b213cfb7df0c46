"""Much traffic and large answers: engine calls have connections of their own, a builder's bytes a bound."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from support.boost_lab import Setup, play
from support.engines import DEPOSIT

from flashctl.boost.service import BUILDER_LIMITS, FORWARD_LIMITS
from flashctl.core.jsonrpc.client import JsonRpcClient
from flashctl.core.jsonrpc.json_bounds import MAX_VALUES

TX = b"\x02\xc0\x01"


@asynccontextmanager
async def held(s: Setup, method: str, count: int) -> AsyncIterator[asyncio.Event]:
    """So many calls that the fallback answers when the event is set, and all of them answered then."""
    release = asyncio.Event()
    under_way = 0

    async def answer() -> Any:
        nonlocal under_way
        under_way += 1
        await release.wait()
        return "0x1"

    s.fallback.faults[method] = answer
    client = JsonRpcClient(s.boost.rpc_url, timeout_s=30)
    calls = [asyncio.create_task(client.call(method)) for _ in range(count)]
    await s.until(lambda: under_way >= min(count, 60))
    yield release
    assert not any(call.done() for call in calls)
    release.set()
    assert await asyncio.gather(*calls) == ["0x1"] * count
    await client.close()


class TestForwards:
    @pytest.mark.parametrize("count", [90])
    def test_slow_calls_of_others_hold_no_block(self, tmp_path: Path, count: int) -> None:
        async def scenario(s: Setup) -> None:
            async with held(s, "eth_chainId", count):
                for _ in range(3):
                    assert (await s.driver.finish(await s.build([TX]))).transactions == (DEPOSIT, TX)
                client = JsonRpcClient(s.boost.rpc_url)
                s.fallback.faults["miner_setMaxDASize"] = lambda: True
                assert await client.call("miner_setMaxDASize", ["0x1", "0x1"]) is True
                await client.close()
                assert await s.health() == 200

        play(tmp_path, scenario, fallback_timeout_s=20.0)

    def test_the_pool_is_bounded_and_its_line_costs_nobody_an_answer(self, tmp_path: Path) -> None:
        async def scenario(s: Setup) -> None:
            s.boost.forwards._http._line._free = 4  # four connections, and a line behind them
            release = asyncio.Event()
            under_way: list[int] = []

            async def answer() -> Any:
                under_way.append(1)
                await release.wait()
                return "0x1"

            s.fallback.faults["eth_chainId"] = answer
            client = JsonRpcClient(s.boost.rpc_url, timeout_s=30)
            calls = [asyncio.create_task(client.call("eth_chainId")) for _ in range(40)]
            await s.until(lambda: len(under_way) == 4)
            await s.driver.finish(await s.driver.begin())
            assert len(under_way) == 4
            release.set()
            assert await asyncio.gather(*calls) == ["0x1"] * 40
            await client.close()

        play(tmp_path, scenario, fallback_timeout_s=5.0)
        assert FORWARD_LIMITS.connections == 256


async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers every request with 100 MB."""
    chunk = b"1," * 32 * 1024
    try:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (1600 * len(chunk)))
            for _ in range(1600):
                writer.write(chunk)
                await writer.drain()
    except (ConnectionError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()


def resident() -> int:
    """Bytes of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


class TestBuilderAnswers:
    def test_hundred_megabytes_leave_nothing(self, tmp_path: Path) -> None:
        async def scenario(s: Setup) -> None:
            await s.builder.server.close()  # type: ignore[union-attr]
            server = await asyncio.start_server(endless, "127.0.0.1", s.builder.port)
            await s.driver.finish(await s.driver.begin())
            before = resident()
            for _ in range(10):
                await s.driver.finish(await s.driver.begin())
                assert s.last_decision()["source"] == "l2"
            assert resident() - before < 3 * BUILDER_LIMITS.body_bytes
            server.close()
            s.builder.server = None

        play(tmp_path, scenario, builder_timeout_s=3.0)

    def test_too_many_values_are_refused_unparsed(self, tmp_path: Path) -> None:
        async def scenario(s: Setup) -> None:
            s.builder.faults["engine_getPayloadV4"] = lambda: {"executionPayload": {}, "x": [0] * MAX_VALUES}
            await s.driver.finish(await s.driver.begin())
            assert "more than 400000 values" in s.last_decision()["reason"]

        play(tmp_path, scenario)

    def test_large_but_right_is_taken(self, tmp_path: Path) -> None:
        async def scenario(s: Setup) -> None:
            s.builder.pool = [b"\x02" + bytes(3_000_000)]
            block = await s.driver.finish(await s.driver.begin())
            assert block.transactions == (DEPOSIT, *s.builder.pool)
            assert s.last_decision()["via"] == "getPayload"

        play(tmp_path, scenario, builder_timeout_s=5.0, fallback_timeout_s=5.0)
