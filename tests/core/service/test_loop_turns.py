"""Turns of the event loop that take too long are counted by what held them."""

from __future__ import annotations

import asyncio
import math
import sys
import threading
import time
from collections.abc import Iterator

import pytest
import uvloop

from flashctl.core.service import loop_turns as turns
from flashctl.core.service.lifecycle import Lifecycle
from flashctl.core.service.metrics import Metrics


@pytest.fixture(autouse=True)
def _from_nothing() -> Iterator[None]:
    turns.forget()
    yield
    turns.forget()


def hold() -> None:
    time.sleep(0.1)


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_what_holds_the_loop_is_named(run: object) -> None:
    async def scenario() -> None:
        watch = turns.TurnWatch()
        # Again and again: on a busy machine the thread that looks may come too late.
        for _ in range(50):
            await asyncio.sleep(0.01)
            hold()
            await asyncio.sleep(0.01)
            if "waiting in test_loop_turns.py:hold" in turns.counts():
                break
        await watch.close()

    run(scenario())  # type: ignore[operator]
    assert turns.counts()["waiting in test_loop_turns.py:hold"] >= 1
    page = Metrics("test").render().decode()
    assert 'flashctl_loop_turns_over_5ms_total{cause="waiting in test_loop_turns.py:hold"}' in page


def test_every_service_watches_its_loop_from_ready_to_its_end() -> None:
    async def scenario() -> int:
        life = Lifecycle()
        life.ready()
        for _ in range(3):
            await asyncio.sleep(0.01)
            hold()
            await asyncio.sleep(0.01)
        await life.drain()
        before = sum(turns.counts().values())
        assert before > 0
        for _ in range(3):
            await asyncio.sleep(0.01)
            hold()
        return sum(turns.counts().values()) - before

    assert asyncio.run(scenario()) == 0


def test_causes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "MAX_CAUSES", 3)
    for number in range(10):
        turns._count(f"place {number}", 0.01)
    assert turns.counts() == {"place 0": 1, "place 1": 1, "place 2": 1, "other": 7}


def test_a_thread_that_keeps_the_interpreter_is_no_lack_of_processors() -> None:
    interval = sys.getswitchinterval()
    is_over = threading.Event()

    def keep() -> None:
        while not is_over.is_set():
            sum(range(10_000))

    async def scenario() -> None:
        watch = turns.TurnWatch()
        # Again and again: on a busy machine some turns do lack a processor.
        for _ in range(500):
            await asyncio.sleep(0.01)
            if turns.counts().get("interpreter lock"):
                break
        await watch.close()

    keeper = threading.Thread(target=keep)
    keeper.start()
    try:
        sys.setswitchinterval(0.05)
        uvloop.run(scenario())
    finally:
        sys.setswitchinterval(interval)
        is_over.set()
        keeper.join()
    assert turns.counts().get("interpreter lock"), turns.counts()


@pytest.mark.parametrize(
    ("where", "ran", "waited", "cause"),
    [
        ("a.py:f", 0.06, 0.01, "a.py:f"),
        ("", 0.06, 0.01, "not seen"),
        ("a.py:f", 0.01, 0.06, "no processor"),
        ("", 0.01, 0.06, "no processor"),
        ("a.py:f", 0.01, 0.01, "waiting in a.py:f"),
        ("", 0.01, 0.01, "interpreter lock"),
        ("a.py:f", 0.01, math.nan, "waiting in a.py:f"),
        ("", 0.01, math.nan, "not running"),
    ],
)
def test_a_cause_is_what_most_of_the_turn_went_to(where: str, ran: float, waited: float, cause: str) -> None:
    assert turns._cause(where, 0.1, ran, waited) == cause
