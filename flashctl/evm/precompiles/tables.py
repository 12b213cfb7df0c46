"""Which contracts a fork of Ethereum has, each table derived from its predecessor.

Berlin   the nine of Istanbul, modexp at EIP-2565's price   (Shanghai is the same)
Cancun   point evaluation (EIP-4844)
Prague   BLS12-381 (EIP-2537)
Osaka    modexp bounded and dearer (EIP-7823, EIP-7883), P256VERIFY (EIP-7951)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from flashctl.evm.precompiles.basic import ECRECOVER, IDENTITY, RIPEMD160, SHA256
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
from flashctl.evm.precompiles.contract import Precompile, by_address
from flashctl.evm.precompiles.kzg import POINT_EVALUATION
from flashctl.evm.precompiles.modexp import MODEXP, MODEXP_OSAKA
from flashctl.evm.precompiles.p256 import P256VERIFY, P256VERIFY_GAS_OSAKA

__all__ = ["BERLIN", "CANCUN", "OSAKA", "PRAGUE"]

BERLIN: Final[Mapping[int, Precompile]] = by_address(
    (ECRECOVER, SHA256, RIPEMD160, IDENTITY, MODEXP, BN254_ADD, BN254_MUL, BN254_PAIRING, BLAKE2F)
)

CANCUN: Final[Mapping[int, Precompile]] = {**BERLIN, **by_address((POINT_EVALUATION,))}

PRAGUE: Final[Mapping[int, Precompile]] = {
    **CANCUN,
    **by_address(
        (
            BLS12_G1ADD,
            BLS12_G1MSM,
            BLS12_G2ADD,
            BLS12_G2MSM,
            BLS12_PAIRING,
            BLS12_MAP_FP_TO_G1,
            BLS12_MAP_FP2_TO_G2,
        )
    ),
}

OSAKA: Final[Mapping[int, Precompile]] = {
    **PRAGUE,
    **by_address((MODEXP_OSAKA, P256VERIFY.priced(lambda data: P256VERIFY_GAS_OSAKA))),
}
