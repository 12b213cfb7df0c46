"""Follows one superblock through the bytecode and writes the lines of its function.

`SuperblockBuilder` tracks the stack, the gas, the memory and the exits; what single instructions emit is in
`emitters`. `compiler` turns the text into a function and describes the design.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from flashctl.evm import opcodes as op
from flashctl.evm.code import Code
from flashctl.evm.forks import STACK_LIMIT
from flashctl.evm.jit.memory import SymbolicMemory
from flashctl.evm.jit.symbols import WORD_BITS, Symbol, assume_equal, constant, variable

__all__ = ["SuperblockBuilder"]

MAX_INSTRUCTIONS: Final = 400
"""Of one superblock. Longer ones save few dispatches (0.1 us each) and take longer to compile than they
win."""

MAX_VISITS: Final = 2
"""Times one superblock goes through the same place: internal functions called twice are worth it, unrolled
loops not."""

LOOK_AHEAD: Final = 24
"""Instructions searched for a REVERT when there is no recorded direction for a JUMPI."""


class _Way:
    """A place where the superblock is left: rendered last, when it is known which inputs a loop
    overwrites."""

    __slots__ = ("indent", "is_side", "owed", "stack", "taken", "target", "texts", "writes")

    def __init__(
        self,
        stack: list[Symbol],
        taken: int,
        owed: int,
        target: str,
        is_side: bool,
        writes: Sequence[str] = (),
    ) -> None:
        self.indent = " " if is_side else ""
        self.writes = writes
        """Lines that complete the memory."""
        self.stack = stack
        self.texts = [symbol.expression for symbol in stack]
        """As they read here: a condition may get a name further on, which does not exist yet at this
        place."""
        self.taken = taken
        self.owed = owed
        self.target = target
        self.is_side = is_side


class SuperblockBuilder:
    """Walks the bytecode of one superblock and collects the lines of its function.

    `emitters` fill in what single instructions do; this class tracks the stack, the gas, the memory and the
    exits.
    """

    def __init__(self, code: Code, start: int) -> None:
        self.code = code
        self.start = start
        self.pc = start
        self.lines: list[str | _Way] = []
        self.stack: list[Symbol] = []
        """Values above the part of the real stack that has not been looked at; the top is last."""
        self.inputs: list[Symbol] = []
        """Items of the real stack in use, the top of the stack first."""
        self.defaults: dict[str, object] = {}
        self.owed = 0
        """Static gas since the superblock began that has not been paid."""
        self.memory_size = 0
        """Memory is known to hold so many bytes."""
        self.memory = SymbolicMemory(self.emit, self.word_bytes)
        self.count = 0
        """Instructions followed."""
        self.done = False
        self.loops = False
        self.overwritten: set[int] = set()
        """Inputs, by depth, that hold a new value in the next round of the loop."""
        self._names = 0
        self._height = 0
        self._locals: set[str] = set()
        self._known: dict[str, Symbol] = {}
        self._growth: int | None = None
        """The line that grows memory, while it may still grow it further."""

    # -- the symbolic stack

    def pop(self) -> Symbol:
        """Take the top of the stack."""
        if not self.stack:
            self._reach(1)
        return self.stack.pop()

    def peek(self, depth: int) -> Symbol:
        """The item at this depth, 1 being the top."""
        self._reach(depth)
        return self.stack[-depth]

    def push(self, symbol: Symbol) -> None:
        """Put a symbol on the stack."""
        self.stack.append(symbol)
        height = len(self.stack) - len(self.inputs)
        if height > self._height:
            self._height = height

    def swap(self, depth: int) -> None:
        """Exchange the top with the item `depth` below it."""
        self._reach(depth + 1)
        stack = self.stack
        stack[-1], stack[-1 - depth] = stack[-1 - depth], stack[-1]

    def _reach(self, count: int) -> None:
        while len(self.stack) < count:
            symbol = variable(f"i{len(self.inputs)}", WORD_BITS)
            self.inputs.append(symbol)
            self.stack.insert(0, symbol)

    # -- emitting

    def emit(self, line: str) -> None:
        """Add a line of Python."""
        self.lines.append(line)

    def assign(self, expression: str, bits: int = WORD_BITS) -> Symbol:
        """Give an expression a name."""
        self._names += 1
        name = f"v{self._names}"
        self.lines.append(f"{name}={expression}")
        return variable(name, bits)

    def compute(self, expression: str, bits: int = WORD_BITS) -> None:
        """Push the value of an expression that depends on more than its operands."""
        self.push(self.assign(expression, bits))

    def compute_once(self, expression: str, bits: int = WORD_BITS) -> None:
        """Push the value of an expression that is the same whenever it is computed in this superblock."""
        known = self._known.get(expression)
        if known is None:
            known = self._known[expression] = self.assign(expression, bits)
        self.push(known)

    def text(self, symbol: Symbol) -> str:
        """A symbol as an operand; conditions become words here, once."""
        if not symbol.text:
            symbol.text = self.assign(symbol.expression, 1).text
        return symbol.text

    def operand(self) -> str:
        """Take the top of the stack as an operand."""
        return self.text(self.pop())

    def local(self, name: str, expression: str) -> str:
        """A local for something that stays the same during the superblock, loaded at its first use."""
        if name not in self._locals:
            self._locals.add(name)
            self.emit(f"{name}={expression}")
        return name

    def default(self, value: object) -> str:
        """A constant that is no integer, passed as a default argument."""
        for name, known in self.defaults.items():
            if known == value:
                return name
        name = f"k{len(self.defaults)}"
        self.defaults[name] = value
        return name

    def check_jump(self, target: str) -> str:
        """The line that makes sure of a jump destination known only when running."""
        self.defaults["jumpdests"] = self.code.jumpdests
        return f"if {target} not in jumpdests: check_jump(f,{target})"

    # -- memory

    def hold(self, end: int) -> None:
        """Make sure that memory holds `end` bytes.

        Growing word by word costs the same gas as growing at once, so a growth takes in those that follow
        it, up to the next place where the superblock may be left or gas or the size of memory is looked at.
        """
        if end <= self.memory_size:
            return
        line = f"if len(mem)<{end}: expand(f,{end})"
        if self._growth is None:
            self._growth = len(self.lines)
            self.emit(line)
        else:
            self.lines[self._growth] = line
        self.memory_size = end

    def look_at_gas(self) -> None:
        """What comes next depends on the gas left or on the size of memory: no later growth may be drawn
        before it."""
        self._growth = None

    def hold_word(self, offset: str) -> str:
        """Make sure that memory holds the word at a computed offset; returns the name of its end."""
        self.emit(f"e={offset}+32")
        self.emit("if e>len(mem): expand(f,e)")
        return "e"

    def aim(self, pointer: Symbol, end: int, operands: Sequence[Symbol]) -> bool:
        """Make sure that a pointer does not reach what memory holds below `end`.

        Otherwise the superblock is left before the instruction, whose operands (the top last) are put back
        for it. Returns False if that is not worth it: the pointer is a constant, and it does reach.
        """
        if pointer.least >= end:
            return True
        if pointer.value is not None:
            return False
        stack = [*self.stack, *operands]
        owed = self.owed - self.code.instructions.gas[self.code.padded[self.pc - 1]]
        self.look_at_gas()
        self.emit(f"if {self.text(pointer)}<{end}:")
        writes = self.memory.pending()
        self.lines.append(_Way(stack, len(self.inputs), owed, str(self.pc - 1), True, writes))
        pointer.least = end
        return True

    def word_bytes(self, symbol: Symbol) -> str:
        """The 32 bytes of a symbol, as an expression."""
        if symbol.value is not None:
            return self.default(symbol.value.to_bytes(32, "big"))
        return f"{symbol.expression}.to_bytes(32,'big')"

    # -- leaving

    def pay(self) -> None:
        """Pay the gas owed so far, in the middle of the superblock."""
        self.look_at_gas()
        if self.owed:
            self.emit(f"f.gas-={self.owed}")
            self.emit("if f.gas<0: raise OutOfGas")
            self.owed = 0

    def leave(self, target: str) -> None:
        """End the superblock: complete the memory, write the stack, pay, and return `target`."""
        self.memory.flush()
        self.lines.append(_Way(list(self.stack), len(self.inputs), self.owed, target, False))
        self.done = True

    def finish(self, exit_code: int) -> None:
        """End the frame: neither its stack nor its memory matter any more."""
        stack = list(reversed(self.inputs))
        self.lines.append(_Way(stack, len(self.inputs), self.owed, str(int(exit_code)), False))
        self.done = True

    def leave_if(self, test: str, target: str, check: str = "") -> None:
        """A side exit."""
        self.look_at_gas()
        self.emit(f"if {test}:")
        if check:
            self.emit(" " + check)
        writes = self.memory.pending()
        self.lines.append(_Way(list(self.stack), len(self.inputs), self.owed, target, True, writes))

    def fail(self, error: str) -> None:
        """End the superblock in an exceptional halt."""
        self.emit(f"raise {error}")
        self.done = True

    # -- the way through the code

    def build(self, emitters: Mapping[int, Callable[[SuperblockBuilder, int], None]]) -> None:
        """Follow the code from the start to the end of the superblock."""
        padded = self.code.padded
        opcodes = self.code.instructions.opcodes
        gas = self.code.instructions.gas
        visits: dict[int, int] = {self.start: 1}
        for count in range(MAX_INSTRUCTIONS + 1):
            self.count = count
            pc = self.pc
            opcode = padded[pc]
            if opcode == op.JUMPDEST and count and self._ends_at(pc, visits):
                return
            if count == MAX_INSTRUCTIONS:
                self.leave(str(pc))
                return
            if opcode not in opcodes:
                self.fail("InvalidOpcode")
                return
            self.owed += gas[opcode]
            if opcode == op.JUMP:
                self._jump()
            elif opcode == op.JUMPI:
                self._jump_if(pc)
            elif op.PUSH1 <= opcode <= op.PUSH32:
                self.pc = pc + opcode - op.PUSH0 + 1
                self.push(constant(int.from_bytes(padded[pc + 1 : self.pc], "big")))
            else:
                self.pc = pc + 1
                emitters[opcode](self, opcode)
            if self.done:
                return

    def _ends_at(self, pc: int, visits: dict[int, int]) -> bool:
        """Arriving at a JUMPDEST: go round, go on, or leave the rest to another superblock."""
        if pc == self.start and len(self.stack) == len(self.inputs):
            self._go_round()
            return True
        visits[pc] = visits.get(pc, 0) + 1
        if visits[pc] > MAX_VISITS or pc in self.code.loop_heads or pc == self.start:
            self.leave(str(pc))
            return True
        return False

    def _go_round(self) -> None:
        """Close a loop: the inputs take the values that the next round starts with."""
        self.loops = True
        self.memory.flush()
        self.pay()
        depth = len(self.inputs)
        targets, values = [], []
        for place, symbol in enumerate(self.stack):
            wanted = self.inputs[depth - 1 - place]
            if symbol is not wanted:
                self.overwritten.add(depth - 1 - place)
                targets.append(wanted.text)
                values.append(symbol.expression)
        if targets:
            self.emit(f"{','.join(targets)}={','.join(values)}")
        self.done = True

    def _jump(self) -> None:
        target = self.pop()
        if target.value is None:
            self.emit(self.check_jump(self.text(target)))
            self.leave(target.text)
        elif self.code.is_jumpdest(target.value):
            self.pc = target.value
        else:
            self.fail("InvalidJump")

    def _jump_if(self, pc: int) -> None:
        target, test = self.pop(), self.pop()
        if test.value is not None:
            self.pc = pc + 1
            if test.value:
                self.push(target)
                self._jump()
            return
        if target.value is None:
            name = self.text(target)
            self.leave_if(test.is_true, name, self.check_jump(name))
            self.pc = pc + 1
        elif not self.code.is_jumpdest(target.value):
            self.emit(f"if {test.is_true}: raise InvalidJump")
            self.pc = pc + 1
        elif self._is_likely(pc, target.value):
            self.leave_if(test.is_false, str(pc + 1))
            self.pc = target.value
            assume_equal(test.equal)
        else:
            self.leave_if(test.is_true, str(target.value))
            self.pc = pc + 1
            assume_equal(test.unequal)

    def _is_likely(self, pc: int, target: int) -> bool:
        """Whether the JUMPI here is usually taken.

        As it was last time; if it has not been interpreted, when it jumps back or jumps over a revert.
        """
        seen = self.code.branches.get(pc + 1)
        if seen is not None:
            return seen
        if target <= pc:
            return True
        padded = self.code.padded
        at = pc + 1
        for _ in range(LOOK_AHEAD):
            opcode = padded[at] if at < len(padded) else 0
            if opcode in (op.REVERT, op.INVALID):
                return True
            if opcode in (op.STOP, op.JUMP, op.JUMPI, op.JUMPDEST, op.RETURN):
                return False
            at += opcode - op.PUSH0 + 1 if op.PUSH1 <= opcode <= op.PUSH32 else 1
        return False

    # -- the function

    def source(self) -> str:
        """The text of the function, named `block`."""
        need, room = len(self.inputs), STACK_LIMIT - max(self._height, 0)
        guard = []
        if need:
            guard.append(f"len(st)<{need}")
        if room < STACK_LIMIT:
            guard.append(f"len(st)>{room}")
        parameters = "".join(f",{name}={name}" for name in self.defaults)
        out = [f"def block(f,st,mem{parameters}):"]
        if guard:
            out.append(f" if {' or '.join(guard)}: return interpret({self.start},f,st,mem)")
        out += [f" {symbol.text}=st[{-1 - depth}]" for depth, symbol in enumerate(self.inputs)]
        indent = " "
        if self.loops:
            out.append(" for _ in TURNS:")
            indent = "  "
        for line in self.lines:
            if isinstance(line, _Way):
                out += [indent + text for text in self._render(line)]
            else:
                out.append(indent + line)
        if self.loops:
            end = _Way(list(reversed(self.inputs)), len(self.inputs), 0, str(self.start), False)
            out += [" " + text for text in self._render(end)]
        return "\n".join(out) + "\n"

    def _render(self, way: _Way) -> list[str]:
        lines = [*way.writes, *self._stack_lines(way.stack, way.texts, way.taken)]
        if way.is_side:
            lines.append(f"return leave(f,{way.owed},{way.target})")
        else:
            if way.owed:
                lines += [f"f.gas-={way.owed}", "if f.gas<0: raise OutOfGas"]
            lines.append(f"return {way.target}")
        return [way.indent + line for line in lines]

    def _stack_lines(self, stack: list[Symbol], texts: list[str], taken: int) -> list[str]:
        """Bring the real stack, whose top `taken` items are inputs, to what the symbolic one holds.

        In a loop, inputs that later parts of the superblock use may have been overwritten below `taken`:
        `taken` is then widened to all of them.
        """
        if self.loops and taken < len(self.inputs):
            deeper = list(reversed(self.inputs[taken:]))
            stack, texts = deeper + stack, [symbol.text for symbol in deeper] + texts
            taken = len(self.inputs)
        keep = 0
        while keep < taken and keep < len(stack):
            depth = taken - 1 - keep
            if stack[keep] is not self.inputs[depth] or depth in self.overwritten:
                break
            keep += 1
        dead, live = taken - keep, texts[keep:]
        if not dead:
            if not live:
                return []
            return [f"st.append({live[0]})"] if len(live) == 1 else [f"st+=({','.join(live)})"]
        if not live:
            return ["st.pop()"] if dead == 1 else [f"del st[{-dead}:]"]
        if dead == len(live) == 1:
            return [f"st[-1]={live[0]}"]
        return [f"st[{-dead}:]=({','.join(live)},)"]
