"""A canonical node that answers nonsense, or nothing: the overlay says so and goes on."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import orjson
import pytest
from support.cycles import no_cycles
from support.rpc_node import bench
from support.settings import with_settings
from support.stream_lab import StreamLab, signed
from support.waiting import until

from flashctl.core.flashblocks.wire import encode
from flashctl.core.hub import Hub
from flashctl.core.hub import serve as serve_stream
from flashctl.core.jsonrpc.client import JsonRpcClient
from flashctl.core.jsonrpc.errors import RpcError
from flashctl.core.jsonrpc.methods import Methods
from flashctl.core.jsonrpc.server import serve
from flashctl.core.net.http1 import ClientLimits
from flashctl.core.service.lifecycle import Lifecycle, serve_role
from flashctl.errors import FlashctlError
from flashctl.ethrpc.fill_api import FillApi
from flashctl.evm.missing_state import Missing
from flashctl.remote.state import CanonicalBlock, CanonicalState
from flashctl.remote.upstream_client import UpstreamClient
from flashctl.rpc.config import RpcConfig, ServerConfig, StreamConfig, UpstreamConfig
from flashctl.rpc.service import RpcNode

NONSENSE: list[Any] = [
    None,
    5,
    "",
    "0x",
    "0xzz",
    "latest",
    [],
    {},
    {"number": "0x1"},
    {"hash": None},
    True,
    1.5,
    "0x" + "f" * 80,
]


NO_STREAM = "ws://127.0.0.1:1"


def overlay_config(stream_url: str, upstream_url: str, **settings: Any) -> RpcConfig:
    config = RpcConfig(StreamConfig((stream_url,)), UpstreamConfig(upstream_url), ServerConfig(port=0))
    return with_settings(config, **settings)


@pytest.mark.parametrize("answer", NONSENSE, ids=repr)
def test_an_overlay_before_a_node_that_makes_no_sense(answer: Any) -> None:
    async def scenario() -> None:
        async def whatever(params: list[Any]) -> Any:
            asked.append(1)
            return answer

        asked: list[int] = []
        methods = Methods()
        for name in (
            "eth_chainId",
            "eth_getBlockByNumber",
            "eth_getBalance",
            "eth_getTransactionCount",
            "eth_getCode",
        ):
            methods.register(name, whatever)
        upstream, hub, life = await serve(methods, "127.0.0.1", 0), Hub(), Lifecycle()
        stream = await serve_stream(hub, "127.0.0.1", 0)
        node = RpcNode(overlay_config(stream.url, upstream.url, poll_interval_s=0.01))
        main = asyncio.ensure_future(serve_role(node, life))
        try:
            for flashblock in StreamLab().build([[signed(0, 0)]]).flashblocks:
                hub.publish(encode(flashblock), payload_id=flashblock.payload_id, index=flashblock.index)
            before = len(asked)
            await until(lambda: main.done() or len(asked) >= before + 3)
            assert not main.done() and life.failure is None
            assert not node.health().ready
        finally:
            life.stop()
            await main
            await life.drain()
            await stream.close()
            await upstream.close()

    asyncio.run(scenario())


def test_looking_at_the_head_waits_for_no_caller_and_a_hung_look_is_begun_again() -> None:
    """Callers' slow requests share a bounded pool, whose line takes nothing from their time-outs."""
    looks = 0

    async def scenario() -> None:
        async def block(params: list[Any]) -> Any:
            nonlocal looks
            looks += 1
            if looks == 3:
                await asyncio.Future()  # the node hangs
            return {
                "number": "0x1", "timestamp": "0x1", "transactions": [],
                **dict.fromkeys(("hash", "parentHash", "receiptsRoot"), "0x" + "11" * 32),
            }  # fmt: skip

        async def slow(params: list[Any]) -> Any:
            await asyncio.sleep(0.5)  # a slow node: four rounds are longer than upstream_timeout_s
            return looks

        async def chain_id(params: list[Any]) -> Any:
            return "0x385"

        methods = Methods()
        methods.register("eth_getBlockByNumber", block)
        methods.register("eth_slow", slow)
        methods.register("eth_chainId", chain_id)
        upstream, life = await serve(methods, "127.0.0.1", 0), Lifecycle()
        config = overlay_config(NO_STREAM, upstream.url, poll_interval_s=0.02, upstream_timeout_s=1.2)
        node = RpcNode(config)
        main = asyncio.ensure_future(serve_role(node, life))
        await until(lambda: node.url is not None)
        assert node.url is not None
        client = JsonRpcClient(node.url, timeout_s=30, limits=ClientLimits(connections=150))
        try:
            answers = await asyncio.gather(*(client.call("eth_slow") for _ in range(128)))
            # Four rounds of 32, each of them within the time-out, while the head was looked at all the time.
            assert max(answers) > min(answers) > 0
            assert node.chain.knows_head and looks > 4
        finally:
            await client.close()
            life.stop()
            await main
            await life.drain()
            await upstream.close()

    asyncio.run(scenario())


ADDRESS, HASH = "0x" + "11" * 20, "0x" + "22" * 32
CALL = {"from": ADDRESS, "to": ADDRESS, "input": "0x1234"}
FAIR_QUESTIONS: list[tuple[str, list[Any]]] = [
    ("eth_getBalance", [ADDRESS, "pending"]),
    ("eth_getTransactionCount", [ADDRESS, "pending"]),
    ("eth_getCode", [ADDRESS, "pending"]),
    ("eth_getStorageAt", [ADDRESS, "0x0", "pending"]),
    ("eth_getBlockByNumber", ["pending", True]),
    ("eth_getBlockByNumber", ["latest", False]),
    ("eth_getBlockByHash", [HASH, False]),
    ("eth_getBlockReceipts", ["pending"]),
    ("eth_getTransactionByHash", [HASH]),
    ("eth_getTransactionReceipt", [HASH]),
    ("eth_getLogs", [{"fromBlock": "latest", "toBlock": "pending"}]),
    ("eth_call", [CALL, "pending"]),
    ("eth_estimateGas", [CALL, "pending"]),
    ("eth_createAccessList", [CALL, "pending"]),
    ("eth_fillTransaction", [CALL]),
    ("eth_simulateV1", [{"blockStateCalls": [{"calls": [CALL]}]}, "pending"]),
    ("eth_blockNumber", []),
    ("eth_gasPrice", []),
    ("eth_somethingElse", []),
]


@pytest.mark.parametrize("answer", NONSENSE, ids=repr)
def test_nonsense_of_the_node_is_never_the_callers_fault(answer: Any) -> None:
    async def scenario() -> None:
        async def whatever(method: str, request: bytes) -> bytes:
            return orjson.dumps({"jsonrpc": "2.0", "id": orjson.loads(request)["id"], "result": answer})

        upstream, life = await serve(Methods(), "127.0.0.1", 0, fallback=whatever), Lifecycle()
        node = RpcNode(overlay_config(NO_STREAM, upstream.url, poll_interval_s=5))
        main = asyncio.ensure_future(serve_role(node, life))
        await until(lambda: node.url is not None)
        assert node.url is not None
        client = JsonRpcClient(node.url, timeout_s=30)
        try:
            for method, params in FAIR_QUESTIONS:
                try:
                    await client.call(method, params)
                except RpcError as error:
                    assert error.code in (-32000, -32603), (method, error)
        finally:
            await client.close()
            life.stop()
            await main
            await life.drain()
            await upstream.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("answer", NONSENSE, ids=repr)
def test_state_that_makes_no_sense_is_an_error_not_a_state(answer: Any) -> None:
    if answer in ("0x", None):
        pytest.skip("an empty code, or no block of that number: fair answers")

    async def scenario() -> None:
        async def whatever(params: list[Any]) -> Any:
            return answer

        methods = Methods()
        for name in ("eth_getBalance", "eth_getTransactionCount", "eth_getCode", "eth_getStorageAt"):
            methods.register(name, whatever)
        upstream = await serve(methods, "127.0.0.1", 0)
        node = UpstreamClient(upstream.url, timeout_s=5)
        state = CanonicalState(CanonicalBlock(1, bytes(32), bytes(32), 0, bytes(32), ()))
        try:
            for missing in (Missing(accounts={1}), Missing(slots={(1, 2)})):
                with no_cycles(), contextlib.suppress(FlashctlError):
                    await node.load(state, missing)
                    raise AssertionError("a state was made of it")
        finally:
            await node.close()
            await upstream.close()
        assert state.accounts == {} and state.storage == {}

    asyncio.run(scenario())


@pytest.mark.parametrize("answer", NONSENSE, ids=repr)
def test_nothing_is_filled_in_from_nonsense(answer: Any) -> None:
    sane = {"eth_chainId": "0x385", "eth_maxPriorityFeePerGas": "0x1"}
    sane |= {"eth_getTransactionCount": "0x2", "eth_estimateGas": "0x5208"}

    async def scenario() -> None:
        for method in (*sane, "eth_getBlockByNumber"):

            async def ask(asked: str, params: list[Any], bad: str = method) -> Any:
                return answer if asked == bad else sane.get(asked, {"baseFeePerGas": "0x7"})

            (_, fill), *_ = FillApi(ask).handlers()
            with pytest.raises(RpcError, match=f"{method} answers no number") as caught:
                await fill([{"to": "0x" + "11" * 20}])
            assert caught.value.code == -32000

    asyncio.run(scenario())


def test_state_that_the_node_could_not_say_is_asked_for_again() -> None:
    async def scenario() -> None:
        async with bench() as made:
            block = made.lab.build([[signed(1, 0, value=5, gas=21_000)]])
            load = made.node.followed.load
            calls = 0

            async def forgetful(state: CanonicalState, missing: Missing) -> None:
                nonlocal calls
                calls += 1
                if calls % 2:
                    raise FlashctlError("header for hash not found")
                await load(state, missing)

            made.node.followed.load = forgetful  # type: ignore[method-assign]
            await made.stream(block)
            assert calls > 1 and made.node.follower.fetcher.failed

    asyncio.run(scenario())


def test_the_node_goes_away_and_comes_back() -> None:
    async def scenario() -> None:
        async def chain_id(params: list[Any]) -> str:
            return "0x385"

        methods = Methods()
        methods.register("eth_chainId", chain_id)
        first = await serve(methods, "127.0.0.1", 0)
        port = first.port
        life = Lifecycle()
        node = RpcNode(overlay_config(NO_STREAM, first.url, poll_interval_s=0.01, stale_after_s=0.2))
        main = asyncio.ensure_future(serve_role(node, life))
        try:
            await until(lambda: node.url is not None)
            assert node.url is not None
            client = JsonRpcClient(node.url)
            assert await client.call("eth_chainId") == "0x385"
            await first.close()
            with pytest.raises(FlashctlError, match="upstream is not available"):
                await client.call("eth_chainId")
            second = await serve(methods, "127.0.0.1", port)
            assert await client.call("eth_chainId") == "0x385"
            await client.close()
            await second.close()
        finally:
            life.stop()
            await main
            await life.drain()

    asyncio.run(scenario())
