"""One transaction of an OP block: its fees, around the EVM's `run_transaction`.

A signed transaction buys its gas, the L1 data fee and the operator fee for its whole gas limit, runs, and is
given back what it did not use. Nothing is burnt: base fee, L1 fee and operator fee go to a vault each, the
tip to the fee recipient.

A deposit pays nothing. Its mint is credited first and stays, whatever happens; if it cannot run at all (too
little gas, too little balance for its value) it is included as failed, uses all its gas and still counts its
sender's nonce.

https://specs.optimism.io/protocol/exec-engine.html#fees,
https://specs.optimism.io/protocol/deposits.html#execution
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import Enum
from functools import partial
from typing import Final, NamedTuple

from flashctl.errors import DataError
from flashctl.eth.keccak import EMPTY_CODE_HASH
from flashctl.eth.signatures import recover_authority
from flashctl.eth.transactions import (
    AccessListEntry,
    Authorization,
    BlobTx,
    DepositTx,
    InvalidTransaction,
    LegacyTx,
    SetCodeTx,
    SignedTransaction,
    check_transaction,
    effective_gas_price,
    max_fee,
)
from flashctl.evm.code import DELEGATION_PREFIX, CodeCache
from flashctl.evm.forks import EvmRules
from flashctl.evm.message import BlockEnv, Deadline
from flashctl.evm.state import Account, JournaledState, make_account
from flashctl.evm.transaction import (
    Delegation,
    ExecutionOutcome,
    IntrinsicGasError,
    TxParams,
    run_transaction,
)
from flashctl.op.envelope import TxEnvelope
from flashctl.op.fees import (
    BASE_FEE_VAULT,
    L1_FEE_VAULT,
    OPERATOR_FEE_VAULT,
    L1FeeParameters,
    l1_fee,
    operator_fee,
    read_fee_parameters,
)
from flashctl.op.forks import OpFork

__all__ = [
    "Applied",
    "Rejection",
    "TransactionProcessor",
    "TransactionRejected",
    "access_list_of",
    "delegations_of",
    "parameters_of",
]

_MAX_NONCE: Final = 2**64 - 1
_DELEGATED_CODE_SIZE: Final = 23


class Rejection(Enum):
    """Why a transaction cannot be part of a block; the values are words for logs and metrics."""

    BLOCK_GAS = "gas limit exceeds what the block has left"
    DA_FOOTPRINT = "data availability footprint exceeds what the block has left"
    ACTIVATION_BLOCK = "a fork's activation block holds deposits only"
    TYPE = "transaction type not allowed"
    MALFORMED = "malformed transaction"
    NONCE_TOO_LOW = "nonce too low"
    NONCE_TOO_HIGH = "nonce too high"
    FEE_TOO_LOW = "max fee per gas less than block base fee"
    SENDER_NOT_EOA = "sender not an eoa"
    FUNDS = "insufficient funds for gas * price + value"
    GAS_LIMIT = "gas limit not acceptable"


class TransactionRejected(DataError):
    """The transaction cannot be included here and now; the state is as it was before."""

    reason: Final[Rejection]
    """What kind of rule it breaks; a pool keeps some transactions and drops others by it."""

    def __init__(self, reason: Rejection, detail: str = "") -> None:
        super().__init__(f"{reason.value}: {detail}" if detail else reason.value)
        self.reason = reason


class Applied(NamedTuple):
    """A transaction's effect, before it becomes a receipt."""

    outcome: ExecutionOutcome
    gas_price: int = 0
    """Effective, wei per gas."""
    l1_fee: int = 0
    """In wei."""
    operator_fee: int = 0
    """In wei."""
    tip: int = 0
    """Priority fee in total, in wei."""
    deposit_nonce: int | None = None
    """The sender's nonce before a deposit."""


_applied: Final[Callable[[tuple[ExecutionOutcome, int, int, int, int, int | None]], Applied]] = partial(
    tuple.__new__, Applied
)
"""`Applied` without its constructor, for the reason `evm.transaction` gives."""


class TransactionProcessor:
    """Applies the transactions of one block to its state, one after the other.

    Between two calls the state is at the beginning of a transaction, where `finish_transaction` leaves it.
    """

    __slots__ = ("_compresses", "_env", "_fees", "_fork", "_rules", "_state", "is_settling")

    def __init__(self, state: JournaledState, fork: OpFork, rules: EvmRules, env: BlockEnv) -> None:
        self.is_settling = False
        """Set with a transaction's first step that cannot be undone; cleared once the result is recorded."""
        self._state = state
        self._fork = fork
        self._rules = rules
        self._env = env
        self._compresses: Final = fork.prices_compressed_size
        self._fees: L1FeeParameters | None = None

    @property
    def fee_parameters(self) -> L1FeeParameters:
        """L1 and operator fee parameters as the deposits so far left them."""
        if self._fees is None:
            self._fees = read_fee_parameters(self._state, self._fork)
        return self._fees

    def apply_deposit(
        self, tx: DepositTx, deadline: Deadline | None = None, codes: CodeCache | None = None
    ) -> Applied:
        """Execute a deposit; it cannot be refused. `codes` in place of the shared ones, if given.

        Raises:
            ExecutionTimeout: The deadline passed; the state is as it was before.
        """
        state = self._state
        self._fees = None
        sender = int.from_bytes(tx.sender, "big")
        before = state.snapshot()
        state.add_balance(sender, tx.mint)
        nonce, balance, _ = state.get_account(sender)
        minted = state.snapshot()
        try:
            if (tx.is_system and self._fork >= OpFork.REGOLITH) or balance < tx.value:
                outcome = self._failed_deposit(tx, sender)
            else:
                params = TxParams(
                    sender,
                    None if tx.to is None else int.from_bytes(tx.to, "big"),
                    tx.value,
                    tx.data,
                    tx.gas_limit,
                    is_gas_cap_exempt=True,
                    is_init_code_bounded=False,
                )
                outcome = run_transaction(
                    state, self._env, self._rules, params, deadline=deadline, codes=codes
                )
        except IntrinsicGasError:
            state.revert(minted)
            outcome = self._failed_deposit(tx, sender)
        except BaseException:
            state.revert(before)
            state.begin_transaction()
            raise
        self.is_settling = True
        state.finish_transaction()
        return Applied(outcome, deposit_nonce=nonce)

    def _failed_deposit(self, tx: DepositTx, sender: int) -> ExecutionOutcome:
        self._state.increment_nonce(sender)
        return ExecutionOutcome(False, tx.gas_limit, b"", (), None, "failed deposit", 0, tx.gas_limit)

    def apply_signed(
        self,
        envelope: TxEnvelope,
        tx: SignedTransaction,
        deadline: Deadline | None = None,
        codes: CodeCache | None = None,
    ) -> Applied:
        """Execute a signed transaction with all its fees; `codes` in place of the shared ones, if given.

        Raises:
            TransactionRejected: It may not be included; the state is as it was before.
            ExecutionTimeout: The deadline passed; the state is as it was before.
        """
        state, env, fork, fees = self._state, self._env, self._fork, self.fee_parameters
        base_fee, gas_limit = env.base_fee, tx.gas_limit
        sender = int.from_bytes(envelope.sender, "big")
        fee_cap = self._check_form(envelope, tx)
        account = state.get_account(sender)
        self._check_sender(tx, account)
        data_fee = l1_fee(fees, fork, envelope.raw, envelope.fastlz_size if self._compresses else 0)
        reserve = operator_fee(fees, fork, gas_limit)
        cost = gas_limit * fee_cap + tx.value + data_fee + reserve
        nonce, balance, code_hash = account
        if balance < cost:
            raise TransactionRejected(Rejection.FUNDS, f"balance {balance}, tx cost {cost}")
        price = effective_gas_price(tx, base_fee)
        before = state.snapshot()
        left = balance - gas_limit * price - data_fee - reserve
        state.put_account(sender, make_account((nonce, left, code_hash)))
        try:
            params = parameters_of(tx, sender, price)
            outcome = run_transaction(state, env, self._rules, params, deadline=deadline, codes=codes)
        except BaseException as error:
            state.revert(before)
            state.begin_transaction()
            if isinstance(error, IntrinsicGasError):
                raise TransactionRejected(Rejection.GAS_LIMIT, str(error)) from None
            raise
        self.is_settling = True
        used = outcome.gas_used
        operator = operator_fee(fees, fork, used)
        tip = used * (price - base_fee)
        state.pay_out(
            (
                (sender, (gas_limit - used) * price + reserve - operator),
                (env.coinbase, tip),
                (BASE_FEE_VAULT, used * base_fee),
                (L1_FEE_VAULT, data_fee),
                (OPERATOR_FEE_VAULT, operator),
            )
        )
        state.finish_transaction()
        return _applied((outcome, price, data_fee, operator, tip, None))

    def _check_form(self, envelope: TxEnvelope, tx: SignedTransaction) -> int:
        """Rules that need no account; returns the most that the transaction pays per gas."""
        if envelope.checked_for != self._env.chain_id:
            try:
                check_transaction(tx, self._env.chain_id)
            except InvalidTransaction as error:
                raise TransactionRejected(Rejection.MALFORMED, str(error)) from None
            envelope.checked_for = self._env.chain_id
        kind = type(tx)
        if kind is BlobTx:
            raise TransactionRejected(Rejection.TYPE, "blob transactions are not part of the OP Stack")
        if kind is SetCodeTx and not self._fork.has_set_code:
            raise TransactionRejected(Rejection.TYPE, "set-code transactions come with isthmus")
        cap = max_fee(tx)
        if cap < self._env.base_fee:
            detail = f"max fee {cap}, base fee {self._env.base_fee}"
            raise TransactionRejected(Rejection.FEE_TOO_LOW, detail)
        return cap

    def _check_sender(self, tx: SignedTransaction, account: Account) -> None:
        nonce, _, code_hash = account
        if tx.nonce < nonce:
            raise TransactionRejected(Rejection.NONCE_TOO_LOW, f"next nonce {nonce}, tx nonce {tx.nonce}")
        if tx.nonce > nonce:
            raise TransactionRejected(Rejection.NONCE_TOO_HIGH, f"next nonce {nonce}, tx nonce {tx.nonce}")
        if nonce == _MAX_NONCE:
            raise TransactionRejected(Rejection.MALFORMED, "nonce has reached its maximum (EIP-2681)")
        if code_hash != EMPTY_CODE_HASH:
            code = self._state.code(code_hash)
            # EIP-3607 keeps contracts from signing; EIP-7702 lets an account with delegated code sign.
            if len(code) != _DELEGATED_CODE_SIZE or not code.startswith(DELEGATION_PREFIX):
                raise TransactionRejected(Rejection.SENDER_NOT_EOA)


def parameters_of(tx: SignedTransaction, sender: int, gas_price: int) -> TxParams:
    """The parameters that the EVM takes from a signed transaction.

    Args:
        tx: The transaction.
        sender: Its signer's address.
        gas_price: The effective one, in wei per gas.
    """
    to = None if tx.to is None else int.from_bytes(tx.to, "big")
    if isinstance(tx, LegacyTx) or (not tx.access_list and type(tx) is not SetCodeTx):
        return TxParams(sender, to, tx.value, tx.data, tx.gas_limit, gas_price)
    authorizations = delegations_of(tx.authorizations) if isinstance(tx, SetCodeTx) else None
    access_list = access_list_of(tx.access_list)
    return TxParams(sender, to, tx.value, tx.data, tx.gas_limit, gas_price, access_list, authorizations)


def access_list_of(entries: Iterable[AccessListEntry]) -> tuple[tuple[int, tuple[int, ...]], ...]:
    """An access list in the EVM's terms."""
    return tuple(
        (
            int.from_bytes(entry.address, "big"),
            tuple(int.from_bytes(key, "big") for key in entry.storage_keys),
        )
        for entry in entries
    )


def delegations_of(authorizations: Iterable[Authorization]) -> tuple[Delegation, ...]:
    """Authorizations in the EVM's terms, their signatures checked."""
    delegations = []
    for each in authorizations:
        authority = recover_authority(each)
        signer = None if authority is None else int.from_bytes(authority, "big")
        address = int.from_bytes(each.address, "big")
        delegations.append(Delegation(each.chain_id, address, each.nonce, signer))
    return tuple(delegations)
