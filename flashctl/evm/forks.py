"""What each fork of the EVM changes, every table derived from its predecessor.

    Shanghai   Canyon             PUSH0, init code limit, warm coinbase
    Cancun     Ecotone-Holocene   transient storage, MCOPY, blob opcodes, SELFDESTRUCT tamed
    Prague     Isthmus, Jovian    EIP-7702 delegation, EIP-7623 calldata floor
    Osaka      Karst              CLZ, EIP-7825 transaction gas cap

Precompiles are not listed here: the OP Stack adds and limits them on a calendar of its own, so `op.forks`
joins a table of this module with one of `evm.precompiles` (`EvmRules.with_precompiles`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from flashctl.evm.opcodes import CANCUN_ADDITIONS, OSAKA_ADDITIONS, SHANGHAI_OPCODES, Opcode, opcode_table

__all__ = [
    "CANCUN",
    "OSAKA",
    "PRAGUE",
    "SHANGHAI",
    "STACK_LIMIT",
    "EvmRules",
    "InstructionSet",
    "PrecompiledContract",
]

STACK_LIMIT: Final = 1024
"""Words a stack holds, and frames a call nests."""


class PrecompiledContract(Protocol):
    """A contract that is part of the protocol; `evm.precompiles` holds them."""

    @property
    def gas(self) -> Callable[[bytes], int]:
        """Price of one call, by its input."""
        ...

    def run_within(self, data: bytes, price: int, check: Callable[..., object]) -> bytes:
        """The result of a call that costs `price`; raises PrecompileError when it fails and its gas is lost,
        and whatever `check` raises when the wall budget is spent."""
        ...


class InstructionSet:
    """The opcodes of a fork, laid out for the two tiers.

    Compared by identity: compiled code belongs to exactly one instruction set, because its gas is compiled
    in.
    """

    __slots__ = ("gas", "highest", "lowest", "name", "opcodes")

    def __init__(self, name: str, opcodes: Mapping[int, Opcode]) -> None:
        self.name = name
        self.opcodes = dict(opcodes)
        self.gas = tuple(opcodes[code].gas if code in opcodes else 0 for code in range(256))
        """Static gas by byte."""
        self.lowest = tuple(
            max(opcodes[code].pops, opcodes[code].needs) if code in opcodes else STACK_LIMIT + 1
            for code in range(256)
        )
        """Least stack depth by byte; out of reach for undefined bytes, so that one comparison catches
        both."""
        self.highest = tuple(
            STACK_LIMIT + min(0, opcodes[code].pops - opcodes[code].pushes) if code in opcodes else 0
            for code in range(256)
        )
        """Greatest stack depth by byte before the instruction."""

    def extended(self, name: str, *added: Opcode) -> InstructionSet:
        """This set and the instructions that a later fork adds."""
        return InstructionSet(name, self.opcodes | opcode_table(*added))

    def __repr__(self) -> str:
        return f"InstructionSet({self.name!r}, {len(self.opcodes)} opcodes)"


@dataclass(frozen=True, slots=True)
class EvmRules:
    """One fork: everything about the EVM that a later fork may change."""

    name: str
    instructions: InstructionSet
    precompiles: Mapping[int, PrecompiledContract] = field(default_factory=dict)
    """By address."""
    warm_precompiles: Mapping[int, bool] = field(init=False, compare=False)
    """What `JournaledState.warm` holds of them at the start of every transaction (EIP-2929)."""
    max_code_size: int = 24_576
    """Bytes of a deployed contract (EIP-170)."""
    max_initcode_size: int = 49_152
    """Bytes of creation code (EIP-3860)."""
    selfdestruct_deletes_any: bool = True
    """Before EIP-6780 SELFDESTRUCT deletes every contract, afterwards only one created in the same
    transaction."""
    has_delegation: bool = False
    """EIP-7702: set-code transactions, and calls follow a delegation designator."""
    has_calldata_floor: bool = False
    """EIP-7623: a transaction pays at least 10 gas per calldata token."""
    transaction_gas_cap: int | None = None
    """EIP-7825: the most gas one transaction may ask for; deposits are exempt (OP Stack, Karst)."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "warm_precompiles", dict.fromkeys(self.precompiles, True))

    def with_precompiles(self, precompiles: Mapping[int, PrecompiledContract]) -> EvmRules:
        """The same fork with this set of precompiled contracts."""
        return replace(self, precompiles=precompiles)


SHANGHAI: Final = EvmRules("Shanghai", InstructionSet("Shanghai", SHANGHAI_OPCODES))

CANCUN: Final = replace(
    SHANGHAI,
    name="Cancun",
    instructions=SHANGHAI.instructions.extended("Cancun", *CANCUN_ADDITIONS),
    selfdestruct_deletes_any=False,
)

PRAGUE: Final = replace(
    CANCUN,
    name="Prague",
    has_delegation=True,
    has_calldata_floor=True,
)
"""Shares Cancun's instruction set, and so its compiled code."""

OSAKA: Final = replace(
    PRAGUE,
    name="Osaka",
    instructions=PRAGUE.instructions.extended("Osaka", *OSAKA_ADDITIONS),
    transaction_gas_cap=2**24,
)
