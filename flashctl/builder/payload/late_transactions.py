"""Transactions that blocks so far could not hold, and what to do about them in the next one.

    slow      stopped while it ran, because its time or the block's was over
    crowded   larger than one flashblock's step of gas, of which smaller ones left no room in any

Left to the order of tips, a slow one would cost every block the same time for nothing, and a crowded one
would wait for the day that nobody else sends anything. So each has its turn: in every TURN_EVERY-th block the
one that waits longest goes first, with all the gas and all the time of the block. What a whole block's time
cannot hold no block can, and it is given up; meanwhile slow ones are not tried out of turn.

Turns are rare enough that whoever fills them with transactions that never end costs a quarter of the blocks
at most, and for crowded ones a turn outbids nobody for long: they pay the base fee for the gas they take.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from flashctl.lru import Lru
from flashctl.op.envelope import TxEnvelope

__all__ = ["NOBODY_IS_LATE", "Cut", "LatePlan", "LateTransactions"]

TURN_EVERY: Final = 4
"""Blocks from one turn to the next."""

PATIENCE_BLOCKS: Final = 5
"""Blocks that a crowded transaction waits before it may have a turn."""

MAX_TURNS: Final = 8
"""Of a slow transaction, of which none came to an end though its time was not spent: blocks that end early,
or a machine that is busy with other things."""

MAX_LATE: Final = 1024
"""Remembered; the oldest are forgotten, and would be tried as if for the first time."""


@dataclass(frozen=True, slots=True)
class LatePlan:
    """What one block does about late transactions."""

    first: TxEnvelope | None = None
    """Whose turn it is."""
    needs_s: float = 0.0
    """Processor time that was not enough for it before."""
    put_off: frozenset[bytes] = frozenset()
    """Hashes of slow ones, whose turn it is not."""


NOBODY_IS_LATE: Final = LatePlan()


@dataclass(frozen=True, slots=True)
class Cut:
    """A transaction was stopped while it ran."""

    tx_hash: bytes
    spent_s: float
    """Processor time it had."""
    had_block: bool
    """Whether it was its turn, in which all of the block's time was its own."""
    ran_out: bool
    """Whether it had all the time that it was allowed; if not, the block ended."""


@dataclass(slots=True)
class _Late:
    since: int
    """Number of the block."""
    is_slow: bool = False
    needs_s: float = 0.0
    turns: int = 0


class LateTransactions:
    """Remembers them from block to block. Lives on the event loop."""

    def __init__(self) -> None:
        self._late = Lru[bytes, _Late](MAX_LATE)
        """The one that waits longest for its turn first."""
        self._turn: tuple[int, bytes] | None = None
        """The last one: block and hash."""

    def __len__(self) -> int:
        return len(self._late)

    def plan(self, number: int, find: Callable[[bytes], TxEnvelope | None]) -> LatePlan:
        """For the block with this number; asked again for the same block, the same turn.

        Args:
            find: A waiting transaction by its hash; None if it waits no more.
        """
        if not self._late:
            return NOBODY_IS_LATE
        for tx_hash in [tx_hash for tx_hash in self._late if find(tx_hash) is None]:
            self._late.pop(tx_hash)
        chosen = self._choose(number)
        late = None if chosen is None else self._late.peek(chosen)
        return LatePlan(
            first=None if chosen is None else find(chosen),
            needs_s=0.0 if late is None else late.needs_s,
            put_off=frozenset(
                tx_hash for tx_hash, late in self._late.items() if late.is_slow and tx_hash != chosen
            ),
        )

    def _choose(self, number: int) -> bytes | None:
        if self._turn is not None:
            last, tx_hash = self._turn
            if number == last:
                return tx_hash if tx_hash in self._late else None
            if last < number < last + TURN_EVERY:
                return None
        for tx_hash, late in self._late.items():
            if late.is_slow or number >= late.since + PATIENCE_BLOCKS:
                self._late.get(tx_hash)  # to the end of the line
                self._turn = number, tx_hash
                return tx_hash
        return None

    def crowded(self, tx_hash: bytes, number: int) -> None:
        """There was no room for a large transaction in flashblocks of a block so far."""
        self._remember(tx_hash, number)

    def cut(self, cut: Cut, number: int) -> str | None:
        """A transaction was stopped in a block; why it is given up, or None if it is to be tried again."""
        late = self._remember(cut.tx_hash, number)
        if not cut.ran_out and not cut.had_block:
            # The block was over before it had the time of any transaction: the next one may do.
            return None
        late.is_slow = True
        late.needs_s = max(late.needs_s, cut.spent_s)
        late.turns += cut.had_block
        if cut.had_block and (cut.ran_out or late.turns >= MAX_TURNS):
            self._late.pop(cut.tx_hash)
            return (
                "execution takes more time than a block has:"
                f" not finished after {late.needs_s:.2f} s of processor time"
            )
        return None

    def settled(self, tx_hash: bytes) -> None:
        """A transaction is in a block."""
        self._late.pop(tx_hash)

    def _remember(self, tx_hash: bytes, number: int) -> _Late:
        late = self._late.peek(tx_hash)
        if late is None:
            late = _Late(number)
            self._late.put(tx_hash, late)
        return late
