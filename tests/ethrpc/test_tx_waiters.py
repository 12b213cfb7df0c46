"""Waiting for transactions: woken once, a few at a time, and only so many."""

from __future__ import annotations

import asyncio

import pytest

from flashctl.core.jsonrpc.errors import RpcError
from flashctl.ethrpc.tx_waiters import WOKEN_AT_ONCE, TxWaiters


def test_who_waits_is_woken_by_his_transaction_alone() -> None:
    async def body() -> None:
        arrivals = TxWaiters()
        with arrivals.expect(b"a") as first, arrivals.expect(b"b") as second:
            arrivals.arrived([b"c", b"a"])
            assert first.is_set() and not second.is_set()
        assert not arrivals.is_awaited
        arrivals.arrived([b"a"])

    asyncio.run(body())


def test_a_crowd_is_woken_a_few_in_each_turn_of_the_loop() -> None:
    async def body() -> None:
        arrivals = TxWaiters()
        answered: list[int] = []
        turns: list[int] = []

        async def wait(position: int) -> None:
            with arrivals.expect(position.to_bytes(4, "big")) as event:
                await event.wait()
                answered.append(position)

        tasks = [asyncio.create_task(wait(position)) for position in range(10 * WOKEN_AT_ONCE)]
        await asyncio.sleep(0)
        arrivals.arrived(position.to_bytes(4, "big") for position in range(len(tasks)))
        while len(answered) < len(tasks):
            before = len(answered)
            await asyncio.sleep(0)
            turns.append(len(answered) - before)
        assert answered == list(range(len(tasks)))
        assert max(turns) <= 2 * WOKEN_AT_ONCE

    asyncio.run(body())


def test_only_so_many_wait() -> None:
    async def body() -> None:
        arrivals = TxWaiters(limit=2)
        with (
            arrivals.expect(b"a"),
            arrivals.expect(b"a"),
            pytest.raises(RpcError, match="too many callers wait"),
            arrivals.expect(b"b"),
        ):
            pass
        with arrivals.expect(b"b"):
            pass

    asyncio.run(body())
