"""The struct logger: one entry for each instruction, go-ethereum's default tracer.

Field by field it is what `debug_traceTransaction` of ethereum/execution-apis describes (`StructLog`). Gas,
stack and memory are those before the instruction, the refund counter is that after its own refund.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from flashctl.evm import opcodes as op
from flashctl.evm.forks import InstructionSet
from flashctl.evm.frame import Frame
from flashctl.evm.geth_error_text import instruction_names
from flashctl.evm.tracers.tracer import Tracer

__all__ = ["StructLog", "StructLogOptions", "StructLogger"]


@dataclass(frozen=True, slots=True)
class StructLogOptions:
    """What an entry holds, and how many there are."""

    memory: bool = False
    stack: bool = True
    storage: bool = True
    return_data: bool = False
    limit: int = 0
    """Instructions that are logged; 0 for all."""


class StructLog(NamedTuple):
    """One instruction. What was not asked for is None."""

    pc: int
    op: str
    gas: int
    """What was left before it."""
    gas_cost: int
    """What it took, or would have taken; a call's includes what it passes on."""
    depth: int
    """1 for the outermost frame."""
    refund: int
    error: str | None
    stack: tuple[int, ...] | None
    """From the bottom to the top."""
    memory: bytes | None
    return_data: bytes | None
    """Of the last call of this frame."""
    storage: dict[int, int] | None
    """Slots of this contract that the transaction has read or written so far, with the value just read or
    written; None for everything but SLOAD and SSTORE."""


class StructLogger(Tracer):
    """Produces the entries one by one: a transaction may have millions."""

    def __init__(
        self, options: StructLogOptions, instructions: InstructionSet, sink: Callable[[StructLog], None]
    ) -> None:
        self._options = options
        self._names = instruction_names(instructions)
        self._sink = sink
        self._left = options.limit or -1
        self._storage: dict[int, dict[int, int]] = {}
        """By contract. Never taken back: it is a log, not the state."""
        self._begun: tuple[int, int, int, tuple[int, ...] | None, bytes | None, bytes | None]
        self._slots: dict[int, int] | None = None

    def step(self, frame: Frame, pc: int, opcode: int) -> None:
        if not self._left:
            return
        options, stack = self._options, frame.stack
        self._slots = None
        if options.storage and opcode in (op.SLOAD, op.SSTORE) and len(stack) > opcode - op.SLOAD:
            self._slots = self._storage_with(frame, opcode)
        self._begun = (
            pc,
            opcode,
            frame.gas,
            tuple(stack) if options.stack else None,
            bytes(frame.memory) if options.memory else None,
            frame.returned if options.return_data else None,
        )

    def after(self, frame: Frame, gas_cost: int, error: str | None) -> None:
        if not self._left:
            return
        self._left -= 1
        pc, opcode, gas, stack, memory, return_data = self._begun
        self._sink(
            StructLog(
                pc,
                self._names[opcode],
                gas,
                gas_cost,
                frame.depth + 1,
                frame.state.refund,
                error,
                stack,
                memory,
                return_data,
                self._slots,
            )
        )

    def _storage_with(self, frame: Frame, opcode: int) -> dict[int, int]:
        slots = self._storage.setdefault(frame.address, {})
        slot = frame.stack[-1]
        slots[slot] = frame.stack[-2] if opcode == op.SSTORE else frame.state.storage(frame.address, slot)
        return dict(slots)
