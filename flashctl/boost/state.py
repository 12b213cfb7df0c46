"""What boost's requests, stream and probes share: the clients of both engines, and what is known of them."""

from __future__ import annotations

from dataclasses import dataclass

from flashctl.boost.builder_link import BuilderLink
from flashctl.boost.health import BoostHealth
from flashctl.boost.metrics import BoostMetrics
from flashctl.boost.modes import ExecutionMode, ModeSwitch
from flashctl.boost.rounds import Rounds
from flashctl.core.engine.client import EngineClient

__all__ = ["BoostState", "Engines"]


@dataclass(frozen=True, slots=True)
class Engines:
    """The clients of the two execution engines."""

    fallback: EngineClient
    """For engine and miner calls."""
    forwards: EngineClient
    """To the fallback as well, with connections of its own: what users ask can hold up no block."""
    builder: BuilderLink


@dataclass(frozen=True, slots=True)
class BoostState:
    """Payloads under way, and the sides' health."""

    rounds: Rounds
    health: BoostHealth
    switch: ModeSwitch
    metrics: BoostMetrics
    ignore_unhealthy_builders: bool = False
    """Make no engine calls to a builder that is stale or failed last time."""

    @property
    def builder_takes_part(self) -> bool:
        """Whether the builder is asked at all."""
        if self.switch.mode is ExecutionMode.DISABLED:
            return False
        return not self.ignore_unhealthy_builders or self.health.builder_ok
