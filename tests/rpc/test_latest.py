"""What `latest` means: all of it, or nothing. Two ports over one overlay, one of them showing no more than is
sealed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
from support.rpc_node import ALICE, PROBE_AT, TARGET, Bench, bench, notification, probe_block, run, selector
from support.stream_lab import signed, word
from websockets.asyncio.client import ClientConnection, connect

from flashctl.core.jsonrpc.client import JsonRpcClient
from flashctl.core.jsonrpc.errors import RpcError
from flashctl.eth.hexdata import to_hex
from flashctl.ethrpc.rpc_json import PENDING_HASH
from flashctl.rpc.visibility import Latest

ZERO_HASH = to_hex(PENDING_HASH)
COUNT = {"to": to_hex(PROBE_AT), "data": to_hex(selector("count()"))}


async def everything(call: Any, *tag: str) -> dict[str, Any]:
    """What a block name means, method by method; with no name, what the lack of one means."""
    at = list(tag)
    named = tag[0] if tag else "latest"
    block = await call("eth_getBlockByNumber", named, False)
    history = await call("eth_feeHistory", "0x1", named, [])
    return {
        "number": int(block["number"], 16),
        "block": block["hash"],
        "transactions": len(block["transactions"]),
        "count": await call("eth_getBlockTransactionCountByNumber", named),
        "receipts": len(await call("eth_getBlockReceipts", named)),
        "nonce": await call("eth_getTransactionCount", ALICE, *at),
        "balance": await call("eth_getBalance", to_hex(TARGET), *at),
        "code": len(await call("eth_getCode", to_hex(PROBE_AT), *at)) > 2,
        "storage": await call("eth_getStorageAt", to_hex(PROBE_AT), "0x0", *at),
        "call": await call("eth_call", COUNT, *at),
        "simulated": int((await call("eth_simulateV1", {"blockStateCalls": [{}]}, *at))[0]["number"], 16),
        "logs": len(await call("eth_getLogs", {"fromBlock": tag[0], "toBlock": tag[0]} if tag else {})),
        "history": int(history["oldestBlock"], 16),
    }


def test_latest_is_the_preconfirmed_block_in_everything_or_in_nothing() -> None:
    async def scenario(made: Bench) -> None:
        assert made.node.sealed_url is not None
        sealed = JsonRpcClient(made.node.sealed_url)

        async def strict(method: str, *params: Any) -> Any:
            return await sealed.call(method, list(params))

        block = probe_block(made)
        before = await everything(made.call, "latest")
        assert before["number"] == 0 and before == await everything(made.call) == await everything(strict)
        await made.stream(block)
        assert await made.call("eth_blockNumber") == "0x1" and await strict("eth_blockNumber") == "0x0"
        now = await everything(made.call, "latest")
        assert now == await everything(made.call) == await everything(made.call, "pending")
        assert now == await everything(made.call, "0x1")
        assert (now["number"], now["nonce"], now["balance"], now["call"]) == (
            1,
            "0x3",
            "0x5",
            to_hex(word(2)),
        )
        assert (now["logs"], now["history"], now["simulated"], now["block"]) == (2, 1, 2, ZERO_HASH)
        assert await everything(strict, "latest") == await everything(strict) == before
        assert await strict("eth_getBlockByNumber", "0x1", False) is None
        # Who asks by name is answered: a nonce that counts what waits, and gas of a call upon it.
        assert await strict("eth_getTransactionCount", ALICE, "pending") == "0x3"
        for tag in ("safe", "finalized", "earliest"):
            assert (await made.call("eth_getBlockByNumber", tag, False))["number"] == "0x0"
        await made.seal(block)
        after = await everything(made.call)
        assert after == await everything(strict) == await everything(made.call, "0x1")
        assert after == now | {"block": to_hex(block.sealed.hash)}
        await sealed.close()

    run(scenario, latest=Latest.PRECONFIRMED, sealed_port=0)


def test_transactions_and_receipts_by_hash_are_there_where_their_block_is() -> None:
    async def scenario(made: Bench) -> None:
        assert made.node.sealed_url is not None
        sealed = JsonRpcClient(made.node.sealed_url)
        block = probe_block(made)
        await made.stream(block)
        wanted = to_hex(block.sealed.envelopes[1].hash)
        for method in ("eth_getTransactionReceipt", "eth_getTransactionByHash"):
            assert (await made.call(method, wanted))["blockNumber"] == "0x1"
            assert await sealed.call(method, [wanted]) is None
        assert await sealed.call("eth_getBlockByHash", [ZERO_HASH, False]) is None
        await made.seal(block)
        for method in ("eth_getTransactionReceipt", "eth_getTransactionByHash"):
            assert (await sealed.call(method, [wanted]))["blockHash"] == to_hex(block.sealed.hash)
        await sealed.close()

    run(scenario, latest=Latest.PRECONFIRMED, sealed_port=0)


def test_logs_by_ranges_that_end_at_the_latest_block() -> None:
    async def scenario(made: Bench) -> None:
        first = probe_block(made)
        await made.stream(first)
        await made.seal(first)
        second = made.lab.build([[signed(0, 3, PROBE_AT, data=selector("increment()"))]], first.sealed.header)
        await made.stream(second)

        async def numbers(**wanted: Any) -> list[str]:
            return [log["blockNumber"] for log in await made.call("eth_getLogs", wanted)]

        assert await numbers(fromBlock="0x0") == ["0x1", "0x1", "0x2"]
        assert await numbers(fromBlock="earliest", toBlock="latest") == ["0x1", "0x1", "0x2"]
        assert await numbers(fromBlock="0x1", toBlock="0x2") == ["0x1", "0x1", "0x2"]
        assert await numbers(fromBlock="0x1", toBlock="0x1") == ["0x1", "0x1"]
        assert (
            await numbers() == await numbers(fromBlock="latest") == await numbers(toBlock="latest") == ["0x2"]
        )

    run(scenario, latest=Latest.PRECONFIRMED)


@contextlib.asynccontextmanager
async def subscription(url: str, *params: Any) -> AsyncIterator[ClientConnection]:
    async with connect(url.replace("http", "ws")) as socket:
        await socket.send(orjson.dumps({"id": 1, "method": "eth_subscribe", "params": params}))
        assert "result" in orjson.loads(await socket.recv())
        yield socket


def test_new_heads_and_logs_tell_of_the_latest_block() -> None:
    async def scenario(made: Bench) -> None:
        assert made.node.sealed_url is not None
        wanted = {"address": to_hex(PROBE_AT)}
        async with (
            made.subscription("newHeads") as heads,
            made.subscription("logs", wanted) as logs,
            subscription(made.node.sealed_url, "newHeads") as sealed_heads,
            subscription(made.node.sealed_url, "logs", wanted) as sealed_logs,
        ):
            first = probe_block(made)
            await made.stream(first)
            told = [await notification(heads) for _ in first.flashblocks]
            assert {(head["number"], head["hash"]) for head in told} == {("0x1", ZERO_HASH)}
            assert [(await notification(logs))["logIndex"] for _ in range(2)] == ["0x0", "0x1"]
            await made.seal(first)
            sealed = to_hex(first.sealed.hash)
            assert (await notification(heads))["hash"] == (await notification(sealed_heads))["hash"] == sealed
            assert [(await notification(sealed_logs))["blockHash"] for _ in range(2)] == [sealed, sealed]
            # Sealed without having been streamed: told then. Those of the first block are not told again.
            second = made.lab.build(
                [[signed(0, 3, PROBE_AT, data=selector("increment()"))]], first.sealed.header
            )
            await made.seal(second)
            assert (await notification(heads))["hash"] == to_hex(second.sealed.hash)
            assert (await notification(logs))["blockHash"] == to_hex(second.sealed.hash)

    run(scenario, latest=Latest.PRECONFIRMED, sealed_port=0)


def test_a_log_that_did_not_come_to_be_is_taken_back() -> None:
    async def scenario(made: Bench) -> None:
        first = probe_block(made)
        await made.seal(first)
        increment = signed(0, 3, PROBE_AT, data=selector("increment()"))
        streamed = made.lab.build([[increment]], first.sealed.header)
        other = made.lab.build([[signed(1, 1, TARGET, value=7, gas=21_000)]], first.sealed.header)
        async with made.subscription("logs") as logs:
            await made.stream(streamed)
            told = await notification(logs)
            await made.seal(other)
            assert await notification(logs) == {**told, "removed": True}

    run(scenario, latest=Latest.PRECONFIRMED)


def test_without_flashblocks_the_latest_block_is_the_sealed_one() -> None:
    async def scenario(made: Bench) -> None:
        assert await made.call("eth_blockNumber") == "0x0"
        proof = await made.call("eth_getProof", ALICE, [], "latest")
        await made.stream(probe_block(made))
        # Of sealed blocks only: what an overlay cannot know, the node's latest block has.
        assert await made.call("eth_getProof", ALICE, [], "latest") == proof
        with pytest.raises(RpcError, match="eth_getProof is not available for the pending block"):
            await made.call("eth_getProof", ALICE, [], "pending")

    run(scenario, latest=Latest.PRECONFIRMED)


def test_kinds_of_subscription_that_are_the_node_s() -> None:
    async def main() -> None:
        async with bench(is_told=True) as made:
            async with made.subscription("syncing") as first:
                assert await notification(first) is False
                async with made.subscription("syncing"):
                    pass  # on the same connection to the node: nothing is told a second time
            for kind in ("newPendingTransactions", "nonsense"):  # this node has no pool
                async with connect(made.url.replace("http", "ws")) as socket:
                    await socket.send(orjson.dumps({"id": 1, "method": "eth_subscribe", "params": [kind]}))
                    error = orjson.loads(await socket.recv())["error"]
                    assert error["code"] == -32601 and kind in error["message"]
        async with bench() as made, connect(made.url.replace("http", "ws")) as socket:
            await socket.send(orjson.dumps({"id": 1, "method": "eth_subscribe", "params": ["syncing"]}))
            error = orjson.loads(await socket.recv())["error"]
            assert error["code"] == -32601 and "WebSocket is not set" in error["message"]

    asyncio.run(main())
