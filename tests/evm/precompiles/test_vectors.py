"""go-ethereum's precompile vectors: output, price and failure of every contract."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.reference import reference_path

from flashctl.evm.precompiles import Precompile, PrecompileError
from flashctl.evm.precompiles.basic import ECRECOVER
from flashctl.evm.precompiles.blake2f import BLAKE2F
from flashctl.evm.precompiles.bls12_381 import (
    BLS12_G1ADD,
    BLS12_G1MSM,
    BLS12_G2ADD,
    BLS12_G2MSM,
    BLS12_MAP_FP2_TO_G2,
    BLS12_MAP_FP_TO_G1,
    BLS12_PAIRING,
)
from flashctl.evm.precompiles.bn254 import BN254_ADD, BN254_MUL, BN254_PAIRING
from flashctl.evm.precompiles.kzg import POINT_EVALUATION
from flashctl.evm.precompiles.modexp import MODEXP, MODEXP_OSAKA
from flashctl.evm.precompiles.tables import OSAKA

VECTORS: dict[str, Precompile] = {
    "blake2F": BLAKE2F,
    "blsG1Add": BLS12_G1ADD,
    "blsG1Mul": BLS12_G1MSM,
    "blsG2Add": BLS12_G2ADD,
    "blsG2Mul": BLS12_G2MSM,
    "blsMapG1": BLS12_MAP_FP_TO_G1,
    "blsMapG2": BLS12_MAP_FP2_TO_G2,
    "blsPairing": BLS12_PAIRING,
    "bn256Add": BN254_ADD,
    "bn256Pairing": BN254_PAIRING,
    "bn256ScalarMul": BN254_MUL,
    "ecRecover": ECRECOVER,
    "modexp": MODEXP,
    "modexp_eip2565": MODEXP,
    "modexp_eip7883": MODEXP_OSAKA,
    "p256Verify": OSAKA[0x100],
    "pointEvaluation": POINT_EVALUATION,
}
OTHER_PRICE = {"modexp"}
"""Files priced by a fork before Shanghai: their output is checked, their gas is not."""

FAILURES: dict[str, Precompile] = {
    "fail-blake2f": BLAKE2F,
    "fail-blsG1Add": BLS12_G1ADD,
    "fail-blsG1Mul": BLS12_G1MSM,
    "fail-blsG1MultiExp": BLS12_G1MSM,
    "fail-blsG2Add": BLS12_G2ADD,
    "fail-blsG2Mul": BLS12_G2MSM,
    "fail-blsG2MultiExp": BLS12_G2MSM,
    "fail-blsMapG1": BLS12_MAP_FP_TO_G1,
    "fail-blsMapG2": BLS12_MAP_FP2_TO_G2,
    "fail-blsPairing": BLS12_PAIRING,
}


def load(name: str) -> list[dict[str, Any]]:
    cases: list[dict[str, Any]] = json.loads(
        reference_path(f"precompiles/go-ethereum/{name}.json").read_text()
    )
    return cases


def test_every_file_is_used() -> None:
    names = {path.stem for path in reference_path("precompiles/go-ethereum").glob("*.json")}
    assert names == set(VECTORS) | set(FAILURES)


@pytest.mark.parametrize("name", VECTORS)
def test_output_and_price(name: str) -> None:
    contract = VECTORS[name]
    for case in load(name):
        data = bytes.fromhex(case["Input"])
        # Millions of rounds are a matter of bench/precompiles.py where blake2b-py is missing.
        if contract is BLAKE2F and case["Gas"] > 100_000:
            pytest.importorskip("blake2b", reason="eight million rounds take a minute in Python")
        assert contract.run(data).hex() == case["Expected"], case["Name"]
        if name not in OTHER_PRICE:
            assert contract.gas(data) == case["Gas"], case["Name"]


@pytest.mark.parametrize("name", FAILURES)
def test_refusals(name: str) -> None:
    for case in load(name):
        with pytest.raises(PrecompileError):
            FAILURES[name].run(bytes.fromhex(case["Input"]))
