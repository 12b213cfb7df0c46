"""Who asks: the connection that the request being answered came over.

Handlers take parameters only; whoever shares something out fairly (`core.workers`) looks here. A server sets
it in the task of each request, so everything that the request starts sees the same.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any, Final, NamedTuple

__all__ = ["NOBODY", "Caller", "caller", "caller_of"]


class Caller(NamedTuple):
    """One connection."""

    address: str
    """Of the peer, without its port: what one party has few of."""

    connection: int
    """Its port: tells the connections of an address apart."""


NOBODY: Final = Caller("", 0)
"""The process itself."""

caller: Final[ContextVar[Caller]] = ContextVar("caller", default=NOBODY)


def caller_of(client: Any) -> Caller:
    """The caller that ASGI names in `scope["client"]`, which may be None."""
    return Caller(str(client[0]), int(client[1])) if client else NOBODY
