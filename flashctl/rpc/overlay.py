"""The overlay: executes streamed blocks on top of the canonical chain. No I/O, no clock.

It has four inputs and one output:

    follow(events)       events of the stream's assembler            -> which payloads exist
    confirm(blocks)      the canonical chain grew or changed         -> which of them are settled, or orphaned
    step()               execute what can be executed                -> the missing state, to be fetched
    expire()             the stream has been silent for too long     -> nothing is pending

    view                 the pending blocks, immutable; None means "pending is latest"

The overlay alone owns the lifecycle of a payload (`rpc.held_payloads`); every event names its payload, and
one of a payload that is not held is counted and changes nothing. No input ever raises: a defect in processing
a payload costs that payload.

Canonical blocks win. A payload whose block the node has is dropped, after its transactions were compared with
the block's; the remaining ones are rebased onto the new block. If the computed receipts were those of the
block, the known state is carried forward with the computed changes; otherwise execution restarts from the
node's state. So the base of `pending` is always the node's head, never blocks behind it (base/base#1439).

Pending state is retracted only for the reasons of `EndReason`, each time logged and counted in
`counts.retracted`. In particular a flashblock that is lost, or cannot be executed, ends the growth of its
block and retracts nothing: earlier ones were preconfirmed, and stay until the node has the block.

Flashblocks of block n+1 often arrive before the node has block n (base/base#51). Then n+1 is executed on top
of the stream's block n if no part of that is known to be missing, and waits for the node otherwise.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from flashctl.core.flashblocks.assembly import full_block
from flashctl.core.flashblocks.sequence import (
    Accepted,
    Closed,
    CloseReason,
    Event,
    Opened,
    Payload,
    PrevMismatch,
)
from flashctl.core.flashblocks.wire import ZERO_HASH, Flashblock
from flashctl.core.service import defects
from flashctl.errors import DataError, FlashctlError
from flashctl.eth.ordered_trie import ordered_root
from flashctl.eth.receipts import encode_receipt
from flashctl.evm.missing_state import Missing
from flashctl.lru import Lru
from flashctl.op.config import ChainConfig
from flashctl.op.envelope import TxEnvelope
from flashctl.remote.state import CanonicalBlock, CanonicalState, PendingState
from flashctl.rpc.counts import OverlayCounts
from flashctl.rpc.execution import PendingBlock, open_block
from flashctl.rpc.execution_rounds import ExecutionRounds
from flashctl.rpc.held_payloads import EndReason, HeldPayload, HeldPayloads

__all__ = ["Overlay", "PendingView", "Update"]

_LOG = logging.getLogger(__name__)

RECENT_BLOCKS: Final = 4
"""Settled or expired blocks whose transactions can still be looked up: the node's own answer takes
precedence, but a load-balanced one may return null for a block that another announced."""

HELD_BEYOND_DEPTH: Final = 4
"""Payloads held without being executed, so that a node that catches up finds them: 8 s of 2 s blocks."""


@dataclass(frozen=True, slots=True)
class PendingView:
    """The pending blocks at one moment."""

    canonical: CanonicalState
    blocks: tuple[PendingBlock, ...]
    """Consecutive, the first one on top of `canonical`; never empty."""

    @property
    def latest(self) -> PendingBlock:
        """The block of the tag `pending`."""
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
    """One flashblock was executed; subscribers are notified of it."""

    block: PendingBlock
    first_transaction: int
    """Index of the first transaction that it added."""

    @property
    def hashes(self) -> list[bytes]:
        """Of the transactions that it added."""
        return [envelope.hash for envelope in self.block.envelopes[self.first_transaction :]]


class Overlay:
    """The pending blocks of a stream. Not thread-safe: one caller at a time; `view` may be read at any
    time."""

    def __init__(self, config_for: Callable[[Payload], ChainConfig], *, max_depth: int = 3) -> None:
        """`config_for` returns the configuration of a payload's chain.

        `max_depth` is how many pending blocks may be on top of the node's head; further ones are held, but
        not executed until the node has caught up.
        """
        self._config_for = config_for
        self._max_depth = max_depth
        self._canonical: CanonicalState | None = None
        self._held = HeldPayloads()
        self._run: ExecutionRounds | None = None
        self._updates: list[Update] = []
        self._recent = Lru[str, PendingBlock](RECENT_BLOCKS)
        self.counts = OverlayCounts()
        self.view: PendingView | None = None

    @property
    def head(self) -> CanonicalBlock | None:
        """The canonical head as last confirmed."""
        return None if self._canonical is None else self._canonical.block

    @property
    def canonical(self) -> CanonicalState | None:
        """The known part of the state at the head."""
        return self._canonical

    @property
    def is_empty(self) -> bool:
        """Whether no payload is held."""
        return not len(self._held)

    @property
    def trouble(self) -> str:
        """Why pending lags behind the stream; empty if it does not. One line for health."""
        for held in self._held:
            if held.given_up:
                return f"block {held.number} is not followed beyond {_place(held)}: {held.given_up}"
            if not held.is_whole:
                return f"block {held.number} is shown up to {_place(held)}: what follows did not arrive"
        first = self._held.first
        if first is None or first.block is not None:
            return ""
        at = "unknown" if self._canonical is None else str(self._canonical.block.number)
        return f"block {first.number} waits for its parent, the node is at {at}"

    def take_updates(self) -> list[Update]:
        """Flashblocks executed since the last call, in order."""
        updates, self._updates = self._updates, []
        return updates

    def recent(self, transaction_hash: bytes) -> tuple[PendingBlock, int] | None:
        """A transaction of a recently pending block."""
        for block in reversed(self._recent.values()):
            index = block.positions.get(transaction_hash)
            if index is not None:
                return block, index
        return None

    # --- the stream ---

    def follow(self, events: Sequence[Event]) -> None:
        """Apply the assembler's events of one message."""
        for event in events:
            try:
                self._follow(event)
            except Exception as error:
                defects.caught("rpc.overlay", error, type(event).__name__)
        self._publish()

    def expire(self) -> None:
        """End all payloads: the stream has been silent for longer than a block takes."""
        for held in self._held:
            self._end(held, EndReason.EXPIRED)
        self._publish()

    def _follow(self, event: Event) -> None:
        match event:
            case Opened():
                self._begin(event)
            case Accepted(flashblock):
                self._take(flashblock)
            case Closed(closed, CloseReason.BROKEN):
                self._lack_tail(closed.payload_id)
            case PrevMismatch(index=0, predecessor_id=payload_id):
                self._lack_tail(payload_id)

    def _begin(self, opened: Opened) -> None:
        held, number = self._held.get(opened.payload_id), opened.block_number
        if held is not None:
            # A server replays an interrupted payload. The flashblocks held stay; `_take` compares.
            if held.base != opened.base:
                self._give_up(held, DataError("two bases under one payload id"))
            return
        if self._held.how_it_ended(opened.payload_id) is not None:
            return
        head = self.head
        if head is not None and number <= head.number:
            self._held.end(opened.payload_id, EndReason.LATE)
            return
        for later in self._held.above(number - 1):
            self._end(later, EndReason.REPLACED)
        self._held.add(HeldPayload(opened.payload_id, number, opened.base))
        if len(self._held) > self._max_depth + HELD_BEYOND_DEPTH and (first := self._held.first):
            self._end(first, EndReason.NODE_BEHIND)
            self._unground(first.number)
            self._publish(EndReason.NODE_BEHIND)

    def _take(self, flashblock: Flashblock) -> None:
        held = self._held.get(flashblock.payload_id)
        if held is None or held.given_up:
            how = self._held.how_it_ended(flashblock.payload_id)
            self.counts.ignored["given up" if held else how.value if how else "unknown"] += 1
            return
        if flashblock.index < len(held.flashblocks):
            if held.flashblocks[flashblock.index].diff != flashblock.diff:
                self._give_up(held, DataError(f"two flashblocks with index {flashblock.index}"))
            return
        if flashblock.index > len(held.flashblocks):
            self._give_up(held, DataError(f"index {flashblock.index} after {len(held.flashblocks) - 1}"))
            return
        self._unground(held.number)  # later blocks were executed on an earlier version of this payload
        held.flashblocks.append(flashblock)
        held.is_whole = True

    def _lack_tail(self, payload_id: str) -> None:
        held = self._held.get(payload_id)
        if held is not None:
            held.is_whole = False

    # --- the chain ---

    def confirm(self, blocks: Sequence[CanonicalBlock]) -> None:
        """Apply canonical blocks: the new head last, before it the blocks that settle pending ones.

        Blocks between may be left out; a pending block whose canonical one is not given is dropped unsettled.
        """
        try:
            self._confirm(blocks)
        except Exception as error:
            defects.caught("rpc.overlay", error, f"block {blocks[-1].number}")
            self._run = None
            for held in self._held:
                self._end(held, EndReason.REORGANISED)
            self._canonical = CanonicalState(blocks[-1])
        self._publish()

    def _confirm(self, blocks: Sequence[CanonicalBlock]) -> None:
        head = blocks[-1]
        previous = self._canonical
        if previous is not None and previous.block.hash == head.hash:
            return
        by_number = {block.number: block for block in blocks}
        carried = previous
        for held in self._held:
            if held.number > head.number:
                break
            block = by_number.get(held.number)
            matches = block is not None and self._settle(held, block)
            carried = _advance(carried, held, block) if matches and block is not None else None
            self._end(held, EndReason.SETTLED)
        if carried is not None and carried.block.hash != head.hash:
            carried = None
        self._canonical = carried if carried is not None else self._fresh(head)
        first = self._held.first
        self._run = None
        if carried is None or first is None or first.base.parent_hash != head.hash:
            self._unground(head.number)
        else:
            self._rebase(carried)

    def _settle(self, held: HeldPayload, block: CanonicalBlock) -> bool:
        """Compare a pending block with the canonical one; whether its computed receipts match."""
        shown = held.shown
        if shown is None:
            return False
        ours = tuple(shown.positions)
        if ours != block.transactions:
            if ours == block.transactions[: len(ours)]:
                self.counts.truncated += 1
            else:
                self.counts.reorged += 1
                self._retract(shown, EndReason.REORGANISED)
            return False
        self.counts.confirmed += 1
        receipts_root = ordered_root([encode_receipt(receipt) for receipt in shown.receipts])
        if receipts_root != block.receipts_root:
            _LOG.warning("our receipts are not those of the sealed block", extra={"block": block.number})
            return False
        return True

    def _fresh(self, head: CanonicalBlock) -> CanonicalState:
        """A state that keeps only immutable data."""
        previous = self._canonical
        return CanonicalState(head) if previous is None else previous.restarted(head)

    def _rebase(self, canonical: CanonicalState) -> None:
        """Put the remaining blocks on top of the new head: equal content, fewer layers."""
        state = PendingState(canonical)
        for held in self._held:
            if held.block is None:
                break
            before, state = state, state.apply(held.block.changes)
            held.block = replace(held.block, before=before, state=state)

    # --- execution ---

    def step(self) -> Missing:
        """Execute every flashblock that can be executed; returns the state missing for the next one, or
        nothing.

        Call it again after fetching the missing state into `canonical`; before that, it only adds the needs
        of flashblocks that arrived meanwhile. A fault of a payload is logged and counted, never raised.
        """
        while True:
            current = self._run or self._next()
            if current is None:
                return Missing()
            self._run = current
            try:
                if missing := current.lacks():
                    missing.add(current.look_ahead(self._held.above(current.held.number)))
                    return missing
                if current.advance():
                    self.counts.rounds += 1
                else:
                    self._run = None
                    self._finish(current)
            except Exception as error:
                self._run = None
                self._give_up(current.held, error)

    def _next(self) -> ExecutionRounds | None:
        """The next flashblock to execute, prepared; None if there is none or its parent is missing."""
        before: HeldPayload | None = None
        for position, held in enumerate(self._held):
            try:
                if not held.is_executed:
                    if held.block is None:
                        held.block = self._open(position, before, held)
                    return None if held.block is None else ExecutionRounds.of(held, held.block)
            except Exception as error:
                self._give_up(held, error)
            before = held
        return None

    def _open(self, position: int, before: HeldPayload | None, held: HeldPayload) -> PendingBlock | None:
        """The empty block of a payload, if its parent is known.

        Raises:
            DataError: If its number does not follow its parent's.
        """
        canonical, base = self._canonical, held.base
        if canonical is None or position >= self._max_depth:
            return None
        if before is None:
            if base.parent_hash != canonical.block.hash:
                return None
            number, state = canonical.block.number, PendingState(canonical)
            parent_time = canonical.block.timestamp
        else:
            if before.block is None or not before.is_whole or not _is_parent(before, held):
                return None
            number, state, parent_time = before.number, before.block.state, before.base.timestamp
        if held.number != number + 1:
            raise DataError(f"calls itself block {held.number} and stands on block {number}")
        return open_block(held.payload_id, base, self._config_for(held.payload), parent_time, state)

    def _finish(self, current: ExecutionRounds) -> None:
        block = current.result()
        current.held.block = block
        self.counts.flashblocks += 1
        if not block.agrees:
            self.counts.disagreements += 1
            fields = {"block": block.number, "index": block.index}
            gas = {"gas": block.gas_used, "announced": block.totals.gas_used}
            _LOG.warning("gas or logs differ from what the builder announced", extra=fields | gas)
        self._updates.append(Update(block, current.first_transaction))
        self._publish()

    def _give_up(self, held: HeldPayload, error: Exception) -> None:
        """Execute no more of a payload and of those on top of it; the canonical chain settles them."""
        if isinstance(error, FlashctlError):
            reason = "the rest does not execute"
            _LOG.warning("pending block given up: %s", error, extra={"block": held.number})
        else:
            reason = "a defect"
            defects.caught("rpc.overlay", error, f"payload {held.payload_id}")
        held.give_up(reason)
        if self._run is not None and self._run.held is held:
            self._run = None
        self._unground(held.number)
        self._publish()
        self.counts.diverged += 1

    def hopeless(self) -> Sequence[TxEnvelope]:
        """Transactions that still lack state after several fetches; returned once.

        The caller should request their access lists: each dependent read would cost another fetch.
        """
        return [] if self._run is None else self._run.take_hopeless()

    # --- bookkeeping ---

    def _end(self, held: HeldPayload, how: EndReason) -> None:
        """End a payload."""
        self._held.end(held.payload_id, how)
        if self._run is not None and self._run.held is held:
            self._run = None
        if how in (EndReason.SETTLED, EndReason.EXPIRED) and held.shown is not None:
            self._recent.put(held.payload_id, held.shown)

    def _unground(self, number: int) -> None:
        """Discard the execution of blocks above `number`, whose parent state changed."""
        for later in self._held.above(number):
            later.block = None
        if self._run is not None and self._run.held.number > number:
            self._run = None

    def _publish(self, why: EndReason = EndReason.REORGANISED) -> None:
        """Replace the view by the executed blocks; `why` is the reason for those no longer in it."""
        blocks: list[PendingBlock] = []
        for held in self._held:
            if held.shown is None:
                break
            blocks.append(held.shown)
        canonical, before = self._canonical, self.view
        self.view = None if canonical is None or not blocks else PendingView(canonical, tuple(blocks))
        if before is None or canonical is None:
            return
        shown = {block.payload_id: block.index for block in blocks}
        for block in before.blocks:
            if block.number > canonical.block.number and shown.get(block.payload_id, -1) < block.index:
                self._retract(block, self._held.how_it_ended(block.payload_id) or why)

    def _retract(self, block: PendingBlock, why: EndReason) -> None:
        """Log and count a block that is neither pending nor canonical any more."""
        self.counts.retracted[why] += 1
        fields = {"block": block.number, "index": block.index, "transactions": len(block.envelopes)}
        _LOG.warning("preconfirmed block retracted: %s", why.value, extra=fields)


def _place(held: HeldPayload) -> str:
    return f"flashblock {held.executed - 1}" if held.executed else "its parent"


def _advance(state: CanonicalState | None, held: HeldPayload, block: CanonicalBlock) -> CanonicalState | None:
    if state is None or held.block is None or block.parent_hash != state.block.hash:
        return None
    return state.advanced(block, held.block.changes)


def _is_parent(before: HeldPayload, held: HeldPayload) -> bool:
    """Whether a payload builds on the previous one as streamed, as far as its fields show."""
    if held.number != before.number + 1:
        return False
    diff = before.flashblocks[-1].diff
    if diff.block_hash == ZERO_HASH or diff.state_root == ZERO_HASH:
        return True  # a builder without state roots: only the transactions can be compared, once it is sealed
    return full_block(before.payload).hash == held.base.parent_hash
