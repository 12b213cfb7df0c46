"""Cumulative budgets: what fits into which flashblock, and the reason when it does not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flashctl.builder.payload.budget import BlockLimits, Budget, Refusal, TxCost, Usage

TRANSFER = TxCost(gas_limit=21_000, da_bytes=100, encoded_bytes=110)


def test_gas_opens_in_equal_steps() -> None:
    budget = Budget(BlockLimits(gas=140_000_000), 10)
    big = TxCost(gas_limit=14_000_001, da_bytes=100, encoded_bytes=100)
    assert budget.refusal(1, Usage(), big) is Refusal.GAS
    assert budget.refusal(2, Usage(), big) is None
    assert budget.refusal(2, Usage(gas=14_000_000), big) is Refusal.GAS


def test_the_last_flashblock_opens_all_of_it() -> None:
    budget = Budget(BlockLimits(gas=100), 7)
    assert budget.refusal(7, Usage(), TxCost(100, 0, 0)) is None
    assert budget.refusal(6, Usage(), TxCost(86, 0, 0)) is Refusal.GAS


def test_da_footprint_shares_the_gas_limit() -> None:
    """400,000 gas and scalar 400 leave room for 1,000 bytes: ten transfers of the minimum size."""
    budget = Budget(BlockLimits(gas=400_000, da_footprint_gas_scalar=400), 1)
    cheap = TxCost(gas_limit=1, da_bytes=100, encoded_bytes=100)
    assert budget.refusal(1, Usage(da_bytes=900), cheap) is None
    assert budget.refusal(1, Usage(da_bytes=901), cheap) is Refusal.DA_FOOTPRINT


@pytest.mark.parametrize(
    ("limits", "usage", "expected"),
    [
        (BlockLimits(gas=10**9, tx_da_bytes=99), Usage(), Refusal.TX_DA_SIZE),
        (BlockLimits(gas=10**9, block_da_bytes=500), Usage(da_bytes=401), Refusal.BLOCK_DA_SIZE),
        (BlockLimits(gas=10**9, block_bytes=500), Usage(encoded_bytes=391), Refusal.BLOCK_SIZE),
        (BlockLimits(gas=10**9), Usage(gas=10**9), Refusal.GAS),
    ],
)
def test_each_limit_has_its_reason(limits: BlockLimits, usage: Usage, expected: Refusal) -> None:
    assert Budget(limits, 1).refusal(1, usage, TRANSFER) is expected


def test_a_transaction_that_never_fits_is_known_at_admission() -> None:
    budget = Budget(BlockLimits(gas=1_000_000), 10)
    assert budget.never_fits(TxCost(1_000_001, 100, 100)) is Refusal.GAS
    assert budget.never_fits(TxCost(1_000_000, 100, 100)) is None


@given(gas=st.integers(1, 10**9), flashblocks=st.integers(1, 40), costs=st.lists(st.integers(1, 10**8)))
def test_a_block_never_exceeds_its_gas(gas: int, flashblocks: int, costs: list[int]) -> None:
    budget = Budget(BlockLimits(gas=gas), flashblocks)
    used = 0
    for place, cost in enumerate(costs):
        index = 1 + place * flashblocks // len(costs)
        if budget.refusal(index, Usage(gas=used), TxCost(cost, 0, 0)) is None:
            used += cost
        assert used <= gas * index // flashblocks
