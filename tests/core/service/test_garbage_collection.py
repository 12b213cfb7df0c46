"""The collector of a service: what lives costs a collection nothing, cycles do not pile up."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from flashctl.core.service.garbage_collection import FULL_EVERY_S, MAX_FULL, Garbage


class Knot:
    """Refers to itself."""

    def __init__(self) -> None:
        self.myself = self


@pytest.fixture(autouse=True)
def collector() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*before)


def test_a_collection_looks_only_at_what_was_made_since_the_last_one() -> None:
    garbage = Garbage(lambda: 0.0)
    garbage.begin()
    state = [[number] for number in range(200_000)]
    gc.collect(1)
    assert len(gc.get_objects()) >= len(state)
    garbage.settle()
    assert len(gc.get_objects()) < 1_000
    assert gc.get_freeze_count() > len(state)
    knot = weakref.ref(Knot())
    garbage.settle()
    assert knot() is None


def test_thousands_of_blocks_leave_nothing_behind() -> None:
    """What is set apart while it lives and let go of later is freed without the collector."""
    garbage = Garbage(lambda: 0.0)
    garbage.begin()
    held: list[object] = []
    counts = []
    for block in range(3_000):
        Knot()
        held = [*held[-50:], {block: [block]}]
        garbage.settle()
        if block % 500 == 499:
            counts.append(gc.get_freeze_count())
    assert max(counts[1:]) - min(counts[1:]) < 200


def test_a_cycle_that_was_set_apart_is_found_once_an_hour() -> None:
    now = 0.0
    garbage = Garbage(lambda: now)
    garbage.begin()
    knot = Knot()
    seen = weakref.ref(knot)
    garbage.settle()
    del knot
    garbage.settle()
    assert seen() is not None
    now = FULL_EVERY_S
    garbage.settle()
    assert (seen() is None) == (gc.get_freeze_count() <= MAX_FULL)
