"""Calls computed in another process: the same answers, no lock held, an end when the budget is spent."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from flashctl.core.service.side_process import SideProcesses
from flashctl.evm.halts import ExecutionTimeout
from flashctl.evm.message import Deadline, WorkDeadline
from flashctl.evm.precompiles import PrecompileError, apart
from flashctl.evm.precompiles.blake2f import BLAKE2F
from flashctl.evm.precompiles.contract import unbounded
from flashctl.evm.precompiles.modexp import MODEXP_OSAKA


def blake2f_input(rounds: int) -> bytes:
    return rounds.to_bytes(4, "big") + bytes(209)


def process_id(data: bytes) -> bytes:
    return str(os.getpid()).encode()


def end_process(data: bytes) -> bytes:
    """Ends the process it runs in, unless that is the one told."""
    if os.getpid() != int(data):
        os.kill(os.getpid(), signal.SIGKILL)
    return b"here"


@pytest.fixture
def side() -> Iterator[SideProcesses]:
    processes = SideProcesses()
    apart.install(processes.run)
    yield processes
    apart.install(None)
    processes.close()


def test_a_dear_call_is_computed_elsewhere_with_the_same_answer(side: SideProcesses) -> None:
    data = blake2f_input(60_000)
    assert BLAKE2F.run_within(data, 60_000, unbounded) == BLAKE2F.run_within(data, 0, unbounded)
    elsewhere = side.run(process_id, b"", unbounded)
    assert elsewhere != process_id(b"") and elsewhere == side.run(process_id, b"", unbounded)


def test_a_refusal_comes_back_as_one(side: SideProcesses) -> None:
    with pytest.raises(PrecompileError):
        BLAKE2F.run_within(b"short", apart.DEAR_GAS, unbounded)
    too_long = (2000).to_bytes(32, "big") * 3
    with pytest.raises(PrecompileError):
        MODEXP_OSAKA.run_within(too_long, apart.DEAR_GAS, unbounded)


def test_other_threads_run_meanwhile(side: SideProcesses) -> None:
    """Each look of the waiting thread is a moment in which the lock was free."""
    looks = 0

    def look(ahead_s: float = 0.0, elsewhere_s: float = 0.0) -> None:
        nonlocal looks
        looks += 1

    BLAKE2F.run_within(blake2f_input(4_000_000), 4_000_000, look)
    assert looks > 3


def test_a_call_ends_with_its_budget_and_the_next_one_is_answered(side: SideProcesses) -> None:
    deadline = Deadline(0.05)
    with pytest.raises(ExecutionTimeout):
        BLAKE2F.run_within(blake2f_input(2**32 - 1), 2**32 - 1, deadline.check)
    assert side.run(process_id, b"", unbounded) != process_id(b"")


def test_without_a_side_process_what_would_end_too_late_is_not_begun() -> None:
    pytest.importorskip("blake2b")
    with pytest.raises(ExecutionTimeout):
        BLAKE2F.run_within(blake2f_input(2**32 - 1), 2**32 - 1, Deadline(0.05).check)


def test_a_budget_of_work_counts_what_was_computed_elsewhere_and_not_what_others_did(
    side: SideProcesses,
) -> None:
    deadline = WorkDeadline(0.05)
    time.sleep(0.1)
    deadline.check()
    with pytest.raises(ExecutionTimeout):
        BLAKE2F.run_within(blake2f_input(2**32 - 1), 2**32 - 1, deadline.check)
    assert deadline.spent_s() >= 0.05
    # Of calls too short for a look meanwhile, the sum.
    deadline = WorkDeadline(0.2)
    with pytest.raises(ExecutionTimeout):
        for _ in range(20_000):
            BLAKE2F.run_within(blake2f_input(60_000), 60_000, deadline.check)


def test_a_budget_of_work_is_over_when_somebody_ends_it() -> None:
    deadline = WorkDeadline(60.0)
    threading.Thread(target=deadline.expire).start()
    with pytest.raises(ExecutionTimeout):
        while True:
            deadline.check()


def test_a_process_that_dies_costs_nothing_but_time(side: SideProcesses) -> None:
    assert side.run(end_process, str(os.getpid()).encode(), unbounded) == b"here"
    assert side.run(process_id, b"", unbounded) != process_id(b"")


def test_threads_take_turns(side: SideProcesses) -> None:
    answers: list[bytes] = []

    def work() -> None:
        answers.append(side.run(process_id, b"", unbounded))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 8 and 1 <= len(set(answers)) <= 2


def test_what_is_closed_computes_where_it_stands() -> None:
    processes = SideProcesses()
    processes.start()
    processes.close()
    assert processes.run(process_id, b"", unbounded) == process_id(b"")
