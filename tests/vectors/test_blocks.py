"""The blocks of the pack beyond what `tests/op/test_op_blocks.py` asks of every block: what a sequencer asked
for, and one change in each of its fields."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.op_blocks import load
from support.vectors import Json, block_cases, made_sequences

from flashctl.core.engine.payloads import attributes_from_json, attributes_to_json
from flashctl.eth.hexdata import to_hex
from flashctl.op.attributes import PayloadAttributes, check_attributes, payload_id
from flashctl.op.config import ChainConfig
from flashctl.op.forks import OpFork

CASES = block_cases()


def test_every_fork_is_there_from_its_first_block_on() -> None:
    forks = {OpFork[case["fork"].upper()] for case in CASES.values()}
    assert forks == {fork for fork in OpFork if fork >= OpFork.CANYON}
    for fork in forks - {OpFork.CANYON}:
        config = ChainConfig.from_rollup(CASES[f"{fork.label}-activation"]["rollup_config"])
        block = load(f"{fork.label}-activation")
        assert config.activates(fork, block.block.header.timestamp, block.parent.timestamp)


@pytest.mark.parametrize("name", CASES)
def test_what_was_asked_for(name: str) -> None:
    case, recorded = CASES[name], load(name)
    attributes = attributes_from_json(case["asked"])
    assert attributes_to_json(attributes) == case["asked"]
    check_attributes(recorded.config, attributes)
    assert to_hex(payload_id(recorded.parent.hash, attributes)) == case["payload_id"]
    assert recorded.block.transactions[: len(attributes.transactions)] == attributes.transactions


def changes(attributes: PayloadAttributes) -> list[PayloadAttributes]:
    """The same with one field changed."""
    return [
        replace(attributes, timestamp=attributes.timestamp + 1),
        replace(attributes, prev_randao=bytes(32)),
        replace(attributes, fee_recipient=bytes(20)),
        replace(attributes, transactions=attributes.transactions * 2),
        replace(attributes, no_tx_pool=True),
        replace(attributes, gas_limit=1),
        replace(attributes, parent_beacon_block_root=bytes(32)),
        replace(attributes, eip1559_params=b"\x01" * 8),
        replace(attributes, min_base_fee=7),
    ]


def test_every_field_is_in_the_payload_id() -> None:
    case: Json = CASES["jovian-2"]
    attributes = attributes_from_json(case["asked"])
    parent = load("jovian-2").parent.hash
    ids = {payload_id(parent, each) for each in [attributes, *changes(attributes)]}
    assert len(ids) == 1 + len(changes(attributes))


def test_sequences_have_the_id_of_their_block() -> None:
    for sequence in made_sequences():
        asked = CASES[sequence["_op_block"].removesuffix(".json.gz")]
        assert {message["payload_id"] for message in sequence["flashblocks"]} == {asked["payload_id"]}
