"""Transactions and calls run once more under a tracer: from what a request asks for to its answer.

A transaction is traced in its block: those before it run again upon the parent's state, with all their fees,
so that its gas, its status and what it finds are what its receipt says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import orjson

from flashctl.eth.signatures import recover_authority
from flashctl.eth.transactions import Authorization, DepositTx, SetCodeTx
from flashctl.ethrpc.trace_json import StructLogText, accounts_json, call_tree_text, difference_json
from flashctl.ethrpc.trace_params import TracerOptions
from flashctl.evm.calls import create_address
from flashctl.evm.code import CodeCache
from flashctl.evm.forks import EvmRules
from flashctl.evm.message import Deadline
from flashctl.evm.state import JournaledState
from flashctl.evm.tracers.calls import CallTracer, CallTracerOptions
from flashctl.evm.tracers.prestate import PrestateOptions, PrestateTracer
from flashctl.evm.tracers.struct_log import StructLogger, StructLogOptions
from flashctl.evm.tracers.tracer import Allowance, Call, CallEnd, Tracer
from flashctl.evm.tracing import Stepper
from flashctl.op.call import PreparedCall
from flashctl.op.envelope import TxEnvelope
from flashctl.op.execution import BlockExecution
from flashctl.op.fees import BASE_FEE_VAULT, L1_FEE_VAULT, OPERATOR_FEE_VAULT
from flashctl.op.replay import BlockReplay
from flashctl.op.rules import rules_for

__all__ = ["trace_call", "trace_transactions"]

_FEE_VAULTS: Final = (BASE_FEE_VAULT, L1_FEE_VAULT, OPERATOR_FEE_VAULT)


class _Outcome(NamedTuple):
    """What both a transaction of a block and a call come to."""

    succeeded: bool
    gas_used: int
    output: bytes
    halt_reason: str | None


@dataclass(frozen=True, slots=True)
class _Subject:
    """What is traced."""

    state: JournaledState
    rules: EvmRules
    top: Call
    touched: tuple[int, ...]
    """Accounts that take part before the first instruction."""
    first_log_index: int
    run: Callable[[CodeCache | None], _Outcome]


def trace_transactions(
    execution: BlockExecution | BlockReplay,
    envelopes: Sequence[TxEnvelope],
    first: int,
    options: TracerOptions,
    allowance: Allowance,
    deadline: Deadline,
) -> list[orjson.Fragment]:
    """Run transactions into a new block, the `first` and all behind it traced.

    Raises:
        TraceTooLarge: The traces exceed the allowance.
        ExecutionTimeout: The deadline passed.
    """
    for envelope in envelopes[:first]:
        execution.execute(envelope, deadline=deadline)
    return [
        _trace(_transaction(execution, envelope, deadline), options, allowance)
        for envelope in envelopes[first:]
    ]


def trace_call(
    call: PreparedCall, options: TracerOptions, allowance: Allowance, deadline: Deadline
) -> orjson.Fragment:
    """Trace a call.

    Raises:
        ExecutionHalted: The call cannot begin.
        TraceTooLarge: The trace exceeds the allowance.
        ExecutionTimeout: The deadline passed.
    """
    return _trace(_call(call, deadline), options, allowance)


def _trace(subject: _Subject, options: TracerOptions, allowance: Allowance) -> orjson.Fragment:
    match options:
        case StructLogOptions():
            return _struct_logs(subject, options, allowance)
        case CallTracerOptions():
            return _call_tree(subject, options, allowance)
        case PrestateOptions():
            return _prestate(subject, options, allowance)


def _struct_logs(subject: _Subject, options: StructLogOptions, allowance: Allowance) -> orjson.Fragment:
    text = StructLogText(allowance)
    outcome, end = _run(subject, StructLogger(options, subject.rules.instructions, text.add))
    return orjson.Fragment(text.result(outcome.gas_used, not outcome.succeeded, end.output))


def _call_tree(subject: _Subject, options: CallTracerOptions, allowance: Allowance) -> orjson.Fragment:
    tracer = CallTracer(subject.top, options, allowance, subject.first_log_index)
    _, end = _run(subject, tracer)
    return orjson.Fragment(call_tree_text(tracer.finish(end)))


def _prestate(subject: _Subject, options: PrestateOptions, allowance: Allowance) -> orjson.Fragment:
    tracer = PrestateTracer(subject.state, options, allowance)
    tracer.touch(subject.touched)
    _run(subject, tracer)
    shown = difference_json(tracer.difference()) if options.diff else accounts_json(tracer.before())
    return orjson.Fragment(orjson.dumps(shown))


def _run(subject: _Subject, tracer: Tracer) -> tuple[_Outcome, CallEnd]:
    """Run it, and tell how it ended as a whole: the code that a creation returned, the gas after refunds."""
    stepper = Stepper(subject.rules.instructions, tracer)
    outcome = subject.run(stepper.codes)
    end = stepper.finish(outcome.succeeded)
    if end is None:
        end = CallEnd(outcome.output, 0, outcome.halt_reason)
    return outcome, end._replace(gas_used=outcome.gas_used)


def _transaction(
    execution: BlockExecution | BlockReplay, envelope: TxEnvelope, deadline: Deadline
) -> _Subject:
    tx, state = envelope.tx, execution.state
    sender = int.from_bytes(envelope.sender, "big")
    top = _top(state, sender, tx.to, tx.value, tx.data, tx.gas_limit)
    touched = [sender, top.to, execution.env.coinbase]
    if not isinstance(tx, DepositTx):
        touched += _FEE_VAULTS
    if isinstance(tx, SetCodeTx):
        touched += _authorities(tx.authorizations)

    def run(codes: CodeCache | None) -> _Outcome:
        result = execution.execute(envelope, deadline=deadline, codes=codes)
        return _Outcome(result.receipt.succeeded, result.gas_used, result.output, result.halt_reason)

    return _Subject(
        state,
        rules_for(execution.fork),
        top,
        tuple(touched),
        sum(len(receipt.logs) for receipt in execution.receipts),
        run,
    )


def _call(call: PreparedCall, deadline: Deadline) -> _Subject:
    request, environment = call.request, call.environment
    sender = int.from_bytes(request.sender, "big")
    top = _top(environment.state, sender, request.to, request.value, request.data, call.gas)

    def run(codes: CodeCache | None) -> _Outcome:
        outcome = call.run(deadline, codes)
        return _Outcome(outcome.succeeded, outcome.gas_used, outcome.output, outcome.halt_reason)

    touched = (sender, top.to, environment.env.coinbase, *_authorities(request.authorizations or ()))
    return _Subject(environment.state, environment.rules, top, touched, 0, run)


def _top(state: JournaledState, sender: int, to: bytes | None, value: int, data: bytes, gas: int) -> Call:
    """The transaction as the call at the top of its tree."""
    if to is None:
        created = create_address(sender, state.get_account(sender).nonce)
        return Call("CREATE", sender, created, value, data, gas)
    return Call("CALL", sender, int.from_bytes(to, "big"), value, data, gas)


def _authorities(authorizations: Sequence[Authorization]) -> list[int]:
    """Who signed; their accounts change before the first instruction (EIP-7702)."""
    found = [recover_authority(each) for each in authorizations]
    return [int.from_bytes(each, "big") for each in found if each is not None]
