"""Random transactions on EELS and on both tiers: outcome, gas, logs and every account must be the same.

Shanghai to Osaka; for Prague and Osaka there are no fixtures. The default run takes 150 seeds of each fork;
`-m slow` takes 10,000 of each of the two, and 2,000 of the others. A mismatch names its seed:
`make_case(seed, fork)` gives the case back.
"""

from __future__ import annotations

import pytest
from support.eels import Oracle, oracle_python
from support.programs import make_case
from support.spec_runs import RULES, Json, expected, run_case_on

from flashctl.evm.code import CodeCache, TierPolicy
from flashctl.evm.interpreter import interpret
from flashctl.evm.jit.compiler import compile_superblock

TIERS = {
    "interpreter": TierPolicy(interpret, None),
    "compiler": TierPolicy(interpret, compile_superblock, hot_after=0),
    "mixed": TierPolicy(interpret, compile_superblock, hot_after=2),
}
"""`mixed` compiles in the middle of a run, along the branches it has seen."""


def run_case(case: Json, policy: TierPolicy) -> Json:
    """A case on one tier, its transactions on the same codes."""
    codes = CodeCache(RULES[case["fork"]].instructions, policy)
    return run_case_on(case, lambda instructions: codes)


def mismatches(fork: str, seeds: range) -> list[str]:
    wrong: list[str] = []
    with Oracle(oracle_python()) as oracle:
        for seed in seeds:
            case = make_case(seed, fork)
            oracle.ask(case)
            results = {tier: run_case(case, policy) for tier, policy in TIERS.items()}
            right = expected(oracle.answer())
            wrong += [f"{fork} {seed} {tier}" for tier, result in results.items() if result != right]
    return wrong


@pytest.mark.parametrize("fork", RULES)
def test_sample_is_equal(fork: str) -> None:
    assert mismatches(fork, range(150)) == []


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    ("fork", "count"), [("shanghai", 2_000), ("cancun", 2_000), ("prague", 10_000), ("osaka", 10_000)]
)
def test_many_are_equal(fork: str, count: int) -> None:
    assert mismatches(fork, range(1_000, 1_000 + count)) == []
