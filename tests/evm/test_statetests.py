"""ethereum/tests' GeneralStateTests at Cancun: state root and logs hash of every case, on both tiers.

The default run takes a seeded sample; `-m slow` takes all 7,198. Nothing is left out. Blob transactions,
which the product refuses (the OP Stack has none), are priced by the harness, so that their cases apply too.
The sample is drawn from all but the loops that burn billions of gas (LONG).
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from functools import cache

import pytest
from support.reference import reference_path
from support.statetests import Case, cases, pre_world, run_case

from flashctl.evm.code import CodeCache, TierPolicy
from flashctl.evm.forks import CANCUN
from flashctl.evm.machine import compiler_policy, interpreter_policy
from flashctl.evm.precompiles.tables import CANCUN as PRECOMPILES

RULES = CANCUN.with_precompiles(PRECOMPILES)

LONG = ("vmPerformance/loopExp", "vmPerformance/loopMul")
"""Up to 2 million rounds of an expensive instruction; three of them take the interpreter two minutes each."""

SAMPLE_SIZE = 2_100
SEED = 7_198

TIERS = {"interpreter": interpreter_policy, "compiler": compiler_policy}


@cache
def all_cases() -> tuple[Case, ...]:
    return tuple(cases(reference_path("statetests/cancun-dev.jsonl.xz")))


def mismatches(chosen: Iterable[Case], policy: TierPolicy) -> list[str]:
    codes = CodeCache(RULES.instructions, policy)
    wrong: list[str] = []
    pre, world = None, None
    for case in chosen:
        if case.pre is not pre or world is None:
            pre, world = case.pre, pre_world(case.pre)
        result = run_case(case, RULES, codes, world)
        if result.root != case.expected_root:
            wrong.append(f"{case.name}: state root")
        elif result.logs_hash != case.expected_logs:
            wrong.append(f"{case.name}: logs")
    return wrong


def is_long(case: Case) -> bool:
    return any(part in case.name for part in LONG)


@pytest.mark.parametrize("tier", TIERS)
def test_sample_is_exact(tier: str) -> None:
    usual = [case for case in all_cases() if not is_long(case)]
    places = sorted(random.Random(SEED).sample(range(len(usual)), SAMPLE_SIZE))
    assert mismatches((usual[place] for place in places), TIERS[tier]()) == []


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("tier", TIERS)
def test_all_are_exact(tier: str) -> None:
    assert len(all_cases()) == 7_198
    assert mismatches(all_cases(), TIERS[tier]()) == []
