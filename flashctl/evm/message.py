"""What surrounds an execution: block, transaction, the message itself and its result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from time import perf_counter, thread_time
from typing import Final, NamedTuple

from flashctl.evm.halts import ExecutionTimeout

__all__ = [
    "BlockEnv",
    "Deadline",
    "Message",
    "MessageResult",
    "MessageStatus",
    "TxEnv",
    "WorkDeadline",
    "no_block_hash",
]


def no_block_hash(number: int) -> int:
    """`block_hash` of executions without ancestors."""
    return 0


@dataclass(frozen=True, slots=True)
class BlockEnv:
    """What a contract can learn about its block."""

    number: int
    timestamp: int
    """Seconds since the epoch."""
    gas_limit: int
    base_fee: int
    """In wei per gas (EIP-1559)."""
    coinbase: int
    """The fee recipient's address."""
    prev_randao: int
    chain_id: int
    blob_base_fee: int = 1
    """In wei per blob gas (EIP-7516); always 1 on the OP Stack."""
    block_hash: Callable[[int], int] = no_block_hash
    """Hash of an ancestor by number. Asked only for the 256 blocks before this one."""


class TxEnv(NamedTuple):
    """What a contract can learn about its transaction."""

    origin: int
    """Address of the sender."""
    gas_price: int = 0
    """Effective, in wei per gas."""
    blob_hashes: tuple[int, ...] = ()
    """Versioned hashes (EIP-4844)."""


class Message(NamedTuple):
    """A call or a creation from outside the EVM."""

    caller: int
    to: int | None
    """None creates a contract, at the address that the caller's nonce gives."""
    value: int
    """In wei; the caller must own it, else the message fails."""
    data: bytes
    """Calldata, or creation code."""
    gas: int
    is_static: bool = False


class MessageStatus(IntEnum):
    """How a frame ended."""

    SUCCEEDED = 1
    REVERTED = 2
    HALTED = 3


class MessageResult(NamedTuple):
    """What came of a message."""

    status: MessageStatus
    gas_left: int
    output: bytes
    """Returned data, or the reason of a revert; the code that a creation deployed."""
    created: int | None
    """Address of the contract that the message created."""
    halt_reason: str | None
    """Why a halted message halted, such as "out of gas"."""

    @property
    def succeeded(self) -> bool:
        """Whether the changes stand."""
        return self.status is MessageStatus.SUCCEEDED


class Deadline:
    """A wall budget, shared by everything one request executes."""

    __slots__ = ("at", "budget_s")

    def __init__(self, budget_s: float, left_s: float | None = None) -> None:
        """`left_s` is what is left of the budget; None for all of it."""
        self.budget_s: Final = budget_s
        self.at = perf_counter() + (budget_s if left_s is None else left_s)
        """On the `perf_counter` clock; `check` may move it, so a caller that has seen it pass calls
        `check`."""

    def expire(self) -> None:
        """Spend the rest of the budget at once; from any thread."""
        self.at = 0.0

    def left_s(self) -> float:
        """How much of the budget is left; negative once it has passed."""
        return self.at - perf_counter()

    def check(self, ahead_s: float = 0.0, elsewhere_s: float = 0.0) -> None:
        """Raises ExecutionTimeout when the budget is spent, or will be `ahead_s` from now: for work that
        cannot be interrupted and whose length is known.

        Args:
            elsewhere_s: Processor time that another process has spent on this since the last check.
        """
        if perf_counter() + ahead_s > self.at:
            raise ExecutionTimeout(self.budget_s)


class WorkDeadline(Deadline):
    """A budget of processor time: of the thread that makes it, and of processes that compute for it.

    Load from other processes must not stop a transaction. Work takes at least its own time on the wall
    clock, so processor time, a system call, is read only after the wall budget has passed.
    """

    __slots__ = ("_begun", "_elsewhere_s", "_is_expired")

    def __init__(self, budget_s: float) -> None:
        super().__init__(budget_s)
        self._begun = thread_time()
        self._elsewhere_s = 0.0
        self._is_expired = False

    def spent_s(self) -> float:
        """How much is gone; in the thread that made this."""
        return thread_time() - self._begun + self._elsewhere_s

    def expire(self) -> None:
        self._is_expired = True
        self.at = 0.0

    def check(self, ahead_s: float = 0.0, elsewhere_s: float = 0.0) -> None:
        self._elsewhere_s += elsewhere_s
        if perf_counter() + ahead_s <= self.at:
            return
        left = self.budget_s - self.spent_s()
        if left > ahead_s:
            self.at = perf_counter() + left
        # Read last: an `expire` from another thread either overwrites `at` or is noticed here.
        if self._is_expired or left <= ahead_s:
            self.at = 0.0
            raise ExecutionTimeout(self.budget_s)
