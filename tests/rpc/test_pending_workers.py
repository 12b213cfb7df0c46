"""The overlay's calls in worker processes: the same answers as in this process, on the view they were asked
upon, and fetching what is missing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from support.rpc_node import ALICE, PROBE, PROBE_AT, TARGET, Bench, bench, notification, probe_block, selector
from support.stream_lab import signed, word

from flashctl.core.jsonrpc.client import JsonRpcClient
from flashctl.core.jsonrpc.errors import RpcError
from flashctl.core.jsonrpc.methods import Methods
from flashctl.core.jsonrpc.server import serve
from flashctl.eth.hexdata import to_hex
from flashctl.ethrpc.call_runner import CallLimits, InProcess
from flashctl.ethrpc.shared_api import SharedApi
from flashctl.ethrpc.tx_waiters import TxWaiters
from flashctl.rpc import pending_states
from flashctl.rpc.config import AnswerConfig
from flashctl.rpc.latest import LatestCalls
from flashctl.rpc.pending_states import PendingStates
from flashctl.rpc.provider import AnswerSources, OverlayProvider
from flashctl.rpc.visibility import Latest, showing

COUNT = {"to": to_hex(PROBE_AT), "data": to_hex(selector("count()"))}
INCREMENT = selector("increment()")
READS_HASHES = "0x60014303405f526002430340602052604060" + "00f3"


def run(scenario: Callable[[Bench], Awaitable[None]], **settings: Any) -> None:
    async def body() -> None:
        async with asyncio.timeout(100), bench(**({"workers": 2} | settings)) as made:
            await scenario(made)

    asyncio.run(body())


async def outcome(client: JsonRpcClient, method: str, params: list[Any]) -> Any:
    try:
        return await client.call(method, params)
    except RpcError as error:
        return error.code, error.message, error.data


def test_answers_are_those_of_one_process() -> None:
    async def scenario(made: Bench) -> None:
        node = made.node
        states = PendingStates(node.node, timeout_s=5.0)
        latest = LatestCalls(node.node, node.overlay, lambda: False)
        provider = OverlayProvider(
            AnswerSources(node.overlay, node.node, latest, states),
            TxWaiters(),
            lambda _, nonce: nonce,
            AnswerConfig(),
            showing(Latest.SEALED),
        )
        SharedApi(provider, CallLimits(seconds=5.0), InProcess()).register(methods := Methods())
        server = await serve(methods, "127.0.0.1", 0)
        local = JsonRpcClient(server.url)
        block = probe_block(made)
        probe = to_hex(PROBE_AT)
        calls_made = [
            COUNT,
            {"from": ALICE, "to": probe, "data": to_hex(INCREMENT)},
            {"to": probe, "data": to_hex(selector("refuse(uint256)") + word(9))},
            {"to": probe, "data": to_hex(selector("halt()"))},
            {"from": ALICE, "to": to_hex(TARGET), "value": "0x5"},
            {"from": to_hex(TARGET), "to": ALICE, "value": hex(10**30)},
            {"data": READS_HASHES},
            {"from": ALICE, "data": PROBE["code"]},
            {"to": "0x12"},
        ]
        for index in range(4):
            await made.stream(block, start=index, upto=index + 1)
            for call in calls_made:
                for method in ("eth_call", "eth_estimateGas", "eth_createAccessList", "debug_traceCall"):
                    params = [call, "pending"]
                    there, here = (
                        await outcome(made.client, method, params),
                        await outcome(local, method, params),
                    )
                    assert there == here, (method, call)
            simulated = [
                {"blockStateCalls": [{"calls": calls_made[:2]}, {"calls": calls_made[:1]}]},
                "pending",
            ]
            assert await outcome(made.client, "eth_simulateV1", simulated) == await outcome(
                local, "eth_simulateV1", simulated
            )
        assert node.runner.pool.running >= 1  # type: ignore[attr-defined]
        await local.close()
        await server.close()

    run(scenario)


def test_a_view_too_large_to_send_is_read_piece_by_piece(monkeypatch: Any) -> None:
    monkeypatch.setattr(pending_states, "MAX_CHANGES", 3)

    async def scenario(made: Bench) -> None:
        block = probe_block(made)
        seen = []
        for index in range(4):
            await made.stream(block, start=index, upto=index + 1)
            seen.append(await made.call("eth_call", COUNT, "pending"))
        assert seen[0:2] == ["0x", "0x" + "00" * 32]
        assert [int(answer, 16) for answer in seen[2:]] == [1, 2]

    run(scenario)


def test_who_was_told_of_an_index_sees_it_in_every_later_call() -> None:
    """Block after block of one increment a flashblock; after each message of a subscription several callers
    at once ask for the count, over connections of their own."""

    async def scenario(made: Bench) -> None:
        deploy = made.lab.build([[signed(0, 0, None, data=bytes.fromhex(PROBE["code"][2:]), gas=3_000_000)]])
        await made.stream(deploy)
        await made.seal(deploy)
        clients = [JsonRpcClient(made.url) for _ in range(4)]
        count, checked, parent = 0, 0, deploy.sealed.header
        async with made.subscription("newFlashblocks") as socket:
            for height in range(8):
                raws = [[signed(0, 1 + 9 * height + step, PROBE_AT, data=INCREMENT)] for step in range(9)]
                block = made.lab.build(raws, parent)
                streaming = asyncio.create_task(made.stream(block))
                told = 0
                while told < 9:
                    shown = await notification(socket)
                    told = len(shown["transactions"]) - 1  # beside the deposit
                    answers = await asyncio.gather(
                        *(client.call("eth_call", [COUNT, "pending"]) for client in clients)
                    )
                    assert all(int(answer, 16) >= count + told for answer in answers), (told, answers)
                    checked += len(answers)
                await streaming
                count, parent = count + 9, block.sealed.header
                await made.seal(block)
                answers = await asyncio.gather(
                    *(client.call("eth_call", [COUNT, "pending"]) for client in clients)
                )
                assert {int(answer, 16) for answer in answers} == {count}
        assert checked > 200
        for client in clients:
            await client.close()

    run(scenario)


def test_what_is_missing_is_fetched_from_the_node() -> None:
    """A call that walks a list of slots, each naming the next: a fetch for every step, and none of them holds
    a worker."""

    async def scenario(made: Bench) -> None:
        # PUSH0; JUMPDEST; SLOAD; DUP1; PUSH1 1; JUMPI; STOP: walks until a slot is zero.
        walker = bytes.fromhex("5f5b5480600157" + "00")
        # Its constructor stores slot n = n + 1 for n < 20, slot 20 = 0.
        store = b"".join(bytes.fromhex(f"60{n + 1:02x}60{n:02x}55") for n in range(20))
        tail = bytes.fromhex("67") + walker + bytes.fromhex("5f52600860 18f3".replace(" ", ""))
        deploy = made.lab.build([[signed(0, 0, None, data=store + tail, gas=3_000_000)]])
        made.lab.seal(deploy)
        await made.until(lambda: made.node.overlay.head is not None and made.node.overlay.head.number == 1)
        payment = signed(1, 0, TARGET, value=1, gas=21_000)
        await made.stream(made.lab.build([[payment]], deploy.sealed.header))
        loads = 0
        load = made.node.node.load

        async def counted(*arguments: Any) -> None:
            nonlocal loads
            loads += 1
            await load(*arguments)

        made.node.node.load = counted  # type: ignore[method-assign]
        walk = {"to": to_hex(PROBE_AT), "gas": hex(1_000_000)}
        assert await made.call("eth_call", walk, "pending") == "0x"
        assert loads >= 20
        before = loads
        gas = await made.call("eth_estimateGas", walk, "pending")
        assert int(gas, 16) > 21_000 + 20 * 2_100
        assert loads - before <= 2, "what was fetched stays"

    run(scenario)


def test_a_call_is_refused_when_its_state_cannot_be_had() -> None:
    async def scenario(made: Bench) -> None:
        await made.stream(probe_block(made))
        assert int(await made.call("eth_call", COUNT, "pending"), 16) == 2

        async def fails(*_: Any) -> None:
            raise RpcError(-32000, "header for hash not found")

        made.node.node.load = fails  # type: ignore[method-assign]
        error = await outcome(made.client, "eth_call", [{"to": "0x" + "ab" * 20}, "pending"])
        assert error[0] == -32000
        assert int(await made.call("eth_call", COUNT, "pending"), 16) == 2

    run(scenario)


def test_settings_reach_the_workers() -> None:
    async def scenario(made: Bench) -> None:
        await made.stream(probe_block(made))
        spin = {"to": to_hex(PROBE_AT), "data": to_hex(selector("spin(uint256)") + word(10**9))}
        while isinstance(await outcome(made.client, "eth_call", [COUNT, "pending"]), tuple):
            pass  # a worker takes longer than three seconds to start where others have the processor
        error = await outcome(made.client, "eth_call", [spin | {"gas": hex(10**10)}, "pending"])
        assert error == (-32000, "execution aborted (timeout = 3s)", None)

    run(scenario, calls_timeout_s=3.0, calls_gas=10**10)
