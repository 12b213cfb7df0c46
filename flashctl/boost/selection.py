"""Which block getPayload answers with: one function of what the two sides offered."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from flashctl.boost.modes import ExecutionMode, SelectionPolicy

__all__ = ["Choice", "Offer", "Source", "choose"]

GAS_USED_RATIO = 10
"""`gas-used` keeps the builder's block from a tenth of the fallback's gas on; the reference's figure."""


class Source(Enum):
    """Who made a block."""

    BUILDER = "builder"
    L2 = "l2"


@dataclass(frozen=True, slots=True)
class Offer:
    """A block one side can deliver, as far as the choice depends on it."""

    gas_used: int
    transactions: int


@dataclass(frozen=True, slots=True)
class Choice:
    """The verdict."""

    source: Source
    reason: str
    """Why, for the log and the decisions file."""


def choose(
    builder: Offer | None,
    l2: Offer | None,
    mode: ExecutionMode,
    policy: SelectionPolicy,
    failure: str = "",
) -> Choice | None:
    """Pick one of two offers; None if there is no block at all.

    Args:
        builder: the builder's block, if the fallback found it valid.
        l2: the fallback's own block.
        mode: the mode at the time getPayload was called.
        policy: the operator's.
        failure: why the builder has nothing to offer.
    """
    if l2 is None:
        # A fallback that judged a block valid but has none of its own: better that block than none.
        usable = builder is not None and mode is ExecutionMode.ENABLED
        return Choice(Source.BUILDER, "fallback has no block") if usable else None
    if builder is None:
        return Choice(Source.L2, failure or "no builder block")
    if mode is not ExecutionMode.ENABLED:
        return Choice(Source.L2, mode.value)
    if policy is SelectionPolicy.GAS_USED and builder.gas_used * GAS_USED_RATIO < l2.gas_used:
        return Choice(Source.L2, f"builder used {builder.gas_used} gas, fallback {l2.gas_used}")
    return Choice(Source.BUILDER, "valid")
