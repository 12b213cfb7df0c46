"""The plain tier: decoded basic blocks, one handler per instruction, nothing compiled.

It runs code that is seen once or twice, and every place of hot code that is not itself hot. A block is
decoded when execution first arrives: its handlers with their operands, its static gas, and the depths of
stack it can start with, so that running it again pays and checks once for all its instructions (0.1 us
each; decoding costs 0.3 us each, about as much as looking up every byte anew would). A block ends at jumps,
where the gas left is looked at, and where a frame ends or begins. At taken jumps the interpreter counts
arrivals and hands over where the compiler has been or should go, so both tiers may take turns within one
frame.

A halt anywhere in a block undoes the frame and takes its gas, so it makes no difference that it may be
found sooner than the instruction that causes it: no instruction inside a block can be seen from outside.
"""

from __future__ import annotations

from functools import cache
from typing import Final, TypeAlias

from flashctl.evm import instructions as do
from flashctl.evm.calls import begin_call, begin_create
from flashctl.evm.code import Code
from flashctl.evm.forks import STACK_LIMIT, InstructionSet
from flashctl.evm.frame import Exit, Frame
from flashctl.evm.halts import InvalidJump, InvalidOpcode, OutOfGas, StackOverflow, StackUnderflow
from flashctl.evm.handlers import HANDLERS, Handler
from flashctl.evm.instructions import ADDRESS_MASK
from flashctl.evm.opcodes import JUMP, JUMPDEST, JUMPI, PUSH0, PUSH1, PUSH32, Opcode

__all__ = ["interpret", "leave"]

JUMPS_PER_TURN: Final = 128
"""Taken jumps before the machine looks at the clock again."""

MAX_BLOCK: Final = 256
"""Instructions of one block."""

OPERATION_BYTES: Final = 90
"""Memory of a decoded instruction: a pair and its operand."""

BLOCK_BYTES: Final = 300

GOES_ON: Final = -1
"""A block that ends because the next one begins."""

UNKNOWN: Final = -1
"""A jump whose target is on the stack; a target that is no jump destination is INVALID_TARGET."""

INVALID_TARGET: Final = -2

Operation: TypeAlias = tuple[Handler | None, int]
"""A handler and an operand; no handler pushes the operand."""

Block: TypeAlias = tuple[list[Operation], int, int, int, int, int, int]
"""Operations, static gas, least and greatest stack depth at the start, the opcode that ends it (or
GOES_ON), where the code continues behind it, and the target if it is a jump."""

PLAIN, PUSHES_BYTE, PUSHES, PLACE, ENDS, WATCHES, LANDING = range(7)
"""Kinds of instructions to the decoder: a handler; PUSH1; other pushes; PC; those that the interpreter does
itself and that end a block; a handler that ends a block; JUMPDEST, which begins one."""

Decoding: TypeAlias = tuple[int, int, int, int, Operation]
"""Kind, static gas, stack depth needed, change of depth, and the operation or the size of its operand."""

_UNDEFINED: Final[Decoding] = (ENDS, 0, 0, 0, (None, 0))

_WATCHED: Final = frozenset((0x55, 0x5A))
"""SSTORE and GAS look at the gas left: what follows must not have been paid yet."""


def _duplicate(frame: Frame, stack: list[int]) -> None:
    """Stands for DUP1 to DUP16, whose operand is the place."""


def _swap(frame: Frame, stack: list[int]) -> None:
    """Stands for SWAP1 to SWAP16."""


def interpret(pc: int, frame: Frame, stack: list[int], memory: bytearray) -> int:
    """Run from `pc` to the end of the frame, a call, or a place that belongs to the other tier."""
    code = frame.code
    blocks, traces, arrivals = code.blocks, code.traces, code.arrivals
    hot_after = code.hot_after
    duplicate, swap, push = _duplicate, _swap, stack.append
    turns = JUMPS_PER_TURN
    while True:
        operations, gas, least, most, last, pc, target = blocks.get(pc) or _decode(code, pc)
        if not least <= len(stack) <= most:
            raise StackUnderflow if len(stack) < least else StackOverflow
        frame.gas -= gas
        if frame.gas < 0:
            raise OutOfGas
        for handler, operand in operations:
            if handler is None:
                push(operand)
            elif handler is duplicate:
                push(stack[operand])
            elif handler is swap:
                stack[-1], stack[operand] = stack[operand], stack[-1]
            else:
                handler(frame, stack)
        if last == GOES_ON:
            continue
        if last != JUMPI and last != JUMP:
            return leave(frame, stack, last, pc)
        if target == UNKNOWN:
            target = stack.pop()
            if target not in code.jumpdests:
                target = INVALID_TARGET
        if last == JUMPI:
            taken = code.branches[pc - 1] = stack.pop() != 0
            if not taken:
                continue
        if target == INVALID_TARGET:
            raise InvalidJump
        turns -= 1
        seen = arrivals[target] = arrivals.get(target, 0) + 1
        if seen > hot_after or not turns or target in traces:
            return target
        pc = target


def _decode(code: Code, start: int) -> Block:
    """Decode the block that starts at a place, and keep it. 0.4 us an instruction: cold code waits for
    this."""
    padded, table = code.padded, _table(code.instructions)
    operations: list[Operation] = []
    append = operations.append
    total = depth = least = highest = 0
    last, target, pc = GOES_ON, UNKNOWN, start
    while True:
        byte = padded[pc]
        kind, gas, need, delta, operation = table[byte]
        if kind < ENDS:
            pc += 1
            total += gas
            if need > depth + least:
                least = need - depth
            depth += delta
            if depth > highest:
                highest = depth
            if kind == PLAIN:
                append(operation)
            elif kind == PUSHES_BYTE:
                append((None, padded[pc]))
                pc += 1
            elif kind == PUSHES:
                end = pc + operation[1]
                append((None, int.from_bytes(padded[pc:end], "big")))
                pc = end
            else:
                append((None, pc - 1))
        elif kind == LANDING:
            if pc != start:
                break
            pc += 1
            total += gas
        else:
            pc += 1
            total += gas
            least = max(least, need - depth)
            highest = max(highest, depth + delta)
            if kind == WATCHES:
                append(operation)
            else:
                last = byte
            break
        if len(operations) >= MAX_BLOCK:
            break
    if last in (JUMP, JUMPI) and operations and operations[-1][0] is None:
        target = operations.pop()[1]
        if target not in code.jumpdests:
            target = INVALID_TARGET
    block = (operations, total, least, STACK_LIMIT - highest, last, pc, target)
    code.blocks[start] = block
    code.grew(BLOCK_BYTES + OPERATION_BYTES * len(operations))
    return block


@cache
def _table(instructions: InstructionSet) -> tuple[Decoding, ...]:
    """How to decode every byte; one that is no instruction ends its block for nothing."""
    return tuple(
        _decoding(byte, instructions.opcodes[byte]) if byte in instructions.opcodes else _UNDEFINED
        for byte in range(256)
    )


def _decoding(byte: int, opcode: Opcode) -> Decoding:
    kind, operation = ENDS, (HANDLERS.get(byte), 0)
    if PUSH0 <= byte <= PUSH32:
        kind, operation = PUSHES_BYTE if byte == PUSH1 else PUSHES, (None, byte - PUSH0)
    elif 0x80 <= byte < 0x90:
        kind, operation = PLAIN, (_duplicate, 0x7F - byte)
    elif 0x90 <= byte < 0xA0:
        kind, operation = PLAIN, (_swap, 0x8E - byte)
    elif byte == 0x58:
        kind = PLACE
    elif byte == JUMPDEST:
        kind = LANDING
    elif byte in _WATCHED:
        kind = WATCHES
    elif byte in HANDLERS:
        kind = PLAIN
    return kind, opcode.gas, max(opcode.pops, opcode.needs), opcode.pushes - opcode.pops, operation


def leave(frame: Frame, stack: list[int], opcode: int, next_pc: int) -> int:
    """The instructions that end a frame or begin another one."""
    pop = stack.pop
    match opcode:
        case 0xF1 | 0xF2:  # CALL, CALLCODE
            return begin_call(frame, opcode, pop(), pop(), pop(), pop(), pop(), pop(), pop(), next_pc)
        case 0xF4 | 0xFA:  # DELEGATECALL, STATICCALL
            return begin_call(frame, opcode, pop(), pop(), 0, pop(), pop(), pop(), pop(), next_pc)
        case 0xF0:  # CREATE
            return begin_create(frame, pop(), pop(), pop(), None, next_pc)
        case 0xF5:  # CREATE2
            return begin_create(frame, pop(), pop(), pop(), pop(), next_pc)
        case 0xF3:  # RETURN
            frame.output = do.read_memory(frame, pop(), pop())
            return Exit.DONE
        case 0xFD:  # REVERT
            frame.output = do.read_memory(frame, pop(), pop())
            return Exit.REVERTED
        case 0xFF:  # SELFDESTRUCT
            do.self_destruct(frame, pop() & ADDRESS_MASK, 0)
            return Exit.DONE
        case 0x00:  # STOP
            return Exit.DONE
    raise InvalidOpcode
