"""The base fee of the next block, from its parent's header alone.

EIP-1559 with OP's constants; from Holocene the parent's extra data supplies them, from Jovian the parent's DA
footprint counts as gas used and its minimum base fee is a floor.
"""

from __future__ import annotations

from flashctl.eth.blocks import Header
from flashctl.op.config import ChainConfig
from flashctl.op.extra_data import decode_extra_data

__all__ = ["next_base_fee"]


def next_base_fee(config: ChainConfig, parent: Header, timestamp: int) -> int:
    """Base fee in wei of the child of `parent` that carries this timestamp.

    Which rules apply is decided by the parent's time; only the constants of chains before Holocene
    depend on the child's (Canyon raised the denominator from its own first block on).

    Raises:
        InvalidFeeParameters: If the parent's extra data is not what its fork prescribes.
    """
    fork = config.fork_at(parent.timestamp)
    parameters = decode_extra_data(fork, parent.extra_data) if fork.has_fee_parameters else None
    if parameters is None:
        elasticity, denominator = config.eip1559_elasticity, config.default_denominator(timestamp)
        floor = 0
    else:
        elasticity, denominator = parameters.elasticity, parameters.denominator
        floor = parameters.min_base_fee
    used = parent.gas_used
    if fork.has_da_footprint:
        used = max(used, parent.blob_gas_used or 0)
    return max(
        _adjusted(parent.base_fee_per_gas or 0, used, parent.gas_limit // elasticity, denominator), floor
    )


def _adjusted(base_fee: int, gas_used: int, gas_target: int, denominator: int) -> int:
    """EIP-1559's formula: up by at least one wei, down to zero at the least."""
    if gas_used == gas_target or gas_target == 0:
        return base_fee
    if gas_used > gas_target:
        return base_fee + max(base_fee * (gas_used - gas_target) // gas_target // denominator, 1)
    return max(base_fee - base_fee * (gas_target - gas_used) // gas_target // denominator, 0)
