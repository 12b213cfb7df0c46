"""Boost between a consensus client, a fallback and a builder: real servers and sockets, toy execution."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import brotli
import httpx
import pytest
import websockets
from support.boost_lab import Setup, play, running
from support.engines import DEPOSIT, genesis
from websockets.asyncio.client import ClientConnection, connect

from flashctl.boost.debug_api import DebugClient
from flashctl.boost.modes import ExecutionMode, SelectionPolicy
from flashctl.core.engine.payloads import PayloadStatus, PayloadValidity, envelope_to_json
from flashctl.core.flashblocks.frame import MAX_DECOMPRESSED_BYTES, MAX_FRAME_BYTES
from flashctl.core.jsonrpc.client import JsonRpcClient
from flashctl.core.jsonrpc.errors import RpcError
from flashctl.errors import UnavailableError
from flashctl.eth.blocks import Block

TX = b"\x02\xc0\x01"
TX2 = b"\x02\xc0\x02"


class TestBuilderBlocks:
    @pytest.mark.parametrize("id_version", [3, 4])
    def test_block_of_flashblocks(self, tmp_path: Path, id_version: int) -> None:
        async def scenario(s: Setup) -> None:
            for number in range(3):
                identity = await s.build([TX, bytes([2, number])], [TX2])
                block = await s.driver.finish(identity)
                assert block.transactions == (DEPOSIT, TX, bytes([2, number]), TX2)
                decision = s.last_decision()
                assert (decision["source"], decision["via"], decision["flashblocks"]) == (
                    "builder",
                    "flashblocks",
                    3,
                )
                assert decision["kept_promises"]
            # The builder was told to end its build although its block came from the flashblocks.
            await s.until(lambda: len(s.builder.called("engine_getPayloadV4")) == 3)
            assert await s.health() == 200
            # And it heard of every block.
            await s.until(lambda: len(s.builder.called("engine_newPayloadV4")) == 3)
            assert s.builder.head.number <= s.driver.head.number
            await s.until(lambda: s.builder.head.hash == s.driver.head.hash)

        play(tmp_path, scenario, id_version=id_version)

    def test_without_flashblocks_its_get_payload(self, tmp_path: Path) -> None:
        async def scenario(s: Setup) -> None:
            s.builder.pool = [TX]
            block = await s.driver.finish(await s.driver.begin())
            assert block.transactions == (DEPOSIT, TX)
            assert s.last_decision()["via"] == "getPayload"

        play(tmp_path, scenario)

    def test_no_block_hash_in_flashblocks(self, tmp_path: Path) -> None:
        async def scenario(s: Setup) -> None:
            identity = await s.driver.begin()
            builder_id = await s.builder_id()
            s.builder.publish(builder_id, block_hash=bytes(32), state_root=bytes(32))
            s.builder.publish(builder_id, [TX], block_hash=bytes(32), state_root=bytes(32))
            await s.until(lambda: len(s.round.flashblocks) == 2)
            block = await s.driver.finish(identity)
            assert block.transactions == (DEPOSIT, TX)
            decision = s.last_decision()
            assert (decision["via"], decision["kept_promises"]) == ("getPayload", True)

        play(tmp_path, scenario)

    def test_asked_twice_answered_the_same(self, tmp_path: Path) -> None:
        async def scenario(s: Setup) -> None:
            identity = await s.build([TX])
            both = await asyncio.gather(*(s.driver.client.get_payload(identity, version=4) for _ in range(2)))
            s.builder.publish(list(s.builder.builds)[-1], [TX2])
            again = await s.driver.client.get_payload(identity, version=4)
            assert both[0] == both[1] == again
            assert len(s.decisions.read_text().splitlines()) == 1

        play(tmp_path, scenario)

    def test_lost_answer_of_the_builder_loses_nothing(self, tmp_path: Path) -> None:
        """rollup-boost#409: flashblocks flow although forkchoiceUpdated timed out."""

        async def scenario(s: Setup) -> None:
            over = asyncio.Event()

            async def slow() -> Any:
                await s.builder.forkchoice_updated(s.builder.calls[-1][1])
                await over.wait()

            s.builder.faults["engine_forkchoiceUpdatedV3"] = slow
            identity = await s.build([TX])
            block = await s.driver.finish(identity)
            assert block.transactions == (DEPOSIT, TX)
            over.set()

        play(tmp_path, scenario, builder_timeout_s=0.1)

    def test_unknown_payload_id_waits_for_the_answer(self, tmp_path: Path) -> None:
        """A builder with ids of its own: its flashblocks are held until it has named the id."""

        async def scenario(s: Setup) -> None:
            release = asyncio.Event()
            own_id = b"\x09" * 8

            async def late() -> Any:
                answer = await s.builder.forkchoice_updated(s.builder.calls[-1][1])
                s.builder.builds[own_id] = s.builder.builds.pop(list(s.builder.builds)[-1])
                await release.wait()
                return {**answer, "payloadId": "0x" + own_id.hex()}

            s.builder.faults["engine_forkchoiceUpdatedV3"] = late
            identity = await s.driver.begin()
            await s.until(lambda: own_id in s.builder.builds)
            s.builder.publish(own_id)
            s.builder.publish(own_id, [TX])
            await s.until(lambda: s.boost.metrics.buffered.value == 2)
            assert not s.round.flashblocks
            release.set()
            await s.until(lambda: len(s.round.flashblocks) == 2)
            assert (await s.driver.finish(identity)).transactions == (DEPOSIT, TX)

        play(tmp_path, scenario)


class TestSlowValidation:
    """A fallback that is busy with the builder's block when getPayload comes."""

    def test_a_validation_under_way_is_waited_for(self, tmp_path: Path) -> None:
        """Longer than other calls to the fallback may take: what was preconfirmed depends on it."""

        async def scenario(s: Setup) -> None:
            async def slow() -> Any:
                await asyncio.sleep(0.5)  # longer than l2_timeout_s
                return await s.fallback.new_payload(s.fallback.calls[-1][1])

            identity = await s.build([TX])
            s.fallback.faults["engine_newPayloadV4"] = slow
            envelope = await s.driver.client.get_payload(identity, version=4)
            assert len(envelope["executionPayload"]["transactions"]) == 2
            assert s.last_decision()["source"] == "builder"

        play(tmp_path, scenario, fallback_timeout_s=0.2, builder_timeout_s=30.0)

    def test_a_block_that_is_not_judged_in_time_is_sent_once(self, tmp_path: Path) -> None:
        """The builder's getPayload comes to the block of its flashblocks, which may be executed still."""

        async def scenario(s: Setup) -> None:
            identity = await s.build([TX])
            s.fallback.faults["engine_newPayloadV4"] = asyncio.Event().wait
            envelope = await s.driver.client.get_payload(identity, version=4)
            assert len(envelope["executionPayload"]["transactions"]) == 1
            decision = s.last_decision()
            assert decision["source"] == "l2"
            assert "fallback did not validate" in decision["reason"] or "within" in decision["reason"]
            assert [name for name, _ in s.fallback.calls].count("engine_newPayloadV4") == 1

        play(tmp_path, scenario, fallback_timeout_s=0.3, builder_timeout_s=0.3)


class TestFallback:
    @pytest.mark.parametrize(
        ("fault", "reason"),
        [
            ("invalid", "fallback answers INVALID: invalid merkle root"),
            ("parent", "parent hash differs"),
            ("time", "timestamp differs"),
            ("root", "beacon root differs"),
            ("fees", "extra data differs"),
            ("shape", "getPayload: blockValue is not a quantity"),
            ("error", "Unknown payload"),
            ("slow", "no answer within"),
            ("nonsense", "without a payload"),
        ],
    )
    def test_bad_get_payload(self, tmp_path: Path, fault: str, reason: str) -> None:
        async def scenario(s: Setup) -> None:
            over = asyncio.Event()

            async def answer() -> Any:
                if fault == "slow":
                    await over.wait()
                if fault == "nonsense":
                    return {"executionPayload": 5}
                if fault == "error":
                    raise RpcError(-38001, "Unknown payload")
                envelope = await s.builder.get_payload(s.builder.calls[-1][1])
                if fault == "invalid":
                    build = list(s.builder.builds.values())[-1]
                    block = build.block
                    return envelope_to_json(
                        Block(replace(block.header, state_root=bytes(32)), block.transactions)
                    )
                block = list(s.builder.builds.values())[-1].block
                changes: dict[str, dict[str, Any]] = {
                    "parent": {"parent_hash": b"\x11" * 32},
                    "time": {"timestamp": 5},
                    "root": {"parent_beacon_block_root": b"\x11" * 32},
                    "fees": {"extra_data": b"\1" + b"\0\0\0\1" * 2 + bytes(8)},
                }
                if fault == "shape":
                    return {**envelope, "blockValue": "abc"}
                return envelope_to_json(Block(replace(block.header, **changes[fault]), block.transactions))

            s.builder.faults["engine_getPayloadV4"] = answer
            s.fallback.pool = [TX2]
            block = await s.driver.finish(await s.driver.begin())
            assert block.transactions == (DEPOSIT, TX2)
            decision = s.last_decision()
            assert decision["source"] == "l2"
            assert reason in decision["reason"]
            assert await s.health() == 206
            over.set()
            del s.builder.faults["engine_getPayloadV4"]
            assert (await s.driver.finish(await s.driver.begin())).transactions == (DEPOSIT,)
            assert (s.last_decision()["source"], await s.health()) == ("builder", 200)

        play(tmp_path, scenario, builder_timeout_s=0.3)

    @pytest.mark.parametrize("status", [PayloadValidity.SYNCING, PayloadValidity.ACCEPTED])
    def test_only_valid_counts(self, tmp_path: Path, status: PayloadValidity) -> None:
        async def scenario(s: Setup) -> None:
            identity = await s.build([TX])
            s.fallback.faults["engine_newPayloadV4"] = lambda: PayloadStatus(status).to_json()
            envelope = await s.driver.client.get_payload(identity, version=4)
            assert envelope["executionPayload"]["transactions"] == ["0x" + DEPOSIT.hex()]
            assert f"fallback answers {status.value}" in s.last_decision()["reason"]
            # A published flashblock is not in the block: that is worth saying.
            assert not s.last_decision()["kept_promises"]

        play(tmp_path, scenario)

    def test_builder_dies_in_the_middle_of_a_block(self, tmp_path: Path) -> None:
        async def scenario(s: Setup) -> None:
            await s.driver.finish(await s.build([TX]))
            identity = await s.build([TX])
            await s.builder.stop()
            # What it published before is kept, without asking it.
            block = await s.driver.finish(identity)
            assert block.transactions == (DEPOSIT, TX)
            for _ in range(3):
                block = await s.driver.finish(await s.driver.begin())
                assert block.transactions == (DEPOSIT,)
                assert s.last_decision()["source"] == "l2"
            assert await s.health() == 206
            # Back, with the chain it missed fetched by itself.
            s.builder.headers |= s.fallback.headers
            await s.builder.start()
            await s.until(lambda: s.builder.hub is not None and s.builder.hub.stats.subscribers == 1)
            block = await s.driver.finish(await s.build([TX2]))
            assert block.transactions == (DEPOSIT, TX2)
            assert (s.last_decision()["via"], await s.health()) == ("flashblocks", 200)
            assert s.driver.head.number == 6

        play(tmp_path, scenario)

    def test_hung_builder_does_not_hold_anything_up(self, tmp_path: Path) -> None:
        async def scenario(s: Setup) -> None:
            over = asyncio.Event()

            async def hang() -> Any:
                await over.wait()

            for method in ("engine_forkchoiceUpdatedV3", "engine_newPayloadV4", "engine_getPayloadV4"):
                s.builder.faults[method] = hang
            for _ in range(3):
                # Answered while the builder's own answer is outstanding: nothing waited for it.
                identity = await s.driver.begin()
                assert not s.round.builder_answered
                await s.driver.finish(identity)
                assert s.last_decision()["source"] == "l2"
            over.set()
            s.builder.faults.clear()
            s.builder.headers |= s.fallback.headers
            for _ in range(4):
                await s.driver.finish(await s.driver.begin())
            assert s.last_decision()["source"] == "builder"

        play(tmp_path, scenario, builder_timeout_s=0.2)

    def test_syncing_builder(self, tmp_path: Path) -> None:
        async def scenario(s: Setup) -> None:
            s.builder.headers.clear()
            block = await s.driver.finish(await s.driver.begin())
            assert block.number == 1
            assert s.last_decision()["reason"] == "no flashblocks; builder does not build: SYNCING"

        play(tmp_path, scenario)

    def test_no_tx_pool_is_not_the_builders_fault(self, tmp_path: Path) -> None:
        async def scenario(s: Setup) -> None:
            block = await s.driver.finish(await s.driver.begin(no_tx_pool=True))
            assert block.transactions == (DEPOSIT,)
            assert s.last_decision()["reason"] == "not built with the builder"
            assert await s.health() == 200
            # The builder hears of the head all the same, but of no attributes.
            await s.until(lambda: s.builder.head.hash == s.driver.head.hash)
            assert all(params[1] is None for params in s.builder.called("engine_forkchoiceUpdatedV3"))

        play(tmp_path, scenario)

    def test_fallback_without_a_payload_still_gets_the_builders(self, tmp_path: Path) -> None:
        async def scenario(s: Setup) -> None:
            # From its first block boost knows the chain's EIP-1559 constants, without which it cannot judge.
            await s.driver.finish(await s.build([TX]))
            identity = await s.build([TX])
            s.fallback.builds.clear()
            assert (await s.driver.finish(identity)).transactions == (DEPOSIT, TX)
            assert s.last_decision()["reason"] == "fallback has no block"

        play(tmp_path, scenario)


class TestL2Decides:
    def test_errors_and_statuses_pass_through(self, tmp_path: Path) -> None:
        async def scenario(s: Setup) -> None:
            def refuse() -> Any:
                raise RpcError(-38002, "Invalid forkchoice state", {"why": "test"})

            s.fallback.faults["engine_forkchoiceUpdatedV3"] = refuse
            with pytest.raises(RpcError) as caught:
                await s.driver.begin()
            assert (caught.value.code, caught.value.data) == (-38002, {"why": "test"})
            assert await s.health() == 200, "an engine that says no is well"

            def fail() -> Any:
                raise RpcError(-32000, "database closed")

            s.fallback.faults["engine_forkchoiceUpdatedV3"] = fail
            with pytest.raises(RpcError):
                await s.driver.begin()
            assert await s.health() == 503
            s.fallback.faults.clear()
            invalid = PayloadStatus(PayloadValidity.INVALID, bytes(32), "bad")
            s.fallback.faults["engine_newPayloadV4"] = lambda: invalid.to_json()
            assert await s.driver.client.new_payload({}, bytes(32), version=4) == invalid
            assert await s.health() == 200

        play(tmp_path, scenario)

    def test_fallback_down_and_back(self, tmp_path: Path) -> None:
        async def scenario(s: Setup) -> None:
            await s.fallback.stop()
            with pytest.raises(RpcError, match="upstream is not available"):
                await s.driver.begin()
            assert await s.health() == 503
            # Nobody will ask for that block, so its flashblocks go nowhere.
            s.builder.publish(await s.builder_id())
            await s.until(lambda: s.boost.metrics.late.value == 1)
            await s.fallback.start()
            await s.driver.finish(await s.build([TX]))
            assert await s.health() == 200

        play(tmp_path, scenario)

    def test_other_methods(self, tmp_path: Path) -> None:
        async def scenario(s: Setup) -> None:
            client = JsonRpcClient(s.boost.rpc_url)
            assert await client.call("eth_chainId") == "0x385"
            assert not s.builder.called("eth_chainId")
            answers = await client.batch([("eth_chainId", []), ("eth_sendRawTransaction", ["0x02c0"])])
            assert answers[0] == "0x385"
            await s.until(lambda: s.builder.pool)
            assert s.fallback.pool == s.builder.pool == [b"\x02\xc0"]
            with pytest.raises(RpcError, match="engine_getBlobsV1 does not exist"):
                await client.call("engine_getBlobsV1", [[]])
            with pytest.raises(RpcError, match="invalid payload id"):
                await client.call("engine_getPayloadV4", ["0x01"])
            with pytest.raises(RpcError, match="Unknown payload") as unknown:
                await client.call("engine_getPayloadV4", ["0x" + "01" * 8])
            assert unknown.value.code == -38001
            await client.close()

        play(tmp_path, scenario)

    def test_token_of_the_consensus_client(self, tmp_path: Path) -> None:
        async def main() -> None:
            start = genesis()
            async with running(tmp_path, server_jwt_secret=bytes(32)) as s:
                async with httpx.AsyncClient() as http:
                    reply = await http.post(s.boost.rpc_url, json={"id": 1, "method": "eth_chainId"})
                    assert reply.status_code == 401
                    assert (await http.get(s.boost.rpc_url + "/livez")).text == "OK\n"
                assert start.number == 0

        asyncio.run(main())


class TestModesAndPolicies:
    def test_modes_through_the_debug_api(self, tmp_path: Path) -> None:
        async def scenario(s: Setup) -> None:
            debug = DebugClient(s.boost.debug_url)
            assert await debug.get_mode() is ExecutionMode.ENABLED
            assert await debug.set_mode(ExecutionMode.DRY_RUN) is ExecutionMode.DRY_RUN
            identity = await s.build([TX])
            assert (await s.driver.finish(identity)).transactions == (DEPOSIT,)
            decision = s.last_decision()
            assert (decision["source"], decision["reason"]) == ("l2", "dry_run")
            assert decision["builder_block_hash"] not in (None, decision["l2_block_hash"])
            # Judged like a real one, published to nobody.
            assert s.boost.hub.stats.messages == 0
            assert await s.health() == 200

            await debug.set_mode(ExecutionMode.DISABLED)
            calls = len(s.builder.calls)
            await s.driver.finish(await s.driver.begin())
            assert s.last_decision()["reason"] == "disabled"
            assert len(s.builder.calls) == calls

            await debug.set_mode(ExecutionMode.ENABLED)
            s.builder.headers |= s.fallback.headers
            assert (await s.driver.finish(await s.build([TX]))).transactions == (DEPOSIT, TX)
            status = await debug.status()
            assert (status["health"], status["round"]["flashblocks"]) == (200, 2)
            await debug.close()

        play(tmp_path, scenario)

    def test_debug_api_takes_the_bare_name_and_refuses_others(self, tmp_path: Path) -> None:
        async def scenario(s: Setup) -> None:
            client = JsonRpcClient(s.boost.debug_url)
            for wanted in ("dry-run", {"execution_mode": "dry_run"}):
                answer = await client.call("debug_setExecutionMode", [wanted])
                assert answer == {"execution_mode": "dry_run"}
            for bad in ("fast", 5, {}, {"execution_mode": None}):
                with pytest.raises(RpcError) as caught:
                    await client.call("debug_setExecutionMode", [bad])
                assert caught.value.code == -32602
            await client.close()

        play(tmp_path, scenario)

    def test_gas_used_policy(self, tmp_path: Path) -> None:
        async def scenario(s: Setup) -> None:
            s.fallback.pool = [bytes([2, number]) for number in range(20)]
            block = await s.driver.finish(await s.build())
            assert len(block.transactions) == 21
            assert s.last_decision()["reason"] == "builder used 21000 gas, fallback 441000"
            s.fallback.pool = []
            await s.driver.finish(await s.build())
            assert s.last_decision()["source"] == "builder"

        play(tmp_path, scenario, policy=SelectionPolicy.GAS_USED)

    def test_external_state_root(self, tmp_path: Path) -> None:
        async def scenario(s: Setup) -> None:
            identity = await s.driver.begin()
            builder_id = await s.builder_id()
            for transactions in ([], [TX]):
                s.builder.publish(builder_id, transactions, state_root=bytes(32), block_hash=bytes(32))
            s.builder.pool = [TX]
            await s.until(lambda: len(s.round.flashblocks) == 2)
            assert (await s.driver.finish(identity)).transactions == (DEPOSIT, TX)
            assert s.last_decision()["via"] == "rebuilt"

        play(tmp_path, scenario, external_state_root=True)

    def test_unhealthy_builder_is_left_alone_until_it_is_well(self, tmp_path: Path) -> None:
        async def scenario(s: Setup) -> None:
            s.builder.faults["eth_getBlockByNumber"] = lambda: None
            await s.until(lambda: s.boost.health.builder_stale)
            calls = len(s.builder.called("engine_forkchoiceUpdatedV3"))
            await s.driver.finish(await s.driver.begin())
            assert len(s.builder.called("engine_forkchoiceUpdatedV3")) == calls
            assert await s.health() == 206
            s.builder.faults.clear()
            s.builder.headers |= s.fallback.headers
            await s.until(lambda: s.boost.health.builder_ok)
            await s.driver.finish(await s.driver.begin())
            assert s.last_decision()["source"] == "builder"

        play(tmp_path, scenario, ignore_unhealthy_builders=True, health_check_interval_s=0.05)


class TestPublishing:
    @staticmethod
    async def subscriber(s: Setup) -> ClientConnection:
        client = await connect(s.boost.stream_url, compression=None)
        await s.until(lambda: s.boost.hub.stats.subscribers == 1)
        return client

    def test_original_bytes(self, tmp_path: Path) -> None:
        async def scenario(s: Setup) -> None:
            client = await self.subscriber(s)
            await s.driver.begin()
            builder_id = await s.builder_id()
            sent = [s.builder.publish(builder_id), s.builder.publish(builder_id, [TX])]
            got = [await client.recv() for _ in sent]
            assert [str(message).encode() for message in got] == sent
            assert b"unknown_field" in sent[0]
            await client.close()

        play(tmp_path, scenario)

    def test_nothing_after_the_block_is_taken(self, tmp_path: Path) -> None:
        async def scenario(s: Setup) -> None:
            client = await self.subscriber(s)
            identity = await s.build([TX])
            await s.driver.client.get_payload(identity, version=4)
            s.builder.publish(list(s.builder.builds)[-1], [TX2])
            await s.until(lambda: s.boost.metrics.late.value == 1)
            await s.driver.finish(identity)
            await s.build()
            indices = [json.loads(await client.recv())["index"] for _ in range(3)]
            assert indices == [0, 1, 0]
            await client.close()

        play(tmp_path, scenario)

    @pytest.mark.parametrize("wrong", ["parent", "deposits", "other"])
    def test_not_what_was_asked_for(self, tmp_path: Path, wrong: str) -> None:
        async def scenario(s: Setup) -> None:
            identity = await s.driver.begin()
            builder_id = await s.builder_id()
            message = json.loads(s.builder.publish_nothing(builder_id))
            if wrong == "parent":
                message["base"]["parent_hash"] = "0x" + "ff" * 32
            elif wrong == "deposits":
                message["diff"]["transactions"] = []
            else:
                message["payload_id"] = "0x" + "ff" * 8
            assert s.builder.hub is not None
            await s.until(lambda: s.round.builder_answered)
            s.builder.hub.publish(json.dumps(message).encode())
            await s.until(lambda: s.boost.metrics.processed.value == 1)
            assert s.boost.hub.stats.messages == 0
            await s.driver.finish(identity)
            assert s.last_decision()["via"] == "getPayload"

        play(tmp_path, scenario)

    def test_gap_and_equivocation_stop_the_block_not_the_next(self, tmp_path: Path) -> None:
        async def scenario(s: Setup) -> None:
            for trouble in ("gap", "equivocation"):
                identity = await s.build([TX])
                build = list(s.builder.builds.values())[-1]
                build.published += 1 if trouble == "gap" else -1
                published = s.boost.hub.stats.messages
                s.builder.publish(list(s.builder.builds)[-1], [TX2])
                await s.until(lambda: s.round.trouble)
                assert s.boost.hub.stats.messages == published
                block = await s.driver.finish(identity)
                # The builder's own block holds what was published, and more.
                assert block.transactions == (DEPOSIT, TX, TX2)
                assert s.last_decision()["kept_promises"]
            assert (await s.driver.finish(await s.build([TX]))).transactions == (DEPOSIT, TX)
            assert s.last_decision()["via"] == "flashblocks"

        play(tmp_path, scenario)

    def test_garbage_on_the_stream(self, tmp_path: Path) -> None:
        async def scenario(s: Setup) -> None:
            identity = await s.build()
            assert s.builder.hub is not None
            for garbage in (b"", b"{}", b"null", b"[1", b'{"payload_id":"0x01"}', b"\x00" * 100):
                s.builder.hub.publish(garbage, binary=garbage[:1] == b"\x00")
            await s.until(lambda: s.boost.metrics.undecodable.value == 6)
            s.builder.publish(list(s.builder.builds)[-1], [TX])
            await s.until(lambda: len(s.round.flashblocks) == 2)
            assert (await s.driver.finish(identity)).transactions == (DEPOSIT, TX)

        play(tmp_path, scenario)

    def test_bomb(self, tmp_path: Path) -> None:
        async def scenario(s: Setup) -> None:
            identity = await s.build([TX])
            assert s.builder.hub is not None
            bomb = brotli.compress(b'{"a":"' + b" " * (2 * MAX_DECOMPRESSED_BYTES) + b'"}', quality=1)
            s.builder.hub.publish(bomb, binary=True)
            await s.until(lambda: s.boost.metrics.undecodable.value == 1)
            s.builder.publish(list(s.builder.builds)[-1], [TX2])
            await s.until(lambda: len(s.round.flashblocks) == 3)
            assert (await s.driver.finish(identity)).transactions == (DEPOSIT, TX, TX2)

        play(tmp_path, scenario)

    def test_oversized_frame_costs_its_block_at_most(self, tmp_path: Path) -> None:
        """The builder replays the open block, frame and all, until the next one begins."""

        async def scenario(s: Setup) -> None:
            identity = await s.build([TX])
            assert s.builder.hub is not None
            s.builder.hub.publish(b'{"a":"' + b"x" * (MAX_FRAME_BYTES + 1) + b'"}')
            await s.until(lambda: s.boost.metrics.reconnects.value > 1)
            assert (await s.driver.finish(identity)).transactions == (DEPOSIT, TX)
            assert (await s.driver.finish(await s.build([TX2]))).transactions == (DEPOSIT, TX2)
            assert s.last_decision()["via"] == "flashblocks"

        play(tmp_path, scenario)

    def test_reconnect_in_the_middle_resumes_by_replay(self, tmp_path: Path) -> None:
        async def scenario(s: Setup) -> None:
            client = await self.subscriber(s)
            identity = await s.build([TX])
            assert s.builder.hub is not None
            for subscriber in list(s.builder.hub.subscribers):
                subscriber.peer.abort()  # type: ignore[attr-defined]
            s.builder.publish(list(s.builder.builds)[-1], [TX2])
            await s.until(lambda: len(s.round.flashblocks) == 3)
            assert (await s.driver.finish(identity)).transactions == (DEPOSIT, TX, TX2)
            indices = [json.loads(await client.recv())["index"] for _ in range(3)]
            assert indices == [0, 1, 2]
            await client.close()

        play(tmp_path, scenario)


def test_close_ends_everything(tmp_path: Path) -> None:
    async def main() -> None:
        async with running(tmp_path) as s:
            client = await connect(s.boost.stream_url)
            url = s.boost.rpc_url
        with pytest.raises(websockets.ConnectionClosed):
            await client.recv()
        with pytest.raises(UnavailableError):
            await JsonRpcClient(url).call("eth_chainId")

    asyncio.run(main())
