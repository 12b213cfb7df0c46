"""Messages between a parent and its workers: four bytes of length, then a pickle.

Pickle, because both ends are this program on this machine, over a private socket pair; nothing of it ever
comes from outside.
"""

from __future__ import annotations

import pickle
import struct
from typing import Any, Final, NamedTuple, TypeAlias

__all__ = [
    "HEADER",
    "MAX_FRAME_BYTES",
    "Answer",
    "Asked",
    "Begin",
    "Broke",
    "Done",
    "FromParent",
    "FromWorker",
    "Lacks",
    "Ready",
    "Rejected",
    "TookLong",
    "pack",
]

HEADER: Final = struct.Struct(">I")

MAX_FRAME_BYTES: Final = 256 * 2**20
"""Four times the largest answer of any method."""


class Begin(NamedTuple):
    """Run a job."""

    arguments: Any
    seconds: float
    left_s: float
    slice_s: float | None


class Answer(NamedTuple):
    """To a question."""

    value: Any


class Rejected(NamedTuple):
    """A JSON-RPC error: the outcome of a job, or of a question."""

    code: int
    message: str
    data: Any = None
    leaves: bool = False


class Ready(NamedTuple):
    """The worker has loaded what it needs."""

    resident_bytes: int = 0
    """Memory it takes for that."""


class Asked(NamedTuple):
    """A question; the worker waits."""

    question: Any


class Done(NamedTuple):
    """A job's result."""

    value: Any
    leaves: bool = False
    """Whether the worker ends with this message, having grown too large."""


class TookLong(NamedTuple):
    """The job used its slice up."""

    leaves: bool = False


class Lacks(NamedTuple):
    """The job needs something first."""

    what: Any
    leaves: bool = False


class Broke(NamedTuple):
    """The job failed with an unexpected exception."""

    text: str
    """Exception and traceback."""
    leaves: bool = False


FromParent: TypeAlias = Begin | Answer | Rejected
FromWorker: TypeAlias = Ready | Asked | Done | TookLong | Lacks | Rejected | Broke


def pack(message: FromParent | FromWorker) -> bytes:
    """A message as it goes over the socket."""
    body = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    return HEADER.pack(len(body)) + body
