"""Event counts of the overlay, for metrics."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from flashctl.rpc.held_payloads import EndReason

__all__ = ["OverlayCounts"]


@dataclass(slots=True)
class OverlayCounts:
    """OverlayCounts since the start."""

    flashblocks: int = 0
    """Executed."""
    disagreements: int = 0
    """Flashblocks after which our gas or bloom is not the builder's."""
    diverged: int = 0
    """Payloads abandoned because a transaction did not execute."""
    confirmed: int = 0
    """Blocks sealed with the preconfirmed transactions."""
    reorged: int = 0
    """Blocks sealed with other transactions."""
    truncated: int = 0
    """Blocks sealed with the preconfirmed transactions followed by more."""
    rounds: int = 0
    """Execution rounds that lacked state."""
    retracted: Counter[EndReason] = field(default_factory=Counter)
    """Blocks that were pending and are neither pending nor canonical, by reason."""
    ignored: Counter[str] = field(default_factory=Counter)
    """Flashblocks of payloads that are not held, by why the payload ended."""
