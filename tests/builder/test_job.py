"""Payload jobs over a real chain: what each flashblock holds, and what a payload holds afterwards."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from support.chains import ask, memory_chain, transfer

from flashctl.builder.backend import EmbeddedBackend
from flashctl.builder.mempool.admission import Mempool
from flashctl.builder.mempool.pool import PoolRefusal, SenderState
from flashctl.builder.payload import job
from flashctl.builder.payload.block_work import JobRequest, JobRuntime, JobTerms
from flashctl.builder.payload.budget import Refusal
from flashctl.builder.payload.job import (
    BuiltFlashblock,
    Fate,
    ForcedTransactionFailed,
    JobLimits,
    JobObserver,
    JobOutcome,
    PayloadJob,
)
from flashctl.builder.payload.late_transactions import MAX_TURNS
from flashctl.builder.payload.publisher import flashblock_of
from flashctl.builder.payload.schedule import FlashblockSchedule
from flashctl.chain.chain import Chain
from flashctl.core.flashblocks.dialects import BASE
from flashctl.core.flashblocks.wire import Flashblock, decode, encode
from flashctl.eth.transactions import DepositTx, encode_transaction
from flashctl.evm.world import World
from flashctl.op.attributes import PayloadAttributes
from flashctl.op.envelope import TxEnvelope
from flashctl.op.execution import BlockExecution, SealedBlock, execute_block

FAST = FlashblockSchedule(block_time_ms=200, interval_ms=40)
"""Five flashblocks in a fifth of a second: the same shape as ten in two."""


@dataclass
class Recorder(JobObserver):
    """Keeps everything a job reports."""

    flashblocks: list[BuiltFlashblock] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    limits: list[tuple[Refusal, int]] = field(default_factory=list)
    endings: list[JobOutcome] = field(default_factory=list)
    fates: list[Fate] = field(default_factory=list)
    on_made: Callable[[BuiltFlashblock], None] | None = None

    def made(self, made: BuiltFlashblock) -> None:
        self.flashblocks.append(made)
        if self.on_made is not None:
            self.on_made(made)

    def refused(self, refusal: Refusal) -> None:
        self.refusals.append(refusal)

    def full(self, refusal: Refusal, number: int) -> None:
        self.limits.append((refusal, number))

    def late(self, fate: Fate) -> None:
        self.fates.append(fate)

    def ended(self, ending: JobOutcome, flashblocks: int, planned: int) -> None:
        self.endings.append(ending)


@dataclass
class Bench:
    """A chain, its pool, and jobs on them."""

    chain: Chain = field(default_factory=memory_chain)
    recorder: Recorder = field(default_factory=Recorder)
    schedule: FlashblockSchedule = FAST
    speed: float = 0.0
    """Of the jobs' clock, to the real one's. It stands still at the start of the slot unless a test is about
    time: however busy the machine is, the schedule is whole and each flashblock has time for all its
    transactions. A job waits for its flashblocks all the same."""

    def __post_init__(self) -> None:
        self.queue = Mempool(self.chain)

    def job(
        self,
        attributes: PayloadAttributes | None = None,
        limits: JobLimits | None = None,
        left_s: float = FAST.block_time_ms / 1000,
    ) -> PayloadJob:
        """A job that begins `left_s` before the end of its slot."""
        attributes = attributes or ask(self.chain)
        build = EmbeddedBackend(self.chain).build(self.chain.head, attributes)
        # The chain's time stands still in 2023, so the clock is moved to the start of the slot.
        start, begun = attributes.timestamp - left_s, time.monotonic()
        return PayloadJob(
            JobRequest(b"\x03" + bytes(7), build, attributes),
            JobTerms(self.schedule, limits or JobLimits()),
            self.queue,
            self.recorder,
            JobRuntime(clock=lambda: start + (time.monotonic() - begun) * self.speed),
        )

    def run(self, job: PayloadJob) -> None:
        asyncio.run(job.run())

    def run_until(self, tx_hash: bytes, job: PayloadJob) -> None:
        """As `run`, and getPayload as soon as a transaction is in the block."""

        def fetch(made: BuiltFlashblock) -> None:
            if tx_hash in {envelope.hash for envelope in made.added}:
                job.resolve()

        self.recorder.on_made = fetch
        self.run(job)

    def open(self, job: PayloadJob) -> SealedBlock:
        """Index 0 of a job, which goes no further."""

        async def first() -> SealedBlock:
            running = asyncio.create_task(job.run())
            try:
                return await job.opened()
            finally:
                running.cancel()

        return asyncio.run(first())

    def executed_again(self, made: BuiltFlashblock) -> World:
        """The state that an independent execution of a flashblock's block comes to."""
        chain = self.chain
        parent = chain.head
        block = made.sealed.block
        sealed = execute_block(
            chain.config, parent, block, chain.world(parent.hash), chain.ancestor_hash(parent.hash)
        )
        assert sealed.hash == made.sealed.hash
        return sealed.world


def test_index_zero_holds_the_forced_transactions_alone() -> None:
    bench = Bench()
    bench.queue.add(transfer())
    job = bench.job()
    sealed = bench.open(job)
    assert [envelope.is_deposit for envelope in sealed.envelopes] == [True]
    assert [made.index for made in bench.recorder.flashblocks] == [0]
    assert job.sealed is sealed


def test_every_flashblock_is_a_valid_block_that_extends_the_one_before() -> None:
    bench = Bench()
    late = [transfer(1, nonce) for nonce in range(3)]

    def arrive(made: BuiltFlashblock) -> None:
        if made.index in (1, 2, 3):
            bench.queue.add(late[made.index - 1])

    bench.recorder.on_made = arrive
    for nonce in range(5):
        bench.queue.add(transfer(0, nonce))
    bench.run(bench.job())
    flashblocks = bench.recorder.flashblocks
    assert [made.index for made in flashblocks] == [0, 1, 2, 3, 4, 5]
    assert [len(made.added) for made in flashblocks] == [1, 5, 1, 1, 1, 0]
    raws: tuple[bytes, ...] = ()
    for made in flashblocks:
        raws += tuple(envelope.raw for envelope in made.added)
        assert made.sealed.block.transactions == raws
        assert bench.executed_again(made).root == made.sealed.header.state_root
    assert bench.recorder.endings == [JobOutcome.COMPLETE]


def test_a_message_holds_the_metadata_that_its_dialect_sends() -> None:
    bench = Bench()
    bench.queue.add(transfer())
    bench.run(bench.job())
    made = bench.recorder.flashblocks[1]
    whole, spared = flashblock_of(made), flashblock_of(made, dialect=BASE)
    assert whole.metadata.receipts is not None
    assert list(whole.metadata.receipts) == ["0x" + envelope.hash.hex() for envelope in made.added] != []
    assert spared.metadata.receipts is None and spared.metadata.new_account_balances is None
    assert encode(spared, BASE) == encode(whole, BASE)


def test_messages_carry_base_once_and_totals_always() -> None:
    bench = Bench()
    bench.queue.add(transfer())
    bench.run(bench.job())
    messages = [decode(encode(flashblock_of(made))) for made in bench.recorder.flashblocks]
    assert [message.base is not None for message in messages] == [True] + [False] * 5
    assert [message.index for message in messages] == list(range(6))
    base, last = messages[0].base, messages[-1]
    assert base is not None
    header = bench.recorder.flashblocks[-1].sealed.header
    assert (base.parent_hash, base.block_number, base.timestamp) == (
        header.parent_hash,
        header.number,
        header.timestamp,
    )
    assert (last.diff.block_hash, last.diff.state_root, last.diff.receipts_root) == (
        header.hash,
        header.state_root,
        header.receipts_root,
    )
    assert (last.diff.gas_used, last.diff.blob_gas_used) == (header.gas_used, header.blob_gas_used)
    check_metadata(messages)


def check_metadata(messages: list[Flashblock]) -> None:
    receipts = messages[1].metadata.receipts
    assert receipts is not None
    (receipt,) = receipts.values()
    assert (receipt["type"], receipt["status"], receipt["logs"]) == ("0x2", "0x1", [])
    balances = messages[1].metadata.new_account_balances
    assert balances is not None
    assert balances["0x" + "77" * 20] == "0x1"


def test_gas_opens_in_equal_steps() -> None:
    bench = Bench()
    gas = 5_000_000
    for nonce in range(60):
        bench.queue.add(transfer(0, nonce, gas_limit=90_000))
    bench.run(bench.job(ask(bench.chain, gas_limit=gas, da_footprint_gas_scalar=1)))
    for made in bench.recorder.flashblocks[1:]:
        assert made.sealed.header.gas_used + 90_000 - 21_000 <= gas * made.index // 5
    assert Refusal.GAS in bench.recorder.refusals
    assert len(bench.recorder.flashblocks[1].added) > 0


def test_data_limit_of_the_operator_counts_across_the_block() -> None:
    bench = Bench()
    for nonce in range(8):
        bench.queue.add(transfer(0, nonce))
    bench.run(bench.job(limits=JobLimits(block_da_bytes=500)))
    assert sum(len(made.added) for made in bench.recorder.flashblocks[1:]) == 5
    assert Refusal.BLOCK_DA_SIZE in bench.recorder.refusals
    assert bench.recorder.limits == [(Refusal.BLOCK_DA_SIZE, 1)], "said once, and of the whole block"


def test_getpayload_ends_the_job_with_what_was_published() -> None:
    bench = Bench()
    bench.queue.add(transfer())

    async def scenario() -> None:
        job = bench.job()
        running = asyncio.create_task(job.run())
        third = asyncio.Event()
        bench.recorder.on_made = lambda made: third.set() if made.index == 2 else None
        await third.wait()
        sealed = job.resolve()
        await running
        assert sealed is bench.recorder.flashblocks[-1].sealed
        assert len(bench.recorder.flashblocks) == 3

    asyncio.run(scenario())
    assert bench.recorder.endings == [JobOutcome.RESOLVED]


def test_a_late_block_is_filled_before_it_is_handed_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flashctl.builder.payload.job.LATE_WAIT_S", 60.0)
    bench = Bench()
    for account in range(5):
        bench.queue.add(transfer(account))

    async def scenario(left_s: float, attributes: PayloadAttributes) -> int:
        job = bench.job(attributes, left_s=left_s)
        running = asyncio.create_task(job.run())
        await job.opened()
        await job.filled()
        sealed = job.resolve()
        await running
        assert sealed is not None
        return len(sealed.envelopes)

    wanted = ask(bench.chain)
    assert asyncio.run(scenario(-5, wanted)) == 6
    assert asyncio.run(scenario(0.2, wanted)) == 1, "a block in time is not waited for"
    assert asyncio.run(scenario(-5, replace(wanted, no_tx_pool=True))) == 1


def test_a_forced_transaction_that_cannot_run_fails_the_payload() -> None:
    bench = Bench()
    attributes = ask(bench.chain)
    too_early = transfer(0, nonce=5).raw
    job = bench.job(replace(attributes, transactions=(*attributes.transactions, too_early)))
    with pytest.raises(ForcedTransactionFailed, match="failed to force-include tx 1: nonce too high"):
        bench.open(job)
    with pytest.raises(ForcedTransactionFailed, match="unknown transaction type"):
        bench.open(bench.job(replace(attributes, transactions=(b"\x05\xc0",))))
    assert bench.recorder.flashblocks == []


def test_without_the_pool_the_block_is_the_forced_list_and_nothing_is_published() -> None:
    bench = Bench()
    bench.queue.add(transfer())
    attributes = ask(bench.chain)
    forced = (*attributes.transactions, transfer(2).raw)
    bench.run(bench.job(replace(attributes, transactions=forced, no_tx_pool=True)))
    (made,) = bench.recorder.flashblocks
    assert not made.publishes
    assert made.sealed.block.transactions == forced


def test_a_late_request_has_fewer_flashblocks() -> None:
    bench = Bench()
    bench.run(bench.job(left_s=0.09))
    assert [made.index for made in bench.recorder.flashblocks] == [0, 1, 2, 3]


ENDLESS = b"\x5b\x5f\x56"
"""JUMPDEST PUSH0 JUMP: runs until its gas is gone."""


def test_a_transaction_that_runs_too_long_makes_way_and_is_tried_once_a_block() -> None:
    bench = Bench()
    slow = transfer(0, to=None, data=ENDLESS, gas_limit=25_000_000)
    bench.queue.add(slow)
    bench.queue.add(transfer(1))
    bench.run(bench.job(limits=JobLimits(tx_time_s=0.02)))
    assert [len(made.sealed.envelopes) for made in bench.recorder.flashblocks][-1] == 2
    assert bench.recorder.fates == [Fate.PUT_OFF]
    assert bench.queue.get(slow.hash) is slow


def test_a_slow_transaction_has_its_turn_with_all_the_time_of_a_block() -> None:
    """...and what follows it in the nonces of its sender comes with it."""
    bench = Bench()
    slow, follower = transfer(0, to=None, data=ENDLESS, gas_limit=25_000_000), transfer(0, 1, tip=1)
    bench.queue.add(slow)
    bench.queue.add(follower)
    bench.run(bench.job(limits=JobLimits(tx_time_s=0.02)))
    # A schedule in which a block has time for it, however busy the machine.
    bench.schedule = FlashblockSchedule(block_time_ms=20_000, interval_ms=4_000)
    bench.speed = 1.0
    bench.run_until(slow.hash, bench.job(limits=JobLimits(tx_time_s=0.02), left_s=19.0))
    last = bench.recorder.flashblocks[-1].sealed
    assert slow.hash in {envelope.hash for envelope in last.envelopes}
    assert len(bench.queue.late) == 0


def test_what_a_whole_block_cannot_hold_is_given_up_and_its_sender_is_told_why() -> None:
    bench = Bench()
    slow = transfer(0, to=None, data=ENDLESS * 2_000, gas_limit=29_000_000)
    bench.queue.add(slow)
    told: list[bytes] = []
    bench.queue.on_given_up(told.append)
    limits = JobLimits(tx_time_s=0.005)
    bench.run(bench.job(limits=limits))
    assert told == []
    # Time of the job's clock: the transaction may compute for 8 ms of it.
    bench.schedule = FlashblockSchedule(block_time_ms=12, interval_ms=4)
    # On a busy machine the block is over before the transaction has had its time: the turn is another one.
    for _ in range(MAX_TURNS):
        if not told:
            bench.run(bench.job(limits=limits, left_s=0.012))
    assert told == [slow.hash] and bench.queue.get(slow.hash) is None
    assert bench.recorder.fates[-1] is Fate.GIVEN_UP
    assert set(bench.recorder.fates[:-1]) == {Fate.PUT_OFF}
    with pytest.raises(PoolRefusal, match="execution takes more time than a block has"):
        bench.queue.add(slow)


def test_after_half_a_blocks_time_lost_only_short_transactions_are_tried() -> None:
    bench = Bench()
    slow = [transfer(n, to=None, data=ENDLESS, gas_limit=5_000_000, tip=10**10) for n in range(5)]
    for envelope in (*slow, short := transfer(6, tip=1)):
        bench.queue.add(envelope)
    bench.schedule = FlashblockSchedule(block_time_ms=20, interval_ms=4)
    bench.run(bench.job(limits=JobLimits(tx_time_s=0.006), left_s=0.02))
    assert len(bench.recorder.fates) <= 3
    assert short.hash in {envelope.hash for envelope in bench.recorder.flashblocks[-1].sealed.envelopes}


def test_a_large_transaction_begins_early_enough_to_be_in_the_block() -> None:
    """Nearly all the gas of the block: in equal steps it would open with the last flashblock alone."""
    bench = Bench()
    large = transfer(0, gas_limit=58_000_000)
    bench.queue.pool.add(large, 1, SenderState(0, 10**24), 0.0)
    bench.run(bench.job(ask(bench.chain, gas_limit=60_000_000)))
    assert next(made.index for made in bench.recorder.flashblocks if large in made.added) < 5


def test_small_ones_that_fill_every_step_keep_a_large_one_out_for_a_few_blocks_only() -> None:
    bench = Bench()
    large = transfer(0, gas_limit=2_500_000, tip=1)
    bench.queue.add(large)
    found = []
    for number in range(bench.chain.head.number + 1, bench.chain.head.number + 10):
        plan = bench.queue.late_plan(number)
        found.append(plan.first)
        bench.queue.late.crowded(large.hash, number)
    assert found.count(large) in (1, 2) and found[:5] == [None] * 5


def test_one_that_small_ones_crowded_out_goes_first_when_its_turn_has_come() -> None:
    bench = Bench()
    large = transfer(0, gas_limit=3_000_000, tip=1)
    small = [transfer(1, nonce, gas_limit=200_000) for nonce in range(25)]
    for envelope in (large, *small):
        bench.queue.add(envelope)
    attributes = ask(bench.chain, gas_limit=5_000_000)
    bench.run(bench.job(attributes))
    assert large not in [envelope for made in bench.recorder.flashblocks[:3] for envelope in made.added]
    bench = Bench()
    for envelope in (large, *small):
        bench.queue.add(envelope)
    bench.queue.late.crowded(large.hash, bench.chain.head.number - 8)
    bench.run(bench.job(attributes))
    added = [envelope for made in bench.recorder.flashblocks[1:] for envelope in made.added]
    assert added[0] is large and small[0] in added


def test_nonce_chains_flow_through_the_flashblocks_in_order_of_tip() -> None:
    bench = Bench()
    for nonce in range(3):
        bench.queue.add(transfer(0, nonce, tip=(nonce + 1) * 10**9))
    bench.queue.add(transfer(1, 0, tip=2 * 10**9))
    bench.run(bench.job())
    added = bench.recorder.flashblocks[1].added
    assert [(envelope.sender[:2], envelope.tx.nonce) for envelope in added if not_deposit(envelope.tx)] == [
        (bench_sender(1), 0),
        (bench_sender(0), 0),
        (bench_sender(0), 1),
        (bench_sender(0), 2),
    ]


def not_deposit(tx: object) -> bool:
    return not isinstance(tx, DepositTx)


def bench_sender(account: int) -> bytes:
    return transfer(account).sender[:2]


def test_deposits_are_never_taken_from_the_pool() -> None:
    deposit = DepositTx(bytes(32), b"\x01" * 20, b"\x02" * 20, 0, 0, 21_000, False, b"")
    with pytest.raises(PoolRefusal, match="transaction type not supported"):
        Bench().queue.add(TxEnvelope(encode_transaction(deposit), deposit, deposit.sender))


def test_hundreds_that_pay_well_and_cannot_run_keep_nobody_out() -> None:
    """Their accounts were emptied after they were admitted. They are tried once, not in every flashblock."""
    bench = Bench()
    poor = transfer(0, 0, tip=10**10)
    for position in range(300):
        sender = position.to_bytes(20, "big")
        envelope = TxEnvelope(poor.raw + sender, poor.tx, sender)
        bench.queue.pool.add(envelope, 1, SenderState(0, 10**24), 0.0)
    honest = transfer(1, 0)
    bench.queue.add(honest)
    bench.run(bench.job())
    assert [envelope for made in bench.recorder.flashblocks[1:] for envelope in made.added] == [honest]
    assert bench.queue.counts() == (1, 300)


@pytest.mark.parametrize("released_by", [1, 2, 3])
def test_no_flashblock_waits_for_a_long_transaction(
    released_by: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench()
    first, long, last = transfer(1, tip=10**10), transfer(0, gas_limit=2_000_000), transfer(2, tip=1)
    for envelope in (first, long, last):
        bench.queue.add(envelope)
    gate = threading.Event()
    execute = BlockExecution.execute

    def gated(self: BlockExecution, envelope: TxEnvelope, **options: Any) -> object:
        if envelope is long:
            assert gate.wait(20)
        return execute(self, envelope, **options)

    monkeypatch.setattr(BlockExecution, "execute", gated)
    bench.recorder.on_made = lambda made: gate.set() if made.index == released_by else None
    bench.run(bench.job(limits=JobLimits(tx_time_s=60)))
    flashblocks = bench.recorder.flashblocks
    assert [made.index for made in flashblocks] == [0, 1, 2, 3, 4, 5]
    assert flashblocks[1].added == (first,)
    assert [made.added for made in flashblocks[2 : released_by + 1]] == [()] * (released_by - 1)
    # It is in the next flashblock, or in the one after it if that was due at once.
    rest = [envelope for made in flashblocks[released_by + 1 :] for envelope in made.added]
    assert rest == [long, last]
    raws: tuple[bytes, ...] = ()
    for made in flashblocks:
        raws += tuple(envelope.raw for envelope in made.added)
        assert made.sealed.block.transactions == raws
        assert bench.executed_again(made).root == made.sealed.header.state_root
        for address, account in made.changed.items():
            assert made.sealed.world.account(address) == account


def test_patience_with_a_long_transaction_is_spent_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """What runs since an earlier flashblock makes no later one late at all."""
    bench = Bench()
    long, gate, execute = transfer(0, gas_limit=2_000_000), threading.Event(), BlockExecution.execute
    bench.queue.add(long)

    def gated(self: BlockExecution, envelope: TxEnvelope, **options: Any) -> object:
        if envelope is long:
            assert gate.wait(20)
        return execute(self, envelope, **options)

    def made(flashblock: BuiltFlashblock) -> None:
        if flashblock.index == 1:
            monkeypatch.setattr(job, "PATIENCE_S", 1e6)
        if flashblock.index == 4:
            monkeypatch.undo()
            gate.set()

    monkeypatch.setattr(BlockExecution, "execute", gated)
    bench.recorder.on_made = made
    bench.run(bench.job(limits=JobLimits(tx_time_s=60)))
    assert [flashblock.index for flashblock in bench.recorder.flashblocks] == [0, 1, 2, 3, 4, 5]


def test_a_payload_fetched_while_a_long_transaction_runs_is_what_was_published(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench()
    first, gate, execute = transfer(1, tip=10**10), threading.Event(), BlockExecution.execute
    # JUMPDEST PUSH0 JUMP: runs until its gas is gone, or until it looks at the clock.
    long = transfer(0, to=None, data=b"\x5b\x5f\x56", gas_limit=5_000_000)

    def gated(self: BlockExecution, envelope: TxEnvelope, **options: Any) -> object:
        if envelope is long:
            assert gate.wait(20)
        return execute(self, envelope, **options)

    monkeypatch.setattr(BlockExecution, "execute", gated)
    bench.queue.add(first)
    bench.queue.add(long)

    async def scenario() -> None:
        job = bench.job(limits=JobLimits(tx_time_s=60))
        out = asyncio.Event()
        bench.recorder.on_made = lambda made: out.set() if made.index == 2 else None
        running = asyncio.create_task(job.run())
        await out.wait()
        sealed = job.resolve()
        gate.set()
        await running
        assert sealed is not None and sealed is bench.recorder.flashblocks[-1].sealed
        assert sealed.envelopes[1:] == (first,)

    asyncio.run(scenario())
    assert [made.index for made in bench.recorder.flashblocks] == [0, 1, 2]
    assert bench.queue.get(long.hash) is not None
