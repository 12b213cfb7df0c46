"""Turns of the event loop that take too long are counted by what held them."""

from __future__ import annotations

import asyncio
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
