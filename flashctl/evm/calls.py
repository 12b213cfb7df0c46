"""Calls and creations: how a frame begins another one, and how the result comes back.

`begin_call` and `begin_create` either finish at once (no code, a precompiled contract, depth limit,
insufficient balance) and return where the frame continues, or leave the new frame in `Frame.callee` and
return `Exit.CALLED`. `machine` then runs it and passes it to `settle`.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from flashctl.eth.keccak import EMPTY_CODE_HASH, keccak256
from flashctl.evm import opcodes as op
from flashctl.evm.code import Code
from flashctl.evm.forks import STACK_LIMIT, PrecompiledContract
from flashctl.evm.frame import Context, Exit, Frame
from flashctl.evm.halts import CodeRejected, OutOfGas, WriteProtection
from flashctl.evm.instructions import (
    ADDRESS_MASK,
    NEW_ACCOUNT,
    WORD_HASH,
    access_account,
    charge,
    expand,
    read_memory,
)
from flashctl.evm.message import Deadline, MessageStatus
from flashctl.evm.precompiles import PrecompileError
from flashctl.evm.precompiles.contract import unbounded
from flashctl.evm.state import EMPTY_ACCOUNT, Account, JournaledState

__all__ = [
    "CALL_STIPEND",
    "CallKind",
    "begin_call",
    "begin_create",
    "charge_value",
    "create2_address",
    "create_address",
    "deploy",
    "init_code_price",
    "is_collision",
    "open_creation",
    "resolve_code",
    "run_precompile",
    "settle",
]

CALL_VALUE: Final = 9_000
CALL_STIPEND: Final = 2_300
INITCODE_WORD: Final = 2
CODE_BYTE: Final = 200
MAX_NONCE: Final = 2**64 - 1
"""An account whose nonce is this creates nothing more (EIP-2681)."""


class CallKind(IntEnum):
    """The four calls, by opcode."""

    CALL = op.CALL
    CALLCODE = op.CALLCODE
    DELEGATECALL = op.DELEGATECALL
    STATICCALL = op.STATICCALL


_CALL: Final = CallKind.CALL
_CALLCODE: Final = CallKind.CALLCODE
_DELEGATECALL: Final = CallKind.DELEGATECALL
_STATICCALL: Final = CallKind.STATICCALL
_CALLED: Final = Exit.CALLED
_SUCCEEDED: Final = MessageStatus.SUCCEEDED
_HALTED: Final = MessageStatus.HALTED
"""Looking a member up in its enum takes 0.15 us (CPython 3.11), and a call would do it nine times."""


def begin_call(
    frame: Frame,
    kind: int,
    gas: int,
    to: int,
    value: int,
    input_offset: int,
    input_size: int,
    result_offset: int,
    result_size: int,
    next_pc: int,
) -> int:
    """One of the CALL instructions, its operands taken off the stack and its static gas paid.

    Returns where the frame goes on, or `Exit.CALLED`.
    """
    state = frame.state
    to &= ADDRESS_MASK
    if value and kind == _CALL and frame.is_static:
        raise WriteProtection
    data = read_memory(frame, input_offset, input_size)
    if result_size and result_offset + result_size > len(frame.memory):
        expand(frame, result_offset + result_size)
    precompile = frame.context.precompiles.get(to)
    code = _callee_code(frame, to) if precompile is None else None
    if value:
        charge_value(frame, kind, to)
    sent = min(gas, frame.gas - frame.gas // 64)
    frame.gas -= sent
    if value:
        sent += CALL_STIPEND
        if state.get_account(frame.address).balance < value:
            return _refuse(frame, sent, next_pc)
    if frame.depth >= STACK_LIMIT:
        return _refuse(frame, sent, next_pc)
    snapshot = state.snapshot()
    if kind == _CALL:
        if value:
            state.transfer(frame.address, to, value)
        elif code is None:
            state.touch(to)
    if precompile is not None:
        status, left, output = run_precompile(precompile, data, sent, frame.context.deadline)
        if status is not _SUCCEEDED:
            state.revert(snapshot)
        return _return_at_once(frame, status, left, output, result_offset, result_size, next_pc)
    if code is None:
        return _return_at_once(frame, _SUCCEEDED, sent, b"", result_offset, result_size, next_pc)
    frame.pc = next_pc
    is_static = frame.is_static or kind == _STATICCALL
    address, caller, apparent = to, frame.address, value
    if kind == _DELEGATECALL:
        address, caller, apparent = frame.address, frame.caller, frame.value
    elif kind == _CALLCODE:
        address = frame.address
    frame.callee = Frame(
        frame.context,
        frame,
        snapshot,
        code,
        address,
        caller,
        apparent,
        data,
        sent,
        frame.depth + 1,
        is_static,
        None,
        result_offset,
        result_size,
    )
    return _CALLED


def charge_value(frame: Frame, kind: int, to: int) -> None:
    """A call that carries ether pays for moving it, and for the account it may create (EIP-161)."""
    charge(frame, CALL_VALUE)
    if kind == _CALL and frame.state.get_account(to) == EMPTY_ACCOUNT:
        charge(frame, NEW_ACCOUNT)


def _callee_code(frame: Frame, to: int) -> Code | None:
    """The code a call runs, paying for the access; None if there is none."""
    code_hash = access_account(frame, to, 0).code_hash
    if code_hash == EMPTY_CODE_HASH:
        return None
    code = frame.context.codes.get(code_hash, frame.state.code)
    if code.delegate is not None and frame.context.rules.has_delegation:
        return _follow(frame, code.delegate)
    return code


def _follow(frame: Frame, delegate: int) -> Code | None:
    """The code a delegation designator points to, paying for the access (EIP-7702).

    One step only: a designator found there runs as the invalid code it is, a precompiled contract as no code.
    """
    frame.gas -= 100
    code_hash = access_account(frame, delegate, 0).code_hash
    if code_hash == EMPTY_CODE_HASH:
        return None
    return frame.context.codes.get(code_hash, frame.state.code)


def resolve_code(context: Context, address: int) -> Code | None:
    """The code a message to `address` runs, warming the account it is delegated to; None if there is none."""
    state = context.state
    code_hash = state.get_account(address).code_hash
    if code_hash == EMPTY_CODE_HASH:
        return None
    code = context.codes.get(code_hash, state.code)
    if code.delegate is None or not context.rules.has_delegation:
        return code
    state.mark(state.warm, code.delegate)
    code_hash = state.get_account(code.delegate).code_hash
    return None if code_hash == EMPTY_CODE_HASH else context.codes.get(code_hash, state.code)


def _refuse(frame: Frame, gas: int, next_pc: int) -> int:
    """Too deep, or not enough ether: the call fails, nothing but its price is lost."""
    frame.gas += gas
    frame.returned = b""
    frame.stack.append(0)
    return next_pc


def _return_at_once(
    frame: Frame,
    status: MessageStatus,
    gas: int,
    output: bytes,
    result_offset: int,
    result_size: int,
    next_pc: int,
) -> int:
    frame.gas += gas
    frame.returned = output
    size = min(result_size, len(output))
    if size:
        frame.memory[result_offset : result_offset + size] = output[:size]
    frame.stack.append(1 if status is _SUCCEEDED else 0)
    return next_pc


def run_precompile(
    precompile: PrecompiledContract, data: bytes, gas: int, deadline: Deadline | None
) -> tuple[MessageStatus, int, bytes]:
    """Call a precompiled contract; a failure takes all the gas.

    Raises:
        ExecutionTimeout: The deadline passed.
    """
    check = unbounded if deadline is None else deadline.check
    check()
    try:
        price = precompile.gas(data)
        if price > gas:
            return _HALTED, 0, b""
        return _SUCCEEDED, gas - price, precompile.run_within(data, price, check)
    except PrecompileError:
        return _HALTED, 0, b""


# -- creations


def create_address(creator: int, nonce: int) -> int:
    """Where CREATE puts a contract: keccak(rlp([creator, nonce]))."""
    if nonce == 0:
        encoded_nonce = b"\x80"
    elif nonce < 0x80:
        encoded_nonce = bytes((nonce,))
    else:
        size = (nonce.bit_length() + 7) // 8
        encoded_nonce = bytes((0x80 + size,)) + nonce.to_bytes(size, "big")
    body = b"\x94" + creator.to_bytes(20, "big") + encoded_nonce
    return int.from_bytes(keccak256(bytes((0xC0 + len(body),)) + body)[12:], "big")


def create2_address(creator: int, salt: int, init_code: bytes) -> int:
    """Where CREATE2 puts a contract (EIP-1014)."""
    preimage = b"\xff" + creator.to_bytes(20, "big") + salt.to_bytes(32, "big") + keccak256(init_code)
    return int.from_bytes(keccak256(preimage)[12:], "big")


def is_collision(state: JournaledState, address: int) -> bool:
    """Whether nothing can be created here: nonce, code or storage exist (EIP-684, EIP-7610)."""
    nonce, _, code_hash = state.get_account(address)
    return nonce != 0 or code_hash != EMPTY_CODE_HASH or state.has_storage(address)


def init_code_price(size: int, is_hashed: bool) -> int:
    """Gas for init code of `size` bytes (EIP-3860); CREATE2 hashes it for the address."""
    return ((size + 31) >> 5) * (INITCODE_WORD + WORD_HASH if is_hashed else INITCODE_WORD)


def begin_create(frame: Frame, value: int, offset: int, size: int, salt: int | None, next_pc: int) -> int:
    """CREATE (`salt` None) or CREATE2, operands taken off the stack and static gas paid."""
    if frame.is_static:
        raise WriteProtection
    context, state = frame.context, frame.state
    if size > context.rules.max_initcode_size:
        raise OutOfGas
    charge(frame, init_code_price(size, salt is not None))
    init_code = read_memory(frame, offset, size)
    frame.returned = b""
    nonce, balance, _ = state.get_account(frame.address)
    if balance < value or frame.depth >= STACK_LIMIT or nonce >= MAX_NONCE:
        frame.stack.append(0)
        return next_pc
    gas = frame.gas - frame.gas // 64
    frame.gas -= gas
    state.increment_nonce(frame.address)
    if salt is None:
        address = create_address(frame.address, nonce)
    else:
        address = create2_address(frame.address, salt, init_code)
    state.mark(state.warm, address)
    if is_collision(state, address):
        frame.stack.append(0)
        return next_pc
    frame.pc = next_pc
    frame.callee = open_creation(context, frame, frame.address, address, value, init_code, gas)
    return _CALLED


def open_creation(
    context: Context, parent: Frame | None, creator: int, address: int, value: int, init_code: bytes, gas: int
) -> Frame:
    """The frame that runs init code; its account exists from here on, with nonce 1 (EIP-161)."""
    state = context.state
    snapshot = state.snapshot()
    state.mark(state.created, address)
    state.put_account(address, Account(1, state.get_account(address).balance, EMPTY_CODE_HASH))
    if value:
        state.transfer(creator, address, value)
    depth = 0 if parent is None else parent.depth + 1
    code = context.codes.uncached(init_code)
    return Frame(context, parent, snapshot, code, address, creator, value, b"", gas, depth, False, address)


def deploy(frame: Frame) -> None:
    """Store what init code returned as the new contract's code.

    Raises:
        CodeRejected: It starts with 0xEF (EIP-3541), or is longer than the fork allows (EIP-170).
        OutOfGas: 200 gas a byte are not there.
    """
    code = frame.output
    if code[:1] == b"\xef" or len(code) > frame.context.rules.max_code_size:
        raise CodeRejected
    charge(frame, CODE_BYTE * len(code))
    if code:
        frame.state.set_code(frame.address, code)


def settle(frame: Frame, status: MessageStatus) -> None:
    """Pass the result of a finished frame to its caller."""
    parent = frame.parent
    assert parent is not None
    output = frame.output
    if frame.created is not None and status is _SUCCEEDED:
        output = b""  # a creation gives its creator data only when it reverts (EIP-211)
    parent.callee = None
    parent.gas += frame.gas
    parent.returned = output
    if frame.created is None:
        size = min(frame.result_size, len(output))
        if size:
            parent.memory[frame.result_offset : frame.result_offset + size] = output[:size]
        parent.stack.append(1 if status is _SUCCEEDED else 0)
    else:
        parent.stack.append(frame.created if status is _SUCCEEDED else 0)
