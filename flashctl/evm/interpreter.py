"""The plain tier: decoded basic blocks, one handler per instruction, nothing compiled.

It runs code that executes once or twice, and the cold places of hot code. A block is
decoded when execution first arrives: its handlers with their operands and its static gas, so that running
it again pays once for all its instructions (0.1 us each; decoding costs 0.2 us each). A block ends at
jumps, where the remaining gas is read, and where a frame ends or begins. At taken jumps the interpreter
counts arrivals and returns to the machine at places that are compiled or hot enough to be, so both tiers may
alternate within one frame.

Half the blocks of a new contract run only once, so decoding computes nothing that running the block does not
need. Stack underflow is detected by Python's IndexError; overflow is checked only where the stack is deep.

A halt anywhere in a block reverts the frame and consumes its gas, so it may be raised earlier than the
instruction that causes it: no effect of an instruction inside a block is observable from outside.
"""

from __future__ import annotations

from functools import cache
from typing import Final, TypeAlias

from flashctl.evm import instructions as do
from flashctl.evm import opcodes as op
from flashctl.evm.calls import begin_call, begin_create
from flashctl.evm.code import Code
from flashctl.evm.forks import STACK_LIMIT, InstructionSet
from flashctl.evm.frame import Exit, Frame
from flashctl.evm.halts import InvalidJump, InvalidOpcode, OutOfGas, StackOverflow, StackUnderflow
from flashctl.evm.handlers import HANDLERS, Handler
from flashctl.evm.instructions import ADDRESS_MASK
from flashctl.evm.opcodes import JUMP, JUMPDEST, JUMPI, PUSH0, PUSH1, PUSH32, Opcode

__all__ = ["interpret", "leave"]

BLOCKS_PER_TURN: Final = range(128)
"""Blocks before control returns to the machine, which reads the clock."""

MAX_BLOCK: Final = 256
"""Instructions of one block."""

OPERATION_BYTES: Final = 90
"""Memory of a decoded instruction: a pair and its operand."""

BLOCK_BYTES: Final = 360

DEEP: Final = STACK_LIMIT - MAX_BLOCK
"""A stack as high as this could outgrow its limit within one block."""

GOES_ON: Final = -1
"""A block that ends because the next one begins."""

UNKNOWN: Final = -1
"""A jump whose target is on the stack."""

Operation: TypeAlias = tuple[Handler | None, int]
"""A handler and an operand; no handler pushes the operand."""

Block: TypeAlias = tuple[list[Operation], int, int, int, int]
"""Operations, static gas, the opcode that ends it (or GOES_ON), where the code continues behind it, and the
target if it is a jump."""

PLAIN, PUSHES_BYTE, PUSHES, PLACE, LANDING, WATCHES, ENDS = range(7)
"""Kinds of instructions to the decoder: a handler; PUSH1; other pushes; PC; JUMPDEST, which begins a block;
a handler that ends one; those that the interpreter executes itself and that end a block."""

Decoding: TypeAlias = tuple[int, int, Operation]
"""Kind, static gas, and the operation or the size of its operand."""

_UNDEFINED: Final[Decoding] = (ENDS, 0, (None, 0))

_BYTES: Final[tuple[Operation, ...]] = tuple((None, byte) for byte in range(256))
"""What PUSH1 does, ready made: it is every eighth instruction."""

_WATCHED: Final = frozenset((op.SSTORE, op.GAS))
"""SSTORE and GAS read the remaining gas: the instructions behind them must not have been charged yet."""


def _duplicate(frame: Frame, stack: list[int]) -> None:
    """Stands for DUP1 to DUP16, whose operand is the place."""


def _swap(frame: Frame, stack: list[int]) -> None:
    """Stands for SWAP1 to SWAP16."""


def interpret(pc: int, frame: Frame, stack: list[int], memory: bytearray) -> int:
    """Run from `pc` to the end of the frame, a call, or a place that belongs to the other tier."""
    code = frame.code
    arrivals, branches, hot_after = code.arrivals, code.branches, code.hot_after
    known_block, arrived, push = code.blocks.get, arrivals.get, stack.append
    duplicate, swap = _duplicate, _swap
    for _ in BLOCKS_PER_TURN:
        start, depth = pc, len(stack)
        operations, gas, last, pc, target = known_block(pc) or _decode(code, pc)
        left = frame.gas = frame.gas - gas
        if left < 0:
            raise OutOfGas
        if depth > DEEP and depth > _depths(code, start)[1]:
            raise StackOverflow
        try:
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
            if last == JUMPI:
                taken = branches[pc] = stack.pop() != 0
                if not taken:
                    continue
        except IndexError:
            if depth < _depths(code, start)[0]:
                raise StackUnderflow from None
            raise
        seen = arrived(target)
        if seen is None:
            if not code.is_jumpdest(target):
                raise InvalidJump
            seen = 0
        if seen >= hot_after:
            return target
        arrivals[target] = seen + 1
        pc = target
    return pc


def _decode(code: Code, start: int) -> Block:
    """Decode the block that starts at a place, and keep it. 0.2 us an instruction: cold code waits for
    this."""
    padded, table = code.padded, _table(code.instructions)
    operations: list[Operation] = []
    append = operations.append
    total = 0
    last, target, pc = GOES_ON, UNKNOWN, start
    for _ in range(MAX_BLOCK):
        byte = padded[pc]
        kind, gas, operation = table[byte]
        if kind == PLAIN:
            append(operation)
        elif kind == PUSHES_BYTE:
            pc += 1
            append(_BYTES[padded[pc]])
        elif kind == PUSHES:
            end = pc + operation[1]
            append((None, int.from_bytes(padded[pc + 1 : end + 1], "big")))
            pc = end
        elif kind == PLACE:
            append((None, pc))
        elif kind == LANDING:
            if pc != start:
                break
        else:
            pc += 1
            total += gas
            if kind == WATCHES:
                append(operation)
            else:
                last = byte
            break
        pc += 1
        total += gas
    if last in (JUMP, JUMPI) and operations and operations[-1][0] is None:
        target = operations.pop()[1]
    if padded[pc] == JUMPDEST:  # where a function called here returns to, more often than not
        code.jumpdests.add(pc)
    block = code.blocks[start] = (operations, total, last, pc, target)
    code.grew(BLOCK_BYTES + OPERATION_BYTES * len(operations))
    return block


def _depths(code: Code, start: int) -> tuple[int, int]:
    """Least and greatest depth of stack that the block at a place can start with."""
    opcodes, padded = code.instructions.opcodes, code.padded
    depth = least = highest = 0
    pc, end = start, code.blocks[start][3]
    while pc < end:
        byte = padded[pc]
        pc += byte - PUSH0 + 1 if PUSH1 <= byte <= PUSH32 else 1
        opcode = opcodes.get(byte)
        if opcode is not None:
            least = max(least, max(opcode.pops, opcode.needs) - depth)
            depth += opcode.pushes - opcode.pops
            highest = max(highest, depth)
    return least, STACK_LIMIT - highest


@cache
def _table(instructions: InstructionSet) -> tuple[Decoding, ...]:
    """How to decode every byte; an undefined one ends its block at no charge."""
    return tuple(
        _decoding(byte, instructions.opcodes[byte]) if byte in instructions.opcodes else _UNDEFINED
        for byte in range(256)
    )


def _decoding(byte: int, opcode: Opcode) -> Decoding:
    kind, operation = ENDS, (HANDLERS.get(byte), 0)
    if PUSH0 <= byte <= PUSH32:
        kind, operation = PUSHES_BYTE if byte == PUSH1 else PUSHES, (None, byte - PUSH0)
    elif op.DUP1 <= byte <= op.DUP16:
        kind, operation = PLAIN, (_duplicate, op.DUP1 - 1 - byte)
    elif op.SWAP1 <= byte <= op.SWAP16:
        kind, operation = PLAIN, (_swap, op.SWAP1 - 2 - byte)
    elif byte == op.PC:
        kind = PLACE
    elif byte == JUMPDEST:
        kind = LANDING
    elif byte in _WATCHED:
        kind = WATCHES
    elif byte in HANDLERS:
        kind = PLAIN
    return kind, opcode.gas, operation


def leave(frame: Frame, stack: list[int], opcode: int, next_pc: int) -> int:
    """The instructions that end a frame or begin another one."""
    pop = stack.pop
    match opcode:
        case op.CALL | op.CALLCODE:
            return begin_call(frame, opcode, pop(), pop(), pop(), pop(), pop(), pop(), pop(), next_pc)
        case op.DELEGATECALL | op.STATICCALL:
            return begin_call(frame, opcode, pop(), pop(), 0, pop(), pop(), pop(), pop(), next_pc)
        case op.CREATE:
            return begin_create(frame, pop(), pop(), pop(), None, next_pc)
        case op.CREATE2:
            return begin_create(frame, pop(), pop(), pop(), pop(), next_pc)
        case op.RETURN:
            frame.output = do.read_memory(frame, pop(), pop())
            return Exit.DONE
        case op.REVERT:
            frame.output = do.read_memory(frame, pop(), pop())
            return Exit.REVERTED
        case op.SELFDESTRUCT:
            do.self_destruct(frame, pop() & ADDRESS_MASK, 0)
            return Exit.DONE
        case op.STOP:
            return Exit.DONE
    raise InvalidOpcode
