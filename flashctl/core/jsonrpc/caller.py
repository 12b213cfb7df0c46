"""The caller: the connection that the request under way came over.

Handlers take parameters only; fair queueing (`core.service.workers`) reads the caller here. A server sets it
in the task of each request, so everything that the request starts has the same caller.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any, Final, NamedTuple

__all__ = ["LOCAL", "Caller", "caller", "caller_of"]


class Caller(NamedTuple):
    """One connection."""

    address: str
    """Of the peer, without its port: what one party has few of."""

    connection: int
    """Its port, which distinguishes the connections of an address."""


LOCAL: Final = Caller("", 0)
"""The process itself."""

caller: Final[ContextVar[Caller]] = ContextVar("caller", default=LOCAL)


def caller_of(client: Any) -> Caller:
    """The caller that ASGI names in `scope["client"]`, which may be None."""
    return Caller(str(client[0]), int(client[1])) if client else LOCAL
