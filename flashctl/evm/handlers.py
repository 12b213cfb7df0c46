"""What single instructions do in the interpreter: a function of the frame and its stack for each.

Depth of the stack and static gas have been checked and paid for the whole block when a handler runs; what
depends on operands is charged in `instructions`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

from flashctl.evm import instructions as do
from flashctl.evm import opcodes as op
from flashctl.evm.frame import Frame
from flashctl.evm.instructions import ADDRESS_MASK, SIGN_BIT, WORD_MASK

__all__ = ["HANDLERS", "Handler"]

Handler: TypeAlias = Callable[[Frame, list[int]], None]

_from_bytes: Final = int.from_bytes


# -- arithmetic, comparison, bits


def _add(frame: Frame, stack: list[int]) -> None:
    top = stack.pop()
    stack[-1] = (top + stack[-1]) & WORD_MASK


def _mul(frame: Frame, stack: list[int]) -> None:
    top = stack.pop()
    stack[-1] = (top * stack[-1]) & WORD_MASK


def _sub(frame: Frame, stack: list[int]) -> None:
    top = stack.pop()
    stack[-1] = (top - stack[-1]) & WORD_MASK


def _div(frame: Frame, stack: list[int]) -> None:
    top, divisor = stack.pop(), stack[-1]
    stack[-1] = top // divisor if divisor else 0


def _sdiv(frame: Frame, stack: list[int]) -> None:
    top = stack.pop()
    stack[-1] = do.signed_divide(top, stack[-1])


def _mod(frame: Frame, stack: list[int]) -> None:
    top, divisor = stack.pop(), stack[-1]
    stack[-1] = top % divisor if divisor else 0


def _smod(frame: Frame, stack: list[int]) -> None:
    top = stack.pop()
    stack[-1] = do.signed_modulo(top, stack[-1])


def _addmod(frame: Frame, stack: list[int]) -> None:
    a, b, modulus = stack.pop(), stack.pop(), stack[-1]
    stack[-1] = (a + b) % modulus if modulus else 0


def _mulmod(frame: Frame, stack: list[int]) -> None:
    a, b, modulus = stack.pop(), stack.pop(), stack[-1]
    stack[-1] = (a * b) % modulus if modulus else 0


def _exp(frame: Frame, stack: list[int]) -> None:
    top = stack.pop()
    stack[-1] = do.exponentiate(frame, top, stack[-1])


def _signextend(frame: Frame, stack: list[int]) -> None:
    top = stack.pop()
    stack[-1] = do.sign_extend(top, stack[-1])


def _lt(frame: Frame, stack: list[int]) -> None:
    top = stack.pop()
    stack[-1] = 1 if top < stack[-1] else 0


def _gt(frame: Frame, stack: list[int]) -> None:
    top = stack.pop()
    stack[-1] = 1 if top > stack[-1] else 0


def _slt(frame: Frame, stack: list[int]) -> None:
    top = stack.pop()
    stack[-1] = 1 if top ^ SIGN_BIT < stack[-1] ^ SIGN_BIT else 0


def _sgt(frame: Frame, stack: list[int]) -> None:
    top = stack.pop()
    stack[-1] = 1 if top ^ SIGN_BIT > stack[-1] ^ SIGN_BIT else 0


def _eq(frame: Frame, stack: list[int]) -> None:
    top = stack.pop()
    stack[-1] = 1 if top == stack[-1] else 0


def _iszero(frame: Frame, stack: list[int]) -> None:
    stack[-1] = 0 if stack[-1] else 1


def _and(frame: Frame, stack: list[int]) -> None:
    top = stack.pop()
    stack[-1] &= top


def _or(frame: Frame, stack: list[int]) -> None:
    top = stack.pop()
    stack[-1] |= top


def _xor(frame: Frame, stack: list[int]) -> None:
    top = stack.pop()
    stack[-1] ^= top


def _not(frame: Frame, stack: list[int]) -> None:
    stack[-1] ^= WORD_MASK


def _byte(frame: Frame, stack: list[int]) -> None:
    index = stack.pop()
    stack[-1] = (stack[-1] >> (248 - 8 * index)) & 0xFF if index < 32 else 0


def _shl(frame: Frame, stack: list[int]) -> None:
    shift = stack.pop()
    stack[-1] = (stack[-1] << shift) & WORD_MASK if shift < 256 else 0


def _shr(frame: Frame, stack: list[int]) -> None:
    shift = stack.pop()
    stack[-1] = stack[-1] >> shift if shift < 256 else 0


def _sar(frame: Frame, stack: list[int]) -> None:
    shift = stack.pop()
    stack[-1] = do.shift_right_signed(shift, stack[-1])


def _clz(frame: Frame, stack: list[int]) -> None:
    stack[-1] = 256 - stack[-1].bit_length()


# -- what surrounds the frame


def _keccak256(frame: Frame, stack: list[int]) -> None:
    offset = stack.pop()
    stack[-1] = do.keccak_memory(frame, offset, stack[-1])


def _address(frame: Frame, stack: list[int]) -> None:
    stack.append(frame.address)


def _balance(frame: Frame, stack: list[int]) -> None:
    stack[-1] = do.access_account(frame, stack[-1] & ADDRESS_MASK, 0).balance & WORD_MASK


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


# -- memory, storage, logs, gas


def _pop(frame: Frame, stack: list[int]) -> None:
    stack.pop()


def _mload(frame: Frame, stack: list[int]) -> None:
    offset, memory = stack[-1], frame.memory
    end = offset + 32
    if end > len(memory):
        do.expand(frame, end)
    stack[-1] = _from_bytes(memory[offset:end])


def _mstore(frame: Frame, stack: list[int]) -> None:
    offset, memory = stack.pop(), frame.memory
    end = offset + 32
    if end > len(memory):
        do.expand(frame, end)
    memory[offset:end] = stack.pop().to_bytes(32)


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


def _logger(topics: int) -> Handler:
    def handler(frame: Frame, stack: list[int]) -> None:
        do.log(frame, *(stack.pop() for _ in range(2 + topics)))

    return handler


HANDLERS: Final[dict[int, Handler]] = {
    op.ADD: _add,
    op.MUL: _mul,
    op.SUB: _sub,
    op.DIV: _div,
    op.SDIV: _sdiv,
    op.MOD: _mod,
    op.SMOD: _smod,
    op.ADDMOD: _addmod,
    op.MULMOD: _mulmod,
    op.EXP: _exp,
    op.SIGNEXTEND: _signextend,
    op.LT: _lt,
    op.GT: _gt,
    op.SLT: _slt,
    op.SGT: _sgt,
    op.EQ: _eq,
    op.ISZERO: _iszero,
    op.AND: _and,
    op.OR: _or,
    op.XOR: _xor,
    op.NOT: _not,
    op.BYTE: _byte,
    op.SHL: _shl,
    op.SHR: _shr,
    op.SAR: _sar,
    op.CLZ: _clz,
    op.KECCAK256: _keccak256,
    op.ADDRESS: _address,
    op.BALANCE: _balance,
    op.ORIGIN: _origin,
    op.CALLER: _caller,
    op.CALLVALUE: _callvalue,
    op.CALLDATALOAD: _calldataload,
    op.CALLDATASIZE: _calldatasize,
    op.CALLDATACOPY: _calldatacopy,
    op.CODESIZE: _codesize,
    op.CODECOPY: _codecopy,
    op.GASPRICE: _gasprice,
    op.EXTCODESIZE: _extcodesize,
    op.EXTCODECOPY: _extcodecopy,
    op.RETURNDATASIZE: _returndatasize,
    op.RETURNDATACOPY: _returndatacopy,
    op.EXTCODEHASH: _extcodehash,
    op.BLOCKHASH: _blockhash,
    op.COINBASE: _coinbase,
    op.TIMESTAMP: _timestamp,
    op.NUMBER: _number,
    op.PREVRANDAO: _prevrandao,
    op.GASLIMIT: _gaslimit,
    op.CHAINID: _chainid,
    op.SELFBALANCE: _selfbalance,
    op.BASEFEE: _basefee,
    op.BLOBHASH: _blobhash,
    op.BLOBBASEFEE: _blobbasefee,
    op.POP: _pop,
    op.MLOAD: _mload,
    op.MSTORE: _mstore,
    op.MSTORE8: _mstore8,
    op.SLOAD: _sload,
    op.SSTORE: _sstore,
    op.MSIZE: _msize,
    op.GAS: _gas,
    op.TLOAD: _tload,
    op.TSTORE: _tstore,
    op.MCOPY: _mcopy,
    **{op.LOG0 + topics: _logger(topics) for topics in range(5)},
}
"""By opcode. The others (pushes, DUP, SWAP, jumps, calls, the end of a frame) are the interpreter's own."""
