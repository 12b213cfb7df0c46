"""The node's JSON-RPC surface on a devnet chain with real execution."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest
from support.devnet_chain import (
    GWEI,
    address,
    build,
    contract,
    encode_call,
    mine,
    open_devnet,
    sign,
    sign_raw,
)
from support.rpc_lab import Caller, ListPool, ListSubscription, running

from flashctl.chain.call_api import CallLimits
from flashctl.chain.chain import Chain, ChainBlock
from flashctl.chain.devnet_accounts import DEVNET_ACCOUNTS
from flashctl.chain.eth_api import EthApi
from flashctl.chain.predeploys import L2_TO_L1_MESSAGE_PASSER
from flashctl.chain.providers import PendingBlock
from flashctl.core.jsonrpc.methods import Methods
from flashctl.eth.blocks import decode_block, decode_header
from flashctl.eth.hexdata import parse_hex, parse_quantity, quantity, to_hex
from flashctl.eth.keccak import keccak256
from flashctl.eth.signatures import sign_authorization
from flashctl.eth.transactions import AccessListEntry, AccessListTx, LegacyTx, SetCodeTx
from flashctl.eth.trie import Trie
from flashctl.op.execution import SealedBlock

PROBE, TOKEN = contract("Probe"), contract("Token")
ETHER = 10**18


def created(sender: int, nonce: int) -> bytes:
    from flashctl.eth.rlp import encode_bytes, encode_uint, join_list

    return keccak256(join_list((encode_bytes(address(sender)), encode_uint(nonce))))[12:]


@dataclass
class Node:
    """A node under test."""

    chain: Chain
    pool: ListPool
    methods: Methods
    api: EthApi
    rpc: Caller
    blocks: list[ChainBlock]
    pending: SealedBlock | None = None


PROBE_AT, TOKEN_AT = created(0, 0), created(1, 0)


def start(limits: CallLimits | None = None, grown: bool = True) -> Node:
    """A node whose chain has one block of every kind of transaction and one with logs."""
    chain, pool, methods = open_devnet(), ListPool(), Methods()
    node = Node(chain, pool, methods, None, Caller(methods), [])  # type: ignore[arg-type]

    def pending() -> PendingBlock | None:
        sealed = node.pending
        if sealed is None:
            return None
        return PendingBlock(sealed.header, sealed.envelopes, sealed.receipts, sealed.world)

    node.api = EthApi(chain, pool, pending, limits)
    node.api.register(methods)
    if grown:
        node.blocks = grow(chain)
    return node


def grow(chain: Chain) -> list[ChainBlock]:
    delegation = sign_authorization(901, PROBE_AT, 1, DEVNET_ACCOUNTS[1].secret)
    entry = AccessListEntry(PROBE_AT, (bytes(32),))
    return [
        mine(
            chain,
            [
                sign(0, 0, data=PROBE.creation_code, gas=2_000_000),
                sign(1, 0, data=TOKEN.creation_code + (10**6).to_bytes(32, "big"), gas=2_000_000),
                sign_raw(LegacyTx(0, 50 * GWEI, 21_000, address(3), ETHER, b"", 35 + 2 * 901, 0, 0), 2),
                sign_raw(
                    AccessListTx(
                        901,
                        1,
                        50 * GWEI,
                        90_000,
                        PROBE_AT,
                        0,
                        PROBE.selectors["increment()"],
                        (entry,),
                        0,
                        0,
                        0,
                    ),
                    2,
                ),
                sign_raw(
                    SetCodeTx(
                        901, 0, GWEI, 50 * GWEI, 90_000, address(4), 0, b"", (), (delegation,), 0, 0, 0
                    ),
                    3,
                ),
            ],
        ),
        mine(
            chain,
            [
                sign(0, 1, to=PROBE_AT, data=encode_call(PROBE, "increment()")),
                sign(0, 2, to=PROBE_AT, data=encode_call(PROBE, "emitNotes(uint256)", 3)),
                sign(1, 2, to=TOKEN_AT, data=encode_call(TOKEN, "transfer(address,uint256)", address(5), 7)),
                sign(0, 3, to=PROBE_AT, data=encode_call(PROBE, "refuse(uint256)", 9)),
            ],
        ),
        mine(chain),
    ]


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
        await asyncio.sleep(0.01)
        mine(node.chain, [raw])
        assert (await waiting)["blockNumber"] == "0x4"
        preconfirmed = sign(0, 5, to=address(1), value=1)
        waiting = asyncio.create_task(node.rpc("eth_sendRawTransactionSync", to_hex(preconfirmed), 5000))
        await asyncio.sleep(0.01)
        node.pending = build(node.chain, [preconfirmed])
        assert (await waiting)["blockNumber"] == "0x5"
        late = sign(0, 6, to=address(1), value=1)
        error = await node.rpc.error("eth_sendRawTransactionSync", to_hex(late), 30)
        assert error.code == 4
        assert "wasn't confirmed within 30 ms" in error.message
        too_long = await node.rpc.error("eth_sendRawTransactionSync", to_hex(late), 6001)
        assert too_long.message == "time out too long, timeout: 6001 ms, max: 6000 ms"

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
        monkeypatch.setattr("flashctl.chain.filter_api.MAX_FILTERS", 3)
        node = start(grown=False)
        first = await node.rpc("eth_newBlockFilter")
        others = [await node.rpc("eth_newBlockFilter") for _ in range(3)]
        assert (await node.rpc.error("eth_getFilterChanges", first)).message == "filter not found"
        assert await node.rpc("eth_getFilterChanges", others[0]) == []
        monkeypatch.setattr("flashctl.chain.filter_api.FILTER_LIFETIME_S", 0)
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
        await asyncio.sleep(0)
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
