"""Re-executes an existing block, to observe its transactions one by one (debug traces).

Unlike `op.execution.BlockExecution` it needs no state trie and no parent's header, so that a block that is
known from a stream can be run as well, and it seals nothing.
"""

from __future__ import annotations

from typing import Final

from flashctl.eth.receipts import Receipt
from flashctl.eth.transactions import DepositTx
from flashctl.evm.code import CodeCache
from flashctl.evm.message import BlockEnv, Deadline
from flashctl.evm.state import JournaledState, StateReader
from flashctl.op.config import ChainConfig
from flashctl.op.context import AncestorHash, BlockContext
from flashctl.op.envelope import TxEnvelope
from flashctl.op.execution import TransactionResult, receipt_of, result_of
from flashctl.op.rules import rules_for
from flashctl.op.system_calls import begin_block
from flashctl.op.transaction import TransactionProcessor

__all__ = ["BlockReplay"]


class BlockReplay:
    """After construction the protocol's own calls have run; then call `execute` for every transaction."""

    def __init__(
        self,
        config: ChainConfig,
        context: BlockContext,
        parent_timestamp: int,
        state: StateReader,
        ancestor_hash: AncestorHash,
    ) -> None:
        """Open a block on top of `state`, which is not changed.

        Args:
            parent_timestamp: Of the block before, seconds; it decides which forks the block activates.
        """
        self.fork: Final = config.fork_at(context.timestamp)
        self.state: Final = JournaledState(state)
        self.env: Final[BlockEnv] = context.environment(config, ancestor_hash)
        self.receipts: Final[list[Receipt]] = []
        self._gas_used = 0
        rules = rules_for(self.fork)
        self._processor: Final = TransactionProcessor(self.state, self.fork, rules, self.env)
        begin_block(self.state, config, rules, self.env, context, parent_timestamp)

    def execute(
        self, envelope: TxEnvelope, *, deadline: Deadline | None = None, codes: CodeCache | None = None
    ) -> TransactionResult:
        """Run the next transaction.

        Raises:
            TransactionRejected: The state is not the one that the block ran on, or a part of it is not there.
            ExecutionTimeout: The deadline passed.
        """
        tx = envelope.tx
        if isinstance(tx, DepositTx):
            applied = self._processor.apply_deposit(tx, deadline, codes)
        else:
            applied = self._processor.apply_signed(envelope, tx, deadline, codes)
        self._gas_used += applied.outcome.gas_used
        receipt, _ = receipt_of(envelope, applied, self._gas_used, self.fork)
        self.receipts.append(receipt)
        return result_of(envelope, applied, receipt)
