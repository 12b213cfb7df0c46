"""The gas and data budget of each flashblock of a block.

Limits are cumulative: when flashblock j of N is built, the block as a whole may hold j/N of its gas, its
data and its DA footprint. The next flashblock may use what one leaves over; a transaction larger than the
open part waits for a later flashblock. The specification's text reads as if j/N were the allowance of
flashblock j alone, which would add up to more than the block; op-rbuilder counts cumulatively, as here.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

__all__ = ["BlockLimits", "Budget", "Refusal", "TxCost", "Usage"]

LEAST_GAS_PER_S: Final = 40_000_000
"""Assumed execution speed when a large transaction's time is planned: loops of plain instructions run at
150 Mgas/s, those that hash, pair or store at a quarter of it."""


class Refusal(Enum):
    """Why a transaction does not fit now. The value is the metric's label."""

    TX_DA_SIZE = "tx_da_size_exceeded"
    BLOCK_DA_SIZE = "block_da_size_exceeded"
    DA_FOOTPRINT = "da_footprint_exceeded"
    GAS = "block_gas_limit_exceeded"
    BLOCK_SIZE = "block_uncompressed_size_exceeded"


@dataclass(frozen=True, slots=True)
class BlockLimits:
    """The limits of a whole block; None is no limit."""

    gas: int
    """The gas limit of the header, or less if the operator lowered it by `miner_setGasLimit`."""

    da_footprint_gas_scalar: int | None = None
    """Gas per estimated byte of data (Jovian); None before."""

    tx_da_bytes: int | None = None
    """Estimated bytes on L1 of one transaction (`miner_setMaxDASize`)."""

    block_da_bytes: int | None = None
    """Estimated bytes on L1 of all transactions together."""

    block_bytes: int | None = None
    """Uncompressed EIP-2718 bytes of all transactions together."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Used by the block so far, forced transactions included."""

    gas: int = 0
    da_bytes: int = 0
    """Deposits count none."""

    encoded_bytes: int = 0


@dataclass(frozen=True, slots=True)
class TxCost:
    """The most one transaction may use: its gas limit, not its gas used."""

    gas_limit: int
    da_bytes: int
    encoded_bytes: int


@dataclass(frozen=True, slots=True)
class Budget:
    """The limits of one block, opened in `flashblocks` equal steps."""

    limits: BlockLimits
    flashblocks: int

    def refusal(self, index: int, usage: Usage, cost: TxCost) -> Refusal | None:
        """Why a transaction must not enter flashblock `index` (1 … flashblocks), or None if it may."""
        limits = self.limits
        da_bytes = usage.da_bytes + cost.da_bytes
        if limits.tx_da_bytes is not None and cost.da_bytes > limits.tx_da_bytes:
            return Refusal.TX_DA_SIZE
        if limits.block_da_bytes is not None and da_bytes > self._open(limits.block_da_bytes, index):
            return Refusal.BLOCK_DA_SIZE
        gas = self._open(limits.gas, index)
        scalar = limits.da_footprint_gas_scalar
        if scalar is not None and da_bytes * scalar > gas:
            return Refusal.DA_FOOTPRINT
        if usage.gas + cost.gas_limit > gas:
            return Refusal.GAS
        if limits.block_bytes is not None and usage.encoded_bytes + cost.encoded_bytes > limits.block_bytes:
            return Refusal.BLOCK_SIZE
        return None

    def never_fits(self, cost: TxCost) -> Refusal | None:
        """Why a transaction cannot enter any flashblock, however empty the block."""
        return self.refusal(self.flashblocks, Usage(), cost)

    def opens_too_late(self, gas_limit: int, interval_s: float) -> bool:
        """Whether so much gas opens too late to be executed before the last flashblock: such a transaction
        may use the whole block's gas from the first flashblock on."""
        opens = -(-gas_limit * self.flashblocks // self.limits.gas)
        left = max(0, self.flashblocks - opens) * interval_s
        return left < gas_limit / LEAST_GAS_PER_S

    def is_larger_than_a_step(self, gas_limit: int) -> bool:
        """Whether the gas exceeds one flashblock's step: while smaller transactions fill every step, one of
        this size never fits."""
        return gas_limit > self._open(self.limits.gas, 1)

    def _open(self, limit: int, index: int) -> int:
        """The part of a limit that is open at flashblock `index`: j/N of it, all of it at the last."""
        return limit * min(index, self.flashblocks) // self.flashblocks
