"""Any parameters to any method: an answer or a foreseen error, never a bug and never a long wait."""

from __future__ import annotations

import asyncio
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.devnet_chain import address, contract, encode_call, mine, open_devnet, sign
from support.examples import examples
from support.rpc_lab import ListPool

from flashctl.core.jsonrpc.errors import rpc_error_for
from flashctl.core.jsonrpc.methods import Methods
from flashctl.eth.hexdata import to_hex
from flashctl.ethrpc.call_runner import CallLimits
from flashctl.ethrpc.eth_api import EthApi

PROBE = contract("Probe")


@cache
def methods() -> Methods:
    chain, table = open_devnet(), Methods()
    block = mine(chain, [sign(0, 0, data=PROBE.creation_code), sign(1, 0, to=address(2), value=1)])
    EthApi(chain, ListPool(), limits=CallLimits(gas=3_000_000, seconds=0.5)).register(table)
    assert block.number == 1
    return table


NAMES = [name for name in methods().names if methods().find(name) is not None]

hexes = st.one_of(
    st.sampled_from(
        ["0x", "0x0", "0x1", "0x00", "0xff", "0x-1", "0xzz", "latest", "pending", "safe", "", "1"]
    ),
    st.integers(0, 2**256).map(hex),
    st.binary(max_size=40).map(to_hex),
    st.sampled_from([to_hex(address(0)), to_hex(bytes(32)), "0x" + "f" * 64, "0x" + "f" * 66]),
)
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=8), hexes
)
KEYS = [
    "from", "to", "data", "input", "gas", "gasPrice", "maxFeePerGas", "maxPriorityFeePerGas", "value",
    "nonce", "accessList", "authorizationList", "chainId", "address", "topics", "fromBlock", "toBlock",
    "blockHash", "blockNumber", "storageKeys", "balance", "code", "state", "stateDiff", "number", "time",
    "baseFeePerGas", "gasLimit", "feeRecipient", "movePrecompileToAddress", "yParity", "r", "s",
    to_hex(address(0)), "0x0",
]  # fmt: skip
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.sampled_from(KEYS), inner, max_size=5)
    ),
    max_leaves=10,
)
call_objects = st.fixed_dictionaries(
    {},
    optional={
        "from": st.sampled_from([to_hex(address(0)), "0x" + "77" * 20]),
        "to": st.sampled_from([to_hex(address(1)), "0x" + "00" * 19 + "09", to_hex(bytes(20))]),
        "data": st.binary(max_size=200).map(to_hex),
        "value": hexes,
        "gas": hexes,
        "gasPrice": hexes,
        "accessList": values,
        "authorizationList": values,
    },
)


async def answers(name: str, params: list[Any]) -> None:
    handler = methods().find(name)
    assert handler is not None
    try:
        await asyncio.wait_for(handler(params), 20)
    except Exception as error:
        foreseen = rpc_error_for(error)
        if foreseen is None:
            raise AssertionError(f"{name}({params!r}) raised {error!r}") from error
        assert "\n" not in foreseen.message


async def all_of(calls: list[tuple[str, list[Any]]]) -> None:
    for name, params in calls:
        if name != "eth_sendRawTransactionSync":
            await answers(name, params)


@settings(max_examples=examples(60))
@given(st.lists(st.tuples(st.sampled_from(NAMES), st.lists(values, max_size=4)), min_size=1, max_size=40))
def test_arbitrary_parameters(calls: list[tuple[str, list[Any]]]) -> None:
    asyncio.run(all_of(calls))


@settings(max_examples=examples(100))
@given(
    st.sampled_from(["eth_call", "eth_estimateGas", "eth_createAccessList"]),
    call_objects,
    st.sampled_from(["latest", "0x0", "0x1", None]),
    values,
    values,
)
def test_arbitrary_calls(name: str, call: dict[str, Any], block: Any, state: Any, changes: Any) -> None:
    asyncio.run(answers(name, [call, block, state, changes]))


trace_options = st.fixed_dictionaries(
    {},
    optional={
        "tracer": st.one_of(st.sampled_from(["callTracer", "prestateTracer"]), scalars),
        "tracerConfig": st.one_of(
            st.dictionaries(st.sampled_from(["onlyTopCall", "withLog", "diffMode"]), st.booleans()), values
        ),
        "timeout": st.one_of(st.sampled_from(["2ms", "1h", "1.5s0"]), scalars),
        "limit": st.one_of(st.integers(0, 9), scalars),
        "enableMemory": st.one_of(st.booleans(), scalars),
        "stateOverrides": st.dictionaries(st.sampled_from(KEYS[-2:]), values),
        "blockOverrides": values,
    },
)


@settings(max_examples=examples(100))
@given(call_objects, st.sampled_from(["latest", "0x0", "pending"]), trace_options)
def test_arbitrary_traces(call: dict[str, Any], block: str, options: dict[str, Any]) -> None:
    asyncio.run(answers("debug_traceCall", [call, block, options]))
    asyncio.run(answers("debug_traceBlockByNumber", ["0x1", options]))


blocks_of_calls = st.fixed_dictionaries(
    {},
    optional={
        "blockOverrides": st.fixed_dictionaries(
            {},
            optional={
                "number": st.one_of(hexes, st.integers(2, 12).map(hex)),
                "time": st.one_of(hexes, st.integers(1_800_000_000, 1_800_000_100).map(hex)),
                "gasLimit": hexes,
                "feeRecipient": hexes,
                "prevRandao": hexes,
                "baseFeePerGas": hexes,
                "beaconRoot": hexes,
            },
        ),
        "stateOverrides": st.dictionaries(st.sampled_from([*KEYS[-2:], "0x" + "00" * 19 + "09"]), values),
        "calls": st.one_of(st.lists(st.one_of(call_objects, values), max_size=3), values),
    },
)


@settings(max_examples=examples(150))
@given(
    st.lists(blocks_of_calls, max_size=3),
    st.fixed_dictionaries(
        {}, optional=dict.fromkeys(("validation", "traceTransfers", "returnFullTransactions"), st.booleans())
    ),
)
def test_arbitrary_simulations(blocks: list[Any], options: dict[str, Any]) -> None:
    asyncio.run(answers("eth_simulateV1", [{"blockStateCalls": blocks, **options}]))


@settings(max_examples=examples(60))
@given(call_objects, values)
def test_arbitrary_transactions_to_fill(call: dict[str, Any], authorizations: Any) -> None:
    asyncio.run(answers("eth_fillTransaction", [{**call, "authorizationList": authorizations}]))


@pytest.mark.parametrize("name", NAMES)
def test_no_parameters_and_too_many(name: str) -> None:
    if name != "eth_sendRawTransactionSync":
        asyncio.run(answers(name, []))
    asyncio.run(answers(name, [None] * 8))
    asyncio.run(answers(name, [{}, {}, {}, {}]))


def test_arbitrary_creation_code_is_only_code() -> None:
    async def body() -> None:
        for code in (b"", b"\xfe", b"\xef", PROBE.creation_code, encode_call(PROBE, "spin(uint256)", 10)):
            await answers("eth_call", [{"data": to_hex(code), "gas": "0x100000"}, "latest"])
            await answers("eth_estimateGas", [{"data": to_hex(code)}])

    asyncio.run(body())
