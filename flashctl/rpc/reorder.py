"""Flashblocks that overtook one another, back in order.

A single stream keeps the order, but not every publisher does (rollup-boost#449), and of two streams one may
lack what the other brings a moment later. A flashblock ahead of its turn therefore waits for those between,
for as long as it takes two more to come: 400 ms, in which the block could not have grown anyway. Then the
sequence goes on without the missing one, and `core.sequence` calls it a gap.
"""

from __future__ import annotations

from typing import Final

from flashctl.core.wire import Flashblock

__all__ = ["MAX_WAITING", "Reorder"]

MAX_WAITING: Final = 2
"""Flashblocks of one payload that wait; the next one ends the waiting."""


class Reorder:
    """What comes out of `feed` is what went in, some of it later; what waits is not given a second time."""

    def __init__(self) -> None:
        self._payload_id = ""
        self._number = -1
        self._next = 0
        """Index whose turn it is."""
        self._waiting: dict[int, Flashblock] = {}

    def feed(self, flashblock: Flashblock) -> list[Flashblock]:
        """Take one as it was received; those whose turn has come, in order."""
        index = flashblock.index
        if index == 0 and flashblock.base is not None and self._begins(flashblock):
            before = self._give_up()
            self._payload_id, self._number = flashblock.payload_id, flashblock.base.block_number
            self._next = 1
            return [*before, flashblock]
        if flashblock.payload_id != self._payload_id or index < self._next:
            # Of another block, or seen before: not for this place to judge.
            return [flashblock]
        if index in self._waiting:
            # A publisher that is out of order is so on every stream of it: what the second one repeats while
            # the first waits would be ahead of its turn behind us. The first is kept, as in `core.sequence`.
            return []
        self._waiting[index] = flashblock
        ready = []
        while self._next in self._waiting:
            ready.append(self._waiting.pop(self._next))
            self._next += 1
        return ready if len(self._waiting) <= MAX_WAITING else [*ready, *self._give_up()]

    def _begins(self, flashblock: Flashblock) -> bool:
        """Whether this is the start of another payload; of two streams one repeats what the other said."""
        assert flashblock.base is not None
        return flashblock.payload_id != self._payload_id and flashblock.base.block_number >= self._number

    def _give_up(self) -> list[Flashblock]:
        """Everything that waits, although something before it is missing."""
        given = [self._waiting[index] for index in sorted(self._waiting)]
        self._waiting.clear()
        if given:
            self._next = given[-1].index + 1
        return given
