"""The interface of tracers: the events of an execution, and a bound on what a trace may hold."""

from __future__ import annotations

from typing import Final, NamedTuple

from flashctl.errors import Failed
from flashctl.evm.frame import Frame
from flashctl.evm.state import LogEntry

__all__ = ["Allowance", "Call", "CallEnd", "TraceTooLarge", "Tracer"]


class Call(NamedTuple):
    """A frame as it begins, or what counts as one."""

    kind: str
    """The instruction's name."""
    caller: int
    to: int
    """Whose code runs; for a creation, where the contract will be; for SELFDESTRUCT, the beneficiary."""
    value: int | None
    """In wei; None for STATICCALL, which has no such operand."""
    data: bytes
    """Calldata, or creation code."""
    gas: int
    """Passed on, a stipend included."""


class CallEnd(NamedTuple):
    """A frame as it ended."""

    output: bytes
    """What was returned (the code, for a creation), or the reason of a revert."""
    gas_used: int
    error: str | None
    """None for success."""
    is_revert: bool = False
    """It ended with REVERT; `output` holds the reason."""


class Tracer:
    """Receives the events of an execution. Every method may be left as it is.

    For each instruction `step` comes first, with the frame as the instruction finds it, then `after`. Frames
    begin and end between the instructions: `enter` follows the `after` of the call, `leave` precedes the
    `step` behind it. The outermost frame has no caller, and so neither.
    """

    def step(self, frame: Frame, pc: int, opcode: int) -> None:
        """The instruction at `pc` is about to run; nothing of it has been paid or checked."""

    def after(self, frame: Frame, gas_cost: int, error: str | None) -> None:
        """It cost this much; None for `error` if it went well. The gas cost may exceed what was left."""

    def log(self, entry: LogEntry, index: int) -> None:
        """A LOG instruction emitted an event, the transaction's `index`-th."""

    def enter(self, call: Call) -> None:
        """A frame begins."""

    def leave(self, end: CallEnd) -> None:
        """The innermost frame has ended."""


class TraceTooLarge(Failed):
    """The trace would take more memory than it may."""

    limit: Final[int]
    """In bytes."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"trace exceeds {limit} bytes")
        self.limit = limit


class Allowance:
    """The bytes that one request's traces may hold."""

    __slots__ = ("_left", "limit")

    def __init__(self, limit: int) -> None:
        self.limit: Final = limit
        self._left = limit

    def take(self, size: int) -> None:
        """Use some of it.

        Raises:
            TraceTooLarge: It is used up.
        """
        self._left -= size
        if self._left < 0:
            raise TraceTooLarge(self.limit)
