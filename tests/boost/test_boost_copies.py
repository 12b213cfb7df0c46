"""Copies of transactions reach the builder in order, late rather than never, within limits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import orjson
import pytest
from support.engines import SECRET, ToyBuilder, genesis
from support.waiting import until

from flashctl.boost import tx_mirror as copies
from flashctl.boost.tx_mirror import TransactionMirror
from flashctl.core.jsonrpc.client import JsonRpcClient


def request(number: int) -> bytes:
    params = ["0x02" + number.to_bytes(2, "big").hex()]
    return orjson.dumps({"jsonrpc": "2.0", "id": 1, "method": "eth_sendRawTransaction", "params": params})


def expected(numbers: range) -> list[bytes]:
    return [b"\x02" + number.to_bytes(2, "big") for number in numbers]


def play(scenario: Callable[[ToyBuilder, TransactionMirror], Awaitable[None]]) -> None:
    async def main() -> None:
        builder = ToyBuilder(genesis())
        await builder.start()
        client = JsonRpcClient(builder.url, jwt_secret=SECRET, timeout_s=1)
        queue = TransactionMirror(client)
        try:
            await scenario(builder, queue)
        finally:
            await queue.close()
            await client.close()
            await builder.stop()

    asyncio.run(main())


def test_a_flood_arrives_in_order() -> None:
    async def scenario(builder: ToyBuilder, queue: TransactionMirror) -> None:
        for number in range(1000):
            queue.add(request(number))
        await until(lambda: len(builder.pool) == 1000)
        assert builder.pool == expected(range(1000))

    play(scenario)


def test_what_was_sent_while_the_builder_was_away_arrives_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies, "RETRY_S", 0.05)

    async def scenario(builder: ToyBuilder, queue: TransactionMirror) -> None:
        queue.add(request(0))
        await until(lambda: builder.pool)
        await builder.stop()
        put_back = queue._put_back
        tries: list[int] = []

        def note(batch: list[tuple[float, bytes]]) -> None:
            tries.append(len(batch))
            put_back(batch)

        monkeypatch.setattr(queue, "_put_back", note)
        for number in range(1, 250):
            queue.add(request(number))
        # Refused at least twice.
        await until(lambda: len(tries) >= 2)
        queue.add(request(250))
        await builder.start()
        await until(lambda: len(builder.pool) == 251)
        assert builder.pool == expected(range(251))
        assert queue.dropped == 0

    play(scenario)


def test_a_refused_transaction_holds_nobody_up() -> None:
    async def scenario(builder: ToyBuilder, queue: TransactionMirror) -> None:
        queue.add(request(0))
        queue.add(b'{"jsonrpc":"2.0","id":1,"method":"eth_sendRawTransaction","params":["0xzz"]}')
        queue.add(request(1))
        await until(lambda: len(builder.pool) == 2)
        assert builder.pool == expected(range(2))

    play(scenario)


def test_oldest_go_first_when_there_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies, "RETRY_S", 0.05)
    monkeypatch.setattr(copies, "MAX_WAITING", 10)

    async def scenario(builder: ToyBuilder, queue: TransactionMirror) -> None:
        await builder.stop()
        for number in range(15):
            queue.add(request(number))
        assert queue.dropped == 5
        await builder.start()
        await until(lambda: len(builder.pool) == 10)
        assert builder.pool == expected(range(5, 15))

    play(scenario)


def test_too_old_ones_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copies, "RETRY_S", 0.02)
    monkeypatch.setattr(copies, "MAX_AGE_S", 0.0)

    async def scenario(builder: ToyBuilder, queue: TransactionMirror) -> None:
        await builder.stop()
        queue.add(request(0))
        await until(lambda: queue.dropped == 1)

    play(scenario)
