"""The table of methods that take a block, walked: what each makes of the streamed block by tag, number and
hash of zeros, beside what the node answers when the same block is sealed."""

from __future__ import annotations

from typing import Any

import pytest
from support.block_questions import ZERO_HASH, in_common, named, questions
from support.rpc_node import ALICE, PROBE_AT, Bench, probe_block, run, selector
from support.stream_lab import signed

from flashctl.core.jsonrpc.errors import RpcError
from flashctl.eth.hexdata import to_hex
from flashctl.ethrpc.block_methods import BLOCK_METHODS, BlockMethod, Given, Means

CALL = {"from": ALICE, "to": to_hex(PROBE_AT), "data": to_hex(selector("increment()"))}
NAMES = ("pending", "0x1", ZERO_HASH)


def asked(method: BlockMethod, block: str) -> list[list[Any]]:
    return named(method, questions(method, ALICE, to_hex(PROBE_AT), CALL), block)


async def outcome(made: Bench, method: BlockMethod, params: list[Any]) -> Any:
    try:
        return await made.call(method.name, *params)
    except RpcError as error:
        return error.code, error.message


def of(means: Means) -> list[BlockMethod]:
    return [method for method in BLOCK_METHODS.values() if method.overlay is means]


def test_all_names_of_the_streamed_block_mean_what_is_sealed_later() -> None:
    async def scenario(made: Bench) -> None:
        block = probe_block(made)
        await made.stream(block)
        streamed: dict[str, list[Any]] = {}
        for method in of(Means.SERVED):
            forms = [params for name in NAMES for params in asked(method, name)]
            streamed[method.name] = [in_common(await outcome(made, method, params)) for params in forms]
        await made.seal(block)
        sealed_hash = to_hex(block.sealed.hash)
        for method in of(Means.SERVED):
            by = sealed_hash if method.given is Given.HASH else "0x1"
            sealed = in_common(await made.upstream.call(method.name, asked(method, by)[0]))
            answers = streamed[method.name]
            assert answers, method.name
            if method.name == "eth_getLogs":
                # From `pending` on there is no other block here; the node's answer is for the same range.
                assert sealed
            assert answers == [sealed] * len(answers), method.name

    run(scenario)


def test_what_no_stream_tells_is_refused_by_every_name_and_passed_on_otherwise() -> None:
    async def scenario(made: Bench) -> None:
        await made.stream(probe_block(made))
        for method in of(Means.REFUSED):
            for name in NAMES:
                for params in asked(method, name):
                    if method.given is Given.FILTER and name == ZERO_HASH:
                        continue
                    code, message = await outcome(made, method, params)
                    assert code == -32000, (method.name, params)
                    assert message == f"{method.name} is not available for the pending block: {method.why}"
            sealed = to_hex(made.lab.genesis.block.hash)
            for params in asked(method, sealed if method.given is Given.HASH else "0x0"):
                try:
                    expected = await made.upstream.call(method.name, params)
                except RpcError as error:
                    expected = error.code, error.message
                assert await outcome(made, method, params) == expected

    run(scenario)


def test_while_nothing_is_streamed_the_tag_means_latest_and_the_others_nothing() -> None:
    async def scenario(made: Bench) -> None:
        for method in BLOCK_METHODS.values():
            if method.given is Given.HASH or method.name == "eth_newFilter":
                continue
            for ours, theirs in zip(asked(method, "pending"), asked(method, "latest"), strict=True):
                try:
                    expected = await made.upstream.call(method.name, theirs)
                except RpcError as error:
                    expected = error.code, error.message
                assert await outcome(made, method, ours) == expected, method.name
        for name in ("0x1", ZERO_HASH):
            way = "ByHash" if name == ZERO_HASH else "ByNumber"
            assert await made.call(f"eth_getBlock{way}", name, False) is None
            with pytest.raises(RpcError, match="not found"):
                await made.call("eth_getBalance", ALICE, name)

    run(scenario)


def test_filters_and_questions_without_a_tag() -> None:
    async def scenario(made: Bench) -> None:
        await made.stream(probe_block(made))
        assert isinstance(await made.call("eth_newFilter", {"toBlock": "pending"}), str)
        for name in ("eth_estimateGas", "eth_createAccessList"):
            # ethers asks without one: of a contract that is only preconfirmed the node would find nothing.
            assert await made.call(name, CALL) == await made.call(name, CALL, "pending")
            assert await made.call(name, CALL) != await made.call(name, CALL, "latest")
        assert await made.call("eth_call", CALL) == await made.call("eth_call", CALL, "latest")

    run(scenario)


def test_every_transaction_is_traced_where_it_was_preconfirmed() -> None:
    async def scenario(made: Bench) -> None:
        block = probe_block(made)
        second = made.lab.build(
            [[signed(0, 3, PROBE_AT, data=selector("increment()")), signed(0, 4, PROBE_AT, data=b"\1")]],
            block.sealed.header,
        )
        hashes = [to_hex(each.hash) for one in (block, second) for each in one.sealed.envelopes]
        config: list[dict[str, Any]] = [{}, {"tracer": "callTracer"}, {"tracer": "prestateTracer"}]
        questions = [(tx, options) for tx in hashes for options in config]
        await made.stream(block)
        with pytest.raises(RpcError, match="transaction not found"):
            await made.call("debug_traceTransaction", hashes[-1])
        await made.stream(second)
        streamed = [await made.call("debug_traceTransaction", *each) for each in questions]
        whole = await made.call("debug_traceBlockByNumber", "0x1", config[1])
        assert whole == [
            {"txHash": tx, "result": trace}
            for (tx, options), trace in zip(questions, streamed, strict=True)
            if options is config[1] and tx in hashes[: len(block.sealed.envelopes)]
        ]
        assert streamed[-2]["error"] == "execution reverted"
        await made.seal(block)
        await made.seal(second)
        assert streamed == [await made.upstream.call("debug_traceTransaction", each) for each in questions]

    run(scenario)


def test_logs_by_the_number_and_hash_that_receipts_state() -> None:
    async def scenario(made: Bench) -> None:
        first = probe_block(made)
        second = made.lab.build([[signed(0, 3, PROBE_AT, data=selector("increment()"))]], first.sealed.header)
        await made.stream(first)
        await made.seal(first)
        await made.stream(second)

        async def numbers(**wanted: str) -> list[str]:
            return [log["blockNumber"] for log in await made.call("eth_getLogs", wanted)]

        assert await numbers(blockHash=ZERO_HASH) == await numbers(fromBlock="0x2", toBlock="0x2") == ["0x2"]
        assert await numbers(fromBlock="0x1", toBlock="0x2") == ["0x1", "0x1", "0x2"]
        with pytest.raises(RpcError, match="invalid block range"):
            await numbers(fromBlock="0x3", toBlock="0x2")
        with pytest.raises(RpcError, match="beyond current head"):
            await numbers(fromBlock="0x2", toBlock="0x3")

    run(scenario)
