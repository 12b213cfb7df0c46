"""Chain configurations known by name, so that an operator types `base-mainnet` and not a path.

Fork times are those of the superchain registry (https://github.com/ethereum-optimism/superchain-registry) as
of August 2026. Base left the registry: up to Jovian its times are the registry's last ones; Azul, its own
name for the Osaka EVM, takes Karst's place (https://docs.base.org/base-chain/specs/upgrades/azul/overview).
Azul keeps Jovian's bn254 pairing limit of 81,984 bytes where Karst lowers it to 57,600, and the natively
implemented tokens that Base added in June 2026 (Beryl) are not known here: blocks of Base after that date are
decoded, not executed exactly.
"""

from __future__ import annotations

from typing import Final

from flashctl.errors import UsageError
from flashctl.op.config import ChainConfig, parse_schedule
from flashctl.op.forks import OpFork

__all__ = ["CHAINS", "chain_by_id", "chain_by_name"]

_MAINNET: Final = {
    OpFork.REGOLITH: 0,
    OpFork.CANYON: 1704992401,
    OpFork.ECOTONE: 1710374401,
    OpFork.FJORD: 1720627201,
    OpFork.GRANITE: 1726070401,
    OpFork.HOLOCENE: 1736445601,
    OpFork.ISTHMUS: 1746806401,
    OpFork.JOVIAN: 1764691201,
    OpFork.KARST: 1783526401,
}
_SEPOLIA: Final = {
    OpFork.REGOLITH: 0,
    OpFork.CANYON: 1699981200,
    OpFork.ECOTONE: 1708534800,
    OpFork.FJORD: 1716998400,
    OpFork.GRANITE: 1723478400,
    OpFork.HOLOCENE: 1732633200,
    OpFork.ISTHMUS: 1744905600,
    OpFork.JOVIAN: 1763568001,
    OpFork.KARST: 1781712001,
}
_BORN_AT_GRANITE: Final = {fork: 0 for fork in OpFork if OpFork.REGOLITH <= fork <= OpFork.GRANITE}
_BORN_AT_ECOTONE: Final = {fork: 0 for fork in OpFork if OpFork.REGOLITH <= fork <= OpFork.ECOTONE}


def _chain(
    name: str,
    chain_id: int,
    times: dict[OpFork, int],
    genesis_hash: str,
    *,
    block_time: int = 2,
    elasticity: int = 6,
    denominator: int = 50,
) -> ChainConfig:
    return ChainConfig(
        chain_id,
        parse_schedule(times),
        name,
        eip1559_elasticity=elasticity,
        eip1559_denominator=denominator,
        block_time=block_time,
        genesis_hash=bytes.fromhex(genesis_hash),
    )


_ALL: Final = (
    _chain("op-mainnet", 10, _MAINNET, "dbf6a80fef073de06add9b0d14026d6e5a86c85f6d102c36d3d8e9cf89c2afd3"),
    _chain(
        "op-sepolia", 11155420, _SEPOLIA, "102de6ffb001480cc9b8b548fd05c34cd4f46ae4aa91759393db90ea0409887d"
    ),
    _chain(
        "base-mainnet",
        8453,
        _MAINNET | {OpFork.KARST: 1779991200},
        "f712aa9241cc24369b143cf6dce85f0902a9731e70d66818a3a5845b296c73dd",
    ),
    _chain(
        "base-sepolia",
        84532,
        _SEPOLIA | {OpFork.KARST: 1776708000},
        "0dcc9e089e30b90ddfc55be9a37dd15bc551aeee999d2e2b51414c54eaf934e4",
        elasticity=10,
    ),
    _chain(
        "unichain-mainnet",
        130,
        _MAINNET | _BORN_AT_GRANITE,
        "3425162ddf41a0a1f0106d67b71828c9a9577e6ddeb94e4f33d2cde1fdc3befe",
        block_time=1,
    ),
    _chain(
        "unichain-sepolia",
        1301,
        _SEPOLIA | _BORN_AT_GRANITE | {OpFork.HOLOCENE: 1734559200},
        "b7fe0bc9f98ca03294ca0094ff9374cc3e64130b6ec85850d6e260191f48bfe7",
        block_time=1,
    ),
    _chain(
        "worldchain-mainnet",
        480,
        _BORN_AT_ECOTONE
        | {
            OpFork.FJORD: 1721826000,
            OpFork.GRANITE: 1727780400,
            OpFork.HOLOCENE: 1738238400,
            OpFork.ISTHMUS: 1764072000,
            OpFork.JOVIAN: 1777593600,
        },
        "70d316d2e0973b62332ba2e9768dd7854298d7ffe77f0409ffdb8d859f2d3fa3",
        elasticity=10,
    ),
    _chain(
        "ink-mainnet",
        57073,
        _MAINNET | _BORN_AT_GRANITE | {OpFork.HOLOCENE: 1742396400},
        "23a2658170ba70d014ba0d0d2709f8fbfe2fa660cd868c5f282f991eecbe38ee",
        block_time=1,
        denominator=250,
    ),
)

CHAINS: Final = {chain.name: chain for chain in _ALL}
"""Every built-in chain by name."""


def chain_by_name(name: str) -> ChainConfig:
    """The built-in configuration of this name; a chain's name alone is its mainnet, as with profiles.

    Raises:
        UsageError: If there is none; the message lists the names.
    """
    chain = CHAINS.get(name) or CHAINS.get(f"{name}-mainnet")
    if chain is None:
        raise UsageError(f"unknown chain {name!r}; known: {', '.join(CHAINS)}")
    return chain


def chain_by_id(chain_id: int) -> ChainConfig | None:
    """The built-in configuration of this chain id, or None."""
    return next((chain for chain in _ALL if chain.chain_id == chain_id), None)
