"""The part of a transaction's price that depends on L1, from parameters given or found in the same block."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flashctl.op.fastlz import compressed_length
from flashctl.op.fees import L1FeeParameters, estimated_da_size, l1_fee, l1_gas_used, operator_fee
from flashctl.op.forks import OpFork
from flashctl.op.l1_attributes import L1Attributes

__all__ = ["L1Pricing", "fork_of_layout"]


def fork_of_layout(layout: OpFork) -> OpFork:
    """The fork to assume for a block that carries this layout of L1 attributes and nothing else to tell by.

    The Ecotone layout served from Ecotone to Holocene; the fee formula changed once in between, and every
    chain of the registry left the earlier formula in July 2024.
    """
    return OpFork.HOLOCENE if layout is OpFork.ECOTONE else layout


@dataclass(frozen=True, slots=True)
class L1Pricing:
    """Fee parameters and the formula they belong to."""

    fork: OpFork
    parameters: L1FeeParameters

    @classmethod
    def of_attributes(cls, layout: OpFork, attributes: L1Attributes, fork: OpFork | None = None) -> L1Pricing:
        """The prices that a block's L1 attributes set for its transactions."""
        return cls(
            fork_of_layout(layout) if fork is None else fork,
            L1FeeParameters.from_attributes(layout, attributes),
        )

    def report(self, raw: bytes, gas_limit: int) -> dict[str, Any]:
        """L1 fee, L1 gas and, where the fork has them, data size and the most that the operator fee can
        be."""
        size = compressed_length(raw) if self.fork.prices_compressed_size else 0
        report: dict[str, Any] = {
            "l1Fee": hex(l1_fee(self.parameters, self.fork, raw, size)),
            "l1GasUsed": hex(l1_gas_used(self.parameters, self.fork, raw, size)),
        }
        if self.fork.prices_compressed_size:
            report["daSize"] = estimated_da_size(size) // 1_000_000
        if self.fork.has_operator_fee:
            report["operatorFeeLimit"] = hex(operator_fee(self.parameters, self.fork, gas_limit))
        return report
