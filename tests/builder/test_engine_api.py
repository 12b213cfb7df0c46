"""The Engine API without sockets: JSON in, JSON out, over a real chain."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import orjson
import pytest
from support.chain_lab import next_block
from support.chain_lab import transfer as lab_transfer
from support.chains import ask, memory_chain, transfer

from flashctl.builder.backend import EmbeddedBackend
from flashctl.builder.engine_api import EngineApi
from flashctl.builder.execution_engine import ExecutionEngine
from flashctl.builder.mempool.admission import Mempool
from flashctl.builder.payload.block_work import JobTerms
from flashctl.builder.payload.job import JobObserver, PayloadJob
from flashctl.builder.payload.jobs import KEPT_PAYLOADS, PayloadJobs
from flashctl.builder.payload.schedule import FlashblockSchedule
from flashctl.core.engine.payloads import attributes_to_json, payload_to_json
from flashctl.core.jsonrpc.dispatch import Dispatcher
from flashctl.core.jsonrpc.methods import Methods
from flashctl.eth.blocks import Block
from flashctl.eth.hexdata import to_hex
from flashctl.op.attributes import payload_id

ZERO = "0x" + "00" * 32


class Engine:
    """One engine, its gaps counted, called in JSON."""

    def __init__(self) -> None:
        self.chain = memory_chain()
        self.queue = Mempool(self.chain)
        self.tasks: list[asyncio.Task[None]] = []
        self.gaps = 0
        payloads = PayloadJobs(
            EmbeddedBackend(self.chain),
            self.queue,
            lambda: JobTerms(FlashblockSchedule(2000, 200)),
            JobObserver(),
            self._spawn,
        )
        self.node = ExecutionEngine(self.chain, payloads, self._gap)
        methods = Methods()
        EngineApi(self.node).register(methods)
        self.dispatcher = Dispatcher(methods)

    def _spawn(self, job: PayloadJob) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(job.run())
        self.tasks.append(task)
        return task

    def _gap(self) -> None:
        self.gaps += 1

    async def call(self, method: str, *params: Any) -> dict[str, Any]:
        """The whole response."""
        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        reply = await self.dispatcher.handle(orjson.dumps(request))
        assert reply is not None
        response: dict[str, Any] = orjson.loads(reply)
        return response

    async def result(self, method: str, *params: Any) -> Any:
        response = await self.call(method, *params)
        assert "result" in response, response
        return response["result"]

    async def choose(self, block_hash: bytes, attributes: Any = None) -> Any:
        state = {"headBlockHash": to_hex(block_hash), "safeBlockHash": ZERO, "finalizedBlockHash": ZERO}
        return await self.result("engine_forkchoiceUpdatedV3", state, attributes)

    async def built(self) -> Block:
        """A block of forced transactions and pool, as the consensus client gets it; not imported."""
        head = self.chain.head
        answer = await self.choose(head.hash, attributes_to_json(ask(self.chain)))
        await asyncio.gather(*self.tasks)
        await self.result("engine_getPayloadV4", answer["payloadId"])
        job = self.node.payloads.current
        assert job is not None and job.sealed is not None
        return job.sealed.block

    async def new_payload(self, block: Block) -> Any:
        root = to_hex(block.header.parent_beacon_block_root or b"")
        return await self.result("engine_newPayloadV4", payload_to_json(block), [], root, [])


def run(scenario: Callable[[Engine], Awaitable[None]]) -> None:
    async def whole() -> None:
        engine = Engine()
        try:
            await scenario(engine)
        finally:
            for task in engine.tasks:
                task.cancel()

    asyncio.run(whole())


def test_a_block_from_request_to_head() -> None:
    async def scenario(engine: Engine) -> None:
        genesis = engine.chain.head
        attributes = ask(engine.chain)
        engine.queue.add(transfer())
        answer = await engine.choose(genesis.hash, attributes_to_json(attributes))
        assert answer["payloadStatus"]["status"] == "VALID"
        assert answer["payloadId"] == to_hex(payload_id(genesis.hash, attributes))
        # The timestamp is long past, so the one flashblock left is built at once.
        await asyncio.gather(*engine.tasks)
        envelope = await engine.result("engine_getPayloadV4", answer["payloadId"])
        assert envelope["executionRequests"] == []
        assert int(envelope["blockValue"], 16) == 21_000 * 10**9
        payload = envelope["executionPayload"]
        assert len(payload["transactions"]) == 2
        root = envelope["parentBeaconBlockRoot"]
        status = await engine.result("engine_newPayloadV4", payload, [], root, [])
        assert status == {"status": "VALID", "latestValidHash": payload["blockHash"], "validationError": None}
        await engine.choose(bytes.fromhex(payload["blockHash"][2:]))
        assert engine.chain.head.number == 1

    run(scenario)


def test_a_payload_of_the_past_is_fetched_with_the_pool_in_it_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("flashctl.builder.payload.job.LATE_WAIT_S", 60.0)

    async def scenario(engine: Engine) -> None:
        for account in range(3):
            engine.queue.add(transfer(account))
        answer = await engine.choose(engine.chain.head.hash, attributes_to_json(ask(engine.chain)))
        envelope = await engine.result("engine_getPayloadV4", answer["payloadId"])
        assert len(envelope["executionPayload"]["transactions"]) == 4

    run(scenario)


def test_another_engine_executes_what_this_one_built() -> None:
    async def scenario(engine: Engine) -> None:
        other = Engine()
        engine.queue.add(transfer())
        block = await engine.built()
        assert (await other.new_payload(block))["status"] == "VALID"
        await other.choose(block.hash)
        assert other.chain.head.hash == block.hash
        assert (await other.new_payload(block))["status"] == "VALID"

    run(scenario)


def test_a_block_without_its_parent_waits_for_it() -> None:
    async def scenario(engine: Engine) -> None:
        source = Engine()
        blocks = []
        for _ in range(3):
            block = await source.built()
            blocks.append(block)
            await source.new_payload(block)
            await source.choose(block.hash)
        assert (await engine.new_payload(blocks[2]))["status"] == "SYNCING"
        assert (await engine.choose(blocks[2].hash))["payloadStatus"]["status"] == "SYNCING"
        assert (await engine.new_payload(blocks[1]))["status"] == "SYNCING"
        assert engine.gaps == 3
        assert (await engine.new_payload(blocks[0]))["status"] == "VALID"
        assert (await engine.choose(blocks[2].hash))["payloadStatus"]["status"] == "VALID"
        assert engine.chain.head.number == 3

    run(scenario)


def test_an_invalid_block_and_its_children_are_refused_with_the_reason() -> None:
    async def scenario(engine: Engine) -> None:
        source = Engine()
        block = await source.built()
        payload = payload_to_json(block)
        root = to_hex(block.header.parent_beacon_block_root or b"")
        untrue = payload | {"gasUsed": "0x1"}
        status = await engine.result("engine_newPayloadV4", untrue, [], root, [])
        assert status["status"] == "INVALID"
        assert status["validationError"].startswith("blockhash mismatch")
        wrong = replace(block, header=replace(block.header, state_root=b"\x01" * 32))
        status = await engine.new_payload(wrong)
        assert status["status"] == "INVALID"
        assert status["latestValidHash"] == to_hex(engine.chain.head.hash)
        assert "state_root" in status["validationError"]
        child = replace(wrong, header=replace(wrong.header, parent_hash=wrong.hash, number=2))
        assert (await engine.new_payload(child))["status"] == "INVALID"
        assert (await engine.choose(wrong.hash))["payloadStatus"]["status"] == "INVALID"

    run(scenario)


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"timestamp": "0x1"}, -38003, "is not after the parent's|missing|expected none"),
        ({"gasLimit": None}, -38003, "missing gasLimit"),
        ({"eip1559Params": None}, -38003, "Invalid payload attributes"),
        ({"minBaseFee": None}, -38003, "Invalid payload attributes"),
        ({"parentBeaconBlockRoot": None}, -38003, "missing parentBeaconBlockRoot"),
        ({"transactions": ["0x05c0"]}, -38003, "failed to force-include tx 0"),
        ({"withdrawals": [{}]}, -32602, "no withdrawals"),
        ({"prevRandao": "0x12"}, -32602, "prevRandao"),
    ],
)
def test_attributes_that_cannot_be_built(changes: dict[str, Any], code: int, words: str) -> None:
    async def scenario(engine: Engine) -> None:
        head = to_hex(engine.chain.head.hash)
        state = {"headBlockHash": head, "safeBlockHash": ZERO, "finalizedBlockHash": ZERO}
        attributes = attributes_to_json(ask(engine.chain)) | changes
        response = await engine.call("engine_forkchoiceUpdatedV3", state, attributes)
        assert response["error"]["code"] in (code, -38005), response
        if response["error"]["code"] == code:
            assert re.search(words, response["error"]["message"]), response

    run(scenario)


def test_errors_of_the_specification() -> None:
    async def scenario(engine: Engine) -> None:
        response = await engine.call("engine_getPayloadV4", "0x0300000000000000")
        assert response["error"] == {"code": -38001, "message": "Unknown payload"}
        head = to_hex(engine.chain.head.hash)
        state = {"headBlockHash": head, "safeBlockHash": "0x" + "11" * 32, "finalizedBlockHash": ZERO}
        assert (await engine.call("engine_forkchoiceUpdatedV3", state))["error"]["code"] == -38002
        answer = await engine.choose(engine.chain.head.hash, attributes_to_json(ask(engine.chain)))
        wrong_version = await engine.call("engine_getPayloadV3", answer["payloadId"])
        assert wrong_version["error"] == {"code": -38005, "message": "Unsupported fork"}
        zero = {"headBlockHash": ZERO, "safeBlockHash": ZERO, "finalizedBlockHash": ZERO}
        status = (await engine.result("engine_forkchoiceUpdatedV3", zero))["payloadStatus"]["status"]
        assert status == "INVALID"

    run(scenario)


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("engine_forkchoiceUpdatedV3", []),
        ("engine_forkchoiceUpdatedV3", ["x"]),
        ("engine_getPayloadV4", ["0x12"]),
        ("engine_newPayloadV4", [{}, [], ZERO, []]),
        ("engine_newPayloadV4", ["x", [], ZERO, []]),
        ("engine_newPayloadV4", [{"timestamp": []}, [], ZERO, []]),
        ("engine_newPayloadV4", [{}, ["0x"], ZERO, []]),
        ("engine_newPayloadV3", [{"timestamp": "0x1"}, []]),
        ("engine_getPayloadBodiesByHashV1", [5]),
        ("engine_getPayloadBodiesByRangeV1", ["0x0", "0x1"]),
    ],
)
def test_nonsense_is_refused_in_one_line(method: str, params: list[Any]) -> None:
    async def scenario(engine: Engine) -> None:
        error = (await engine.call(method, *params))["error"]
        assert error["code"] in (-32602, -38005)
        assert "\n" not in error["message"]

    run(scenario)


def test_the_same_request_is_the_same_payload_and_a_new_one_ends_it() -> None:
    async def scenario(engine: Engine) -> None:
        head = engine.chain.head.hash
        ids = set()
        for extra in range(KEPT_PAYLOADS + 2):
            attributes = attributes_to_json(ask(engine.chain, gas_limit=60_000_000 + extra))
            answer = await engine.choose(head, attributes)
            assert (await engine.choose(head, attributes))["payloadId"] == answer["payloadId"]
            ids.add(answer["payloadId"])
        assert len(engine.tasks) == len(ids) == KEPT_PAYLOADS + 2
        known = [(await engine.call("engine_getPayloadV4", identity)).get("result") for identity in ids]
        assert sum(result is not None for result in known) == KEPT_PAYLOADS

    run(scenario)


def test_bodies_and_capabilities() -> None:
    async def scenario(engine: Engine) -> None:
        block = await engine.built()
        await engine.new_payload(block)
        await engine.choose(block.hash)
        expected = {"transactions": [to_hex(raw) for raw in block.transactions], "withdrawals": []}
        by_hash = await engine.result("engine_getPayloadBodiesByHashV1", [to_hex(block.hash), ZERO])
        assert by_hash == [expected, None]
        assert await engine.result("engine_getPayloadBodiesByRangeV1", "0x1", "0x5") == [expected]
        names = await engine.result("engine_exchangeCapabilities", [])
        assert {"engine_forkchoiceUpdatedV3", "engine_getPayloadV5", "engine_newPayloadV4"} <= set(names)
        (version,) = await engine.result("engine_getClientVersionV1", {})
        assert version["name"] == "flashctl"

    run(scenario)


def test_blocks_that_wait_for_a_parent_are_bounded_in_number_and_bytes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scenario(engine: Engine) -> None:
        head = engine.chain.head
        blocks = [next_block(engine.chain, head, [lab_transfer(0, nonce)]).block for nonce in range(8)]
        size = len(blocks[0].transactions[0])
        monkeypatch.setattr("flashctl.builder.execution_engine.MAX_WAITING_BLOCKS", 6)
        for block in blocks[1:]:
            engine.node._keep_waiting(block)
        engine.node._keep_waiting(blocks[-1])
        assert list(engine.node._waiting) == [block.hash for block in blocks[2:]]
        monkeypatch.setattr("flashctl.builder.execution_engine.MAX_WAITING_BYTES", 3 * size + 3)
        engine.node._keep_waiting(blocks[0])
        assert list(engine.node._waiting) == [block.hash for block in (*blocks[-2:], blocks[0])]

    run(scenario)
