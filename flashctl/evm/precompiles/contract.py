"""What a precompiled contract is, and the two ways in which one fails."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final

from flashctl.errors import FlashctlError

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


Check = Callable[[], object]
"""Raises when the wall budget of whoever called is spent."""


def unbounded() -> None:
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

    run: Callable[[bytes], bytes]
    """The output for an input. Raises PrecompileError when the call fails."""

    run_within: Callable[[bytes, Check], bytes] | None = None
    """The same, calling the check every few milliseconds: for contracts that may take far longer than their
    gas pays for where a library is missing."""

    def limited(self, max_input: int) -> Precompile:
        """The same contract, refusing inputs longer than this many bytes (the OP Stack's bound on proving
        time).
        """
        unlimited, unlimited_within = self.run, self.run_within

        def refuse_long(data: bytes) -> None:
            if len(data) > max_input:
                raise PrecompileError(f"input of {len(data)} bytes, limit {max_input}")

        def run(data: bytes) -> bytes:
            refuse_long(data)
            return unlimited(data)

        if unlimited_within is None:
            return replace(self, run=run)

        def run_within(data: bytes, check: Check) -> bytes:
            refuse_long(data)
            return unlimited_within(data, check)

        return replace(self, run=run, run_within=run_within)

    def priced(self, gas: Callable[[bytes], int]) -> Precompile:
        """The same contract at another price."""
        return replace(self, gas=gas)


def by_address(contracts: Iterable[Precompile]) -> dict[int, Precompile]:
    """A table of contracts."""
    return {contract.address: contract for contract in contracts}


def word_count(data: bytes) -> int:
    """Words of 32 bytes that the data fills, the last one perhaps partly."""
    return (len(data) + 31) // 32
