"""The EVM of each OP Stack fork: an Ethereum fork's rules with OP's own table of precompiled contracts.

OP adds P256VERIFY before Ethereum does, and bounds the inputs of contracts whose price grows with them,
because a fault proof must be able to run any call on L1 within a block. Bounds in bytes:

| from    | bn254 pairing | G1 MSM  | G2 MSM  | BLS pairing |
|---------|---------------|---------|---------|-------------|
| Granite | 112,687       |         |         |             |
| Isthmus | 112,687       | 513,760 | 488,448 | 235,008     |
| Jovian  | 81,984        | 288,960 | 278,784 | 156,672     |
| Karst   | 57,600        | 288,960 | 278,784 | 156,672     |

https://specs.optimism.io/protocol/precompiles.html and the exec-engine page of each fork.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Final

from flashctl.errors import DataError
from flashctl.evm import forks as ethereum
from flashctl.evm.forks import EvmRules
from flashctl.evm.precompiles import tables
from flashctl.evm.precompiles.bls12_381 import BLS12_G1MSM, BLS12_G2MSM, BLS12_PAIRING
from flashctl.evm.precompiles.bn254 import BN254_PAIRING
from flashctl.evm.precompiles.contract import Precompile, by_address
from flashctl.evm.precompiles.p256 import P256VERIFY
from flashctl.op.forks import OpFork

__all__ = ["PRECOMPILES", "UnsupportedFork", "rules_for"]

_Table = Mapping[int, Precompile]


class UnsupportedFork(DataError):
    """A block of a fork that this package does not execute."""

    def __init__(self, fork: OpFork) -> None:
        super().__init__(f"blocks of {fork.label} are not executed; the first fork supported is canyon")


def _limited(table: _Table, *limits: tuple[Precompile, int]) -> _Table:
    return {**table, **by_address(contract.limited(size) for contract, size in limits)}


_CANYON: Final[_Table] = tables.BERLIN
_ECOTONE: Final[_Table] = tables.CANCUN
_FJORD: Final[_Table] = {**_ECOTONE, **by_address((P256VERIFY,))}
_GRANITE: Final[_Table] = _limited(_FJORD, (BN254_PAIRING, 112_687))
_ISTHMUS: Final[_Table] = _limited(
    {**tables.PRAGUE, **_GRANITE}, (BLS12_G1MSM, 513_760), (BLS12_G2MSM, 488_448), (BLS12_PAIRING, 235_008)
)
_JOVIAN: Final[_Table] = _limited(
    _ISTHMUS,
    (BN254_PAIRING, 81_984),
    (BLS12_G1MSM, 288_960),
    (BLS12_G2MSM, 278_784),
    (BLS12_PAIRING, 156_672),
)
_OSAKA_PRICES: Final[_Table] = {address: tables.OSAKA[address] for address in (0x05, 0x100)}
_KARST: Final[_Table] = _limited({**_JOVIAN, **_OSAKA_PRICES}, (BN254_PAIRING, 57_600))

PRECOMPILES: Final[Mapping[OpFork, _Table]] = {
    OpFork.CANYON: _CANYON,
    OpFork.ECOTONE: _ECOTONE,
    OpFork.FJORD: _FJORD,
    OpFork.GRANITE: _GRANITE,
    OpFork.HOLOCENE: _GRANITE,
    OpFork.ISTHMUS: _ISTHMUS,
    OpFork.JOVIAN: _JOVIAN,
    OpFork.KARST: _KARST,
}
"""Precompiled contracts by fork and address."""

_ETHEREUM: Final[Mapping[OpFork, EvmRules]] = {
    OpFork.CANYON: ethereum.SHANGHAI,
    OpFork.ECOTONE: ethereum.CANCUN,
    OpFork.FJORD: ethereum.CANCUN,
    OpFork.GRANITE: ethereum.CANCUN,
    OpFork.HOLOCENE: ethereum.CANCUN,
    OpFork.ISTHMUS: ethereum.PRAGUE,
    OpFork.JOVIAN: ethereum.PRAGUE,
    OpFork.KARST: ethereum.OSAKA,
}


@cache
def rules_for(fork: OpFork) -> EvmRules:
    """The EVM rules of a fork, with OP's precompiles.

    Raises:
        UnsupportedFork: If the fork is older than Canyon, the first that this package executes.
    """
    if fork not in _ETHEREUM:
        raise UnsupportedFork(fork)
    return _ETHEREUM[fork].with_precompiles(PRECOMPILES[fork])
