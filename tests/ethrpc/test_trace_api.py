"""debug_trace* of a node: against its own receipts, and what is refused. Every answer meets the schema."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from support.assembler import assemble
from support.devnet_chain import address, build, encode_call, mine, sign
from support.node_lab import PROBE, PROBE_AT, TOKEN_AT, Node, start
from support.reference import reference_path
from support.rpc_lab import running

from flashctl.eth.hexdata import parse_hex, quantity, to_hex
from flashctl.ethrpc import call_jobs
from flashctl.ethrpc.call_runner import CallLimits

REFUSED_BY_ALL = (
    "debug_traceTransaction/trace-unknown-tx",
    "debug_traceBlockByHash/trace-block-not-found",
    "debug_traceBlockByNumber/trace-block-invalid-number",
    "debug_traceBlockByNumber/trace-genesis",
)
"""Recorded exchanges of geth that do not depend on the chain."""

TRACERS: tuple[dict[str, Any], ...] = (
    {},
    {"tracer": "callTracer", "tracerConfig": {"withLog": True}},
    {"tracer": "prestateTracer"},
    {"tracer": "prestateTracer", "tracerConfig": {"diffMode": True}},
)

SPIN = encode_call(PROBE, "spin(uint256)", 10**6)


@pytest.mark.parametrize("name", REFUSED_BY_ALL)
def test_refusals_have_geths_words(name: str) -> None:
    lines = (reference_path("execution-apis") / "tests" / f"{name}.io").read_text().splitlines()
    request, response = (json.loads(line[3:]) for line in lines if line[:2] in (">>", "<<"))

    async def body() -> None:
        error = await start().rpc.error(request["method"], *request["params"])
        assert error.to_json() == response["error"]

    running(body)


def test_every_transaction_is_traced_as_its_receipt_says() -> None:
    async def body() -> None:
        node = start()
        for block in node.blocks:
            number = quantity(block.number)
            logs = await node.rpc("debug_traceBlockByNumber", number)
            assert logs == await node.rpc("debug_traceBlockByHash", to_hex(block.hash))
            trees = await node.rpc("debug_traceBlockByNumber", number, TRACERS[1])
            assert [entry["txHash"] for entry in logs] == [to_hex(each.hash) for each in block.envelopes]
            for entry, tree in zip(logs, trees, strict=True):
                receipt = await node.rpc("eth_getTransactionReceipt", entry["txHash"])
                compare_with_receipt(entry["result"], tree["result"], receipt)

    running(body)


def compare_with_receipt(logs: dict[str, Any], tree: dict[str, Any], receipt: dict[str, Any]) -> None:
    assert logs["gas"] == int(receipt["gasUsed"], 16)
    assert logs["failed"] == (receipt["status"] == "0x0") == ("error" in tree)
    assert tree["gasUsed"] == receipt["gasUsed"]
    assert tree["from"] == receipt["from"]
    assert tree["to"] == (receipt["to"] or receipt["contractAddress"])
    emitted = [(log["address"], log["topics"], log["data"], log["index"]) for log in tree.get("logs", ())]
    expected = [(log["address"], log["topics"], log["data"], log["logIndex"]) for log in receipt["logs"]]
    assert emitted == expected
    spent = [entry["gas"] for entry in logs["structLogs"]]
    assert spent == sorted(spent, reverse=True), "no calls to others in these"


def test_one_transaction_is_traced_behind_those_before_it() -> None:
    async def body() -> None:
        node = start()
        for options in TRACERS:
            whole = await node.rpc("debug_traceBlockByNumber", "0x2", options)
            for entry in whole:
                assert await node.rpc("debug_traceTransaction", entry["txHash"], options) == entry["result"]

    running(body)


def test_a_prestate_and_its_difference_are_the_states_around_it() -> None:
    async def body() -> None:
        node = start()
        mined = mine(node.chain, [sign(4, 0, to=PROBE_AT, data=encode_call(PROBE, "increment()"), value=0)])
        tx_hash = to_hex(mined.envelopes[1].hash)
        before = await node.rpc("debug_traceTransaction", tx_hash, TRACERS[2])
        changed = await node.rpc("debug_traceTransaction", tx_hash, TRACERS[3])
        sender, probe = to_hex(address(4)), to_hex(PROBE_AT)
        slot = "0x" + "00" * 32
        assert before[sender]["balance"] == await node.rpc("eth_getBalance", sender, "0x3")
        assert before[probe]["code"] == await node.rpc("eth_getCode", probe, "0x3")
        assert before[probe]["storage"] == {slot: await node.rpc("eth_getStorageAt", probe, "0x0", "0x3")}
        assert changed["pre"].keys() <= before.keys()
        for name, account in changed["post"].items():
            if "balance" in account:
                assert account["balance"] == await node.rpc("eth_getBalance", name, "0x4"), name
            if "nonce" in account:
                assert quantity(account["nonce"]) == await node.rpc("eth_getTransactionCount", name, "0x4")
        after = {slot: await node.rpc("eth_getStorageAt", probe, "0x0", "0x4")}
        assert changed["post"][probe] == {"storage": after}
        assert {"balance", "nonce"} == changed["post"][sender].keys()

    running(body)


def test_a_preconfirmed_transaction_can_be_traced() -> None:
    async def body() -> None:
        node = start()
        node.pending = build(node.chain, [sign(0, 4, to=PROBE_AT, data=encode_call(PROBE, "increment()"))])
        traced = await node.rpc("debug_traceBlockByNumber", "pending", TRACERS[1])
        assert [int(entry["result"]["gasUsed"], 16) for entry in traced] == [
            result.gas_used for result in node.pending.results
        ]
        one = await node.rpc("debug_traceTransaction", traced[1]["txHash"], TRACERS[1])
        assert one == traced[1]["result"]

    running(body)


# -- calls


def refuse_with_text(text: bytes) -> bytes:
    selector = PROBE.selectors["refuseWithText(string)"]
    return selector + (32).to_bytes(32, "big") + len(text).to_bytes(32, "big") + text.ljust(32, b"\0")


def test_a_call_is_traced_where_and_as_it_asks_to_be() -> None:
    async def body() -> None:
        node = start()
        call = {
            "from": to_hex(address(5)),
            "to": to_hex(PROBE_AT),
            "data": to_hex(PROBE.selectors["count()"]),
        }
        for block, count in (("0x1", 1), ("latest", 2)):
            traced = await node.rpc("debug_traceCall", call, block)
            assert traced["returnValue"] == await node.rpc("eth_call", call, block)
            assert int(traced["returnValue"], 16) == count
            assert not traced["failed"]
        overrides = {to_hex(PROBE_AT): {"stateDiff": {"0x" + "00" * 32: "0x" + "63".zfill(64)}}}
        traced = await node.rpc("debug_traceCall", call, "latest", {"stateOverrides": overrides})
        assert int(traced["returnValue"], 16) == 0x63
        environment = call | {"data": to_hex(PROBE.selectors["environment()"])}
        later = {"blockOverrides": {"number": "0x777"}}
        traced = await node.rpc("debug_traceCall", environment, "latest", later)
        assert traced["returnValue"].startswith("0x" + "777".zfill(64))

    running(body)


def test_a_call_that_reverts_says_why() -> None:
    async def body() -> None:
        node = start()
        call = {"to": to_hex(PROBE_AT), "data": to_hex(refuse_with_text(b'say "no"')), "gas": "0x186a0"}
        tree = await node.rpc("debug_traceCall", call, "latest", TRACERS[1])
        assert (tree["error"], tree["revertReason"]) == ("execution reverted", 'say "no"')
        assert tree["gas"] == "0x186a0"
        halted = await node.rpc(
            "debug_traceCall", call | {"data": to_hex(PROBE.selectors["halt()"])}, "latest"
        )
        assert halted["failed"]
        assert halted["returnValue"] == "0x"
        assert halted["structLogs"][-1]["error"] == "invalid opcode: INVALID"

    running(body)


def test_a_call_with_a_price_pays_it_in_the_difference() -> None:
    async def body() -> None:
        node = start()
        price = 10**10
        call = {"from": to_hex(address(5)), "to": to_hex(address(6)), "value": "0x1", "gasPrice": hex(price)}
        changed = await node.rpc("debug_traceCall", call, "latest", TRACERS[3])
        sender = to_hex(address(5))
        before, after = (int(changed[side][sender]["balance"], 16) for side in ("pre", "post"))
        assert before - after == 21_000 * price + 1

    running(body)


COUNTS_DOWN = assemble(
    "PUSH0 CALLDATALOAD DUP1 ISZERO @end JUMPI PUSH1 1 SWAP1 SUB PUSH0 MSTORE "
    "PUSH0 PUSH0 PUSH1 32 PUSH0 PUSH0 ADDRESS GAS CALL end: STOP"
)
"""Calls itself as often as its calldata says."""


def test_a_tree_may_be_deeper_than_any_recursion() -> None:
    async def body() -> None:
        node = start()
        at = "0x" + "7e" * 20
        call = {"to": at, "data": "0x" + (400).to_bytes(32, "big").hex()}
        options = TRACERS[1] | {"stateOverrides": {at: {"code": to_hex(COUNTS_DOWN)}}}
        handler = node.methods.find("debug_traceCall")
        assert handler is not None
        text = orjson.dumps(await handler([call, "latest", options]))
        assert text.count(b'"calls":[') == 400
        assert text.count(b"{") == text.count(b"}") == 401

    running(body)


# -- limits and options


async def refusal(node: Node, options: Any) -> str:
    call = {"to": to_hex(PROBE_AT), "data": to_hex(SPIN)}
    return (await node.rpc.error("debug_traceCall", call, "latest", options)).message


def test_a_trace_is_bounded_in_time_and_size(monkeypatch: pytest.MonkeyPatch) -> None:
    async def body() -> None:
        node = start(CallLimits(seconds=0.2))
        assert await refusal(node, {}) == "execution aborted (timeout = 0.2s)"
        assert await refusal(node, {"timeout": "50ms"}) == "execution aborted (timeout = 0.05s)"
        monkeypatch.setattr(call_jobs, "MAX_TRACE_BYTES", 20_000)
        assert await refusal(node, {}) == "response too large: trace exceeds 20000 bytes"
        few = await node.rpc("debug_traceTransaction", to_hex(node.blocks[1].envelopes[1].hash), {"limit": 5})
        assert len(few["structLogs"]) == 5

    running(body)


@pytest.mark.parametrize("name", ["callTracer", "prestateTracer"])
def test_other_tracers_are_bounded_in_size_too(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(call_jobs, "MAX_TRACE_BYTES", 3_000)

    async def body() -> None:
        node = start()
        fill = {"to": to_hex(PROBE_AT), "data": to_hex(encode_call(PROBE, "fill(uint256,uint256)", 0, 50))}
        notes = fill | {"data": to_hex(encode_call(PROBE, "emitNotes(uint256)", 50))}
        options = {"tracer": name, "tracerConfig": {"withLog": True}}
        for call in (fill, notes):
            if (call is notes) == (name == "callTracer"):
                error = await node.rpc.error("debug_traceCall", call, "latest", options)
                assert error.message == "response too large: trace exceeds 3000 bytes"

    running(body)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"tracer": "4byteTracer"},
            "tracer '4byteTracer' is not supported: callTracer, prestateTracer",
        ),
        ({"tracer": "{step: function() {}}"}, "tracer '{step: function() {}}' is not supported"),
        ({"tracer": ["callTracer"]}, "tracer 'list' is not supported"),
        ({"tracer": "callTracer", "tracerConfig": {"withLog": 1}}, "withLog: expected true or false"),
        ({"tracer": "callTracer", "tracerConfig": []}, None),
        ({"tracer": "callTracer", "tracerConfig": "x"}, "tracerConfig is an object"),
        ({"enableMemory": "yes"}, "enableMemory: expected true or false"),
        ({"limit": -1}, "limit: expected a number of steps"),
        ({"timeout": "5"}, "timeout: invalid duration '5'"),
        ({"timeout": ""}, "timeout: invalid duration ''"),
        ({"timeout": 5}, "timeout: invalid duration '5'"),
        ({"txIndex": "0x1"}, "invalid argument 2: txIndex is not supported"),
        ("callTracer", "invalid argument 2: trace options are an object"),
    ],
)
def test_options_are_checked(options: Any, message: str | None) -> None:
    async def body() -> None:
        node = start()
        call = {"to": to_hex(PROBE_AT), "data": to_hex(PROBE.selectors["count()"])}
        if message is None:
            await node.rpc("debug_traceCall", call, "latest", options)
            return
        error = await node.rpc.error("debug_traceCall", call, "latest", options)
        assert error.code == -32602
        assert error.message.startswith(message)

    running(body)


def test_what_is_asked_for_is_in_the_log() -> None:
    async def body() -> None:
        node = start()
        transfer = to_hex(node.blocks[1].envelopes[3].hash)
        assert node.blocks[1].envelopes[3].tx.to == TOKEN_AT

        async def fields(**options: Any) -> set[str]:
            traced = await node.rpc("debug_traceTransaction", transfer, options)
            return set().union(*(entry.keys() for entry in traced["structLogs"]))

        always = {"pc", "op", "gas", "gasCost", "depth", "refund"}
        assert await fields() == always | {"stack", "storage"}
        assert await fields(tracer="", enableMemory=True) == always | {"stack", "storage", "memory"}
        assert await fields(disableStack=True, disableStorage=True) == always

    running(body)


def test_only_the_top_call_if_so_asked() -> None:
    async def body() -> None:
        node = start()
        at = "0x" + "7e" * 20
        # LOG0, then a call to the probe's count().
        code = "5f5fa0" + "5f5f5f5f5f73" + PROBE_AT.hex() + "5af100"
        call = {"to": at}
        override = {"stateOverrides": {at: {"code": "0x" + code}}}
        whole = await node.rpc("debug_traceCall", call, "latest", TRACERS[1] | override)
        assert len(whole["calls"]) == 1
        top = {"tracer": "callTracer", "tracerConfig": {"onlyTopCall": True, "withLog": True}}
        alone = await node.rpc("debug_traceCall", call, "latest", top | override)
        assert alone == {key: value for key, value in whole.items() if key != "calls"}
        assert parse_hex(alone["logs"][0]["address"]) == parse_hex(at)

    running(body)
