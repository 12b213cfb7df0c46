"""A defect behind one boundary of the builder costs what it hit, and health tells of it."""

from __future__ import annotations

import asyncio
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support.builders import ANY, builder_config, engine_client, rpc_client, running, scenario
from support.chains import ask, transfer
from support.waiting import until

from flashctl.builder import service as builder_service
from flashctl.builder.payload.job import JobOutcome
from flashctl.builder.service import BuilderService
from flashctl.chain.chain import Chain
from flashctl.core.service import defects
from flashctl.core.service.status import with_defects
from flashctl.eth.blocks import Block
from flashctl.eth.hexdata import to_hex


@pytest.fixture(autouse=True)
def _no_defects() -> Iterator[None]:
    defects.forget()
    yield
    defects.forget()


def test_health_tells_of_failed_payloads_and_of_blocks_that_wait_for_their_ancestors(tmp_path: Path) -> None:
    async def body() -> None:
        async with running(builder_config(tmp_path, metrics=ANY)) as service:
            assert service.health().ready and not service.health().degraded
            service.observer.ended(JobOutcome.FAILED, 0, 10)
            assert service.health().degraded and service.health().detail == "the last payload failed"
            service.observer.ended(JobOutcome.COMPLETE, 10, 10)
            assert not service.health().degraded
            identity = await service.payloads.start(service.chain.head, ask(service.chain))
            sealed = service.node.get_payload(identity)
            orphan = replace(sealed.header, number=5, parent_hash=b"\x05" * 32)
            await service.node.new_payload(Block(orphan, sealed.block.transactions, ()))
            health = service.health()
            assert not health.ready and health.detail.startswith("syncing: 1 block")

    scenario(body)


def test_a_defect_behind_a_request_of_the_consensus_client_costs_the_request(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body() -> None:
        async with running(builder_config(tmp_path)) as service:
            engine = engine_client(service)
            with monkeypatch.context() as patched:
                patched.setattr(Chain, "header", defective)
                with pytest.raises(Exception, match="internal error"):
                    await engine.call("engine_forkchoiceUpdatedV3", [forkchoice(service), None])
            answer = await engine.call("engine_forkchoiceUpdatedV3", [forkchoice(service), None])
            assert answer["payloadStatus"]["status"] == "VALID"
            told = with_defects(service.health())
            assert told.detail.startswith("defect in ") and not told.degraded
            await engine.close()

    scenario(body)


def defective(*args: object, **options: object) -> None:
    raise KeyError("defect")


def forkchoice(service: BuilderService) -> dict[str, str]:
    head = to_hex(service.chain.head.hash)
    return {"headBlockHash": head, "safeBlockHash": head, "finalizedBlockHash": head}


def test_a_defect_in_the_pool_does_not_unsay_what_the_sequencer_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def body() -> None:
        async with running(builder_config(tmp_path)) as sequencer:
            url = f"http://127.0.0.1:{sequencer.ports['http']}"
            plain = builder_config(tmp_path, "replica", stream=None, sequencer=url)
            async with running(plain) as replica:
                monkeypatch.setattr(replica.queue, "_take", defective)
                monkeypatch.setattr(replica.queue._door, "_take", defective)
                client = rpc_client(replica)
                tx = transfer()
                assert await client.call("eth_sendRawTransaction", [to_hex(tx.raw)]) == to_hex(tx.hash)
                assert tx.hash in sequencer.queue.pool
                assert defects.counts() == {"builder.forward": 1}
                await client.close()

    scenario(body)


def test_forgetting_old_states_begins_again_after_a_defect(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(builder_service, "FORGET_LOOK_S", 0.01)
    calls = 0

    def prune(self: Chain, seconds: float) -> bool:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise ZeroDivisionError("defect")
        return False

    monkeypatch.setattr(Chain, "prune", prune)

    async def body() -> None:
        async with running(builder_config(tmp_path)):
            await until(lambda: calls > 4)
        assert defects.counts() == {"builder.forgetting": 1}

    scenario(body)


def test_the_status_page_is_the_service_s_own(tmp_path: Path) -> None:
    async def body() -> None:
        async with running(builder_config(tmp_path, metrics=ANY)) as service:
            service.observer.ended(JobOutcome.FAILED, 0, 10)

            def page() -> tuple[int, bytes]:
                with urllib.request.urlopen(f"http://127.0.0.1:{service.ports['metrics']}/healthz") as reply:
                    return reply.status, reply.read()

            assert await asyncio.to_thread(page) == (206, b"the last payload failed\n")

    scenario(body)
