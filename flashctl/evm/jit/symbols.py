"""Values a superblock computes with, as the compiler sees them.

A symbol is a constant, a local variable of the generated function, or a condition that has not been turned
into a word yet. Each carries the number of bits its value can take, which is what lets the compiler leave out
masks: `a & (2**160 - 1)` on a caller's address, `& (2**256 - 1)` after adding two numbers that are known to
be small.

Only integers formatted here and names made here ever reach the generated source.
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "WORD_BITS",
    "Symbol",
    "assume_equal",
    "condition",
    "constant",
    "distance",
    "moved",
    "negated",
    "variable",
]

WORD_BITS: Final = 256


class Symbol:
    """A value on the symbolic stack. Shared by identity: turning a condition into a word is done once."""

    __slots__ = ("base", "bits", "equal", "least", "negation", "offset", "test", "text", "unequal", "value")

    def __init__(
        self, text: str, bits: int, value: int | None = None, test: str = "", negation: str = ""
    ) -> None:
        self.text = text
        """A local variable or an integer; empty while this is a condition only."""
        self.bits = bits
        """The value is less than 2**bits."""
        self.value = value
        """The value, if it is known."""
        self.test = test
        """A Python condition that is true when the value is not zero; empty if there is none better than
        `text`."""
        self.negation = negation
        self.base: Symbol | None = None
        """With `offset`: the value is `base + offset` modulo 2**256."""
        self.offset = 0
        self.least = value or 0
        """The value is no less, as far as a guard has made sure."""
        self.equal: tuple[Symbol, Symbol] | None = None
        """Two symbols that have the same value if this is not zero."""
        self.unequal: tuple[Symbol, Symbol] | None = None
        """Two symbols that have the same value if this is zero."""

    @property
    def expression(self) -> str:
        """The word, without giving it a name."""
        return self.text or f"(1 if {self.test} else 0)"

    @property
    def is_true(self) -> str:
        """Python's condition for "not zero"."""
        return self.test or self.text

    @property
    def is_false(self) -> str:
        """Python's condition for "zero"."""
        return self.negation or f"not {self.text}"


def constant(value: int) -> Symbol:
    """A number known when compiling."""
    return Symbol(str(value), value.bit_length(), value)


def variable(name: str, bits: int) -> Symbol:
    """A local variable of the superblock."""
    return Symbol(name, bits)


def condition(test: str, negation: str) -> Symbol:
    """A truth value. Its operands are locals that never change, so it may be evaluated where it is used."""
    return Symbol("", 1, None, test, negation)


def negated(symbol: Symbol) -> Symbol:
    """ISZERO of a symbol."""
    if symbol.value is not None:
        return constant(0 if symbol.value else 1)
    result = condition(symbol.is_false, symbol.is_true)
    result.equal, result.unequal = symbol.unequal, symbol.equal
    return result


def moved(base: Symbol, offset: int, result: Symbol) -> Symbol:
    """Note that `result` is `base + offset`, so that differences of pointers become numbers."""
    result.base = base.base or base
    result.offset = base.offset + offset
    if offset >= 0 and result.bits < WORD_BITS:  # it cannot have wrapped round
        result.least = base.least + offset
    return result


def distance(one: Symbol, other: Symbol) -> int | None:
    """`one - other` modulo 2**256, if both are known to be so far from the same symbol."""
    if (one.base or one) is not (other.base or other):
        return None
    return (one.offset - other.offset) % (1 << WORD_BITS)


def assume_equal(pair: tuple[Symbol, Symbol] | None) -> None:
    """From here on the two have the same value, so each takes no more bits than the other.

    Solidity compares every address argument with itself masked; afterwards no mask is needed any more.
    """
    if pair is not None:
        one, other = pair
        one.bits = other.bits = min(one.bits, other.bits)
