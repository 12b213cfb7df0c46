"""The flashblock schedule: the worked cases of the reference builder, and what must always hold."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashctl.builder.payload.schedule import FlashblockSchedule
from flashctl.errors import UsageError


@pytest.mark.parametrize(
    ("remaining", "offset", "buffer", "expected"),
    [
        (1000, 0, 0, (200, 400, 600, 800, 1000)),
        (880, 0, 0, (80, 280, 480, 680, 880)),
        (800, -20, 50, (180, 380, 580, 730)),
        (300, 0, 0, (100, 300)),
        (400, -30, 50, (170, 320)),
        (50, 0, 50, (0,)),
        (0, 0, 0, (0,)),
        (-5_000, 0, 0, (0,)),
        (60_000, 0, 0, (200, 400, 600, 800, 1000)),
    ],
)
def test_worked_cases(remaining: int, offset: int, buffer: int, expected: tuple[int, ...]) -> None:
    assert FlashblockSchedule(1000, 200, offset, buffer).times(remaining) == expected


def test_late_requests_lower_the_count() -> None:
    """A forkchoice that lags by 0, 100 … 800 ms leaves 6,6,5,5,4,4,3,3,2 messages, index 0 included."""
    schedule = FlashblockSchedule(1000, 200, end_buffer_ms=50)
    assert [1 + len(schedule.times(1000 - lag)) for lag in range(0, 900, 100)] == [6, 6, 5, 5, 4, 4, 3, 3, 2]


@given(
    interval=st.integers(1, 1000),
    slots=st.integers(1, 20),
    offset=st.integers(-500, 500),
    buffer=st.integers(0, 999),
    remaining=st.integers(-1000, 40_000),
)
def test_times_are_ordered_bounded_and_spaced(
    interval: int, slots: int, offset: int, buffer: int, remaining: int
) -> None:
    schedule = FlashblockSchedule(interval * slots, interval, offset, min(buffer, interval * slots - 1))
    times = schedule.times(remaining)
    assert 1 <= len(times) <= schedule.regular_count
    assert times[0] >= 0
    assert all(later - earlier <= interval for earlier, later in pairwise(times))
    assert list(times) == sorted(times)


@pytest.mark.parametrize("arguments", [(1000, 0), (200, 250), (1000, 200, 0, 1000), (1000, 200, 0, -1)])
def test_timing_that_cannot_work_is_refused(arguments: tuple[int, ...]) -> None:
    with pytest.raises(UsageError):
        FlashblockSchedule(*arguments)
