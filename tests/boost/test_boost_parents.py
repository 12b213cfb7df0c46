"""Number and base fee of a block are checked before its first flashblock is published."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.boost_lab import Setup, play
from support.engines import DEPOSIT, Build, Driver, ToyBuilder, attributes_after, genesis, make_block

from flashctl.boost.parents import MAX_PARENTS, Child, Parents
from flashctl.boost.rounds import Drop, DropReason, Incoming, Publish, Rounds
from flashctl.core.engine.payloads import envelope_to_json
from flashctl.eth.blocks import Block
from flashctl.eth.hexdata import quantity, to_hex

TX = b"\x02\xc0tx"


def payload_of(block: Block) -> dict[str, Any]:
    payload: dict[str, Any] = envelope_to_json(block, block_value=0)["executionPayload"]
    return payload


def first_block() -> Block:
    start = genesis()
    return make_block(start, attributes_after(start), (DEPOSIT,))


class TestWhatIsKnown:
    def test_the_child_of_a_block_that_passed_by(self) -> None:
        parents, block = Parents(), first_block()
        parents.learn(payload_of(block))
        after = attributes_after(block.header)
        child = make_block(block.header, after, (DEPOSIT, TX)).header
        assert parents.child(block.hash, after.timestamp) == Child(2, child.base_fee_per_gas)
        assert parents.child(b"\1" * 32, after.timestamp) is None

    @pytest.mark.parametrize(
        ("changes", "known"),
        [
            ({"extraData": "0x"}, Child(2, None)),  # before Holocene
            ({"extraData": "0x01" + "00" * 16}, Child(2, None)),  # no denominator
            ({"extraData": "0x01" + "00" * 20}, Child(2, None)),  # of a fork to come
            ({"baseFeePerGas": "many"}, None),
            ({"blockHash": None}, None),
            ({"gasUsed": []}, None),
        ],
    )
    def test_little_is_known_of_others(self, changes: dict[str, Any], known: Child | None) -> None:
        parents, block = Parents(), first_block()
        parents.learn(payload_of(block) | changes)
        assert parents.child(block.hash, block.header.timestamp + 2) == known
        parents.learn(None)

    def test_blocks_are_forgotten(self) -> None:
        parents, block = Parents(), first_block()
        for number in range(MAX_PARENTS + 1):
            parents.learn(payload_of(block) | {"blockHash": to_hex(bytes([number]) * 32)})
        assert parents.child(bytes(32), 0) is None
        assert parents.child(b"\1" * 32, block.header.timestamp + 2) is not None

    def test_the_fallback_knows_better(self, caplog: pytest.LogCaptureFixture) -> None:
        parents, block = Parents(), first_block()
        parents.learn(payload_of(block))
        time = block.header.timestamp + 2
        child = parents.child(block.hash, time)
        assert child is not None and child.base_fee is not None
        parents.compare(child, {"baseFeePerGas": quantity(child.base_fee)})
        parents.compare(child, {})
        assert parents.child(block.hash, time) == child
        with caplog.at_level(logging.WARNING, "flashctl.boost"):
            for _ in range(2):
                parents.compare(child, {"baseFeePerGas": "0x1"})
        assert parents.child(block.hash, time) == Child(2, None)
        assert len(caplog.records) == 1


def test_index_0_with_another_number_or_base_fee_is_not_published() -> None:
    block = first_block()
    rounds, wanted = Rounds(), attributes_after(block.header)
    rounds.parents.learn(payload_of(block))
    round_ = rounds.begin(block.hash, wanted)
    builder = ToyBuilder(block.header)
    builder.builds[round_.expected_id] = Build(block.header, wanted, [DEPOSIT])
    first = builder.flashblock(round_.expected_id, [])
    assert first.base is not None
    for change, name in (({"block_number": 3}, "block number"), ({"base_fee_per_gas": 7}, "base fee")):
        wrong = replace(first, base=replace(first.base, **change))
        ((_, verdict),) = rounds.feed(Incoming(wrong, b"{}"), 0)
        assert verdict == Drop(DropReason.NOT_AS_ASKED, f"{name} differs")
    ((_, verdict),) = rounds.feed(Incoming(first, b"{}"), 0)
    assert isinstance(verdict, Publish)


def test_parents_are_learned_from_what_the_consensus_client_says(tmp_path: Path) -> None:
    async def scenario(s: Setup) -> None:
        driver: Driver = s.driver
        await driver.finish(await s.build([TX]))
        await s.build()
        assert s.round.child is not None
        assert s.round.child.number == driver.head.number + 1
        assert s.round.flashblocks[0].base.base_fee_per_gas == s.round.child.base_fee

    play(tmp_path, scenario)
