"""Nothing of a large answer outlives it: no cycle waits for a collection, in client or server.

Services collect cycles rarely (and what they loaded at start never), so these tests do so not at all.
"""

from __future__ import annotations

import asyncio
import gc
import resource
import weakref
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import orjson
import pytest
import uvloop
from websockets.asyncio.client import connect

from flashctl.core.jsonrpc.client import JsonRpcClient
from flashctl.core.jsonrpc.errors import RpcError
from flashctl.core.jsonrpc.methods import Methods
from flashctl.core.jsonrpc.server import RunningServer, serve
from flashctl.core.net.http_reply import ClientLimits, ResponseParser
from flashctl.errors import FlashctlError

LARGE = 512 * 1024
PAGE = resource.getpagesize()


@pytest.fixture(autouse=True)
def no_collections() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()
    gc.collect()


def resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * PAGE


def table(garbage: bytes = b"") -> Methods:
    async def large(params: list[Any]) -> Any:
        return "x" * params[0]

    async def refused(params: list[Any]) -> Any:
        raise RpcError(3, "execution reverted", "x" * params[0])

    async def broken(params: list[Any]) -> Any:
        text = "x" * params[0]
        raise ZeroDivisionError(text[:10])

    methods = Methods()
    methods.register_all([("large", large), ("refused", refused), ("broken", broken)])
    return methods


def talk(scenario: Callable[[RunningServer, JsonRpcClient], Awaitable[None]], **options: Any) -> None:
    async def main() -> None:
        server = await serve(table(), "127.0.0.1", 0, **options)
        client = JsonRpcClient(server.url, timeout_s=60)
        await scenario(server, client)
        await client.close()
        await server.close()

    uvloop.run(main())


async def failing(call: Awaitable[Any]) -> None:
    with pytest.raises(FlashctlError):
        await call


async def half_an_answer(server: RunningServer, client: JsonRpcClient) -> None:
    """A reply that stalls in its body, until the time-out."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (2 * LARGE) + bytes(LARGE))
        await reader.read()
        writer.close()

    peer = await asyncio.start_server(answer, "127.0.0.1", 0)
    ours = JsonRpcClient(f"http://127.0.0.1:{peer.sockets[0].getsockname()[1]}", timeout_s=0.02)
    await failing(ours.call("large"))
    await ours.close()
    peer.close()


Step = Callable[[RunningServer, JsonRpcClient], Awaitable[Any]]


async def websocket_call(server: RunningServer, client: JsonRpcClient) -> None:
    async with connect(server.websocket_url, max_size=None) as ws:
        await ws.send(orjson.dumps({"id": 1, "method": "large", "params": [LARGE]}))
        await ws.recv()


async def relayed(server: RunningServer, client: JsonRpcClient) -> None:
    async def relay(method: str, request: bytes) -> bytes:
        return await client.relay(method, request)

    between = await serve(Methods(), "127.0.0.1", 0, fallback=relay)
    ours = JsonRpcClient(between.url)
    await ours.call("large", [LARGE])
    await ours.close()
    await between.close()


STEPS: dict[str, Step] = {
    "answer": lambda _, client: client.call("large", [LARGE]),
    "error": lambda _, client: failing(client.call("refused", [LARGE])),
    "defect": lambda _, client: failing(client.call("broken", [LARGE])),
    "batch": lambda _, client: client.batch([("large", [LARGE]), ("refused", [LARGE]), ("large", [9])]),
    "half": half_an_answer,
    "request": lambda _, client: client.call("large", [9, "x" * LARGE]),
    "websocket": websocket_call,
    "relay": relayed,
}


@pytest.mark.parametrize("name", STEPS)
def test_memory_stays_flat(name: str) -> None:
    """A hundred exchanges of 512 KiB, after some that fill what is kept for use: less than 10 MiB stay."""

    async def scenario(server: RunningServer, client: JsonRpcClient) -> None:
        for _ in range(10):
            await STEPS[name](server, client)
        before = resident()
        for _ in range(100):
            await STEPS[name](server, client)
        assert resident() - before < 20 * LARGE

    talk(scenario)


@pytest.mark.slow
def test_two_thousand_large_replies() -> None:
    """One process is client and server: 2 GB pass through it, and some 30 MB of them stay at most."""

    async def scenario(server: RunningServer, client: JsonRpcClient) -> None:
        await asyncio.gather(*(client.call("large", [1 << 20]) for _ in range(8)))
        before = resident()
        for _ in range(250):
            await asyncio.gather(*(client.call("large", [1 << 20]) for _ in range(8)))
        assert resident() - before < 32 << 20

    talk(scenario)


class TestParser:
    """The parser is part of a cycle as long as it works, and no longer."""

    HALF = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello"

    def drop(self, use: Callable[[ResponseParser], object]) -> bool:
        parser = ResponseParserWithWeakref(ClientLimits(body_bytes=20))
        gone = weakref.ref(parser)
        use(parser)
        del parser
        return gone() is None

    def test_a_reply(self) -> None:
        assert self.drop(lambda parser: parser.receive_data(self.HALF + b"world"))

    @pytest.mark.parametrize(
        "end",
        [b"more\r\n", b"world" + HALF, b"\x00"],
    )
    def test_an_error(self, end: bytes) -> None:
        def use(parser: ResponseParser) -> None:
            try:
                parser.receive_data(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n")
                parser.receive_data(end)
            except FlashctlError:
                pass

        assert self.drop(use)

    def test_given_up(self) -> None:
        def use(parser: ResponseParser) -> None:
            parser.receive_data(self.HALF)
            parser.close()

        assert self.drop(use)


class ResponseParserWithWeakref(ResponseParser):
    __slots__ = ("__weakref__",)
