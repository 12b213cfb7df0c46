"""What can go wrong with an upstream: each failure has two texts.

`str(error)` is for the log and for whoever runs this program: it names the upstream, by a URL as `mask_url`
shows it. `told` is for strangers, the callers of a public port: it names nothing, for an upstream's address,
its path and what it answers may hold keys.
"""

from __future__ import annotations

from typing import ClassVar, Final, TypeAlias

from flashctl.errors import AuthError, ProtocolError, TimedOut, UnavailableError

__all__ = [
    "InvalidAnswer",
    "RefusedCredentials",
    "TooManyInLine",
    "Unreachable",
    "UpstreamFailure",
    "UpstreamRefused",
    "UpstreamTimedOut",
]


class Unreachable(UnavailableError):
    """No connection, or it ended before the answer."""

    told: ClassVar[str] = "upstream is not available"


class UpstreamTimedOut(TimedOut):
    """Connected or not, no answer within the time that it had."""

    told: ClassVar[str] = "upstream timed out"


class TooManyInLine(UnavailableError):
    """Our own connections to it are all in use, and as many as may wait for one wait already."""

    told: ClassVar[str] = "too many requests in line for the upstream"


class InvalidAnswer(ProtocolError):
    """It answered with something else than what was asked for."""

    told: ClassVar[str] = "upstream sent an invalid answer"


class RefusedCredentials(AuthError):
    """HTTP 401 or 403."""

    told: ClassVar[str] = "upstream refused our credentials"


class UpstreamRefused(UnavailableError):
    """An HTTP status instead of an answer: 429, 503 and the like."""

    status: Final[int]

    retry_after_s: Final[float | None]
    """What its Retry-After header asks for; None for nothing."""

    def __init__(self, message: str, status: int, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after_s = retry_after_s

    @property
    def told(self) -> str:
        """A status is harmless, and tells a caller whether to come back later."""
        return f"upstream refused: HTTP {self.status}"


UpstreamFailure: TypeAlias = (
    Unreachable | UpstreamTimedOut | TooManyInLine | InvalidAnswer | RefusedCredentials | UpstreamRefused
)
