"""A streamed block in its executed part, and the execution of its next flashblock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from flashctl.core.flashblocks.assembly import block_context
from flashctl.core.flashblocks.wire import Base, Flashblock
from flashctl.core.flashblocks.wire import Diff as WireDiff
from flashctl.eth.blocks import Header
from flashctl.eth.ordered_trie import ordered_root
from flashctl.eth.receipts import Receipt
from flashctl.evm.missing_state import Missing
from flashctl.evm.state import NO_CHANGES, StateDiff
from flashctl.op.config import ChainConfig
from flashctl.op.context import BlockContext
from flashctl.op.envelope import TxEnvelope
from flashctl.op.forks import OpFork
from flashctl.remote.state import PendingState, merge_diffs
from flashctl.remote.transactions import BlockSetting, BlockSoFar, TransactionRun

__all__ = ["FlashblockRun", "PendingBlock", "open_block"]

MAX_EXECUTION_S: Final = 5.0
"""Wall time for one flashblock, all its rounds together. A builder executes it within 200 ms in compiled
code; after 5 s here the block is sealed before the execution ends."""


@dataclass(frozen=True, slots=True)
class PendingBlock:
    """The executed part of a streamed block."""

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
    """The block's state changes so far."""
    before: PendingState
    """The state before it."""
    state: PendingState
    """The state after it."""
    _headers: list[Header] = field(default_factory=list, init=False, repr=False, compare=False)
    """The header, computed at first use."""

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
        """The base of index 0 with the totals announced by the newest flashblock."""
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
    def setting(self) -> BlockSetting:
        """The block that its transactions are executed in."""
        return BlockSetting(self.config, self.context, self.parent_timestamp)

    @property
    def fork(self) -> OpFork:
        """The fork of the block."""
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


def open_block(
    payload_id: str, base: Base, config: ChainConfig, parent_timestamp: int, state: PendingState
) -> PendingBlock:
    """An empty block on top of `state`, before its first flashblock."""
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
        self._run = TransactionRun(
            block.setting,
            block.state,
            envelopes,
            before=BlockSoFar(block.index >= 0, len(block.envelopes), block.gas_used),
            seconds=MAX_EXECUTION_S,
        )

    @property
    def guessed(self) -> StateDiff | None:
        """See `TransactionRun`."""
        return self._run.guessed

    @property
    def unfinished(self) -> Sequence[TxEnvelope]:
        """The transactions whose execution is not final."""
        return self._run.unfinished

    def advance(self) -> Missing:
        """Execute the remaining transactions; returns the missing state, empty when done.

        Raises:
            Diverged: If a transaction is rejected although no state was missing.
            ExecutionTimeout: If all rounds together take longer than MAX_EXECUTION_S.
        """
        return self._run.advance()

    def result(self) -> PendingBlock:
        """The block including this flashblock; call it when `advance` returns nothing missing."""
        block, run, start = self._block, self._run, len(self._block.envelopes)
        positions = {envelope.hash: start + offset for offset, envelope in enumerate(self._envelopes)}
        return replace(
            block,
            index=self._flashblock.index,
            totals=self._flashblock.diff,
            envelopes=(*block.envelopes, *self._envelopes),
            receipts=(*block.receipts, *run.receipts),
            positions=block.positions | positions,
            changes=merge_diffs(block.changes, run.changes),
            state=block.state.apply(run.changes),
        )
