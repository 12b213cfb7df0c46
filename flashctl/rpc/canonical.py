"""Which of the heads that a node shows are news. No I/O, no clock.

Behind one URL there may be several nodes, some of them blocks behind the others, so a head below the last
one proves nothing by itself. It is a reorg if the block is another one than was shown at that height before,
and the chain may be taken back without another block in its place only if nothing newer is shown for a long
time.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Final

from flashctl.lru import Lru
from flashctl.remote.state import CanonicalBlock

__all__ = ["HeadTrack", "Verdict"]

REMEMBERED_BLOCKS: Final = 512
"""Heights whose hash is known; a node further behind than that is of no use."""

BEHIND_PATIENCE_S: Final = 30.0
"""After which a head below the last one is believed although no block of it differs: a chain that was set
back, or begun anew."""


class Verdict(Enum):
    """What a head is."""

    SAME = "same"
    NEWER = "newer"
    """Above the last one; on the same chain if the blocks between say so."""
    REORG = "reorg"
    """Another block at a height that was shown before, or nothing newer for BEHIND_PATIENCE_S."""
    BEHIND = "behind"
    """A node that lags; not to be listened to."""


class HeadTrack:
    """The chain as it was shown so far."""

    def __init__(self) -> None:
        self.head: CanonicalBlock | None = None
        """The last one accepted."""
        self._known = Lru[int, bytes](REMEMBERED_BLOCKS)
        self._current_s = 0.0
        """When a node last showed the head or a newer one."""

    def judge(self, head: CanonicalBlock, now_s: float) -> Verdict:
        """What a head is that was shown at `now_s` on a steady clock."""
        last = self.head
        if last is None or head.number > last.number:
            verdict = Verdict.NEWER
        elif head.hash == last.hash:
            verdict = Verdict.SAME
        elif (self._known.peek(head.number) or head.hash) != head.hash:
            verdict = Verdict.REORG
        else:
            verdict = Verdict.BEHIND
        if verdict is not Verdict.BEHIND:
            self._current_s = now_s
        elif now_s - self._current_s > BEHIND_PATIENCE_S:
            return Verdict.REORG
        return verdict

    def accept(self, blocks: Sequence[CanonicalBlock]) -> None:
        """These blocks are canonical, the head last; what was known above it is not."""
        for block in blocks:
            parent = self._known.peek(block.number - 1)
            if parent is not None and parent != block.parent_hash:
                self._known.clear()  # a reorg deeper than what was shown of it
            self._known.put(block.number - 1, block.parent_hash)
            self._known.put(block.number, block.hash)
        self.head = blocks[-1]
        for number in [number for number in self._known if number > self.head.number]:
            self._known.pop(number)
