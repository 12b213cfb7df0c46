"""State that is not loaded: what an execution lacked, and how to collect all of it in one pass.

A `StateReader` that lacks a part of the state raises `StateMissing`, so that no result ever rests on an
invented value. Fetching one read at a time would cost a round trip for each; `attempt` therefore runs the
same work a second time on placeholder values, only to collect what else will be missing.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, TypeVar

from flashctl.errors import UnavailableError

__all__ = ["Missing", "StateMissing", "attempt"]

_T = TypeVar("_T")


@dataclass(slots=True)
class Missing:
    """Parts of a state that were read and are not loaded."""

    accounts: set[int] = field(default_factory=set)
    slots: set[tuple[int, int]] = field(default_factory=set)
    """Address and slot."""
    hashes: set[int] = field(default_factory=set)
    """Numbers of blocks whose hash was asked for (BLOCKHASH)."""

    def __bool__(self) -> bool:
        return bool(self.accounts or self.slots or self.hashes)

    def add(self, other: Missing) -> None:
        """Take in what another one lacks."""
        self.accounts |= other.accounts
        self.slots |= other.slots
        self.hashes |= other.hashes

    def without(self, other: Missing) -> Missing:
        """What this one lacks and the other does not, as a new one."""
        return Missing(self.accounts - other.accounts, self.slots - other.slots, self.hashes - other.hashes)

    def __len__(self) -> int:
        return len(self.accounts) + len(self.slots) + len(self.hashes)


class StateMissing(UnavailableError):
    """A part of the state was read that is not loaded."""

    missing: Final[Missing]

    def __init__(self, missing: Missing) -> None:
        self.missing = missing
        super().__init__(f"state is not loaded: {len(missing)} parts of it")


def attempt(run: Callable[[Missing | None], _T]) -> _T:
    """The result of `run`, if everything that it reads is loaded.

    Args:
        run: Called with None, its reads raise `StateMissing`. Called with a `Missing`, they treat what is not
            loaded as absent, and note it there.

    Raises:
        StateMissing: With everything that a run on such placeholders lacks.
    """
    try:
        return run(None)
    except StateMissing as error:
        missing = error.missing
    # The outcome of a run on placeholders is meaningless, an exception included: only the next run counts.
    with suppress(Exception):
        run(missing)
    raise StateMissing(missing)
