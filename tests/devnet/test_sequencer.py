"""The consensus client's part: which timestamp comes next, and what a block is asked to be made of."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashctl.chain.genesis import build_genesis, devnet_genesis
from flashctl.devnet.l1 import L1_BLOCK_TIME, l1_origin_at
from flashctl.devnet.sequencer import SequencerSettings, attributes_after, next_timestamp
from flashctl.eth.transactions import DepositTx, decode_transaction
from flashctl.op.forks import OpFork
from flashctl.op.l1_attributes import DEPOSITOR, decode_l1_attributes

GENESIS_TIME = 1_700_000_000


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (GENESIS_TIME, GENESIS_TIME + 2),
        (GENESIS_TIME + 5, GENESIS_TIME + 2),
        (GENESIS_TIME + 6, GENESIS_TIME + 8),
        (GENESIS_TIME + 3600, GENESIS_TIME + 3602),
    ],
)
def test_a_chain_late_by_more_than_two_slots_goes_on_from_now(now: int, expected: int) -> None:
    assert next_timestamp(GENESIS_TIME, now, 2) == expected


@given(parent=st.integers(0, 2**33), lag=st.integers(-100, 10**7), block_time=st.integers(1, 60))
def test_a_slot_is_the_next_or_starts_now(parent: int, lag: int, block_time: int) -> None:
    timestamp = next_timestamp(parent, parent + lag, block_time)
    assert timestamp >= parent + block_time
    assert timestamp == parent + block_time or timestamp == parent + lag + block_time


@pytest.mark.parametrize("fork", [OpFork.ECOTONE, OpFork.HOLOCENE, OpFork.ISTHMUS, OpFork.JOVIAN])
def test_attributes_follow_the_fork(fork: OpFork) -> None:
    genesis = build_genesis(devnet_genesis(timestamp=GENESIS_TIME, latest_fork=fork))
    settings = SequencerSettings(operator_fee_scalar=7, min_base_fee=100)
    attributes = attributes_after(genesis.config, genesis.block.header, GENESIS_TIME + 2, settings)
    assert (attributes.eip1559_params is not None) == (fork >= OpFork.HOLOCENE)
    assert (attributes.min_base_fee == 100) == (fork >= OpFork.JOVIAN)
    deposit = decode_transaction(attributes.transactions[0])
    assert isinstance(deposit, DepositTx) and deposit.sender == DEPOSITOR
    layout, l1 = decode_l1_attributes(deposit.data)
    assert layout is max(known for known in (OpFork.ECOTONE, OpFork.ISTHMUS, OpFork.JOVIAN) if known <= fork)
    assert l1.number == l1_origin_at(GENESIS_TIME + 2).number
    assert l1.operator_fee_scalar == (7 if fork >= OpFork.ISTHMUS else 0)


def test_deposits_of_one_epoch_differ_by_their_sequence_number() -> None:
    genesis = build_genesis(devnet_genesis(timestamp=GENESIS_TIME))
    settings = SequencerSettings()
    deposits = {
        attributes_after(genesis.config, genesis.block.header, GENESIS_TIME + 2 * slot, settings).transactions
        for slot in range(1, L1_BLOCK_TIME)
    }
    assert len(deposits) == L1_BLOCK_TIME - 1
