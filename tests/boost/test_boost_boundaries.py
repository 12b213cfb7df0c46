"""Nothing on the builder's side costs an answer of the fallback's: slow, large or a defect of our own."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from support.boost_lab import Setup, play
from support.engines import DEPOSIT, ToyEngine

from flashctl.boost.builder_block import BuilderBlocks
from flashctl.boost.rounds import Rounds
from flashctl.boost.tx_mirror import TransactionMirror
from flashctl.core.engine.payloads import envelope_to_json
from flashctl.core.jsonrpc.client import JsonRpcClient
from flashctl.core.service import defects

TX = b"\x02\xc0\x01"


def explode(*arguments: Any, **named: Any) -> Any:
    raise ZeroDivisionError


class TestDefects:
    @pytest.mark.parametrize(
        ("owner", "name", "where"),
        [
            (Rounds, "begin", "boost.forkchoiceUpdated"),
            (Rounds, "fallback_answered", "boost.forkchoiceUpdated"),
            (BuilderBlocks, "keep_request", "boost.forkchoiceUpdated"),
            (BuilderBlocks, "best", "boost.builder"),
        ],
    )
    def test_on_the_way_of_a_block(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: type, name: str, where: str
    ) -> None:
        async def scenario(s: Setup) -> None:
            with monkeypatch.context() as patch:
                patch.setattr(owner, name, explode)
                s.builder.pool = [TX]
                assert (await s.driver.finish(await s.driver.begin())).transactions[:1] == (DEPOSIT,)
            assert [*defects.counts()] == [where]
            assert (await s.driver.finish(await s.driver.begin())).transactions == (DEPOSIT, TX)
            async with httpx.AsyncClient() as http:
                page = await http.get(s.boost.rpc_url + "/healthz")
            assert page.status_code == 200  # the block of the builder was returned: all of the work is done
            assert page.text.startswith(f"OK; defect in {where}")

        play(tmp_path, scenario, has_defects=True)

    def test_in_the_record_of_a_decision(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        async def scenario(s: Setup) -> None:
            monkeypatch.setattr(s.boost.decisions, "write", explode)
            monkeypatch.setattr(s.boost.metrics, "gas_delta", SimpleNamespace(observe=explode))
            assert (await s.driver.finish(await s.build([TX]))).transactions == (DEPOSIT, TX)
            assert set(defects.counts()) == {"boost.decisions", "boost.getPayload"}

        play(tmp_path, scenario, has_defects=True)

    def test_in_calls_to_the_builder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        async def scenario(s: Setup) -> None:
            with monkeypatch.context() as patch:
                patch.setattr(s.boost.builder.client, "call", explode)
                patch.setattr(s.boost.builder.client, "post_raw", explode)
                client = JsonRpcClient(s.boost.rpc_url)
                await client.call("eth_sendRawTransaction", ["0x02c0"])
                await client.close()
                await s.driver.finish(await s.driver.begin())
                assert s.last_decision()["source"] == "l2"
            assert defects.counts()["boost.builder"] >= 1
            s.builder.headers |= s.fallback.headers
            s.builder.pool = [TX]
            assert (await s.driver.finish(await s.driver.begin())).transactions == (DEPOSIT, TX)

        play(tmp_path, scenario, has_defects=True)

    def test_a_copy_that_fails_for_our_own_reasons_is_not_the_end_of_copies(self) -> None:
        async def main() -> None:
            sent: list[bytes] = []

            class Client:
                async def post_raw(self, body: bytes, *, timeout_s: float) -> bytes:
                    sent.append(body)
                    return b"{}" if len(sent) > 1 else explode()

            queue = TransactionMirror(Client())  # type: ignore[arg-type]
            for request in (b"1", b"2"):
                queue.add(request)
                await asyncio.sleep(0)
                await asyncio.sleep(0)
            assert sent == [b"1", b"2"]
            assert defects.counts() == {"boost.copies": 1}
            await queue.close()

        asyncio.run(main())


class TestTime:
    def test_a_builder_that_hangs_on_every_call_costs_one_timeout(self, tmp_path: Path) -> None:
        """What was waited for the answer to forkchoiceUpdated is gone from what getPayload may take."""

        async def scenario(s: Setup) -> None:
            answered = asyncio.Event()

            async def hang() -> Any:
                await answered.wait()

            s.builder.faults["engine_forkchoiceUpdatedV3"] = hang
            s.builder.faults["engine_getPayloadV4"] = hang
            deadlines: list[float] = []
            waited = s.boost.blocks._ends_by

            async def watched(task: Any, deadline: float) -> bool:
                deadlines.append(deadline)
                return await waited(task, deadline)

            s.boost.blocks._ends_by = watched  # type: ignore[method-assign]
            await s.driver.finish(await s.driver.begin())
            assert s.last_decision()["source"] == "l2"
            # The answer to the call that opened the round and that to getPayload: waited for to one moment.
            assert len(set(deadlines)) == 1
            answered.set()

        play(tmp_path, scenario, builder_timeout_s=0.5)

    def test_the_fallback_is_asked_before_anything_is_computed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def scenario(s: Setup) -> None:
            order: list[str] = []
            asked, best = s.boost.fallback.get_payload, s.boost.blocks.best

            async def ask(*arguments: Any, **named: Any) -> Any:
                order.append("fallback asked")
                return await asked(*arguments, **named)

            async def find(*arguments: Any) -> Any:
                order.append("builder's block")
                return await best(*arguments)

            monkeypatch.setattr(s.boost.fallback, "get_payload", ask)
            monkeypatch.setattr(s.boost.blocks, "best", find)
            await s.driver.finish(await s.build([TX]))
            assert order == ["fallback asked", "builder's block"]

        play(tmp_path, scenario)

    def test_large_blocks_are_put_together_beside_the_loop(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def scenario(s: Setup) -> None:
            import threading

            from flashctl.boost import builder_block, candidate

            threads: list[bool] = []

            def watched(*arguments: Any) -> Any:
                threads.append(threading.current_thread() is threading.main_thread())
                return candidate.from_flashblocks(*arguments)

            monkeypatch.setattr(builder_block, "from_flashblocks", watched)
            many = [b"\x02" + bytes([number >> 8, number & 255]) for number in range(1000)]
            for transactions in ([TX], many):
                block = await s.driver.finish(await s.build(transactions))
                assert block.transactions == (DEPOSIT, *transactions)
                assert s.last_decision()["via"] == "flashblocks"
            assert threads == [True, False]

        play(tmp_path, scenario)


def miner_calls(engine: ToyEngine) -> list[tuple[str, list[Any]]]:
    return [call for call in engine.calls if call[0].startswith("miner_")]


class TestMinerSettings:
    SETTINGS = (
        ("miner_setMaxDASize", ["0x1f4", "0x3e8"]),
        ("miner_setGasLimit", ["0x1c9c380"]),
        ("miner_setGasPrice", ["0x1"]),
        ("miner_setExtra", ["flashctl"]),
    )

    def test_reach_both_engines_in_their_order(self, tmp_path: Path) -> None:
        """op-batcher throttles through here: the answer is the fallback's, the builder hears the same."""

        async def scenario(s: Setup) -> None:
            for engine in (s.fallback, s.builder):
                for method, _ in self.SETTINGS:
                    engine.faults[method] = lambda: True
            client = JsonRpcClient(s.boost.rpc_url)
            for method, params in self.SETTINGS:
                assert await client.call(method, params) is True
            answers = await client.batch([*self.SETTINGS])
            assert answers == [True] * 4
            asked = [*self.SETTINGS] * 2
            for engine in (s.fallback, s.builder):
                await s.until(lambda engine=engine: len(miner_calls(engine)) == 8)  # type: ignore[misc]
                assert miner_calls(engine)[:4] == asked[:4]
                assert sorted(miner_calls(engine)[4:]) == sorted(asked[4:])
            # On the engine's port alone, and never for a page in a browser.
            async with httpx.AsyncClient() as http:
                request = {"jsonrpc": "2.0", "id": 1, "method": "miner_setGasLimit", "params": ["0x1"]}
                page = await http.post(
                    s.boost.rpc_url, json=request, headers={"Origin": "https://example.org"}
                )
                assert page.status_code == 403
                debug = await http.post(s.boost.debug_url, json=request)
                assert debug.json()["error"]["code"] == -32601
            await client.close()

        play(tmp_path, scenario)

    def test_a_builder_that_is_down_hears_the_last_one_later(self, tmp_path: Path) -> None:
        async def scenario(s: Setup) -> None:
            for engine in (s.fallback, s.builder):
                engine.faults["miner_setMaxDASize"] = lambda: True
            await s.builder.stop()
            client = JsonRpcClient(s.boost.rpc_url)
            for number in (1, 2):
                assert await client.call("miner_setMaxDASize", [hex(number), "0x0"]) is True
            await s.builder.start()
            await s.until(lambda: len(s.builder.called("miner_setMaxDASize")) == 2)
            assert s.builder.called("miner_setMaxDASize") == [["0x1", "0x0"], ["0x2", "0x0"]]
            await client.close()

        play(tmp_path, scenario)

    def test_with_a_token_where_one_is_asked_for(self, tmp_path: Path) -> None:
        async def scenario(s: Setup) -> None:
            s.fallback.faults["miner_setMaxDASize"] = lambda: True
            async with httpx.AsyncClient() as http:
                request = {
                    "jsonrpc": "2.0",
                    "id": 1,
                    "method": "miner_setMaxDASize",
                    "params": ["0x1", "0x1"],
                }
                assert (await http.post(s.boost.rpc_url, json=request)).status_code == 401
            assert not s.fallback.called("miner_setMaxDASize")

        from flashctl.core.engine.jwt import JwtSecret

        play(tmp_path, scenario, server_jwt_secret=JwtSecret(bytes(32)))


def test_an_envelope_of_the_wrong_shape_is_answered_with_the_fallbacks(tmp_path: Path) -> None:
    async def scenario(s: Setup) -> None:
        wrong = iter(
            (
                {"executionRequests": None},
                {"blobsBundle": None},
                {"shouldOverrideBuilder": "no"},
                {"executionPayload": [1]},
                {"parentBeaconBlockRoot": 5},
            )
        )

        def answer() -> Any:
            return {**envelope_to_json(list(s.builder.builds.values())[-1].block), **next(wrong)}

        s.builder.pool = [TX]
        s.builder.faults["engine_getPayloadV4"] = answer
        for _ in range(5):
            assert (await s.driver.finish(await s.driver.begin())).transactions == (DEPOSIT,)
            assert s.last_decision()["source"] == "l2"

    play(tmp_path, scenario)
