"""What is passed on: who gets it, whose answer counts, and what a failure says about health."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from support.boost_lab import Setup, play
from support.engines import DEPOSIT
from support.waiting import until_answered

from flashctl.boost.modes import ExecutionMode
from flashctl.core.jsonrpc.client import JsonRpcClient
from flashctl.core.jsonrpc.errors import RpcError

TX = b"\x02\xc0\x01"
RAW = "0x02c001"
SEND = "eth_sendRawTransaction"


def refuse(message: str) -> Any:
    def fault() -> Any:
        raise RpcError(-32000, message)

    return fault


def _counted(client: JsonRpcClient) -> list[bytes]:
    """What a client posts from now on."""
    posted: list[bytes] = []
    post_raw = client.post_raw

    async def counted(body: bytes, **options: Any) -> bytes:
        posted.append(body)
        return await post_raw(body, **options)

    client.post_raw = counted  # type: ignore[method-assign]
    return posted


class TestTransactions:
    @pytest.mark.parametrize(
        ("message", "copied"), [("nonce too low", False), ("already known", True), ("AlreadyKnown", True)]
    )
    def test_what_the_caller_was_told_is_refused_reaches_no_builder(
        self, tmp_path: Path, message: str, copied: bool
    ) -> None:
        async def scenario(s: Setup) -> None:
            client = JsonRpcClient(s.boost.rpc_url)
            s.fallback.faults[SEND] = refuse(message)
            with pytest.raises(RpcError, match=message):
                await client.call(SEND, [RAW])
            s.fallback.faults.clear()
            await client.call(SEND, ["0x02c002"])
            await s.until(lambda: s.builder.pool)
            expected = [TX, b"\x02\xc0\x02"] if copied else [b"\x02\xc0\x02"]
            await s.until(lambda: len(s.builder.pool) >= len(expected))
            assert s.builder.pool == expected
            await client.close()

        play(tmp_path, scenario)

    def test_the_builder_is_asked_about_funds_that_only_it_may_know_of(self, tmp_path: Path) -> None:
        async def scenario(s: Setup) -> None:
            client = JsonRpcClient(s.boost.rpc_url)
            words = "insufficient funds for gas * price + value: balance 0, tx cost 5, overshot 5"
            s.fallback.faults[SEND] = refuse(words)
            assert await client.call(SEND, [RAW]) is not None
            assert s.builder.pool == [TX]
            # Its refusal is not the caller's business, nor is it that it does not answer.
            s.builder.faults[SEND] = refuse("builder's words")
            with pytest.raises(RpcError, match="balance 0, tx cost 5"):
                await client.call(SEND, ["0x02c002"])
            s.boost.switch.mode = ExecutionMode.DISABLED
            s.builder.faults.clear()
            with pytest.raises(RpcError, match="balance 0, tx cost 5"):
                await client.call(SEND, ["0x02c003"])
            assert s.builder.pool == [TX]
            await client.close()

        play(tmp_path, scenario)

    def test_no_answer_in_time_is_no_refusal(self, tmp_path: Path) -> None:
        async def scenario(s: Setup) -> None:
            over = asyncio.Event()

            async def hang() -> Any:
                await over.wait()

            client = JsonRpcClient(s.boost.rpc_url)
            s.fallback.faults[SEND] = hang
            with pytest.raises(RpcError, match="timed out"):
                await client.call(SEND, [RAW])
            await s.until(lambda: s.builder.pool == [TX])
            await client.close()

        play(tmp_path, scenario, fallback_timeout_s=0.2)

    def test_bundles_are_the_builders_alone(self, tmp_path: Path) -> None:
        async def scenario(s: Setup) -> None:
            client = JsonRpcClient(s.boost.rpc_url)
            for engine, answer in ((s.fallback, "0x1"), (s.builder, "0x2")):
                engine.faults["eth_sendBundle"] = lambda answer=answer: answer
            assert await client.call("eth_sendBundle", [{}]) == "0x2"
            s.boost.switch.mode = ExecutionMode.DISABLED
            assert await client.call("eth_sendBundle", [{}]) == "0x1"
            await client.close()

        play(tmp_path, scenario)


class TestHealth:
    def test_a_dead_fallback_shows_before_the_next_probe_is_due(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Only reads are passed on, probes are an hour apart: a read that fails has one made at once."""

        async def scenario(s: Setup) -> None:
            client = JsonRpcClient(s.boost.rpc_url)
            # Not the probe of the start.
            await s.until(lambda: s.fallback.called("eth_getBlockByNumber"))
            await client.call("eth_chainId")
            await s.fallback.stop()

            async def ill() -> bool:
                with pytest.raises(RpcError, match="upstream is not available"):
                    await client.call("eth_chainId")
                return await s.health() == 503

            async def well() -> bool:
                return await s.health() == 200

            await until_answered(ill)
            await s.fallback.start()
            await until_answered(well)
            await client.close()

        with caplog.at_level("INFO", "flashctl"):
            play(tmp_path, scenario, health_check_interval_s=3600)
        lines = [record.getMessage() for record in caplog.records]
        assert "health 200 -> 503: fallback not at the head" in lines
        assert "health 503 -> 200: no faults" in lines
        assert sum(line.startswith("fallback: eth_chainId") for line in lines) == 1


class TestOneAnswer:
    def test_another_version_of_the_same_payload_is_refused(self, tmp_path: Path) -> None:
        async def scenario(s: Setup) -> None:
            identity = await s.build([TX])
            first = await s.driver.client.get_payload(identity, version=4)
            for version in (3, 5):
                with pytest.raises(RpcError, match="Unsupported fork") as caught:
                    await s.driver.client.get_payload(identity, version=version)
                assert caught.value.code == -38005
            assert await s.driver.client.get_payload(identity, version=4) == first

        play(tmp_path, scenario)

    @pytest.mark.parametrize("mode", [ExecutionMode.DRY_RUN, ExecutionMode.DISABLED])
    def test_a_published_round_is_finished_whatever_the_mode_becomes(
        self, tmp_path: Path, mode: ExecutionMode
    ) -> None:
        async def scenario(s: Setup) -> None:
            identity = await s.build()
            s.boost.switch.mode = mode
            s.builder.publish(await s.builder_id(), [TX])
            await s.until(lambda: len(s.round.flashblocks) == 2)
            assert s.boost.hub.stats.messages == 2
            assert (await s.driver.finish(identity)).transactions == (DEPOSIT, TX)
            decision = s.last_decision()
            assert (decision["kept_promises"], decision["flashblocks"], decision["mode"]) == (
                True,
                2,
                "enabled",
            )
            assert (await s.driver.finish(await s.driver.begin())).transactions == (DEPOSIT,)
            assert s.last_decision()["source"] == "l2"

        play(tmp_path, scenario)


class TestBatches:
    def test_a_batch_of_transactions_is_a_batch_at_both_engines(self, tmp_path: Path) -> None:
        async def scenario(s: Setup) -> None:
            client = JsonRpcClient(s.boost.rpc_url)
            raws = [f"0x02c1{number:02x}" for number in range(100)]
            posts = [_counted(upstream) for upstream in (s.boost.forwards, s.boost.builder.client)]
            answers = await client.batch([(SEND, [raw]) for raw in raws])
            assert len(answers) == 100 and len(set(answers)) == 100
            await s.until(lambda: len(s.builder.pool) == 100)
            assert s.builder.pool == s.fallback.pool == [bytes.fromhex(raw[2:]) for raw in raws]
            # Sixteen requests of a batch are worked on at a time.
            assert all(1 <= len(posted) <= 20 for posted in posts)
            await client.close()

        play(tmp_path, scenario)
