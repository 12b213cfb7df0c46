"""Memory words that a superblock keeps as symbols, and which of them are not written yet.

Solidity hashes mapping keys in the scratch words at 0 and 32, reads its free-memory pointer at 64 before
every use, and writes at that pointer. A slice of a bytearray costs 0.3-0.6 us, more than ten arithmetic
instructions, so words at known offsets stay symbols: they are loaded from, hashed and overwritten here, and
written to the real memory only where something else may read them - at exits, before calls, for
instructions that read a range. Many never are.

Access through a pointer could hit any of them. A pointer that is not known to lie above the words gets a
guard: if it does lie below, the superblock is left and the instruction done elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from flashctl.evm.jit.symbols import Symbol

__all__ = ["SymbolicMemory"]

WORDS_END: Final = 1 << 12
"""Words above this are not kept: a guard on them would fail too often, and exits would grow long."""


class SymbolicMemory:
    """Memory words by offset, as symbols."""

    def __init__(self, emit: Callable[[str], None], literal: Callable[[Symbol], str]) -> None:
        self._emit = emit
        self._literal = literal
        """The 32 bytes of a symbol, as an expression."""
        self._words: dict[int, Symbol] = {}
        self._unwritten: set[int] = set()

    @property
    def end(self) -> int:
        """Everything kept here lies below."""
        return max(self._words) + 32 if self._words else 0

    @property
    def unwritten_end(self) -> int:
        """Everything that the real memory lacks lies below."""
        return max(self._unwritten) + 32 if self._unwritten else 0

    def word(self, offset: int) -> Symbol | None:
        """The word at an offset, if it is known."""
        return self._words.get(offset)

    def words(self, start: int, end: int) -> list[Symbol] | None:
        """All the words of a range, if every one is known."""
        if (end - start) % 32:
            return None
        found = [self._words.get(offset) for offset in range(start, end, 32)]
        return [word for word in found if word is not None] if None not in found else None

    def learn(self, offset: int, symbol: Symbol) -> None:
        """A word of the real memory was loaded."""
        if offset < WORDS_END:
            self._words[offset] = symbol

    def store(self, offset: int, symbol: Symbol) -> None:
        """A word is overwritten. The real memory is large enough already."""
        known = self._words.get(offset)
        if known is symbol or (known is not None and known.value is not None and known.value == symbol.value):
            return
        self.overwrite(offset, offset + 32)
        if offset >= WORDS_END:
            self._emit(f"mem[{offset}:{offset + 32}]={self._literal(symbol)}")
            return
        self._words[offset] = symbol
        self._unwritten.add(offset)

    def overwrite(self, start: int, end: int) -> None:
        """A range is about to be written from elsewhere: words wholly inside are void, others are written
        first."""
        for offset in [o for o in self._words if o < end and o + 32 > start]:
            if offset in self._unwritten and not (start <= offset and offset + 32 <= end):
                self._write(offset)
            self._unwritten.discard(offset)
            del self._words[offset]

    def forget(self) -> None:
        """Something is about to be written to a place that is not known."""
        self.flush()
        self._words.clear()

    def flush(self, start: int = 0, end: int | None = None) -> None:
        """Write the words of a range, by default all, so that the real memory can be read there."""
        for offset in sorted(self._unwritten):
            if end is None or (offset < end and offset + 32 > start):
                self._write(offset)
                self._unwritten.discard(offset)

    def pending(self) -> list[str]:
        """The lines that an exit here needs to complete the real memory."""
        return [self._line(offset) for offset in sorted(self._unwritten)]

    def _write(self, offset: int) -> None:
        self._emit(self._line(offset))

    def _line(self, offset: int) -> str:
        return f"mem[{offset}:{offset + 32}]={self._literal(self._words[offset])}"
