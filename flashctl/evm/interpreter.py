"""The plain tier: one handler per opcode, nothing prepared, nothing compiled.

It runs code that is seen once or twice, and every place of hot code that is not itself hot. A handler takes
the stack, and the frame if it needs more, and leaves the program counter alone; what moves it (pushes, jumps,
calls, the end) is in `interpret`, about 0.2 us an instruction. Gas is a local there: `frame.gas` is right
while a handler runs and when `interpret` returns. At taken jumps it counts arrivals and hands over where
the compiler has been or should go, so both tiers may take turns within one frame.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Final, TypeAlias

from flashctl.evm import instructions as do
from flashctl.evm.calls import begin_call, begin_create
from flashctl.evm.forks import InstructionSet
from flashctl.evm.frame import Exit, Frame
from flashctl.evm.halts import InvalidJump, InvalidOpcode, OutOfGas, StackOverflow, StackUnderflow
from flashctl.evm.instructions import ADDRESS_MASK, SIGN_BIT, WORD_MASK

__all__ = ["interpret"]

Handler: TypeAlias = Callable[[Frame, list[int]], None]
PureHandler: TypeAlias = Callable[[list[int]], None]
Entry: TypeAlias = tuple[int, int, int, PureHandler | None, Handler | None]
"""Least and greatest stack depth, static gas, and who executes it."""

NEVER: Final = 2**63
"""More arrivals than there can be."""

JUMPS_PER_TURN: Final = 128
"""Taken jumps before the machine looks at the clock again."""


def interpret(pc: int, frame: Frame, stack: list[int], memory: bytearray) -> int:
    """Run from `pc` to the end of the frame, a call, or a place that belongs to the other tier."""
    code = frame.code
    padded, traces, arrivals, branches = code.padded, code.traces, code.arrivals, code.branches
    table = _table(code.instructions)
    hot_after = code.policy.hot_after if code.policy.compile is not None else NEVER
    push, pop = stack.append, stack.pop
    jumpdests = code.jumpdests
    turns = JUMPS_PER_TURN
    gas = frame.gas
    while True:
        opcode = padded[pc]
        least, most, cost, pure, handler = table[opcode]
        if not least <= len(stack) <= most:
            _refuse(frame, opcode, len(stack))
        gas -= cost
        if gas < 0:
            raise OutOfGas
        if pure is not None:
            pure(stack)
            pc += 1
        elif opcode >= 0x60:
            if opcode == 0x60:  # PUSH1
                push(padded[pc + 1])
                pc += 2
            elif opcode == 0x61:  # PUSH2
                push(padded[pc + 1] << 8 | padded[pc + 2])
                pc += 3
            elif opcode < 0x80:  # PUSH3 to PUSH32
                end = pc + opcode - 0x5E
                push(int.from_bytes(padded[pc + 1 : end], "big"))
                pc = end
            elif opcode < 0x90:  # DUP1 to DUP16
                push(stack[0x7F - opcode])
                pc += 1
            elif opcode < 0xA0:  # SWAP1 to SWAP16
                other = 0x8E - opcode
                stack[-1], stack[other] = stack[other], stack[-1]
                pc += 1
            elif handler is not None:  # LOG0 to LOG4
                frame.gas = gas
                handler(frame, stack)
                gas = frame.gas
                pc += 1
            else:
                frame.gas = gas
                return _leave(frame, stack, opcode, pc)
        elif opcode == 0x5B:  # JUMPDEST
            pc += 1
        elif opcode == 0x57 or opcode == 0x56:  # JUMPI, JUMP
            target = pop()
            if opcode == 0x57:
                taken = branches[pc] = pop() != 0
                if not taken:
                    pc += 1
                    continue
            if target not in jumpdests:
                raise InvalidJump
            turns -= 1
            seen = arrivals[target] = arrivals.get(target, 0) + 1
            if seen > hot_after or not turns or target in traces:
                frame.gas = gas
                return target
            pc = target
        elif handler is not None:
            frame.gas = gas
            handler(frame, stack)
            gas = frame.gas
            pc += 1
        elif opcode == 0x58:  # PC
            push(pc)
            pc += 1
        else:  # STOP
            frame.gas = gas
            return Exit.DONE


def _refuse(frame: Frame, opcode: int, depth: int) -> None:
    known = frame.code.instructions.opcodes.get(opcode)
    if known is None:
        raise InvalidOpcode
    raise StackUnderflow if depth < max(known.pops, known.needs) else StackOverflow


def _leave(frame: Frame, stack: list[int], opcode: int, pc: int) -> int:
    """The instructions that end a frame or begin another one."""
    pop = stack.pop
    match opcode:
        case 0xF1 | 0xF2:  # CALL, CALLCODE
            return begin_call(frame, opcode, pop(), pop(), pop(), pop(), pop(), pop(), pop(), pc + 1)
        case 0xF4 | 0xFA:  # DELEGATECALL, STATICCALL
            return begin_call(frame, opcode, pop(), pop(), 0, pop(), pop(), pop(), pop(), pc + 1)
        case 0xF0:  # CREATE
            return begin_create(frame, pop(), pop(), pop(), None, pc + 1)
        case 0xF5:  # CREATE2
            return begin_create(frame, pop(), pop(), pop(), pop(), pc + 1)
        case 0xF3:  # RETURN
            frame.output = do.read_memory(frame, pop(), pop())
            return Exit.DONE
        case 0xFD:  # REVERT
            frame.output = do.read_memory(frame, pop(), pop())
            return Exit.REVERTED
        case _:  # SELFDESTRUCT
            do.self_destruct(frame, pop() & ADDRESS_MASK, 0)
            return Exit.DONE


# -- handlers: arithmetic, comparison, bits


def _add(stack: list[int]) -> None:
    top = stack.pop()
    stack[-1] = (top + stack[-1]) & WORD_MASK


def _mul(stack: list[int]) -> None:
    top = stack.pop()
    stack[-1] = (top * stack[-1]) & WORD_MASK


def _sub(stack: list[int]) -> None:
    top = stack.pop()
    stack[-1] = (top - stack[-1]) & WORD_MASK


def _div(stack: list[int]) -> None:
    top, divisor = stack.pop(), stack[-1]
    stack[-1] = top // divisor if divisor else 0


def _sdiv(stack: list[int]) -> None:
    top = stack.pop()
    stack[-1] = do.signed_divide(top, stack[-1])


def _mod(stack: list[int]) -> None:
    top, divisor = stack.pop(), stack[-1]
    stack[-1] = top % divisor if divisor else 0


def _smod(stack: list[int]) -> None:
    top = stack.pop()
    stack[-1] = do.signed_modulo(top, stack[-1])


def _addmod(stack: list[int]) -> None:
    a, b, modulus = stack.pop(), stack.pop(), stack[-1]
    stack[-1] = (a + b) % modulus if modulus else 0


def _mulmod(stack: list[int]) -> None:
    a, b, modulus = stack.pop(), stack.pop(), stack[-1]
    stack[-1] = (a * b) % modulus if modulus else 0


def _exp(frame: Frame, stack: list[int]) -> None:
    top = stack.pop()
    stack[-1] = do.exponentiate(frame, top, stack[-1])


def _signextend(stack: list[int]) -> None:
    top = stack.pop()
    stack[-1] = do.sign_extend(top, stack[-1])


def _lt(stack: list[int]) -> None:
    top = stack.pop()
    stack[-1] = 1 if top < stack[-1] else 0


def _gt(stack: list[int]) -> None:
    top = stack.pop()
    stack[-1] = 1 if top > stack[-1] else 0


def _slt(stack: list[int]) -> None:
    top = stack.pop()
    stack[-1] = 1 if top ^ SIGN_BIT < stack[-1] ^ SIGN_BIT else 0


def _sgt(stack: list[int]) -> None:
    top = stack.pop()
    stack[-1] = 1 if top ^ SIGN_BIT > stack[-1] ^ SIGN_BIT else 0


def _eq(stack: list[int]) -> None:
    top = stack.pop()
    stack[-1] = 1 if top == stack[-1] else 0


def _iszero(stack: list[int]) -> None:
    stack[-1] = 0 if stack[-1] else 1


def _and(stack: list[int]) -> None:
    top = stack.pop()
    stack[-1] &= top


def _or(stack: list[int]) -> None:
    top = stack.pop()
    stack[-1] |= top


def _xor(stack: list[int]) -> None:
    top = stack.pop()
    stack[-1] ^= top


def _not(stack: list[int]) -> None:
    stack[-1] ^= WORD_MASK


def _byte(stack: list[int]) -> None:
    index = stack.pop()
    stack[-1] = (stack[-1] >> (248 - 8 * index)) & 0xFF if index < 32 else 0


def _shl(stack: list[int]) -> None:
    shift = stack.pop()
    stack[-1] = (stack[-1] << shift) & WORD_MASK if shift < 256 else 0


def _shr(stack: list[int]) -> None:
    shift = stack.pop()
    stack[-1] = stack[-1] >> shift if shift < 256 else 0


def _sar(stack: list[int]) -> None:
    shift = stack.pop()
    stack[-1] = do.shift_right_signed(shift, stack[-1])


def _clz(stack: list[int]) -> None:
    stack[-1] = 256 - stack[-1].bit_length()


# -- handlers: what surrounds the frame


def _keccak256(frame: Frame, stack: list[int]) -> None:
    offset = stack.pop()
    stack[-1] = do.keccak_memory(frame, offset, stack[-1])


def _address(frame: Frame, stack: list[int]) -> None:
    stack.append(frame.address)


def _balance(frame: Frame, stack: list[int]) -> None:
    stack[-1] = do.access_account(frame, stack[-1] & ADDRESS_MASK, 0).balance


def _origin(frame: Frame, stack: list[int]) -> None:
    stack.append(frame.tx.origin)


def _caller(frame: Frame, stack: list[int]) -> None:
    stack.append(frame.caller)


def _callvalue(frame: Frame, stack: list[int]) -> None:
    stack.append(frame.value)


def _calldataload(frame: Frame, stack: list[int]) -> None:
    stack[-1] = do.load_word(frame.data, stack[-1])


def _calldatasize(frame: Frame, stack: list[int]) -> None:
    stack.append(len(frame.data))


def _calldatacopy(frame: Frame, stack: list[int]) -> None:
    do.copy_to_memory(frame, stack.pop(), stack.pop(), stack.pop(), frame.data)


def _codesize(frame: Frame, stack: list[int]) -> None:
    stack.append(len(frame.code.raw))


def _codecopy(frame: Frame, stack: list[int]) -> None:
    do.copy_to_memory(frame, stack.pop(), stack.pop(), stack.pop(), frame.code.raw)


def _gasprice(frame: Frame, stack: list[int]) -> None:
    stack.append(frame.tx.gas_price)


def _extcodesize(frame: Frame, stack: list[int]) -> None:
    stack[-1] = len(do.access_code(frame, stack[-1] & ADDRESS_MASK, 0))


def _extcodecopy(frame: Frame, stack: list[int]) -> None:
    code = do.access_code(frame, stack.pop() & ADDRESS_MASK, 0)
    do.copy_to_memory(frame, stack.pop(), stack.pop(), stack.pop(), code)


def _returndatasize(frame: Frame, stack: list[int]) -> None:
    stack.append(len(frame.returned))


def _returndatacopy(frame: Frame, stack: list[int]) -> None:
    do.copy_return_data(frame, stack.pop(), stack.pop(), stack.pop())


def _extcodehash(frame: Frame, stack: list[int]) -> None:
    stack[-1] = do.code_hash_of(frame, stack[-1] & ADDRESS_MASK, 0)


def _blockhash(frame: Frame, stack: list[int]) -> None:
    stack[-1] = do.block_hash(frame, stack[-1])


def _coinbase(frame: Frame, stack: list[int]) -> None:
    stack.append(frame.block.coinbase)


def _timestamp(frame: Frame, stack: list[int]) -> None:
    stack.append(frame.block.timestamp)


def _number(frame: Frame, stack: list[int]) -> None:
    stack.append(frame.block.number)


def _prevrandao(frame: Frame, stack: list[int]) -> None:
    stack.append(frame.block.prev_randao)


def _gaslimit(frame: Frame, stack: list[int]) -> None:
    stack.append(frame.block.gas_limit)


def _chainid(frame: Frame, stack: list[int]) -> None:
    stack.append(frame.block.chain_id)


def _selfbalance(frame: Frame, stack: list[int]) -> None:
    stack.append(do.self_balance(frame))


def _basefee(frame: Frame, stack: list[int]) -> None:
    stack.append(frame.block.base_fee)


def _blobhash(frame: Frame, stack: list[int]) -> None:
    hashes = frame.tx.blob_hashes
    stack[-1] = hashes[stack[-1]] if stack[-1] < len(hashes) else 0


def _blobbasefee(frame: Frame, stack: list[int]) -> None:
    stack.append(frame.block.blob_base_fee)


# -- handlers: memory, storage, logs, gas


def _pop(stack: list[int]) -> None:
    stack.pop()


def _mload(frame: Frame, stack: list[int]) -> None:
    offset = stack[-1]
    if offset + 32 > len(frame.memory):
        do.expand(frame, offset + 32)
    stack[-1] = int.from_bytes(frame.memory[offset : offset + 32], "big")


def _mstore(frame: Frame, stack: list[int]) -> None:
    offset = stack.pop()
    if offset + 32 > len(frame.memory):
        do.expand(frame, offset + 32)
    frame.memory[offset : offset + 32] = stack.pop().to_bytes(32, "big")


def _mstore8(frame: Frame, stack: list[int]) -> None:
    offset = stack.pop()
    if offset >= len(frame.memory):
        do.expand(frame, offset + 1)
    frame.memory[offset] = stack.pop() & 0xFF


def _sload(frame: Frame, stack: list[int]) -> None:
    value = frame.slots.get(stack[-1])
    stack[-1] = do.warm_slot(frame, stack[-1], 0) if value is None else value


def _sstore(frame: Frame, stack: list[int]) -> None:
    do.store_slot(frame, stack.pop(), stack.pop(), 0)


def _tload(frame: Frame, stack: list[int]) -> None:
    stack[-1] = frame.state.transient.get((frame.address, stack[-1]), 0)


def _tstore(frame: Frame, stack: list[int]) -> None:
    do.store_transient(frame, stack.pop(), stack.pop())


def _mcopy(frame: Frame, stack: list[int]) -> None:
    do.copy_memory(frame, stack.pop(), stack.pop(), stack.pop())


def _msize(frame: Frame, stack: list[int]) -> None:
    stack.append(len(frame.memory))


def _gas(frame: Frame, stack: list[int]) -> None:
    stack.append(frame.gas)


def _push0(stack: list[int]) -> None:
    stack.append(0)


def _logger(topics: int) -> Handler:
    def handler(frame: Frame, stack: list[int]) -> None:
        do.log(frame, *(stack.pop() for _ in range(2 + topics)))

    return handler


_PURE: Final[dict[int, PureHandler]] = {
    **dict(enumerate((_add, _mul, _sub, _div, _sdiv, _mod, _smod, _addmod, _mulmod), 0x01)),
    0x0B: _signextend,
    **dict(enumerate((_lt, _gt, _slt, _sgt, _eq, _iszero, _and, _or, _xor, _not), 0x10)),
    **dict(enumerate((_byte, _shl, _shr, _sar, _clz), 0x1A)),
    0x50: _pop,
    0x5F: _push0,
}
"""What needs nothing but the stack."""

_OTHERS: Final[dict[int, Handler]] = {
    0x0A: _exp,
    0x20: _keccak256,
    **dict(enumerate((_address, _balance, _origin, _caller, _callvalue, _calldataload, _calldatasize), 0x30)),
    **dict(enumerate((_calldatacopy, _codesize, _codecopy, _gasprice, _extcodesize, _extcodecopy), 0x37)),
    **dict(enumerate((_returndatasize, _returndatacopy, _extcodehash, _blockhash, _coinbase), 0x3D)),
    **dict(enumerate((_timestamp, _number, _prevrandao, _gaslimit, _chainid, _selfbalance, _basefee), 0x42)),
    **dict(enumerate((_blobhash, _blobbasefee), 0x49)),
    **dict(enumerate((_mload, _mstore, _mstore8, _sload, _sstore), 0x51)),
    **dict(enumerate((_msize, _gas), 0x59)),
    **dict(enumerate((_tload, _tstore, _mcopy), 0x5C)),
    **dict(enumerate((_logger(topics) for topics in range(5)), 0xA0)),
}
"""What needs the frame, and may take gas from it."""


@cache
def _table(instructions: InstructionSet) -> tuple[Entry, ...]:
    """All there is to know about every byte, in one tuple: a lookup and an unpacking are cheaper than
    four."""
    return tuple(
        (
            instructions.lowest[opcode],
            instructions.highest[opcode],
            instructions.gas[opcode],
            _PURE.get(opcode),
            _OTHERS.get(opcode),
        )
        for opcode in range(256)
    )
