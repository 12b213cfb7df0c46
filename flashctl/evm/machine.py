"""Runs messages: the loop over frames, without Python recursion.

`run` drives the innermost frame through its superblocks until it calls, ends or halts, and then goes on with
the callee or the caller. Depth costs memory, never Python stack. The clock is read when a frame starts or
resumes and every `SUPERBLOCKS_PER_TURN` jumps, which is what bounds an endless loop in wall time.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from time import perf_counter
from typing import Final

from flashctl.evm.calls import (
    create_address,
    deploy,
    is_collision,
    open_creation,
    resolve_code,
    run_precompile,
    settle,
)
from flashctl.evm.code import CodeCache, TierPolicy, shared_cache
from flashctl.evm.forks import EvmRules
from flashctl.evm.frame import Context, Exit, Frame
from flashctl.evm.halts import Halt
from flashctl.evm.interpreter import interpret
from flashctl.evm.jit.compiler import compile_superblock
from flashctl.evm.message import BlockEnv, Deadline, Message, MessageResult, MessageStatus, TxEnv
from flashctl.evm.state import JournaledState

__all__ = [
    "compiler_policy",
    "default_codes",
    "default_policy",
    "execute_call",
    "execute_creation",
    "execute_message",
    "interpreter_policy",
]

_CALLED: Final = Exit.CALLED
_DONE: Final = Exit.DONE
_SUCCEEDED: Final = MessageStatus.SUCCEEDED
_HALTED: Final = MessageStatus.HALTED
"""By name, for the reason `calls` gives."""

_result: Final[Callable[[tuple[MessageStatus, int, bytes, int | None, str | None]], MessageResult]] = partial(
    tuple.__new__, MessageResult
)
"""`MessageResult` without its constructor, which takes four times as long."""

SUPERBLOCKS_PER_TURN: Final = range(64)
"""Between two looks at the clock (50 ns). A superblock takes 1-50 us, a few milliseconds at worst."""


@cache
def interpreter_policy() -> TierPolicy:
    """Never compiles."""
    return TierPolicy(interpret, None)


@cache
def compiler_policy() -> TierPolicy:
    """Compiles everything at first sight: for tests, and for contracts known to be hot."""
    return TierPolicy(interpret, compile_superblock, hot_after=0)


@cache
def default_policy() -> TierPolicy:
    """Interprets what is new and compiles what is hot."""
    return TierPolicy(interpret, compile_superblock)


def default_codes(rules: EvmRules) -> CodeCache:
    """The code cache that executions under these rules share."""
    return shared_cache(rules.instructions, default_policy())


def execute_message(
    state: JournaledState,
    block: BlockEnv,
    tx: TxEnv,
    rules: EvmRules,
    message: Message,
    *,
    deadline: Deadline | None = None,
    codes: CodeCache | None = None,
) -> MessageResult:
    """Run a call or a creation inside the state's current transaction.

    Only the message itself: no intrinsic gas, no nonce of a caller (a creation takes its address from the
    nonce as it is, so count it afterwards or pass a state where it is not yet counted). System calls come
    in here directly, transactions through `run_transaction`.

    Raises:
        ExecutionTimeout: The deadline passed; the caller reverts the state to before the message.
    """
    context = Context(state, block, tx, rules, default_codes(rules) if codes is None else codes, deadline)
    if message.to is None:
        nonce = state.get_account(message.caller).nonce
        return execute_creation(context, message, create_address(message.caller, nonce))
    return execute_call(context, message, message.to)


def execute_creation(context: Context, message: Message, address: int) -> MessageResult:
    """Create a contract at a given address."""
    state = context.state
    state.mark(state.warm, address)
    if state.get_account(message.caller).balance < message.value:
        return MessageResult(
            MessageStatus.HALTED, message.gas, b"", None, "insufficient balance for the value"
        )
    if is_collision(state, address):
        return MessageResult(MessageStatus.HALTED, 0, b"", None, "address collision")
    frame = open_creation(context, None, message.caller, address, message.value, message.data, message.gas)
    return _run(frame)


def execute_call(context: Context, message: Message, to: int) -> MessageResult:
    """Call an account, which may have no code."""
    state = context.state
    if message.value and state.get_account(message.caller).balance < message.value:
        return MessageResult(
            MessageStatus.HALTED, message.gas, b"", None, "insufficient balance for the value"
        )
    snapshot = state.snapshot()
    if message.value:
        state.transfer(message.caller, to, message.value)
    precompile = context.precompiles.get(to)
    if precompile is not None:
        status, left, output = run_precompile(precompile, message.data, message.gas, context.deadline)
        if status is not MessageStatus.SUCCEEDED:
            state.revert(snapshot)
        reason = None if status is MessageStatus.SUCCEEDED else "precompile failure"
        return MessageResult(status, left, output, None, reason)
    code = resolve_code(context, to)
    if code is None:
        if not message.value:
            state.touch(to)
        return MessageResult(MessageStatus.SUCCEEDED, message.gas, b"", None, None)
    frame = Frame(
        context,
        None,
        snapshot,
        code,
        to,
        message.caller,
        message.value,
        message.data,
        message.gas,
        0,
        message.is_static,
    )
    return _run(frame)


def _run(frame: Frame) -> MessageResult:
    """Run a frame and everything it calls to the end."""
    reason: str | None = None
    while True:
        try:
            exit_code = _run_until_exit(frame)
            if exit_code == _CALLED:
                callee = frame.callee
                assert callee is not None
                frame = callee
                continue
            if exit_code == _DONE:
                status = _SUCCEEDED
                if frame.created is not None:
                    deploy(frame)
            else:
                status = MessageStatus.REVERTED
                frame.state.revert(frame.snapshot)
        except Halt as halt:
            status, reason = _HALTED, halt.reason
            frame.gas, frame.output = 0, b""
            frame.state.revert(frame.snapshot)
        parent = frame.parent
        if parent is None:
            created = frame.created if status is _SUCCEEDED else None
            halted = reason if status is _HALTED else None
            return _result((status, frame.gas, frame.output, created, halted))
        settle(frame, status)
        frame = parent


def _run_until_exit(frame: Frame) -> int:
    deadline = frame.context.deadline
    superblocks, stack, memory, pc = frame.code.superblocks, frame.stack, frame.memory, frame.pc
    while True:
        if deadline is not None and perf_counter() > deadline.at:
            deadline.check()
        for _ in SUPERBLOCKS_PER_TURN:
            pc = superblocks[pc](frame, stack, memory)
            if pc < 0:
                return pc
