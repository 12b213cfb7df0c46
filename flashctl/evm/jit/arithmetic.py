"""Arithmetic, comparison and bits in a superblock: constants are folded, superfluous masks left out.

Every expression is computed once in a superblock: its operands are locals that never change.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from flashctl.evm import opcodes as op
from flashctl.evm.instructions import (
    EXPONENT_BYTE,
    MODULUS,
    WORD_MASK,
    shift_right_signed,
    sign_extend,
    signed_divide,
    signed_modulo,
)
from flashctl.evm.jit.builder import SuperblockBuilder
from flashctl.evm.jit.symbols import Symbol, condition, constant, distance, moved, negated

__all__ = ["ARITHMETIC"]

_FOLD: Final[dict[int, Callable[[int, int], int]]] = {
    op.ADD: lambda a, b: (a + b) & WORD_MASK,
    op.MUL: lambda a, b: (a * b) & WORD_MASK,
    op.SUB: lambda a, b: (a - b) & WORD_MASK,
    op.DIV: lambda a, b: a // b if b else 0,
    op.SDIV: signed_divide,
    op.MOD: lambda a, b: a % b if b else 0,
    op.SMOD: signed_modulo,
    op.SIGNEXTEND: sign_extend,
    op.LT: lambda a, b: int(a < b),
    op.GT: lambda a, b: int(a > b),
    op.EQ: lambda a, b: int(a == b),
    op.AND: lambda a, b: a & b,
    op.OR: lambda a, b: a | b,
    op.XOR: lambda a, b: a ^ b,
    op.BYTE: lambda a, b: (b >> (248 - 8 * a)) & 0xFF if a < 32 else 0,
    op.SHL: lambda a, b: (b << a) & WORD_MASK if a < 256 else 0,
    op.SHR: lambda a, b: b >> a if a < 256 else 0,
    op.SAR: shift_right_signed,
}
"""Operations on two constants, the top of the stack first."""


def _binary(builder: SuperblockBuilder, opcode: int) -> None:
    """Any instruction with two operands and no side effect."""
    a, b = builder.pop(), builder.pop()
    if a.value is not None and b.value is not None and opcode in _FOLD:
        builder.push(constant(_FOLD[opcode](a.value, b.value)))
        return
    simple = _simplified(opcode, a, b)
    if simple is not None:
        builder.push(simple)
        return
    x, y = builder.text(a), builder.text(b)
    if opcode in _COMPARE:
        builder.push(_comparison(opcode, a, b, x, y))
        return
    expression, bits = _EXPRESSIONS[opcode](x, y, a, b)
    builder.compute_once(expression, bits)
    if opcode == op.ADD and a.value is not None:
        moved(b, a.value, builder.stack[-1])
    elif opcode == op.ADD and b.value is not None:
        moved(a, b.value, builder.stack[-1])
    elif opcode == op.SUB and b.value is not None:
        moved(a, -b.value, builder.stack[-1])


def _simplified(opcode: int, a: Symbol, b: Symbol) -> Symbol | None:
    """The result, where it is one of the operands or a constant."""
    match opcode:
        case op.ADD | op.OR | op.XOR:  # with zero
            if a.value == 0:
                return b
            return a if b.value == 0 else None
        case op.SUB:  # of zero, or of two pointers into the same object
            between = distance(a, b)
            return a if b.value == 0 else None if between is None else constant(between)
        case op.AND:  # with a mask that the value fits into
            for mask, other in ((a, b), (b, a)):
                if mask.value is not None and mask.value & (mask.value + 1) == 0 and other.bits <= mask.bits:
                    return other
            return constant(0) if 0 in (a.value, b.value) else None
        case op.EQ:  # with zero
            if a.value == 0:
                return negated(b)
            return negated(a) if b.value == 0 else None
        case op.MUL | op.DIV:  # by one
            if b.value == 1:
                return a
            return b if opcode == op.MUL and a.value == 1 else None
        case op.SHL | op.SHR | op.SAR:  # by nothing, or by everything
            if a.value == 0:
                return b
            if (
                a.value is not None
                and opcode != op.SAR
                and (a.value > 255 or (opcode == op.SHR and a.value >= b.bits))
            ):
                return constant(0)
    return None


_COMPARE: Final = {
    op.LT: ("<", ">="),
    op.GT: (">", "<="),
    op.SLT: ("<", ">="),
    op.SGT: (">", "<="),
    op.EQ: ("==", "!="),
}


def _comparison(opcode: int, a: Symbol, b: Symbol, x: str, y: str) -> Symbol:
    operator, opposite = _COMPARE[opcode]
    if opcode in (op.SLT, op.SGT) and (a.bits == 256 or b.bits == 256):
        x, y = f"{x}^S", f"{y}^S"
    result = condition(f"{x}{operator}{y}", f"{x}{opposite}{y}")
    if opcode == op.EQ:
        result.equal = (a, b)
    return result


def _add(x: str, y: str, a: Symbol, b: Symbol) -> tuple[str, int]:
    bits = max(a.bits, b.bits) + 1
    return (f"{x}+{y}", bits) if bits <= 256 else (f"({x}+{y})&M", 256)


def _mul(x: str, y: str, a: Symbol, b: Symbol) -> tuple[str, int]:
    bits = a.bits + b.bits
    return (f"{x}*{y}", bits) if bits <= 256 else (f"({x}*{y})&M", 256)


def _div(x: str, y: str, a: Symbol, b: Symbol) -> tuple[str, int]:
    if b.value:
        if b.value & (b.value - 1) == 0:
            return f"{x}>>{b.bits - 1}", max(a.bits - b.bits + 1, 0)
        return f"{x}//{y}", a.bits
    return f"{x}//{y} if {y} else 0", a.bits


def _mod(x: str, y: str, a: Symbol, b: Symbol) -> tuple[str, int]:
    return (f"{x}%{y}" if b.value else f"{x}%{y} if {y} else 0"), min(a.bits, b.bits)


def _byte(x: str, y: str, a: Symbol, b: Symbol) -> tuple[str, int]:
    if a.value is not None:
        return (f"({y}>>{248 - 8 * a.value})&255", 8) if a.value < 32 else ("0", 0)
    return f"({y}>>(248-8*{x}))&255 if {x}<32 else 0", 8


def _shl(x: str, y: str, a: Symbol, b: Symbol) -> tuple[str, int]:
    if a.value is None:
        return f"({y}<<{x})&M if {x}<256 else 0", 256
    bits = a.value + b.bits
    return (f"{y}<<{x}", bits) if bits <= 256 else (f"({y}<<{x})&M", 256)


def _shr(x: str, y: str, a: Symbol, b: Symbol) -> tuple[str, int]:
    if a.value is None:
        return f"{y}>>{x} if {x}<256 else 0", b.bits
    return f"{y}>>{x}", b.bits - a.value


def _sar(x: str, y: str, a: Symbol, b: Symbol) -> tuple[str, int]:
    if b.bits < 256:
        return f"{y}>>({x} if {x}<256 else 256)", b.bits
    return f"shift_right_signed({x},{y})", 256


_EXPRESSIONS: Final[dict[int, Callable[[str, str, Symbol, Symbol], tuple[str, int]]]] = {
    op.ADD: _add,
    op.MUL: _mul,
    op.SUB: lambda x, y, a, b: (f"({x}-{y})&M", 256),
    op.DIV: _div,
    op.SDIV: lambda x, y, a, b: (f"signed_divide({x},{y})", 256),
    op.MOD: _mod,
    op.SMOD: lambda x, y, a, b: (f"signed_modulo({x},{y})", 256),
    op.SIGNEXTEND: lambda x, y, a, b: (f"sign_extend({x},{y})", 256),
    op.AND: lambda x, y, a, b: (f"{x}&{y}", min(a.bits, b.bits)),
    op.OR: lambda x, y, a, b: (f"{x}|{y}", max(a.bits, b.bits)),
    op.XOR: lambda x, y, a, b: (f"{x}^{y}", max(a.bits, b.bits)),
    op.BYTE: _byte,
    op.SHL: _shl,
    op.SHR: _shr,
    op.SAR: _sar,
}


def _is_zero(builder: SuperblockBuilder, opcode: int) -> None:
    builder.push(negated(builder.pop()))


def _not(builder: SuperblockBuilder, opcode: int) -> None:
    symbol = builder.pop()
    if symbol.value is not None:
        builder.push(constant(symbol.value ^ WORD_MASK))
    else:
        builder.compute_once(f"{builder.text(symbol)}^M")


def _count_leading_zeros(builder: SuperblockBuilder, opcode: int) -> None:
    symbol = builder.pop()
    if symbol.value is not None:
        builder.push(constant(256 - symbol.bits))
    else:
        builder.compute_once(f"256-{builder.text(symbol)}.bit_length()", 9)


def _modular(builder: SuperblockBuilder, opcode: int) -> None:
    """ADDMOD, MULMOD."""
    x, y, modulus = builder.operand(), builder.operand(), builder.operand()
    operator = "+" if opcode == op.ADDMOD else "*"
    builder.compute_once(f"({x}{operator}{y})%{modulus} if {modulus} else 0")


def _exponentiate(builder: SuperblockBuilder, opcode: int) -> None:
    base, exponent = builder.pop(), builder.pop()
    if exponent.value is None:
        builder.compute(f"exponentiate(f,{builder.text(base)},{builder.text(exponent)})")
        return
    builder.owed += EXPONENT_BYTE * ((exponent.bits + 7) >> 3)
    if base.value is not None:
        builder.push(constant(pow(base.value, exponent.value, MODULUS)))
    else:
        builder.compute_once(f"pow({builder.text(base)},{exponent.text},W)")


ARITHMETIC: Final[dict[int, Callable[[SuperblockBuilder, int], None]]] = {
    **dict.fromkeys(_EXPRESSIONS, _binary),
    **dict.fromkeys(_COMPARE, _binary),
    op.ADDMOD: _modular,
    op.MULMOD: _modular,
    op.EXP: _exponentiate,
    op.ISZERO: _is_zero,
    op.NOT: _not,
    op.CLZ: _count_leading_zeros,
}
"""By opcode."""
