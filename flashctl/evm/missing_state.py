"""State that is not at hand: what an execution lacked, and how to find out all of it at once.

A `StateReader` that does not know a part of the state raises `StateMissing`, so that no result ever rests on
an invented value. One read at a time would cost a journey to a node for each; `attempt` therefore runs the
same work a second time on guesses, whose only product is the list of what else will be lacking.
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
    """Parts of a state that were read and are not at hand."""

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
    """A part of the state was read that is not at hand."""

    missing: Final[Missing]

    def __init__(self, missing: Missing) -> None:
        self.missing = missing
        super().__init__(f"state is not at hand: {len(missing)} parts of it")


def attempt(run: Callable[[Missing | None], _T]) -> _T:
    """The result of `run`, if everything that it reads is at hand.

    Args:
        run: Called with None, its reads raise `StateMissing`. Called with a `Missing`, they answer what is
        not
            at hand as if it did not exist, and note it there.

    Raises:
        StateMissing: With everything that a run on such guesses lacks.
    """
    try:
        return run(None)
    except StateMissing as error:
        missing = error.missing
    # How a run on guesses ends means nothing, not even that it fails: the next run on what is known decides.
    with suppress(Exception):
        run(missing)
    raise StateMissing(missing)
