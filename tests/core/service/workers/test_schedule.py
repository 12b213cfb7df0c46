"""Who is served next: fairness between clients, the two lanes, deadlines; under a clock that tests turn."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from support.examples import examples

from flashctl.core.jsonrpc.caller import Caller
from flashctl.core.jsonrpc.fair_queue import FairQueue
from flashctl.core.service.workers.schedule import (
    GRACE_S,
    JobLane,
    JobSchedule,
    JobState,
    JobTicket,
    QueueFull,
    QueueLimits,
)

CLIENTS = st.builds(Caller, st.sampled_from("abc"), st.integers(1, 3))


class TestFairQueue:
    @given(st.lists(CLIENTS, max_size=60))
    def test_addresses_take_turns_and_each_is_served_in_order(self, clients: list[Caller]) -> None:
        queue: FairQueue[tuple[Caller, int]] = FairQueue()
        for number, client in enumerate(clients):
            queue.push((client, number), client)
        served = []
        while (item := queue.pop()) is not None:
            served.append(item)
        assert sorted(number for _, number in served) == list(range(len(clients)))
        assert len(queue) == 0
        for client in set(clients):
            assert [number for who, number in served if who == client] == [
                number for number, who in enumerate(clients) if who == client
            ]
        # While an address waits, no other is served twice before it.
        left = Counter(client.address for client in clients)
        since: dict[str, Counter[str]] = {address: Counter() for address in left}
        for client, _ in served:
            left[client.address] -= 1
            since[client.address].clear()
            for address, counted in since.items():
                if address != client.address and left[address]:
                    counted[client.address] += 1
                    assert counted[client.address] <= 2  # once, and once more for where the round stood

    def test_connections_of_an_address_take_turns_too(self) -> None:
        queue: FairQueue[str] = FairQueue()
        for number in range(40):
            queue.push(f"heavy {number}", Caller("a", 1))
        queue.push("light", Caller("a", 2))
        assert "light" in [queue.pop(), queue.pop()]

    @given(st.lists(st.tuples(CLIENTS, st.booleans()), max_size=40), st.sets(st.integers(0, 39)))
    def test_what_is_removed_is_gone(self, pushed: list[tuple[Caller, bool]], removed: set[int]) -> None:
        queue: FairQueue[int] = FairQueue()
        for number, (client, front) in enumerate(pushed):
            queue.push(number, client, front=front)
        for number in removed:
            queue.remove(number, pushed[number][0] if number < len(pushed) else Caller("a", 1))
        left = []
        while (item := queue.pop()) is not None:
            left.append(item)
        assert sorted(left) == [number for number in range(len(pushed)) if number not in removed]


ANYBODY = Caller("a", 1)


def ticket(
    client: Caller = ANYBODY, *, at: float = 0.0, seconds: float = 5.0, likeness: Any = None
) -> JobTicket[int]:
    return JobTicket(0, client, likeness, at, at + seconds)


class TestLanes:
    def test_what_goes_over_its_slice_is_begun_anew_with_all_its_time(self) -> None:
        schedule: JobSchedule[int] = JobSchedule(2)
        job = ticket()
        schedule.submit(job)
        assert schedule.next_for(0, 0.0) is job and schedule.slice_of(job) is not None
        schedule.went_over(job)
        assert schedule.next_for(1, 0.1) is None, "the reserved worker runs nothing slow"
        assert schedule.next_for(0, 0.1) is job and schedule.slice_of(job) is None

    def test_slow_ones_never_hold_all_workers(self) -> None:
        for workers in (2, 3, 5):
            schedule: JobSchedule[int] = JobSchedule(workers)
            for number in range(20):
                job = ticket(Caller(str(number), 1))
                schedule.submit(job)
                assert schedule.next_for(workers - 1, 0.0) is job
                schedule.went_over(job)
            running = [schedule.next_for(worker, 0.0) for worker in range(workers)]
            assert running[-1] is None and None not in running[:-1]
            light = ticket(Caller("light", 1))
            schedule.submit(light)
            assert schedule.next_for(workers - 1, 0.0) is light

    def test_one_worker_runs_both_the_fast_lane_first(self) -> None:
        schedule: JobSchedule[int] = JobSchedule(1)
        slow = ticket()
        schedule.submit(slow)
        assert schedule.next_for(0, 0.0) is slow
        schedule.went_over(slow)
        fast = ticket(Caller("b", 1))
        schedule.submit(fast)
        assert [schedule.next_for(0, 0.0), schedule.next_for(0, 0.0)] == [fast, slow]

    def test_the_like_of_what_was_slow_goes_to_the_slow_lane_of_that_client_alone(self) -> None:
        schedule: JobSchedule[int] = JobSchedule(2)
        first = ticket(likeness="spin")
        schedule.submit(first)
        schedule.next_for(0, 0.0)
        schedule.went_over(first)
        again, other = ticket(likeness="spin"), ticket(Caller("b", 1), likeness="spin")
        schedule.submit(again)
        schedule.submit(other)
        assert (again.lane, other.lane) == (JobLane.SLOW, JobLane.FAST)
        # It is forgotten when such a job turns out quick.
        assert schedule.next_for(0, 1.0) in (first, again)
        schedule.finish(again if again.state is JobState.RUNNING else first, 1.001)
        later = ticket(likeness="spin")
        schedule.submit(later)
        assert later.lane is JobLane.FAST

    def test_what_lacks_something_holds_no_worker(self) -> None:
        schedule: JobSchedule[int] = JobSchedule(1)
        job, other = ticket(), ticket(Caller("b", 1))
        schedule.submit(job)
        schedule.submit(other)
        assert schedule.next_for(0, 0.0) is job
        schedule.needs(job)
        assert schedule.next_for(0, 0.0) is other
        schedule.obtained(job)
        assert schedule.next_for(0, 0.0) is job


class TestBounds:
    def test_an_address_has_its_share_of_the_line(self) -> None:
        schedule: JobSchedule[int] = JobSchedule(1, QueueLimits(per_address=3, in_all=5))
        kept = [ticket(Caller("a", number)) for number in range(3)]
        for job in kept:
            schedule.submit(job)
        for refused in (ticket(Caller("a", 9)),):
            try:
                schedule.submit(refused)
            except QueueFull:
                continue
            raise AssertionError("took a fourth")
        schedule.submit(ticket(Caller("b", 1)))
        schedule.finish(kept[1], 0.0)
        schedule.submit(ticket(Caller("a", 9)))

    def test_time_in_line_counts(self) -> None:
        schedule: JobSchedule[int] = JobSchedule(1)
        runs, waits, lacks = ticket(seconds=1.0), ticket(seconds=1.0), ticket(seconds=1.0)
        for job in (lacks, runs, waits):
            schedule.submit(job)
        schedule.needs(schedule.next_for(0, 0.0) or waits)
        assert schedule.next_for(0, 0.0) is runs
        assert schedule.expired(0.99) == []
        assert set(schedule.expired(1.0)) == {waits, lacks}
        assert schedule.overdue(1.0) == []
        assert schedule.overdue(1.0 + GRACE_S) == [runs]


@settings(max_examples=examples(100))
@given(st.integers(1, 4), st.data())
def test_every_job_ends_and_no_worker_runs_two(workers: int, data: st.DataObject) -> None:
    """Jobs are submitted, run, go over, lack, are obtained, withdrawn and expire in any order."""
    schedule: JobSchedule[int] = JobSchedule(workers, QueueLimits(per_address=10, in_all=20))
    running: dict[int, JobTicket[int]] = {}
    jobs: list[JobTicket[int]] = []
    now = 0.0
    for _ in range(data.draw(st.integers(1, 40))):
        now += data.draw(st.floats(0, 0.5))
        match data.draw(st.sampled_from(("submit", "run", "over", "needs", "obtained", "finish", "expire"))):
            case "submit":
                job = ticket(data.draw(CLIENTS), at=now, likeness=data.draw(st.integers(0, 2)))
                try:
                    schedule.submit(job)
                    jobs.append(job)
                except QueueFull:
                    assert schedule.live >= 10
            case "run":
                worker = data.draw(st.integers(0, workers - 1))
                if worker not in running and (next_job := schedule.next_for(worker, now)) is not None:
                    assert next_job.state is JobState.RUNNING and next_job not in running.values()
                    assert workers == 1 or worker < workers - 1 or next_job.lane is JobLane.FAST
                    running[worker] = next_job
            case "over" if running:
                schedule.went_over(running.pop(data.draw(st.sampled_from(sorted(running)))))
            case "needs" if running:
                schedule.needs(running.pop(data.draw(st.sampled_from(sorted(running)))))
            case "obtained":
                for job in schedule.tickets():
                    schedule.obtained(job)
            case "finish" if jobs:
                job = data.draw(st.sampled_from(jobs))
                schedule.finish(job, now)
                running = {worker: each for worker, each in running.items() if each is not job}
            case "expire":
                for job in schedule.expired(now):
                    assert job.deadline <= now
                    schedule.finish(job, now)
    # Left alone, everything comes to its turn.
    for job in running.values():
        schedule.finish(job, now)
    for job in schedule.tickets():
        schedule.obtained(job)
    for _ in range(len(jobs) + 1):
        for worker in range(workers):
            if (next_job := schedule.next_for(worker, now)) is not None:
                schedule.finish(next_job, now)
    assert schedule.live == 0 and not schedule.is_waiting
    assert all(job.state is JobState.OVER for job in jobs)
