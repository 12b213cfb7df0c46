"""Flashblocks that overtook one another."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.flashblocks import make_flashblock
from support.rpc_node import Bench, run
from support.stream_lab import signed

from flashctl.core.sequence import Assembler, Gap
from flashctl.core.wire import Flashblock, encode
from flashctl.rpc.reorder import MAX_WAITING, Reorder


def payload(block: int, count: int) -> list[Flashblock]:
    return [make_flashblock(block, index, payload=block) for index in range(count)]


def ordered(received: Sequence[Flashblock]) -> list[Flashblock]:
    reorder = Reorder()
    return [ready for flashblock in received for ready in reorder.feed(flashblock)]


def indices(received: Sequence[Flashblock]) -> list[int]:
    return [flashblock.index for flashblock in ordered(received)]


def test_what_is_in_order_passes_at_once() -> None:
    reorder = Reorder()
    for flashblock in payload(1, 5) + payload(2, 5):
        assert reorder.feed(flashblock) == [flashblock]


@pytest.mark.parametrize("order", [[0, 2, 1, 3], [0, 1, 3, 4, 2], [0, 3, 2, 1, 4]], ids=str)
def test_one_that_comes_late_is_waited_for(order: list[int]) -> None:
    parts = payload(1, 5)
    assert indices([parts[index] for index in order]) == sorted(order)


def test_one_that_never_comes_is_a_gap_two_flashblocks_later() -> None:
    parts, reorder, assembler = payload(1, 6), Reorder(), Assembler()
    for index in (0, 1, 3, 4):
        for ready in reorder.feed(parts[index]):
            assert not any(isinstance(event, Gap) for event in assembler.feed(ready, 0))
    ready = reorder.feed(parts[5])
    assert [flashblock.index for flashblock in ready] == [3, 4, 5]
    assert any(isinstance(event, Gap) for event in assembler.feed(ready[0], 0))


def test_a_publisher_that_is_out_of_order_is_so_on_both_streams() -> None:
    parts, assembler = payload(1, 5), Assembler()
    received = [parts[index] for index in (0, 0, 2, 2, 1, 1, 4, 4, 3, 3)]
    ready = ordered(received)
    assert [flashblock for place, flashblock in enumerate(ready) if flashblock not in ready[:place]] == parts
    assert not [event for one in ready for event in assembler.feed(one, 0) if isinstance(event, Gap)]


def test_the_next_block_ends_the_waiting() -> None:
    first, second = payload(1, 4), payload(2, 2)
    assert ordered([first[0], first[3], *second]) == [first[0], first[3], *second]


def test_a_stream_that_is_a_block_behind_changes_nothing() -> None:
    first, second = payload(1, 3), payload(2, 4)
    received = [*first, second[0], first[0], second[2], first[1], first[2], second[1], second[3]]
    ready = [flashblock for flashblock in ordered(received) if flashblock.block_number == 2]
    assert ready == second


@given(st.integers(0, 2**32), st.integers(0, MAX_WAITING))
def test_any_order_within_the_window(seed: int, window: int) -> None:
    """Each one at most `window` places early: then all come out in order, and each exactly once."""
    source = random.Random(seed)
    parts = payload(1, 12)
    received = [parts[0]]
    waiting = parts[1:]
    while waiting:
        overtaken = len([part for part in waiting if part.index < max(p.index for p in received)])
        free = window - len([p for p in received if p.index > waiting[0].index])
        choice = source.randint(0, min(free, len(waiting) - 1)) if free > 0 and not overtaken else 0
        received.append(waiting.pop(choice))
    assert ordered(received) == parts


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 5)), max_size=40))
def test_nothing_is_lost_invented_or_held_for_good(received: list[tuple[int, int]]) -> None:
    """Except repetitions of what waits, of which one comes out."""
    parts = [make_flashblock(block, index, payload=block) for block, index in received]
    end = make_flashblock(9, 0, payload=9)
    out = Counter((part.block_number, part.index) for part in ordered([*parts, end]))
    assert set(out) == {*received, (9, 0)}
    assert out <= Counter([*received, (9, 0)])


def test_pending_survives_flashblocks_out_of_order() -> None:
    async def scenario(made: Bench) -> None:
        block = made.lab.build([[signed(0, 0)], [signed(1, 0)], [signed(2, 0)]])
        for index in (0, 2, 1, 3):
            flashblock = block.flashblocks[index]
            made.hub.publish(encode(flashblock), payload_id=flashblock.payload_id, index=index)
        last = block.flashblocks[-1]
        await made.until(lambda: made.shows(last.payload_id, last.index))
        assert made.node.follower.counts.anomalies == {}

    run(scenario)
