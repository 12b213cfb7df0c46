"""Executing one streamed flashblock after the other, with whatever part of the state is at hand.

`FlashblockRun` executes the transactions of one flashblock on a pending state. When something is missing it
keeps the transactions before the first one affected, goes on with the rest only to find out what else will
be needed, and starts again from there when the caller has fetched it. `look_ahead` does the same for the
flashblocks that wait behind it, so that one round trip serves all that are there.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from flashctl.core.flashblocks.wire import Base, Flashblock
from flashctl.core.flashblocks.wire import Diff as WireDiff
from flashctl.errors import DataError
from flashctl.eth.blocks import Header
from flashctl.eth.ordered_trie import ordered_root
from flashctl.eth.receipts import Receipt
from flashctl.eth.transactions import DepositTx, LegacyTx
from flashctl.evm.halts import ExecutionTimeout
from flashctl.evm.message import Deadline
from flashctl.evm.state import NO_CHANGES, JournaledState, StateDiff
from flashctl.op.config import ChainConfig
from flashctl.op.context import BlockContext
from flashctl.op.envelope import TxEnvelope
from flashctl.op.execution import receipt_of
from flashctl.op.forks import OpFork
from flashctl.op.rules import rules_for
from flashctl.op.system_calls import begin_block
from flashctl.op.transaction import TransactionProcessor, TransactionRejected
from flashctl.rpc.state import Missing, PendingState, StateView, merge_diffs

__all__ = [
    "Diverged",
    "FlashblockRun",
    "PendingBlock",
    "block_context",
    "certain_needs",
    "look_ahead",
    "open_block",
]

MAX_EXECUTION_S: Final = 5.0
"""Wall time for one flashblock, all its rounds together. A builder fits it into 200 ms of compiled code;
beyond 5 s of ours the block is sealed before we are done."""


class Diverged(DataError):
    """A streamed transaction cannot be executed, though its builder did: our state or our rules differ."""

    def __init__(self, index: int, envelope: TxEnvelope, reason: str) -> None:
        self.index = index
        self.transaction_hash = envelope.hash
        super().__init__(f"transaction {index} (0x{envelope.hash.hex()}) does not execute: {reason}")


@dataclass(frozen=True, slots=True)
class PendingBlock:
    """A block of the stream as far as it has been executed."""

    payload_id: str
    config: ChainConfig
    context: BlockContext
    parent_timestamp: int
    index: int
    """Of the last flashblock executed; -1 before the first."""
    totals: WireDiff
    """The diff of that flashblock, whose roots and gas are those of the block so far."""
    envelopes: tuple[TxEnvelope, ...]
    receipts: tuple[Receipt, ...]
    positions: dict[bytes, int]
    """Transaction hash to index."""
    changes: StateDiff
    """What this block changed so far."""
    before: PendingState
    """The state it began on."""
    state: PendingState
    """The state after it."""
    _headers: list[Header] = field(default_factory=list, init=False, repr=False, compare=False)
    """The header, once it was asked for."""

    # As `ethrpc.interfaces.BlockView`.

    @property
    def is_pending(self) -> bool:
        """Yes: its hash changes with every flashblock."""
        return True

    @property
    def timestamp(self) -> int:
        """Seconds since the epoch."""
        return self.context.timestamp

    @property
    def base_fee(self) -> int:
        """Wei per gas."""
        return self.context.base_fee

    @property
    def header(self) -> Header:
        """What index 0 fixed, and the totals that the newest flashblock announced."""
        if not self._headers:
            totals = self.totals
            self._headers.append(
                self.context.header(
                    self.fork,
                    state_root=totals.state_root,
                    withdrawals_root=totals.withdrawals_root,
                    transactions_root=ordered_root([envelope.raw for envelope in self.envelopes]),
                    receipts_root=totals.receipts_root,
                    logs_bloom=totals.logs_bloom,
                    gas_used=totals.gas_used,
                    da_footprint=totals.blob_gas_used or 0,
                )
            )
        return self._headers[0]

    @property
    def fork(self) -> OpFork:
        """Whose rules the block follows."""
        return self.config.fork_at(self.context.timestamp)

    @property
    def number(self) -> int:
        """The block number."""
        return self.context.number

    @property
    def gas_used(self) -> int:
        """Gas of all transactions executed, by our count."""
        return self.receipts[-1].cumulative_gas_used if self.receipts else 0

    @property
    def agrees(self) -> bool:
        """Whether our gas and logs are those the builder announced; the cheap part of a receipts root."""
        bloom = 0
        for receipt in self.receipts:
            bloom |= int.from_bytes(receipt.bloom, "big")
        return self.gas_used == self.totals.gas_used and bloom == int.from_bytes(
            self.totals.logs_bloom, "big"
        )


def block_context(base: Base) -> BlockContext:
    """The context that index 0 announces."""
    return BlockContext(
        number=base.block_number,
        timestamp=base.timestamp,
        parent_hash=base.parent_hash,
        gas_limit=base.gas_limit,
        base_fee=base.base_fee_per_gas,
        fee_recipient=base.fee_recipient,
        prev_randao=base.prev_randao,
        parent_beacon_block_root=base.parent_beacon_block_root,
        extra_data=base.extra_data,
    )


def open_block(
    payload_id: str, base: Base, config: ChainConfig, parent_timestamp: int, state: PendingState
) -> PendingBlock:
    """A block of which nothing has been executed, on top of `state`."""
    totals = WireDiff(transactions=(), gas_used=0)
    context = block_context(base)
    return PendingBlock(
        payload_id, config, context, parent_timestamp, -1, totals, (), (), {}, NO_CHANGES, state, state
    )


class FlashblockRun:
    """The execution of one flashblock on top of a block.

    run = FlashblockRun(block, flashblock, envelopes)
    while missing := run.advance():
        ...fetch into block.state.canonical...
    block = run.result()
    """

    def __init__(self, block: PendingBlock, flashblock: Flashblock, envelopes: list[TxEnvelope]) -> None:
        """`envelopes` are the transactions of `flashblock`, decoded."""
        self._block = block
        self._flashblock = flashblock
        self._envelopes = envelopes
        self._receipts: list[Receipt] = []
        self._changes = NO_CHANGES
        self._begun = block.index >= 0
        """Whether the protocol's calls before the first transaction have been made."""
        self._announced = False
        self._left_s = MAX_EXECUTION_S
        self.guessed: StateDiff | None = None
        """What all transactions would change if what the last round lacked were nothing: good for finding
        out what others will lack, and for nothing else. None before anything was executed."""

    def advance(self) -> Missing:
        """Execute what is left; what it lacked, nothing if it is done.

        Raises:
            Diverged: If a transaction is refused although nothing was missing.
            ExecutionTimeout: If all rounds together take longer than MAX_EXECUTION_S.
        """
        if not self._announced:
            # Senders and receivers are needed for certain: one round for all of them instead of a guess each.
            self._announced = True
            missing = certain_needs(self._block.state, self._envelopes)
            if missing:
                return missing
        started = time.perf_counter()
        try:
            return self._execute_rest(Deadline(max(0.001, self._left_s)))
        finally:
            self._left_s -= time.perf_counter() - started

    def _execute_rest(self, deadline: Deadline) -> Missing:
        view = StateView(self._block.state.apply(self._changes))
        state = JournaledState(view)
        block = self._block
        fork, rules = block.fork, rules_for(block.fork)
        env = block.context.environment(block.config, view.ancestor_hash)
        if not self._begun:
            begin_block(state, block.config, rules, env, block.context, block.parent_timestamp)
            if not view.missing:
                self._begun = True
                self._keep(state)
        processor = TransactionProcessor(state, fork, rules, env)
        for envelope in self.unfinished:
            self._execute(envelope, processor, state, view.missing, deadline)
        if view.missing:
            self.guessed = merge_diffs(self._changes, state.take_changes())
        return view.missing

    @property
    def unfinished(self) -> list[TxEnvelope]:
        """The transactions that have not been executed for good."""
        return self._envelopes[len(self._receipts) :]

    def result(self) -> PendingBlock:
        """The block with this flashblock in it; call it when `advance` has nothing missing."""
        block, start = self._block, len(self._block.envelopes)
        positions = {envelope.hash: start + offset for offset, envelope in enumerate(self._envelopes)}
        return replace(
            block,
            index=self._flashblock.index,
            totals=self._flashblock.diff,
            envelopes=(*block.envelopes, *self._envelopes),
            receipts=(*block.receipts, *self._receipts),
            positions=block.positions | positions,
            changes=merge_diffs(block.changes, self._changes),
            state=block.state.apply(self._changes),
        )

    def _execute(
        self,
        envelope: TxEnvelope,
        processor: TransactionProcessor,
        state: JournaledState,
        missing: Missing,
        deadline: Deadline,
    ) -> None:
        tx = envelope.tx
        try:
            if isinstance(tx, DepositTx):
                applied = processor.apply_deposit(tx, deadline)
            else:
                applied = processor.apply_signed(envelope, tx, deadline)
        except TransactionRejected as error:
            if missing:
                return  # a sender that is not loaded owns nothing
            raise Diverged(len(self._block.envelopes) + len(self._receipts), envelope, str(error)) from None
        if not missing:
            gas_before = self._receipts[-1].cumulative_gas_used if self._receipts else self._block.gas_used
            gas_used = gas_before + applied.outcome.gas_used
            receipt, _ = receipt_of(envelope, applied, gas_used, self._block.fork)
            self._receipts.append(receipt)
            self._keep(state)

    def _keep(self, state: JournaledState) -> None:
        self._changes = merge_diffs(self._changes, state.take_changes())


def certain_needs(state: PendingState, envelopes: Sequence[TxEnvelope]) -> Missing:
    """What transactions announce that they touch, and `state` lacks: senders, receivers, access lists."""
    view = StateView(state)
    for address in _addresses(envelopes):
        view.account(address)
    for envelope in envelopes:
        if isinstance(envelope.tx, DepositTx | LegacyTx):
            continue
        for entry in envelope.tx.access_list:
            for key in entry.storage_keys:
                view.storage(int.from_bytes(entry.address, "big"), int.from_bytes(key, "big"))
    return view.missing


def look_ahead(
    block: PendingBlock, guessed: StateDiff, envelopes: Sequence[TxEnvelope], deadline: Deadline
) -> tuple[Missing, StateDiff]:
    """What a flashblock that waits behind an unfinished one will lack, and what is guessed after it.

    Args:
        block: The block it belongs to, as far as it is executed.
        guessed: What the flashblocks between are believed to change.
        envelopes: Its transactions.
        deadline: For all of them; when it has passed, what was found by then counts.
    """
    state = block.state.apply(guessed)
    missing = certain_needs(state, envelopes)
    if missing:
        return missing, guessed
    view = StateView(state)
    journal = JournaledState(view)
    env = block.context.environment(block.config, view.ancestor_hash)
    processor = TransactionProcessor(journal, block.fork, rules_for(block.fork), env)
    for envelope in envelopes:
        tx = envelope.tx
        try:
            if isinstance(tx, DepositTx):
                processor.apply_deposit(tx, deadline)
            else:
                processor.apply_signed(envelope, tx, deadline)
        except TransactionRejected:
            continue  # for want of what is missing, most likely; when its turn comes, it will show
        except ExecutionTimeout:
            break
    return view.missing, merge_diffs(guessed, journal.take_changes())


def _addresses(envelopes: Iterable[TxEnvelope]) -> set[int]:
    addresses = {envelope.sender for envelope in envelopes}
    addresses |= {envelope.tx.to for envelope in envelopes if envelope.tx.to is not None}
    return {int.from_bytes(address, "big") for address in addresses}
