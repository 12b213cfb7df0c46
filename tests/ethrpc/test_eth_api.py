"""The node's JSON-RPC surface on a devnet chain with real execution: what is read and called."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from support.devnet_chain import GWEI, address, build, encode_call, mine, sign
from support.node_lab import ETHER, PROBE, PROBE_AT, TOKEN_AT, start
from support.rpc_lab import running

from flashctl.chain.predeploys import L2_TO_L1_MESSAGE_PASSER
from flashctl.eth.blocks import decode_block, decode_header
from flashctl.eth.hexdata import parse_hex, parse_quantity, quantity, to_hex
from flashctl.eth.keccak import keccak256
from flashctl.eth.trie import Trie
from flashctl.ethrpc.call_runner import CallLimits


def test_node_facts() -> None:
    async def body() -> None:
        node = start()
        assert await node.rpc("eth_chainId") == "0x385"
        assert await node.rpc("net_version") == "901"
        assert await node.rpc("eth_blockNumber") == "0x3"
        assert await node.rpc("eth_syncing") is False
        assert (await node.rpc("web3_clientVersion")).startswith("flashctl/")
        assert await node.rpc("web3_sha3", "0x68656c6c6f") == to_hex(keccak256(b"hello"))
        assert await node.rpc("net_listening") is True
        assert await node.rpc("eth_accounts") == []
        assert (await node.rpc("eth_capabilities"))["head"]["number"] == "0x3"

    running(body)


def test_blocks_by_every_name() -> None:
    async def body() -> None:
        node = start()
        one = node.blocks[0]
        by_number = await node.rpc("eth_getBlockByNumber", "0x1", False)
        assert by_number["hash"] == to_hex(one.hash)
        assert by_number == await node.rpc("eth_getBlockByHash", to_hex(one.hash), False)
        assert by_number["transactions"] == [to_hex(envelope.hash) for envelope in one.envelopes]
        full = await node.rpc("eth_getBlockByNumber", "0x1", True)
        assert [tx["type"] for tx in full["transactions"]] == ["0x7e", "0x2", "0x2", "0x0", "0x1", "0x4"]
        for tx in full["transactions"]:
            assert tx == await node.rpc("eth_getTransactionByHash", tx["hash"])
            assert tx == await node.rpc(
                "eth_getTransactionByBlockNumberAndIndex", "0x1", tx["transactionIndex"]
            )
            assert tx == await node.rpc(
                "eth_getTransactionByBlockHashAndIndex", tx["blockHash"], tx["transactionIndex"]
            )
        for tag, number in (("latest", 3), ("earliest", 0), ("safe", 0), ("finalized", 0), ("pending", 3)):
            assert (await node.rpc("eth_getBlockByNumber", tag, False))["number"] == quantity(number)
        assert await node.rpc("eth_getBlockByNumber", "0x99", False) is None
        assert await node.rpc("eth_getBlockByHash", "0x" + "11" * 32, True) is None
        assert await node.rpc("eth_getBlockTransactionCountByNumber", "0x1") == "0x6"
        assert await node.rpc("eth_getBlockTransactionCountByHash", to_hex(one.hash)) == "0x6"
        assert await node.rpc("eth_getUncleCountByBlockNumber", "0x1") == "0x0"
        assert await node.rpc("eth_getTransactionByBlockNumberAndIndex", "0x1", "0x6") is None
        assert (await node.rpc("eth_getHeaderByNumber", "0x1"))["hash"] == to_hex(one.hash)

    running(body)


def test_receipts_agree_with_each_other_and_with_the_state() -> None:
    async def body() -> None:
        node = start()
        for block in node.blocks:
            receipts = await node.rpc("eth_getBlockReceipts", quantity(block.number))
            assert receipts == await node.rpc("eth_getBlockReceipts", {"blockHash": to_hex(block.hash)})
            for receipt in receipts:
                assert receipt == await node.rpc("eth_getTransactionReceipt", receipt["transactionHash"])
            log_indices = [log["logIndex"] for receipt in receipts for log in receipt["logs"]]
            assert log_indices == [quantity(n) for n in range(len(log_indices))]
            assert sum(parse_quantity(receipt["gasUsed"]) for receipt in receipts) == block.header.gas_used
        first = await node.rpc("eth_getBlockReceipts", "0x1")
        assert [receipt["contractAddress"] for receipt in first[1:3]] == [to_hex(PROBE_AT), to_hex(TOKEN_AT)]
        assert await node.rpc("eth_getCode", to_hex(PROBE_AT), "latest") == to_hex(PROBE.code)
        # Account 2 paid value, gas and L1 fee, nothing else.
        paid = sum(
            parse_quantity(receipt["gasUsed"]) * parse_quantity(receipt["effectiveGasPrice"])
            + parse_quantity(receipt["l1Fee"])
            for receipt in first[3:5]
        )
        balance = parse_quantity(await node.rpc("eth_getBalance", to_hex(address(2)), "0x1"))
        assert balance == 10_000 * ETHER - ETHER - paid
        second = await node.rpc("eth_getBlockReceipts", "0x2")
        assert [receipt["status"] for receipt in second] == ["0x1"] * 4 + ["0x0"]
        assert await node.rpc("eth_getTransactionReceipt", "0x" + "11" * 32) is None
        assert await node.rpc("eth_getBlockReceipts", "0x99") is None

    running(body)


def test_raw_forms_decode_to_the_same_things() -> None:
    async def body() -> None:
        node = start()
        block = node.blocks[0]
        assert decode_header(parse_hex(await node.rpc("debug_getRawHeader", "0x1"))) == block.header
        assert decode_block(parse_hex(await node.rpc("debug_getRawBlock", "0x1"))) == block.block
        assert len(await node.rpc("debug_getRawReceipts", "0x1")) == 6
        raw = await node.rpc("debug_getRawTransaction", to_hex(block.envelopes[1].hash))
        assert parse_hex(raw) == block.envelopes[1].raw
        assert (await node.rpc.error("debug_getRawBlock", "2")).message == (
            "invalid argument 0: hex string without 0x prefix"
        )
        assert (await node.rpc.error("debug_getRawBlock", "0x99")).message == "block not found"

    running(body)


def test_state_at_any_block() -> None:
    async def body() -> None:
        node = start()
        probe, hash_of_one = to_hex(PROBE_AT), to_hex(node.blocks[0].hash)
        for ref, count in (
            ("0x0", 0),
            ("0x1", 1),
            ("latest", 2),
            ({"blockHash": hash_of_one}, 1),
            (hash_of_one, 1),
        ):
            word = await node.rpc("eth_getStorageAt", probe, "0x0", ref)
            assert int(word, 16) == count
            assert len(word) == 66
        assert await node.rpc("eth_getStorageAt", probe, "0x0") == to_hex((2).to_bytes(32, "big"))
        assert await node.rpc("eth_getTransactionCount", to_hex(address(0)), "0x1") == "0x1"
        assert await node.rpc("eth_getTransactionCount", to_hex(address(0)), "latest") == "0x4"
        assert await node.rpc("eth_getBalance", "0x" + "77" * 20, "latest") == "0x0"
        delegated = await node.rpc("eth_getCode", to_hex(address(1)), "latest")
        assert delegated == "0xef0100" + PROBE_AT.hex()
        values = await node.rpc("eth_getStorageValues", {probe: ["0x0", "0x1"]}, "latest")
        assert [int(word, 16) for word in values[probe]] == [2, 0]
        assert (await node.rpc.error("eth_getBalance", probe, "0x99")).message == "header not found"
        unknown = await node.rpc.error("eth_getBalance", probe, {"blockHash": "0x" + "11" * 32})
        assert (unknown.code, unknown.message) == (-32000, "header for hash not found")

    running(body)


@pytest.mark.parametrize(
    ("method", "params", "message"),
    [
        ("eth_getBalance", [], "missing value for required argument 0: address"),
        (
            "eth_getBalance",
            ["0x12"],
            "invalid argument 0: hex string has length 2, want 40 for common.Address",
        ),
        ("eth_getStorageAt", ["0x" + "11" * 20, "0xasdf"], 'invalid hex in storage key: "0xasdf"'),
        (
            "eth_getStorageAt",
            ["0x" + "11" * 20, "0x" + "0" * 65],
            "storage key too long (want at most 32 bytes)",
        ),
        ("eth_getStorageValues", [{}], "empty request"),
        (
            "eth_getProof",
            ["0x" + "11" * 20, ["0x0"] * 1025],
            "too many storage keys requested (max 1024, got 1025)",
        ),
        ("eth_getBlockByNumber", ["0x1", "yes"], "invalid argument 1: expected true or false"),
        (
            "eth_getTransactionByHash",
            ["0x12"],
            "invalid argument 0: hex string has length 2, want 64 for common.Hash",
        ),
        (
            "debug_getRawTransaction",
            ["12" * 32],
            "invalid argument 0: json: cannot unmarshal hex string without 0x",
        ),
        ("eth_getLogs", [{"fromBlock": "0x3", "toBlock": "0x2"}], "invalid block range params"),
        (
            "eth_getLogs",
            [{"fromBlock": "0x1", "toBlock": "0x9"}],
            "block range extends beyond current head block",
        ),
        ("eth_feeHistory", ["0x1", "latest", [50, 10]], "invalid reward percentile: 10 after 50"),
        ("eth_call", [{"to": "0x" + "11" * 20, "data": "0x1", "input": "0x"}], "data: not a hex value"),
    ],
)
def test_bad_parameters_get_geths_words(method: str, params: list[Any], message: str) -> None:
    async def body() -> None:
        error = await start(grown=method.startswith("eth_getLogs")).rpc.error(method, *params)
        assert error.code == -32602
        assert message in error.message

    running(body)


def test_proofs_prove() -> None:
    async def body() -> None:
        node = start()
        shown = await node.rpc("eth_getProof", to_hex(PROBE_AT), ["0x0", "0x5"], "latest")
        nodes = {keccak256(parse_hex(item)): parse_hex(item) for item in shown["accountProof"]}
        assert Trie(node.chain.head.state_root, nodes.get).get(keccak256(PROBE_AT)) is not None
        slots = {
            keccak256(parse_hex(raw)): parse_hex(raw)
            for item in shown["storageProof"]
            for raw in item["proof"]
        }
        storage = Trie(parse_hex(shown["storageHash"]), slots.get)
        assert storage.get(keccak256(bytes(32))) == b"\x02"
        assert storage.get(keccak256((5).to_bytes(32, "big"))) is None
        assert [item["value"] for item in shown["storageProof"]] == ["0x2", "0x0"]
        passer = await node.rpc("eth_getProof", to_hex(L2_TO_L1_MESSAGE_PASSER), [], "latest")
        assert parse_hex(passer["storageHash"]) == node.chain.head.withdrawals_root
        absent = await node.rpc("eth_getProof", "0x" + "77" * 20, [], "latest")
        assert absent["balance"] == "0x0"

    running(body)


def test_calls_and_their_failures() -> None:
    async def body() -> None:
        node = start()
        probe = to_hex(PROBE_AT)

        def to_probe(signature: str, *words: int) -> dict[str, str]:
            return {"to": probe, "input": to_hex(encode_call(PROBE, signature, *words))}

        assert int(await node.rpc("eth_call", to_probe("count()"), "latest"), 16) == 2
        assert int(await node.rpc("eth_call", to_probe("count()"), "0x1"), 16) == 1
        reverted = await node.rpc.error("eth_call", to_probe("refuse(uint256)", 5))
        assert (reverted.code, reverted.message) == (3, "execution reverted")
        assert reverted.data.startswith("0x" + PROBE.selectors.get("Refused", b"").hex())
        text = encode_call(PROBE, "refuseWithText(string)", 32, 5) + b"hello".ljust(32, b"\0")
        reverted = await node.rpc.error("eth_call", {"to": probe, "data": to_hex(text)}, "latest")
        assert reverted.message == "execution reverted: hello"
        divided = await node.rpc.error("eth_call", to_probe("divide(uint256,uint256)", 1, 0))
        assert divided.message == "execution reverted: division or modulo by zero"
        halted = await node.rpc.error("eth_call", to_probe("halt()"))
        assert (halted.code, halted.message) == (-32000, "invalid opcode")
        rich = {address(9): 1}
        overridden = await node.rpc(
            "eth_call",
            to_probe("balanceAt(address)", int.from_bytes(address(9), "big")),
            "latest",
            {to_hex(key): {"balance": quantity(value)} for key, value in rich.items()},
        )
        assert int(overridden, 16) == 1
        numbered = await node.rpc("eth_call", to_probe("environment()"), "latest", None, {"number": "0x1234"})
        assert int(numbered[2:66], 16) == 0x1234
        poor = {"from": "0x" + "77" * 20, "to": probe, "value": "0x1"}
        assert "insufficient funds" in (await node.rpc.error("eth_call", poor)).message

    running(body)


def test_estimates_suffice_and_are_tight() -> None:
    async def body() -> None:
        node = start()
        sender = to_hex(address(0))
        transfer = {"from": sender, "to": to_hex(address(8)), "value": "0x1"}
        assert await node.rpc("eth_estimateGas", transfer) == "0x5208"
        for signature, words in (
            ("increment()", ()), ("needsGas(uint256)", (100_000,)), ("fill(uint256,uint256)", (50, 10)),
        ):  # fmt: skip
            data = encode_call(PROBE, signature, *words)
            request = {"from": sender, "to": to_hex(PROBE_AT), "data": to_hex(data)}
            gas = parse_quantity(await node.rpc("eth_estimateGas", request, "latest"))
            sealed = build(node.chain, [sign(0, 4, to=PROBE_AT, data=data, gas=gas)])
            assert sealed.receipts[1].succeeded, signature
            short = build(node.chain, [sign(0, 4, to=PROBE_AT, data=data, gas=int(gas * 0.97))])
            assert not short.receipts[1].succeeded, signature
        refused = {
            "from": sender,
            "to": to_hex(PROBE_AT),
            "data": to_hex(encode_call(PROBE, "refuse(uint256)", 1)),
        }
        assert (await node.rpc.error("eth_estimateGas", refused)).code == 3

    running(body)


def test_access_lists_name_what_a_call_touches() -> None:
    async def body() -> None:
        node = start()
        request = {
            "from": to_hex(address(0)),
            "to": to_hex(PROBE_AT),
            "data": to_hex(PROBE.selectors["increment()"]),
        }
        shown = await node.rpc("eth_createAccessList", request, "latest")
        assert shown["accessList"] == [{"address": to_hex(PROBE_AT), "storageKeys": ["0x" + "00" * 32]}]
        assert "error" not in shown

    running(body)


def test_a_call_that_takes_too_long_is_abandoned() -> None:
    async def body() -> None:
        node = start(CallLimits(gas=10**9, seconds=0.05))
        request = {"to": to_hex(PROBE_AT), "data": to_hex(encode_call(PROBE, "spin(uint256)", 10**9))}
        error = await node.rpc.error("eth_call", request)
        assert error.message == "execution aborted (timeout = 0.05s)"
        assert await node.rpc("eth_blockNumber") == "0x3"

    running(body)


def test_many_calls_at_once() -> None:
    async def body() -> None:
        node = start()
        request = {"to": to_hex(PROBE_AT), "data": to_hex(PROBE.selectors["count()"])}
        answers = await asyncio.gather(*(node.rpc("eth_call", request, "latest") for _ in range(50)))
        assert {int(answer, 16) for answer in answers} == {2}

    running(body)


def test_logs_by_range_hash_and_topic() -> None:
    async def body() -> None:
        node = start()
        everything = await node.rpc("eth_getLogs", {"fromBlock": "earliest", "toBlock": "latest"})
        from_receipts = [
            log
            for number in range(4)
            for receipt in await node.rpc("eth_getBlockReceipts", quantity(number))
            for log in receipt["logs"]
        ]
        assert everything == from_receipts
        assert len(everything) == 7
        counted = to_hex(keccak256(b"Counted(address,uint256)"))
        by_topic = await node.rpc("eth_getLogs", {"fromBlock": "0x0", "topics": [counted]})
        assert len(by_topic) == 2
        by_hash = await node.rpc(
            "eth_getLogs", {"blockHash": to_hex(node.blocks[1].hash), "address": to_hex(TOKEN_AT)}
        )
        assert [log["blockNumber"] for log in by_hash] == ["0x2"]
        assert await node.rpc("eth_getLogs", {}) == []
        unknown = await node.rpc.error("eth_getLogs", {"blockHash": "0x" + "11" * 32})
        assert (unknown.code, unknown.message) == (-32000, "unknown block")

    running(body)


def test_fees() -> None:
    async def body() -> None:
        node = start()
        head = node.chain.head
        assert await node.rpc("eth_maxPriorityFeePerGas") == quantity(1_000_000)
        assert parse_quantity(await node.rpc("eth_gasPrice")) == 1_000_000 + (head.base_fee_per_gas or 0)
        assert await node.rpc("eth_blobBaseFee") == "0x1"
        history = await node.rpc("eth_feeHistory", "0x4", "latest", [0, 50, 100])
        assert history["oldestBlock"] == "0x0"
        assert len(history["baseFeePerGas"]) == 5
        assert history["baseFeePerGas"][-1] == await node.rpc("eth_baseFee")
        assert history["reward"][2] == [quantity(GWEI)] * 3
        assert history["reward"][3] == ["0x0"] * 3
        assert history["gasUsedRatio"][2] == node.blocks[1].header.gas_used / 60_000_000
        # The base fee that was foretold is the one that came.
        before = history["baseFeePerGas"][-1]
        mine(node.chain)
        assert (await node.rpc("eth_getBlockByNumber", "latest", False))["baseFeePerGas"] == before
        assert len((await node.rpc("eth_feeHistory", "0x400", "latest"))["gasUsedRatio"]) == 5
        assert (await node.rpc.error("eth_feeHistory", "0x1", "0x99")).message == "request beyond head block"

    running(body)
