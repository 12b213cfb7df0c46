"""A frame that overtook another costs the order, not a loss."""

from __future__ import annotations

from support.watch_lab import block, follow, names

from flashctl.watch.line_output import describe_event
from flashctl.watch.stream_stats import StreamStats


def test_a_late_flashblock_is_not_lost() -> None:
    first = block(1, 6)
    order = [0, 1, 3, 2, 4, 5]
    events = follow([*(first[index] for index in order), *block(2, 3)])
    stats = StreamStats()
    for event in events:
        stats.add(event)
    report = stats.report()
    assert (report["missing"], report["late"]) == (0, 1)
    assert "gap" not in names(events)
    (late,) = [event for event in events if event.name == "late"]
    assert late.index == 2 and describe_event(late).startswith("late")


def test_what_never_comes_stays_missing_and_what_comes_twice_is_late_once() -> None:
    first = block(1, 7)
    stats = StreamStats()
    for event in follow([*(first[index] for index in (0, 3, 1, 1, 4)), *block(2, 1)]):
        stats.add(event)
    assert (stats.report()["missing"], stats.report()["late"]) == (1, 1)
