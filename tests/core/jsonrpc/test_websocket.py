"""WebSocket side of the server: calls, subscriptions and their order, limits, refusals, shutdown."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest
import websockets
from support.waiting import turns
from websockets.asyncio.client import ClientConnection, connect

from flashctl.core.engine import jwt
from flashctl.core.jsonrpc.dispatch import RpcLimits
from flashctl.core.jsonrpc.methods import Methods, Subscription
from flashctl.core.jsonrpc.server import RunningServer, serve
from flashctl.errors import InvalidParams

SECRET = b"\x11" * 32


class Ticker:
    """A source of notifications that a test drives."""

    def __init__(self) -> None:
        self.live: set[Subscription] = set()
        self.running = 0
        self.most_running = 0

    async def ticks(self, params: list[Any], subscription: Subscription) -> None:
        if params and not isinstance(params[0], int):
            raise InvalidParams("not a number")
        self.live.add(subscription)
        subscription.on_close(lambda: self.live.discard(subscription))
        subscription.notify({"first": params[0] if params else 0})

    async def waits(self, params: list[Any]) -> Any:
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        await turns(params[0])
        self.running -= 1
        return params[0]

    def methods(self) -> Methods:
        table = Methods()
        table.register("waits", self.waits)
        table.register_subscription("eth", "ticks", self.ticks)
        return table


def converse(scenario: Callable[[Ticker, RunningServer], Awaitable[None]], **options: Any) -> None:
    async def main() -> None:
        ticker = Ticker()
        server = await serve(ticker.methods(), "127.0.0.1", 0, **options)
        try:
            async with asyncio.timeout(60):
                await scenario(ticker, server)
        finally:
            await server.close()

    asyncio.run(main())


async def ask(client: ClientConnection, method: str, *params: Any, identity: Any = 1) -> Any:
    await client.send(json.dumps({"jsonrpc": "2.0", "id": identity, "method": method, "params": params}))
    return json.loads(await client.recv())


def test_calls_overlap_up_to_the_limit() -> None:
    async def scenario(ticker: Ticker, server: RunningServer) -> None:
        async with connect(server.websocket_url) as client:
            for number in range(6):
                call = {"id": number, "method": "waits", "params": [50 - number]}
                await client.send(json.dumps(call))
            replies = [json.loads(await client.recv()) for _ in range(6)]
            assert sorted(reply["id"] for reply in replies) == [0, 1, 2, 3, 4, 5]
            assert ticker.most_running == 3

    converse(scenario, limits=RpcLimits(in_flight=3))


def test_both_transports_share_the_port() -> None:
    async def scenario(ticker: Ticker, server: RunningServer) -> None:
        async with connect(server.websocket_url + "/ws") as client, httpx.AsyncClient() as http:
            assert (await ask(client, "waits", 0))["result"] == 0
            await client.send(b'{"id":2,"method":"waits","params":[0]}')
            assert json.loads(await client.recv())["id"] == 2
            assert (await ask(client, "nope"))["error"]["code"] == -32601
            await client.send("{")
            assert json.loads(await client.recv())["error"]["code"] == -32700
            reply = await http.post(server.url, json={"id": 1, "method": "waits", "params": [0]})
            assert reply.json()["result"] == 0

    converse(scenario)


def test_subscriptions_of_namespaces_that_the_port_has_not() -> None:
    async def scenario(ticker: Ticker, server: RunningServer) -> None:
        async with connect(server.websocket_url) as client:
            assert (await ask(client, "eth_subscribe", "ticks"))["error"]["code"] == -32601
            assert not ticker.live

    converse(scenario, namespaces={"net"})


class TestSubscriptions:
    def test_from_subscribe_to_unsubscribe(self) -> None:
        async def scenario(ticker: Ticker, server: RunningServer) -> None:
            async with connect(server.websocket_url) as client:
                identity = (await ask(client, "eth_subscribe", "ticks", 7))["result"]
                # Notified inside the handler, and yet after the answer that names the subscription.
                assert json.loads(await client.recv()) == {
                    "jsonrpc": "2.0",
                    "method": "eth_subscription",
                    "params": {"subscription": identity, "result": {"first": 7}},
                }
                (subscription,) = ticker.live
                subscription.notify([1, 2])
                assert json.loads(await client.recv())["params"]["result"] == [1, 2]
                assert (await ask(client, "eth_unsubscribe", identity))["result"] is True
                assert subscription.closed
                assert not ticker.live
                subscription.notify("nobody hears this")
                error = (await ask(client, "eth_unsubscribe", identity))["error"]
                assert error == {"code": -32000, "message": "subscription not found"}

        converse(scenario)

    def test_end_with_their_connection(self) -> None:
        async def scenario(ticker: Ticker, server: RunningServer) -> None:
            async with connect(server.websocket_url) as client:
                await ask(client, "eth_subscribe", "ticks")
                (subscription,) = ticker.live
                gone = asyncio.Event()
                subscription.on_close(gone.set)
            await gone.wait()
            assert not ticker.live

        converse(scenario)

    @pytest.mark.parametrize(
        ("params", "code"), [([], -32602), ([5], -32602), (["nope"], -32601), (["ticks", "x"], -32602)]
    )
    def test_refused(self, params: list[Any], code: int) -> None:
        async def scenario(ticker: Ticker, server: RunningServer) -> None:
            async with connect(server.websocket_url) as client:
                assert (await ask(client, "eth_subscribe", *params))["error"]["code"] == code
                assert not ticker.live

        converse(scenario)

    def test_not_over_http(self) -> None:
        async def scenario(ticker: Ticker, server: RunningServer) -> None:
            async with httpx.AsyncClient() as http:
                call = {"id": 1, "method": "eth_subscribe", "params": ["ticks"]}
                error = (await http.post(server.url, json=call)).json()["error"]
                assert error == {"code": -32601, "message": "notifications not supported"}

        converse(scenario)

    def test_limit(self) -> None:
        async def scenario(ticker: Ticker, server: RunningServer) -> None:
            async with connect(server.websocket_url) as client:
                await ask(client, "eth_subscribe", "ticks")
                await client.recv()
                assert (await ask(client, "eth_subscribe", "ticks"))["error"]["code"] == -32005
                assert len(ticker.live) == 1

        converse(scenario, limits=RpcLimits(subscriptions=1))

    def test_in_a_batch(self) -> None:
        async def scenario(ticker: Ticker, server: RunningServer) -> None:
            async with connect(server.websocket_url) as client:
                subscribe = {"id": 1, "method": "eth_subscribe", "params": ["ticks"]}
                await client.send(json.dumps([subscribe, {"id": 2, "method": "waits", "params": [0]}]))
                assert [reply["id"] for reply in json.loads(await client.recv())] == [1, 2]
                assert "params" in json.loads(await client.recv())

        converse(scenario)


class TestLimits:
    def test_client_that_does_not_read_is_cut_off(self) -> None:
        async def scenario(ticker: Ticker, server: RunningServer) -> None:
            async with connect(server.websocket_url, max_queue=1) as client:
                await ask(client, "eth_subscribe", "ticks")
                (subscription,) = ticker.live
                while not subscription.closed:
                    subscription.notify("x" * 100_000)
                    await asyncio.sleep(0)
                with pytest.raises(websockets.ConnectionClosed):
                    while True:
                        await client.recv()

        converse(scenario, limits=RpcLimits(outbound_bytes=1_000_000))

    def test_message_over_the_limit(self) -> None:
        async def scenario(ticker: Ticker, server: RunningServer) -> None:
            async with connect(server.websocket_url) as client:
                await client.send("x" * 2000)
                with pytest.raises(websockets.ConnectionClosed) as closed:
                    await client.recv()
                assert closed.value.rcvd is not None
                assert closed.value.rcvd.code == 1009
            async with connect(server.websocket_url) as client:
                assert (await ask(client, "waits", 0))["result"] == 0

        converse(scenario, limits=RpcLimits(request_bytes=1000))


class TestRefusals:
    def test_token(self) -> None:
        async def scenario(ticker: Ticker, server: RunningServer) -> None:
            with pytest.raises(websockets.InvalidStatus) as refused:
                async with connect(server.websocket_url):
                    pass
            assert refused.value.response.status_code == 401
            token = {"authorization": jwt.bearer(SECRET, time.time()).decode()}
            async with connect(server.websocket_url, additional_headers=token) as client:
                assert (await ask(client, "waits", 0))["result"] == 0

        converse(scenario, jwt_secret=SECRET)

    def test_origin(self) -> None:
        async def scenario(ticker: Ticker, server: RunningServer) -> None:
            with pytest.raises(websockets.InvalidStatus) as refused:
                async with connect(server.websocket_url, origin="https://evil.example"):  # type: ignore[arg-type]
                    pass
            assert refused.value.response.status_code == 403
            async with connect(server.websocket_url, origin="https://dapp.example") as client:  # type: ignore[arg-type]
                assert (await ask(client, "waits", 0))["result"] == 0

        converse(scenario, cors=("https://dapp.example",))

    def test_switched_off(self) -> None:
        async def scenario(ticker: Ticker, server: RunningServer) -> None:
            with pytest.raises(websockets.InvalidStatus):
                async with connect(server.websocket_url):
                    pass

        converse(scenario, websocket=False)


def test_close_says_goodbye() -> None:
    async def main() -> None:
        ticker = Ticker()
        server = await serve(ticker.methods(), "127.0.0.1", 0)
        async with connect(server.websocket_url) as client:
            await ask(client, "eth_subscribe", "ticks")
            await server.close()
            with pytest.raises(websockets.ConnectionClosed) as closed:
                while True:
                    await client.recv()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1012
        assert not ticker.live

    asyncio.run(main())
