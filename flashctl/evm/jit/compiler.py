"""The compiling tier: turns a hot stretch of bytecode into one Python function.

A trace starts at a place that has become hot and follows the way execution took: through jumps whose target
is known, along the more likely side of a JUMPI, into internal functions and back out of them, until the way
is unknown or long enough. What the stack machine does with the stack disappears: values are local
variables, and the real stack is written where the trace is left.

    trace     guard on the depth of the stack, then straight-line code with side exits
    exit      pay the gas owed so far, write the stack, return the next program counter
    loop      a trace that comes back to its start at the same height of the stack goes round in place

Gas. Nothing can see how much gas is left except GAS, SSTORE, calls, creations and reads of the state. So
static gas is added up by the compiler, and paid where one of them comes up and at exits; an exceptional
halt undoes everything anyway, wherever exactly it happens. A trace holds at most `MAX_INSTRUCTIONS`, which
bounds the debt.

Functions share one globals dictionary and take constants as default arguments: a dictionary for each made
CPython 3.13 five times slower. One trace costs 0.3-1 ms to compile, two thirds of it in Python's own
compiler, and makes its stretch 3 to 10 times faster than the interpreter.
"""

from __future__ import annotations

from typing import Any, Final

from flashctl.evm import instructions
from flashctl.evm.calls import begin_call, begin_create
from flashctl.evm.code import Code, Trace
from flashctl.evm.frame import Frame
from flashctl.evm.halts import InvalidJump, InvalidOpcode, OutOfGas
from flashctl.evm.interpreter import interpret
from flashctl.evm.jit.builder import TraceBuilder
from flashctl.evm.jit.emitters import EMITTERS

__all__ = ["compile_trace"]

TURNS: Final = range(64)
"""Rounds of a loop inside a trace before the machine looks at the clock."""

BYTES_PER_SOURCE_BYTE: Final = 4
"""Memory of a compiled function (bytecode, line table, constants, inline caches) per byte of its source,
measured."""


def _leave(frame: Frame, owed: int, pc: int) -> int:
    """A side exit: rare, so it is worth fewer lines to compile rather than less time to run."""
    frame.gas -= owed
    if frame.gas < 0:
        raise OutOfGas
    return pc


def _check_jump(frame: Frame, target: int) -> None:
    """A jump goes where none has gone yet."""
    if not frame.code.is_jumpdest(target):
        raise InvalidJump


_GLOBALS: Final[dict[str, Any]] = {
    "M": instructions.WORD_MASK,
    "W": instructions.MODULUS,
    "S": instructions.SIGN_BIT,
    "A": instructions.ADDRESS_MASK,
    "fb": int.from_bytes,
    "TURNS": TURNS,
    "OutOfGas": OutOfGas,
    "InvalidJump": InvalidJump,
    "InvalidOpcode": InvalidOpcode,
    "begin_call": begin_call,
    "begin_create": begin_create,
    "interpret": interpret,
    "leave": _leave,
    "check_jump": _check_jump,
    **{name: getattr(instructions, name) for name in instructions.__all__},
}
"""Every name generated code may use besides its own locals."""


def compile_trace(code: Code, start: int) -> tuple[Trace, int, int]:
    """Compile the trace that starts at a place; returns it with its size and length."""
    builder = TraceBuilder(code, start)
    builder.build(EMITTERS)
    source = builder.source()
    namespace: dict[str, Any] = dict(builder.defaults)
    exec(compile(source, f"<evm {start}>", "exec"), _GLOBALS, namespace)
    if builder.loops:
        code.loop_heads.add(start)
    trace: Trace = namespace["trace"]
    return trace, BYTES_PER_SOURCE_BYTE * len(source), builder.count
