"""What each instruction becomes in a superblock: one emitter per opcode, or per family of them.

An emitter takes symbols off the builder's stack, adds lines, and puts symbols back. Arithmetic is in
`arithmetic`; here is what surrounds the frame, memory (most of which `SymbolicMemory` answers without
touching it), storage, and the ends.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from flashctl.evm import opcodes as op
from flashctl.evm.frame import Exit
from flashctl.evm.instructions import WORD_HASH
from flashctl.evm.jit.arithmetic import ARITHMETIC
from flashctl.evm.jit.builder import SuperblockBuilder
from flashctl.evm.jit.symbols import Symbol, constant

__all__ = ["EMITTERS"]

Emitter: TypeAlias = Callable[[SuperblockBuilder, int], None]

NEAR: Final = 1 << 24
"""Memory offsets below this are handled as constants; beyond, the price of the memory ends the frame
anyway."""

POINTER_BITS: Final = 64
"""What a pointer has at most after memory was accessed through it: more memory cannot be paid for."""

_UNKNOWN: Final = Symbol("_", 256)
"""A size that makes no range."""

# -- what surrounds the frame

_SURROUNDINGS: Final[dict[int, tuple[str, int]]] = {
    op.ADDRESS: ("f.address", 160),
    op.ORIGIN: ("f.tx.origin", 160),
    op.CALLER: ("f.caller", 160),
    op.CALLVALUE: ("f.value", 256),
    op.CALLDATASIZE: ("len(f.data)", 64),
    op.GASPRICE: ("f.tx.gas_price", 256),
    op.RETURNDATASIZE: ("len(f.returned)", 64),
    op.COINBASE: ("f.block.coinbase", 160),
    op.TIMESTAMP: ("f.block.timestamp", 256),
    op.NUMBER: ("f.block.number", 256),
    op.PREVRANDAO: ("f.block.prev_randao", 256),
    op.GASLIMIT: ("f.block.gas_limit", 256),
    op.CHAINID: ("f.block.chain_id", 256),
    op.SELFBALANCE: ("self_balance(f)", 256),
    op.BASEFEE: ("f.block.base_fee", 256),
    op.BLOBBASEFEE: ("f.block.blob_base_fee", 256),
    op.MSIZE: ("len(mem)", 64),
}


_PASSING: Final = (op.SELFBALANCE, op.MSIZE)
"""The two that change while a frame runs (return data changes only between superblocks)."""


def _surroundings(builder: SuperblockBuilder, opcode: int) -> None:
    if opcode in _PASSING:
        builder.look_at_gas()
        builder.compute(*_SURROUNDINGS[opcode])
    else:
        builder.compute_once(*_SURROUNDINGS[opcode])


def _constant(builder: SuperblockBuilder, opcode: int) -> None:
    """CODESIZE, PC, PUSH0: known when compiling."""
    value = {op.CODESIZE: len(builder.code.raw), op.PC: builder.pc - 1, op.PUSH0: 0}[opcode]
    builder.push(constant(value))


def _gas(builder: SuperblockBuilder, opcode: int) -> None:
    builder.pay()
    builder.compute("f.gas")


def _range(offset: Symbol, size: Symbol) -> tuple[int, int] | None:
    """Start and end of a piece of memory, if they are known and near."""
    if offset.value is None or size.value is None or offset.value > NEAR or size.value > NEAR:
        return None
    return offset.value, offset.value + size.value


def _before_reading(builder: SuperblockBuilder, offset: Symbol, size: Symbol) -> None:
    """Write what the piece of memory lacks; everything, if it is not known which piece."""
    known = _range(offset, size)
    if known is not None:
        builder.memory.flush(*known)
    elif offset.least < builder.memory.unwritten_end:
        builder.memory.flush()


def _before_writing(
    builder: SuperblockBuilder, offset: Symbol, size: Symbol, operands: Sequence[Symbol]
) -> None:
    """Drop what is known of a piece of memory that is about to be overwritten."""
    known = _range(offset, size)
    if known is not None:
        builder.memory.overwrite(*known)
    elif not builder.aim(offset, builder.memory.end, operands):
        builder.memory.forget()


def _keccak(builder: SuperblockBuilder, opcode: int) -> None:
    offset, size = builder.pop(), builder.pop()
    known = _range(offset, size)
    if known is None or known[0] == known[1]:
        _before_reading(builder, offset, size)
        builder.compute(f"keccak_memory(f,{builder.text(offset)},{builder.text(size)})")
        return
    start, end = known
    builder.owed += WORD_HASH * ((end - start + 31) >> 5)
    builder.hold(end)
    words = builder.memory.words(start, end)
    if words is not None and len(words) == 2:  # the key of a mapping
        builder.compute_once(f"keccak_pair({builder.text(words[0])},{builder.text(words[1])})")
        return
    builder.memory.flush(start, end)
    builder.compute(f"keccak_word(bytes(mem[{start}:{end}]))")


def _load_data(builder: SuperblockBuilder, opcode: int) -> None:
    """CALLDATALOAD."""
    offset = builder.pop()
    data = builder.local("data", "f.data")
    if offset.value is not None and offset.value < NEAR:
        start, end = offset.value, offset.value + 32
        whole = f"fb({data}[{start}:{end}],'big')"
        builder.compute_once(f"{whole} if len({data})>={end} else load_word({data},{start})")
    else:
        builder.compute_once(f"load_word({data},{builder.text(offset)})")


_COPIED: Final = {op.CALLDATACOPY: "f.data", op.CODECOPY: "f.code.raw"}


def _copy(builder: SuperblockBuilder, opcode: int) -> None:
    """CALLDATACOPY, CODECOPY, RETURNDATACOPY, MCOPY."""
    target, source, size = builder.pop(), builder.pop(), builder.pop()
    if opcode == op.MCOPY:
        _before_reading(builder, source, size)
    _before_writing(builder, target, size, (size, source, target))
    operands = f"{builder.text(target)},{builder.text(source)},{builder.text(size)}"
    if opcode == op.RETURNDATACOPY:
        builder.emit(f"copy_return_data(f,{operands})")
    elif opcode == op.MCOPY:
        builder.emit(f"copy_memory(f,{operands})")
    else:
        builder.emit(f"copy_to_memory(f,{operands},{_COPIED[opcode]})")


def _account(builder: SuperblockBuilder, opcode: int) -> None:
    """BALANCE, EXTCODESIZE, EXTCODEHASH."""
    symbol = builder.pop()
    address = builder.text(symbol) if symbol.bits <= 160 else f"{builder.text(symbol)}&A"
    match opcode:
        case op.BALANCE:
            builder.compute(f"access_account(f,{address},{builder.owed})[1]&M")
        case op.EXTCODESIZE:
            builder.compute(f"len(access_code(f,{address},{builder.owed}))", 64)
        case _:
            builder.compute(f"code_hash_of(f,{address},{builder.owed})")


def _copy_account_code(builder: SuperblockBuilder, opcode: int) -> None:
    """EXTCODECOPY."""
    address, target, source, size = builder.pop(), builder.pop(), builder.pop(), builder.pop()
    _before_writing(builder, target, size, (size, source, target, address))
    operands = f"{builder.text(target)},{builder.text(source)},{builder.text(size)}"
    builder.emit(f"copy_to_memory(f,{operands},access_code(f,{builder.text(address)}&A,{builder.owed}))")


def _block_hash(builder: SuperblockBuilder, opcode: int) -> None:
    builder.compute(f"block_hash(f,{builder.operand()})")


def _blob_hash(builder: SuperblockBuilder, opcode: int) -> None:
    index = builder.operand()
    hashes = builder.local("blobs", "f.tx.blob_hashes")
    builder.compute(f"{hashes}[{index}] if {index}<len({hashes}) else 0")


# -- memory and storage


def _pop(builder: SuperblockBuilder, opcode: int) -> None:
    builder.pop()


def _nothing(builder: SuperblockBuilder, opcode: int) -> None:
    """JUMPDEST."""


def _memory_load(builder: SuperblockBuilder, opcode: int) -> None:
    offset = builder.pop()
    if offset.value is None or offset.value > NEAR:
        if not builder.aim(offset, builder.memory.unwritten_end, (offset,)):
            builder.memory.flush()
        start = builder.text(offset)
        end = builder.hold_word(start)
        builder.compute(f"fb(mem[{start}:{end}],'big')")
        offset.bits = min(offset.bits, POINTER_BITS)
        return
    at = offset.value
    known = builder.memory.word(at)
    if known is None:
        builder.hold(at + 32)
        builder.memory.flush(at, at + 32)
        known = builder.assign(f"fb(mem[{at}:{at + 32}],'big')")
        builder.memory.learn(at, known)
    builder.push(known)


def _memory_store(builder: SuperblockBuilder, opcode: int) -> None:
    offset, symbol = builder.pop(), builder.pop()
    if offset.value is not None and offset.value <= NEAR:
        builder.hold(offset.value + 32)
        builder.memory.store(offset.value, symbol)
        return
    _before_writing(builder, offset, _UNKNOWN, (symbol, offset))
    content = builder.word_bytes(symbol)
    start = builder.text(offset)
    end = builder.hold_word(start)
    builder.emit(f"mem[{start}:{end}]={content}")
    offset.bits = min(offset.bits, POINTER_BITS)


def _memory_store_byte(builder: SuperblockBuilder, opcode: int) -> None:
    offset, value = builder.pop(), builder.pop()
    _before_writing(builder, offset, constant(1), (value, offset))
    start = builder.text(offset)
    content = builder.text(value)
    builder.emit(f"if {start}>=len(mem): expand(f,{start}+1)")
    builder.emit(f"mem[{start}]={content}&255")


def _storage_load(builder: SuperblockBuilder, opcode: int) -> None:
    slot = builder.operand()
    slots = builder.local("slots", "f.slots")
    value = builder.assign(f"{slots}.get({slot})")
    builder.emit(f"if {value.text} is None: {value.text}=warm_slot(f,{slot},{builder.owed})")
    builder.push(value)


def _storage_store(builder: SuperblockBuilder, opcode: int) -> None:
    slot, value = builder.operand(), builder.operand()
    builder.look_at_gas()
    builder.emit(f"store_slot(f,{slot},{value},{builder.owed})")


def _transient_load(builder: SuperblockBuilder, opcode: int) -> None:
    builder.compute(f"f.state.transient.get((f.address,{builder.operand()}),0)")


def _transient_store(builder: SuperblockBuilder, opcode: int) -> None:
    slot, value = builder.operand(), builder.operand()
    builder.emit(f"store_transient(f,{slot},{value})")


def _duplicate(builder: SuperblockBuilder, opcode: int) -> None:
    builder.push(builder.peek(opcode - op.DUP1 + 1))


def _swap(builder: SuperblockBuilder, opcode: int) -> None:
    builder.swap(opcode - op.SWAP1 + 1)


def _log(builder: SuperblockBuilder, opcode: int) -> None:
    offset, size = builder.pop(), builder.pop()
    _before_reading(builder, offset, size)
    operands = [builder.text(offset), builder.text(size)]
    operands += [builder.operand() for _ in range(opcode - op.LOG0)]
    builder.emit(f"log(f,{','.join(operands)})")


# -- the end of a superblock


def _stop(builder: SuperblockBuilder, opcode: int) -> None:
    builder.finish(Exit.DONE)


def _return(builder: SuperblockBuilder, opcode: int) -> None:
    """RETURN, REVERT."""
    offset, size = builder.pop(), builder.pop()
    _before_reading(builder, offset, size)
    builder.emit(f"f.output=read_memory(f,{builder.text(offset)},{builder.text(size)})")
    builder.finish(Exit.DONE if opcode == op.RETURN else Exit.REVERTED)


def _self_destruct(builder: SuperblockBuilder, opcode: int) -> None:
    builder.emit(f"self_destruct(f,{builder.operand()}&A,{builder.owed})")
    builder.finish(Exit.DONE)


def _call(builder: SuperblockBuilder, opcode: int) -> None:
    """The four calls: the callee's result is waiting when the code goes on, in another superblock."""
    count = 7 if opcode in (op.CALL, op.CALLCODE) else 6
    operands = [builder.operand() for _ in range(count)]
    if count == 6:
        operands.insert(2, "0")
    builder.pay()
    builder.leave(f"begin_call(f,{opcode},{','.join(operands)},{builder.pc})")


def _create(builder: SuperblockBuilder, opcode: int) -> None:
    operands = [builder.operand() for _ in range(3 if opcode == op.CREATE else 4)]
    if opcode == op.CREATE:
        operands.append("None")
    builder.pay()
    builder.leave(f"begin_create(f,{','.join(operands)},{builder.pc})")


EMITTERS: Final[dict[int, Emitter]] = {
    op.STOP: _stop,
    **ARITHMETIC,
    op.KECCAK256: _keccak,
    **dict.fromkeys(_SURROUNDINGS, _surroundings),
    **dict.fromkeys((op.BALANCE, op.EXTCODESIZE, op.EXTCODEHASH), _account),
    op.CALLDATALOAD: _load_data,
    **dict.fromkeys((op.CALLDATACOPY, op.CODECOPY, op.RETURNDATACOPY, op.MCOPY), _copy),
    **dict.fromkeys((op.CODESIZE, op.PC, op.PUSH0), _constant),
    op.EXTCODECOPY: _copy_account_code,
    op.BLOCKHASH: _block_hash,
    op.BLOBHASH: _blob_hash,
    op.POP: _pop,
    op.MLOAD: _memory_load,
    op.MSTORE: _memory_store,
    op.MSTORE8: _memory_store_byte,
    op.SLOAD: _storage_load,
    op.SSTORE: _storage_store,
    op.GAS: _gas,
    op.JUMPDEST: _nothing,
    op.TLOAD: _transient_load,
    op.TSTORE: _transient_store,
    **dict.fromkeys(range(op.DUP1, op.DUP16 + 1), _duplicate),
    **dict.fromkeys(range(op.SWAP1, op.SWAP16 + 1), _swap),
    **dict.fromkeys(range(op.LOG0, op.LOG4 + 1), _log),
    op.CREATE: _create,
    **dict.fromkeys((op.CALL, op.CALLCODE, op.DELEGATECALL, op.STATICCALL), _call),
    op.RETURN: _return,
    op.CREATE2: _create,
    op.REVERT: _return,
    op.SELFDESTRUCT: _self_destruct,
}
"""By opcode; JUMP, JUMPI and PUSH1 to PUSH32 are the builder's own."""
