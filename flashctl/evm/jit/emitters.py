"""What each instruction becomes in a trace: one emitter per opcode, or per family of them.

An emitter takes symbols off the builder's stack, adds lines, and puts symbols back. Arithmetic is in
`arithmetic`; here is what surrounds the frame, memory (most of which `TraceMemory` answers without touching
it), storage, and the ends.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from flashctl.evm.frame import Exit
from flashctl.evm.instructions import WORD_HASH
from flashctl.evm.jit.arithmetic import ARITHMETIC
from flashctl.evm.jit.builder import TraceBuilder
from flashctl.evm.jit.symbols import Symbol, constant

__all__ = ["EMITTERS"]

Emitter: TypeAlias = Callable[[TraceBuilder, int], None]

NEAR: Final = 1 << 24
"""Memory offsets below this are handled as constants; beyond, the price of the memory ends the frame
anyway."""

POINTER_BITS: Final = 64
"""What a pointer has at most after memory was accessed through it: more memory cannot be paid for."""

_UNKNOWN: Final = Symbol("_", 256)
"""A size that makes no range."""

# -- what surrounds the frame

_SURROUNDINGS: Final[dict[int, tuple[str, int]]] = {
    0x30: ("f.address", 160),
    0x32: ("f.tx.origin", 160),
    0x33: ("f.caller", 160),
    0x34: ("f.value", 256),
    0x36: ("len(f.data)", 64),
    0x3A: ("f.tx.gas_price", 256),
    0x3D: ("len(f.returned)", 64),
    0x41: ("f.block.coinbase", 160),
    0x42: ("f.block.timestamp", 256),
    0x43: ("f.block.number", 256),
    0x44: ("f.block.prev_randao", 256),
    0x45: ("f.block.gas_limit", 256),
    0x46: ("f.block.chain_id", 256),
    0x47: ("self_balance(f)", 256),
    0x48: ("f.block.base_fee", 256),
    0x4A: ("f.block.blob_base_fee", 256),
    0x59: ("len(mem)", 64),
}


_PASSING: Final = (0x47, 0x59)
"""SELFBALANCE and MSIZE: the two that change while a frame runs (return data changes only between traces)."""


def _surroundings(builder: TraceBuilder, opcode: int) -> None:
    if opcode in _PASSING:
        builder.look_at_gas()
        builder.compute(*_SURROUNDINGS[opcode])
    else:
        builder.compute_once(*_SURROUNDINGS[opcode])


def _constant(builder: TraceBuilder, opcode: int) -> None:
    """CODESIZE, PC, PUSH0: known when compiling."""
    value = {0x38: len(builder.code.raw), 0x58: builder.pc - 1, 0x5F: 0}[opcode]
    builder.push(constant(value))


def _gas(builder: TraceBuilder, opcode: int) -> None:
    builder.pay()
    builder.compute("f.gas")


def _range(offset: Symbol, size: Symbol) -> tuple[int, int] | None:
    """Start and end of a piece of memory, if they are known and near."""
    if offset.value is None or size.value is None or offset.value > NEAR or size.value > NEAR:
        return None
    return offset.value, offset.value + size.value


def _before_reading(builder: TraceBuilder, offset: Symbol, size: Symbol) -> None:
    """Write what the piece of memory lacks; everything, if it is not known which piece."""
    known = _range(offset, size)
    if known is not None:
        builder.memory.flush(*known)
    elif offset.least < builder.memory.unwritten_end:
        builder.memory.flush()


def _before_writing(builder: TraceBuilder, offset: Symbol, size: Symbol, operands: Sequence[Symbol]) -> None:
    """Drop what is known of a piece of memory that is about to be overwritten."""
    known = _range(offset, size)
    if known is not None:
        builder.memory.overwrite(*known)
    elif not builder.aim(offset, builder.memory.end, operands):
        builder.memory.forget()


def _keccak(builder: TraceBuilder, opcode: int) -> None:
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


def _load_data(builder: TraceBuilder, opcode: int) -> None:
    """CALLDATALOAD."""
    offset = builder.pop()
    data = builder.local("data", "f.data")
    if offset.value is not None and offset.value < NEAR:
        start, end = offset.value, offset.value + 32
        whole = f"fb({data}[{start}:{end}],'big')"
        builder.compute_once(f"{whole} if len({data})>={end} else load_word({data},{start})")
    else:
        builder.compute_once(f"load_word({data},{builder.text(offset)})")


_COPIED: Final = {0x37: "f.data", 0x39: "f.code.raw"}


def _copy(builder: TraceBuilder, opcode: int) -> None:
    """CALLDATACOPY, CODECOPY, RETURNDATACOPY, MCOPY."""
    target, source, size = builder.pop(), builder.pop(), builder.pop()
    if opcode == 0x5E:
        _before_reading(builder, source, size)
    _before_writing(builder, target, size, (size, source, target))
    operands = f"{builder.text(target)},{builder.text(source)},{builder.text(size)}"
    if opcode == 0x3E:
        builder.emit(f"copy_return_data(f,{operands})")
    elif opcode == 0x5E:
        builder.emit(f"copy_memory(f,{operands})")
    else:
        builder.emit(f"copy_to_memory(f,{operands},{_COPIED[opcode]})")


def _account(builder: TraceBuilder, opcode: int) -> None:
    """BALANCE, EXTCODESIZE, EXTCODEHASH."""
    symbol = builder.pop()
    address = builder.text(symbol) if symbol.bits <= 160 else f"{builder.text(symbol)}&A"
    match opcode:
        case 0x31:
            builder.compute(f"access_account(f,{address},{builder.owed})[1]&M")
        case 0x3B:
            builder.compute(f"len(access_code(f,{address},{builder.owed}))", 64)
        case _:
            builder.compute(f"code_hash_of(f,{address},{builder.owed})")


def _copy_account_code(builder: TraceBuilder, opcode: int) -> None:
    """EXTCODECOPY."""
    address, target, source, size = builder.pop(), builder.pop(), builder.pop(), builder.pop()
    _before_writing(builder, target, size, (size, source, target, address))
    operands = f"{builder.text(target)},{builder.text(source)},{builder.text(size)}"
    builder.emit(f"copy_to_memory(f,{operands},access_code(f,{builder.text(address)}&A,{builder.owed}))")


def _block_hash(builder: TraceBuilder, opcode: int) -> None:
    builder.compute(f"block_hash(f,{builder.operand()})")


def _blob_hash(builder: TraceBuilder, opcode: int) -> None:
    index = builder.operand()
    hashes = builder.local("blobs", "f.tx.blob_hashes")
    builder.compute(f"{hashes}[{index}] if {index}<len({hashes}) else 0")


# -- memory and storage


def _pop(builder: TraceBuilder, opcode: int) -> None:
    builder.pop()


def _nothing(builder: TraceBuilder, opcode: int) -> None:
    """JUMPDEST."""


def _memory_load(builder: TraceBuilder, opcode: int) -> None:
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


def _memory_store(builder: TraceBuilder, opcode: int) -> None:
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


def _memory_store_byte(builder: TraceBuilder, opcode: int) -> None:
    offset, value = builder.pop(), builder.pop()
    _before_writing(builder, offset, constant(1), (value, offset))
    start = builder.text(offset)
    content = builder.text(value)
    builder.emit(f"if {start}>=len(mem): expand(f,{start}+1)")
    builder.emit(f"mem[{start}]={content}&255")


def _storage_load(builder: TraceBuilder, opcode: int) -> None:
    slot = builder.operand()
    slots = builder.local("slots", "f.slots")
    value = builder.assign(f"{slots}.get({slot})")
    builder.emit(f"if {value.text} is None: {value.text}=warm_slot(f,{slot},{builder.owed})")
    builder.push(value)


def _storage_store(builder: TraceBuilder, opcode: int) -> None:
    slot, value = builder.operand(), builder.operand()
    builder.look_at_gas()
    builder.emit(f"store_slot(f,{slot},{value},{builder.owed})")


def _transient_load(builder: TraceBuilder, opcode: int) -> None:
    builder.compute(f"f.state.transient.get((f.address,{builder.operand()}),0)")


def _transient_store(builder: TraceBuilder, opcode: int) -> None:
    slot, value = builder.operand(), builder.operand()
    builder.emit(f"store_transient(f,{slot},{value})")


def _duplicate(builder: TraceBuilder, opcode: int) -> None:
    builder.push(builder.peek(opcode - 0x7F))


def _swap(builder: TraceBuilder, opcode: int) -> None:
    builder.swap(opcode - 0x8F)


def _log(builder: TraceBuilder, opcode: int) -> None:
    offset, size = builder.pop(), builder.pop()
    _before_reading(builder, offset, size)
    operands = [builder.text(offset), builder.text(size)]
    operands += [builder.operand() for _ in range(opcode - 0xA0)]
    builder.emit(f"log(f,{','.join(operands)})")


# -- the end of a trace


def _stop(builder: TraceBuilder, opcode: int) -> None:
    builder.finish(Exit.DONE)


def _return(builder: TraceBuilder, opcode: int) -> None:
    """RETURN, REVERT."""
    offset, size = builder.pop(), builder.pop()
    _before_reading(builder, offset, size)
    builder.emit(f"f.output=read_memory(f,{builder.text(offset)},{builder.text(size)})")
    builder.finish(Exit.DONE if opcode == 0xF3 else Exit.REVERTED)


def _self_destruct(builder: TraceBuilder, opcode: int) -> None:
    builder.emit(f"self_destruct(f,{builder.operand()}&A,{builder.owed})")
    builder.finish(Exit.DONE)


def _call(builder: TraceBuilder, opcode: int) -> None:
    """The four calls: the callee's result is waiting when the code goes on, in another trace."""
    count = 7 if opcode in (0xF1, 0xF2) else 6
    operands = [builder.operand() for _ in range(count)]
    if count == 6:
        operands.insert(2, "0")
    builder.pay()
    builder.leave(f"begin_call(f,{opcode},{','.join(operands)},{builder.pc})")


def _create(builder: TraceBuilder, opcode: int) -> None:
    operands = [builder.operand() for _ in range(3 if opcode == 0xF0 else 4)]
    if opcode == 0xF0:
        operands.append("None")
    builder.pay()
    builder.leave(f"begin_create(f,{','.join(operands)},{builder.pc})")


EMITTERS: Final[dict[int, Emitter]] = {
    0x00: _stop,
    **ARITHMETIC,
    0x20: _keccak,
    **dict.fromkeys(_SURROUNDINGS, _surroundings),
    **dict.fromkeys((0x31, 0x3B, 0x3F), _account),
    0x35: _load_data,
    **dict.fromkeys((0x37, 0x39, 0x3E, 0x5E), _copy),
    **dict.fromkeys((0x38, 0x58, 0x5F), _constant),
    0x3C: _copy_account_code,
    0x40: _block_hash,
    0x49: _blob_hash,
    0x50: _pop,
    0x51: _memory_load,
    0x52: _memory_store,
    0x53: _memory_store_byte,
    0x54: _storage_load,
    0x55: _storage_store,
    0x5A: _gas,
    0x5B: _nothing,
    0x5C: _transient_load,
    0x5D: _transient_store,
    **dict.fromkeys(range(0x80, 0x90), _duplicate),
    **dict.fromkeys(range(0x90, 0xA0), _swap),
    **dict.fromkeys(range(0xA0, 0xA5), _log),
    0xF0: _create,
    **dict.fromkeys((0xF1, 0xF2, 0xF4, 0xFA), _call),
    0xF3: _return,
    0xF5: _create,
    0xFD: _return,
    0xFF: _self_destruct,
}
"""By opcode; JUMP, JUMPI and PUSH1 to PUSH32 are the builder's own."""
