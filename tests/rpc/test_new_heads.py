"""The node's newHeads spare the overlay the polling, and nothing depends on them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from support.chain_lab import grow
from support.rpc_node import Bench, bench, run
from support.waiting import until
from websockets.asyncio.server import ServerConnection, serve

from flashctl.rpc import chain_follower
from flashctl.rpc import new_heads as heads
from flashctl.rpc.new_heads import NewHeads

NEVER_S = 3600.0


def seal(made: Bench) -> int:
    """A block more on the node; its number."""
    (block,) = grow(made.lab.chain, 1)
    made.lab.chain.set_head(block.hash)
    return made.lab.chain.head.number


async def overlay_reaches(made: Bench, number: int) -> None:
    await until(lambda: made.node.overlay.head is not None and made.node.overlay.head.number == number)


def test_heads_are_told() -> None:
    async def main() -> None:
        async with bench(is_told=True, poll_interval_s=NEVER_S) as made:
            for _ in range(3):
                await overlay_reaches(made, seal(made))

    asyncio.run(main())


def test_news_of_a_head_that_the_node_does_not_show_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind one URL there may be several nodes, one ahead of the other."""
    monkeypatch.setattr(chain_follower, "LIVE_POLL_S", NEVER_S)

    async def tell_too_early(connection: ServerConnection) -> None:
        await connection.recv()
        await connection.send('{"jsonrpc":"2.0","id":1,"result":"0x1"}')
        await connection.wait_closed()

    looks, look = 0, chain_follower.ChainFollower._look

    async def counted(self: chain_follower.ChainFollower) -> bool:
        nonlocal looks
        looks += 1
        return await look(self)

    monkeypatch.setattr(chain_follower.ChainFollower, "_look", counted)

    async def main() -> None:
        async with serve(tell_too_early, "127.0.0.1", 0) as server:
            url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            async with bench(upstream_ws_url=url, poll_interval_s=0.02) as made:
                news = made.node.chain._new_heads
                await until(lambda: news is not None and news.is_live)
                seen = looks
                await until(lambda: looks >= seen + 2)
                number, overlay = seal(made), made.node.overlay
                await made.until(lambda: overlay.head is not None and overlay.head.number == number)

    asyncio.run(main())


@pytest.mark.parametrize("url", ["ws://127.0.0.1:1", "ws://127.0.0.1:1/path"])
def test_without_them_heads_are_polled(url: str) -> None:
    async def scenario(made: Bench) -> None:
        await overlay_reaches(made, seal(made))

    run(scenario, upstream_ws_url=url)


@pytest.mark.parametrize(
    "answer",
    [
        "no JSON",
        "[]",
        '{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"no such method"}}',
        b"\xff",
    ],
)
def test_a_node_that_refuses_is_no_news(answer: str | bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked again later, and never taken for one that tells."""
    monkeypatch.setattr(heads, "_BACKOFF", heads.Backoff(initial_s=0.001, maximum_s=0.001))
    asked = told = 0

    async def refuse(connection: ServerConnection) -> None:
        nonlocal asked
        asked += 1
        assert "newHeads" in str(await connection.recv())
        await connection.send(answer)
        await connection.wait_closed()

    def tell() -> None:
        nonlocal told
        told += 1

    async def main() -> None:
        async with serve(refuse, "127.0.0.1", 0) as server:
            news = NewHeads(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}", tell)
            task = asyncio.ensure_future(news.run())
            await until(lambda: asked >= 3)
            assert not news.is_live
            task.cancel()

    asyncio.run(main())
    assert told == 0


def test_a_broken_subscription_is_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads, "_BACKOFF", heads.Backoff(initial_s=0.001, maximum_s=0.001))
    connections: list[Any] = []
    told = asyncio.Event()

    async def accept(connection: ServerConnection) -> None:
        connections.append(connection)
        await connection.recv()
        await connection.send('{"jsonrpc":"2.0","id":1,"result":"0x1"}')
        await connection.send('{"jsonrpc":"2.0","method":"eth_subscription","params":{}}')
        await connection.wait_closed()

    async def main() -> None:
        async with serve(accept, "127.0.0.1", 0) as server:
            news = NewHeads(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}", told.set)
            task = asyncio.ensure_future(news.run())
            await told.wait()
            assert news.is_live
            connections[0].transport.abort()
            await until(lambda: len(connections) == 2 and news.is_live)
            task.cancel()

    asyncio.run(main())
