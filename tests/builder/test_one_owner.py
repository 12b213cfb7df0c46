"""One owner of a build: requests that overlap in time, and a stream that a consumer can always use."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

import pytest
from support.chains import ask, transfer
from support.waiting import until

from flashctl.builder.backend import EmbeddedBackend
from flashctl.builder.execution_engine import ExecutionEngine
from flashctl.builder.mempool.admission import Mempool
from flashctl.builder.payload.block_work import JobTerms
from flashctl.builder.payload.job import BuiltFlashblock, JobLimits, JobObserver, JobOutcome, PayloadJob
from flashctl.builder.payload.jobs import PayloadJobs
from flashctl.builder.payload.schedule import FlashblockSchedule
from flashctl.chain.chain import Chain
from flashctl.chain.genesis import build_genesis, devnet_genesis
from flashctl.core.jsonrpc.errors import RpcError
from flashctl.core.service import defects
from flashctl.op.attributes import PayloadAttributes
from flashctl.op.execution import BlockExecution

ENDLESS = b"\x5b\x5f\x56"
"""JUMPDEST PUSH0 JUMP: runs until its gas is gone."""


def _chain_of_now() -> Chain:
    """With a minute to go until its next block, however busy the machine is."""
    return Chain.open(build_genesis(devnet_genesis(timestamp=int(time.time()) + 60)))


@dataclass
class Lab(JobObserver):
    """Payload jobs over a chain in memory, and everything they publish."""

    limits: JobLimits = field(default_factory=JobLimits)
    made_so_far: list[BuiltFlashblock] = field(default_factory=list)
    endings: list[JobOutcome] = field(default_factory=list)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)
    chain: Chain = field(default_factory=_chain_of_now)

    def __post_init__(self) -> None:
        self.queue = Mempool(self.chain)
        self.payloads = PayloadJobs(
            EmbeddedBackend(self.chain),
            self.queue,
            lambda: JobTerms(FlashblockSchedule(400, 100), self.limits),
            self,
            self._spawn,
        )

    def _spawn(self, job: PayloadJob) -> asyncio.Task[None]:
        self.tasks.append(asyncio.create_task(job.run()))
        return self.tasks[-1]

    def made(self, made: BuiltFlashblock) -> None:
        self.made_so_far.append(made)

    def ended(self, ending: JobOutcome, flashblocks: int, planned: int) -> None:
        self.endings.append(ending)

    def long_request(self) -> PayloadAttributes:
        """One whose index 0 takes a while."""
        plain = ask(self.chain)
        return replace(
            plain, transactions=(*plain.transactions, *(transfer(0, nonce).raw for nonce in range(20)))
        )

    async def start(self, attributes: PayloadAttributes) -> bytes:
        return await self.payloads.start(self.chain.head, attributes)

    @property
    def published(self) -> list[tuple[bytes, int]]:
        return [(made.payload_id, made.index) for made in self.made_so_far]


def run(lab: Lab, body: Callable[[], Awaitable[None]]) -> None:
    async def whole() -> None:
        try:
            async with asyncio.timeout(30):
                await body()
        finally:
            await lab.payloads.close()

    asyncio.run(whole())


@pytest.mark.parametrize("turns", range(1, 7))
def test_a_job_that_was_replaced_publishes_nothing_after_its_successor(turns: int) -> None:
    lab = Lab()

    async def body() -> None:
        first = asyncio.create_task(lab.start(lab.long_request()))
        for _ in range(turns):
            await asyncio.sleep(0)
        second = await lab.start(replace(ask(lab.chain), prev_randao=b"\x77" * 32))
        replaced = await first
        await asyncio.gather(*lab.tasks)
        order = [identity for identity, _ in lab.published]
        assert order == sorted(order, key=lambda identity: identity == second)
        assert [index for identity, index in lab.published if identity == second] == [0, 1, 2, 3, 4]
        # The client that asked for it may still want it.
        job = lab.payloads.job(replaced)
        assert job is not None and job.sealed is not None and len(job.sealed.envelopes) == 21

    run(lab, body)


def test_the_same_request_while_the_first_opens_is_the_same_payload() -> None:
    lab = Lab()

    async def body() -> None:
        request = lab.long_request()
        identities = await asyncio.gather(*(lab.start(request) for _ in range(5)))
        await asyncio.gather(*lab.tasks)
        assert len(set(identities)) == len(lab.tasks) == 1
        assert [index for _, index in lab.published] == [0, 1, 2, 3, 4]

    run(lab, body)


def test_everyone_who_waits_for_a_payload_hears_that_it_cannot_be_and_may_ask_again() -> None:
    lab = Lab()

    async def body() -> None:
        plain = ask(lab.chain)
        request = replace(plain, transactions=(*plain.transactions, transfer(0, 7).raw))
        outcomes = await asyncio.gather(*(lab.start(request) for _ in range(3)), return_exceptions=True)
        assert [str(outcome).partition(":")[0] for outcome in outcomes] == [
            "failed to force-include tx 1"
        ] * 3
        assert len(lab.tasks) == 1
        with pytest.raises(Exception, match="force-include"):
            await lab.start(request)
        assert len(lab.tasks) == 2

    run(lab, body)


def test_getpayload_does_not_wait_for_a_transaction_that_runs() -> None:
    lab = Lab(limits=JobLimits(tx_time_s=20))
    # Three minutes of gas: who waited for it would meet the time-out of the test.
    lab.queue.add(transfer(0, to=None, data=ENDLESS, gas_limit=25_000_000))

    async def body() -> None:
        identity = await lab.start(ask(lab.chain))
        job = lab.payloads.job(identity)
        assert job is not None
        await until(lambda: job._work._running is not None)
        sealed = job.resolve()
        assert sealed is job.sealed is not None and len(sealed.envelopes) == 1
        await asyncio.gather(*lab.tasks)
        assert lab.made_so_far[-1].sealed is sealed
        assert lab.endings == [JobOutcome.RESOLVED]
        # It was in nobody's way for long, so it stays.
        assert len(lab.queue) == 1

    run(lab, body)


def test_a_defect_costs_the_transaction_it_hit(monkeypatch: pytest.MonkeyPatch) -> None:
    execute = BlockExecution.execute
    bad, good = transfer(0), transfer(1)

    def defective(self: BlockExecution, envelope: object, **options: object) -> object:
        if envelope is bad:
            raise KeyError("defect in an opcode")
        return execute(self, envelope, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(BlockExecution, "execute", defective)
    lab = Lab()
    defects.forget()

    async def body() -> None:
        lab.queue.add(bad)
        lab.queue.add(good)
        await lab.start(ask(lab.chain))
        await asyncio.gather(*lab.tasks)
        assert lab.endings == [JobOutcome.COMPLETE]
        assert lab.made_so_far[-1].sealed.envelopes[1:] == (good,)
        assert lab.queue.get(bad.hash) is None
        assert defects.counts() == {"builder.transaction": 1}

    run(lab, body)
    defects.forget()


@pytest.mark.parametrize("where", ["settling", "sealing", "publishing", "writing", "ending"])
def test_a_defect_elsewhere_costs_the_payload_and_no_other(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = Lab()
    lab.queue.add(transfer(0))
    defects.forget()
    armed = [True]

    def fail(*args: object, **options: object) -> None:
        if armed[0]:
            armed[0] = False
            raise ZeroDivisionError("defect")

    def failing(owner: object, name: str) -> None:
        whole = getattr(owner, name)

        def wrapped(*args: object, **options: object) -> object:
            fail()
            return whole(*args, **options)

        monkeypatch.setattr(owner, name, wrapped)

    async def body() -> None:
        match where:
            case "settling":
                failing(BlockExecution, "_result")
            case "sealing":
                failing(BlockExecution, "_seal")
            case "publishing":
                failing(lab, "made")
            case "writing":
                failing(lab, "message")
            case _:
                failing(lab, "ended")
        armed[0] = False
        head = lab.chain.head
        identity = await lab.start(ask(lab.chain))
        armed[0] = True
        await asyncio.gather(*lab.tasks)
        assert sum(defects.counts().values()) == 1
        # What is sealed can be fetched, and is a block that anybody accepts.
        sealed = ExecutionEngine(lab.chain, lab.payloads).get_payload(identity)
        lab.chain.import_block(sealed.block)
        # The next payload is built as if nothing had been.
        second = await lab.payloads.start(head, replace(ask(lab.chain), prev_randao=b"\x01" * 32))
        await asyncio.gather(*lab.tasks)
        assert [index for identity, index in lab.published if identity == second] == [0, 1, 2, 3, 4]
        assert lab.made_so_far[-1].sealed.envelopes[-1].hash == transfer(0).hash

    run(lab, body)
    defects.forget()


def test_a_defect_in_a_forced_transaction_is_the_request_s_internal_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def defective(self: BlockExecution, envelope: object, **options: object) -> object:
        raise KeyError("defect in a deposit")

    lab = Lab()
    defects.forget()

    async def body() -> None:
        with monkeypatch.context() as patched:
            patched.setattr(BlockExecution, "execute", defective)
            with pytest.raises(RpcError) as caught:
                await ExecutionEngine(lab.chain, lab.payloads)._start(lab.chain.head, ask(lab.chain))
            assert caught.value.code == -32603 and "defect in a deposit" not in str(caught.value)
        await lab.start(ask(lab.chain))
        await asyncio.gather(*lab.tasks)
        assert lab.endings == [JobOutcome.FAILED, JobOutcome.COMPLETE]

    run(lab, body)
    defects.forget()
