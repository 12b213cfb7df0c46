"""The table of methods that take a block, walked over a builder's own RPC: its open block by tag, number and
hash of zeros, beside what is answered when the same block is sealed."""

from __future__ import annotations

from typing import Any

from support.block_questions import ZERO_HASH, in_common, named, questions
from support.devnet_chain import address, build, encode_call, sign
from support.node_lab import PROBE, PROBE_AT, Node, start
from support.rpc_lab import running

from flashctl.core.jsonrpc.errors import RpcError
from flashctl.eth.hexdata import quantity, to_hex
from flashctl.ethrpc.block_methods import BLOCK_METHODS, BlockMethod, Given, Means

ALICE = to_hex(address(0))
CALL = {"from": ALICE, "to": to_hex(PROBE_AT), "data": to_hex(encode_call(PROBE, "increment()"))}

BLOCKLESS = {
    "debug_getRawTransaction", "debug_traceTransaction", "eth_accounts", "eth_baseFee", "eth_blobBaseFee",
    "eth_blockNumber", "eth_capabilities", "eth_chainId", "eth_fillTransaction", "eth_gasPrice",
    "eth_getFilterChanges", "eth_getFilterLogs", "eth_getRawTransactionByHash",
    "eth_getTransactionByHash", "eth_getTransactionReceipt", "eth_maxPriorityFeePerGas",
    "eth_newBlockFilter", "eth_newPendingTransactionFilter", "eth_sendRawTransaction",
    "eth_sendRawTransactionSync", "eth_subscribe", "eth_syncing", "eth_uninstallFilter",
    "eth_unsubscribe", "net_listening", "net_peerCount", "net_version", "txpool_content",
    "txpool_contentFrom", "txpool_inspect", "txpool_status", "web3_clientVersion", "web3_sha3",
}  # fmt: skip


def asked(method: BlockMethod, block: str) -> list[list[Any]]:
    return named(method, questions(method, ALICE, to_hex(PROBE_AT), CALL), block)


def with_open_block() -> Node:
    node = start()
    increment = encode_call(PROBE, "increment()")
    node.build_on(build(node.chain, [sign(0, 4 + each, to=PROBE_AT, data=increment) for each in range(2)]))
    return node


def test_the_table_names_every_method_of_the_builder_that_takes_a_block() -> None:
    async def body() -> None:
        known = {name for name, method in BLOCK_METHODS.items() if method.builder is not None}
        assert set(start().methods.names) - BLOCKLESS == known

    running(body)


def test_all_names_of_the_open_block_mean_what_is_sealed_later() -> None:
    async def body() -> None:
        node = with_open_block()
        assert node.pending is not None
        sealed, number = node.pending, quantity(node.pending.header.number)
        for method in BLOCK_METHODS.values():
            if method.builder is not Means.SERVED:
                continue
            node.pending = sealed
            streamed = [
                in_common(await node.rpc(method.name, *params))
                for name in ("pending", number, ZERO_HASH)
                for params in asked(method, name)
                if name == number or method.name != "eth_getTransactionCount"
            ]
            if node.chain.head.hash != sealed.hash:
                node.chain.insert(sealed)
            by = to_hex(sealed.hash) if method.given is Given.HASH else number
            head = node.chain.head.hash
            node.chain.set_head(sealed.hash, None, None)
            node.pending = None
            expected = in_common(await node.rpc(method.name, *asked(method, by)[0]))
            node.chain.set_head(head, None, None)
            assert streamed == [expected] * len(streamed) != [], method.name

    running(body)


def test_an_estimate_without_a_tag_is_for_the_open_block() -> None:
    async def body() -> None:
        node = start()
        created = sign(0, 4, data=PROBE.creation_code, gas=2_000_000)
        node.build_on(build(node.chain, [created]))
        assert node.pending is not None
        where = node.pending.results[-1].contract_address
        assert where is not None
        call = CALL | {"to": to_hex(where)}
        for name in ("eth_estimateGas", "eth_createAccessList"):
            assert await node.rpc(name, call) == await node.rpc(name, call, "pending")
            assert await node.rpc(name, call) != await node.rpc(name, call, "latest")

    running(body)


def test_without_an_open_block_its_number_and_the_hash_of_zeros_are_no_block() -> None:
    async def body() -> None:
        node = start()
        number = quantity(node.chain.head.number + 1)
        assert await node.rpc("eth_getBlockByNumber", number, False) is None
        assert await node.rpc("eth_getBlockByHash", ZERO_HASH, False) is None
        for named_so in (number, {"blockHash": ZERO_HASH}):
            error = await node.rpc.error("eth_getBalance", ALICE, named_so)
            assert isinstance(error, RpcError) and error.code == -32000

    running(body)
