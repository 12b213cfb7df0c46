"""Which flashblocks belong to which build: the state machine on its own, without sockets or sleeps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.engines import DEPOSIT, Build, ToyBuilder, attributes_after, genesis
from support.examples import examples

from flashctl.boost.obligations import MAX_TRANSACTIONS
from flashctl.boost.rounds import (
    MAX_AHEAD,
    MAX_HELD,
    MAX_ROUND_BYTES,
    MAX_ROUNDS,
    PATIENCE_NS,
    Drop,
    DropReason,
    Hold,
    Incoming,
    Publish,
    Round,
    Rounds,
    RoundState,
    Verdict,
)
from flashctl.core.flashblocks.wire import Flashblock
from flashctl.op.attributes import payload_id

PARENT = genesis()
ATTRIBUTES = attributes_after(PARENT)
SPEC_ID = payload_id(PARENT.hash, ATTRIBUTES)
RETH_ID = b"\x04" + SPEC_ID[1:]
OWN_ID = b"\x0a" * 8
L2_ID = SPEC_ID
TX = b"\x02\xc0"


def sequence(identity: bytes, count: int, marker: int = 0) -> list[Flashblock]:
    """The first `count` flashblocks of a build; another `marker`, other transactions."""
    builder = ToyBuilder(PARENT)
    builder.builds[identity] = build = Build(PARENT, ATTRIBUTES, [DEPOSIT])
    made = []
    for index in range(count):
        added = [] if index == 0 else [TX + bytes([marker, index])]
        build.transactions += added
        made.append(builder.flashblock(identity, added))
        build.published += 1
    return made


def feed(rounds: Rounds, flashblocks: Sequence[Flashblock]) -> list[Verdict]:
    return [
        verdict for flashblock in flashblocks for _, verdict in rounds.feed(Incoming(flashblock, b"{}"), 0)
    ]


def reasons(verdicts: Sequence[Verdict]) -> list[str]:
    return [v.reason.name if isinstance(v, Drop) else type(v).__name__ for v in verdicts]


def begun() -> tuple[Rounds, Round]:
    rounds = Rounds()
    return rounds, rounds.begin(PARENT.hash, ATTRIBUTES)


class TestIdentity:
    @pytest.mark.parametrize("identity", [SPEC_ID, RETH_ID], ids=["spec", "reth"])
    def test_recognised_before_the_builder_answers(self, identity: bytes) -> None:
        rounds, round_ = begun()
        assert reasons(feed(rounds, sequence(identity, 3))) == ["Publish"] * 3
        assert round_.builder_id == identity
        assert rounds.builder_answered(round_, identity, 0) == []
        assert len(round_.flashblocks) == 3

    def test_nothing_under_way(self) -> None:
        assert reasons(feed(Rounds(), sequence(SPEC_ID, 1))) == ["NO_ROUND"]

    def test_own_id_waits_for_the_answer(self) -> None:
        rounds, round_ = begun()
        made = sequence(OWN_ID, 3)
        assert reasons(feed(rounds, [made[2], made[0], made[1]])) == ["Hold"] * 3
        verdicts = [verdict for _, verdict in rounds.builder_answered(round_, OWN_ID, 0)]
        assert reasons(verdicts) == ["Publish"] * 3
        assert round_.builder_id == OWN_ID

    def test_failed_answer_leaves_the_expected_id(self) -> None:
        rounds, round_ = begun()
        assert rounds.builder_answered(round_, None, 0, "timed out") == []
        assert reasons(feed(rounds, sequence(SPEC_ID, 2))) == ["Publish"] * 2
        assert reasons(feed(rounds, sequence(OWN_ID, 1))) == ["OTHER_PAYLOAD"]
        assert round_.builder_failure == "timed out"

    def test_other_id_after_the_answer(self) -> None:
        rounds, round_ = begun()
        rounds.builder_answered(round_, SPEC_ID, 0)
        assert reasons(feed(rounds, sequence(OWN_ID, 2))) == ["OTHER_PAYLOAD"] * 2

    def test_held_flashblocks_are_bounded(self) -> None:
        rounds, _ = begun()
        (one,) = sequence(OWN_ID, 1)
        verdicts = feed(rounds, [one] * (MAX_HELD + 2))
        assert verdicts[:MAX_HELD] == [Hold()] * MAX_HELD
        assert reasons(verdicts[MAX_HELD:]) == ["OVERFLOW"] * 2

    def test_held_bytes_are_bounded(self) -> None:
        rounds, _ = begun()
        (one,) = sequence(OWN_ID, 1)
        large = Incoming(one, bytes(40 * 1024 * 1024))
        assert [type(rounds.feed(large, 0)[0][1]) for _ in range(2)] == [Hold, Drop]


class TestWhatIsAskedFor:
    @pytest.mark.parametrize(
        ("change", "what"),
        [
            ({"parent_hash": b"\x01" * 32}, "parent hash"),
            ({"timestamp": 1}, "timestamp"),
            ({"gas_limit": 1}, "gas limit"),
            ({"prev_randao": b"\x01" * 32}, "prev randao"),
            ({"fee_recipient": b"\x01" * 20}, "fee recipient"),
            ({"parent_beacon_block_root": b"\x01" * 32}, "beacon root"),
        ],
    )
    def test_other_base(self, change: dict[str, Any], what: str) -> None:
        rounds, round_ = begun()
        first, second = sequence(SPEC_ID, 2)
        assert first.base is not None
        wrong = replace(first, base=replace(first.base, **change))
        (verdict,) = feed(rounds, [wrong])
        assert verdict == Drop(DropReason.NOT_AS_ASKED, f"{what} differs")
        assert what in round_.trouble
        # The right one is still welcome, what follows the wrong one waits for it.
        assert reasons(feed(rounds, [second])) == ["Hold"]
        assert reasons(feed(rounds, [first, second])) == ["Publish", "Publish", "DUPLICATE"]
        assert not round_.trouble

    def test_forced_transactions_come_first(self) -> None:
        rounds, _ = begun()
        (first,) = sequence(SPEC_ID, 1)
        for transactions in ((), (TX, DEPOSIT)):
            wrong = replace(first, diff=replace(first.diff, transactions=transactions))
            assert reasons(feed(rounds, [wrong])) == ["NOT_AS_ASKED"]
        more = replace(first, diff=replace(first.diff, transactions=(DEPOSIT, TX)))
        assert reasons(feed(rounds, [more])) == ["Publish"]


class TestSequence:
    def test_duplicates_and_a_replay(self) -> None:
        rounds, round_ = begun()
        made = sequence(SPEC_ID, 3)
        assert reasons(feed(rounds, [*made[:2], made[1], *made])) == [
            *["Publish"] * 2,
            *["DUPLICATE"] * 3,
            "Publish",
        ]
        assert [flashblock.index for flashblock in round_.flashblocks] == [0, 1, 2]

    def test_gap_then_a_replay_from_the_start(self) -> None:
        rounds, round_ = begun()
        made = sequence(SPEC_ID, 4)
        assert reasons(feed(rounds, [made[0], made[2], made[3]])) == ["Publish", "Hold", "Hold"]
        assert round_.trouble == "index 1 has not come"
        assert reasons(feed(rounds, made)) == ["DUPLICATE", *["Publish"] * 3, *["DUPLICATE"] * 2]
        assert not round_.trouble

    @given(st.permutations(range(8)), st.sampled_from([SPEC_ID, OWN_ID]))
    @settings(max_examples=examples(100))
    def test_in_whatever_order_they_come_they_are_published_in_theirs(
        self, order: list[int], identity: bytes
    ) -> None:
        """A known payload id, and one that waits for the builder's answer first."""
        rounds, round_ = begun()
        made = sequence(identity, 8)
        verdicts = feed(rounds, [made[index] for index in order])
        verdicts += [verdict for _, verdict in rounds.builder_answered(round_, identity, 0)]
        published = [v.incoming.flashblock for v in verdicts if isinstance(v, Publish)]
        assert published == made == round_.flashblocks
        assert not round_.trouble
        assert not [verdict for verdict in verdicts if isinstance(verdict, Drop)]

    def test_what_waits_is_bounded_in_count_time_and_bytes(self) -> None:
        rounds, round_ = begun()
        made = sequence(SPEC_ID, MAX_AHEAD + 3)
        verdicts = feed(rounds, [made[0], *made[2:]])
        assert reasons(verdicts) == ["Publish", *["Hold"] * MAX_AHEAD, *["OUT_OF_SEQUENCE"] * (MAX_AHEAD + 1)]
        assert round_.trouble
        # Only a replay helps now.
        assert reasons(feed(rounds, made)) == ["DUPLICATE", *["Publish"] * (MAX_AHEAD + 2)]
        rounds, _ = begun()
        feed(rounds, [made[0], made[2]])
        late = rounds.feed(Incoming(made[3], b"{}"), PATIENCE_NS + 1)
        assert reasons([verdict for _, verdict in late]) == ["OUT_OF_SEQUENCE"] * 2
        rounds, _ = begun()
        half = bytes(MAX_ROUND_BYTES // 2)
        fed = [rounds.feed(Incoming(made[index], half), 0)[0][1] for index in (2, 3, 4)]
        assert reasons(fed) == ["Hold", "Hold", "TOO_LARGE"]

    def test_two_contents_of_one_that_waits(self) -> None:
        rounds, _ = begun()
        made, other = sequence(SPEC_ID, 3), sequence(SPEC_ID, 3, marker=1)
        assert reasons(feed(rounds, [made[2], made[2], other[2], made[0]])) == [
            "Hold",
            "DUPLICATE",
            "EQUIVOCATION",
            "EQUIVOCATION",
        ]

    def test_joined_in_the_middle(self) -> None:
        rounds, round_ = begun()
        assert reasons(feed(rounds, sequence(SPEC_ID, 3)[1:])) == ["Hold"] * 2
        assert round_.payload is None

    def test_equivocation_ends_the_trust(self) -> None:
        rounds, round_ = begun()
        made, other = sequence(SPEC_ID, 4), sequence(SPEC_ID, 4, marker=1)
        assert reasons(feed(rounds, [*made[:2], other[1], made[2], *made])) == [
            *["Publish"] * 2,
            *["EQUIVOCATION"] * 6,
        ]
        assert round_.payload is not None
        assert round_.payload.transactions == (DEPOSIT, TX + b"\x00\x01")

    def test_equivocation_by_replay_after_a_gap(self) -> None:
        rounds, _ = begun()
        made, other = sequence(SPEC_ID, 4), sequence(SPEC_ID, 4, marker=1)
        verdicts = feed(rounds, [made[0], made[1], made[3], *other])
        assert reasons(verdicts)[3:] == ["DUPLICATE", "EQUIVOCATION", "EQUIVOCATION", "EQUIVOCATION"]

    @given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 1)), max_size=20))
    @settings(max_examples=examples(200))
    def test_whatever_arrives_what_is_published_is_one_sequence(self, picks: list[tuple[int, int]]) -> None:
        rounds, round_ = begun()
        variants = (sequence(SPEC_ID, 5), sequence(SPEC_ID, 5, marker=1))
        verdicts = feed(rounds, [variants[marker][index] for index, marker in picks])
        published = [v.incoming.flashblock for v in verdicts if isinstance(v, Publish)]
        assert [flashblock.index for flashblock in published] == list(range(len(published)))
        assert published == round_.flashblocks


class TestTrouble:
    def test_what_nobody_understands_may_have_been_the_next_one(self) -> None:
        rounds, round_ = begun()
        made = sequence(SPEC_ID, 3)
        feed(rounds, made[:1])
        rounds.disturb("garbage")
        assert round_.trouble == "garbage"
        assert reasons(feed(rounds, made[2:])) == ["Hold"]
        assert round_.trouble == "garbage"
        # A replay without a hole: nothing was missing.
        assert reasons(feed(rounds, made)) == ["DUPLICATE", "Publish", "Publish", "DUPLICATE"]
        assert round_.trouble == ""

    def test_only_the_open_round_is_disturbed(self) -> None:
        Rounds().disturb("nobody to disturb")
        rounds, round_ = begun()
        rounds.seal(round_)
        rounds.disturb("after its block was taken")
        assert round_.trouble == ""

    def test_a_block_has_a_size(self) -> None:
        rounds, round_ = begun()
        made = sequence(SPEC_ID, 3)
        feed(rounds, made[:1])
        many = replace(made[1], diff=replace(made[1].diff, transactions=(TX,) * MAX_TRANSACTIONS))
        assert reasons(feed(rounds, [many])) == ["TOO_LARGE"]
        ((_, verdict),) = rounds.feed(Incoming(made[1], bytes(MAX_ROUND_BYTES)), 0)
        assert reasons([verdict]) == ["TOO_LARGE"]
        # As JSON, whatever it was compressed to.
        large = replace(made[1], diff=replace(made[1].diff, transactions=(b"\2" * (MAX_ROUND_BYTES // 2),)))
        assert reasons(feed(rounds, [large])) == ["TOO_LARGE"]
        assert round_.trouble
        assert reasons(feed(rounds, made)) == ["DUPLICATE", "Publish", "Publish"]

    def test_nothing_a_block_must_not_hold_in_the_middle(self) -> None:
        rounds, round_ = begun()
        made = sequence(SPEC_ID, 2)
        deposit = replace(made[1], diff=replace(made[1].diff, transactions=(DEPOSIT,)))
        assert reasons(feed(rounds, [made[0], deposit])) == ["Publish", "NOT_AS_ASKED"]
        assert "an unrequested deposit" in round_.trouble


class TestLife:
    def test_nothing_after_the_block_is_taken(self) -> None:
        rounds, round_ = begun()
        rounds.fallback_answered(round_, L2_ID)
        made = sequence(SPEC_ID, 3)
        feed(rounds, made[:2])
        assert rounds.find(L2_ID) is round_
        rounds.seal(round_)
        assert reasons(feed(rounds, [made[2], made[0]])) == ["CLOSED", "CLOSED"]

    def test_newer_round_closes_the_older(self) -> None:
        rounds, first = begun()
        second = rounds.begin(PARENT.hash, replace(ATTRIBUTES, timestamp=ATTRIBUTES.timestamp + 2))
        assert (first.state, second.state) == (RoundState.SUPERSEDED, RoundState.OPEN)
        assert reasons(feed(rounds, sequence(SPEC_ID, 1))) == ["Hold"]
        # A late answer for the old round changes nothing for the new one.
        assert rounds.builder_answered(first, SPEC_ID, 0) == []
        assert second.builder_id is None

    def test_asking_again_goes_on(self) -> None:
        rounds, round_ = begun()
        feed(rounds, sequence(SPEC_ID, 2))
        assert rounds.begin(PARENT.hash, ATTRIBUTES) is round_
        rounds.seal(round_)
        assert rounds.begin(PARENT.hash, ATTRIBUTES) is not round_

    def test_same_request_after_its_block_was_taken_keeps_the_promises(self) -> None:
        rounds, first = begun()
        made, other = sequence(SPEC_ID, 3), sequence(SPEC_ID, 3, marker=1)
        feed(rounds, made[:2])
        rounds.seal(first)
        second = rounds.begin(PARENT.hash, ATTRIBUTES)
        assert reasons(feed(rounds, [other[0], other[1]])) == ["Publish", "EQUIVOCATION"]
        assert second.trouble.endswith("index 1, built again")
        rounds.seal(second)
        rounds.begin(PARENT.hash, ATTRIBUTES)
        assert reasons(feed(rounds, made)) == ["Publish"] * 3

    def test_fallback_that_does_not_build_cancels(self) -> None:
        rounds, round_ = begun()
        rounds.fallback_answered(round_, None)
        assert round_.state is RoundState.CANCELLED
        assert reasons(feed(rounds, sequence(SPEC_ID, 1))) == ["CLOSED"]

    def test_block_without_the_builder_closes_the_round(self) -> None:
        rounds, round_ = begun()
        rounds.supersede()
        assert round_.state is RoundState.SUPERSEDED

    def test_rounds_are_forgotten(self) -> None:
        rounds = Rounds()
        for number in range(MAX_ROUNDS + 3):
            round_ = rounds.begin(PARENT.hash, replace(ATTRIBUTES, timestamp=number))
            rounds.fallback_answered(round_, number.to_bytes(8, "big"))
        assert rounds.find((2).to_bytes(8, "big")) is None
        assert rounds.find((3).to_bytes(8, "big")) is not None
