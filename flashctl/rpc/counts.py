"""What happened in the overlay, for metrics."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from flashctl.rpc.held import Ended

__all__ = ["Counts"]


@dataclass(slots=True)
class Counts:
    """Figures since the start."""

    flashblocks: int = 0
    """Executed."""
    disagreements: int = 0
    """Flashblocks after which our gas or bloom is not the builder's."""
    diverged: int = 0
    """Payloads given up because a transaction did not execute."""
    confirmed: int = 0
    """Blocks whose canonical transactions are those we had."""
    reorged: int = 0
    """Blocks whose canonical transactions differ."""
    truncated: int = 0
    """Blocks of which the canonical one has more than we had, beginning with ours."""
    rounds: int = 0
    """Times that an execution lacked something."""
    retracted: Counter[Ended] = field(default_factory=Counter)
    """Blocks that were pending and are neither pending nor canonical, by reason."""
    ignored: Counter[str] = field(default_factory=Counter)
    """Flashblocks of payloads that are not held, by what became of the payload."""
