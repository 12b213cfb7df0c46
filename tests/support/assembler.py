"""EVM code written by name: `assemble("PUSH1 1 PUSH1 2 ADD STOP")`."""

from __future__ import annotations

from flashctl.evm.forks import OSAKA

__all__ = ["assemble"]

_BYTES = {opcode.name: opcode.code for opcode in OSAKA.instructions.opcodes.values()}


def assemble(text: str) -> bytes:
    """Mnemonics and operands, separated by spaces; `name:` marks a jump destination, `@name` pushes it."""
    labels: dict[str, int] = {}
    for _ in range(2):  # the second round knows the labels
        code = bytearray()
        size = 0
        for token in text.split():
            if token.endswith(":"):
                labels[token[:-1]] = len(code)
                code.append(_BYTES["JUMPDEST"])
            elif token.startswith("@"):
                code += bytes((_BYTES["PUSH2"],)) + labels.get(token[1:], 0).to_bytes(2, "big")
            elif size:
                code += int(token, 0).to_bytes(size, "big")
                size = 0
            else:
                code.append(_BYTES.get(token, 0xFE))
                size = int(token[4:]) if token.startswith("PUSH") else 0
    return bytes(code)
