"""Contract code as the machine holds it, and the cache that keeps hot code compiled.

A `Code` is the bytes plus everything learned about them: jump destinations, how often a jump arrived where,
and the superblocks (compiled functions) of the places that turned out hot. `superblocks[pc]` always answers:
with the compiled function, or with the interpreter bound to that place while it is not worth compiling yet.

The policy is per place, not per contract. Compiling a superblock costs about 10 us an instruction,
interpreting it once 0.1 us more than running the superblock, so a place is compiled when it has been entered
`hot_after` times: by then interpreting has cost what compiling will, and no code costs more than twice what
it would have at best. A constructor, a view called once or the rarely taken branches of a hot contract never
are.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from flashctl.evm.forks import InstructionSet
from flashctl.evm.opcodes import JUMPDEST, PUSH0, PUSH1, PUSH32

__all__ = ["DEFAULT_HOT_AFTER", "Code", "CodeCache", "Superblock", "TierPolicy", "shared_cache"]

Superblock = Callable[[Any, list[int], bytearray], int]
"""Runs from one place of the code to another: takes the `evm.frame.Frame`, its stack and its memory, returns
the next program counter or one of the negative `Exit` codes. `Any`, because a frame refers to its `Code` and
nothing in this module looks into a frame."""

DEFAULT_HOT_AFTER: Final = 100
"""Arrivals at a place before it is compiled. Recorded blocks with only new code took 10 % longer with
64, 25 % with 24; 200 would save 3 % more, but what every block runs once would stay slow for minutes."""

DEFAULT_CACHE_BYTES: Final = 192 * 2**20
"""Room for about 1,500 large contracts with their hot superblocks."""

CODE_OVERHEAD: Final = 1_200
"""Bytes of a `Code` with empty tables."""

NEVER: Final = 2**63
"""More arrivals than there can be."""

COMPILED: Final = NEVER
"""Arrivals at a place that has a superblock."""

COMPILED_INSTRUCTION: Final = 40
"""What following an instruction counts against the budget of a code, beside the bytes of its superblocks."""

COMPILED_PER_BYTE: Final = 400
"""Budget for each byte of a code. Solidity comes to 110-210 with every place hot. Code written for
it could have a superblock of `MAX_INSTRUCTIONS` start at every third byte: 24 KB would take 20 s to compile,
for 3 million gas. The budget makes that one or two, and leaves the rest to the interpreter."""

COMPILED_BASE: Final = 200_000
"""For short code, whose loops are worth it."""

JUMPDEST_BYTES: Final = 200
"""Of a jump destination: its place in the set, and what is counted about it while it is interpreted."""

_PUSH_SIZES: Final = bytes(byte - PUSH0 if PUSH1 <= byte <= PUSH32 else 0 for byte in range(256))
"""By byte: how many bytes of push data follow it."""

_HIGH_BITS: Final = int.from_bytes(b"\x80" * 32, "big")
_SLACK: Final = int.from_bytes(bytes(0x80 - distance for distance in range(32, 0, -1)), "big")
"""Added to the push sizes of the 32 bytes before a place, sets the high bit of each whose data would reach
it: one addition instead of 32 comparisons."""

SYNC_DISTANCE: Final = 512
"""Bytes that may be followed to find out whether a place is push data. Four out of five times it takes
none."""

_PUSHES = b"|".join(b"\\x%02x.{0,%d}" % (PUSH0 + size, size) for size in range(1, 33))
_JUMPDESTS = re.compile(b"(?s)(?:[^\\x5b\\x60-\\x7f]++|" + _PUSHES + b")*+(?:(\\x5b)|\\Z)")
"""Possessive, so it never backtracks into push data: 0.5 ms for the largest contract."""

_PADDING: Final = bytes(34)
"""A truncated PUSH32 reads zeros, code ends in STOP, and behind that is no jump destination."""

DELEGATION_PREFIX: Final = b"\xef\x01\x00"
"""A 23-byte code that starts like this points to the code to run instead (EIP-7702)."""


class TierPolicy:
    """When to compile, and how: the seam between this module and the two tiers."""

    __slots__ = ("compile", "hot_after", "interpret")

    def __init__(
        self,
        interpret: Callable[[int, Any, list[int], bytearray], int],
        compile_superblock: Callable[[Code, int], tuple[Superblock, int, int]] | None,
        hot_after: int = DEFAULT_HOT_AFTER,
    ) -> None:
        self.interpret = interpret
        self.compile = compile_superblock
        """Returns the superblock, about how many bytes it takes and how many instructions it follows; None
        never compiles."""
        self.hot_after = hot_after


class _Superblocks(dict[int, Superblock]):
    """The compiled places of a code; anywhere else, the interpreter."""

    __slots__ = ("code",)

    code: Code

    def __missing__(self, pc: int) -> Superblock:
        code = self.code
        arrivals = code.arrivals
        place = pc if pc in arrivals else ~pc
        seen = arrivals[place] = arrivals.get(place, 0) + 1
        if seen > code.hot_after:
            superblock = self[pc] = code.compile(pc)
            if code.is_jumpdest(pc):
                arrivals[pc] = COMPILED
            return superblock
        return partial(code.policy.interpret, pc)


class Code:
    """The bytes of a contract and what is known about them."""

    __slots__ = (
        "_all_jumpdests",
        "_cache",
        "arrivals",
        "blocks",
        "branches",
        "compile_budget",
        "delegate",
        "hot_after",
        "instructions",
        "jumpdests",
        "loop_heads",
        "padded",
        "policy",
        "raw",
        "size",
        "superblocks",
    )

    def __init__(
        self, raw: bytes, instructions: InstructionSet, policy: TierPolicy, cache: CodeCache | None = None
    ) -> None:
        self.raw = raw
        self.padded = raw + _PADDING
        self.instructions = instructions
        self.policy = policy
        self.hot_after = policy.hot_after if policy.compile is not None else NEVER
        """Arrivals at a place before it is compiled."""
        self.compile_budget = COMPILED_BASE + COMPILED_PER_BYTE * len(raw)
        """What may still be spent on superblocks of this code."""
        self.arrivals: dict[int, int] = {}
        """Jumps that arrived at a jump destination while it was interpreted, or COMPILED. What else the
        interpreter was entered at (the start of the code, where it goes on after a call) is counted at the
        complement of the place."""
        self.branches: dict[int, bool] = {}
        """Whether the JUMPI before a place was last taken: the compiler lays out its superblocks along it."""
        self.blocks: dict[int, Any] = {}
        """The interpreter's decoded blocks, by where they start."""
        self.loop_heads: set[int] = set()
        """Places whose superblock is a loop: no other superblock goes through them."""
        self.delegate: int | None = None
        """Address whose code runs instead, if this is a delegation designator (EIP-7702)."""
        if len(raw) == 23 and raw.startswith(DELEGATION_PREFIX):
            self.delegate = int.from_bytes(raw[3:], "big")
        self.superblocks = _Superblocks()
        self.superblocks.code = self
        self.size = CODE_OVERHEAD + 2 * len(raw)
        """About how many bytes this object holds."""
        self.jumpdests: set[int] = set()
        """Places that jumps may go to, as far as it is known: `is_jumpdest` finds out about others."""
        self._all_jumpdests: frozenset[int] | None = None
        self._cache = cache

    def is_jumpdest(self, pc: int) -> bool:
        """Whether a jump may go here: to a JUMPDEST that is not push data.

        Scans the code just before the place, not all of it: finding every jump destination of the
        contracts a block calls took a tenth of the time of a cold block.
        """
        if pc in self.jumpdests:
            return True
        if pc >= len(self.raw) or self.raw[pc] != JUMPDEST or not self._begins_instruction(pc):
            return False
        self.jumpdests.add(pc)
        self.grew(JUMPDEST_BYTES)
        return True

    def _begins_instruction(self, pc: int) -> bool:
        """Whether the JUMPDEST here is not push data.

        A place that no byte before it would reach, were it a push, begins an instruction for certain. Goes
        back to the nearest such place, and from there through the code.
        """
        raw, start = self.raw, pc
        while True:
            sizes = raw[max(start - 32, 0) : start].translate(_PUSH_SIZES)
            reaching = (int.from_bytes(sizes, "big") + _SLACK) & _HIGH_BITS
            if not reaching:
                break
            start -= (reaching.bit_length() + 7) >> 3  # to the farthest of them
            if pc - start > SYNC_DISTANCE:
                return pc in self._find_jumpdests()
        while start < pc:
            start += 1 + _PUSH_SIZES[raw[start]]
        return start == pc

    def _find_jumpdests(self) -> frozenset[int]:
        """All jump destinations, for code where single ones are hard to determine."""
        found = self._all_jumpdests
        if found is None:
            found = frozenset(match.start(1) for match in _JUMPDESTS.finditer(self.raw)) - {-1}
            self._all_jumpdests = found
            self.grew(JUMPDEST_BYTES * len(found))
        return found

    def compile(self, pc: int) -> Superblock:
        """Make the superblock of a hot place, the last one if the budget is spent with it."""
        assert self.policy.compile is not None
        superblock, size, instructions = self.policy.compile(self, pc)
        self.grew(size)
        self.compile_budget -= size + COMPILED_INSTRUCTION * instructions
        if self.compile_budget < 0:
            self.hot_after = NEVER
        return superblock

    def grew(self, size: int) -> None:
        """Account for `size` more bytes that this object holds."""
        self.size += size
        cache = self._cache
        if cache is not None:
            cache.size += size
            if cache.size > cache.max_bytes:
                cache.evict()


class CodeCache:
    """The most recently used codes of one instruction set, by code hash, up to a number of bytes."""

    __slots__ = ("_codes", "instructions", "max_bytes", "policy", "size")

    def __init__(
        self, instructions: InstructionSet, policy: TierPolicy, max_bytes: int = DEFAULT_CACHE_BYTES
    ) -> None:
        self.instructions = instructions
        self.policy = policy
        self.max_bytes = max_bytes
        self.size = 0
        """Bytes held, as accounted by the codes themselves."""
        self._codes: OrderedDict[bytes, Code] = OrderedDict()

    @property
    def count(self) -> int:
        """Codes held. (Not `len`: an empty cache should not be false where one is optional.)"""
        return len(self._codes)

    def get(self, code_hash: bytes, load: Callable[[bytes], bytes]) -> Code:
        """The code with this hash, asking `load` for the bytes if it is not cached."""
        code = self._codes.get(code_hash)
        if code is not None:
            try:
                self._codes.move_to_end(code_hash)
            except KeyError:
                pass  # another thread has just evicted it
            return code
        code = Code(load(code_hash), self.instructions, self.policy, self)
        self._codes[code_hash] = code
        self.size += code.size
        self.evict()
        return code

    def uncached(self, raw: bytes) -> Code:
        """Code that runs once: the init code of a creation."""
        return Code(raw, self.instructions, self.policy)

    def evict(self) -> None:
        """Drop what was used longest ago until the rest is within the bound."""
        while self.size > self.max_bytes and self._codes:
            try:
                _, evicted = self._codes.popitem(last=False)
            except KeyError:
                return  # another thread has just taken the last one
            self.size -= evicted.size
            evicted._cache = None


_shared: dict[InstructionSet, CodeCache] = {}


def shared_cache(instructions: InstructionSet, policy: TierPolicy) -> CodeCache:
    """The process-wide cache of an instruction set; the first caller's policy stays."""
    cache = _shared.get(instructions)
    if cache is None:
        cache = _shared[instructions] = CodeCache(instructions, policy)
    return cache
