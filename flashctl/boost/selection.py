"""Block selection for getPayload: a pure function of the two blocks on offer."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from flashctl.boost.modes import ExecutionMode, SelectionPolicy

__all__ = ["Choice", "Offer", "Source", "choose"]

GAS_USED_RATIO = 10
"""`gas-used` keeps the builder's block from a tenth of the fallback's gas on; rollup-boost's figure."""


class Source(Enum):
    """Who made a block."""

    BUILDER = "builder"
    FALLBACK = "l2"


@dataclass(frozen=True, slots=True)
class Offer:
    """The figures of a block that the selection depends on."""

    gas_used: int
    transactions: int


@dataclass(frozen=True, slots=True)
class Choice:
    """The selected side."""

    source: Source
    reason: str
    """Why, for the log and the decisions file."""


def choose(
    builder: Offer | None,
    fallback: Offer | None,
    mode: ExecutionMode,
    policy: SelectionPolicy,
    failure: str = "",
) -> Choice | None:
    """Pick one of two offers; None if there is no block at all.

    Args:
        builder: the builder's block, if the fallback found it valid.
        fallback: the fallback's own block.
        mode: the mode at the time getPayload was called.
        policy: `--block-selection-policy`.
        failure: why there is no builder block.
    """
    if fallback is None:
        # The fallback found the builder's block valid but has none of its own: that block is better than
        # none.
        usable = builder is not None and mode is ExecutionMode.ENABLED
        return Choice(Source.BUILDER, "fallback has no block") if usable else None
    if builder is None:
        return Choice(Source.FALLBACK, failure or "no builder block")
    if mode is not ExecutionMode.ENABLED:
        return Choice(Source.FALLBACK, mode.value)
    if policy is SelectionPolicy.GAS_USED and builder.gas_used * GAS_USED_RATIO < fallback.gas_used:
        return Choice(Source.FALLBACK, f"builder used {builder.gas_used} gas, fallback {fallback.gas_used}")
    return Choice(Source.BUILDER, "valid")
