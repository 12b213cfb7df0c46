"""Transactions that earlier blocks could not include, and how the next one handles them.

    slow      cut while it ran, because its time or the block's was over
    crowded   larger than one flashblock's step of gas, while smaller ones fill every step

By tip order alone, a slow one would waste the same time in every block, and a crowded one would starve while
others send. So each gets a turn: in every TURN_EVERY-th block the oldest goes first, with all the gas and all
the time of the block. One that exceeds a whole block's time fits no block and is dropped; slow ones are not
tried out of turn.

Turns are rare enough that an attacker who fills them with endless transactions costs a quarter of the blocks
at most; and a crowded transaction that jumps the order pays the base fee for all the gas it uses.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from flashctl.lru import Lru
from flashctl.op.envelope import TxEnvelope

__all__ = ["NONE_LATE", "Cut", "LatePlan", "LateTransactions"]

TURN_EVERY: Final = 4
"""Blocks from one turn to the next."""

PATIENCE_BLOCKS: Final = 5
"""Blocks that a crowded transaction waits before it may have a turn."""

MAX_TURNS: Final = 8
"""Of a slow transaction, none of which finished although its time was not used up: blocks that end early, or
a busy machine."""

MAX_LATE: Final = 1024
"""Late transactions kept; an evicted one is treated as new."""


@dataclass(frozen=True, slots=True)
class LatePlan:
    """How one block handles late transactions."""

    first: TxEnvelope | None = None
    """The transaction whose turn it is."""
    needs_s: float = 0.0
    """Processor time that was insufficient for it before."""
    put_off: frozenset[bytes] = frozenset()
    """Hashes of slow ones without a turn in this block."""


NONE_LATE: Final = LatePlan()


@dataclass(frozen=True, slots=True)
class Cut:
    """A transaction cut while it ran."""

    tx_hash: bytes
    spent_s: float
    """Processor time it used."""
    had_block: bool
    """Whether it was its turn, with all of the block's time."""
    ran_out: bool
    """Whether it used all the time it was allowed; if not, the block ended."""


@dataclass(slots=True)
class _Late:
    since: int
    """Number of the block."""
    is_slow: bool = False
    needs_s: float = 0.0
    turns: int = 0


class LateTransactions:
    """Tracks them from block to block. Used on the event loop."""

    def __init__(self) -> None:
        self._late = Lru[bytes, _Late](MAX_LATE)
        """Oldest first."""
        self._turn: tuple[int, bytes] | None = None
        """The last turn: block and hash."""

    def __len__(self) -> int:
        return len(self._late)

    def plan(self, number: int, find: Callable[[bytes], TxEnvelope | None]) -> LatePlan:
        """The plan for the block with this number; the same turn if called again for the same block.

        Args:
            find: A pending transaction by its hash; None if it is no longer pending.
        """
        if not self._late:
            return NONE_LATE
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
                self._late.get(tx_hash)  # marks it as the most recent
                self._turn = number, tx_hash
                return tx_hash
        return None

    def crowded(self, tx_hash: bytes, number: int) -> None:
        """Record a large transaction without room in the flashblocks of a block."""
        self._remember(tx_hash, number)

    def cut(self, cut: Cut, number: int) -> str | None:
        """Record a cut; the reason if the transaction is dropped, or None if it is retried."""
        late = self._remember(cut.tx_hash, number)
        if not cut.ran_out and not cut.had_block:
            # The block ended before it had the time allowed to every transaction: a later one may finish.
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
        """A transaction was included in a block."""
        self._late.pop(tx_hash)

    def _remember(self, tx_hash: bytes, number: int) -> _Late:
        late = self._late.peek(tx_hash)
        if late is None:
            late = _Late(number)
            self._late.put(tx_hash, late)
        return late
