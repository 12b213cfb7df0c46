"""The operator's two settings about blocks: whether the builder takes part, and when its block wins."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from flashctl.errors import UsageError

__all__ = ["ExecutionMode", "ModeSwitch", "SelectionPolicy"]


class ExecutionMode(Enum):
    """How far the builder takes part. Changed at run time through the debug API."""

    ENABLED = "enabled"
    """Its blocks are used and its flashblocks published."""

    DRY_RUN = "dry_run"
    """It builds and its blocks are validated, but every block is the fallback's. Its flashblocks are not
    published: they would preconfirm what the next block does not hold."""

    DISABLED = "disabled"
    """It gets no engine calls."""

    @classmethod
    def parse(cls, text: str) -> ExecutionMode:
        """The mode by name; `dry-run` and `dry_run` are the same.

        Raises:
            UsageError: If there is no such mode.
        """
        try:
            return cls(text.strip().lower().replace("-", "_"))
        except ValueError:
            raise UsageError(
                f"unknown execution mode {text[:40]!r}", hint="enabled, dry-run or disabled"
            ) from None

    @property
    def gauge(self) -> int:
        """The mode as the `execution_mode` metric shows it."""
        return {ExecutionMode.ENABLED: 3, ExecutionMode.DRY_RUN: 2, ExecutionMode.DISABLED: 1}[self]


@dataclass(slots=True)
class ModeSwitch:
    """The execution mode in force, which the debug API changes while calls are under way."""

    mode: ExecutionMode


class SelectionPolicy(Enum):
    """Which of two valid blocks is returned."""

    BUILDER = "builder"
    """The builder's, always: its flashblocks are preconfirmed."""

    GAS_USED = "gas-used"
    """The fallback's if the builder used less than a tenth of its gas: a builder that lost its transactions
    should not empty the chain."""
