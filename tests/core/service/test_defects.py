"""Exceptions that nobody foresaw: told once, counted, shown in health, and no end of anything."""

from __future__ import annotations

import asyncio
import logging

import pytest

from flashctl.core.service import defects
from flashctl.core.service.lifecycle import Lifecycle
from flashctl.core.service.metrics import Metrics
from flashctl.core.service.status import Health, status_pages, with_defects
from flashctl.errors import UnavailableError


def fail(text: str) -> None:
    try:
        raise IndexError(text)
    except IndexError as error:
        defects.caught("test.boundary", error)


def test_a_defect_is_told_once_counted_and_shown(caplog: pytest.LogCaptureFixture) -> None:
    assert with_defects(Health(True)) == Health(True)
    with caplog.at_level(logging.ERROR, "flashctl"):
        for attempt in range(3):
            fail(f"secret {attempt}")
    assert len(caplog.records) == 1 and caplog.records[0].exc_info is not None
    assert b'flashctl_defects_total{where="test.boundary"} 3.0' in Metrics("any").render()
    health = with_defects(Health(True, "behind"))
    assert health.detail.startswith("behind; defect in test.boundary: IndexError at ")
    assert "secret" not in health.detail


@pytest.mark.parametrize(
    "health", [Health(True), Health(True, "behind", degraded=True), Health(False, "syncing")], ids=str
)
def test_a_defect_is_told_and_changes_no_status(health: Health) -> None:
    def answers() -> list[tuple[int, str]]:
        pages = status_pages(Metrics("any"), lambda: health)
        found = [pages[path]() for path in ("/healthz", "/readyz", "/livez")]
        return [(answer.status, answer.body.decode()) for answer in found]

    before = answers()
    fail("any")
    after = answers()
    assert [status for status, _ in after] == [status for status, _ in before]
    assert ["defect in test.boundary" in body for _, body in after] == [True, True, False]
    assert with_defects(health).degraded is health.degraded


def test_kept_work_is_begun_again_after_a_defect() -> None:
    starts: list[int] = []

    async def run() -> Lifecycle:
        life = Lifecycle()

        async def work() -> None:
            starts.append(1)
            if len(starts) < 3:
                raise KeyError("defect")

        await life.keep(work, "work")
        return life

    life = asyncio.run(run())
    assert len(starts) == 3 and life.failure is None and defects.counts() == {"work": 2}


def test_kept_work_ends_the_service_with_what_is_final() -> None:
    async def run() -> Lifecycle:
        life = Lifecycle()

        async def work() -> None:
            raise UnavailableError("never")

        with pytest.raises(UnavailableError):
            await life.keep(work, "work")
        await life.stopped()
        return life

    assert isinstance(asyncio.run(run()).failure, UnavailableError)
