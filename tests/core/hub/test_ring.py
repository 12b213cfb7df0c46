"""The ring: what it keeps, and where clients join and resume."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.examples import examples

from flashctl.core.hub.encoding import Encoding
from flashctl.core.hub.framing import data_frame
from flashctl.core.hub.lag_budget import Lag, LagBudget, LagPolicy, LagVerdict, judge
from flashctl.core.hub.ring import UNPLACED, HubMessage, Position, Ring, RingLimits


def ring_of(*places: tuple[str, int, int], limits: RingLimits | None = None, step: float = 0.2) -> Ring:
    """A ring of messages (payload id, index, block), one every `step` seconds."""
    ring = Ring(limits or RingLimits())
    for number, (payload_id, index, block) in enumerate(places):
        ring.append(
            HubMessage(
                b"x" * 100,
                binary=False,
                payload_id=payload_id,
                index=index,
                block_number=block,
                published_at=number * step,
            )
        )
    return ring


def blocks(*numbers: int, length: int = 3) -> list[tuple[str, int, int]]:
    return [(f"p{number}", index, number) for number in numbers for index in range(length)]


class TestJoining:
    def test_at_the_open_block(self) -> None:
        assert ring_of(*blocks(7, 8)).joining_point() == 3

    def test_at_the_head_before_the_first_index_0(self) -> None:
        assert ring_of(("p", 4, 7), ("p", 5, 7)).joining_point() == 2

    def test_at_the_head_when_the_open_block_lost_its_start(self) -> None:
        assert ring_of(*blocks(7), ("p8", 1, 8)).joining_point() == 4

    def test_messages_that_are_no_flashblocks_do_not_end_the_open_block(self) -> None:
        assert ring_of(*blocks(7), ("", UNPLACED, 0)).joining_point() == 0

    def test_a_rebuilt_block_starts_over(self) -> None:
        assert ring_of(*blocks(7), ("q7", 0, 7)).joining_point() == 3


class TestResuming:
    RING = ring_of(*blocks(7, 8, 9))

    @pytest.mark.parametrize(
        ("block", "index", "expected"),
        [(7, 0, 1), (7, 2, 3), (8, 1, 5), (9, 2, 9), (6, 9, 0), (1, 0, 0), (10, 0, 9), (9, 7, 9)],
    )
    def test_after_the_position(self, block: int, index: int, expected: int) -> None:
        assert self.RING.resume_point(Position(block, index)) == expected

    def test_a_position_between_is_served_from_the_next_index_0(self) -> None:
        # The client saw an index of block 7 that never came here.
        assert self.RING.resume_point(Position(7, 5)) == 3

    def test_the_payload_id_tells_builds_of_one_block_apart(self) -> None:
        ring = ring_of(*blocks(7), ("q7", 0, 7), ("q7", 1, 7), ("q7", 2, 7))
        assert ring.resume_point(Position(7, 1), "p7") == 2
        assert ring.resume_point(Position(7, 1), "q7") == 5

    def test_without_it_a_repetition_is_better_than_a_gap(self) -> None:
        ring = ring_of(*blocks(7), ("q7", 0, 7), ("q7", 1, 7))
        assert ring.resume_point(Position(7, 1)) == 2

    def test_an_empty_ring(self) -> None:
        assert Ring(RingLimits()).resume_point(Position(7, 1)) == 0


class TestForgetting:
    def test_by_age(self) -> None:
        ring = ring_of(*blocks(*range(20)), limits=RingLimits(max_age_s=2.0))
        assert len(ring) == 11
        assert ring[ring.first].published_at >= ring[ring.head - 1].published_at - 2.0

    def test_by_bytes(self) -> None:
        ring = ring_of(*blocks(*range(20)), limits=RingLimits(max_bytes=1000))
        assert len(ring) == 10
        assert ring.size == 1000

    def test_never_the_open_block(self) -> None:
        ring = ring_of(*blocks(7, length=30), limits=RingLimits(max_age_s=0.0))
        assert len(ring) == 30
        assert ring.joining_point() == 0

    def test_unless_it_never_ends(self) -> None:
        ring = ring_of(*blocks(7, length=30), limits=RingLimits(max_bytes=1000))
        assert ring.size <= 1000
        assert ring.joining_point() == ring.head

    def test_while_nothing_is_published(self) -> None:
        ring = ring_of(*blocks(7), ("p8", 1, 8))
        ring.trim(1000.0)
        assert len(ring) == 0

    @settings(max_examples=examples(50))
    @given(
        st.lists(st.tuples(st.sampled_from("ab"), st.integers(-1, 3), st.integers(0, 3)), max_size=60),
        st.integers(100, 3000),
    )
    def test_the_books_balance(self, places: list[tuple[str, int, int]], max_bytes: int) -> None:
        ring = ring_of(*places, limits=RingLimits(max_age_s=3.0, max_bytes=max_bytes))
        held = list(ring.slice(ring.first, ring.head))
        assert ring.size == sum(len(message.data) for message in held) <= max_bytes
        assert [message.seq for message in held] == list(range(ring.first, ring.head))
        assert ring.head == len(places)
        assert ring.first <= ring.joining_point() <= ring.head
        if ring.open_block is not None:
            assert ring[ring.open_block].index == 0


class TestBudget:
    BUDGET = LagBudget(max_bytes=1000, max_messages=10, max_age_s=2.0, stall_s=1.0)

    @pytest.mark.parametrize(
        ("lag", "verdict"),
        [
            (Lag(0, 0, 0.0, 0.0), LagVerdict.KEEP),
            (Lag(10, 1000, 2.0, 1.0), LagVerdict.KEEP),
            (Lag(11, 0, 0.0, 0.0), LagVerdict.LAGGED),
            (Lag(1, 1001, 0.0, 0.0), LagVerdict.LAGGED),
            (Lag(1, 1, 2.1, 0.0), LagVerdict.LAGGED),
            (Lag(1, 1, 0.1, 1.1), LagVerdict.STALLED),
            (Lag(50, 9999, 9.0, 0.5, replaying=True), LagVerdict.KEEP),
            (Lag(50, 9999, 9.0, 1.5, replaying=True), LagVerdict.STALLED),
            (Lag(1, 1, 0.1, 0.1, forgotten=True), LagVerdict.LAGGED),
            (Lag(1, 1, 0.1, 0.1, replaying=True, forgotten=True), LagVerdict.LAGGED),
        ],
    )
    def test_evict(self, lag: Lag, verdict: LagVerdict) -> None:
        assert judge(lag, self.BUDGET) is verdict

    def test_conflate_skips_whom_evict_would_close(self) -> None:
        budget = LagBudget(max_messages=10, stall_s=1.0, policy=LagPolicy.CONFLATE)
        assert judge(Lag(11, 0, 0.0, 0.0), budget) is LagVerdict.SKIP
        assert judge(Lag(11, 0, 0.0, 2.0), budget) is LagVerdict.STALLED


class TestFrames:
    @pytest.mark.parametrize("data", [b"", b"x", b"x" * 126, b"x" * 70000])
    def test_a_frame_that_came_is_kept_instead_of_the_data(self, data: bytes) -> None:
        frame = data_frame(data, binary=True)
        message = HubMessage(data, binary=True, frame=frame)
        assert message.frame(Encoding.RAW) is frame
        assert (message.data, message.size) == (data, len(data))
        assert message.frame(Encoding.DEFLATE) == HubMessage(data, binary=True).frame(Encoding.DEFLATE)
