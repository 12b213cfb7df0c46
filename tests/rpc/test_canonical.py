"""Which heads are news, behind a URL with several nodes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from flashctl.remote.state import CanonicalBlock
from flashctl.rpc.canonical import BEHIND_PATIENCE_S, REMEMBERED_BLOCKS, HeadTrack, HeadVerdict


def block(number: int, fork: str = "") -> CanonicalBlock:
    """A block of the main chain, or of a fork that left it below this block."""
    name = f"{number}{fork}".encode().ljust(32)
    return CanonicalBlock(number, name, f"{number - 1}".encode().ljust(32), 0, bytes(32), ())


def track(*numbers: int) -> HeadTrack:
    made = HeadTrack()
    for number in numbers:
        assert made.judge(block(number), 0.0) is HeadVerdict.NEWER
        made.accept([block(number)])
    return made


def test_a_node_that_lags_is_no_reorg() -> None:
    made = track(1, 2, 3, 4)
    assert made.judge(block(4), 1.0) is HeadVerdict.SAME
    assert [made.judge(block(number), 1.0) for number in (3, 1, 2)] == [HeadVerdict.BEHIND] * 3
    assert made.judge(block(5), 1.0) is HeadVerdict.NEWER


def test_a_lag_further_than_anything_shown() -> None:
    assert track(1000).judge(block(900), 1.0) is HeadVerdict.BEHIND


def test_another_block_at_a_known_height_is_a_reorg() -> None:
    made = track(1, 2, 3, 4)
    assert made.judge(block(3, "b"), 1.0) is HeadVerdict.REORG
    made.accept([block(3, "b")])
    assert made.judge(block(3), 1.0) is HeadVerdict.REORG, "and back again"
    assert made.judge(block(4), 1.0) is HeadVerdict.NEWER


def test_a_chain_that_was_set_back_is_believed_after_a_while() -> None:
    made = track(5, 6)
    made.judge(block(6), 10.0)
    assert made.judge(block(5), 10.0 + BEHIND_PATIENCE_S) is HeadVerdict.BEHIND
    assert made.judge(block(5), 10.1 + BEHIND_PATIENCE_S) is HeadVerdict.REORG
    made.accept([block(5)])
    assert made.judge(block(6), 50.0) is HeadVerdict.NEWER


def test_the_current_head_shown_now_and_then_keeps_it() -> None:
    made = track(5, 6)
    for second in range(200):
        assert made.judge(block(5), second) is HeadVerdict.BEHIND
        assert made.judge(block(6), second + 0.5) is HeadVerdict.SAME


@given(st.lists(st.tuples(st.integers(0, 12), st.sampled_from(["", "", "b"]), st.booleans()), max_size=60))
def test_any_row_of_heads(heads: list[tuple[int, str, bool]]) -> None:
    """What is remembered is bounded and never contradicts the head."""
    made = HeadTrack()
    for second, (number, fork, takes) in enumerate(heads):
        shown = block(number, fork)
        verdict = made.judge(shown, float(second))
        if made.head is not None:
            assert (verdict is HeadVerdict.SAME) == (made.head.hash == shown.hash)
            assert verdict is not HeadVerdict.NEWER or number > made.head.number
        if takes and verdict in (HeadVerdict.NEWER, HeadVerdict.REORG):
            made.accept([shown])
            assert made.head == shown
            assert made.judge(shown, float(second)) is HeadVerdict.SAME
        assert len(made._known) <= REMEMBERED_BLOCKS
