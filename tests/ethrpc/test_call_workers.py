"""Calls in worker processes: the same answers as in this process, on every state that a call can name."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from support.devnet_chain import address, build, encode_call, mine, sign
from support.node_lab import PROBE, PROBE_AT, TOKEN, TOKEN_AT, Node, start
from support.rpc_lab import Caller, plain

from flashctl.core.jsonrpc.errors import RpcError, rpc_error_for
from flashctl.core.jsonrpc.methods import Methods
from flashctl.core.service.workers import schedule
from flashctl.eth.hexdata import quantity, to_hex
from flashctl.ethrpc.call_runner import CallLimits, InProcess, InWorkers, call_runner
from flashctl.ethrpc.eth_api import EthApi
from flashctl.ethrpc.interfaces import UnsealedBlock

ALICE, NOBODY = "0x70997970c51812dc3a010c7d01b50e0d17dc79c8", "0x" + "77" * 20
READS_HASHES = "0x60014303405f526002430340602052604060" + "00f3"
CREATES_CALLS_AND_REVERTS = "0x5f5f5f5f5f73" + TOKEN_AT.hex() + "5af150fe"
DEEP: Any = []
for _ in range(900):
    DEEP = [DEEP]


def with_workers(node: Node, runner: InWorkers | InProcess, seconds: float = 30.0) -> Caller:
    """The same node's methods, with another runner; answers are not held against the schema."""

    def pending() -> UnsealedBlock | None:
        sealed = node.pending
        if sealed is None:
            return None
        return UnsealedBlock(sealed.header, sealed.envelopes, sealed.receipts, sealed.world)

    methods = Methods()
    EthApi(node.chain, node.pool, pending, CallLimits(seconds=seconds), runner).register(methods)
    return Caller(methods)


@asynccontextmanager
async def node_with_workers(
    workers: int = 2, seconds: float = 30.0
) -> AsyncIterator[tuple[Node, Caller, InWorkers]]:
    node = start()
    runner = call_runner(workers, 4)
    assert isinstance(runner, InWorkers)
    try:
        async with asyncio.timeout(90):
            yield node, with_workers(node, runner, seconds), runner
    finally:
        await runner.close()


async def outcome(caller: Caller, method: str, *params: Any) -> Any:
    """The answer, or the error as its parts."""
    handler = caller._methods.find(method)
    assert handler is not None
    try:
        return plain(await handler(list(params)))
    except Exception as error:
        told = rpc_error_for(error)
        assert told is not None, error
        return told.code, told.message, told.data


def requests(node: Node) -> Iterator[tuple[str, *tuple[Any, ...]]]:
    """Every method on every kind of block, with every kind of outcome."""
    probe, token = to_hex(PROBE_AT), to_hex(TOKEN_AT)
    calls = [
        {"to": probe, "data": to_hex(PROBE.selectors["count()"])},
        {"from": ALICE, "to": probe, "data": to_hex(PROBE.selectors["increment()"])},
        {"to": token, "data": to_hex(encode_call(TOKEN, "balanceOf(address)", int(ALICE, 16)))},
        {"to": probe, "data": to_hex(encode_call(PROBE, "refuse(uint256)", 7))},
        {"to": probe, "data": to_hex(PROBE.selectors["halt()"])},
        {"to": probe, "data": to_hex(PROBE.selectors["environment()"]), "gasPrice": hex(10**12)},
        {"from": ALICE, "to": NOBODY, "value": "0x5"},
        {"from": NOBODY, "to": ALICE, "value": hex(10**30)},
        {"data": READS_HASHES},
        {"data": CREATES_CALLS_AND_REVERTS},
        {"data": to_hex(PROBE.creation_code)},
        {"to": probe, "data": to_hex(encode_call(PROBE, "fill(uint256,uint256)", 0, 40)), "from": ALICE},
    ]
    blocks = ["latest", "pending", "earliest", "0x1", "0x2", {"blockHash": to_hex(node.blocks[0].hash)}]
    for call in calls:
        for block in blocks:
            for method in ("eth_call", "eth_estimateGas", "eth_createAccessList"):
                yield method, call, block
        simulated = {"blockStateCalls": [{"calls": [call, calls[1]]}, {"calls": [calls[1]]}]}
        for block in ("latest", "pending", "0x1"):
            yield "eth_simulateV1", simulated, block
            yield "debug_traceCall", call, block, {"tracer": "prestateTracer"}
    overrides = {
        NOBODY: {"code": READS_HASHES, "balance": "0x5", "stateDiff": {"0x" + "00" * 32: "0x" + "11" * 32}}
    }
    yield "eth_call", {"to": NOBODY}, "latest", overrides, {"number": "0x99"}
    for bad in ({}, None, 7, {"to": "0x1"}, {"to": probe, "data": "0xzz"}, {"to": probe, "input": DEEP}):
        yield "eth_call", bad, "latest"
    yield "eth_call", {"to": probe}, "0x999"
    yield "eth_call", {"to": probe}, "latest", {NOBODY: {"state": {}, "stateDiff": {}}}
    for block in node.blocks:
        for options in ({"tracer": "callTracer", "tracerConfig": {"withLog": True}}, {}):
            yield "debug_traceBlockByHash", to_hex(block.hash), options
    yield "debug_traceBlockByNumber", "pending", {"tracer": "callTracer"}
    yield "debug_traceTransaction", to_hex(node.blocks[1].envelopes[2].hash)


def test_answers_are_those_of_one_process() -> None:
    async def body() -> None:
        async with node_with_workers() as (node, remote, runner):
            increment = encode_call(PROBE, "increment()")
            fill = encode_call(PROBE, "fill(uint256,uint256)", 100, 60)
            waiting = [
                sign(0, 4, to=PROBE_AT, data=increment),
                sign(0, 5, to=PROBE_AT, data=fill, gas=3_000_000),
            ]
            node.pending = build(node.chain, waiting)
            local = with_workers(node, InProcess())
            asked = list(requests(node))
            for request, here in zip(asked, [await outcome(local, *each) for each in asked], strict=True):
                there = await outcome(remote, *request)
                assert there == here, request
            assert runner.pool.running >= 1

    asyncio.run(body())


def test_a_later_call_sees_what_came_before_it() -> None:
    """Blocks and flashblocks follow each other quickly; every answer is that of the state it was asked on, on
    whichever worker."""

    async def body() -> None:
        async with node_with_workers() as (node, remote, _):
            call = {"to": to_hex(PROBE_AT), "data": to_hex(PROBE.selectors["count()"])}
            increment = encode_call(PROBE, "increment()")
            nonce, count = 4, 2
            for number in range(60):
                raw = sign(0, nonce, to=PROBE_AT, data=increment)
                if number % 3:
                    node.pending = build(node.chain, [raw])
                    expected = {"latest": count, "pending": count + 1}
                else:
                    node.pending = None
                    mine(node.chain, [raw])
                    nonce, count = nonce + 1, count + 1
                    expected = {"latest": count, "pending": count}
                tags = ["latest", "pending"] * 3
                answers = await asyncio.gather(*(remote("eth_call", call, tag) for tag in tags))
                assert [int(answer, 16) for answer in answers] == [expected[tag] for tag in tags]
                before = quantity(node.chain.head.number - 1)
                assert int(await remote("eth_call", call, before), 16) in (count, count - 1)

    asyncio.run(body())


def test_a_walk_over_cold_storage_is_paced_and_right() -> None:
    async def body() -> None:
        async with node_with_workers(1) as (node, remote, runner):
            fill = encode_call(PROBE, "fill(uint256,uint256)", 0, 500)
            mine(node.chain, [sign(0, 4, to=PROBE_AT, data=fill, gas=15_000_000)])
            clear = {
                "to": to_hex(PROBE_AT),
                "data": to_hex(encode_call(PROBE, "clear(uint256,uint256)", 0, 500)),
            }
            local = with_workers(node, InProcess())
            assert await remote("eth_estimateGas", clear) == await local("eth_estimateGas", clear)
            assert runner.pool.waiting_in_all == 0

    asyncio.run(body())


def test_a_state_that_is_gone_is_said_so() -> None:
    async def body() -> None:
        async with node_with_workers(1) as (node, remote, _):
            await remote("eth_call", {"to": to_hex(PROBE_AT)})

            def gone(node_hash: bytes) -> bytes | None:
                return None

            node.chain.node = gone  # type: ignore[method-assign]
            transfer = {"from": to_hex(address(0)), "to": to_hex(address(1)), "value": "0x1"}
            try:
                await remote("eth_simulateV1", {"blockStateCalls": [{"calls": [transfer]}]})
            except RpcError as error:
                assert "missing trie node" in error.message
            else:
                raise AssertionError("a state root of nothing")

    asyncio.run(body())


def test_who_walks_cold_storage_keeps_its_time_and_no_one_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls that wait for a slot at every step: they end at their deadlines by themselves, and a small call
    passes them."""
    # A worker that gets no processor is late for its own deadline, which is not the question here.
    monkeypatch.setattr(schedule, "GRACE_S", 60.0)
    # CALLDATALOAD(0); JUMPDEST; DUP1; SLOAD; POP; 1; ADD; JUMP back: on an account that has storage.
    walk = {to_hex(PROBE_AT): {"code": "0x5f355b80545060010160025600"}}
    small = {"to": to_hex(PROBE_AT), "data": to_hex(PROBE.selectors["count()"])}

    async def body() -> None:
        async with node_with_workers(seconds=60.0) as (node, remote, runner):
            hurried = with_workers(node, runner, seconds=3.0)

            def walker(start: int) -> asyncio.Task[Any]:
                call = {"to": to_hex(PROBE_AT), "data": "0x" + bytes([start] * 32).hex()}
                return asyncio.create_task(outcome(hurried, "eth_call", call, "latest", walk))

            async def passes() -> bool:
                """Whether a small call is answered while walkers are under way; how they end."""
                walkers = [walker(start) for start in range(1, 5)]
                await asyncio.sleep(0)
                assert int(await remote("eth_call", small), 16) == 2
                was_first = not all(task.done() for task in walkers)
                ends = {end[1] for end in await asyncio.gather(*walkers)}
                assert ends <= {
                    "out of gas",
                    "execution aborted (timeout = 3s)",
                    "too many calls in line: no turn within the time-out of 3s",
                }
                return was_first

            await remote("eth_call", small)
            pids = set(runner.pool.pids)
            while not await passes():
                pass
            assert pids <= set(runner.pool.pids), "none had to be killed"

    asyncio.run(body())
