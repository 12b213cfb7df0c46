"""How far behind a client may fall, and what happens then.

Two things look alike from the sender and are judged apart (base/base#2030): a client that reads, but slower
than the stream (it lags), and one that does not read at all (it stalls). Both are measured only while the
kernel refuses bytes for the client, so a client that keeps up costs nothing here.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

__all__ = ["Lag", "LagBudget", "LagPolicy", "LagVerdict", "judge"]


class LagPolicy(Enum):
    """What `--on-lag` does with a client over budget."""

    EVICT = "evict"
    """Close with 1013: the client reconnects and gets the open block again."""

    CONFLATE = "conflate"
    """Skip to the next index 0: whole blocks are lost to the client, never the inside of one."""


class LagVerdict(Enum):
    """The answer to `judge`."""

    KEEP = "keep"
    SKIP = "skip"
    LAGGED = "lagged"
    STALLED = "stalled"


@dataclass(frozen=True, slots=True)
class LagBudget:
    """What one client may owe the stream before it is evicted or skipped ahead."""

    max_bytes: int = 8 << 20
    max_messages: int = 64
    max_age_s: float = 5.0
    """Age of the oldest message not yet handed to the kernel."""

    stall_s: float = 5.0
    """Time the kernel may refuse every byte; a stalled client is closed whatever the policy."""

    policy: LagPolicy = LagPolicy.EVICT


@dataclass(frozen=True, slots=True)
class Lag:
    """How a client that cannot take more stands at one moment."""

    messages: int
    bytes: int
    age_s: float
    stalled_s: float
    replaying: bool = False
    """Still catching up with the past it asked for: behind by request, so only a stall counts."""

    forgotten: bool = False
    """The ring no longer holds the client's next message: it cannot be served without a gap."""

    def __str__(self) -> str:
        return f"{self.messages} messages, {self.bytes} bytes, {self.age_s:.1f} s behind"


def judge(lag: Lag, budget: LagBudget) -> LagVerdict:
    """What to do with a client in state `lag`."""
    if lag.stalled_s > budget.stall_s:
        return LagVerdict.STALLED
    over = lag.forgotten or (
        not lag.replaying
        and (
            lag.messages > budget.max_messages or lag.bytes > budget.max_bytes or lag.age_s > budget.max_age_s
        )
    )
    if not over:
        return LagVerdict.KEEP
    return LagVerdict.SKIP if budget.policy is LagPolicy.CONFLATE else LagVerdict.LAGGED
