"""How execution ends without a result.

A `Halt` is the protocol's own exceptional halt: it stays inside the machine, consumes the gas of its frame
and shows up as `MessageResult.halt_reason`. `ExecutionTimeout` is not part of the
protocol: it abandons the whole execution.
"""

from __future__ import annotations

from typing import ClassVar

from flashctl.errors import TimedOut

__all__ = [
    "CodeRejected",
    "ExecutionTimeout",
    "GasOverflow",
    "Halt",
    "InvalidJump",
    "InvalidOpcode",
    "OutOfGas",
    "ReturnDataOutOfBounds",
    "StackOverflow",
    "StackUnderflow",
    "WriteProtection",
]


class Halt(Exception):
    """An exceptional halt (Yellow Paper 9.4.2): the frame's changes are undone, all its gas is gone."""

    reason: ClassVar[str] = "exceptional halt"


class OutOfGas(Halt):
    """The frame cannot pay for its next step."""

    reason = "out of gas"


class GasOverflow(OutOfGas):
    """The step's memory is larger than any gas pays for. geth's uint64 overflows there, and tools match its
    error text."""

    reason = "gas uint64 overflow"


class StackUnderflow(Halt):
    """An instruction takes more than the stack holds."""

    reason = "stack underflow"


class StackOverflow(Halt):
    """The stack would hold more than 1,024 words."""

    reason = "stack overflow"


class InvalidOpcode(Halt):
    """The byte is no instruction of this fork."""

    reason = "invalid opcode"


class InvalidJump(Halt):
    """The target is no JUMPDEST, or lies inside push data."""

    reason = "invalid jump destination"


class WriteProtection(Halt):
    """A static call tried to change the state."""

    reason = "write in a static call"


class ReturnDataOutOfBounds(Halt):
    """RETURNDATACOPY reads past the end (EIP-211)."""

    reason = "return data out of bounds"


class CodeRejected(Halt):
    """Creation returned code that starts with 0xEF (EIP-3541) or is too large (EIP-170)."""

    reason = "invalid contract code"


class ExecutionTimeout(TimedOut):
    """The time budget of a transaction or call is spent; the state is as it was before it began."""

    budget_s: float
    """What the caller allowed, in seconds."""

    def __init__(self, budget_s: float) -> None:
        super().__init__(f"execution did not finish within {budget_s:g} s")
        self.budget_s = budget_s
