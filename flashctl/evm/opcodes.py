"""The instructions of the EVM: name, stack effect and the part of the gas that does not depend on anything.

`SHANGHAI` is the oldest set the OP Stack still needs (Canyon); `forks` derives the later ones from it. The
dynamic part of the gas (memory, copying, cold access, storage writes, calls) is in `instructions` and
`calls`.
"""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = [
    "BLOBBASEFEE",
    "BLOBHASH",
    "CLZ",
    "INVALID",
    "JUMP",
    "JUMPDEST",
    "JUMPI",
    "MCOPY",
    "PUSH0",
    "PUSH1",
    "PUSH32",
    "SHANGHAI_OPCODES",
    "TLOAD",
    "TSTORE",
    "Opcode",
    "opcode_table",
]


class Opcode(NamedTuple):
    """One instruction."""

    code: int
    name: str
    pops: int
    """Stack items taken."""
    pushes: int
    """Stack items put back."""
    gas: int
    """Charged whatever the operands are; account and storage access at its warm price (EIP-2929)."""
    needs: int = 0
    """Stack depth it looks at, where that is more than `pops` (DUP, SWAP)."""


BASE: Final = 2
VERY_LOW: Final = 3
LOW: Final = 5
MID: Final = 8
HIGH: Final = 10
WARM_ACCESS: Final = 100
LOG: Final = 375
CREATE: Final = 32_000
"""Price classes of the Yellow Paper, appendix G, and EIP-2929."""

JUMP: Final = 0x56
JUMPI: Final = 0x57
JUMPDEST: Final = 0x5B
PUSH0: Final = 0x5F
PUSH1: Final = 0x60
PUSH32: Final = 0x7F
INVALID: Final = 0xFE

_PLAIN: Final = (
    Opcode(0x00, "STOP", 0, 0, 0),
    Opcode(0x01, "ADD", 2, 1, VERY_LOW),
    Opcode(0x02, "MUL", 2, 1, LOW),
    Opcode(0x03, "SUB", 2, 1, VERY_LOW),
    Opcode(0x04, "DIV", 2, 1, LOW),
    Opcode(0x05, "SDIV", 2, 1, LOW),
    Opcode(0x06, "MOD", 2, 1, LOW),
    Opcode(0x07, "SMOD", 2, 1, LOW),
    Opcode(0x08, "ADDMOD", 3, 1, MID),
    Opcode(0x09, "MULMOD", 3, 1, MID),
    Opcode(0x0A, "EXP", 2, 1, HIGH),
    Opcode(0x0B, "SIGNEXTEND", 2, 1, LOW),
    Opcode(0x10, "LT", 2, 1, VERY_LOW),
    Opcode(0x11, "GT", 2, 1, VERY_LOW),
    Opcode(0x12, "SLT", 2, 1, VERY_LOW),
    Opcode(0x13, "SGT", 2, 1, VERY_LOW),
    Opcode(0x14, "EQ", 2, 1, VERY_LOW),
    Opcode(0x15, "ISZERO", 1, 1, VERY_LOW),
    Opcode(0x16, "AND", 2, 1, VERY_LOW),
    Opcode(0x17, "OR", 2, 1, VERY_LOW),
    Opcode(0x18, "XOR", 2, 1, VERY_LOW),
    Opcode(0x19, "NOT", 1, 1, VERY_LOW),
    Opcode(0x1A, "BYTE", 2, 1, VERY_LOW),
    Opcode(0x1B, "SHL", 2, 1, VERY_LOW),
    Opcode(0x1C, "SHR", 2, 1, VERY_LOW),
    Opcode(0x1D, "SAR", 2, 1, VERY_LOW),
    Opcode(0x20, "KECCAK256", 2, 1, 30),
    Opcode(0x30, "ADDRESS", 0, 1, BASE),
    Opcode(0x31, "BALANCE", 1, 1, WARM_ACCESS),
    Opcode(0x32, "ORIGIN", 0, 1, BASE),
    Opcode(0x33, "CALLER", 0, 1, BASE),
    Opcode(0x34, "CALLVALUE", 0, 1, BASE),
    Opcode(0x35, "CALLDATALOAD", 1, 1, VERY_LOW),
    Opcode(0x36, "CALLDATASIZE", 0, 1, BASE),
    Opcode(0x37, "CALLDATACOPY", 3, 0, VERY_LOW),
    Opcode(0x38, "CODESIZE", 0, 1, BASE),
    Opcode(0x39, "CODECOPY", 3, 0, VERY_LOW),
    Opcode(0x3A, "GASPRICE", 0, 1, BASE),
    Opcode(0x3B, "EXTCODESIZE", 1, 1, WARM_ACCESS),
    Opcode(0x3C, "EXTCODECOPY", 4, 0, WARM_ACCESS),
    Opcode(0x3D, "RETURNDATASIZE", 0, 1, BASE),
    Opcode(0x3E, "RETURNDATACOPY", 3, 0, VERY_LOW),
    Opcode(0x3F, "EXTCODEHASH", 1, 1, WARM_ACCESS),
    Opcode(0x40, "BLOCKHASH", 1, 1, 20),
    Opcode(0x41, "COINBASE", 0, 1, BASE),
    Opcode(0x42, "TIMESTAMP", 0, 1, BASE),
    Opcode(0x43, "NUMBER", 0, 1, BASE),
    Opcode(0x44, "PREVRANDAO", 0, 1, BASE),
    Opcode(0x45, "GASLIMIT", 0, 1, BASE),
    Opcode(0x46, "CHAINID", 0, 1, BASE),
    Opcode(0x47, "SELFBALANCE", 0, 1, LOW),
    Opcode(0x48, "BASEFEE", 0, 1, BASE),
    Opcode(0x50, "POP", 1, 0, BASE),
    Opcode(0x51, "MLOAD", 1, 1, VERY_LOW),
    Opcode(0x52, "MSTORE", 2, 0, VERY_LOW),
    Opcode(0x53, "MSTORE8", 2, 0, VERY_LOW),
    Opcode(0x54, "SLOAD", 1, 1, WARM_ACCESS),
    Opcode(0x55, "SSTORE", 2, 0, 0),
    Opcode(JUMP, "JUMP", 1, 0, MID),
    Opcode(JUMPI, "JUMPI", 2, 0, HIGH),
    Opcode(0x58, "PC", 0, 1, BASE),
    Opcode(0x59, "MSIZE", 0, 1, BASE),
    Opcode(0x5A, "GAS", 0, 1, BASE),
    Opcode(JUMPDEST, "JUMPDEST", 0, 0, 1),
    Opcode(PUSH0, "PUSH0", 0, 1, BASE),
    Opcode(0xF0, "CREATE", 3, 1, CREATE),
    Opcode(0xF1, "CALL", 7, 1, WARM_ACCESS),
    Opcode(0xF2, "CALLCODE", 7, 1, WARM_ACCESS),
    Opcode(0xF3, "RETURN", 2, 0, 0),
    Opcode(0xF4, "DELEGATECALL", 6, 1, WARM_ACCESS),
    Opcode(0xF5, "CREATE2", 4, 1, CREATE),
    Opcode(0xFA, "STATICCALL", 6, 1, WARM_ACCESS),
    Opcode(0xFD, "REVERT", 2, 0, 0),
    Opcode(0xFF, "SELFDESTRUCT", 1, 0, 5000),
)

_FAMILIES: Final = (
    *(Opcode(PUSH0 + size, f"PUSH{size}", 0, 1, VERY_LOW) for size in range(1, 33)),
    *(Opcode(0x7F + depth, f"DUP{depth}", 0, 1, VERY_LOW, needs=depth) for depth in range(1, 17)),
    *(Opcode(0x8F + depth, f"SWAP{depth}", 0, 0, VERY_LOW, needs=depth + 1) for depth in range(1, 17)),
    *(Opcode(0xA0 + topics, f"LOG{topics}", 2 + topics, 0, LOG * (topics + 1)) for topics in range(5)),
)

BLOBHASH: Final = Opcode(0x49, "BLOBHASH", 1, 1, VERY_LOW)
"""EIP-4844 (Cancun)."""
BLOBBASEFEE: Final = Opcode(0x4A, "BLOBBASEFEE", 0, 1, BASE)
"""EIP-7516 (Cancun)."""
TLOAD: Final = Opcode(0x5C, "TLOAD", 1, 1, WARM_ACCESS)
"""EIP-1153 (Cancun)."""
TSTORE: Final = Opcode(0x5D, "TSTORE", 2, 0, WARM_ACCESS)
"""EIP-1153 (Cancun)."""
MCOPY: Final = Opcode(0x5E, "MCOPY", 3, 0, VERY_LOW)
"""EIP-5656 (Cancun)."""
CLZ: Final = Opcode(0x1E, "CLZ", 1, 1, LOW)
"""EIP-7939 (Osaka): count leading zeros."""


def opcode_table(*opcodes: Opcode) -> dict[int, Opcode]:
    """Instructions by their byte."""
    return {opcode.code: opcode for opcode in opcodes}


SHANGHAI_OPCODES: Final = opcode_table(*_PLAIN, *_FAMILIES)
"""Everything up to PUSH0 (EIP-3855). 0xFE, the designated INVALID, is undefined like any unused byte."""
