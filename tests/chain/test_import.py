"""Blocks from outside: executed, compared, kept or refused, at every fork and across restarts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.devnet_chain import GWEI, address, build, contract, encode_call, mine, open_devnet, sign
from support.examples import examples

from flashctl.chain.chain import Chain, UnknownBlock
from flashctl.eth.blocks import Block, Header
from flashctl.eth.keccak import keccak256
from flashctl.eth.rlp import encode_bytes, encode_uint, join_list
from flashctl.op.execution import InvalidBlock
from flashctl.op.forks import OpFork

PROBE = contract("Probe")
PROBE_AT = keccak256(join_list((encode_bytes(address(0)), encode_uint(0))))[12:]

FORKS = [fork for fork in OpFork if fork >= OpFork.CANYON]


def fill(chain: Chain) -> list[Block]:
    """Three blocks of deployments, calls, failures and transfers."""
    blocks = [
        mine(
            chain, [sign(0, 0, data=PROBE.creation_code, gas=2_000_000), sign(1, 0, to=address(2), value=5)]
        ),
        mine(
            chain,
            [
                sign(0, 1, to=PROBE_AT, data=encode_call(PROBE, "increment()")),
                sign(0, 2, to=PROBE_AT, data=encode_call(PROBE, "fill(uint256,uint256)", 1, 20)),
                sign(1, 1, to=PROBE_AT, data=encode_call(PROBE, "refuse(uint256)", 1)),
            ],
        ),
        mine(chain, [sign(0, 3, to=PROBE_AT, data=encode_call(PROBE, "clear(uint256,uint256)", 1, 20))]),
    ]
    return [block.block for block in blocks]


def follow(chain: Chain, blocks: list[Block]) -> None:
    for block in blocks:
        chain.import_block(block)
    chain.set_head(blocks[-1].hash)


@pytest.mark.parametrize("fork", FORKS, ids=lambda fork: fork.label)
def test_what_one_chain_builds_another_imports(fork: OpFork) -> None:
    builder, follower = open_devnet(latest_fork=fork), open_devnet(latest_fork=fork)
    blocks = fill(builder)
    follow(follower, blocks)
    assert follower.head == builder.head
    for block in blocks:
        ours, theirs = follower.block(block.hash), builder.block(block.hash)
        assert ours is not None
        assert theirs is not None
        assert ours.receipts == theirs.receipts
        assert [e.sender for e in ours.envelopes] == [e.sender for e in theirs.envelopes]


def test_a_follower_goes_on_after_a_restart(tmp_path: Path) -> None:
    builder = open_devnet()
    blocks = fill(builder)
    for block in blocks:
        follower = open_devnet(tmp_path)
        follow(follower, [block])
        follower.close()
    follower = open_devnet(tmp_path)
    assert follower.head == builder.head
    # The state it reads back serves execution of the next block, with every account and slot it needs.
    more = mine(builder, [sign(0, 4, to=PROBE_AT, data=encode_call(PROBE, "increment()"))])
    follow(follower, [more.block])
    assert follower.head.hash == more.hash
    follower.close()


def tampered(header: Header) -> dict[str, Header]:
    """One wrong header for every field that execution or its parent decides."""
    return {
        "state_root": replace(header, state_root=bytes(32)),
        "receipts_root": replace(header, receipts_root=bytes(32)),
        "transactions_root": replace(header, transactions_root=bytes(32)),
        "logs_bloom": replace(header, logs_bloom=b"\x01" * 256),
        "gas_used": replace(header, gas_used=header.gas_used + 1),
        "base_fee": replace(header, base_fee_per_gas=(header.base_fee_per_gas or 0) + 1),
        "withdrawals_root": replace(header, withdrawals_root=bytes(32)),
        "blob_gas_used": replace(header, blob_gas_used=(header.blob_gas_used or 0) + 1),
        "number": replace(header, number=header.number + 1),
        "timestamp": replace(header, timestamp=header.timestamp - 2),
        "extra_data": replace(header, extra_data=b""),
        "requests_hash": replace(header, requests_hash=bytes(32)),
        "difficulty": replace(header, difficulty=1),
        "beacon_root": replace(header, parent_beacon_block_root=None),
    }


FIELDS = sorted(tampered(open_devnet().head))


@pytest.mark.parametrize("field", FIELDS)
def test_a_block_that_lies_is_refused_and_leaves_nothing(field: str) -> None:
    builder, follower = open_devnet(), open_devnet()
    block = mine(builder, [sign(0, 0, to=address(1), value=1)]).block
    false = Block(tampered(block.header)[field], block.transactions, block.withdrawals)
    with pytest.raises(InvalidBlock) as caught:
        follower.import_block(false)
    assert "\n" not in str(caught.value)
    assert follower.header(false.hash) is None
    assert follower.import_block(block).hash == block.hash


@settings(max_examples=examples(60))
@given(st.data())
def test_changed_transactions_are_refused(data: st.DataObject) -> None:
    """Any change to the raw transactions of a valid block makes it invalid, never a crash."""
    chain = open_devnet()
    block = build(chain, [sign(0, 0, to=address(1), value=1), sign(1, 0, to=address(2), value=1)]).block
    raws = list(block.transactions)
    index = data.draw(st.integers(0, len(raws) - 1))
    position = data.draw(st.integers(0, len(raws[index]) - 1))
    change = data.draw(st.integers(1, 255))
    raw = bytearray(raws[index])
    raw[position] ^= change
    raws[index] = bytes(raw)
    with pytest.raises(InvalidBlock):
        chain.import_block(Block(block.header, tuple(raws), block.withdrawals))
    assert chain.head.number == 0


def test_a_block_without_its_parent_waits_for_it() -> None:
    builder, follower = open_devnet(), open_devnet()
    blocks = fill(builder)
    with pytest.raises(UnknownBlock, match="unknown parent"):
        follower.import_block(blocks[1])
    follow(follower, blocks)
    assert follower.head == builder.head


def test_branches_are_executed_upon_their_own_state() -> None:
    chain = open_devnet()
    fork_point = mine(chain, [sign(0, 0, data=PROBE.creation_code, gas=2_000_000)])
    increment = encode_call(PROBE, "increment()")
    one = mine(chain, [sign(0, 1, to=PROBE_AT, data=increment), sign(0, 2, to=PROBE_AT, data=increment)])
    other = mine(
        chain, [sign(0, 1, to=PROBE_AT, data=increment)], parent=fork_point.header, base_fee=5 * GWEI
    )
    slot = int.from_bytes(PROBE_AT, "big")
    assert chain.world(one.hash).storage(slot, 0) == 2
    assert chain.world(other.hash).storage(slot, 0) == 1
    longer = mine(chain, [sign(0, 2, to=PROBE_AT, data=increment)])
    assert chain.head.hash == longer.hash
    assert chain.world(longer.hash).storage(slot, 0) == 2


def test_importing_twice_executes_once() -> None:
    builder, follower = open_devnet(), open_devnet()
    block = mine(builder).block
    assert follower.import_block(block) is follower.import_block(block)
