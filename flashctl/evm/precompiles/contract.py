"""What a precompiled contract is, and the two ways in which one fails."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final

from flashctl.errors import FlashctlError
from flashctl.evm.precompiles import apart

__all__ = [
    "Check",
    "Precompile",
    "PrecompileError",
    "PrecompileUnavailable",
    "by_address",
    "unbounded",
    "word_count",
]


class PrecompileError(Exception):
    """The contract refuses its input: the call fails and all its gas is lost."""


class PrecompileUnavailable(FlashctlError):
    """The library behind a contract is not installed. Execution stops: a guess would be a wrong block."""

    contract: Final[str]
    """Name of the contract that was called."""

    def __init__(self, contract: str, package: str) -> None:
        super().__init__(
            f"the {contract} precompile needs the package {package}", hint=f"pip install {package}"
        )
        self.contract = contract


Check = Callable[..., object]
"""`check(ahead_s=0.0, elsewhere_s=0.0)` raises when the caller's budget is spent, or will be
`ahead_s` from now; `elsewhere_s` of processor time were spent by another process since the last check."""


def unbounded(ahead_s: float = 0.0, elsewhere_s: float = 0.0) -> None:
    """The check of an execution that has no budget."""


@dataclass(frozen=True, slots=True)
class Precompile:
    """One contract of the protocol at one price."""

    address: int
    """Where it lives."""

    name: str
    """For errors, benches and listings, such as `bn254Pairing`."""

    gas: Callable[[bytes], int]
    """Price of a call by its input, in gas. Charged whether or not the call succeeds."""

    compute: Callable[[bytes], bytes]
    """The output for an input of any size. Raises PrecompileError when the call fails."""

    compute_within: Callable[[bytes, Check], bytes] | None = None
    """The same, calling the check every few milliseconds: for contracts that may take far longer than their
    gas pays for where a library is missing."""

    max_input: int | None = None
    """Longest input in bytes; the OP Stack's bound on proving time."""

    holds_interpreter: bool = False
    """Whether `compute` keeps Python's interpreter lock until it is done: every other thread of the process
    waits for it, at 16 Mgas for half a second. See `apart`."""

    def limited(self, max_input: int) -> Precompile:
        """The same contract, refusing inputs longer than this many bytes."""
        return replace(self, max_input=max_input)

    def priced(self, gas: Callable[[bytes], int]) -> Precompile:
        """The same contract at another price."""
        return replace(self, gas=gas)

    def run(self, data: bytes) -> bytes:
        """The output for an input, however long it takes.

        Raises:
            PrecompileError: The call fails.
        """
        return self.run_within(data, 0, unbounded)

    def run_within(self, data: bytes, price: int, check: Check) -> bytes:
        """The output for an input within a wall budget.

        Args:
            data: The input.
            price: What the call costs, in gas; expensive calls that would hold the interpreter lock run in a
            side process. check: Raises when the budget is spent; its exception is passed through.

        Raises:
            PrecompileError: The call fails.
        """
        if self.max_input is not None and len(data) > self.max_input:
            raise PrecompileError(f"input of {len(data)} bytes, limit {self.max_input}")
        if self.holds_interpreter and price >= apart.DEAR_GAS and (run_apart := apart.runner()) is not None:
            return run_apart(self.compute, data, check)
        if self.compute_within is not None:
            return self.compute_within(data, check)
        return self.compute(data)


def by_address(contracts: Iterable[Precompile]) -> dict[int, Precompile]:
    """A table of contracts."""
    return {contract.address: contract for contract in contracts}


def word_count(data: bytes) -> int:
    """Words of 32 bytes that the data fills, the last one perhaps partly."""
    return (len(data) + 31) // 32
