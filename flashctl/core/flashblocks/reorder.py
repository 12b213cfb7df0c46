"""Flashblocks that overtook one another, back in order.

A single stream keeps the order, but not every publisher does (rollup-boost#449), and of two streams one may
lack what the other brings a moment later. A flashblock ahead of its turn therefore waits for those before
it, index 0 included: for as long as it takes a few more to come, and no longer than a time. Then the
sequence goes on without the missing ones, and `core.sequence` calls it a gap.

Boost, rpc and watch have one each. What is fed need not be a flashblock: boost keeps the bytes beside it,
watch the time of arrival.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Generic, Literal, TypeVar

from flashctl.core.flashblocks.wire import Flashblock
from flashctl.lru import Lru

__all__ = ["MAX_WAITING", "MAX_WAIT_NS", "Reorder"]

MAX_WAITING: Final = 2
"""Flashblocks that wait for one before them; the next one ends the waiting. 400 ms of a usual stream, in
which the block could not have grown anyway."""

MAX_WAIT_NS: Final = 2_000_000_000
"""The first arrival after so long ends the waiting as well: a whole block of an OP chain."""

REMEMBERED_PAYLOADS: Final = 8
"""Payloads that are over, so that a second stream's copy of them is not taken for a new payload."""

T = TypeVar("T")


class Reorder(Generic[T]):
    """What comes out of `feed` is what went in, some of it later; what waits is not given a second time."""

    def __init__(
        self,
        flashblock_of: Callable[[T], Flashblock],
        *,
        most: int = MAX_WAITING,
        patience_ns: int = MAX_WAIT_NS,
        joins: bool = True,
    ) -> None:
        """Args:
        flashblock_of: the flashblock in what is fed.
        most: how many wait at a time.
        patience_ns: for how long, on the clock that `feed` is given.
        joins: whether the first to come may be from the middle of a payload; it does not wait for index 0.
        """
        self._flashblock_of = flashblock_of
        self._most = most
        self._patience_ns = patience_ns
        self._joins = joins
        self._payload_id = ""
        self._number = -1
        self._next = 0
        """Index whose turn it is."""
        self._waiting: dict[int, T] = {}
        self._early_id = ""
        """A payload whose index 0 was overtaken."""
        self._early: dict[int, T] = {}
        self._since_ns = 0
        """When the first of those that wait came."""
        self._over = Lru[str, Literal[True]](REMEMBERED_PAYLOADS)

    @property
    def waiting(self) -> list[T]:
        """Those ahead of their turn, by payload and index."""
        return [group[index] for group in (self._waiting, self._early) for index in sorted(group)]

    @property
    def awaited(self) -> int:
        """The index whose turn it is."""
        return 0 if self._early and not self._payload_id else self._next

    def feed(self, item: T, now_ns: int) -> list[T]:
        """Take one as it was received at `now_ns` on a steady clock; those whose turn has come, in order."""
        overdue = []
        if self._waits() and now_ns - self._since_ns > self._patience_ns:
            overdue = self._give_up_early() + self._give_up()
        return overdue + self._feed(item, now_ns)

    def end(self) -> list[T]:
        """What still waits: nothing more will come."""
        return self._give_up() + self._give_up_early()

    def _feed(self, item: T, now_ns: int) -> list[T]:
        flashblock = self._flashblock_of(item)
        payload_id, index = flashblock.payload_id, flashblock.index
        if index == 0 and flashblock.base is not None and self._begins(flashblock):
            return self._begin(item, flashblock)
        if payload_id != self._payload_id:
            return self._of_another(item, payload_id, index, now_ns)
        if index < self._next:
            # Seen before, or given up: not for this place to judge.
            return [item]
        self._wait(self._waiting, index, item, now_ns)
        ready = self._take_turns()
        return ready if len(self._waiting) <= self._most else [*ready, *self._give_up()]

    def _begins(self, flashblock: Flashblock) -> bool:
        """Whether this is the start of another payload; the second of two streams repeats the first."""
        assert flashblock.base is not None
        return flashblock.payload_id != self._payload_id and flashblock.base.block_number >= self._number

    def _begin(self, item: T, flashblock: Flashblock) -> list[T]:
        assert flashblock.base is not None
        before = self._give_up()
        if flashblock.payload_id == self._early_id:
            self._waiting, self._early, self._early_id = self._early, {}, ""
        else:
            before = self._give_up_early() + before
        self._forget(self._payload_id)
        self._over.pop(flashblock.payload_id)
        self._payload_id, self._number = flashblock.payload_id, flashblock.base.block_number
        self._next = 1
        return [*before, item, *self._take_turns()]

    def _of_another(self, item: T, payload_id: str, index: int, now_ns: int) -> list[T]:
        """One of a payload that has not begun, as far as is known here, or that is over."""
        is_joined = self._joins and not self._payload_id
        if index == 0 or is_joined:
            # A stream that went back, or one that we came to late.
            self._forget(payload_id)
        if payload_id in self._over:
            return [item]
        before = [] if payload_id == self._early_id else self._give_up_early()
        self._early_id = payload_id
        self._wait(self._early, index, item, now_ns)
        return before if len(self._early) <= self._most else [*before, *self._give_up_early()]

    def _wait(self, group: dict[int, T], index: int, item: T, now_ns: int) -> None:
        """A publisher that is out of order is so on every stream of it: what the second one repeats while the
        first waits would be ahead of its turn behind us. The first is kept, as in `core.sequence`."""
        if not self._waits():
            self._since_ns = now_ns
        group.setdefault(index, item)

    def _waits(self) -> bool:
        return bool(self._waiting or self._early)

    def _take_turns(self) -> list[T]:
        ready = []
        while self._next in self._waiting:
            ready.append(self._waiting.pop(self._next))
            self._next += 1
        return ready

    def _give_up(self) -> list[T]:
        """Everything that waits, although something before it is missing."""
        given = [self._waiting[index] for index in sorted(self._waiting)]
        if given:
            self._next = max(self._waiting) + 1
        self._waiting.clear()
        return given

    def _give_up_early(self) -> list[T]:
        """The same of a payload whose beginning never came; the rest of it passes as it comes."""
        given = [self._early[index] for index in sorted(self._early)]
        self._early.clear()
        self._forget(self._early_id)
        self._early_id = ""
        return given

    def _forget(self, payload_id: str) -> None:
        if payload_id:
            self._over.put(payload_id, True)
