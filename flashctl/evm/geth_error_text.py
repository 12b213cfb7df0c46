"""What instructions and failures are called in a trace: in go-ethereum's words, which tools look for."""

from __future__ import annotations

from functools import cache
from typing import Final

from flashctl.evm.forks import STACK_LIMIT, InstructionSet, PrecompiledContract
from flashctl.evm.frame import Frame
from flashctl.evm.halts import (
    Halt,
    InvalidJump,
    InvalidOpcode,
    OutOfGas,
    StackOverflow,
    StackUnderflow,
    WriteProtection,
)
from flashctl.evm.opcodes import INVALID
from flashctl.evm.precompiles import PrecompileError
from flashctl.evm.tracers.tracer import Call

__all__ = [
    "COLLISION",
    "NONCE_OVERFLOW",
    "REVERTED",
    "deployment_error",
    "halt_error",
    "instruction_names",
    "precompile_error",
    "refusal",
]

REVERTED: Final = "execution reverted"
COLLISION: Final = "contract address collision"
NONCE_OVERFLOW: Final = "nonce uint64 overflow"


@cache
def instruction_names(instructions: InstructionSet) -> tuple[str, ...]:
    """What every byte is called in a trace."""
    known = instructions.opcodes
    return tuple(
        known[byte].name
        if byte in known
        else "INVALID"
        if byte == INVALID
        else f"opcode 0x{byte:x} not defined"
        for byte in range(256)
    )


_ERRORS: Final[dict[type[Halt], str]] = {
    OutOfGas: "out of gas",
    InvalidJump: "invalid jump destination",
    WriteProtection: "write protection",
}


def halt_error(halt: Halt, instructions: InstructionSet, byte: int, depth: int) -> str:
    """Why the instruction `byte` failed on a stack of this depth."""
    match halt:
        case StackUnderflow():
            return f"stack underflow ({depth} <=> {instructions.lowest[byte]})"
        case StackOverflow():
            return f"stack limit reached {depth} ({instructions.highest[byte]})"
        case InvalidOpcode():
            return f"invalid opcode: {instruction_names(instructions)[byte]}"
    return _ERRORS.get(type(halt), halt.reason)


def deployment_error(frame: Frame, code: bytes) -> str:
    """Why the machine did not accept what init code returned (`calls.deploy`)."""
    if code[:1] == b"\xef":
        return "invalid code: must not begin with 0xef"
    if len(code) > frame.context.rules.max_code_size:
        return "max code size exceeded"
    return "contract creation code storage out of gas"


def refusal(frame: Frame, value: int) -> str | None:
    """Why a call or creation was not even tried."""
    if frame.depth >= STACK_LIMIT:
        return "max call depth exceeded"
    if value and frame.state.get_account(frame.address).balance < value:
        return "insufficient balance for transfer"
    return None


def precompile_error(precompile: PrecompiledContract | None, call: Call) -> str:
    """Why a call that was tried failed without running code."""
    try:
        return (
            "out of gas"
            if precompile is not None and precompile.gas(call.data) > call.gas
            else "precompile failed"
        )
    except PrecompileError:
        return "precompile failed"
