"""Transactions without their fees: intrinsic gas, access lists, delegations, the message, refunds.

Fees differ between Ethereum, the OP Stack and deposits, so the layer above charges and credits them:

    state.begin_transaction()
    buy gas                      balance and nonce are the caller's to check
    outcome = run_transaction(state, block, rules, params)
    give back what is left of the gas, pay the fees
    state.finish_transaction()
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple, TypeAlias

from flashctl.errors import DataError
from flashctl.eth.intrinsic_gas import calldata_tokens, floor_gas, price_of_parts
from flashctl.eth.keccak import EMPTY_CODE_HASH
from flashctl.evm.calls import create_address
from flashctl.evm.code import DELEGATION_PREFIX, CodeCache
from flashctl.evm.forks import EvmRules
from flashctl.evm.frame import Context
from flashctl.evm.machine import default_codes, execute_call, execute_creation
from flashctl.evm.message import BlockEnv, Deadline, Message, MessageStatus, TxEnv
from flashctl.evm.state import JournaledState, LogEntry

__all__ = [
    "Delegation",
    "ExecutionOutcome",
    "IntrinsicGasError",
    "TxParams",
    "run_transaction",
]

DELEGATION_REFUND: Final = 12_500
"""EIP-7702: half of what an authorization costs is refunded if the account already existed."""
REFUND_QUOTIENT: Final = 5
"""At most a fifth of the gas comes back (EIP-3529)."""

_SUCCEEDED: Final = MessageStatus.SUCCEEDED
"""Reading a member of an enum takes 0.15 us in CPython 3.11, a name of the module a tenth of it."""


class Delegation(NamedTuple):
    """An entry of a set-code transaction's authorization list, its signature already checked."""

    chain_id: int
    """0 is valid on every chain."""
    address: int
    """Whose code to run; 0 ends a delegation."""
    nonce: int
    authority: int | None
    """The signer; None if the signature is invalid: such an entry is skipped, but its gas is still
    charged."""


class TxParams(NamedTuple):
    """The part of a transaction that execution reads. (A tuple: made for every transaction, in 0.5 us
    not 2.)"""

    sender: int
    to: int | None
    """None creates a contract."""
    value: int = 0
    """In wei."""
    data: bytes = b""
    gas_limit: int = 30_000_000
    gas_price: int = 0
    """Effective, in wei per gas: what GASPRICE returns."""
    access_list: tuple[tuple[int, tuple[int, ...]], ...] = ()
    """Addresses with their storage slots."""
    authorizations: tuple[Delegation, ...] | None = None
    """None for everything but set-code transactions."""
    blob_hashes: tuple[int, ...] = ()
    is_gas_cap_exempt: bool = False
    """Deposits may exceed EIP-7825's cap."""
    is_init_code_bounded: bool = True
    """Whether EIP-3860's limit holds for the transaction itself. It bounds what a pool takes in; a deposit's
    size is bounded on L1 alone."""


class ExecutionOutcome(NamedTuple):
    """What a transaction did."""

    succeeded: bool
    gas_used: int
    """After refunds and the calldata floor: what the receipt states and the sender pays."""
    output: bytes
    """Returned data, or the reason of a revert; the code that a creation deployed."""
    logs: tuple[LogEntry, ...]
    created: int | None
    halt_reason: str | None
    """None for success and for a revert."""
    gas_refunded: int
    """What SSTORE clearing and EIP-7702 gave back, after the cap."""
    gas_spent: int = 0
    """Before refunds and floor: the least gas limit that reaches the same end is at least this."""


_OutcomeFields: TypeAlias = tuple[bool, int, bytes, tuple[LogEntry, ...], int | None, str | None, int, int]
_outcome: Final[Callable[[_OutcomeFields], ExecutionOutcome]] = partial(tuple.__new__, ExecutionOutcome)
_tx_env: Final[Callable[[tuple[int, int, tuple[int, ...]]], TxEnv]] = partial(tuple.__new__, TxEnv)
_message: Final[Callable[[tuple[int, int | None, int, bytes, int, bool]], Message]] = partial(
    tuple.__new__, Message
)
"""Named tuples without their constructors, which are Python functions: 0.15 us each in place of 0.4, three
times a transaction."""


_TOO_LOW: Final = "intrinsic gas too low"


class IntrinsicGasError(DataError):
    """The gas limit does not cover the transaction's price before it does anything, or exceeds the cap."""

    gas_limit: int
    needed: int
    is_intrinsic: bool
    """Whether it is the price of the transaction as such, not of its data or another bound."""

    def __init__(self, what: str, gas_limit: int, needed: int) -> None:
        super().__init__(f"{what}: gas limit {gas_limit}, needed {needed}")
        self.gas_limit = gas_limit
        self.needed = needed
        self.is_intrinsic = what == _TOO_LOW


def _intrinsic_gas(params: TxParams, tokens: int) -> int:
    listed, init_code = params.access_list, len(params.data) if params.to is None else None
    slots = sum(len(slots) for _, slots in listed) if listed else 0
    return price_of_parts(tokens, init_code, len(listed), slots, len(params.authorizations or ()))


def run_transaction(
    state: JournaledState,
    block: BlockEnv,
    rules: EvmRules,
    params: TxParams,
    *,
    deadline: Deadline | None = None,
    codes: CodeCache | None = None,
) -> ExecutionOutcome:
    """Execute a transaction inside `begin_transaction`/`finish_transaction`; moves value, but no fees.

    Counts the sender's nonce. If anything is raised, the state is as it was before.

    Raises:
        IntrinsicGasError: The gas limit is too low, or above the fork's cap.
        ExecutionTimeout: The deadline passed.
    """
    needed, floor = check_gas_limit(params, rules)
    start = state.snapshot()
    try:
        context = Context(
            state,
            block,
            _tx_env((params.sender, params.gas_price, params.blob_hashes)),
            rules,
            default_codes(rules) if codes is None else codes,
            deadline,
        )
        return _execute(context, params, params.gas_limit - needed, floor)
    except BaseException:
        state.revert(start)
        raise


def check_gas_limit(params: TxParams, rules: EvmRules) -> tuple[int, int]:
    """Check the gas limit against everything that bounds it; returns intrinsic gas and calldata floor.

    The floor is 0 before Prague.

    Raises:
        IntrinsicGasError: It is too low, or above the fork's cap.
    """
    limit = params.gas_limit
    tokens = calldata_tokens(params.data)
    needed = _intrinsic_gas(params, tokens)
    if needed > limit:
        raise IntrinsicGasError(_TOO_LOW, limit, needed)
    floor = floor_gas(tokens) if rules.has_calldata_floor else 0
    if floor > limit:
        raise IntrinsicGasError("calldata floor not covered", limit, floor)
    cap = rules.transaction_gas_cap
    if cap is not None and limit > cap and not params.is_gas_cap_exempt:
        raise IntrinsicGasError("gas limit above the cap of a transaction", limit, cap)
    if params.is_init_code_bounded and params.to is None and len(params.data) > rules.max_initcode_size:
        raise IntrinsicGasError("init code too large", len(params.data), rules.max_initcode_size)
    return needed, floor


def _execute(context: Context, params: TxParams, gas: int, floor: int) -> ExecutionOutcome:
    state = context.state
    _warm_up(context, params)
    nonce = state.increment_nonce(params.sender)
    if params.authorizations and context.rules.has_delegation:
        for delegation in params.authorizations:
            _delegate(context, delegation)
    message = _message((params.sender, params.to, params.value, params.data, gas, False))
    if params.to is None:
        result = execute_creation(context, message, create_address(params.sender, nonce))
    else:
        result = execute_call(context, message, params.to)
    spent = params.gas_limit - result.gas_left
    refund = min(state.refund, spent // REFUND_QUOTIENT)
    used = max(spent - refund, floor)
    logs = tuple(state.logs)
    succeeded = result.status is _SUCCEEDED
    return _outcome((succeeded, used, result.output, logs, result.created, result.halt_reason, refund, spent))


def _warm_up(context: Context, params: TxParams) -> None:
    """What is warm from the start (EIP-2929, 2930, 3651). Marks are not journalled: they precede
    everything."""
    state = context.state
    warm = state.warm
    warm.update(context.rules.warm_precompiles)
    warm[context.block.coinbase] = True
    warm[params.sender] = True
    if params.to is not None:
        warm[params.to] = True
    for address, slots in params.access_list:
        warm[address] = True
        for slot in slots:
            state.list_slot(address, slot)


def _delegate(context: Context, delegation: Delegation) -> None:
    """Apply one authorization; an invalid one is skipped (EIP-7702)."""
    state = context.state
    authority = delegation.authority
    if delegation.chain_id not in (0, context.block.chain_id) or authority is None:
        return
    if delegation.nonce >= 2**64 - 1:
        return
    state.mark(state.warm, authority)
    account = state.get_account(authority)
    if account.code_hash != EMPTY_CODE_HASH:
        code = state.code(account.code_hash)
        if len(code) != 23 or not code.startswith(DELEGATION_PREFIX):
            return
    if account.nonce != delegation.nonce:
        return
    if state.account(authority) is not None:
        state.refund += DELEGATION_REFUND
    if delegation.address:
        state.set_code(authority, DELEGATION_PREFIX + delegation.address.to_bytes(20, "big"))
    else:
        state.set_code(authority, b"")
    state.increment_nonce(authority)
