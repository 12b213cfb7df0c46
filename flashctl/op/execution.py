"""Blocks: execute transactions one by one, seal repeatedly, or validate a block from elsewhere.

A builder opens a `BlockExecution`, adds transactions for a while, seals a flashblock, adds more, seals again.
Each seal is a complete block of everything so far; tries, bloom and state root grow from the seal before, so
ten seals cost little more than one. `execute_block` runs the same code over a finished block and compares.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from flashctl.eth.blocks import (
    EMPTY_TRIE_ROOT,
    Block,
    Header,
)
from flashctl.eth.ordered_trie import OrderedTrie
from flashctl.eth.receipts import Receipt, encode_receipt, new_logs, new_receipt
from flashctl.eth.signatures import InvalidSignature
from flashctl.eth.transactions import DepositTx, InvalidTransaction
from flashctl.evm.calls import create_address
from flashctl.evm.code import CodeCache
from flashctl.evm.message import BlockEnv, Deadline
from flashctl.evm.state import JournaledState, StateDiff
from flashctl.evm.world import World
from flashctl.op.config import ChainConfig
from flashctl.op.context import AncestorHash, BlockContext
from flashctl.op.envelope import TxEnvelope, recover_all
from flashctl.op.fees import L1FeeParameters, da_footprint_scalar_or_default
from flashctl.op.forks import OpFork
from flashctl.op.header_checks import InvalidBlock, check_header, check_seal
from flashctl.op.l1_attributes import stated_footprint_scalar
from flashctl.op.rules import rules_for
from flashctl.op.system_calls import begin_block
from flashctl.op.transaction import Applied, Rejection, TransactionProcessor, TransactionRejected

__all__ = [
    "BlockContext",
    "BlockExecution",
    "InvalidBlock",
    "Rejection",
    "SealedBlock",
    "TransactionRejected",
    "TransactionResult",
    "execute_block",
    "receipt_of",
    "result_of",
    "withdrawals_root",
]

MESSAGE_PASSER: Final = 0x4200000000000000000000000000000000000016
"""L2ToL1MessagePasser, whose storage root is the header's withdrawals root from Isthmus."""

_DEPOSIT_RECEIPT_VERSION: Final = 1


class TransactionResult(NamedTuple):
    """What one transaction of a block did."""

    receipt: Receipt
    gas_used: int
    """By this transaction alone."""

    effective_gas_price: int
    """Wei per gas; zero for a deposit."""

    l1_fee: int
    """L1 data fee in wei."""

    operator_fee: int
    """Operator fee in wei."""

    tip: int
    """Priority fee in total, in wei: what the block gains by including the transaction."""

    output: bytes
    """Returned data, or the reason of a revert; the code that a creation deployed."""

    contract_address: bytes | None
    """Of a creation, succeeded or not, as receipts report it."""

    halt_reason: str | None
    """None for success and for a revert."""


@dataclass(frozen=True, slots=True)
class SealedBlock:
    """A block with everything that executing it brought to light."""

    block: Block
    envelopes: tuple[TxEnvelope, ...]
    results: tuple[TransactionResult, ...]
    world: World
    """The state after the block."""

    diff: StateDiff
    """What changed since the seal before this one; since the parent for a first seal."""

    new_codes: Mapping[bytes, bytes]
    """Code of every contract the block deployed, by hash."""

    fee_parameters: L1FeeParameters | None
    """What L1 and operator fees were computed from; None for a block of deposits."""

    @property
    def hash(self) -> bytes:
        """The block hash."""
        return self.block.header.hash

    @property
    def header(self) -> Header:
        """The block's header."""
        return self.block.header

    @property
    def receipts(self) -> tuple[Receipt, ...]:
        """The receipts, in order."""
        return tuple(result.receipt for result in self.results)


class BlockExecution:
    """A block that is being filled.

    After construction the protocol's own calls have run. Then call `execute` for every transaction and `seal`
    whenever a block is wanted; sealing ends nothing.
    """

    def __init__(
        self,
        config: ChainConfig,
        parent: Header,
        context: BlockContext,
        world: World,
        ancestor_hash: AncestorHash,
    ) -> None:
        """Open a block on top of `world`, the state after `parent`.

        Raises:
            UnsupportedFork: The block's time is before Canyon.
            MissingNode: The state is partial and lacks what the block needs.
        """
        self.config: Final = config
        self.parent: Final = parent
        self.context: Final = context
        self.fork: Final = config.fork_at(context.timestamp)
        self.state: Final = JournaledState(world)
        self.env: Final[BlockEnv] = context.environment(config, ancestor_hash)
        self.gas_used = 0
        """Gas of all transactions so far."""
        self.da_footprint = 0
        """Gas equivalent of their estimated data (Jovian); bounded by the gas limit like gas itself."""
        self.tips = 0
        """Priority fees so far, in wei."""
        self.envelopes: Final[list[TxEnvelope]] = []
        self.results: Final[list[TransactionResult]] = []
        rules = rules_for(self.fork)
        self._processor: Final = TransactionProcessor(self.state, self.fork, rules, self.env)
        self._deposits_only: Final = any(
            config.activates(fork, context.timestamp, parent.timestamp)
            for fork in (OpFork.JOVIAN, OpFork.KARST)
        )
        self._has_footprint: Final = self.fork.has_da_footprint
        self._da_scalar: int | None = None
        self._world = world
        self._raws: list[bytes] = []
        self._transactions = OrderedTrie()
        self._receipts = OrderedTrie()
        self._encoded_receipts: list[bytes] = []
        self._bloom = 0
        self._new_codes: dict[bytes, bytes] = {}
        self._sealed: SealedBlock | None = None
        begin_block(self.state, config, rules, self.env, context, parent.timestamp)

    @property
    def is_whole(self) -> bool:
        """Whether whatever `execute` raised left the block as it was before. False once something failed
        between a transaction's end and its receipt, which only a defect does."""
        return not self._processor.is_settling

    @property
    def receipts(self) -> list[Receipt]:
        """The receipts so far."""
        return [result.receipt for result in self.results]

    @property
    def gas_left(self) -> int:
        """Gas that transactions may still ask for."""
        return self.context.gas_limit - self.gas_used

    @property
    def fee_parameters(self) -> L1FeeParameters:
        """L1 and operator fee parameters as the deposits so far left them."""
        return self._processor.fee_parameters

    def is_beginning_of(self, block: Block) -> bool:
        """Whether executing `block` from its start comes to where this execution is now."""
        return (
            self.is_whole
            and self.context == BlockContext.from_header(block.header)
            and tuple(self._raws) == block.transactions[: len(self._raws)]
        )

    def footprint_of(self, envelope: TxEnvelope) -> int:
        """The DA footprint that a transaction would add; zero for deposits and before Jovian."""
        if not self._has_footprint or envelope.is_deposit:
            return 0
        return envelope.da_size * self._footprint_scalar()

    def execute(
        self, envelope: TxEnvelope, *, deadline: Deadline | None = None, codes: CodeCache | None = None
    ) -> TransactionResult:
        """Append a transaction to the block.

        Args:
            envelope: The transaction.
            deadline: Wall budget.
            codes: Where code comes from and what runs it; None for what the process shares. A tracer's.

        Raises:
            TransactionRejected: It cannot be included here; the block is as it was before.
            ExecutionTimeout: The deadline passed; the block is as it was before.
        """
        tx = envelope.tx
        if tx.gas_limit > self.gas_left:
            raise TransactionRejected(
                Rejection.BLOCK_GAS, f"transaction {tx.gas_limit}, block {self.gas_left}"
            )
        footprint = 0
        if isinstance(tx, DepositTx):
            applied = self._processor.apply_deposit(tx, deadline, codes)
        else:
            if self._deposits_only:
                raise TransactionRejected(Rejection.ACTIVATION_BLOCK)
            footprint = self.footprint_of(envelope)
            if self.da_footprint + footprint > self.context.gas_limit:
                left = self.context.gas_limit - self.da_footprint
                raise TransactionRejected(Rejection.DA_FOOTPRINT, f"transaction {footprint}, block {left}")
            applied = self._processor.apply_signed(envelope, tx, deadline, codes)
        self.gas_used += applied.outcome.gas_used
        self.da_footprint += footprint
        self.tips += applied.tip
        result = self._result(envelope, applied)
        self.envelopes.append(envelope)
        self._raws.append(envelope.raw)
        self.results.append(result)
        self._sealed = None
        self._processor.is_settling = False
        return result

    def seal(self) -> SealedBlock:
        """The block of everything executed so far. Cheap to repeat; execution may go on afterwards.

        Raises:
            MissingNode: The state is partial and lacks a node that the new root depends on.
        """
        if self._sealed is None:
            self._sealed = self._seal()
        return self._sealed

    def _seal(self) -> SealedBlock:
        diff = self.state.take_changes()
        self._world = self._world.apply(diff)
        self._new_codes |= diff.codes
        raws = self._raws
        self._transactions = self._transactions.extend(raws[self._transactions.size :])
        self._receipts = self._receipts.extend(self._encoded_receipts[self._receipts.size :])
        block = Block(self._header(), tuple(raws), () if self.fork.has_withdrawals else None)
        has_fees = any(not envelope.is_deposit for envelope in self.envelopes)
        return SealedBlock(
            block,
            tuple(self.envelopes),
            tuple(self.results),
            self._world,
            diff,
            dict(self._new_codes),
            self.fee_parameters if has_fees else None,
        )

    def _header(self) -> Header:
        return self.context.header(
            self.fork,
            state_root=self._world.root,
            withdrawals_root=withdrawals_root(self._world, self.fork),
            transactions_root=self._transactions.root_hash,
            receipts_root=self._receipts.root_hash,
            logs_bloom=self._bloom.to_bytes(256, "big"),
            gas_used=self.gas_used,
            da_footprint=self.da_footprint,
        )

    def _result(self, envelope: TxEnvelope, applied: Applied) -> TransactionResult:
        receipt, bits = receipt_of(envelope, applied, self.gas_used, self.fork)
        self._bloom |= bits
        self._encoded_receipts.append(encode_receipt(receipt))
        return result_of(envelope, applied, receipt)

    def _footprint_scalar(self) -> int:
        """Gas per estimated byte: from the calldata of the block's first transaction, else from the contract.

        op-geth reads the calldata only. The contract holds the same value once that transaction has run;
        reading it covers blocks without L1 attributes, such as the one a simulation starts.
        """
        if self._da_scalar is None:
            first = self.envelopes[0].tx if self.envelopes else None
            scalar = None if first is None else stated_footprint_scalar(first.data)
            if scalar is None:
                scalar = self.fee_parameters.da_footprint_gas_scalar
            self._da_scalar = da_footprint_scalar_or_default(scalar)
        return self._da_scalar


def withdrawals_root(world: World, fork: OpFork) -> bytes | None:
    """The withdrawals root of a block's header: that of an empty list from Canyon, L2ToL1MessagePasser's
    storage from Isthmus."""
    if fork.commits_to_message_passer:
        return world.storage_root(MESSAGE_PASSER)
    return EMPTY_TRIE_ROOT if fork.has_withdrawals else None


def receipt_of(
    envelope: TxEnvelope, applied: Applied, cumulative_gas_used: int, fork: OpFork
) -> tuple[Receipt, int]:
    """The receipt of a transaction, and its filter as a number.

    Args:
        cumulative_gas_used: Gas of the block up to and including the transaction.
    """
    outcome, nonce = applied.outcome, applied.deposit_nonce
    logs, bits = new_logs(outcome.logs)
    version = _DEPOSIT_RECEIPT_VERSION if nonce is not None and fork.has_receipt_version else None
    receipt = new_receipt(
        envelope.tx.type_byte, outcome.succeeded, cumulative_gas_used, logs, bits, nonce, version
    )
    return receipt, bits


def result_of(envelope: TxEnvelope, applied: Applied, receipt: Receipt) -> TransactionResult:
    """What became of a transaction, with its receipt."""
    outcome = applied.outcome
    return TransactionResult(
        receipt,
        outcome.gas_used,
        applied.gas_price,
        applied.l1_fee,
        applied.operator_fee,
        applied.tip,
        outcome.output,
        _contract_address(envelope, applied) if envelope.tx.to is None else None,
        outcome.halt_reason,
    )


def _contract_address(envelope: TxEnvelope, applied: Applied) -> bytes:
    """Where a creation put or would have put its contract: a function of sender and nonce."""
    tx = envelope.tx
    nonce = applied.deposit_nonce if isinstance(tx, DepositTx) else tx.nonce
    return create_address(int.from_bytes(envelope.sender, "big"), nonce or 0).to_bytes(20, "big")


def execute_block(
    config: ChainConfig,
    parent: Header,
    block: Block,
    world: World,
    ancestor_hash: AncestorHash,
    begun: BlockExecution | None = None,
) -> SealedBlock:
    """Execute a finished block on top of `world` and check every field of its header.

    Args:
        config: The chain's forks.
        parent: Header of the block before.
        block: The block to check.
        world: The state after `parent`.
        ancestor_hash: Hash of an ancestor by number.
        begun: An execution on top of the same state. It is continued if it is a beginning of this block, and
            belongs to this call from here on.

    Raises:
        InvalidBlock: The block breaks a rule; the message names the field or transaction.
        MissingNode: The state is partial and lacks what the block needs.
    """
    check_header(config, parent, block)
    if begun is not None and begun.is_beginning_of(block):
        execution = begun
    else:
        context = BlockContext.from_header(block.header)
        execution = BlockExecution(config, parent, context, world, ancestor_hash)
    done = len(execution.envelopes)
    envelopes = [*execution.envelopes, *_recover(block.transactions[done:])]
    _check_shape(config, parent, block, envelopes)
    for index, envelope in enumerate(envelopes[done:], done):
        try:
            execution.execute(envelope)
        except TransactionRejected as error:
            raise InvalidBlock(f"transaction {index} (0x{envelope.hash.hex()}): {error}") from error
    sealed = execution.seal()
    check_seal(block.header, sealed.header)
    return sealed


def _recover(raws: Sequence[bytes]) -> list[TxEnvelope]:
    try:
        return recover_all(raws)
    except (InvalidTransaction, InvalidSignature) as error:
        raise InvalidBlock(f"undecodable transaction: {error}") from error


def _check_shape(config: ChainConfig, parent: Header, block: Block, envelopes: list[TxEnvelope]) -> None:
    """From Jovian the DA footprint depends on the first transaction, so it must be the L1 attributes
    deposit.
    """
    if not config.fork_at(block.header.timestamp).has_da_footprint:
        return
    first = envelopes[0].tx if envelopes else None
    if not isinstance(first, DepositTx):
        raise InvalidBlock("a block must begin with the L1 attributes deposit")
    if config.activates(OpFork.JOVIAN, block.header.timestamp, parent.timestamp):
        return
    if stated_footprint_scalar(first.data) is None:
        raise InvalidBlock("transaction 0: not the L1 attributes of jovian, in a block after its first")
