"""What wallets and explorers ask an overlay beside balances and receipts: open fields, raw bytes, the block
of hash zero, and what it cannot know of the pending block."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from support.rpc_node import ALICE, PROBE_AT, TARGET, Bench, probe_block, run, selector
from support.stream_lab import signed, word

from flashctl.core.jsonrpc.errors import RpcError
from flashctl.eth.hexdata import to_hex
from flashctl.ethrpc import call_jobs

ZERO_HASH = "0x" + "00" * 32


def test_open_fields_are_filled_from_what_is_preconfirmed() -> None:
    """viem asks before every transaction: a node behind the stream would name a nonce that is used up, and
    find no contract to estimate."""

    async def scenario(made: Bench) -> None:
        call = {"from": ALICE, "to": to_hex(PROBE_AT), "input": to_hex(selector("increment()"))}
        before = (await made.call("eth_fillTransaction", call))["tx"]
        assert before["nonce"] == "0x0"
        await made.stream(probe_block(made))
        filled = (await made.call("eth_fillTransaction", call))["tx"]
        assert filled["nonce"] == "0x3"
        assert filled["gas"] == await made.call("eth_estimateGas", call, "pending") != before["gas"]
        assert (await made.upstream.call("eth_fillTransaction", [call]))["tx"]["nonce"] == "0x0"
        await made.call(
            "eth_sendRawTransaction", to_hex(signed(0, 3, PROBE_AT, data=selector("increment()")))
        )
        assert (await made.call("eth_fillTransaction", call))["tx"]["nonce"] == "0x4"

    run(scenario)


def test_what_names_a_preconfirmed_block_or_transaction_finds_it() -> None:
    """Receipts and transactions of the stream say hash zero; their raw bytes are in no node's pool."""

    async def scenario(made: Bench) -> None:
        block = probe_block(made)
        envelope = block.sealed.envelopes[2]
        raw = [
            ("eth_getRawTransactionByHash", to_hex(envelope.hash)),
            ("debug_getRawTransaction", to_hex(envelope.hash)),
        ]
        assert [await made.call(*question) for question in raw] == ["0x", "0x"]
        assert await made.call("eth_getBlockTransactionCountByHash", ZERO_HASH) is None
        await made.stream(block)
        assert [await made.call(*question) for question in raw] == [to_hex(envelope.raw)] * 2
        assert await made.call("eth_getBlockTransactionCountByHash", ZERO_HASH) == "0x5"
        by_index = await made.call("eth_getTransactionByBlockHashAndIndex", ZERO_HASH, "0x2")
        assert by_index == await made.call("eth_getTransactionByHash", to_hex(envelope.hash))
        assert await made.call("eth_getTransactionByBlockHashAndIndex", ZERO_HASH, "0x9") is None
        await made.seal(block)
        sealed = to_hex(block.sealed.hash)
        assert await made.call("eth_getBlockTransactionCountByHash", sealed) == "0x5"
        by_index = await made.call("eth_getTransactionByBlockHashAndIndex", sealed, "0x2")
        assert by_index["hash"] == to_hex(envelope.hash)

    run(scenario)


def test_pending_reads_as_latest_where_nothing_else_is_known() -> None:
    async def scenario(made: Bench) -> None:
        slots = {to_hex(PROBE_AT): [to_hex(word(0)), "0x1"], ALICE: ["0x0"]}
        nothing = to_hex(word(0))
        unset = {to_hex(PROBE_AT): [nothing, nothing], ALICE: [nothing]}
        assert await made.call("eth_getStorageValues", slots, "pending") == unset
        await made.stream(probe_block(made))
        found = await made.call("eth_getStorageValues", slots, "pending")
        assert found == unset | {to_hex(PROBE_AT): [to_hex(word(2)), nothing]}
        assert await made.call("eth_getStorageValues", slots, "latest") == unset

    run(scenario)


def test_raw_bytes_of_what_was_pending_a_moment_ago() -> None:
    async def scenario(made: Bench) -> None:
        block = probe_block(made)
        await made.stream(block)
        await made.until(lambda: made.node.overlay.view is None)
        envelope = block.sealed.envelopes[2]
        assert await made.call("eth_getRawTransactionByHash", to_hex(envelope.hash)) == to_hex(envelope.raw)

    run(scenario, stale_after_s=0.5)


@pytest.mark.parametrize("tracer", ["callTracer", "prestateTracer", None])
def test_a_call_is_traced_upon_what_is_preconfirmed(tracer: str | None) -> None:
    async def scenario(made: Bench) -> None:
        block = probe_block(made)
        call = {"from": ALICE, "to": to_hex(PROBE_AT), "input": to_hex(selector("increment()"))}
        options = {} if tracer is None else {"tracer": tracer}
        latest = await made.call("debug_traceCall", call, "latest", options)
        assert await made.call("debug_traceCall", call, "pending", options) == latest, "nothing is pending"
        await made.stream(block)
        pending = await made.call("debug_traceCall", call, "pending", options)
        assert pending != latest == await made.call("debug_traceCall", call, "latest", options)
        await made.seal(block)
        assert pending == await made.upstream.call("debug_traceCall", [call, "latest", options])

    run(scenario)


def endless(made: Bench) -> list[Any]:
    """Parameters of a trace that only its bounds end."""
    code = "0x5b600056"  # JUMPDEST PUSH1 0 JUMP
    options = {"timeout": "100ms", "stateOverrides": {to_hex(TARGET): {"code": code}}}
    return [{"from": ALICE, "to": to_hex(TARGET)}, "pending", options]


def test_traces_stand_in_a_line_of_their_own() -> None:
    async def scenario(made: Bench) -> None:
        await made.stream(probe_block(made))
        # Two batches: one has at most sixteen of its calls under way.
        batches = await asyncio.gather(
            *(made.client.batch([("debug_traceCall", endless(made))] * 9) for _ in range(2))
        )
        messages = Counter(str(each).partition(" (")[0] for batch in batches for each in batch)
        # One runs; sixteen may be in line, and who waits for longer than its time-out is let go.
        refused, late = "too many calls in line, try again later", "too many calls in line: no turn within"
        assert messages.pop("execution aborted") >= 1
        assert messages.total() == sum(n for text, n in messages.items() if text.startswith((refused, late)))
        assert any(text.startswith(late) for text in messages)

    run(scenario)


def test_a_trace_that_is_too_large_is_refused_as_by_a_node(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call_jobs, "MAX_TRACE_BYTES", 3000)

    async def scenario(made: Bench) -> None:
        await made.stream(probe_block(made))
        with pytest.raises(RpcError) as caught:
            await made.call("debug_traceCall", *endless(made))
        assert caught.value.message == "response too large: trace exceeds 3000 bytes"

    run(scenario)
