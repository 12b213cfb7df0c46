"""The overlay: which streamed blocks stand on the canonical chain, and what they amount to. No I/O, no clock.

It is driven by four inputs and has one output:

    follow(events)       what the stream's assembler said            -> which payloads there are
    confirm(blocks)      the canonical chain grew or changed         -> which of them are settled, or wrong
    step()               execute what can be executed                -> what is missing, to be fetched
    expire()             the stream has been silent for too long     -> nothing is pending

    view                 the pending blocks, immutable; None stands for "pending is latest"

Canonical blocks win. A payload whose block the node has is dropped, after its transactions were compared
with the block's; what is left is put on top of the new block. If our receipts were those of the block,
everything known about the state is carried forward with the changes we computed ourselves; otherwise we
start again from the node's state. So the base of `pending` is always the node's head, never some blocks
behind it (the complaint of base/base#1439).

Flashblocks of block n+1 often arrive before the node has block n (base/base#51). Then n+1 is executed on
top of the stream's own block n if that is complete as far as anybody can tell, and waits for the node
otherwise.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from flashctl.core.assembly import full_block
from flashctl.core.sequence import Accepted, Closed, CloseReason, Event, Opened, Payload, PrevMismatch
from flashctl.core.wire import ZERO_HASH
from flashctl.errors import DataError, FlashctlError
from flashctl.eth.ordered_trie import ordered_root
from flashctl.eth.receipts import encode_receipt
from flashctl.op.config import ChainConfig
from flashctl.op.envelope import TxEnvelope
from flashctl.rpc.execution import FlashblockRun, PendingBlock, open_block
from flashctl.rpc.state import CanonicalBlock, CanonicalState, Missing, PendingState

__all__ = ["Counts", "Overlay", "PendingView", "Update"]

_LOG = logging.getLogger(__name__)

RECENT_BLOCKS: Final = 4
"""Settled or dropped pending blocks whose transactions can still be looked up: the node's own answer comes
first, but a load-balanced one may say null for a block that its neighbour announced."""

HINT_ROUND: Final = 3
"""Fetches after which guessing is given up. Senders, code and first slots take two; real transactions of OP
Mainnet took ten on an empty cache without help."""

MAX_ROUNDS: Final = 100
"""Fetches for one flashblock. Each goes one dependent read deeper; a chain of a hundred is an attack or a
mistake."""


@dataclass(frozen=True, slots=True)
class PendingView:
    """What is pending at one moment."""

    canonical: CanonicalState
    blocks: tuple[PendingBlock, ...]
    """Consecutive, the first one on top of `canonical`; never empty."""

    @property
    def latest(self) -> PendingBlock:
        """The block that the tag `pending` means."""
        return self.blocks[-1]

    def find(self, transaction_hash: bytes) -> tuple[PendingBlock, int] | None:
        """The block and index of a preconfirmed transaction."""
        for block in reversed(self.blocks):
            index = block.positions.get(transaction_hash)
            if index is not None:
                return block, index
        return None


@dataclass(frozen=True, slots=True)
class Update:
    """One flashblock was executed; subscriptions are told of it."""

    block: PendingBlock
    first_transaction: int
    """Index of the first transaction that it added."""


@dataclass(slots=True)
class Counts:
    """What happened, for metrics."""

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
    """Fetches of missing state."""


@dataclass(slots=True, eq=False)
class _Streamed:
    """A payload of the stream and how far it has been executed."""

    payload: Payload
    is_whole: bool = True
    """Whether, as far as we know, nothing of it was lost; a block on top of it needs that."""
    block: PendingBlock | None = None

    @property
    def executed(self) -> int:
        return 0 if self.block is None else self.block.index + 1


@dataclass(slots=True, eq=False)
class _Run:
    streamed: _Streamed
    run: FlashblockRun
    first_transaction: int
    rounds: int = 0

    def count_round(self) -> None:
        """Raises DataError after MAX_ROUNDS."""
        self.rounds += 1
        if self.rounds > MAX_ROUNDS:
            raise DataError(f"state still missing after {MAX_ROUNDS} fetches")


class Overlay:
    """See the module docstring. Not thread-safe: one caller at a time; `view` may be read by anybody."""

    def __init__(self, config_for: Callable[[Payload], ChainConfig], *, max_depth: int = 3) -> None:
        """`config_for` tells the rules of the chain a payload belongs to.

        `max_depth` is how many pending blocks may lie on top of the node's head; with more, the node is too
        far behind for its state to be worth building on, and nothing is pending until it has caught up.
        """
        self._config_for = config_for
        self._max_depth = max_depth
        self._canonical: CanonicalState | None = None
        self._streamed: list[_Streamed] = []
        self._run: _Run | None = None
        self._updates: list[Update] = []
        self._recent: OrderedDict[str, PendingBlock] = OrderedDict()
        self.counts = Counts()
        self.view: PendingView | None = None

    @property
    def head(self) -> CanonicalBlock | None:
        """The canonical head as last confirmed."""
        return None if self._canonical is None else self._canonical.block

    @property
    def canonical(self) -> CanonicalState | None:
        """What is known of the state at the head."""
        return self._canonical

    @property
    def streamed_numbers(self) -> list[int]:
        """Numbers of the blocks held, for the caller to know which canonical ones to confirm."""
        return [streamed.payload.block_number for streamed in self._streamed]

    @property
    def waiting(self) -> str:
        """Why nothing is executed although there are flashblocks; empty if that is not so."""
        if not self._streamed or self._streamed[0].block is not None:
            return ""
        first = self._streamed[0].payload
        at = "unknown" if self._canonical is None else str(self._canonical.block.number)
        return f"block {first.block_number} waits for its parent, the node is at {at}"

    def take_updates(self) -> list[Update]:
        """Flashblocks executed since the last call, in order."""
        updates, self._updates = self._updates, []
        return updates

    def recent(self, transaction_hash: bytes) -> tuple[PendingBlock, int] | None:
        """A transaction of a block that was pending a moment ago."""
        for block in reversed(self._recent.values()):
            index = block.positions.get(transaction_hash)
            if index is not None:
                return block, index
        return None

    # --- the stream ---

    def follow(self, events: Sequence[Event], payload: Payload | None) -> None:
        """Take in what the assembler said of one message, and the payload that is open after it."""
        for event in events:
            match event:
                case Opened(_, number, _):
                    self._drop_from(number)
                    assert payload is not None
                    self._streamed.append(_Streamed(payload))
                    # More than depth would allow is held only so that a node that catches up finds them.
                    self._keep_streamed(self._streamed[-(self._max_depth + 1) :])
                case Accepted():
                    assert payload is not None
                    self._streamed[-1].payload = payload
                case Closed(closed, CloseReason.BROKEN):
                    self._drop_from(closed.block_number)
                case PrevMismatch(_, 0, _, _) if self._streamed:
                    self._streamed[-1].is_whole = False
        self._publish()

    def expire(self) -> None:
        """Forget the stream: it has been silent for longer than a block takes."""
        self._keep_streamed([])
        self._publish()

    # --- the chain ---

    def confirm(self, blocks: Sequence[CanonicalBlock]) -> None:
        """Take in the canonical chain: its new head last, before it the blocks that pending ones are
        settled by.

        Blocks between may be left out; a pending block whose canonical one is not given is dropped unsettled.
        """
        head = blocks[-1]
        previous = self._canonical
        if previous is not None and previous.block.hash == head.hash:
            return
        by_number = {block.number: block for block in blocks}
        carried = previous
        for streamed in self._streamed:
            number = streamed.payload.block_number
            if number > head.number:
                break
            block = by_number.get(number)
            matches = block is not None and self._settle(streamed, block)
            carried = self._advance(carried, streamed, block) if matches and block is not None else None
        if carried is not None and carried.block.hash != head.hash:
            carried = None
        self._canonical = carried if carried is not None else self._fresh(head)
        rest = [streamed for streamed in self._streamed if streamed.payload.block_number > head.number]
        if carried is None or not rest or rest[0].payload.base.parent_hash != head.hash:
            for streamed in rest:
                streamed.block = None
            self._run = None
        self._keep_streamed(rest)
        if carried is not None:
            self._rebase(carried)
        self._publish()

    def lose_state(self) -> None:
        """The node no longer serves the state at the head we know: start again with the next head."""
        self._canonical = None
        for streamed in self._streamed:
            streamed.block = None
        self._run = None
        self._publish()

    def _settle(self, streamed: _Streamed, block: CanonicalBlock) -> bool:
        """Compare a pending block with the canonical one; whether our execution of it holds."""
        ours = tuple(streamed.block.positions) if streamed.block is not None else ()
        if streamed.block is None or streamed.executed < len(streamed.payload.flashblocks):
            return False
        if ours != block.transactions:
            if ours == block.transactions[: len(ours)]:
                self.counts.truncated += 1
            else:
                self.counts.reorged += 1
                message = "preconfirmed transactions are not those of the sealed block"
                _LOG.warning(message, extra={"block": block.number})
            return False
        self.counts.confirmed += 1
        receipts_root = ordered_root([encode_receipt(receipt) for receipt in streamed.block.receipts])
        if receipts_root != block.receipts_root:
            _LOG.warning("our receipts are not those of the sealed block", extra={"block": block.number})
            return False
        return True

    def _advance(
        self, state: CanonicalState | None, streamed: _Streamed, block: CanonicalBlock
    ) -> CanonicalState | None:
        if state is None or streamed.block is None or block.parent_hash != state.block.hash:
            return None
        return state.advanced(block, streamed.block.changes)

    def _fresh(self, head: CanonicalBlock) -> CanonicalState:
        """Nothing known but what can never change."""
        previous = self._canonical
        return CanonicalState(head) if previous is None else previous.restarted(head)

    def _rebase(self, canonical: CanonicalState) -> None:
        """Put the blocks that are left on top of the new head: same contents, a shorter way down."""
        state = PendingState(canonical)
        for streamed in self._streamed:
            if streamed.block is None:
                break
            state = state.apply(streamed.block.changes)
            streamed.block = replace(streamed.block, state=state)
        self._run = None

    # --- execution ---

    def step(self) -> Missing:
        """Execute every flashblock that can be executed; what is missing for the next one, or nothing.

        After fetching what is missing into `canonical`, call it again. Whatever is wrong with a payload
        ends in the log and in `counts`, never in an exception.
        """
        while True:
            current = self._run or self._next()
            if current is None:
                return Missing()
            self._run = current
            try:
                missing = current.run.advance()
                if missing:
                    current.count_round()
            except FlashctlError as error:
                self._give_up(current.streamed, error)
                continue
            if missing:
                self.counts.rounds += 1
                return missing
            self._run = None
            self._finish(current)

    def _next(self) -> _Run | None:
        """The next flashblock to execute, made ready; None if there is none or its parent is not there
        yet."""
        for position, streamed in enumerate(self._streamed):
            if streamed.executed == len(streamed.payload.flashblocks):
                continue
            if streamed.block is None:
                streamed.block = self._open(position, streamed)
                if streamed.block is None:
                    return None
            flashblock = streamed.payload.flashblocks[streamed.executed]
            try:
                run = FlashblockRun(streamed.block, flashblock)
            except DataError as error:
                self._give_up(streamed, error)
                return self._next()
            return _Run(streamed, run, len(streamed.block.envelopes))
        return None

    def _open(self, position: int, streamed: _Streamed) -> PendingBlock | None:
        payload, canonical = streamed.payload, self._canonical
        if canonical is None or position >= self._max_depth:
            return None
        config = self._config_for(payload)
        if position == 0:
            if payload.base.parent_hash != canonical.block.hash:
                return None
            state, parent_time = PendingState(canonical), canonical.block.timestamp
        else:
            before = self._streamed[position - 1]
            if before.block is None or not before.is_whole or not _is_parent(before.payload, payload):
                return None
            state, parent_time = before.block.state, before.payload.base.timestamp
        return open_block(payload.payload_id, payload.base, config, parent_time, state)

    def _finish(self, current: _Run) -> None:
        block = current.run.result()
        current.streamed.block = block
        self.counts.flashblocks += 1
        if not block.agrees:
            self.counts.disagreements += 1
            fields = {"block": block.number, "index": block.index}
            gas = {"gas": block.gas_used, "announced": block.totals.gas_used}
            _LOG.warning("gas or logs differ from what the builder announced", extra=fields | gas)
        self._updates.append(Update(block, current.first_transaction))
        self._publish()

    def _give_up(self, streamed: _Streamed, error: Exception) -> None:
        """Leave a payload and what is on top of it to the canonical chain."""
        self.counts.diverged += 1
        _LOG.warning("pending block given up: %s", error, extra={"block": streamed.payload.block_number})
        self._drop_from(streamed.payload.block_number)
        self._publish()

    def hopeless(self) -> list[TxEnvelope]:
        """Transactions that have been through HINT_ROUND fetches and still lack something; empty at other
        times.

        Whoever fetches should ask the node what they touch: each dependent read would cost another fetch.
        """
        if self._run is None or self._run.rounds != HINT_ROUND:
            return []
        return self._run.run.unfinished

    # --- bookkeeping ---

    def _drop_from(self, number: int) -> None:
        """Remove the payloads of block `number` and later."""
        earlier = [streamed for streamed in self._streamed if streamed.payload.block_number < number]
        self._keep_streamed(earlier)

    def _keep_streamed(self, kept: list[_Streamed]) -> None:
        for streamed in self._streamed:
            if streamed not in kept and streamed.block is not None:
                self._recent.pop(streamed.payload.payload_id, None)
                self._recent[streamed.payload.payload_id] = streamed.block
        while len(self._recent) > RECENT_BLOCKS:
            self._recent.popitem(last=False)
        if self._run is not None and self._run.streamed not in kept:
            self._run = None
        self._streamed = kept

    def _publish(self) -> None:
        """Make the executed blocks visible, all at once."""
        blocks = []
        for streamed in self._streamed:
            if streamed.block is None or streamed.block.index < 0:
                break
            blocks.append(streamed.block)
        canonical = self._canonical
        if canonical is None or not blocks or blocks[0].number != canonical.block.number + 1:
            self.view = None
        else:
            self.view = PendingView(canonical, tuple(blocks))


def _is_parent(before: Payload, payload: Payload) -> bool:
    """Whether `payload` builds on what the stream showed of `before`, as far as its builder lets us know."""
    if payload.block_number != before.block_number + 1:
        return False
    if before.diff.block_hash == ZERO_HASH or before.diff.state_root == ZERO_HASH:
        return True  # a builder without state roots: only the transactions can be compared, once it is sealed
    return full_block(before).hash == payload.base.parent_hash
