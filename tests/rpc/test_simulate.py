"""eth_simulateV1 of `flashctl rpc`: on `pending` it runs upon the preconfirmed block."""

from __future__ import annotations

from typing import Any

import pytest
from support.rpc_node import ALICE, PROBE, PROBE_AT, TARGET, Bench, run
from support.stream_lab import signed, word

from flashctl.core.jsonrpc.errors import RpcError
from flashctl.eth.hexdata import parse_quantity, to_hex

COUNT = {"to": to_hex(PROBE_AT), "input": "0x" + PROBE["count()"]}
INCREMENT = {"from": ALICE, "to": to_hex(PROBE_AT), "input": "0x" + PROBE["increment()"]}
SPEND = {"from": to_hex(TARGET), "to": ALICE, "value": "0x5"}
"""What only somebody can do who has been paid."""

ZERO_HASH = "0x" + "00" * 32


async def simulate(made: Bench, *blocks: dict[str, Any], at: str = "pending", **options: Any) -> list[Any]:
    shown: list[Any] = await made.call("eth_simulateV1", {"blockStateCalls": list(blocks), **options}, at)
    return shown


def streamed(made: Bench) -> Any:
    """Deploys Probe, pays TARGET, increments Probe."""
    increment = bytes.fromhex(PROBE["increment()"])
    return made.lab.build(
        [
            [signed(0, 0, None, data=bytes.fromhex(PROBE["code"].removeprefix("0x")), gas=3_000_000)],
            [signed(1, 0, TARGET, value=5, gas=21_000)],
            [signed(0, 1, PROBE_AT, data=increment)],
        ]
    )


def test_a_transfer_that_is_only_preconfirmed_can_be_spent() -> None:
    async def scenario(made: Bench) -> None:
        block = streamed(made)
        await made.stream(block, upto=2)
        with pytest.raises(RpcError, match="have 0 want 5") as caught:
            await simulate(made, {"calls": [SPEND]})
        assert caught.value.code == -38014
        await made.stream(block, start=2, upto=3)
        (spent,) = await simulate(made, {"calls": [SPEND]}, traceTransfers=True)
        assert spent["number"] == "0x2" and spent["calls"][0]["status"] == "0x1"
        assert int(spent["calls"][0]["logs"][0]["data"], 16) == 5
        for canonical in ("latest", "0x0"):
            with pytest.raises(RpcError, match="have 0 want 5"):
                await simulate(made, {"calls": [SPEND]}, at=canonical)

    run(scenario)


def test_pending_simulations_equal_those_upon_the_sealed_block() -> None:
    """Everything but the roots, which an overlay without a state trie does not know."""

    async def scenario(made: Bench) -> None:
        block = streamed(made)
        await made.stream(block)
        ask = {"to": to_hex(PROBE_AT), "input": "0x" + PROBE["environment()"]}
        blocks: tuple[dict[str, Any], ...] = (
            {"calls": [COUNT, INCREMENT, COUNT, ask, SPEND]},
            {
                "blockOverrides": {"number": "0x5"},
                "calls": [INCREMENT, COUNT, {**COUNT, "input": "0xffffffff"}],
            },
        )
        options = {"traceTransfers": True, "returnFullTransactions": True}
        pending = await simulate(made, *blocks, **options)
        assert {(item["stateRoot"], item["withdrawalsRoot"]) for item in pending} == {(ZERO_HASH, ZERO_HASH)}
        await made.seal(block)
        sealed = await simulate(made, *blocks, at="latest", **options)
        assert [item["number"] for item in pending] == ["0x2", "0x3", "0x4", "0x5"]
        assert [int(call["returnData"], 16) for call in pending[0]["calls"][:3:2]] == [1, 2]
        assert pending[0]["parentHash"] == to_hex(block.sealed.hash)
        assert list(map(rootless, pending)) == list(map(rootless, sealed))
        assert await simulate(made, *blocks, **options) == sealed, "nothing pending: the node answers"

    run(scenario)


ROOTS = ("stateRoot", "withdrawalsRoot", "hash", "parentHash", "blockHash")


def rootless(value: Any) -> Any:
    """An answer without roots and what depends on them."""
    if isinstance(value, list):
        return [rootless(item) for item in value]
    if isinstance(value, dict):
        return {key: rootless(item) for key, item in value.items() if key not in ROOTS}
    return value


def test_base_fees_go_on_from_the_pending_block() -> None:
    async def scenario(made: Bench) -> None:
        block = streamed(made)
        await made.stream(block)
        pending = await simulate(made, {}, {}, validation=True)
        await made.seal(block)
        sealed = await simulate(made, {}, {}, at="latest", validation=True)
        fees = [parse_quantity(item["baseFeePerGas"]) for item in pending]
        assert fees == [parse_quantity(item["baseFeePerGas"]) for item in sealed] and all(fees)

    run(scenario)


def test_refusals_and_limits_are_the_overlays_own() -> None:
    async def scenario(made: Bench) -> None:
        await made.stream(streamed(made))
        for payload, code in (
            (None, -32602),
            ({}, -32602),
            ({"blockStateCalls": [{}] * 257}, -38026),
            ({"blockStateCalls": [{"blockOverrides": {"number": "0x1"}}]}, -38020),
        ):
            with pytest.raises(RpcError) as caught:
                await made.call("eth_simulateV1", payload, "pending")
            assert caught.value.code == code
        spin = {"to": to_hex(PROBE_AT), "input": "0x" + PROBE["spin(uint256)"] + word(10**9).hex()}
        (block,) = await simulate(made, {"calls": [spin]})
        assert parse_quantity(block["gasUsed"]) == 200_000
        assert block["calls"][0]["error"]["code"] == -32015

    run(scenario, calls_gas=200_000)
