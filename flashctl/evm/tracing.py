"""The tracing tier: executes one instruction at a time and reports each to a tracer.

Every instruction runs through the same handler as in the plain tier, so the results are the same; only the
grouping into basic blocks is gone, because a tracer needs gas, stack and memory before each instruction. A
`Stepper` serves one transaction or call:

    stepper = Stepper(rules.instructions, tracer)
    outcome = run_transaction(..., codes=stepper.codes)
    top = stepper.finish(outcome.succeeded)

An instruction costs 1 us here, 0.1 us in the plain tier, and what the tracer does with it.

The events follow go-ethereum's tracing, which debuggers and explorers are written against: the gas cost of a
call includes the gas it forwards, calls without code and refused calls are reported as calls, SELFDESTRUCT
too, and errors have go-ethereum's texts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple

from flashctl.evm import opcodes as op
from flashctl.evm.calls import CALL_STIPEND, CallKind, charge_value, init_code_price
from flashctl.evm.code import CodeCache, TierPolicy
from flashctl.evm.forks import InstructionSet
from flashctl.evm.frame import Exit, Frame
from flashctl.evm.geth_error_text import (
    COLLISION,
    NONCE_OVERFLOW,
    REVERTED,
    deployment_error,
    halt_error,
    precompile_error,
    refusal,
)
from flashctl.evm.halts import (
    Halt,
    InvalidJump,
    InvalidOpcode,
    OutOfGas,
    StackOverflow,
    StackUnderflow,
)
from flashctl.evm.handlers import HANDLERS, Handler
from flashctl.evm.instructions import ADDRESS_MASK, expand, read_memory
from flashctl.evm.interpreter import leave
from flashctl.evm.opcodes import JUMP, JUMPDEST, JUMPI, PUSH0, PUSH32
from flashctl.evm.tracers.tracer import Call, CallEnd, Tracer

__all__ = ["Stepper"]

STEPS_PER_TURN: Final = range(64)
"""Instructions before control returns to the machine, which reads the clock every 64 turns (10 ms)."""

MAX_GAS_COST: Final = 2**64 - 1
"""Memory far away would cost more than go-ethereum's uint64 holds; then only the static cost is reported."""

_LOGS: Final = range(op.LOG0, op.LOG4 + 1)
_CALLS: Final = frozenset(CallKind)


@dataclass(slots=True)
class _Open:
    """A running frame, and what is known of its end before `Tracer.leave` is called."""

    frame: Frame
    gas: int
    """At its start."""
    output: bytes = b""
    error: str | None = None

    def end(self, succeeded: bool) -> CallEnd:
        error = self.error
        if error is None and not succeeded:
            error = deployment_error(self.frame, self.output)
        failed = error is not None and error != REVERTED
        return CallEnd(b"" if failed else self.output, self.gas - self.frame.gas, error, error == REVERTED)


class Stepper:
    """Runs one transaction or call an instruction at a time."""

    def __init__(self, instructions: InstructionSet, tracer: Tracer) -> None:
        self.codes: Final = CodeCache(instructions, TierPolicy(self._run, None))
        """What the execution takes for its `codes`."""
        self._instructions = instructions
        self._tracer = tracer
        self._frames: list[_Open] = []

    def finish(self, succeeded: bool) -> CallEnd | None:
        """How the outermost frame ended; None if no code ran. Its gas is without that of the transaction.

        Args:
            succeeded: Whether the transaction did.
        """
        return self._frames[0].end(succeeded) if self._frames else None

    def _run(self, pc: int, frame: Frame, stack: list[int], memory: bytearray) -> int:
        """`TierPolicy.interpret`: some instructions, or all up to a call or the end of the frame."""
        frames, tracer = self._frames, self._tracer
        if not frames:
            frames.append(_Open(frame, frame.gas))
        elif frame is not frames[-1].frame:
            # The machine has settled the callee and come back.
            tracer.leave(frames.pop().end(stack[-1] != 0))
        if not frame.code.raw:
            return Exit.DONE
        step, after, push = tracer.step, tracer.after, stack.append
        padded, is_jumpdest = frame.code.padded, frame.code.is_jumpdest
        lowest, highest, static_gas = (
            self._instructions.lowest,
            self._instructions.highest,
            self._instructions.gas,
        )
        byte = gas = 0
        try:
            for _ in STEPS_PER_TURN:
                byte, gas = padded[pc], frame.gas
                step(frame, pc, byte)
                frame.gas = gas - static_gas[byte]
                if not lowest[byte] <= len(stack) <= highest[byte]:
                    raise _unfit(self._instructions, byte, len(stack))
                if frame.gas < 0:
                    raise OutOfGas
                pc += 1
                handler = _HANDLERS[byte]
                if handler is not None:
                    handler(frame, stack)
                    if byte in _LOGS:
                        logs = frame.state.logs
                        tracer.log(logs[-1], len(logs) - 1)
                elif PUSH0 <= byte <= PUSH32:
                    end = pc + byte - PUSH0
                    push(int.from_bytes(padded[pc:end], "big"))
                    pc = end
                elif byte in (JUMP, JUMPI):
                    target = stack.pop()
                    if byte == JUMP or stack.pop():
                        if not is_jumpdest(target):
                            raise InvalidJump
                        pc = target
                elif byte == op.PC:
                    push(pc - 1)
                else:
                    left_for = self._leave(frame, stack, byte, pc, gas)
                    if left_for < 0:
                        return left_for
                    pc = left_for
                    continue
                after(frame, gas - frame.gas, None)
        except Halt as halt:
            open_frame = frames[-1]
            open_frame.error = halt_error(halt, self._instructions, byte, len(stack))
            asked = gas - frame.gas
            after(frame, asked if asked <= MAX_GAS_COST else static_gas[byte], open_frame.error)
            raise
        return pc

    def _leave(self, frame: Frame, stack: list[int], byte: int, next_pc: int, gas: int) -> int:
        """The instructions that end a frame or begin another one; `gas` is what was there before."""
        if byte in _CALLS:
            return self._call(frame, stack, CallKind(byte), next_pc, gas)
        if byte in (op.CREATE, op.CREATE2):
            return self._create(frame, stack, byte, next_pc, gas)
        if byte == op.SELFDESTRUCT:
            return self._self_destruct(frame, stack, next_pc, gas)
        exit_code = leave(frame, stack, byte, next_pc)
        ended = self._frames[-1]
        ended.output = frame.output
        if exit_code == Exit.REVERTED:
            ended.error = REVERTED
        self._tracer.after(frame, gas - frame.gas, None)
        return exit_code

    def _call(self, frame: Frame, stack: list[int], kind: CallKind, next_pc: int, gas: int) -> int:
        operands = _operands(kind, stack)
        shown_value = {CallKind.DELEGATECALL: frame.value, CallKind.STATICCALL: None}.get(
            kind, operands.value
        )
        call = Call(kind.name, frame.address, operands.to, shown_value, b"", 0)
        precompile = frame.context.precompiles.get(operands.to)
        stipend = CALL_STIPEND if operands.value else 0
        if precompile is None:
            target = leave(frame, stack, kind, next_pc)
            if target == Exit.CALLED:
                return self._called(frame, call, gas - frame.gas)
            # No code ran, so everything that was passed on has come back.
            rest = frame.gas - stipend
            data = read_memory(frame, operands.offset, operands.size)
        else:
            data, rest = _prepay(frame, kind, operands)
            target = leave(frame, stack, kind, next_pc)
        passed_on = min(operands.gas, rest - rest // 64)
        call = call._replace(data=data, gas=passed_on + stipend)
        error = None
        if not stack[-1]:
            error = refusal(frame, operands.value) or precompile_error(precompile, call)
        self._tracer.after(frame, gas - rest + passed_on, None)
        self._tracer.enter(call)
        self._tracer.leave(CallEnd(frame.returned, rest + stipend - frame.gas, error))
        return target

    def _called(self, frame: Frame, call: Call, gas_cost: int) -> int:
        callee = frame.callee
        assert callee is not None
        data = callee.data if callee.created is None else callee.code.raw
        self._tracer.after(frame, gas_cost, None)
        self._tracer.enter(call._replace(data=data, gas=callee.gas))
        self._frames.append(_Open(callee, callee.gas))
        return Exit.CALLED

    def _create(self, frame: Frame, stack: list[int], byte: int, next_pc: int, gas: int) -> int:
        value, offset, size = stack[-1], stack[-2], stack[-3]
        name = self._instructions.opcodes[byte].name
        state, creator = frame.state, frame.address
        nonce = state.get_account(creator).nonce
        init_code = b"" if frame.is_static else read_memory(frame, offset, size)
        rest = frame.gas - init_code_price(size, byte == op.CREATE2)
        target = leave(frame, stack, byte, next_pc)
        call = Call(name, creator, 0, value, init_code, rest - rest // 64)
        if target == Exit.CALLED:
            assert frame.callee is not None
            return self._called(frame, call._replace(to=frame.callee.address), gas - rest)
        collided = state.get_account(creator).nonce != nonce
        error = COLLISION if collided else refusal(frame, value) or NONCE_OVERFLOW
        self._tracer.after(frame, gas - rest, None)
        self._tracer.enter(call)
        self._tracer.leave(CallEnd(b"", rest - frame.gas, error))
        return target

    def _self_destruct(self, frame: Frame, stack: list[int], next_pc: int, gas: int) -> int:
        beneficiary, balance = stack[-1] & ADDRESS_MASK, frame.state.get_account(frame.address).balance
        exit_code = leave(frame, stack, op.SELFDESTRUCT, next_pc)
        self._tracer.after(frame, gas - frame.gas, None)
        self._tracer.enter(Call("SELFDESTRUCT", frame.address, beneficiary, balance, b"", 0))
        self._tracer.leave(CallEnd(b"", 0, None))
        return exit_code


# -- the instructions that the plain tier does itself


def _duplicator(depth: int) -> Handler:
    def handler(frame: Frame, stack: list[int]) -> None:
        stack.append(stack[-depth])

    return handler


def _swapper(depth: int) -> Handler:
    def handler(frame: Frame, stack: list[int]) -> None:
        stack[-1], stack[-depth] = stack[-depth], stack[-1]

    return handler


def _do_nothing(frame: Frame, stack: list[int]) -> None:
    pass


_OWN_HANDLERS: Final[dict[int, Handler]] = {
    JUMPDEST: _do_nothing,
    **{op.DUP1 + depth - 1: _duplicator(depth) for depth in range(1, 17)},
    **{op.SWAP1 + depth - 1: _swapper(depth + 1) for depth in range(1, 17)},
}

_HANDLERS: Final[tuple[Handler | None, ...]] = tuple(
    HANDLERS.get(byte, _OWN_HANDLERS.get(byte)) for byte in range(256)
)
"""By opcode; None for pushes, jumps, PC and what ends or begins a frame."""


# -- calls


class _Operands(NamedTuple):
    """Of a CALL instruction."""

    gas: int
    to: int
    value: int
    """0 where there is no such operand."""
    offset: int
    size: int
    result_offset: int
    result_size: int


def _operands(kind: CallKind, stack: list[int]) -> _Operands:
    values = stack[:-8:-1]
    if kind in (CallKind.DELEGATECALL, CallKind.STATICCALL):
        values = [*values[:2], 0, *values[2:6]]
    values[1] &= ADDRESS_MASK
    return _Operands(*values)


def _prepay(frame: Frame, kind: CallKind, call: _Operands) -> tuple[bytes, int]:
    """Input and remaining gas of a call to a precompiled contract, before it passes any on.

    What such a call used shows when it is over, what it was given does not. So memory is paid for here,
    which `begin_call` then finds paid, and the price of the value is found by paying it and taking it back.
    """
    if call.value and frame.is_static and kind == CallKind.CALL:
        return b"", 0  # `begin_call` refuses it before it pays anything
    data = read_memory(frame, call.offset, call.size)
    if call.result_size and call.result_offset + call.result_size > len(frame.memory):
        expand(frame, call.result_offset + call.result_size)
    gas = frame.gas
    if call.value:
        charge_value(frame, kind, call.to)
    rest, frame.gas = frame.gas, gas
    return data, rest


def _unfit(instructions: InstructionSet, byte: int, depth: int) -> Halt:
    """Why an instruction cannot run on a stack of this depth."""
    if byte not in instructions.opcodes:
        return InvalidOpcode()
    return StackUnderflow() if depth < instructions.lowest[byte] else StackOverflow()
