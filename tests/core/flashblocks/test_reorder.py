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

from flashctl.core.flashblocks.reorder import MAX_WAIT_NS, MAX_WAITING, Reorder
from flashctl.core.flashblocks.sequence import Assembler, Gap
from flashctl.core.flashblocks.wire import Flashblock, encode


def payload(block: int, count: int) -> list[Flashblock]:
    return [make_flashblock(block, index, payload=block) for index in range(count)]


def new() -> Reorder[Flashblock]:
    return Reorder(lambda flashblock: flashblock)


def ordered(received: Sequence[Flashblock]) -> list[Flashblock]:
    reorder = new()
    return [ready for flashblock in received for ready in reorder.feed(flashblock, 0)]


def indices(received: Sequence[Flashblock]) -> list[int]:
    return [flashblock.index for flashblock in ordered(received)]


def test_what_is_in_order_passes_at_once() -> None:
    reorder = new()
    for flashblock in payload(1, 5) + payload(2, 5):
        assert reorder.feed(flashblock, 0) == [flashblock]


@pytest.mark.parametrize("order", [[0, 2, 1, 3], [0, 1, 3, 4, 2], [0, 3, 2, 1, 4]], ids=str)
def test_one_that_comes_late_is_waited_for(order: list[int]) -> None:
    parts = payload(1, 5)
    assert indices([parts[index] for index in order]) == sorted(order)


def test_one_that_never_comes_is_a_gap_two_flashblocks_later() -> None:
    parts, reorder, assembler = payload(1, 6), new(), Assembler()
    for index in (0, 1, 3, 4):
        for ready in reorder.feed(parts[index], 0):
            assert not any(isinstance(event, Gap) for event in assembler.feed(ready, 0))
    ready = reorder.feed(parts[5], 0)
    assert [flashblock.index for flashblock in ready] == [3, 4, 5]
    assert any(isinstance(event, Gap) for event in assembler.feed(ready[0], 0))


def test_a_publisher_that_is_out_of_order_is_so_on_both_streams() -> None:
    parts, assembler = payload(1, 5), Assembler()
    received = [parts[index] for index in (0, 0, 2, 2, 1, 1, 4, 4, 3, 3)]
    ready = ordered(received)
    assert [flashblock for place, flashblock in enumerate(ready) if flashblock not in ready[:place]] == parts
    assert not [event for one in ready for event in assembler.feed(one, 0) if isinstance(event, Gap)]


def test_waiting_ends_after_a_time() -> None:
    parts, reorder = payload(1, 5), new()
    assert [reorder.feed(parts[index], 0) for index in (0, 2)] == [[parts[0]], []]
    assert reorder.waiting == [parts[2]]
    assert reorder.awaited == 1
    assert reorder.feed(parts[3], MAX_WAIT_NS + 1) == [parts[2], parts[3]]
    assert reorder.feed(parts[4], MAX_WAIT_NS + 1) == [parts[4]]


def test_the_first_may_be_overtaken_but_not_of_a_stream_that_is_joined() -> None:
    first, second = payload(1, 3), payload(2, 3)
    assert indices(first[1:]) == [1, 2]
    assert ordered([*first, second[1], second[0], second[2]]) == [*first, *second]
    reorder = Reorder[Flashblock](lambda flashblock: flashblock, joins=False)
    assert [reorder.feed(first[index], 0) for index in (1, 0, 2)] == [[], first[:2], first[2:]]


def test_a_stream_that_went_back_is_not_held_up() -> None:
    first, second, third = payload(1, 3), payload(2, 2), payload(3, 2)
    assert ordered([*third, *first, *second, *third]) == [*third, *first, *second, *third]


def test_what_waits_at_the_end_comes_out() -> None:
    first, second, reorder = payload(1, 4), payload(2, 3), new()
    assert [reorder.feed(one, 0) for one in (first[0], first[3], second[2])] == [[first[0]], [], []]
    assert reorder.end() == [first[3], second[2]]
    assert reorder.end() == []


@given(st.permutations(range(7)), st.permutations(range(7)))
def test_every_order_of_two_blocks(one: list[int], other: list[int]) -> None:
    """With room for all of a block, every order of it comes out as the right one, each once; with less room
    nothing is lost and nothing told twice."""
    first, second = payload(1, 7), payload(2, 7)
    received = [first[index] for index in one] + [second[index] for index in other]
    roomy = Reorder[Flashblock](lambda flashblock: flashblock, most=6, joins=False)
    assert [ready for part in received for ready in roomy.feed(part, 0)] == [*first, *second]
    assert not roomy.waiting
    narrow = new()
    out = [ready for part in received for ready in narrow.feed(part, 0)] + narrow.end()
    assert Counter(part.index for part in out) == Counter(dict.fromkeys(range(7), 2))


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
