"""What a job is given in the worker process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["JobRun", "Needs", "OverSlice"]


class OverSlice(Exception):
    """The run used its slice up; it is to be begun anew with more time."""


class Needs(Exception):
    """The run cannot continue without something that the parent has to obtain first."""

    what: Final[Any]

    def __init__(self, what: Any) -> None:
        super().__init__(what)
        self.what = what


@dataclass(frozen=True, slots=True)
class JobRun:
    """One run of a job."""

    ask: Callable[[Any], Any]
    """Asks the parent, and waits for its answer."""

    seconds: float
    """The job's time in all, as its caller knows it."""

    left_s: float
    """What is left of it."""

    slice_s: float | None
    """Of work, after which to raise `OverSlice`; None for no such limit."""
