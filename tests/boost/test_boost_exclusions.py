"""Transactions that the fallback would include and the builder does not."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.boost_lab import Setup, play
from support.engines import DEPOSIT

from flashctl.boost.exclusions import MAX_TRACKED, RESEND_AFTER, Exclusions
from flashctl.eth.hexdata import to_hex
from flashctl.eth.keccak import keccak256

LOST = b"\x02\xc0lost"
TX = b"\x02\xc0tx"


class TestCounting:
    def test_what_stays_in_the_fallbacks_blocks_alone_is_stuck(self) -> None:
        exclusions = Exclusions()
        for block in range(1, 2 * RESEND_AFTER + 1):
            again = exclusions.returned(["0x7e00", "0xaa", "0xbb"], ["0x7e01", "0xbb"])
            assert again == (["0xaa"] if block % RESEND_AFTER == 0 else [])
            assert exclusions.stuck == (["0xaa"] if block >= RESEND_AFTER else [])
        exclusions.returned(["0xaa"], ["0xaa"])
        assert exclusions.stuck == []

    def test_one_that_leaves_the_fallbacks_pool_is_forgotten(self) -> None:
        exclusions = Exclusions()
        for own in (["0xaa"], ["0xaa"], [], ["0xaa"], ["0xaa"]):
            assert exclusions.returned(own, []) == []

    def test_the_builder_is_left_out_of_one_payload(self) -> None:
        exclusions = Exclusions(2)
        exclusions.returned(["0xaa"], [])
        assert not exclusions.leaves_out(b"1")
        exclusions.returned(["0xaa"], [])
        # Asked twice, decided once; and no second payload while the fallback does not include it either.
        assert [exclusions.leaves_out(identity) for identity in (b"2", b"2", b"3")] == [True, True, False]
        exclusions.returned(["0xaa"], [])
        assert not exclusions.leaves_out(b"4")
        exclusions.returned(["0xaa"], [])
        assert exclusions.leaves_out(b"5")

    def test_it_is_off_unless_asked_for(self) -> None:
        exclusions = Exclusions()
        for _ in range(100):
            exclusions.returned(["0xaa"], [])
        assert not exclusions.leaves_out(b"1")

    def test_it_is_bounded(self) -> None:
        exclusions = Exclusions()
        many = [f"0x02{number:08x}" for number in range(MAX_TRACKED + 10)]
        for _ in range(RESEND_AFTER):
            exclusions.returned(many, [])
        assert len(exclusions.stuck) == MAX_TRACKED

    @given(st.lists(st.tuples(st.sets(st.integers(0, 5)), st.sets(st.integers(0, 5))), max_size=30))
    def test_stuck_is_what_the_last_blocks_all_lack(self, blocks: list[tuple[set[int], set[int]]]) -> None:
        exclusions = Exclusions()
        for own, chosen in blocks:
            exclusions.returned([hex(n) for n in sorted(own)], [hex(n) for n in chosen])
        lacking = [own - chosen for own, chosen in blocks[-RESEND_AFTER:]]
        expected = set.intersection(*lacking) if len(lacking) == RESEND_AFTER else set()
        assert set(exclusions.stuck) == {hex(n) for n in expected}


def test_what_the_builder_lost_is_sent_to_it_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def scenario(s: Setup) -> None:
        s.fallback.pool = [LOST]
        for block in range(RESEND_AFTER + 1):
            # A builder that has lost it, and then has it again.
            made = await s.driver.finish(await s.build([TX]))
            assert made.transactions == (DEPOSIT, TX)
            if block < RESEND_AFTER - 1:
                assert s.builder.pool == []
        await s.until(lambda: s.builder.pool)
        assert s.builder.pool == [LOST]
        assert s.boost.metrics.stuck.value == 1
        assert s.boost.metrics.stuck_sent.value == 1
        told = [record for record in caplog.records if "builder leaves out" in record.message]
        assert len(told) == 1
        assert told[0].__dict__["first"] == to_hex(keccak256(LOST))
        await s.driver.finish(await s.build([TX, LOST]))
        assert s.boost.metrics.stuck.value == 0
        assert s.last_decision()["source"] == "builder"

    with caplog.at_level(logging.INFO, "flashctl.boost"):
        play(tmp_path, scenario)
    assert "builder leaves no transaction out any more" in caplog.text


def test_the_fallback_builds_one_payload_alone_and_nothing_of_it_is_published(tmp_path: Path) -> None:
    async def scenario(s: Setup) -> None:
        s.fallback.pool = [LOST]
        for _ in range(2):
            await s.driver.finish(await s.build([TX]))
        builds, published = len(s.builder.builds), s.boost.metrics.published.value
        identity = await s.driver.begin()
        assert await s.driver.begin() == identity
        block = await s.driver.finish(identity)
        assert block.transactions == (DEPOSIT, LOST)
        assert s.boost.metrics.left_out.value == 1  # asked for twice
        assert len(s.builder.builds) == builds
        assert s.boost.metrics.published.value == published
        s.fallback.pool = []
        # The builder has the block and goes on.
        assert (await s.driver.finish(await s.build([TX]))).transactions == (DEPOSIT, TX)
        assert s.last_decision()["source"] == "builder"
        assert await s.health() == 200

    play(tmp_path, scenario, max_exclusion_blocks=2)
