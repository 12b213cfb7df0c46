"""JSON-RPC: our client beside httpx, our server beside bare uvicorn, and what a hop through boost costs.

    python bench/jsonrpc.py
    python bench/jsonrpc.py --seconds 5 --callers 1 16 64

Server processes run on CPU 0, the load on CPU 1. CPU microseconds a call are the kernel's count of the server
process's time (schedstat), so they hold on a busy machine where calls per second do not.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

import httpx
import orjson
import uvicorn
import uvloop

from flashctl.boost.config import BoostConfig, EngineUpstream, ServerConfig
from flashctl.boost.service import Boost
from flashctl.core.engine import jwt
from flashctl.core.jsonrpc.client import JsonRpcClient
from flashctl.core.jsonrpc.listener import EmbeddedServer
from flashctl.core.jsonrpc.methods import Methods
from flashctl.core.jsonrpc.server import serve
from flashctl.core.net.addresses import ListenAddress
from flashctl.core.service.lifecycle import Lifecycle

SECRET = b"\x42" * 32
ZERO = "0x" + "00" * 32
STATE = {"headBlockHash": ZERO, "safeBlockHash": ZERO, "finalizedBlockHash": ZERO}
ANSWER = {
    "payloadStatus": {"status": "VALID", "latestValidHash": ZERO, "validationError": None},
    "payloadId": None,
}
METHOD = "engine_forkchoiceUpdatedV3"
REQUEST = orjson.dumps({"jsonrpc": "2.0", "id": 1, "method": METHOD, "params": [STATE, None]})

Call = Callable[[], Awaitable[object]]


# -- servers, each in a process of its own ------------------------------------------------------------------


async def ours(port: Connection) -> None:
    """`core.jsonrpc.server` with a token check."""

    async def answer(params: list[Any]) -> Any:
        return ANSWER

    methods = Methods()
    for name in (METHOD, "eth_getBlockByNumber"):
        methods.register(name, answer)
    server = await serve(methods, "127.0.0.1", 0, jwt_secret=SECRET)
    port.send(server.port)
    await server.wait_closed()


async def bare(port: Connection) -> None:
    """The same answer by a raw ASGI app on uvicorn: the floor under our server."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        message = orjson.loads((await receive())["body"])
        body = orjson.dumps({"jsonrpc": "2.0", "id": message["id"], "result": ANSWER})
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    config = uvicorn.Config(app, port=0, lifespan="off", log_config=None, access_log=False, http="httptools")
    server = EmbeddedServer(config)
    task = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.01)
    port.send(server.servers[0].sockets[0].getsockname()[1])
    await task


def boost_before(upstream: int) -> Callable[[Connection], Awaitable[None]]:
    """A boost whose builder and fallback are both the server on port `upstream`."""

    async def run(port: Connection) -> None:
        side, any_port = EngineUpstream(f"http://127.0.0.1:{upstream}", SECRET), ListenAddress("127.0.0.1", 0)
        boost = Boost(BoostConfig(side, side, None, server=ServerConfig(rpc=any_port, debug=any_port)))
        await boost.start(Lifecycle())
        port.send(int(boost.rpc_url.rsplit(":", 1)[1]))
        await asyncio.Event().wait()

    return run


@contextmanager
def process(main: Callable[[Connection], Awaitable[None]]) -> Iterator[tuple[int, int]]:
    """Run a server on CPU 0; its pid and port."""

    def body(port: Connection) -> None:
        os.sched_setaffinity(0, {0})
        uvloop.run(main(port))

    ours_end, its_end = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(target=body, args=(its_end,), daemon=True)
    child.start()
    try:
        assert child.pid is not None
        yield child.pid, ours_end.recv()
    finally:
        child.terminate()
        child.join()


# -- load --------------------------------------------------------------------------------------------------


def cpu_ns(pid: int) -> int:
    """Nanoseconds a process has run."""
    with open(f"/proc/{pid}/schedstat") as file:
        return int(file.read().split()[0])


async def load(call: Call, callers: int, seconds: float) -> list[float]:
    """Call as fast as `callers` can in a row for some seconds; the time of each call."""
    for _ in range(50):
        await call()
    taken: list[float] = []
    end = time.perf_counter() + seconds

    async def caller() -> None:
        while (started := time.perf_counter()) < end:
            await call()
            taken.append(time.perf_counter() - started)

    await asyncio.gather(*(caller() for _ in range(callers)))
    return sorted(taken)


async def row(name: str, call: Call, callers: int, seconds: float, pid: int) -> float:
    """Measure and print one row; calls per second."""
    before = cpu_ns(pid)
    taken = await load(call, callers, seconds)
    cpu_us = (cpu_ns(pid) - before) / len(taken) / 1000
    rate = len(taken) / seconds
    p50, p99 = taken[len(taken) // 2] * 1000, taken[int(len(taken) * 0.99)] * 1000
    print(
        f"{name:34} {callers:3} callers {rate:7.0f}/s  p50 {p50:7.3f}  p99 {p99:7.3f} ms {cpu_us:5.0f} us CPU"
    )
    return rate


async def with_our_client(
    name: str, server: tuple[int, int], secret: bytes | None, options: argparse.Namespace, callers: int
) -> float:
    """One row of our client against a server."""
    pid, port = server
    client = JsonRpcClient(f"http://127.0.0.1:{port}", jwt_secret=secret)
    try:
        return await row(name, lambda: client.post_raw(REQUEST), callers, options.seconds, pid)
    finally:
        await client.close()


async def with_httpx(name: str, server: tuple[int, int], options: argparse.Namespace, callers: int) -> float:
    """One row of httpx against a server."""
    pid, port = server
    url = f"http://127.0.0.1:{port}"
    async with httpx.AsyncClient(trust_env=False) as client:

        async def call() -> bytes:
            token = jwt.bearer(SECRET, time.time()).decode()
            headers = {"content-type": "application/json", "authorization": token}
            return (await client.post(url, content=REQUEST, headers=headers)).content

        return await row(name, call, callers, options.seconds, pid)


async def measure(options: argparse.Namespace, servers: dict[str, tuple[int, int]]) -> None:
    """All rows, and the ratios."""
    for callers in options.callers:
        fast = await with_our_client("our client -> our server", servers["ours"], SECRET, options, callers)
        slow = await with_httpx("httpx -> our server", servers["ours"], options, callers)
        floor = await with_our_client("our client -> bare uvicorn", servers["bare"], SECRET, options, callers)
        await with_our_client("our client -> boost -> our server", servers["boost"], None, options, callers)
        print(f"    client {fast / slow:.1f} x httpx, server {fast / floor:.2f} x bare uvicorn")


def main() -> None:
    """Start the servers, measure, stop them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--callers", type=int, nargs="+", default=[1, 16])
    options = parser.parse_args()
    with process(ours) as first, process(bare) as second, process(boost_before(first[1])) as third:
        os.sched_setaffinity(0, {1})
        uvloop.run(measure(options, {"ours": first, "bare": second, "boost": third}))


if __name__ == "__main__":
    main()
