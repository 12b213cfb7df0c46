"""Classifies the heads that an upstream node returns. No I/O, no clock.

Behind one URL there may be several nodes, some of them blocks behind the others, so a head below the last one
is not by itself a reorg. It is one if its block differs from the one seen at that height before; a head that
is merely lower is accepted only if nothing newer is seen for BEHIND_PATIENCE_S.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Final

from flashctl.lru import Lru
from flashctl.remote.state import CanonicalBlock

__all__ = ["HeadTrack", "HeadVerdict"]

REMEMBERED_BLOCKS: Final = 512
"""Heights whose hash is kept; a node further behind than that is useless."""

BEHIND_PATIENCE_S: Final = 30.0
"""After which a lower head without a differing block is accepted: a chain that was rewound or restarted."""


class HeadVerdict(Enum):
    """The classification of a head."""

    SAME = "same"
    NEWER = "newer"
    """Above the last one; on the same chain if the blocks between link them."""
    REORG = "reorg"
    """Another block at a height seen before, or nothing newer for BEHIND_PATIENCE_S."""
    BEHIND = "behind"
    """From a lagging node; ignored."""


class HeadTrack:
    """The chain as seen so far."""

    def __init__(self) -> None:
        self.head: CanonicalBlock | None = None
        """The last one accepted."""
        self._known = Lru[int, bytes](REMEMBERED_BLOCKS)
        self._current_s = 0.0
        """When a node last returned the head or a newer one."""

    def judge(self, head: CanonicalBlock, now_s: float) -> HeadVerdict:
        """Classify a head seen at `now_s` on a monotonic clock."""
        last = self.head
        if last is None or head.number > last.number:
            verdict = HeadVerdict.NEWER
        elif head.hash == last.hash:
            verdict = HeadVerdict.SAME
        elif (self._known.peek(head.number) or head.hash) != head.hash:
            verdict = HeadVerdict.REORG
        else:
            verdict = HeadVerdict.BEHIND
        if verdict is not HeadVerdict.BEHIND:
            self._current_s = now_s
        elif now_s - self._current_s > BEHIND_PATIENCE_S:
            return HeadVerdict.REORG
        return verdict

    def accept(self, blocks: Sequence[CanonicalBlock]) -> None:
        """Record canonical blocks, the head last, and drop those above it."""
        for block in blocks:
            parent = self._known.peek(block.number - 1)
            if parent is not None and parent != block.parent_hash:
                self._known.clear()  # a reorg deeper than the blocks given
            self._known.put(block.number - 1, block.parent_hash)
            self._known.put(block.number, block.hash)
        self.head = blocks[-1]
        for number in [number for number in self._known if number > self.head.number]:
            self._known.pop(number)
