"""Checking a block that someone else made: every wrong field has its name in the error."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from support.op_chain import (
    ISTHMUS,
    JOVIAN,
    SENDER,
    START,
    attributes_deposit,
    chain_at,
    no_ancestors,
    parent_header,
    transfer,
    world_with,
)

from flashctl.eth.blocks import Block, Header
from flashctl.evm.world import World
from flashctl.op.attributes import PayloadAttributes
from flashctl.op.config import ChainConfig
from flashctl.op.envelope import TxEnvelope
from flashctl.op.execution import BlockContext, BlockExecution, InvalidBlock, SealedBlock, execute_block
from flashctl.op.forks import OpFork

WORLD = world_with({SENDER: (10**20, b"")})


def build(config: ChainConfig, *envelopes: TxEnvelope) -> tuple[Header, SealedBlock]:
    parent = parent_header(config, WORLD)
    fork = config.fork_at(START + 2)
    attributes = PayloadAttributes(
        START + 2,
        b"\x33" * 32,
        b"\x42" * 20,
        gas_limit=30_000_000,
        parent_beacon_block_root=b"\x44" * 32,
        eip1559_params=bytes(8),
        min_base_fee=0 if fork >= OpFork.JOVIAN else None,
    )
    context = BlockContext.from_attributes(config, parent, attributes)
    execution = BlockExecution(config, parent, context, WORLD, no_ancestors)
    for envelope in envelopes:
        execution.execute(envelope)
    return parent, execution.seal()


@cache
def good() -> tuple[Header, SealedBlock]:
    return build(JOVIAN, attributes_deposit(), transfer(0), transfer(1))


def check(block: Block, parent: Header, config: ChainConfig = JOVIAN, world: World = WORLD) -> SealedBlock:
    return execute_block(config, parent, block, world, no_ancestors)


def test_what_was_built_is_valid() -> None:
    parent, sealed = good()
    checked = check(sealed.block, parent)
    assert checked.hash == sealed.hash
    assert checked.receipts == sealed.receipts
    assert checked.world.root == sealed.world.root


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("parent_hash", b"\x01" * 32),
        ("ommers_hash", b"\x01" * 32),
        ("state_root", b"\x01" * 32),
        ("transactions_root", b"\x01" * 32),
        ("receipts_root", b"\x01" * 32),
        ("logs_bloom", b"\x01" * 256),
        ("difficulty", 1),
        ("number", 7),
        ("gas_used", 1),
        ("timestamp", START),
        ("extra_data", b""),
        ("nonce", b"\x01" * 8),
        ("base_fee_per_gas", 1),
        ("withdrawals_root", b"\x01" * 32),
        ("blob_gas_used", 1),
        ("excess_blob_gas", 1),
        ("parent_beacon_block_root", None),
        ("requests_hash", b"\x01" * 32),
    ],
)
def test_a_wrong_field_is_named(field: str, value: Any) -> None:
    parent, sealed = good()
    wrong = replace(sealed.block, header=replace(sealed.header, **{field: value}))
    with pytest.raises(InvalidBlock, match=f"invalid {field}") as caught:
        check(wrong, parent)
    assert caught.value.field == field


def test_fields_that_only_change_the_hash_of_the_state_are_noticed() -> None:
    parent, sealed = good()
    for changes in ({"fee_recipient": b"\x01" * 20}, {"gas_limit": 29_000_000}):
        wrong = replace(sealed.block, header=replace(sealed.header, **changes))
        if "fee_recipient" in changes:
            with pytest.raises(InvalidBlock, match="invalid state_root"):
                check(wrong, parent)
        else:
            # Any gas limit is allowed, and nothing in this block looks at it.
            assert check(wrong, parent).header.gas_limit == 29_000_000


def test_gas_above_the_limit() -> None:
    parent, sealed = good()
    wrong = replace(sealed.block, header=replace(sealed.header, gas_limit=1_000))
    with pytest.raises(InvalidBlock, match="invalid gas_used: expected at most 1000"):
        check(wrong, parent)


def test_withdrawals_must_be_an_empty_list() -> None:
    parent, sealed = good()
    with pytest.raises(InvalidBlock, match="invalid withdrawals: expected an empty list, got none"):
        check(replace(sealed.block, withdrawals=None), parent)


def test_a_transaction_that_cannot_be_included_is_named() -> None:
    parent, sealed = good()
    raws = (*sealed.block.transactions, transfer(9).raw)
    with pytest.raises(InvalidBlock, match=r"transaction 3 \(0x[0-9a-f]{64}\): nonce too high"):
        check(replace(sealed.block, transactions=raws), parent)
    with pytest.raises(InvalidBlock, match="undecodable transaction"):
        check(replace(sealed.block, transactions=(*sealed.block.transactions, b"\x02\xc0")), parent)


def test_jovian_blocks_begin_with_l1_attributes() -> None:
    parent, sealed = build(JOVIAN)
    with pytest.raises(InvalidBlock, match="must begin with the L1 attributes deposit"):
        check(sealed.block, parent)
    parent, sealed = build(JOVIAN, attributes_deposit(OpFork.ISTHMUS))
    with pytest.raises(InvalidBlock, match="not the L1 attributes of jovian, in a block after its first"):
        check(sealed.block, parent)
    parent, sealed = build(ISTHMUS, transfer(0))
    assert check(sealed.block, parent, ISTHMUS).hash == sealed.hash


def test_the_activation_block_of_jovian_still_has_isthmus_attributes() -> None:
    config = chain_at(OpFork.JOVIAN, activation=START + 2)
    parent, sealed = build(config, attributes_deposit(OpFork.ISTHMUS))
    assert check(sealed.block, parent, config).hash == sealed.hash
