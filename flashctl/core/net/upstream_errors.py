"""Failures of an upstream; each has two texts.

`str(error)` is for the log and the operator: it names the upstream, by a URL as `mask_url` shows it.
`public_text` is for the callers of a public port: it names nothing, because an upstream's address, its path
and its answers may contain keys.
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

    public_text: ClassVar[str] = "upstream is not available"


class UpstreamTimedOut(TimedOut):
    """Connected or not, no answer within the time that it had."""

    public_text: ClassVar[str] = "upstream timed out"


class TooManyInLine(UnavailableError):
    """All connections to it are in use, and the queue of requests that wait for one is full."""

    public_text: ClassVar[str] = "too many requests in line for the upstream"


class InvalidAnswer(ProtocolError):
    """It answered with something else than the response to the request."""

    public_text: ClassVar[str] = "upstream sent an invalid answer"


class RefusedCredentials(AuthError):
    """HTTP 401 or 403."""

    public_text: ClassVar[str] = "upstream refused our credentials"


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
    def public_text(self) -> str:
        """A status reveals nothing, and shows a caller whether to retry."""
        return f"upstream refused: HTTP {self.status}"


UpstreamFailure: TypeAlias = (
    Unreachable | UpstreamTimedOut | TooManyInLine | InvalidAnswer | RefusedCredentials | UpstreamRefused
)
