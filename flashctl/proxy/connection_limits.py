"""Connection limits: of this process, of one address, of one API key.

Counting is all or nothing: a refusal leaves no count behind (flashbots' proxy keeps the address's slot when
the key's limit refuses, until restart). Limits are read at each request, so a reload applies to new
connections and closes none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

__all__ = ["ConnectionCounts", "ConnectionLimits", "ConnectionRefused", "ConnectionTicket", "Limit"]


class Limit(Enum):
    """The limit that was exceeded; the value is the message of flashbots' and Base's proxies."""

    INSTANCE = "Global limit"
    ADDRESS = "IP limit exceeded"
    KEY = "App limit exceeded"
    BUS = "Shared limits unavailable"


@dataclass(frozen=True, slots=True)
class ConnectionRefused:
    """A refusal: the limit exceeded, and how many connections it allows."""

    limit: Limit
    allowed: int


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """0 means no limit."""

    instance: int
    per_address: int


class ConnectionTicket:
    """One counted connection; `release` gives it back, once, however often it is called."""

    __slots__ = ("_release",)

    def __init__(self, release: Callable[[], None]) -> None:
        self._release: Callable[[], None] | None = release

    def release(self) -> None:
        """The connection has ended."""
        release, self._release = self._release, None
        if release is not None:
            release()


class ConnectionCounts:
    """The connections of this process."""

    def __init__(self) -> None:
        self.total = 0
        self.by_address: Counter[str] = Counter()
        self.by_app: Counter[str] = Counter()

    def acquire(
        self, limits: ConnectionLimits, address: str, app: str | None, app_limit: int | None
    ) -> ConnectionTicket | ConnectionRefused:
        """Count a connection, or return the limit it would exceed; in the order instance, address, key."""
        if limits.instance and self.total >= limits.instance:
            return ConnectionRefused(Limit.INSTANCE, limits.instance)
        if limits.per_address and self.by_address[address] >= limits.per_address:
            return ConnectionRefused(Limit.ADDRESS, limits.per_address)
        if app is not None and app_limit is not None and self.by_app[app] >= app_limit:
            return ConnectionRefused(Limit.KEY, app_limit)
        self.total += 1
        self.by_address[address] += 1
        if app is not None:
            self.by_app[app] += 1
        return ConnectionTicket(lambda: self._release(address, app))

    def _release(self, address: str, app: str | None) -> None:
        self.total -= 1
        _decrease(self.by_address, address)
        if app is not None:
            _decrease(self.by_app, app)


def _decrease(counter: Counter[str], key: str) -> None:
    counter[key] -= 1
    if counter[key] <= 0:
        del counter[key]
