"""The sequence rules, as playbooks: what is fed, and which events must come out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from support.flashblocks import base_sepolia_block, make_flashblock

from flashctl.core.flashblocks.sequence import (
    Accepted,
    Assembler,
    Closed,
    CloseReason,
    Duplicate,
    Equivocation,
    Event,
    Gap,
    Ignored,
    Inconsistent,
    JoinedMid,
    Missed,
    Opened,
    PrevMismatch,
    Replaced,
    Rewound,
)
from flashctl.core.flashblocks.wire import Flashblock, Metadata, from_object

PID = [f"0x{number:016x}" for number in range(10)]


class Playbook:
    """`Playbook() >> flashblock << event << event`: feeds, then holds every event that came out to
    account."""

    def __init__(self) -> None:
        self.assembler = Assembler()
        self.now_ns = 0
        self.events: list[Event] = []

    def __rshift__(self, flashblock: Flashblock) -> Playbook:
        assert self.events == [], "events nobody expected"
        self.now_ns += 200_000_000
        self.events = self.assembler.feed(flashblock, self.now_ns)
        return self

    def __lshift__(self, expected: Any) -> Playbook:
        assert self.events, f"expected {expected}, nothing left"
        event = self.events.pop(0)
        if isinstance(expected, type):
            assert isinstance(event, expected), event
        elif isinstance(expected, CloseReason):
            assert isinstance(event, Closed) and event.reason is expected, event
        else:
            assert event == expected
        return self

    def done(self) -> Assembler:
        assert self.events == [], "events nobody expected"
        return self.assembler


def fb(block: int = 1, index: int = 0, payload: int = 1, **more: Any) -> Flashblock:
    return make_flashblock(block, index, payload, **more)


def opened(block: int = 1, payload: int = 1) -> Playbook:
    """A playbook in which index 0 and 1 of a payload have been accepted."""
    return Playbook() >> fb(block, 0, payload) << Opened << Accepted >> fb(block, 1, payload) << Accepted


def test_a_recorded_block_from_start_to_end() -> None:
    book = Playbook()
    for message in base_sepolia_block():
        flashblock = from_object(message)
        book = book >> flashblock
        if flashblock.index == 0:
            book = book << Opened
        book = book << Accepted
    payload = book.done().payload
    assert payload is not None and len(payload.transactions) == 24
    (closed,) = book.assembler.end()
    assert closed == Closed(payload, CloseReason.ENDED)
    assert book.assembler.payload is None


def test_accepted_tells_position_gas_and_time() -> None:
    book = Playbook() >> fb(transactions=(b"a", b"b"), gas_used=50) << Opened
    book << Accepted(fb(transactions=(b"a", b"b"), gas_used=50), 0, 50, None)
    second = fb(index=1, transactions=(b"c",), gas_used=71)
    book >> second << Accepted(second, 2, 21, 200_000_000)
    book.done()


def test_next_block_closes_the_one_before() -> None:
    (opened() >> fb(2, 0, 2) << CloseReason.NEXT << Opened << Accepted).done()


def test_a_block_built_again_replaces_the_first_build() -> None:
    (
        opened() >> fb(1, 0, 2) << CloseReason.REPLACED << Replaced(1, PID[1], PID[2]) << Opened << Accepted
    ).done()


def test_blocks_missed_altogether() -> None:
    (opened() >> fb(5, 0, 5) << CloseReason.NEXT << Missed(range(2, 5)) << Opened << Accepted).done()


def test_a_rewind() -> None:
    (opened(8) >> fb(6, 0, 6) << CloseReason.REWOUND << Rewound(8, 6) << Opened << Accepted).done()


def test_joined_in_the_middle_waits_for_the_next_index_0() -> None:
    book = Playbook() >> fb(1, 4) << JoinedMid(PID[1], 1, 4) >> fb(1, 5) << Ignored(PID[1], 1, 5)
    assert book.assembler.payload is None
    (book >> fb(2, 0, 2) << Opened << Accepted).done()


def test_a_gap_breaks_the_sequence_until_the_next_index_0() -> None:
    book = opened() >> fb(1, 4) << Gap(PID[1], 1, range(2, 4)) << CloseReason.BROKEN
    book >> fb(1, 5) << Ignored >> fb(1, 2) << Ignored
    (book >> fb(2, 0, 2) << Opened << Accepted).done()


def test_a_server_that_replays_a_broken_payload_heals_it() -> None:
    book = opened() >> fb(1, 3) << Gap << CloseReason.BROKEN
    for index in range(4):
        book = book >> fb(1, index)
        if index == 0:
            book = book << Opened
        book = book << Accepted
    assert book.done().payload is not None


def test_an_equal_repeat_is_dropped_and_the_sequence_goes_on() -> None:
    book = opened() >> fb(1, 0) << Duplicate(PID[1], 1, 0) >> fb(1, 1) << Duplicate >> fb(1, 2) << Accepted
    book.done()


def test_a_repeat_that_differs_in_metadata_only_is_a_duplicate() -> None:
    stripped = replace(fb(1, 1), metadata=Metadata(1, None, {"0x01": {}}))
    (opened() >> stripped << Duplicate).done()


def test_two_messages_for_one_index_are_an_equivocation_and_the_first_counts() -> None:
    book = opened() >> fb(1, 1, gas_used=99) << Equivocation(PID[1], 1, 1) >> fb(1, 2) << Accepted
    assert book.done().payload.diff.gas_used == 0  # type: ignore[union-attr]


def test_a_slower_upstream_repeats_the_block_before() -> None:
    book = opened() >> fb(2, 0, 2) << CloseReason.NEXT << Opened << Accepted
    book >> fb(1, 0) << Duplicate >> fb(1, 1) << Duplicate >> fb(1, 2) << Ignored(PID[1], 1, 2)
    (book >> fb(2, 1, 2) << Accepted).done()


def test_index_0_lost_at_a_block_boundary() -> None:
    book = opened() >> fb(2, 1, 2) << CloseReason.NEXT << JoinedMid(PID[2], 2, 1) >> fb(2, 2, 2) << Ignored
    (book >> fb(3, 0, 3) << Missed(range(2, 3)) << Opened << Accepted).done()


def test_index_0_without_base_cannot_open() -> None:
    book = opened() >> fb(2, 0, 2, base=False) << CloseReason.BROKEN << Inconsistent >> fb(2, 1, 2) << Ignored
    book.done()


def test_base_after_index_0_breaks_the_sequence() -> None:
    (opened() >> fb(1, 2, base=True) << Inconsistent << CloseReason.BROKEN >> fb(1, 3) << Ignored).done()


def test_another_block_number_under_the_same_payload_id() -> None:
    book = opened() >> fb(2, 2, 1)
    book << Inconsistent(PID[1], 2, 2, "block 2 in the payload of block 1") << CloseReason.BROKEN
    book.done()


def test_metadata_numbers_need_only_agree_with_each_other() -> None:
    first = replace(fb(9), metadata=Metadata(1234))
    (Playbook() >> first << Opened << Accepted >> fb(1234, 1) << Accepted).done()


def test_a_truncated_block_shows_in_the_predecessor_that_the_next_names() -> None:
    book = (
        opened()
        >> fb(2, 0, 2, prev="1-4")
        << CloseReason.NEXT
        << PrevMismatch(PID[2], 0, "1-4", "1-1", PID[1])
    )
    (book << Opened << Accepted >> fb(2, 1, 2, prev="2-0") << Accepted).done()


def test_an_unset_predecessor_says_nothing() -> None:
    (opened() >> fb(2, 0, 2, prev="0-0") << CloseReason.NEXT << Opened << Accepted).done()


def test_indices_have_no_upper_bound_of_ten() -> None:
    book = Playbook() >> fb() << Opened << Accepted
    for index in range(1, 50):
        book = book >> fb(1, index) << Accepted
    book.done()


def test_what_is_remembered_is_bounded() -> None:
    book = Playbook()
    for block in range(1, 100):
        book.assembler.feed(fb(block, 0, block), block)
    assert len(book.assembler._remembered) <= 8


messages = st.builds(
    fb,
    block=st.integers(1, 4),
    index=st.integers(0, 4),
    payload=st.integers(1, 5),
    gas_used=st.integers(0, 1),
    base=st.sampled_from([None, None, None, True, False]),
)


@given(st.lists(messages, max_size=60))
def test_any_stream_keeps_the_promises(stream: list[Flashblock]) -> None:
    """Whatever arrives: no exception, accepted runs start at an opened index 0 and have no hole, closings
    match."""
    assembler = Assembler()
    run: list[Flashblock] | None = None
    for now_ns, flashblock in enumerate(stream):
        events = assembler.feed(flashblock, now_ns)
        assert events, "every message has a consequence"
        for event in events:
            match event:
                case Opened():
                    assert run is None
                    run = []
                case Accepted(accepted):
                    assert run is not None and accepted.index == len(run)
                    assert accepted.payload_id == (run[0] if run else accepted).payload_id
                    run.append(accepted)
                case Closed(payload):
                    assert run is not None and list(payload.flashblocks) == run
                    run = None
        assert (assembler.payload is None) == (run is None)
        if assembler.payload is not None:
            assert list(assembler.payload.flashblocks) == run
