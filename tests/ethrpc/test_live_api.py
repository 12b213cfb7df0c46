"""The node's JSON-RPC surface where time passes: pending block, pool, filters, subscriptions."""

from __future__ import annotations

import asyncio
import threading

import pytest
from support.devnet_chain import GWEI, address, build, encode_call, mine, open_devnet, sign
from support.node_lab import PROBE, PROBE_AT, start
from support.rpc_lab import ListSubscription, running
from support.waiting import until

from flashctl.core.jsonrpc.caller import Caller, caller
from flashctl.core.jsonrpc.errors import RpcError
from flashctl.core.jsonrpc.methods import Methods
from flashctl.core.service import defects
from flashctl.eth.hexdata import to_hex
from flashctl.eth.keccak import keccak256
from flashctl.ethrpc.block_readers import Readers
from flashctl.ethrpc.eth_api import EthApi


def test_pending_is_the_block_being_built() -> None:
    async def body() -> None:
        node = start()
        raw = sign(0, 4, to=PROBE_AT, data=PROBE.selectors["increment()"])
        node.pending = build(node.chain, [raw])
        tx_hash = to_hex(keccak256(raw))
        assert (await node.rpc("eth_getBlockByNumber", "pending", False))["number"] == "0x4"
        assert await node.rpc("eth_getTransactionCount", to_hex(address(0)), "pending") == "0x5"
        assert await node.rpc("eth_getTransactionCount", to_hex(address(0)), "latest") == "0x4"
        assert (await node.rpc("eth_getTransactionReceipt", tx_hash))["blockNumber"] == "0x4"
        assert (await node.rpc("eth_getTransactionByHash", tx_hash))["transactionIndex"] == "0x1"
        request = {"to": to_hex(PROBE_AT), "data": to_hex(PROBE.selectors["count()"])}
        assert int(await node.rpc("eth_call", request, "pending"), 16) == 3
        logs = await node.rpc("eth_getLogs", {"fromBlock": "pending", "toBlock": "pending"})
        assert len(logs) == 1
        assert len(await node.rpc("eth_getLogs", {"fromBlock": "0x0", "toBlock": "pending"})) == 8
        # Once the block is sealed, it is not pending any more.
        node.chain.insert(node.pending)
        node.chain.set_head(node.pending.hash)
        assert (await node.rpc("eth_getBlockByNumber", "pending", False))["number"] == "0x4"
        assert await node.rpc("eth_getLogs", {"fromBlock": "pending", "toBlock": "pending"}) == []

    running(body)


def test_sending_and_the_pool() -> None:
    async def body() -> None:
        node = start()
        raw = sign(0, 4, to=address(1), value=1)
        tx_hash = await node.rpc("eth_sendRawTransaction", to_hex(raw))
        assert tx_hash == to_hex(keccak256(raw))
        shown = await node.rpc("eth_getTransactionByHash", tx_hash)
        assert (shown["blockNumber"], shown["transactionIndex"]) == (None, None)
        assert await node.rpc("eth_getTransactionReceipt", tx_hash) is None
        assert await node.rpc("eth_getTransactionCount", to_hex(address(0)), "pending") == "0x5"
        assert await node.rpc("txpool_status") == {"pending": "0x1", "queued": "0x0"}
        content = await node.rpc("txpool_content")
        assert content["pending"][to_hex(address(0))]["4"]["hash"] == tx_hash
        assert (await node.rpc("txpool_contentFrom", to_hex(address(0))))["pending"]["4"]["hash"] == tx_hash
        assert "1 wei" in (await node.rpc("txpool_inspect"))["pending"][to_hex(address(0))]["4"]
        again = await node.rpc.error("eth_sendRawTransaction", to_hex(raw))
        assert (again.code, again.message) == (-32000, "already known")
        for bad, code in (("0x", -32000), ("0x02ff", -32000), ("zz", -32602), ("0x0", -32602)):
            assert (await node.rpc.error("eth_sendRawTransaction", bad)).code == code
        deposit = node.blocks[0].envelopes[0].raw
        refused = await node.rpc.error("eth_sendRawTransaction", to_hex(deposit))
        assert refused.message == "transaction type not supported"

    running(body)


def test_sending_and_waiting() -> None:
    async def body() -> None:
        node = start()
        raw = sign(0, 4, to=address(1), value=1)
        waiting = asyncio.create_task(node.rpc("eth_sendRawTransactionSync", to_hex(raw)))
        await until(lambda: node.api._target._waiters.is_awaited)
        mine(node.chain, [raw])
        assert (await waiting)["blockNumber"] == "0x4"
        preconfirmed = sign(0, 5, to=address(1), value=1)
        waiting = asyncio.create_task(node.rpc("eth_sendRawTransactionSync", to_hex(preconfirmed), 5000))
        await until(lambda: node.api._target._waiters.is_awaited)
        node.build_on(build(node.chain, [preconfirmed]))
        assert (await waiting)["blockNumber"] == "0x5"
        late = sign(0, 6, to=address(1), value=1)
        error = await node.rpc.error("eth_sendRawTransactionSync", to_hex(late), 30)
        assert error.code == 4
        assert "wasn't confirmed within 30 ms" in error.message
        # A client that lost its connection sends again: what waits is waited for, what is mined is answered.
        again = asyncio.create_task(node.rpc("eth_sendRawTransactionSync", to_hex(late), 0))
        await until(lambda: node.api._target._waiters.is_awaited)
        assert not again.done()
        mine(node.chain, [preconfirmed, late])
        assert (await again)["transactionIndex"] == "0x2"
        assert (await node.rpc("eth_sendRawTransactionSync", to_hex(late)))["transactionIndex"] == "0x2"

    running(body)


def test_waiting_looks_only_when_there_is_something(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each caller once looked through the block being built fifty times a second."""

    async def body() -> None:
        node = start()
        looked: list[bytes] = []
        find = node.api._provider.find_transaction
        monkeypatch.setattr(
            node.api._provider, "find_transaction", lambda tx_hash: looked.append(tx_hash) or find(tx_hash)
        )
        raw = sign(0, 4, to=address(1), value=1)
        waiting = asyncio.create_task(node.rpc("eth_sendRawTransactionSync", to_hex(raw)))
        await asyncio.sleep(0.1)  # five looks, if it were a timer's
        assert len(looked) == 1, "once when it is sent"
        node.build_on(build(node.chain, [raw]))
        assert (await waiting)["transactionIndex"] == "0x1"
        assert len(looked) == 2

    running(body)


def test_what_is_not_sealed_shows_no_hash_that_will_never_be() -> None:
    async def body() -> None:
        node = start()
        raw = sign(0, 4, to=PROBE_AT, data=encode_call(PROBE, "emitNotes(uint256)", 1))
        node.build_on(build(node.chain, [raw]))
        zeros = "0x" + "00" * 32
        receipt = await node.rpc("eth_getTransactionReceipt", to_hex(keccak256(raw)))
        assert receipt["blockHash"] == zeros and receipt["logs"][0]["blockHash"] == zeros
        logs = await node.rpc("eth_getLogs", {"fromBlock": "pending", "toBlock": "pending"})
        assert logs[0]["blockHash"] == zeros
        receipts = await node.rpc("eth_getBlockReceipts", "pending")
        assert {shown["blockHash"] for shown in receipts} == {zeros}
        block = await node.rpc("eth_getBlockByNumber", "pending", True)
        assert block["hash"] == zeros and block["transactions"][1]["blockHash"] is None
        assert (await node.rpc("eth_getHeaderByNumber", "pending"))["hash"] == zeros
        assert (await node.rpc("eth_getTransactionByHash", to_hex(keccak256(raw))))["blockHash"] is None

    running(body)


def test_a_node_without_a_pool_takes_no_transactions() -> None:
    async def body() -> None:
        methods = Methods()
        EthApi(open_devnet()).register(methods)
        assert methods.find("eth_sendRawTransaction") is None
        assert methods.find("eth_getBalance") is not None
        assert "newPendingTransactions" not in (methods.subscriptions("eth") or {})

    running(body)


def test_polling_filters_follow_the_chain_through_a_reorganisation() -> None:
    async def body() -> None:
        node = start()
        increment = PROBE.selectors["increment()"]
        blocks = await node.rpc("eth_newBlockFilter")
        logs = await node.rpc("eth_newFilter", {"address": to_hex(PROBE_AT)})
        hashes = await node.rpc("eth_newPendingTransactionFilter")
        fork_point = node.chain.head
        raw = sign(0, 4, to=PROBE_AT, data=increment)
        await node.rpc("eth_sendRawTransaction", to_hex(raw))
        first = mine(node.chain, [raw])
        assert await node.rpc("eth_getFilterChanges", blocks) == [to_hex(first.hash)]
        assert await node.rpc("eth_getFilterChanges", blocks) == []
        assert await node.rpc("eth_getFilterChanges", hashes) == [to_hex(keccak256(raw))]
        seen = await node.rpc("eth_getFilterChanges", logs)
        assert [(log["blockHash"], log["removed"]) for log in seen] == [(to_hex(first.hash), False)]
        side = mine(node.chain, [raw], parent=fork_point, base_fee=1)
        again = mine(node.chain)
        assert await node.rpc("eth_getFilterChanges", blocks) == [to_hex(side.hash), to_hex(again.hash)]
        seen = await node.rpc("eth_getFilterChanges", logs)
        assert [(log["blockHash"], log["removed"]) for log in seen] == [
            (to_hex(first.hash), True),
            (to_hex(side.hash), False),
        ]
        assert len(await node.rpc("eth_getFilterLogs", logs)) == 0
        assert await node.rpc("eth_uninstallFilter", logs) is True
        assert await node.rpc("eth_uninstallFilter", logs) is False
        gone = await node.rpc.error("eth_getFilterChanges", logs)
        assert (gone.code, gone.message) == (-32000, "filter not found")

    running(body)


def test_filters_that_nobody_asks_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    async def body() -> None:
        monkeypatch.setattr("flashctl.ethrpc.filter_api.MAX_FILTERS", 3)
        node = start(grown=False)
        first = await node.rpc("eth_newBlockFilter")
        others = [await node.rpc("eth_newBlockFilter") for _ in range(3)]
        assert (await node.rpc.error("eth_getFilterChanges", first)).message == "filter not found"
        assert await node.rpc("eth_getFilterChanges", others[0]) == []
        monkeypatch.setattr("flashctl.ethrpc.filter_api.FILTER_LIFETIME_S", 0)
        assert (await node.rpc.error("eth_getFilterChanges", others[0])).message == "filter not found"

    running(body)


def test_subscriptions() -> None:
    async def body() -> None:
        node = start()
        kinds = node.methods.subscriptions("eth")
        assert kinds is not None
        heads, logs, hashes, full = (ListSubscription() for _ in range(4))
        await kinds["newHeads"]([], heads)
        await kinds["logs"]([{"address": to_hex(PROBE_AT)}], logs)
        await kinds["newPendingTransactions"]([], hashes)
        await kinds["newPendingTransactions"]([True], full)
        raw = sign(0, 4, to=PROBE_AT, data=PROBE.selectors["increment()"])
        await node.rpc("eth_sendRawTransaction", to_hex(raw))
        fork_point = node.chain.head
        # Announced from another thread, as a builder does.
        first = await asyncio.to_thread(mine, node.chain, [raw])
        side = await asyncio.to_thread(mine, node.chain, [], parent=fork_point, base_fee=1)
        await until(lambda: len(logs.heard) == 2)
        assert [head["hash"] for head in heads.heard] == [to_hex(first.hash), to_hex(side.hash)]
        assert [log["removed"] for log in logs.heard] == [False, True]
        assert hashes.heard == [to_hex(keccak256(raw))]
        assert full.heard[0]["hash"] == to_hex(keccak256(raw))
        for subscription in (heads, logs, hashes, full):
            subscription.close()
        mine(node.chain)
        await asyncio.sleep(0)
        assert len(heads.heard) == 2
        node.api.close()

    running(body)


def test_announcements_share_the_loop_and_one_bad_subscriber_costs_nobody_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Failing(ListSubscription):
        def notify(self, result: object) -> None:
            raise IndexError("nobody foresaw this")

    async def body() -> None:
        node = start()
        kinds = node.methods.subscriptions("eth")
        assert kinds is not None
        monkeypatch.setattr("flashctl.ethrpc.subscriptions.SLICE_S", 0)
        defects.forget()
        everybody = [ListSubscription() for _ in range(50)]
        for subscription in (Failing(), *everybody):
            await kinds["newHeads"]([], subscription)
        turns = 0
        mine(node.chain)
        while not all(subscription.heard for subscription in everybody):
            await asyncio.sleep(0)
            turns += 1
        assert turns >= 50
        assert defects.counts() == {"chain.subscriptions": 1}
        defects.forget()
        node.api.close()

    running(body)


def test_queries_that_read_many_blocks_wait_in_a_short_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of them alone: other threads of the process are not theirs to fill."""

    async def body() -> None:
        monkeypatch.setattr("flashctl.ethrpc.block_readers.MAX_WAITING", 1)
        readers, go = Readers(), threading.Event()
        waiting = [asyncio.create_task(readers.run(go.wait, 30)) for _ in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(RpcError, match="too many queries of blocks"):
            await readers.run(go.wait, 30)
        assert await asyncio.to_thread(lambda: True)
        go.set()
        assert await asyncio.gather(*waiting) == [True] * 3
        go.clear()
        waiting = [asyncio.create_task(readers.run(go.wait, 30)) for _ in range(2)]
        await asyncio.sleep(0)
        monkeypatch.setattr("flashctl.ethrpc.block_readers.MAX_SECONDS", -1)
        with pytest.raises(RpcError, match="query waited for more than"):
            await readers.run(lambda: True)
        go.set()
        await asyncio.gather(*waiting)
        # What was given up, whatever it was doing, holds no thread and no place.
        assert await readers.run(lambda: "free") == "free"
        readers.close()

    asyncio.run(body())


def test_queries_of_a_client_wait_for_no_more_than_one_of_another() -> None:
    async def body() -> None:
        readers, go = Readers(), threading.Event()
        answered: list[str] = []

        async def ask(who: Caller) -> None:
            caller.set(who)
            await readers.run(go.wait, 30)
            answered.append(who.address)

        attack = [asyncio.create_task(ask(Caller("attacker", 1))) for _ in range(50)]
        await asyncio.sleep(0)
        honest = asyncio.create_task(ask(Caller("honest", 2)))
        await asyncio.sleep(0)
        for task in attack[10:20]:
            task.cancel()
        go.set()
        await asyncio.gather(honest, *attack, return_exceptions=True)
        assert answered.index("honest") <= 5 and len(answered) == 41
        readers.close()

    asyncio.run(body())


def test_a_log_query_that_asks_for_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    async def body() -> None:
        node = start()
        everything = {"fromBlock": "0x0", "toBlock": "latest"}
        monkeypatch.setattr("flashctl.ethrpc.log_search.MAX_BLOCKS", 3)
        error = await node.rpc.error("eth_getLogs", everything)
        assert (error.code, error.message) == (-32602, "block range too large: 4 blocks, at most 3")
        monkeypatch.setattr("flashctl.ethrpc.log_search.MAX_BLOCKS", 100)
        monkeypatch.setattr("flashctl.ethrpc.log_search.MAX_RESULTS", 2)
        error = await node.rpc.error("eth_getLogs", everything)
        assert error.code == -32005
        assert error.message == "query exceeds max results 2, retry with the range 0-1"
        monkeypatch.setattr("flashctl.ethrpc.log_search.MAX_RESULTS", 100)
        monkeypatch.setattr("flashctl.ethrpc.log_search.MAX_SECONDS", -1.0)
        assert "narrow the block range" in (await node.rpc.error("eth_getLogs", everything)).message

    running(body)


def test_a_full_block_raises_the_suggested_tip() -> None:
    async def body() -> None:
        node = start(grown=False, gas_limit=5_000_000)
        transfers = [sign(n, 0, to=address(5), gas=21_000, tip=(n + 1) * GWEI) for n in range(3)]
        mine(node.chain, transfers)
        assert int(await node.rpc("eth_maxPriorityFeePerGas"), 16) == 1_000_000
        creation = PROBE.creation_code
        filler = [sign(0, n, data=creation, gas=500_000, tip=n * GWEI) for n in range(1, 11)]
        mine(node.chain, filler)
        assert int(await node.rpc("eth_maxPriorityFeePerGas"), 16) > GWEI

    running(body)
