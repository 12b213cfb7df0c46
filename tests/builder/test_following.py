"""How the pool follows the head: bounded, beside the event loop, whatever the head did."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable

import pytest
from support.chain_lab import GENESIS, LabBlock, next_block, transfer

from flashctl.builder.backend import EmbeddedBackend
from flashctl.builder.execution_engine import ExecutionEngine
from flashctl.builder.mempool.admission import Mempool
from flashctl.builder.mempool.head_changes import MAX_REINJECTED_BLOCKS, MempoolUpdater
from flashctl.builder.payload.block_work import JobTerms
from flashctl.builder.payload.job import JobObserver
from flashctl.builder.payload.jobs import PayloadJobs
from flashctl.builder.payload.schedule import FlashblockSchedule
from flashctl.chain.chain import Chain, HeadChange
from flashctl.core.engine.payloads import ForkchoiceState, PayloadValidity
from flashctl.core.service import defects
from flashctl.op.envelope import TxEnvelope


class Lab:
    """An engine whose pool follows."""

    def __init__(self) -> None:
        self.chain = Chain.open(GENESIS)
        self.queue = Mempool(self.chain)
        self.follower = MempoolUpdater(self.queue)
        loop = asyncio.get_running_loop()

        def carry(change: HeadChange) -> None:
            loop.call_soon_threadsafe(self.follower.on_head, change)

        self.chain.subscribe(carry)
        payloads = PayloadJobs(
            EmbeddedBackend(self.chain),
            self.queue,
            lambda: JobTerms(FlashblockSchedule(2000, 200)),
            JobObserver(),
            lambda job: asyncio.create_task(job.run()),
        )
        self.node = ExecutionEngine(self.chain, payloads)

    def grow(self, blocks: int) -> list[LabBlock]:
        """Blocks of one transaction each, of one account; kept, not chosen."""
        grown: list[LabBlock] = []
        header = self.chain.head
        for nonce in range(blocks):
            block = next_block(self.chain, header, [transfer(0, nonce)])
            self.chain.insert(block)
            header = block.block.header
            grown.append(block)
        return grown

    async def choose(self, block_hash: bytes) -> None:
        result = await self.node.forkchoice_updated(ForkchoiceState(block_hash, bytes(32), bytes(32)), None)
        assert result.status.status is PayloadValidity.VALID
        await asyncio.sleep(0)
        await self.follower.idle()


def run(scenario: Callable[[Lab], Awaitable[None]]) -> None:
    async def whole() -> None:
        lab = Lab()
        following = asyncio.create_task(lab.follower.run())
        try:
            await asyncio.wait_for(scenario(lab), 60)
        finally:
            following.cancel()

    asyncio.run(whole())


def test_a_head_far_back_brings_back_64_blocks_of_transactions() -> None:
    """1,346 blocks of them once held the event loop for four minutes."""

    async def scenario(lab: Lab) -> None:
        blocks = lab.grow(MAX_REINJECTED_BLOCKS + 20)
        await lab.choose(blocks[-1].hash)
        assert len(lab.queue) == 0
        await lab.choose(lab.chain.genesis.hash)
        # The oldest, whose nonces can be executed now.
        executable, queued = lab.queue.content_from(blocks[0].envelopes[0].sender)
        assert [envelope.hash for envelope in executable] == [
            block.envelopes[0].hash for block in blocks[:MAX_REINJECTED_BLOCKS]
        ]
        assert queued == []

    run(scenario)


def test_the_head_changes_outside_the_event_loop() -> None:
    async def scenario(lab: Lab) -> None:
        threads: list[int] = []
        lab.chain.subscribe(lambda change: threads.append(threading.get_ident()))
        await lab.choose(lab.grow(1)[0].hash)
        assert threads and threading.get_ident() not in threads

    run(scenario)


def test_only_so_many_new_blocks_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that catches up by thousands reads them once, when it imports them."""

    async def scenario(lab: Lab) -> None:
        blocks = lab.grow(100)
        read: list[bytes] = []
        kept_block = lab.chain._kept_block

        def reading(block_hash: bytes):  # type: ignore[no-untyped-def]
            read.append(block_hash)
            return kept_block(block_hash)

        monkeypatch.setattr(lab.chain, "_kept_block", reading)
        waiting = TxEnvelope.decode(transfer(1, 0))
        lab.queue.add(waiting)
        await lab.choose(blocks[-1].hash)
        assert len(read) == 64
        assert waiting.hash in lab.queue.pool

    run(scenario)


def test_a_defect_costs_one_change(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(lab: Lab) -> None:
        following = lab.queue.following
        failures = iter([True, False])

        def failing(settled, undone):  # type: ignore[no-untyped-def]
            if next(failures):
                raise IndexError("nobody foresaw this")
            return following(settled, undone)

        monkeypatch.setattr(lab.queue, "following", failing)
        blocks = lab.grow(2)
        defects.forget()
        await lab.choose(blocks[1].hash)
        assert defects.counts() == {"builder.following": 1}
        await lab.choose(lab.chain.genesis.hash)
        assert len(lab.queue) == 2
        defects.forget()

    run(scenario)
