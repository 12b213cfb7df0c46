"""Executions that leave no trace: `eth_call`, `eth_estimateGas`, `eth_createAccessList`.

They run on a state laid over a reader, which may be a world, a sealed block's state or the state of a block
being built. No nonce is checked, no fee is paid unless a gas price is given, and L1 and operator fees never
are: they belong to the signed transaction, which does not exist yet. EIP-7825's cap is a rule for
transactions, not for calls.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from flashctl.errors import Failed
from flashctl.eth.addresses import checksum_address
from flashctl.eth.keccak import EMPTY_CODE_HASH
from flashctl.eth.transactions import AccessListEntry, Authorization
from flashctl.evm.code import CodeCache
from flashctl.evm.forks import EvmRules
from flashctl.evm.message import BlockEnv, Deadline
from flashctl.evm.state import JournaledState, LogEntry, StateReader
from flashctl.evm.transaction import (
    ExecutionOutcome,
    IntrinsicGasError,
    TxParams,
    run_transaction,
)
from flashctl.op.config import ChainConfig
from flashctl.op.context import AncestorHash, BlockContext
from flashctl.op.overrides import BlockOverrides, StateOverrides, apply_overrides
from flashctl.op.rules import rules_for
from flashctl.op.transaction import access_list_of, delegations_of

__all__ = [
    "CallEnvironment",
    "CallRequest",
    "CallResult",
    "ExecutionFailed",
    "ExecutionHalted",
    "ExecutionReverted",
    "PreparedCall",
    "Simulation",
    "call_output",
    "create_access_list",
    "estimate_gas",
    "prepare_call",
    "revert_reason",
    "simulate_call",
]

DEFAULT_CALL_GAS: Final = 50_000_000
"""Gas of a call that names none: geth's default for `--rpc.gascap`."""

ESTIMATE_TOLERANCE: Final = 0.015
"""An estimate may exceed the least sufficient gas by this share, which saves some ten of eighteen executions
(as geth does).
"""

_CALL_STIPEND: Final = 2_300
_TRANSFER_GAS: Final = 21_000
_ERROR_SELECTOR: Final = bytes.fromhex("08c379a0")
_PANIC_SELECTOR: Final = bytes.fromhex("4e487b71")
_PANICS: Final = {
    0x01: "assert(false)",
    0x11: "arithmetic underflow or overflow",
    0x12: "division or modulo by zero",
    0x21: "enum overflow",
    0x22: "invalid encoded storage byte array accessed",
    0x31: "out-of-bounds array access; popping on an empty array",
    0x32: "out-of-bounds access of an array or bytesN",
    0x41: "out of memory",
    0x51: "uninitialized function",
}
"""Panic codes of the Solidity compiler, in geth's words."""

_ACCESS_LIST_ROUNDS: Final = 8
"""A list changes gas, gas may change what is touched; it settles after two rounds in practice."""


@dataclass(frozen=True, slots=True)
class CallRequest:
    """A transaction that is only to be tried."""

    sender: bytes = bytes(20)
    to: bytes | None = None
    """None creates a contract."""

    gas: int | None = None
    """Gas limit; None for the most that is allowed."""

    gas_price: int = 0
    """Effective price in wei per gas. Zero asks for no fee and no check of funds for it."""

    value: int = 0
    """In wei."""

    data: bytes = b""
    access_list: tuple[AccessListEntry, ...] = ()
    authorizations: tuple[Authorization, ...] | None = None
    """Of a set-code transaction (EIP-7702)."""

    blob_hashes: tuple[bytes, ...] = ()

    fee_cap: int = 0
    """The most in wei per gas, which the sender must have the funds for; zero for the price itself."""


@dataclass(frozen=True, slots=True)
class Simulation:
    """A call, the block that it believes to be in, and what shall look different there."""

    config: ChainConfig
    """The chain's forks."""

    context: BlockContext
    request: CallRequest
    overrides: StateOverrides | None = None
    """Accounts that shall look different."""

    block_overrides: BlockOverrides | None = None
    """Fields of the block that shall look different."""

    gas_cap: int = DEFAULT_CALL_GAS
    """Upper bound of the gas limit, and the limit itself where the request names none."""

    @property
    def gas(self) -> int:
        """The gas limit of a single run."""
        asked = self.request.gas
        return self.gas_cap if asked is None else min(asked, self.gas_cap)


class ExecutionFailed(Failed):
    """The call does not succeed; the answer to the question is this error."""


class ExecutionReverted(ExecutionFailed):
    """The contract reverted."""

    data: Final[bytes]
    """What it returned."""

    def __init__(self, data: bytes) -> None:
        reason = revert_reason(data)
        super().__init__(f"execution reverted: {reason}" if reason else "execution reverted")
        self.data = data


class ExecutionHalted(ExecutionFailed):
    """The EVM gave up: out of gas, an invalid opcode, a wrong jump, or no funds to begin with."""


class GasTooLow(ExecutionHalted):
    """The gas does not cover what the transaction costs before its first instruction."""


@dataclass(frozen=True, slots=True)
class CallResult:
    """What a call came to."""

    succeeded: bool
    gas_used: int
    """After refunds, intrinsic gas included."""

    gas_spent: int
    """Before refunds."""

    output: bytes
    """Returned data, or the reason of a revert."""

    logs: tuple[LogEntry, ...]
    created: bytes | None
    halt_reason: str | None
    """None for success and for a revert."""

    def require_success(self) -> CallResult:
        """This result, if the call succeeded.

        Raises:
            ExecutionReverted: If the contract reverted.
            ExecutionHalted: If the EVM gave up.
        """
        if self.succeeded:
            return self
        if self.halt_reason is None:
            raise ExecutionReverted(self.output)
        raise ExecutionHalted(self.halt_reason)


class CallEnvironment(NamedTuple):
    """Everything a trial runs on, overrides applied."""

    state: JournaledState
    env: BlockEnv
    rules: EvmRules
    context: BlockContext


@dataclass(frozen=True, slots=True)
class PreparedCall:
    """A call that is about to run, for tracers: its state can be read before and after."""

    environment: CallEnvironment
    request: CallRequest
    gas: int
    """The gas limit."""

    def run(self, deadline: Deadline | None = None, codes: CodeCache | None = None) -> ExecutionOutcome:
        """Run it once and keep its effects.

        Raises:
            ExecutionHalted: If the call cannot begin.
            ExecutionTimeout: If the deadline passes.
        """
        request, state = self.request, self.environment.state
        outcome = _execute(self.environment, request, self.gas, deadline, codes)
        sender = int.from_bytes(request.sender, "big")
        state.add_balance(sender, (self.gas - outcome.gas_used) * request.gas_price)
        state.finish_transaction()
        return outcome


def prepare_call(simulation: Simulation, state: StateReader, ancestor_hash: AncestorHash) -> PreparedCall:
    """A call on top of a state, everything prepared; `state` is not changed by running it."""
    return PreparedCall(_environment(simulation, state, ancestor_hash), simulation.request, simulation.gas)


def simulate_call(
    simulation: Simulation,
    state: StateReader,
    ancestor_hash: AncestorHash,
    deadline: Deadline | None = None,
) -> CallResult:
    """Run a call on top of a state and forget its effects.

    Args:
        simulation: What to run, and in which block.
        state: The state to start from; it is not changed.
        ancestor_hash: For BLOCKHASH.
        deadline: Wall budget.

    Raises:
        ExecutionHalted: If the call cannot begin: too little gas for the transaction itself, or no funds.
        ExecutionTimeout: If the deadline passes.
    """
    environment = _environment(simulation, state, ancestor_hash)
    return _result(_execute(environment, simulation.request, simulation.gas, deadline))


def call_output(
    simulation: Simulation,
    state: StateReader,
    ancestor_hash: AncestorHash,
    deadline: Deadline | None = None,
) -> bytes:
    """What a call returns.

    Raises:
        ExecutionReverted: If the contract reverted.
        ExecutionHalted: If the EVM gave up, or the call cannot begin.
        ExecutionTimeout: If the deadline passes.
    """
    return simulate_call(simulation, state, ancestor_hash, deadline).require_success().output


def estimate_gas(
    simulation: Simulation,
    state: StateReader,
    ancestor_hash: AncestorHash,
    deadline: Deadline | None = None,
) -> int:
    """A gas limit with which the call succeeds, at most 1.5 % above the least.

    By bisection, as there is no formula: a contract may read its gas, and a call forwards 63/64 of what is
    left (EIP-150).

    Raises:
        ExecutionReverted: If the call reverts with all the gas it may have.
        ExecutionHalted: If it fails otherwise, or needs more gas than is allowed or affordable.
        ExecutionTimeout: If the deadline passes.
    """
    environment = _environment(simulation, state, ancestor_hash)
    request = simulation.request
    highest = _gas_allowance(environment, request, simulation.gas_cap)

    def trial(gas: int) -> ExecutionOutcome | None:
        """The outcome; None if this gas does not even cover the transaction itself."""
        try:
            return _run(environment, request, gas, deadline)
        except ExecutionHalted:
            return None

    if _is_plain_transfer(environment, request):
        outcome = trial(_TRANSFER_GAS)
        if outcome is not None and outcome.succeeded:
            return _TRANSFER_GAS
    try:
        outcome = _run(environment, request, highest, deadline)
    except GasTooLow:
        raise _exceeds_allowance(highest) from None
    except ExecutionHalted as error:
        raise ExecutionHalted(f"failed with {highest} gas: {error}") from None
    if not outcome.succeeded:
        _raise_failure(outcome, highest)
    return _bisect(trial, outcome, highest)


def _bisect(trial: Callable[[int], ExecutionOutcome | None], outcome: ExecutionOutcome, highest: int) -> int:
    lowest = outcome.gas_used - 1
    # What was spent, with the stipend and the 64th that calls hold back, is nearly always enough.
    likely = (outcome.gas_spent + _CALL_STIPEND) * 64 // 63
    middle = likely if likely < highest else (lowest + highest) // 2
    while lowest + 1 < highest and highest - lowest > ESTIMATE_TOLERANCE * highest:
        attempt = trial(middle)
        if attempt is not None and attempt.succeeded:
            highest = middle
        else:
            lowest = middle
        # Most estimates lie near the lower end: never look further up than its double.
        middle = min((lowest + highest) // 2, lowest * 2)
    return highest


def create_access_list(
    simulation: Simulation,
    state: StateReader,
    ancestor_hash: AncestorHash,
    deadline: Deadline | None = None,
) -> tuple[tuple[AccessListEntry, ...], CallResult]:
    """The accounts and slots that a call touches, and its result with that list attached.

    What only a reverted part of the call touched is left out: naming it would cost more than it saves.

    Raises:
        ExecutionHalted: If the call cannot begin.
        ExecutionTimeout: If the deadline passes.
    """
    environment = _environment(simulation, state, ancestor_hash)
    request = simulation.request
    for _ in range(_ACCESS_LIST_ROUNDS):
        trial = environment._replace(state=environment.state.fork())
        outcome = _execute(trial, request, simulation.gas, deadline)
        found = _touched(trial, request)
        if found == request.access_list:
            break
        request = replace(request, access_list=found)
    return request.access_list, _result(outcome)


def revert_reason(data: bytes) -> str | None:
    """The text of `Error(string)` or `Panic(uint256)` in the data of a revert, or None."""
    if data[:4] == _PANIC_SELECTOR and len(data) >= 36:
        code = int.from_bytes(data[4:36], "big")
        return _PANICS.get(code, f"unknown panic code: {code:#x}")
    if data[:4] != _ERROR_SELECTOR or len(data) < 68:
        return None
    offset = int.from_bytes(data[4:36], "big") + 4
    if offset + 32 > len(data):
        return None
    size = int.from_bytes(data[offset : offset + 32], "big")
    text = data[offset + 32 : offset + 32 + size]
    return text.decode(errors="replace") if len(text) == size else None


def _environment(simulation: Simulation, reader: StateReader, ancestor_hash: AncestorHash) -> CallEnvironment:
    # Without a gas price BASEFEE is zero, as in geth and in execution-apis' tests.
    base_fee = None if simulation.request.gas_price else 0
    config, context, block_overrides = simulation.config, simulation.context, simulation.block_overrides
    if block_overrides is not None:
        context = block_overrides.applied_to(context)
        base_fee = base_fee if block_overrides.base_fee is None else block_overrides.base_fee
    rules = rules_for(config.fork_at(context.timestamp))
    state = JournaledState(reader)
    if simulation.overrides:
        rules = apply_overrides(state, rules, simulation.overrides)
    return CallEnvironment(state, context.environment(config, ancestor_hash, base_fee), rules, context)


def _run(
    environment: CallEnvironment, request: CallRequest, gas: int, deadline: Deadline | None
) -> ExecutionOutcome:
    """One trial, which leaves the environment as it was."""
    return _execute(environment._replace(state=environment.state.fork()), request, gas, deadline)


def _execute(
    environment: CallEnvironment,
    request: CallRequest,
    gas: int,
    deadline: Deadline | None,
    codes: CodeCache | None = None,
) -> ExecutionOutcome:
    state = environment.state
    sender = int.from_bytes(request.sender, "big")
    balance = state.get_account(sender).balance
    cost = gas * request.gas_price
    wanted = gas * _fee_cap(request) + request.value
    if balance < wanted:
        raise ExecutionHalted(
            f"insufficient funds for gas * price + value: address {checksum_address(request.sender)} "
            f"have {balance} want {wanted}"
        )
    if cost:
        state.add_balance(sender, -cost)
    params = _parameters(request, sender, gas)
    try:
        return run_transaction(
            state, environment.env, environment.rules, params, deadline=deadline, codes=codes
        )
    except IntrinsicGasError as error:
        raise (GasTooLow if error.is_intrinsic else ExecutionHalted)(str(error)) from None


def _fee_cap(request: CallRequest) -> int:
    return max(request.fee_cap, request.gas_price)


def _parameters(request: CallRequest, sender: int, gas: int) -> TxParams:
    return TxParams(
        sender,
        None if request.to is None else int.from_bytes(request.to, "big"),
        request.value,
        request.data,
        gas,
        request.gas_price,
        access_list_of(request.access_list),
        None if request.authorizations is None else delegations_of(request.authorizations),
        tuple(int.from_bytes(each, "big") for each in request.blob_hashes),
        is_gas_cap_exempt=True,
    )


def _result(outcome: ExecutionOutcome) -> CallResult:
    return CallResult(
        outcome.succeeded,
        outcome.gas_used,
        outcome.gas_spent,
        outcome.output,
        outcome.logs,
        None if outcome.created is None else outcome.created.to_bytes(20, "big"),
        outcome.halt_reason,
    )


def _gas_allowance(environment: CallEnvironment, request: CallRequest, gas_cap: int) -> int:
    """The most gas that the transaction could have: asked for, allowed by block and fork, affordable.

    As in geth, a `gas` below the least that any transaction needs is no limit, and a sender with no balance
    beyond the value can pay for no gas.
    """
    asked = request.gas if request.gas is not None and request.gas >= _TRANSFER_GAS else None
    bounds = [gas_cap, environment.context.gas_limit if asked is None else asked]
    if environment.rules.transaction_gas_cap is not None:
        bounds.append(environment.rules.transaction_gas_cap)
    fee_cap = _fee_cap(request)
    if fee_cap:
        balance = environment.state.get_account(int.from_bytes(request.sender, "big")).balance
        if balance <= request.value:
            raise ExecutionHalted("insufficient funds for transfer")
        bounds.append((balance - request.value) // fee_cap)
    return min(bounds)


def _is_plain_transfer(environment: CallEnvironment, request: CallRequest) -> bool:
    if request.to is None or request.data or request.access_list or request.authorizations:
        return False
    address = int.from_bytes(request.to, "big")
    is_contract = environment.state.get_account(address).code_hash != EMPTY_CODE_HASH
    return not is_contract and address not in environment.rules.precompiles


def _raise_failure(outcome: ExecutionOutcome, gas: int) -> None:
    if outcome.halt_reason == "out of gas":
        raise _exceeds_allowance(gas)
    _result(outcome).require_success()


def _exceeds_allowance(gas: int) -> ExecutionHalted:
    return ExecutionHalted(f"gas required exceeds allowance ({gas})")


def _touched(environment: CallEnvironment, request: CallRequest) -> tuple[AccessListEntry, ...]:
    """Warm accounts and slots after a run, without those that are warm anyway."""
    state = environment.state
    free = {int.from_bytes(request.sender, "big"), environment.env.coinbase, *environment.rules.precompiles}
    if request.to is not None:
        free.add(int.from_bytes(request.to, "big"))
    entries = []
    for address in sorted(state.warm):
        slots = sorted(state.transaction_slots.get(address, ()))
        if slots or address not in free:
            keys = tuple(slot.to_bytes(32, "big") for slot in slots)
            entries.append(AccessListEntry(address.to_bytes(20, "big"), keys))
    return tuple(entries)
