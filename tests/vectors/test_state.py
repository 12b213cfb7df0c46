"""State tests made by EELS: outcome, logs, gas and state root of every family, on both tiers."""

from __future__ import annotations

import pytest
from support.spec_runs import RULES, run_case_on
from support.vectors import load, root_of, state_cases

from flashctl.evm.code import CodeCache, TierPolicy
from flashctl.evm.interpreter import interpret
from flashctl.evm.jit.compiler import compile_superblock

FAMILIES = sorted({case["family"] for case in load("state")})
TIERS = {
    "interpreter": TierPolicy(interpret, None),
    "compiler": TierPolicy(interpret, compile_superblock, hot_after=0),
    "mixed": TierPolicy(interpret, compile_superblock, hot_after=2),
}


TURNS = tuple(TIERS)


def mismatches(fork: str, family: str, each_on_all: bool) -> list[str]:
    wrong = []
    for place, case in enumerate(state_cases(fork, family)):
        right = [{"invalid": True} if "invalid" in outcome else outcome for outcome in case["outcomes"]]
        for tier in TURNS if each_on_all else (TURNS[place % len(TURNS)],):
            codes = CodeCache(RULES[fork].instructions, TIERS[tier])
            result = run_case_on(case, lambda instructions, codes=codes: codes)
            if result["outcomes"] != right or root_of(result["accounts"]) != case["root"]:
                wrong.append(f"{case['name']} on {tier}")
    return wrong


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("fork", RULES)
def test_each_case_on_one_tier(fork: str, family: str) -> None:
    assert mismatches(fork, family, each_on_all=False) == []


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("fork", RULES)
def test_each_case_on_every_tier(fork: str, family: str) -> None:
    assert mismatches(fork, family, each_on_all=True) == []
