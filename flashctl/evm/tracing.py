"""Execution one instruction at a time, told to a tracer: the third tier.

It does with every instruction what the plain tier does with it, by the same handlers, so it comes to the
same results; only the block of instructions is gone, for whoever traces wants gas, stack and memory before
each of them. A `Stepper` serves one transaction or call:

    stepper = Stepper(rules.instructions, tracer)
    outcome = run_transaction(..., codes=stepper.codes)
    top = stepper.finish(outcome.succeeded)

An instruction costs 1 us here, 0.1 us in the plain tier, and what the tracer does with it.

What is told follows go-ethereum's tracing, which the tools of the field were written against: the gas cost
of a call includes what it passes on, calls without code and refused calls are calls, SELFDESTRUCT is one
too, and errors have go-ethereum's words.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Final, NamedTuple

from flashctl.errors import Failed
from flashctl.evm.calls import CALL_STIPEND, CallKind, charge_value, init_code_price
from flashctl.evm.code import CodeCache, TierPolicy
from flashctl.evm.forks import STACK_LIMIT, InstructionSet, PrecompiledContract
from flashctl.evm.frame import Exit, Frame
from flashctl.evm.halts import (
    Halt,
    InvalidJump,
    InvalidOpcode,
    OutOfGas,
    StackOverflow,
    StackUnderflow,
    WriteProtection,
)
from flashctl.evm.handlers import HANDLERS, Handler
from flashctl.evm.instructions import ADDRESS_MASK, expand, read_memory
from flashctl.evm.interpreter import leave
from flashctl.evm.opcodes import INVALID, JUMP, JUMPDEST, JUMPI, PUSH0, PUSH32
from flashctl.evm.precompiles import PrecompileError
from flashctl.evm.state import LogEntry

__all__ = ["Allowance", "Call", "CallEnd", "Stepper", "TraceTooLarge", "Tracer", "instruction_names"]

STEPS_PER_TURN: Final = range(64)
"""Instructions before the machine gets its turn; it looks at the clock every 64 turns, which is 10 ms."""

_PC: Final = 0x58
_LOGS: Final = range(0xA0, 0xA5)
_CALLS: Final = frozenset(CallKind)
_CREATE: Final = 0xF0
_CREATE2: Final = 0xF5
_SELFDESTRUCT: Final = 0xFF
_REVERTED: Final = "execution reverted"


class Call(NamedTuple):
    """A frame as it begins, or what counts as one."""

    kind: str
    """The instruction's name."""
    caller: int
    to: int
    """Whose code runs; for a creation, where the contract will be; for SELFDESTRUCT, who is paid."""
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
    """It failed by its own will, and `output` says why."""


class Tracer:
    """Who is told. Every method may be left as it is.

    For each instruction `step` comes first, with the frame as the instruction finds it, then `after`. Frames
    begin and end between the instructions: `enter` follows the `after` of the call, `leave` precedes the
    `step` behind it. The outermost frame is nobody's call and has neither.
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


@dataclass(slots=True)
class _Open:
    """A frame that runs, and what is known of its end before its caller is told."""

    frame: Frame
    gas: int
    """At its start."""
    output: bytes = b""
    error: str | None = None

    def end(self, succeeded: bool) -> CallEnd:
        error = self.error
        if error is None and not succeeded:
            error = _deployment_error(self.frame, self.output)
        failed = error is not None and error != _REVERTED
        return CallEnd(b"" if failed else self.output, self.gas - self.frame.gas, error, error == _REVERTED)


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
        padded, jumpdests = frame.code.padded, frame.code.jumpdests
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
                if not lowest[byte] <= len(stack) <= highest[byte]:
                    raise _unfit(self._instructions, byte, len(stack))
                frame.gas = gas - static_gas[byte]
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
                        if target not in jumpdests:
                            raise InvalidJump
                        pc = target
                elif byte == _PC:
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
            open_frame.error = _error(halt, self._instructions, byte, len(stack))
            after(frame, max(gas - frame.gas, static_gas[byte]), open_frame.error)
            raise
        return pc

    def _leave(self, frame: Frame, stack: list[int], byte: int, next_pc: int, gas: int) -> int:
        """The instructions that end a frame or begin another one; `gas` is what was there before."""
        if byte in _CALLS:
            return self._call(frame, stack, CallKind(byte), next_pc, gas)
        if byte in (_CREATE, _CREATE2):
            return self._create(frame, stack, byte, next_pc, gas)
        if byte == _SELFDESTRUCT:
            return self._self_destruct(frame, stack, next_pc, gas)
        exit_code = leave(frame, stack, byte, next_pc)
        ended = self._frames[-1]
        ended.output = frame.output
        if exit_code == Exit.REVERTED:
            ended.error = _REVERTED
        self._tracer.after(frame, gas - frame.gas, None)
        return exit_code

    def _call(self, frame: Frame, stack: list[int], kind: CallKind, next_pc: int, gas: int) -> int:
        has_value = kind in (CallKind.CALL, CallKind.CALLCODE)
        operands = stack[:-8:-1] if has_value else [*stack[-1:-3:-1], 0, *stack[-3:-7:-1]]
        asked, to, value, offset, size, result_offset, result_size = operands
        to &= ADDRESS_MASK
        stipend = CALL_STIPEND if value else 0
        precompile = frame.context.precompiles.get(to)
        data, rest = b"", 0
        if precompile is not None and not (value and frame.is_static and kind == CallKind.CALL):
            # How much such a call takes shows afterwards; what it was given must be worked out before.
            data = read_memory(frame, offset, size)
            if result_size and result_offset + result_size > len(frame.memory):
                expand(frame, result_offset + result_size)
            rest = _rest(frame, kind, to, value)
        target = leave(frame, stack, kind, next_pc)
        shown_value = {CallKind.DELEGATECALL: frame.value, CallKind.STATICCALL: None}.get(kind, value)
        call = Call(kind.name, frame.address, to, shown_value, data, 0)
        if target == Exit.CALLED:
            return self._called(frame, call, gas - frame.gas)
        if precompile is None:
            rest = frame.gas - stipend
            call = call._replace(data=bytes(frame.memory[offset : offset + size]) if size else b"")
        passed_on = min(asked, rest - rest // 64)
        call = call._replace(gas=passed_on + stipend)
        error = None
        if not stack[-1]:
            error = _refusal(frame, value)
            if error is None and precompile is not None:
                error = _precompile_error(precompile, call)
        self._tracer.after(frame, gas - rest + passed_on, None)
        self._tracer.enter(call)
        used = call.gas - (frame.gas - (rest - passed_on))
        self._tracer.leave(CallEnd(frame.returned, used, error))
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
        rest = frame.gas - init_code_price(size, byte == _CREATE2)
        target = leave(frame, stack, byte, next_pc)
        call = Call(name, creator, 0, value, init_code, rest - rest // 64)
        if target == Exit.CALLED:
            assert frame.callee is not None
            return self._called(frame, call._replace(to=frame.callee.address), gas - rest)
        collided = state.get_account(creator).nonce != nonce
        error = (
            "contract address collision" if collided else _refusal(frame, value) or "nonce uint64 overflow"
        )
        self._tracer.after(frame, gas - rest, None)
        self._tracer.enter(call)
        self._tracer.leave(CallEnd(b"", rest - frame.gas, error))
        return target

    def _self_destruct(self, frame: Frame, stack: list[int], next_pc: int, gas: int) -> int:
        beneficiary, balance = stack[-1] & ADDRESS_MASK, frame.state.get_account(frame.address).balance
        exit_code = leave(frame, stack, _SELFDESTRUCT, next_pc)
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
    **{0x7F + depth: _duplicator(depth) for depth in range(1, 17)},
    **{0x8F + depth: _swapper(depth + 1) for depth in range(1, 17)},
}

_HANDLERS: Final[tuple[Handler | None, ...]] = tuple(
    HANDLERS.get(byte, _OWN_HANDLERS.get(byte)) for byte in range(256)
)
"""By opcode; None for pushes, jumps, PC and what ends or begins a frame."""


# -- gas of calls


def _rest(frame: Frame, kind: CallKind, to: int, value: int) -> int:
    """What is left when a call to a warm account has paid for itself, its memory being paid already."""
    gas = frame.gas
    if value:
        charge_value(frame, kind, to)
    rest, frame.gas = frame.gas, gas
    return rest


# -- errors, in go-ethereum's words


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


def _unfit(instructions: InstructionSet, byte: int, depth: int) -> Halt:
    """Why an instruction cannot run on a stack of this depth."""
    if byte not in instructions.opcodes:
        return InvalidOpcode()
    return StackUnderflow() if depth < instructions.lowest[byte] else StackOverflow()


def _error(halt: Halt, instructions: InstructionSet, byte: int, depth: int) -> str:
    match halt:
        case StackUnderflow():
            return f"stack underflow ({depth} <=> {instructions.lowest[byte]})"
        case StackOverflow():
            return f"stack limit reached {depth} ({instructions.highest[byte]})"
        case InvalidOpcode():
            return f"invalid opcode: {instruction_names(instructions)[byte]}"
    return _ERRORS.get(type(halt), halt.reason)


def _deployment_error(frame: Frame, code: bytes) -> str:
    """Why the machine did not accept what init code returned (`calls.deploy`)."""
    if code[:1] == b"\xef":
        return "invalid code: must not begin with 0xef"
    if len(code) > frame.context.rules.max_code_size:
        return "max code size exceeded"
    return "contract creation code storage out of gas"


def _refusal(frame: Frame, value: int) -> str | None:
    """Why a call or creation was not even tried."""
    if frame.depth >= STACK_LIMIT:
        return "max call depth exceeded"
    if value and frame.state.get_account(frame.address).balance < value:
        return "insufficient balance for transfer"
    return None


def _precompile_error(precompile: PrecompiledContract, call: Call) -> str:
    try:
        return "out of gas" if precompile.gas(call.data) > call.gas else "precompile failed"
    except PrecompileError:
        return "precompile failed"
