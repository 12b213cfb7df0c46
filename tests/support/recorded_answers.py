"""Answers of a builder's chain and of an overlay on fixed blocks, to be compared with recorded ones.

    python -m support.recorded_answers             from the tests folder: record them anew
    python -m support.recorded_answers FILE        to another file, as plain JSON

Everything in them is fixed: keys, times, transactions. What is random (identifiers of filters) is left out.
"""

from __future__ import annotations

import asyncio
import lzma
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
from support.block_questions import ZERO_HASH, named, questions
from support.devnet_chain import address, build, encode_call, sign
from support.node_lab import PROBE, PROBE_AT, TOKEN, TOKEN_AT, Node, start
from support.rpc_lab import ListSubscription, plain
from support.rpc_node import Bench, bench, notification, probe_block, selector
from support.stream_lab import StreamedBlock, signed
from support.waiting import until

from flashctl.core.jsonrpc.client import JsonRpcClient
from flashctl.core.jsonrpc.errors import RpcError, rpc_error_for
from flashctl.eth.hexdata import to_hex
from flashctl.ethrpc.block_methods import BLOCK_METHODS
from flashctl.rpc.visibility import Latest

__all__ = ["RECORDED", "builder_answers", "overlay_answers", "read_recorded"]

RECORDED = Path(__file__).resolve().parents[1] / "ethrpc" / "answers.json.xz"

ALICE, BOB = to_hex(address(0)), to_hex(address(1))
PROBE_HEX, TOKEN_HEX = to_hex(PROBE_AT), to_hex(TOKEN_AT)
INCREMENT = to_hex(PROBE.selectors["increment()"])
CALL = {"from": ALICE, "to": PROBE_HEX, "data": INCREMENT}
REFUSED = {"to": PROBE_HEX, "data": to_hex(encode_call(PROBE, "refuse(uint256)", 9))}

Ask = Callable[..., Awaitable[Any]]
"""Asks one question: the method and its parameters."""


def key_of(method: str, params: tuple[Any, ...]) -> str:
    return f"{method} {orjson.dumps(params).decode()}"


class Answers(dict[str, Any]):
    """Answers by question; an error counts as one."""

    def __init__(self, ask: Ask) -> None:
        super().__init__()
        self._ask = ask

    async def take(self, method: str, *params: Any) -> Any:
        try:
            answer = plain(await self._ask(method, *params))
        except Exception as error:
            told = rpc_error_for(error)
            if told is None:
                raise
            answer = {"error": [told.code, told.message, told.data]}
        # Through JSON, as it arrives.
        self[key_of(method, params)] = answer = orjson.loads(orjson.dumps(answer))
        return answer


def about_blocks(blocks: list[str]) -> Iterator[tuple[str, list[Any]]]:
    """Every method that takes a block, about each of these, in each form."""
    for method in BLOCK_METHODS.values():
        for block in blocks:
            for params in named(method, questions(method, ALICE, PROBE_HEX, CALL), block):
                yield method.name, params


def about_transactions(hashes: list[str]) -> Iterator[tuple[str, list[Any]]]:
    for tx_hash in hashes:
        for method in (
            "eth_getTransactionByHash",
            "eth_getTransactionReceipt",
            "eth_getRawTransactionByHash",
            "debug_getRawTransaction",
        ):
            yield method, [tx_hash]
        for tracer in ({}, {"tracer": "callTracer"}, {"tracer": "prestateTracer"}):
            if tracer or tx_hash == hashes[-1]:
                yield "debug_traceTransaction", [tx_hash, tracer]


def others() -> Iterator[tuple[str, list[Any]]]:
    """What takes no block, and questions that make no sense."""
    for method in ("eth_chainId", "eth_syncing", "eth_accounts", "eth_blockNumber", "eth_gasPrice"):
        yield method, []
    for method in ("eth_maxPriorityFeePerGas", "eth_baseFee", "eth_blobBaseFee", "net_version"):
        yield method, []
    for method in ("net_listening", "net_peerCount", "eth_capabilities"):
        yield method, []
    yield "web3_sha3", ["0x68656c6c6f"]
    for block in ("pending", "latest"):
        for full in (True, False):
            yield "eth_getBlockByNumber", [block, full]
        yield "eth_call", [REFUSED, block]
        yield "eth_estimateGas", [REFUSED, block]
        yield "eth_createAccessList", [REFUSED, block]
        yield "eth_call", [CALL, block, {PROBE_HEX: {"code": "0x60005260206000f3"}}, {"number": "0x99"}]
        yield "debug_traceCall", [CALL, block, {}]
        yield "debug_traceCall", [REFUSED, block, {"tracer": "prestateTracer"}]
        yield "eth_simulateV1", [{"blockStateCalls": [{"calls": [CALL, REFUSED]}, {}]}, block]
        yield "eth_getLogs", [{"fromBlock": "0x0", "toBlock": block}]
        yield "eth_getLogs", [{"fromBlock": block, "address": PROBE_HEX}]
        yield "eth_fillTransaction", [CALL]
    for method in ("eth_call", "eth_estimateGas", "eth_createAccessList", "eth_getTransactionCount"):
        yield method, [CALL if method != "eth_getTransactionCount" else ALICE]
    for bad in ([], [None], ["0x"], ["0x1", "latest"], [7, 7, 7], [{}, "0x" + "f" * 20], [ALICE, "newest"]):
        for method in (
            "eth_getBalance",
            "eth_call",
            "eth_getBlockByNumber",
            "eth_getBlockByHash",
            "eth_getStorageAt",
            "eth_getLogs",
            "eth_feeHistory",
            "eth_getTransactionByHash",
            "eth_sendRawTransaction",
            "debug_traceTransaction",
            "eth_fillTransaction",
            "eth_getProof",
        ):
            yield method, bad


def with_open_block() -> Node:
    node = start()
    increment = encode_call(PROBE, "increment()")
    transfer = encode_call(TOKEN, "transfer(address,uint256)", address(6), 8)
    raws = [sign(0, 4, to=PROBE_AT, data=increment), sign(1, 3, to=TOKEN_AT, data=transfer)]
    node.build_on(build(node.chain, [*raws, sign(0, 5, to=PROBE_AT, data=increment)]))
    return node


async def builder_answers() -> dict[str, Any]:
    """Of a chain with a block under construction, and of the same without one."""
    node = with_open_block()
    methods = node.methods

    async def ask(method: str, *params: Any) -> Any:
        handler = methods.find(method)
        if handler is None:
            raise RpcError(-32601, "no such method")
        return await handler(list(params))

    answers = Answers(ask)
    assert node.pending is not None
    sealed = [to_hex(block.hash) for block in node.blocks]
    hashes = [to_hex(envelope.hash) for envelope in (*node.blocks[0].envelopes, *node.pending.envelopes)]
    names = ["pending", "latest", "safe", "0x0", "0x2", "0x4", "0x99", ZERO_HASH, sealed[1], "0x" + "ab" * 32]
    heard = {kind: ListSubscription() for kind in ("newHeads", "logs", "newPendingTransactions")}
    kinds = methods.subscriptions("eth") or {}
    for kind, subscription in heard.items():
        await kinds[kind]([], subscription)
    for method, params in (*about_blocks(names), *about_transactions(hashes), *others()):
        if method != "eth_newFilter":
            await answers.take(method, *params)
    filters = {
        "logs": await ask("eth_newFilter", {"address": PROBE_HEX}),
        "blocks": await ask("eth_newBlockFilter"),
        "transactions": await ask("eth_newPendingTransactionFilter"),
    }
    waiting = to_hex(sign(0, 6, to=PROBE_AT, data=encode_call(PROBE, "increment()")))
    await answers.take("eth_sendRawTransaction", waiting)
    await answers.take("eth_sendRawTransaction", waiting)
    await answers.take("eth_sendRawTransactionSync", waiting, 1)
    raw_in_block = to_hex(node.pending.envelopes[1].raw)
    await answers.take("eth_sendRawTransactionSync", raw_in_block)
    for method in ("txpool_status", "txpool_content", "txpool_inspect"):
        await answers.take(method)
    await answers.take("txpool_contentFrom", ALICE)
    await answers.take("eth_getTransactionCount", ALICE, "pending")
    node.chain.insert(node.pending)
    node.chain.set_head(node.pending.hash)
    node.pending = None
    for name, number in filters.items():
        answers[f"changes of {name}"] = orjson.loads(orjson.dumps(await ask("eth_getFilterChanges", number)))
    answers["filter logs"] = orjson.loads(orjson.dumps(await ask("eth_getFilterLogs", filters["logs"])))
    await until(lambda: len(heard["logs"].heard) >= 3)
    for kind, subscription in heard.items():
        answers[f"subscription {kind}"] = orjson.loads(orjson.dumps(subscription.heard))
    sealed_only = Answers(ask)
    for method, params in about_blocks(["pending", "latest", "0x4", ZERO_HASH]):
        if method != "eth_newFilter":
            await sealed_only.take(method, *params)
    node.api.close()
    return dict(answers) | {f"sealed: {key}": value for key, value in sealed_only.items()}


async def overlay_answers(latest: Latest) -> dict[str, Any]:
    """Of an overlay with two streamed blocks on one that is sealed, of its sealed port, and when both are
    sealed."""
    found: dict[str, Any] = {}
    async with bench(latest=latest, sealed_port=0, pool_wait_s=0.01) as made:
        assert made.node.sealed_url is not None
        blocks = _blocks(made)
        await made.stream(blocks[0])
        await made.seal(blocks[0])
        sealed = JsonRpcClient(made.node.sealed_url)

        async def strict(method: str, *params: Any) -> Any:
            return await sealed.call(method, list(params))

        hashes = [to_hex(envelope.hash) for block in blocks for envelope in block.sealed.envelopes[:3]]
        names = ["pending", "latest", "0x1", "0x2", "0x3", "0x99", ZERO_HASH, to_hex(blocks[0].sealed.hash)]
        asked = [*about_blocks(names), *about_transactions(hashes), *others()]
        asked = [(method, params) for method, params in asked if "Filter" not in method]

        async def take(name: str, ask: Ask) -> None:
            answers = Answers(ask)
            for method, params in asked:
                await answers.take(method, *params)
            found.update({f"{name}: {key}": value for key, value in answers.items()})

        await take("nothing streamed", made.call)
        async with (
            made.subscription("newFlashblocks") as flashblocks,
            made.subscription("newFlashblockTransactions", True) as transactions,
            made.subscription("pendingLogs", {"address": PROBE_HEX}) as logs,
            made.subscription("newHeads") as heads,
            made.subscription("logs", {}) as sealed_logs,
        ):
            for block in blocks[1:]:
                await made.stream(block)
            for name, socket, count in (
                ("newFlashblocks", flashblocks, 5),
                ("newFlashblockTransactions", transactions, 5),
                ("pendingLogs", logs, 2),
            ):
                found[name] = [await notification(socket) for _ in range(count)]
            await take("streamed", made.call)
            await take("streamed, sealed port", strict)
            raw = to_hex(blocks[1].sealed.envelopes[1].raw)
            answers = Answers(made.call)
            await answers.take("eth_sendRawTransaction", raw)
            await answers.take("eth_sendRawTransactionSync", raw)
            await answers.take("eth_sendRawTransactionSync", to_hex(signed(1, 1, PROBE_AT)), 1)
            found.update(answers)
            for block in blocks[1:]:
                await made.seal(block)
            found["newHeads"] = [await notification(heads) for _ in range(2)]
            found["logs"] = [await notification(sealed_logs) for _ in range(2)]
        await take("sealed", made.call)
        await sealed.close()
    return found


def _blocks(made: Bench) -> list[StreamedBlock]:
    first = probe_block(made)
    increment = selector("increment()")
    second = made.lab.build(
        [[signed(0, 3, PROBE_AT, data=increment)], [signed(0, 4, PROBE_AT, data=selector("halt()"))]],
        first.sealed.header,
    )
    third = made.lab.build([[signed(0, 5, PROBE_AT, data=increment)]], second.sealed.header)
    return [first, second, third]


async def all_answers() -> dict[str, dict[str, Any]]:
    """All of them, by who answers."""
    found = {"builder": await builder_answers()}
    for latest in Latest:
        found[f"overlay, latest is {latest.value}"] = await overlay_answers(latest)
    return found


def read_recorded(who: str) -> dict[str, Any]:
    """The recorded answers of one of them."""
    answers: dict[str, Any] = orjson.loads(lzma.decompress(RECORDED.read_bytes()))[who]
    return answers


if __name__ == "__main__":
    found = asyncio.run(all_answers())
    text = orjson.dumps(found, option=orjson.OPT_INDENT_2)
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_bytes(text)
    else:
        RECORDED.write_bytes(lzma.compress(text, preset=9 | lzma.PRESET_EXTREME))
    for who, answers in found.items():
        print(who, len(answers))
