"""Worker processes of the real kind: what they answer, and what becomes of their jobs when they do not."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop
from support.toy_worker import ENTRY, ToyJob
from support.waiting import until, wait_until

from flashctl.core.jsonrpc.caller import Caller, caller
from flashctl.core.jsonrpc.errors import ErrorCode, RpcError
from flashctl.core.service import defects
from flashctl.core.service.metrics import Metrics
from flashctl.core.service.workers import pool as worker_pool
from flashctl.core.service.workers.child import GROUP_PART
from flashctl.core.service.workers.figures import PoolFigures
from flashctl.core.service.workers.pool import JobBroke, WorkerPool
from flashctl.core.service.workers.process import NICE, WorkerLimits
from flashctl.core.service.workers.schedule import QueueLimits
from flashctl.errors import Failed

TESTS = Path(__file__).resolve().parents[3]
PATIENCE_S = 60.0


@pytest.fixture(autouse=True)
def path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(TESTS))


@asynccontextmanager
async def pool(workers: int = 2, **options: Any) -> AsyncIterator[WorkerPool]:
    made = WorkerPool(ENTRY, workers, **options)
    try:
        async with asyncio.timeout(PATIENCE_S):
            yield made
    finally:
        await made.close()
    assert made.pids == []


def run(body: Callable[[], Awaitable[None]]) -> None:
    uvloop.run(body())


async def error_of(made: WorkerPool, job: ToyJob) -> RpcError:
    with pytest.raises(RpcError) as caught:
        await made.run(job)
    return caught.value


def as_client(address: str, connection: int, work: Callable[[], Awaitable[Any]]) -> asyncio.Task[Any]:
    """`work()` as if asked over a connection."""

    async def asked() -> Any:
        caller.set(Caller(address, connection))
        return await work()

    return asyncio.create_task(asked())


def is_grouping_sessions() -> bool:
    """Whether the kernel has autogroups and this process is in one (not in a weighted control group)."""
    try:
        return Path("/proc/self/autogroup").read_text().startswith("/autogroup-")
    except OSError:
        return False


def command_of(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/cmdline").read_text().split("\0")


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_answers_questions_errors_and_defects() -> None:
    async def body() -> None:
        async with pool(1, limits=WorkerLimits(nice=NICE)) as made:
            assert made.pids == [], "nothing was asked yet"
            large = os.urandom(5_000_000)
            assert await made.run(ToyJob("echo", large)) == large
            pid, nice = await made.run(ToyJob("pid"))
            assert pid in made.pids and nice == min(19, os.nice(0) + NICE)
            assert await made.run(ToyJob("ask", "x")) == "xx"
            assert (await error_of(made, ToyJob("ask", "unknown"))).message == "nobody knows"
            assert (await error_of(made, ToyJob("ask", "defect"))).code == ErrorCode.INTERNAL_ERROR
            refused = await error_of(made, ToyJob("refuse", "0x08c379a0"))
            assert (refused.code, refused.message, refused.data) == (3, "execution reverted", "0x08c379a0")
            with pytest.raises(JobBroke, match="ZeroDivisionError: oops"):
                await made.run(ToyJob("break", "oops"))
            assert (await made.run(ToyJob("pid")))[0] == pid, "none of this cost the process"
        assert defects.counts() == {"workers.answer": 1}

    run(body)


def test_a_worker_yields_to_processes_of_other_sessions() -> None:
    """Where the kernel schedules sessions as groups, a nice value counts within one session only."""

    async def body() -> None:
        async with pool(1, limits=WorkerLimits(nice=NICE)) as made:
            (pid, _), (session, group) = await made.run(ToyJob("pid")), await made.run(ToyJob("group"))
            assert session == pid != os.getsid(0)
            if is_grouping_sessions():
                assert group.split()[-2:] == ["nice", str(NICE // GROUP_PART)]

    run(body)


def test_workers_that_keep_dying_load_behind_everything_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a second of the processor each is not for whoever makes them die."""

    async def body() -> None:
        async with pool(1) as made:
            for pause_s, is_first in ((3600.0, True), (3600.0, False), (0.0, True)):
                monkeypatch.setattr(worker_pool, "LOAD_EVERY_S", pause_s)
                pid, _ = await made.run(ToyJob("pid"))
                assert ("--load-first" in command_of(pid)) is is_first
                os.kill(pid, signal.SIGKILL)
                await until(lambda: made.running == 0)

    run(body)


def test_what_a_job_lacks_is_obtained_without_a_worker() -> None:
    async def body() -> None:
        async with pool(1) as made:
            job = ToyJob("lack", 3)
            assert await made.run(job) == 3
            assert job.obtained == [0, 1, 2]
            with pytest.raises(Failed, match="not to be had"):
                await made.run(ToyJob("never"))

    run(body)


def test_a_killed_worker_costs_the_call_that_it_ran() -> None:
    async def body() -> None:
        figures = PoolFigures(metrics := Metrics("test"))
        async with pool(2, figures=figures) as made:
            job = ToyJob("hang")
            hanging = asyncio.create_task(made.run(job))
            others = [asyncio.create_task(made.run(ToyJob("burn", 0.05))) for _ in range(5)]
            await until(lambda: job.asked)
            os.kill(job.asked[0], signal.SIGKILL)
            with pytest.raises(RpcError, match="the process that ran this call ended") as caught:
                await hanging
            assert caught.value.code == ErrorCode.RESOURCE_UNAVAILABLE
            assert await asyncio.gather(*others) == [0.05] * 5
            for _ in range(3):  # and again: each is replaced
                assert (await error_of(made, ToyJob("die"))).code == ErrorCode.RESOURCE_UNAVAILABLE
            assert await made.run(ToyJob("echo", 1)) == 1
            shown = metrics.render().decode()
            assert "test_worker_deaths_total 4.0" in shown
            assert 'test_calls_total{outcome="died"} 4.0' in shown
            assert 'test_call_wait_seconds_count{lane="fast"}' in shown

    run(body)


def test_a_job_that_minds_no_deadline_is_killed() -> None:
    async def body() -> None:
        async with pool(2) as made:
            await made.run(ToyJob("echo"))  # started
            job = ToyJob("hang", seconds=0.2)
            error = await error_of(made, job)
            assert error.message == "execution aborted (timeout = 0.2s)"
            await until(lambda: not alive(job.asked[0]))
            assert await made.run(ToyJob("burn", 0.1)) == 0.1

    run(body)


def test_slow_calls_of_one_client_do_not_keep_another_waiting() -> None:
    """Forty calls that are work; the trivial one, last in line, is answered among the first. In one lane of
    four it came last."""

    async def body() -> None:
        async with pool(2) as made:
            await made.run(ToyJob("echo"))
            ended: list[str] = []

            async def ask(name: str, job: ToyJob) -> None:
                await made.run(job)
                ended.append(name)

            slow = [
                as_client("10.0.0.1", number % 7, lambda: ask("slow", ToyJob("burn", 0.03)))
                for number in range(40)
            ]
            await asyncio.sleep(0)
            for address in ("10.0.0.2", "10.0.0.1"):  # another party, and another program of the same
                await as_client(address, 99, lambda: ask("light", ToyJob("echo", 1)))
            assert ended.count("slow") < 20, ended
            assert made.waiting_in_all > 10
            await asyncio.gather(*slow)

    run(body)


def test_time_in_line_counts_against_the_time_out() -> None:
    async def body() -> None:
        async with pool(1) as made:
            job = ToyJob("hang")
            hanging = asyncio.create_task(made.run(job))
            await until(lambda: job.asked)
            waiting = await asyncio.gather(
                *(error_of(made, ToyJob("echo", seconds=0.1)) for _ in range(20)),
            )
            assert {error.code for error in waiting} == {ErrorCode.LIMIT_EXCEEDED}
            assert "no turn within the time-out of 0.1s" in waiting[0].message
            hanging.cancel()  # whoever asked has left
            assert made.waiting_in_all == 0

    run(body)


def test_a_client_has_a_share_of_the_line() -> None:
    async def body() -> None:
        async with pool(1, queue=QueueLimits(per_address=4, in_all=6)) as made:
            job = ToyJob("hang")
            hanging = as_client("a", 1, lambda: made.run(job))
            await until(lambda: job.asked)
            asked = [as_client("a", 1, lambda: made.run(ToyJob("echo"))) for _ in range(10)]
            other = as_client("b", 1, lambda: made.run(ToyJob("echo", "b")))
            await asyncio.sleep(0)
            refused = [task for task in asked if task.done()]
            assert len(refused) == 7
            assert {str(task.exception()) for task in refused} == {
                "too many calls in line, try again later (code -32005)"
            }
            os.kill(job.asked[0], signal.SIGKILL)
            assert await other == "b"
            await asyncio.gather(hanging, *asked, return_exceptions=True)

    run(body)


def test_memory_is_bounded_and_what_has_grown_is_replaced() -> None:
    async def body() -> None:
        metrics = Metrics("test")
        limits = WorkerLimits(memory_bytes=2**30)
        async with pool(1, limits=limits, figures=PoolFigures(metrics)) as made:
            pid, _ = await made.run(ToyJob("pid"))
            assert (await error_of(made, ToyJob("grow", 2**30))).message == "the call takes too much memory"
            second, _ = await made.run(ToyJob("pid"))
            assert second != pid
            assert await made.run(ToyJob("grow", 1000)) == 1
            assert await made.run(ToyJob("grow", 2**28)) == 2  # a quarter of its limit, an eighth may stay
            third, _ = await made.run(ToyJob("pid"))
            assert third not in (pid, second)
            assert "test_worker_deaths_total 0.0" in metrics.render().decode()
            assert "test_worker_replacements_total 2.0" in metrics.render().decode()

    run(body)


def test_a_worker_that_cannot_start_is_tried_again_with_pauses() -> None:
    async def body() -> None:
        metrics = Metrics("test")
        broken = WorkerPool("support.no_such_module:make", 1, figures=PoolFigures(metrics))
        assert (await error_of(broken, ToyJob("echo", seconds=2.0))).code == ErrorCode.LIMIT_EXCEEDED
        (deaths,) = (
            family.samples[0].value
            for family in metrics.families()
            if family.name == "test_worker_deaths_total"
        )
        assert deaths is not None and 1 <= deaths < 8
        assert defects.counts() == {"workers.start": deaths}
        await broken.close()

    run(body)


PARENT = """
import asyncio, sys
from flashctl.core.service.workers.pool import WorkerPool
from support.toy_worker import ENTRY, ToyJob
async def main():
    pool = WorkerPool(ENTRY, 2)
    for _ in range(2):
        asyncio.create_task(pool.run(job := ToyJob("hang")))
        while not job.asked:
            await asyncio.sleep(0.01)
        break
    await pool.run(ToyJob("echo"))
    print(*pool.pids, flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs the parent-death signal of Linux")
def test_no_worker_outlives_a_killed_parent() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(pids) == 2 and all(map(alive, pids))
    parent.kill()
    parent.wait()
    wait_until(lambda: not any(map(alive, pids)))
    parent.stdout.close()
