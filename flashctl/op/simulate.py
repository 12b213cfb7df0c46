"""The execution of `eth_simulateV1`.

A request's blocks (`simulation_plan`) run one after the other on one state: state overrides, the protocol's
own calls, then the calls as transactions without signatures, then a header around it all.

A simulated block is an OP Stack block with what Ethereum's specification asks for. Base fees go to their
vault and tips to the fee recipient. L1 and operator fees are not charged and no DA footprint is counted:
both are measured on a signed transaction. There is no L1 attributes deposit, so L1Block keeps its
values, and the EIP-1559 parameters in force stay in force. Without `validation` the base fee is zero unless
it is overridden, so that callers need no funds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from flashctl.eth.addresses import checksum_address
from flashctl.eth.blocks import EMPTY_TRIE_ROOT, Header
from flashctl.eth.bloom import merge
from flashctl.eth.intrinsic_gas import intrinsic_gas
from flashctl.eth.ordered_trie import ordered_root
from flashctl.eth.receipts import Log, Receipt, encode_receipt, new_logs, new_receipt
from flashctl.eth.transactions import (
    AccessListTx,
    BlobTx,
    LegacyTx,
    SignedTransaction,
    effective_gas_price,
    encode_transaction,
    max_fee,
)
from flashctl.evm.forks import EvmRules
from flashctl.evm.message import BlockEnv, Deadline
from flashctl.evm.state import JournaledState, LogEntry, StateReader
from flashctl.evm.transaction import (
    ExecutionOutcome,
    IntrinsicGasError,
    run_transaction,
)
from flashctl.evm.world import World
from flashctl.op.base_fee import next_base_fee
from flashctl.op.call import DEFAULT_CALL_GAS
from flashctl.op.config import ChainConfig
from flashctl.op.context import AncestorHash, BlockContext
from flashctl.op.envelope import TxEnvelope
from flashctl.op.execution import withdrawals_root
from flashctl.op.extra_data import changes_form, encode_extra_data
from flashctl.op.fees import BASE_FEE_VAULT, da_footprint_scalar_or_default, read_fee_parameters
from flashctl.op.forks import OpFork
from flashctl.op.overrides import BlockOverrides, InvalidOverride, StateOverrides, apply_overrides
from flashctl.op.rules import rules_for
from flashctl.op.simulation_plan import (
    LOG_BYTES,
    MAX_RESULT_BYTES,
    BlockPlan,
    RefusalCode,
    SimulatedCall,
    SimulationRefused,
    complete_plans,
)
from flashctl.op.system_calls import begin_block
from flashctl.op.transaction import parameters_of

__all__ = ["SimulatedBlock", "SimulatedResult", "SimulationBase", "SimulationOptions", "simulate"]

ETHER_ADDRESS: Final = 0xEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEEE
"""Stands for ether where tokens are named by address (ERC-7528)."""

TRANSFER_TOPIC: Final = 0xDDF252AD1BE2C89B69C2B068FC378DAA952BA7F163C4A11628F55A4DF523B3EF
"""`Transfer(address,address,uint256)` of ERC-20."""

_MAX_NONCE: Final = 2**64 - 1
_UNKNOWN_ROOT: Final = bytes(32)


@dataclass(frozen=True, slots=True)
class SimulationBase:
    """The block that simulated ones stand on."""

    config: ChainConfig
    header: Header
    state: StateReader
    """After the block; it is not changed."""

    ancestor_hash: AncestorHash
    """For BLOCKHASH of blocks before it."""

    world: World | None = None
    """The same state as a trie. Without one the roots of simulated blocks are zeros."""


@dataclass(frozen=True, slots=True)
class SimulationOptions:
    """How to simulate."""

    validation: bool = False
    """Whether nonces and fees are checked as in a real block; senders and signatures never are."""

    trace_transfers: bool = False
    """Whether moved ether appears among the logs, as transfers of a token at ETHER_ADDRESS."""

    gas_cap: int = DEFAULT_CALL_GAS
    """Gas that all calls together may use."""


class SimulatedResult(NamedTuple):
    """What one call came to."""

    outcome: ExecutionOutcome
    logs: tuple[Log, ...]
    """With the transfers of ether, if they were asked for; those are in no receipt."""

    is_gas_capped: bool
    """Whether it got less gas than it asked for because of the cap of the request."""

    @property
    def most_gas(self) -> int:
        """Gas before refunds: the least limit that would have done."""
        return max(self.outcome.gas_spent, self.outcome.gas_used)


@dataclass(frozen=True, slots=True)
class SimulatedBlock:
    """A block that never will be."""

    header: Header
    envelopes: tuple[TxEnvelope, ...]
    """Transactions with zeros for a signature."""

    results: tuple[SimulatedResult, ...]


def simulate(
    base: SimulationBase,
    plans: Sequence[BlockPlan],
    options: SimulationOptions,
    *,
    deadline: Deadline | None = None,
) -> list[SimulatedBlock]:
    """Run blocks on top of a block and forget their effects.

    Args:
        base: The block to start from.
        plans: The blocks; gaps between their numbers are filled with empty ones.
        options: What is checked and shown.
        deadline: Wall budget of everything together.

    Raises:
        SimulationRefused: If the sequence or one of its calls breaks a rule.
        InvalidFeeParameters: If base fees are to be computed and the base's header does not hold the
        parameters. ExecutionTimeout: If the deadline passes.
    """
    simulation = _Simulation(base, options, deadline)
    plans = complete_plans(base.header, plans)
    return [simulation.run(plan) for plan in plans]


class _Transfer(LogEntry):
    """A movement of ether in the shape of a log."""

    __slots__ = ()


class _TracingState(JournaledState):
    """A state that logs where ether goes; what is reverted leaves no log, as with any other."""

    __slots__ = ()

    def transfer(self, sender: int, to: int, value: int) -> None:
        if value:
            topics = (TRANSFER_TOPIC, sender, to)
            self.logs.append(_Transfer(ETHER_ADDRESS, topics, value.to_bytes(32, "big")))
        super().transfer(sender, to, value)


class _Simulation:
    """The state between simulated blocks, and what it takes to run the next one."""

    def __init__(self, base: SimulationBase, options: SimulationOptions, deadline: Deadline | None) -> None:
        self._base = base
        self._config = base.config
        self._options = options
        self._deadline = deadline
        self._gas_left = options.gas_cap
        self._bytes_left = MAX_RESULT_BYTES
        self._state = (_TracingState if options.trace_transfers else JournaledState)(base.state)
        self._world = base.world
        self._parent = base.header
        self._hashes = {
            base.header.number - 1: base.header.parent_hash,
            base.header.number: base.header.hash,
        }

    def run(self, plan: BlockPlan) -> SimulatedBlock:
        """The next block."""
        if self._deadline is not None:
            self._deadline.check()
        context = self._context(plan.block)
        fork = self._config.fork_at(context.timestamp)
        rules = self._override(rules_for(fork), plan.state)
        env = context.environment(self._config, self._hash_of)
        begin_block(self._state, self._config, rules, env, context, self._parent.timestamp)
        envelopes: list[TxEnvelope] = []
        results: list[SimulatedResult] = []
        gas_used = 0
        for call in plan.calls:
            tx, is_capped = self._complete(call, context.gas_limit - gas_used)
            outcome = self._execute(call, tx, env, rules)
            gas_used += outcome.gas_used
            self._count(outcome)
            envelopes.append(TxEnvelope(encode_transaction(tx), tx, call.sender))
            results.append(SimulatedResult(outcome, new_logs(outcome.logs)[0], is_capped))
        header = self._seal(context, fork, envelopes, results)
        self._hashes[header.number] = header.hash
        self._parent = header
        return SimulatedBlock(header, tuple(envelopes), tuple(results))

    def _count(self, outcome: ExecutionOutcome) -> None:
        """Take gas and size of a result off what is left for the request."""
        self._gas_left -= outcome.gas_used
        logs = outcome.logs
        self._bytes_left -= len(outcome.output) + LOG_BYTES * len(logs) + sum(len(each.data) for each in logs)
        if self._bytes_left < 0:
            text = f"results too large: more than {MAX_RESULT_BYTES} bytes of returned data and logs"
            raise SimulationRefused(RefusalCode.LIMIT_EXCEEDED, text)

    def _context(self, overrides: BlockOverrides) -> BlockContext:
        """The block as its parent and its overrides have it; gas limit and fee recipient are passed on."""
        config, parent = self._config, self._parent
        timestamp = overrides.timestamp or 0
        fork = config.fork_at(timestamp)
        base_fee = 0
        if overrides.base_fee is None and self._options.validation:
            base_fee = next_base_fee(config, parent, timestamp)
        context = overrides.applied_to(
            BlockContext(
                number=parent.number + 1,
                timestamp=timestamp,
                parent_hash=parent.hash,
                gas_limit=parent.gas_limit,
                base_fee=base_fee,
                fee_recipient=parent.fee_recipient,
                prev_randao=bytes(32),
                parent_beacon_block_root=bytes(32),
                extra_data=self._extra_data(fork, timestamp),
            )
        )
        return context if fork.has_beacon_root else replace(context, parent_beacon_block_root=None)

    def _extra_data(self, fork: OpFork, timestamp: int) -> bytes:
        """The parent's; the chain's constants where a fork gives the parameters another form."""
        before = self._config.fork_at(self._parent.timestamp)
        if not changes_form(before, fork):
            return self._parent.extra_data
        return encode_extra_data(self._config, timestamp, bytes(8), 0 if fork.has_min_base_fee else None)

    def _override(self, rules: EvmRules, overrides: StateOverrides) -> EvmRules:
        try:
            return apply_overrides(self._state, rules, overrides) if overrides else rules
        except InvalidOverride as error:
            raise SimulationRefused(RefusalCode.OVERRIDE, str(error)) from None

    def _hash_of(self, number: int) -> bytes:
        known = self._hashes.get(number)
        return self._base.ancestor_hash(number) if known is None else known

    def _complete(self, call: SimulatedCall, block_gas: int) -> tuple[SignedTransaction, bool]:
        """The transaction with nonce and gas limit, and whether the cap lowered the latter."""
        wanted = call.tx.gas_limit if call.has_gas else block_gas
        if wanted > block_gas:
            raise SimulationRefused(
                RefusalCode.BLOCK_GAS,
                f"block gas limit reached: remaining: {block_gas}, required: {wanted}",
            )
        nonce = call.tx.nonce
        if not call.has_nonce:
            nonce = self._state.get_account(int.from_bytes(call.sender, "big")).nonce
        gas = min(wanted, self._gas_left)
        return replace(call.tx, nonce=nonce, gas_limit=gas), gas < wanted

    def _execute(
        self, call: SimulatedCall, tx: SignedTransaction, env: BlockEnv, rules: EvmRules
    ) -> ExecutionOutcome:
        state, sender = self._state, int.from_bytes(call.sender, "big")
        state.begin_transaction()
        # The fork's precompiles are warm wherever an override has put them; geth sees to that as well.
        state.warm.update(dict.fromkeys(rules_for(self._config.fork_at(env.timestamp)).precompiles, True))
        self._check(tx, call.sender, env.base_fee, rules)
        price = 0 if self._is_free(tx) else effective_gas_price(tx, env.base_fee)
        params = parameters_of(tx, sender, price)._replace(is_gas_cap_exempt=True)
        if isinstance(tx, BlobTx):
            params = params._replace(blob_hashes=tuple(int.from_bytes(h, "big") for h in tx.blob_hashes))
        state.add_balance(sender, -tx.gas_limit * price)
        try:
            outcome = run_transaction(state, env, rules, params, deadline=self._deadline)
        except IntrinsicGasError as error:
            text = f"insufficient gas for floor data gas cost: have {error.gas_limit}, want {error.needed}"
            raise _refused(RefusalCode.INTRINSIC_GAS, text, tx) from None
        state.add_balance(sender, (tx.gas_limit - outcome.gas_used) * price)
        if price:
            state.add_balance(env.coinbase, outcome.gas_used * (price - env.base_fee))
            state.add_balance(BASE_FEE_VAULT, outcome.gas_used * env.base_fee)
        self._wrap_nonce(sender)
        state.finish_transaction()
        return outcome

    def _wrap_nonce(self, address: int) -> None:
        """A nonce has 64 bits and starts again at zero; only an override, unvalidated, gets that far."""
        account = self._state.get_account(address)
        if account.nonce > _MAX_NONCE:
            self._state.put_account(address, account._replace(nonce=account.nonce & _MAX_NONCE))

    def _is_free(self, tx: SignedTransaction) -> bool:
        """Whether a call offers no fee and need not."""
        return not self._options.validation and not max_fee(tx) and not _tip(tx)

    def _check(self, tx: SignedTransaction, sender: bytes, base_fee: int, rules: EvmRules) -> None:
        """The rules of a transaction, in the order in which geth checks them."""
        account = self._state.get_account(int.from_bytes(sender, "big"))
        who, cap, tip = f"address {checksum_address(sender)}", max_fee(tx), _tip(tx)
        if self._options.validation:
            self._check_nonce(tx, account.nonce, who)
        if not self._is_free(tx):
            if cap < tip:
                text = (
                    f"max priority fee per gas higher than max fee per gas: {who}, "
                    f"maxPriorityFeePerGas: {tip}, maxFeePerGas: {cap}"
                )
                raise _refused(RefusalCode.INVALID_PARAMS, text, tx)
            if cap < base_fee:
                text = (
                    f"max fee per gas less than block base fee: {who}, "
                    f"maxFeePerGas: {cap}, baseFee: {base_fee}"
                )
                raise _refused(RefusalCode.FEE_TOO_LOW, text, tx)
        if tx.to is None and len(tx.data) > rules.max_initcode_size:
            text = f"max initcode size exceeded: code size {len(tx.data)} limit {rules.max_initcode_size}"
            raise _refused(RefusalCode.INITCODE_SIZE, text, tx)
        cost = tx.gas_limit * cap + tx.value
        if account.balance < cost:
            text = f"insufficient funds for gas * price + value: {who} have {account.balance} want {cost}"
            raise _refused(RefusalCode.FUNDS, text, tx)
        needed = intrinsic_gas(tx)
        if tx.gas_limit < needed:
            raise _refused(
                RefusalCode.INTRINSIC_GAS, f"intrinsic gas too low: have {tx.gas_limit}, want {needed}", tx
            )

    def _check_nonce(self, tx: SignedTransaction, nonce: int, who: str) -> None:
        if tx.nonce != nonce:
            low = tx.nonce < nonce
            code = RefusalCode.NONCE_TOO_LOW if low else RefusalCode.NONCE_TOO_HIGH
            text = f"nonce too {'low' if low else 'high'}: {who}, tx: {tx.nonce} state: {nonce}"
            raise _refused(code, text, tx)
        if nonce == _MAX_NONCE:
            raise _refused(RefusalCode.NONCE_EXHAUSTED, f"nonce has max value: {who}, nonce: {nonce}", tx)

    def _seal(
        self,
        context: BlockContext,
        fork: OpFork,
        envelopes: Sequence[TxEnvelope],
        results: Sequence[SimulatedResult],
    ) -> Header:
        receipts: list[Receipt] = []
        gas_used = 0
        for envelope, result in zip(envelopes, results, strict=True):
            outcome = result.outcome
            gas_used += outcome.gas_used
            logs, bits = new_logs(entry for entry in outcome.logs if not isinstance(entry, _Transfer))
            receipts.append(
                new_receipt(envelope.tx.type_byte, outcome.succeeded, gas_used, logs, bits, None, None)
            )
        state_root, withdrawn = self._roots(fork)
        return context.header(
            fork,
            state_root=state_root,
            withdrawals_root=withdrawn,
            transactions_root=ordered_root(envelope.raw for envelope in envelopes),
            receipts_root=ordered_root(map(encode_receipt, receipts)),
            logs_bloom=merge(receipt.bloom for receipt in receipts),
            gas_used=gas_used,
            da_footprint=self._footprint(fork, envelopes),
        )

    def _footprint(self, fork: OpFork, envelopes: Sequence[TxEnvelope]) -> int:
        """The DA footprint of the block, at the scalar that the state holds: a simulated block has no L1
        attributes of its own."""
        if not fork.has_da_footprint or not envelopes:
            return 0
        scalar = read_fee_parameters(self._state, fork).da_footprint_gas_scalar
        return sum(envelope.da_size for envelope in envelopes) * da_footprint_scalar_or_default(scalar)

    def _roots(self, fork: OpFork) -> tuple[bytes, bytes | None]:
        """State root and withdrawals root after the block."""
        if self._world is not None:
            self._world = self._world.apply(self._state.take_changes())
            return self._world.root, withdrawals_root(self._world, fork)
        if fork.commits_to_message_passer:
            return _UNKNOWN_ROOT, _UNKNOWN_ROOT
        return _UNKNOWN_ROOT, EMPTY_TRIE_ROOT if fork.has_withdrawals else None


def _tip(tx: SignedTransaction) -> int:
    """The priority fee per gas that a transaction names; one with a single price names that."""
    return tx.gas_price if isinstance(tx, LegacyTx | AccessListTx) else tx.max_priority_fee_per_gas


def _refused(code: RefusalCode, text: str, tx: SignedTransaction) -> SimulationRefused:
    return SimulationRefused(code, f"err: {text} (supplied gas {tx.gas_limit})")
