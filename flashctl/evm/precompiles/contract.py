"""What a precompiled contract is, and the two ways in which one fails."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final

from flashctl.errors import FlashctlError

__all__ = ["Precompile", "PrecompileError", "PrecompileUnavailable", "by_address", "word_count"]


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

    def limited(self, max_input: int) -> Precompile:
        """The same contract, refusing inputs longer than this many bytes (the OP Stack's bound on proving
        time).
        """
        unlimited = self.run

        def run(data: bytes) -> bytes:
            if len(data) > max_input:
                raise PrecompileError(f"input of {len(data)} bytes, limit {max_input}")
            return unlimited(data)

        return replace(self, run=run)

    def priced(self, gas: Callable[[bytes], int]) -> Precompile:
        """The same contract at another price."""
        return replace(self, gas=gas)


def by_address(contracts: Iterable[Precompile]) -> dict[int, Precompile]:
    """A table of contracts."""
    return {contract.address: contract for contract in contracts}


def word_count(data: bytes) -> int:
    """Words of 32 bytes that the data fills, the last one perhaps partly."""
    return (len(data) + 31) // 32
