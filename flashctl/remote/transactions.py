"""Sequential execution of a block's transactions on a partially known state.

`TransactionRun` keeps the transactions before the first one with missing state, runs the rest speculatively
to collect what else they will need, and resumes there when the caller has fetched it. `look_ahead` does the
same for transactions queued behind them, so that one round trip serves all.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from flashctl.errors import DataError
from flashctl.eth.receipts import Receipt
from flashctl.eth.transactions import DepositTx, LegacyTx
from flashctl.evm.halts import ExecutionTimeout
from flashctl.evm.message import Deadline
from flashctl.evm.missing_state import Missing, StateMissing, attempt
from flashctl.evm.state import NO_CHANGES, JournaledState, StateDiff
from flashctl.op.config import ChainConfig
from flashctl.op.context import BlockContext
from flashctl.op.envelope import TxEnvelope
from flashctl.op.execution import receipt_of
from flashctl.op.forks import OpFork
from flashctl.op.rules import rules_for
from flashctl.op.system_calls import begin_block
from flashctl.op.transaction import Applied, Rejection, TransactionProcessor, TransactionRejected
from flashctl.remote.state import PendingState, StateView, merge_diffs

__all__ = ["BlockSetting", "BlockSoFar", "Diverged", "TransactionRun", "certain_needs", "look_ahead"]


class Diverged(DataError):
    """A transaction fails that the builder executed: state or rules differ from the builder's."""

    def __init__(self, index: int, envelope: TxEnvelope, reason: str) -> None:
        self.index = index
        self.transaction_hash = envelope.hash
        super().__init__(f"transaction {index} (0x{envelope.hash.hex()}) does not execute: {reason}")


@dataclass(frozen=True, slots=True)
class BlockSetting:
    """The block that transactions are executed in."""

    config: ChainConfig
    context: BlockContext
    parent_timestamp: int
    """Timestamp of the previous block, seconds."""

    @property
    def fork(self) -> OpFork:
        """The fork of the block."""
        return self.config.fork_at(self.context.timestamp)


@dataclass(frozen=True, slots=True)
class BlockSoFar:
    """What of a block has been executed."""

    has_begun: bool
    """Whether the protocol's own calls, which open a block, have."""
    transactions: int = 0
    gas_used: int = 0


class TransactionRun:
    """The execution of the next transactions of a block.

    run = TransactionRun(...)
    while missing := run.advance():
        ...fetch into state.canonical...
    run.receipts, run.changes
    """

    def __init__(
        self,
        setting: BlockSetting,
        state: PendingState,
        envelopes: Sequence[TxEnvelope],
        *,
        before: BlockSoFar,
        seconds: float,
    ) -> None:
        """Nothing is executed yet.

        Args:
            state: After the transactions before these.
            before: What of the block is in `state`.
            seconds: Wall time of all rounds together.
        """
        self._setting = setting
        self._state = state
        self._envelopes = envelopes
        self._first = before.transactions
        self._gas_before = before.gas_used
        self._left_s = seconds
        self._has_begun = before.has_begun
        self._is_announced = False
        self.receipts: list[Receipt] = []
        self.changes = NO_CHANGES
        """The changes of the executed transactions."""
        self.guessed: StateDiff | None = None
        """The changes of all transactions if the missing state of the last round were empty: only for finding
        what later ones will lack. None before the first round."""

    @property
    def unfinished(self) -> Sequence[TxEnvelope]:
        """The transactions whose execution is not final."""
        return self._envelopes[len(self.receipts) :]

    def advance(self) -> Missing:
        """Execute the remaining transactions; returns the missing state, empty when done.

        Raises:
            Diverged: If a transaction is rejected although no state was missing.
            ExecutionTimeout: If all rounds together exceed their time.
        """
        if not self._is_announced:
            # Senders and recipients are certainly needed: one round for all of them, without guesses.
            self._is_announced = True
            missing = certain_needs(self._state, self._envelopes)
            if missing:
                return missing
        started = time.perf_counter()
        deadline = Deadline(max(0.001, self._left_s))
        try:
            attempt(lambda guesses: self._execute_rest(guesses, deadline))
        except StateMissing as error:
            return error.missing
        finally:
            self._left_s -= time.perf_counter() - started
        return Missing()

    def _execute_rest(self, guesses: Missing | None, deadline: Deadline) -> None:
        view = StateView(self._state.apply(self.changes), guesses)
        journal = JournaledState(view)
        setting = self._setting
        fork, rules = setting.fork, rules_for(setting.fork)
        env = setting.context.environment(setting.config, view.ancestor_hash)
        if not self._has_begun:
            begin_block(journal, setting.config, rules, env, setting.context, setting.parent_timestamp)
            if guesses is None:
                self._has_begun = True
                self._keep(journal)
        processor = TransactionProcessor(journal, fork, rules, env)
        for envelope in self.unfinished:
            try:
                self._check_gas(envelope)
                applied = _apply(processor, envelope, deadline)
            except TransactionRejected as error:
                if guesses is not None:
                    continue  # speculative: a sender that is not loaded has no balance
                raise Diverged(self._first + len(self.receipts), envelope, str(error)) from None
            if guesses is None:
                self._take(envelope, applied)
                self._keep(journal)
        if guesses is not None:
            self.guessed = merge_diffs(self.changes, journal.take_changes())

    @property
    def _gas_used(self) -> int:
        """Of the block, up to the transactions executed for good."""
        return self.receipts[-1].cumulative_gas_used if self.receipts else self._gas_before

    def _check_gas(self, envelope: TxEnvelope) -> None:
        """Gas bounds the memory that a transaction takes, and of a deposit its sender need own nothing: one
        that the block cannot hold is not tried.

        Raises:
            TransactionRejected: If its gas limit is more than the block has left.
        """
        asked, left = envelope.tx.gas_limit, self._setting.context.gas_limit - self._gas_used
        if asked > left:
            raise TransactionRejected(Rejection.BLOCK_GAS, f"transaction {asked}, block {left}")

    def _take(self, envelope: TxEnvelope, applied: Applied) -> None:
        gas_used = self._gas_used + applied.outcome.gas_used
        receipt, _ = receipt_of(envelope, applied, gas_used, self._setting.fork)
        self.receipts.append(receipt)

    def _keep(self, journal: JournaledState) -> None:
        self.changes = merge_diffs(self.changes, journal.take_changes())


def certain_needs(state: PendingState, envelopes: Sequence[TxEnvelope]) -> Missing:
    """State that transactions certainly touch and `state` lacks: senders, recipients, access lists."""
    missing = Missing()
    view = StateView(state, missing)
    for address in _addresses(envelopes):
        view.account(address)
    for envelope in envelopes:
        if isinstance(envelope.tx, DepositTx | LegacyTx):
            continue
        for entry in envelope.tx.access_list:
            for key in entry.storage_keys:
                view.storage(int.from_bytes(entry.address, "big"), int.from_bytes(key, "big"))
    return missing


def look_ahead(
    setting: BlockSetting,
    state: PendingState,
    guessed: StateDiff,
    envelopes: Sequence[TxEnvelope],
    deadline: Deadline,
) -> tuple[Missing, StateDiff]:
    """The state that transactions behind unfinished ones will lack, and the guessed changes after them.

    Args:
        setting: The block they belong to.
        state: After what has been executed of it.
        guessed: The presumed changes of the transactions between.
        deadline: For all of them; when it has passed, the findings so far are returned.
    """
    state = state.apply(guessed)
    missing = certain_needs(state, envelopes)
    if missing:
        return missing, guessed
    view = StateView(state, missing)
    journal = JournaledState(view)
    env = setting.context.environment(setting.config, view.ancestor_hash)
    processor = TransactionProcessor(journal, setting.fork, rules_for(setting.fork), env)
    for envelope in envelopes:
        if envelope.tx.gas_limit > setting.context.gas_limit:
            continue
        try:
            _apply(processor, envelope, deadline)
        except TransactionRejected:
            continue  # most likely due to missing state; a real fault recurs when it is executed
        except ExecutionTimeout:
            break
    return missing, merge_diffs(guessed, journal.take_changes())


def _apply(processor: TransactionProcessor, envelope: TxEnvelope, deadline: Deadline) -> Applied:
    tx = envelope.tx
    if isinstance(tx, DepositTx):
        return processor.apply_deposit(tx, deadline)
    return processor.apply_signed(envelope, tx, deadline)


def _addresses(envelopes: Iterable[TxEnvelope]) -> set[int]:
    addresses = {envelope.sender for envelope in envelopes}
    addresses |= {envelope.tx.to for envelope in envelopes if envelope.tx.to is not None}
    return {int.from_bytes(address, "big") for address in addresses}
