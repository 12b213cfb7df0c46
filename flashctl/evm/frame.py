"""One running contract: its stack, memory, gas and place in the call stack.

Frames link to their caller instead of nesting Python calls, so that 1,024 deep calls need no deep Python
stack.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import TYPE_CHECKING

from flashctl.evm.code import Code, CodeCache
from flashctl.evm.forks import EvmRules, PrecompiledContract
from flashctl.evm.message import BlockEnv, Deadline, TxEnv

if TYPE_CHECKING:
    from flashctl.evm.state import JournaledState, Snapshot

__all__ = ["Context", "Exit", "Frame"]


class Exit(IntEnum):
    """What a superblock returns instead of a program counter when it leaves the code."""

    DONE = -1
    """STOP, RETURN or SELFDESTRUCT; `Frame.output` holds what was returned."""
    REVERTED = -2
    CALLED = -3
    """`Frame.callee` runs next; this frame resumes at `Frame.pc` with the result on its stack."""


class Context:
    """What all frames of one message share."""

    __slots__ = ("block", "codes", "deadline", "precompiles", "rules", "state", "tx")

    def __init__(
        self,
        state: JournaledState,
        block: BlockEnv,
        tx: TxEnv,
        rules: EvmRules,
        codes: CodeCache,
        deadline: Deadline | None = None,
    ) -> None:
        self.state = state
        self.block = block
        self.tx = tx
        self.rules = rules
        self.codes = codes
        self.deadline = deadline
        self.precompiles: Mapping[int, PrecompiledContract] = rules.precompiles


class Frame:
    """A call or a creation in progress."""

    __slots__ = (
        "address",
        "block",
        "callee",
        "caller",
        "code",
        "context",
        "created",
        "data",
        "depth",
        "gas",
        "is_static",
        "memory",
        "originals",
        "output",
        "parent",
        "pc",
        "result_offset",
        "result_size",
        "returned",
        "slots",
        "snapshot",
        "stack",
        "state",
        "tx",
        "value",
    )

    def __init__(
        self,
        context: Context,
        parent: Frame | None,
        snapshot: Snapshot,
        code: Code,
        address: int,
        caller: int,
        value: int,
        data: bytes,
        gas: int,
        depth: int,
        is_static: bool,
        created: int | None = None,
        result_offset: int = 0,
        result_size: int = 0,
    ) -> None:
        self.context = context
        self.state = context.state
        self.block = context.block
        self.tx = context.tx
        self.parent = parent
        self.snapshot = snapshot
        """Where the state goes back to if this frame fails."""
        self.code = code
        self.address = address
        """Whose storage and balance this is."""
        self.caller = caller
        self.value = value
        self.data = data
        self.gas = gas
        self.depth = depth
        """0 for the outermost frame, 1,024 for the deepest."""
        self.is_static = is_static
        self.created = created
        """Address of the contract this frame creates, None for a call."""
        self.result_offset = result_offset
        self.result_size = result_size
        """Where in the caller's memory the output goes."""
        self.stack: list[int] = []
        self.memory = bytearray()
        """A whole number of words."""
        self.pc = 0
        self.returned = b""
        """Output of the last call made from here (EIP-211)."""
        self.output = b""
        self.callee: Frame | None = None
        self.slots = context.state.slots_of(address)
        """Warm storage of `address` with its present values."""
        self.originals = context.state.originals_of(address)
        """What the warm slots held when the transaction began."""
