"""The instructions of the EVM: name, stack effect and the part of the gas that does not depend on operands.

Each name of the Yellow Paper (appendix H) and of later EIPs is the instruction's byte, used as
`op.SLOAD` by the interpreter, the compiler and the tracers. The sets of a fork are built from
`SHANGHAI_OPCODES`, the oldest the OP Stack still needs (Canyon), in `forks`. The dynamic part of the gas
(memory, copying, cold access, storage writes, calls) is in `instructions` and `calls`.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Opcode(NamedTuple):
    """One instruction."""

    code: int
    name: str
    pops: int
    """Stack items taken."""
    pushes: int
    """Stack items put back."""
    gas: int
    """The static charge; account and storage access at its warm price (EIP-2929)."""
    needs: int = 0
    """Stack depth it reads, where that is more than `pops` (DUP, SWAP)."""


STOP: Final = 0x00
ADD: Final = 0x01
MUL: Final = 0x02
SUB: Final = 0x03
DIV: Final = 0x04
SDIV: Final = 0x05
MOD: Final = 0x06
SMOD: Final = 0x07
ADDMOD: Final = 0x08
MULMOD: Final = 0x09
EXP: Final = 0x0A
SIGNEXTEND: Final = 0x0B
LT: Final = 0x10
GT: Final = 0x11
SLT: Final = 0x12
SGT: Final = 0x13
EQ: Final = 0x14
ISZERO: Final = 0x15
AND: Final = 0x16
OR: Final = 0x17
XOR: Final = 0x18
NOT: Final = 0x19
BYTE: Final = 0x1A
SHL: Final = 0x1B
SHR: Final = 0x1C
SAR: Final = 0x1D
CLZ: Final = 0x1E
KECCAK256: Final = 0x20
ADDRESS: Final = 0x30
BALANCE: Final = 0x31
ORIGIN: Final = 0x32
CALLER: Final = 0x33
CALLVALUE: Final = 0x34
CALLDATALOAD: Final = 0x35
CALLDATASIZE: Final = 0x36
CALLDATACOPY: Final = 0x37
CODESIZE: Final = 0x38
CODECOPY: Final = 0x39
GASPRICE: Final = 0x3A
EXTCODESIZE: Final = 0x3B
EXTCODECOPY: Final = 0x3C
RETURNDATASIZE: Final = 0x3D
RETURNDATACOPY: Final = 0x3E
EXTCODEHASH: Final = 0x3F
BLOCKHASH: Final = 0x40
COINBASE: Final = 0x41
TIMESTAMP: Final = 0x42
NUMBER: Final = 0x43
PREVRANDAO: Final = 0x44
GASLIMIT: Final = 0x45
CHAINID: Final = 0x46
SELFBALANCE: Final = 0x47
BASEFEE: Final = 0x48
BLOBHASH: Final = 0x49
BLOBBASEFEE: Final = 0x4A
POP: Final = 0x50
MLOAD: Final = 0x51
MSTORE: Final = 0x52
MSTORE8: Final = 0x53
SLOAD: Final = 0x54
SSTORE: Final = 0x55
JUMP: Final = 0x56
JUMPI: Final = 0x57
PC: Final = 0x58
MSIZE: Final = 0x59
GAS: Final = 0x5A
JUMPDEST: Final = 0x5B
TLOAD: Final = 0x5C
TSTORE: Final = 0x5D
MCOPY: Final = 0x5E
PUSH0: Final = 0x5F
PUSH1: Final = 0x60
PUSH32: Final = 0x7F
DUP1: Final = 0x80
DUP16: Final = 0x8F
SWAP1: Final = 0x90
SWAP16: Final = 0x9F
LOG0: Final = 0xA0
LOG4: Final = 0xA4
CREATE: Final = 0xF0
CALL: Final = 0xF1
CALLCODE: Final = 0xF2
RETURN: Final = 0xF3
DELEGATECALL: Final = 0xF4
CREATE2: Final = 0xF5
STATICCALL: Final = 0xFA
REVERT: Final = 0xFD
INVALID: Final = 0xFE
SELFDESTRUCT: Final = 0xFF
"""By byte. Of the families only the ends stand here: `PUSH1 + n`, `DUP1 + n`, `SWAP1 + n`, `LOG0 + n`."""

_BASE: Final = 2
_VERY_LOW: Final = 3
_LOW: Final = 5
_MID: Final = 8
_HIGH: Final = 10
_WARM_ACCESS: Final = 100
_LOG: Final = 375
_CREATION: Final = 32_000
"""Price classes of the Yellow Paper, appendix G, and EIP-2929."""

_PLAIN: Final = (
    Opcode(STOP, "STOP", 0, 0, 0),
    Opcode(ADD, "ADD", 2, 1, _VERY_LOW),
    Opcode(MUL, "MUL", 2, 1, _LOW),
    Opcode(SUB, "SUB", 2, 1, _VERY_LOW),
    Opcode(DIV, "DIV", 2, 1, _LOW),
    Opcode(SDIV, "SDIV", 2, 1, _LOW),
    Opcode(MOD, "MOD", 2, 1, _LOW),
    Opcode(SMOD, "SMOD", 2, 1, _LOW),
    Opcode(ADDMOD, "ADDMOD", 3, 1, _MID),
    Opcode(MULMOD, "MULMOD", 3, 1, _MID),
    Opcode(EXP, "EXP", 2, 1, _HIGH),
    Opcode(SIGNEXTEND, "SIGNEXTEND", 2, 1, _LOW),
    Opcode(LT, "LT", 2, 1, _VERY_LOW),
    Opcode(GT, "GT", 2, 1, _VERY_LOW),
    Opcode(SLT, "SLT", 2, 1, _VERY_LOW),
    Opcode(SGT, "SGT", 2, 1, _VERY_LOW),
    Opcode(EQ, "EQ", 2, 1, _VERY_LOW),
    Opcode(ISZERO, "ISZERO", 1, 1, _VERY_LOW),
    Opcode(AND, "AND", 2, 1, _VERY_LOW),
    Opcode(OR, "OR", 2, 1, _VERY_LOW),
    Opcode(XOR, "XOR", 2, 1, _VERY_LOW),
    Opcode(NOT, "NOT", 1, 1, _VERY_LOW),
    Opcode(BYTE, "BYTE", 2, 1, _VERY_LOW),
    Opcode(SHL, "SHL", 2, 1, _VERY_LOW),
    Opcode(SHR, "SHR", 2, 1, _VERY_LOW),
    Opcode(SAR, "SAR", 2, 1, _VERY_LOW),
    Opcode(KECCAK256, "KECCAK256", 2, 1, 30),
    Opcode(ADDRESS, "ADDRESS", 0, 1, _BASE),
    Opcode(BALANCE, "BALANCE", 1, 1, _WARM_ACCESS),
    Opcode(ORIGIN, "ORIGIN", 0, 1, _BASE),
    Opcode(CALLER, "CALLER", 0, 1, _BASE),
    Opcode(CALLVALUE, "CALLVALUE", 0, 1, _BASE),
    Opcode(CALLDATALOAD, "CALLDATALOAD", 1, 1, _VERY_LOW),
    Opcode(CALLDATASIZE, "CALLDATASIZE", 0, 1, _BASE),
    Opcode(CALLDATACOPY, "CALLDATACOPY", 3, 0, _VERY_LOW),
    Opcode(CODESIZE, "CODESIZE", 0, 1, _BASE),
    Opcode(CODECOPY, "CODECOPY", 3, 0, _VERY_LOW),
    Opcode(GASPRICE, "GASPRICE", 0, 1, _BASE),
    Opcode(EXTCODESIZE, "EXTCODESIZE", 1, 1, _WARM_ACCESS),
    Opcode(EXTCODECOPY, "EXTCODECOPY", 4, 0, _WARM_ACCESS),
    Opcode(RETURNDATASIZE, "RETURNDATASIZE", 0, 1, _BASE),
    Opcode(RETURNDATACOPY, "RETURNDATACOPY", 3, 0, _VERY_LOW),
    Opcode(EXTCODEHASH, "EXTCODEHASH", 1, 1, _WARM_ACCESS),
    Opcode(BLOCKHASH, "BLOCKHASH", 1, 1, 20),
    Opcode(COINBASE, "COINBASE", 0, 1, _BASE),
    Opcode(TIMESTAMP, "TIMESTAMP", 0, 1, _BASE),
    Opcode(NUMBER, "NUMBER", 0, 1, _BASE),
    Opcode(PREVRANDAO, "PREVRANDAO", 0, 1, _BASE),
    Opcode(GASLIMIT, "GASLIMIT", 0, 1, _BASE),
    Opcode(CHAINID, "CHAINID", 0, 1, _BASE),
    Opcode(SELFBALANCE, "SELFBALANCE", 0, 1, _LOW),
    Opcode(BASEFEE, "BASEFEE", 0, 1, _BASE),
    Opcode(POP, "POP", 1, 0, _BASE),
    Opcode(MLOAD, "MLOAD", 1, 1, _VERY_LOW),
    Opcode(MSTORE, "MSTORE", 2, 0, _VERY_LOW),
    Opcode(MSTORE8, "MSTORE8", 2, 0, _VERY_LOW),
    Opcode(SLOAD, "SLOAD", 1, 1, _WARM_ACCESS),
    Opcode(SSTORE, "SSTORE", 2, 0, 0),
    Opcode(JUMP, "JUMP", 1, 0, _MID),
    Opcode(JUMPI, "JUMPI", 2, 0, _HIGH),
    Opcode(PC, "PC", 0, 1, _BASE),
    Opcode(MSIZE, "MSIZE", 0, 1, _BASE),
    Opcode(GAS, "GAS", 0, 1, _BASE),
    Opcode(JUMPDEST, "JUMPDEST", 0, 0, 1),
    Opcode(PUSH0, "PUSH0", 0, 1, _BASE),
    Opcode(CREATE, "CREATE", 3, 1, _CREATION),
    Opcode(CALL, "CALL", 7, 1, _WARM_ACCESS),
    Opcode(CALLCODE, "CALLCODE", 7, 1, _WARM_ACCESS),
    Opcode(RETURN, "RETURN", 2, 0, 0),
    Opcode(DELEGATECALL, "DELEGATECALL", 6, 1, _WARM_ACCESS),
    Opcode(CREATE2, "CREATE2", 4, 1, _CREATION),
    Opcode(STATICCALL, "STATICCALL", 6, 1, _WARM_ACCESS),
    Opcode(REVERT, "REVERT", 2, 0, 0),
    Opcode(SELFDESTRUCT, "SELFDESTRUCT", 1, 0, 5000),
)

_FAMILIES: Final = (
    *(Opcode(PUSH0 + size, f"PUSH{size}", 0, 1, _VERY_LOW) for size in range(1, 33)),
    *(Opcode(DUP1 + depth - 1, f"DUP{depth}", 0, 1, _VERY_LOW, needs=depth) for depth in range(1, 17)),
    *(Opcode(SWAP1 + depth - 1, f"SWAP{depth}", 0, 0, _VERY_LOW, needs=depth + 1) for depth in range(1, 17)),
    *(Opcode(LOG0 + topics, f"LOG{topics}", 2 + topics, 0, _LOG * (topics + 1)) for topics in range(5)),
)


def opcode_table(*opcodes: Opcode) -> dict[int, Opcode]:
    """Instructions by their byte."""
    return {opcode.code: opcode for opcode in opcodes}


SHANGHAI_OPCODES: Final = opcode_table(*_PLAIN, *_FAMILIES)
"""Everything up to PUSH0 (EIP-3855). 0xFE, the designated INVALID, is undefined like any unused byte."""

CANCUN_ADDITIONS: Final = (
    Opcode(BLOBHASH, "BLOBHASH", 1, 1, _VERY_LOW),  # EIP-4844
    Opcode(BLOBBASEFEE, "BLOBBASEFEE", 0, 1, _BASE),  # EIP-7516
    Opcode(TLOAD, "TLOAD", 1, 1, _WARM_ACCESS),  # EIP-1153
    Opcode(TSTORE, "TSTORE", 2, 0, _WARM_ACCESS),  # EIP-1153
    Opcode(MCOPY, "MCOPY", 3, 0, _VERY_LOW),  # EIP-5656
)

OSAKA_ADDITIONS: Final = (
    Opcode(CLZ, "CLZ", 1, 1, _LOW),  # EIP-7939, count leading zeros
)
