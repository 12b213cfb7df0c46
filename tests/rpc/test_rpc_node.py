"""`flashctl rpc` over sockets: what `pending` answers at every stage of a block, and what happens when
things break."""

from __future__ import annotations

import asyncio
import threading
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import Any

import brotli
import orjson
import pytest
from support.rpc_node import ALICE, PROBE_AT, TARGET, Bench, notification, probe_block, run, selector
from support.stream_lab import signed, word

from flashctl.core.flashblocks.wire import encode
from flashctl.core.jsonrpc.errors import RpcError
from flashctl.eth.hexdata import to_hex
from flashctl.evm.state import NO_CHANGES
from flashctl.op.envelope import TxEnvelope
from flashctl.remote.state import CanonicalBlock, CanonicalState

ZERO_HASH = "0x" + "00" * 32


async def count(made: Bench, tag: str) -> str:
    result: str = await made.call(
        "eth_call", {"to": to_hex(PROBE_AT), "data": to_hex(selector("count()"))}, tag
    )
    return result


def test_without_flashblocks_pending_is_latest() -> None:
    async def scenario(made: Bench) -> None:
        assert await made.call("eth_getBlockByNumber", "pending", False) == await made.call(
            "eth_getBlockByNumber", "latest", False
        )
        assert await made.call("eth_getBalance", ALICE, "pending") == await made.call(
            "eth_getBalance", ALICE, "latest"
        )
        assert await made.call("eth_getTransactionCount", ALICE, "pending") == "0x0"
        assert await made.call("eth_getBlockTransactionCountByNumber", "pending") == "0x0"
        assert await made.call("eth_getLogs", {"fromBlock": "earliest", "toBlock": "pending"}) == []
        assert await made.call(
            "eth_estimateGas", {"from": ALICE, "to": to_hex(TARGET), "value": "0x1"}, "pending"
        )

    run(scenario)


def test_pending_grows_with_every_flashblock() -> None:
    async def scenario(made: Bench) -> None:
        block = probe_block(made)
        counts = []
        for index in range(4):
            await made.stream(block, start=index, upto=index + 1)
            shown = await made.call("eth_getBlockByNumber", "pending", False)
            counts.append(len(shown["transactions"]))
            assert shown["hash"] == ZERO_HASH and shown["number"] == "0x1"
            assert shown["gasUsed"] == hex(block.flashblocks[index].diff.gas_used)
            assert shown["stateRoot"] == to_hex(block.flashblocks[index].diff.state_root)
            assert await made.call("eth_getBlockTransactionCountByNumber", "pending") == hex(counts[-1])
        assert counts == [1, 2, 4, 5]
        assert shown["transactionsRoot"] == to_hex(block.sealed.header.transactions_root)
        assert shown["parentHash"] == to_hex(block.sealed.header.parent_hash)
        assert await made.call("eth_blockNumber") == "0x0"
        full = await made.call("eth_getBlockByNumber", "pending", True)
        assert [item["blockHash"] for item in full["transactions"]] == [None] * 5
        assert await made.call("eth_getBlockByHash", ZERO_HASH, True) == full

    run(scenario)


def test_state_of_pending_and_of_latest() -> None:
    async def scenario(made: Bench) -> None:
        block = probe_block(made)
        await made.stream(block)
        assert await made.call("eth_getBalance", to_hex(TARGET), "pending") == "0x5"
        assert await made.call("eth_getBalance", to_hex(TARGET), "latest") == "0x0"
        assert await made.call("eth_getTransactionCount", ALICE, "pending") == "0x3"
        assert await made.call("eth_getTransactionCount", ALICE, "latest") == "0x0"
        assert len(await made.call("eth_getCode", to_hex(PROBE_AT), "pending")) > 100
        assert await made.call("eth_getCode", to_hex(PROBE_AT), "latest") == "0x"
        assert await made.call("eth_getStorageAt", to_hex(PROBE_AT), "0x0", "pending") == to_hex(word(2))
        assert await count(made, "pending") == to_hex(word(2))
        assert await count(made, "latest") == "0x"
        await made.seal(block)
        assert await made.call("eth_getBalance", to_hex(TARGET), "latest") == "0x5"
        assert await count(made, "latest") == await count(made, "pending") == to_hex(word(2))

    run(scenario)


def test_calls_see_the_pending_block_around_them() -> None:
    """Not some canonical block behind it: base/base#1439."""

    async def scenario(made: Bench) -> None:
        block = probe_block(made)
        await made.stream(block)
        # A price, for BASEFEE reads zero in a call that names none (as in geth).
        data, price = to_hex(selector("environment()")), hex(10**10)
        question = {"from": ALICE, "to": to_hex(PROBE_AT), "data": data, "gasPrice": price}
        answer = bytes.fromhex((await made.call("eth_call", question, "pending"))[2:])
        header = block.sealed.header
        words = [int.from_bytes(answer[start : start + 32], "big") for start in range(0, 96, 32)]
        assert words == [header.number, header.timestamp, header.base_fee_per_gas]

    run(scenario)


def test_calls_that_fail_say_why() -> None:
    async def scenario(made: Bench) -> None:
        await made.stream(probe_block(made))

        async def failure(data: bytes, **more: Any) -> RpcError:
            with pytest.raises(RpcError) as caught:
                await made.call("eth_call", {"to": to_hex(PROBE_AT), "data": to_hex(data), **more}, "pending")
            return caught.value

        reverted = await failure(selector("refuse(uint256)", 7))
        assert reverted.code == 3 and isinstance(reverted.data, str)
        assert (await failure(selector("halt()"))).code == -32000
        assert "insufficient funds" in (await failure(b"", value=hex(10**30))).message
        overridden = await made.call(
            "eth_call",
            {"to": to_hex(PROBE_AT), "data": to_hex(selector("count()"))},
            "pending",
            {to_hex(PROBE_AT): {"stateDiff": {to_hex(word(0)): to_hex(word(41))}}},
        )
        assert overridden == to_hex(word(41))

    run(scenario)


def test_a_call_is_cut_off_at_its_wall_budget_and_the_stream_goes_on() -> None:
    async def scenario(made: Bench) -> None:
        block = probe_block(made)
        await made.stream(block, upto=2)
        spin = {"to": to_hex(PROBE_AT), "data": to_hex(selector("spin(uint256)", 10**9)), "gas": hex(10**12)}
        call = asyncio.ensure_future(made.call("eth_call", spin, "pending"))
        await made.stream(block, start=2)
        with pytest.raises(RpcError, match="execution aborted|out of gas"):
            await call

    run(scenario, calls_gas=10**12, calls_timeout_s=1.0)


def test_receipts_before_and_after_the_seal() -> None:
    async def scenario(made: Bench) -> None:
        block = probe_block(made)
        hashes = [to_hex(envelope.hash) for envelope in block.sealed.envelopes]
        assert await made.call("eth_getTransactionReceipt", hashes[2]) is None
        await made.stream(block)
        pending = [await made.call("eth_getTransactionReceipt", item) for item in hashes]
        assert pending == await made.call("eth_getBlockReceipts", "pending")
        transaction = await made.call("eth_getTransactionByHash", hashes[2])
        assert transaction["blockHash"] is None and transaction["blockNumber"] == "0x1"
        by_index = await made.call("eth_getTransactionByBlockNumberAndIndex", "pending", "0x2")
        assert by_index == transaction
        assert pending[1]["contractAddress"] == to_hex(PROBE_AT)
        assert {receipt["blockHash"] for receipt in pending} == {ZERO_HASH}
        await made.seal(block)
        sealed = [await made.call("eth_getTransactionReceipt", item) for item in hashes]
        assert {receipt["blockHash"] for receipt in sealed} == {to_hex(block.sealed.hash)}

        def timeless(receipt: dict[str, Any]) -> dict[str, Any]:
            logs = [{**log, "blockHash": None} for log in receipt["logs"]]
            return {**receipt, "blockHash": None, "logs": logs}

        assert list(map(timeless, pending)) == list(map(timeless, sealed))

    run(scenario)


def test_logs_over_sealed_and_pending_blocks() -> None:
    async def scenario(made: Bench) -> None:
        first = probe_block(made)
        await made.stream(first)
        await made.seal(first)
        second = made.lab.build([[signed(0, 3, PROBE_AT, data=selector("increment()"))]], first.sealed.header)
        await made.stream(second)

        async def numbers(**wanted: Any) -> list[str]:
            logs = await made.call("eth_getLogs", wanted)
            return [log["blockNumber"] for log in logs]

        assert await numbers(fromBlock="earliest", toBlock="pending") == ["0x1", "0x1", "0x2"]
        assert await numbers(fromBlock="0x0", toBlock="latest") == ["0x1", "0x1"]
        assert await numbers(fromBlock="latest", toBlock="pending") == ["0x1", "0x1", "0x2"]
        assert await numbers(fromBlock="pending", toBlock="pending") == ["0x2"]
        assert await numbers(fromBlock="0x2", toBlock="pending") == ["0x2"]
        assert await numbers(fromBlock="0x3", toBlock="pending") == []
        assert await numbers(fromBlock="pending", toBlock="pending", address=to_hex(TARGET)) == []
        assert await numbers(fromBlock="pending", toBlock="pending", topics=[None, to_hex(word(0))]) == []

    run(scenario)


def test_blocks_are_settled_beside_the_event_loop() -> None:
    async def scenario(made: Bench) -> None:
        settle, threads = made.node.overlay.confirm, []

        def confirm(blocks: Sequence[CanonicalBlock]) -> None:
            threads.append(threading.current_thread())
            settle(blocks)

        made.node.overlay.confirm = confirm  # type: ignore[method-assign]
        block = probe_block(made)
        await made.stream(block)
        await made.seal(block)
        assert threads and threading.current_thread() not in threads
        assert await made.call("eth_getBalance", to_hex(TARGET), "pending") == "0x5"

    run(scenario)


def test_what_is_known_is_carried_forward_while_others_add_to_it() -> None:
    first = CanonicalBlock(1, b"\1" * 32, bytes(32), 0, bytes(32), ())
    known, done = CanonicalState(first), threading.Event()
    for address in range(5_000):
        known.add_account(address, None, b"")
        known.add_slot(address, 0, 1)

    def add() -> None:
        for address in range(5_000, 200_000):
            if done.is_set():
                return
            known.add_slot(address, 0, 1)
            known.hashes[-address] = bytes(32)

    adding = threading.Thread(target=add)
    adding.start()
    try:
        for number in range(2, 22):
            following = known.advanced(
                CanonicalBlock(number, b"\2" * 32, first.hash, 0, bytes(32), ()), NO_CHANGES
            )
            assert following.storage[4_999] == {0: 1}
    finally:
        done.set()
        adding.join()


def test_sending_goes_to_the_sequencer_and_counts_for_the_next_nonce() -> None:
    async def scenario(made: Bench) -> None:
        raw = signed(0, 0, TARGET, value=1, gas=21_000)
        assert await made.call("eth_sendRawTransaction", to_hex(raw)) == to_hex(TxEnvelope.decode(raw).hash)
        assert made.sent == [raw]
        assert await made.call("eth_getTransactionCount", ALICE, "pending") == "0x1"
        assert await made.call("eth_getTransactionCount", ALICE, "latest") == "0x0"

    run(scenario)


def test_subscriptions() -> None:
    async def scenario(made: Bench) -> None:
        block = probe_block(made)
        counted = {"address": to_hex(PROBE_AT)}
        async with (
            made.subscription("newFlashblocks") as flashblocks,
            made.subscription("newFlashblockTransactions") as hashes,
            made.subscription("newFlashblockTransactions", True) as full,
            made.subscription("newFlashblockTransactions", counted) as filtered,
            made.subscription("pendingLogs", counted) as logs,
            made.subscription("newHeads") as heads,
            made.subscription("logs", counted) as sealed_logs,
        ):
            await made.stream(block)
            shown = [await notification(flashblocks) for _ in range(4)]
            assert [len(item["transactions"]) for item in shown] == [1, 2, 4, 5]
            expected = [to_hex(envelope.hash) for envelope in block.sealed.envelopes]
            assert [await notification(hashes) for _ in range(5)] == expected
            whole = [await notification(full) for _ in range(5)]
            assert [item["hash"] for item in whole] == expected
            assert whole[2]["gasUsed"] and whole[2]["status"] == "0x1" and len(whole[2]["logs"]) == 1
            assert [(await notification(filtered))["hash"] for _ in range(2)] == [expected[2], expected[4]]
            assert [(await notification(logs))["logIndex"] for _ in range(2)] == ["0x0", "0x1"]
            await made.seal(block)
            head = await notification(heads)
            assert head["hash"] == to_hex(block.sealed.hash) and "transactions" not in head
            assert [(await notification(sealed_logs))["blockHash"] for _ in range(2)] == [head["hash"]] * 2

    run(scenario)


def test_everything_else_is_the_nodes_answer_byte_for_byte() -> None:
    async def scenario(made: Bench) -> None:
        for method, params in (
            ("eth_chainId", []),
            ("web3_sha3", ["0x00"]),
            ("eth_feeHistory", ["0x1", "latest", []]),
        ):
            request = orjson.dumps({"jsonrpc": "2.0", "id": "same id", "method": method, "params": params})
            assert await made.client.post_raw(request) == await made.upstream.post_raw(request)
        unknown = orjson.dumps({"jsonrpc": "2.0", "id": 7, "method": "eth_nonsense", "params": []})
        answer = orjson.loads(await made.client.post_raw(unknown))
        assert answer["id"] == 7 and answer["error"]["code"] == -32601
        await made.stream(probe_block(made))
        mixed = [
            ("eth_chainId", []),
            ("eth_getBalance", [to_hex(TARGET), "pending"]),
            ("eth_blockNumber", []),
        ]
        assert await made.client.batch(mixed) == ["0x385", "0x5", "0x0"]

    run(scenario)


def test_garbage_in_the_stream_is_counted_and_the_node_goes_on() -> None:
    async def scenario(made: Bench) -> None:
        block = probe_block(made)
        bomb = brotli.compress(b"{" + b" " * (64 * 1024 * 1024))
        huge = b'{"payload_id":"' + b"x" * 10_000_000 + b'"}'
        for frame in (b"garbage", b"[]", b"<html>", bomb, huge, b"{}"):
            made.hub.publish(frame, binary=frame is bomb)
        counts = made.node.follower.counts
        await made.until(lambda: counts.invalid >= 6)
        await made.stream(block)
        assert await made.call("eth_getBalance", to_hex(TARGET), "pending") == "0x5"

    run(scenario)


def test_bad_parameters_are_refused_not_crashed_on() -> None:
    async def scenario(made: Bench) -> None:
        await made.stream(probe_block(made))
        bad: list[tuple[str, list[Any]]] = [
            ("eth_getBalance", []),
            ("eth_getBalance", ["0x12", "pending"]),
            ("eth_getBalance", [ALICE, "soon"]),
            ("eth_getBalance", [ALICE, {"blockNumber": "pending", "blockHash": ZERO_HASH}]),
            ("eth_getStorageAt", [ALICE, "x", "pending"]),
            ("eth_getTransactionReceipt", ["0x"]),
            ("eth_call", [None, "pending"]),
            ("eth_call", [{"to": "0x1"}, "pending"]),
            ("eth_call", [{"to": ALICE, "gas": -1}, "pending"]),
            ("eth_getLogs", [{"fromBlock": "pending", "toBlock": "pending", "topics": 3}]),
            ("eth_sendRawTransaction", ["nonsense"]),
            ("eth_getTransactionByBlockNumberAndIndex", ["pending", "x"]),
        ]
        for method, params in bad:
            with pytest.raises(RpcError) as caught:
                await made.client.call(method, params)
            assert caught.value.code == -32602, (method, params, caught.value)

    run(scenario)


def test_health_tells_what_pending_is_worth() -> None:
    async def get(made: Bench, path: str) -> tuple[int, str]:
        def fetch() -> tuple[int, str]:
            try:
                with urllib.request.urlopen(made.url + path, timeout=60) as reply:
                    return reply.status, reply.read().decode()
            except urllib.error.HTTPError as error:
                return error.code, error.read().decode()

        return await asyncio.to_thread(fetch)

    async def scenario(made: Bench) -> None:
        assert await get(made, "/readyz") == (503, "no flashblocks: pending means latest\n")
        block = probe_block(made)
        await made.stream(block)
        assert await get(made, "/readyz") == (200, "OK\n")
        metrics = (await get(made, "/metrics"))[1]
        assert "reth_flashblocks_executed_total 4.0" in metrics
        assert "reth_flashblocks_pending_snapshot_height 1.0" in metrics
        await made.seal(block)
        assert (await get(made, "/healthz"))[0] == 206

    run(scenario)


def test_a_silent_stream_makes_pending_latest_again() -> None:
    async def scenario(made: Bench) -> None:
        await made.stream(probe_block(made))
        await made.until(lambda: made.node.overlay.view is None)
        assert await made.call("eth_getBalance", to_hex(TARGET), "pending") == "0x0"
        assert not made.node.health().ready

    run(scenario, stale_after_s=0.5)


def test_a_late_joiner_gets_the_open_block() -> None:
    """The hub replays it, so a restarted overlay is current at once."""

    async def scenario(made: Bench) -> None:
        block = probe_block(made)
        late = made.hub
        for flashblock in block.flashblocks[:3]:
            late.publish(
                encode(flashblock), payload_id=flashblock.payload_id, index=flashblock.index, block_number=1
            )
        await made.until(
            lambda: made.node.overlay.view is not None and made.node.overlay.view.latest.index == 2
        )

    run(scenario)
