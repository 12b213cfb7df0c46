"""A Redis client with a bound on the size of a reply.

Any writer of a shared Redis can store half a gigabyte there; fetched by every proxy at each start, it would
exhaust their memory. A reply over REPLY_LIMIT is abandoned when its length is read, before its bytes are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from flashctl.core.net.urls import mask_url
from flashctl.errors import UsageError

if TYPE_CHECKING:
    from redis.asyncio import Redis

__all__ = ["OPERATION_TIMEOUT_S", "READ_BLOCK_MS", "REPLY_LIMIT", "connect_redis", "is_too_large"]

READ_BLOCK_MS: Final = 1000
OPERATION_TIMEOUT_S: Final = 2.0

REPLY_LIMIT: Final = 64 * 1024 * 1024
"""Bytes of one reply: a full read of the bus at 4 MB a message, or two of the largest messages accepted."""

_PER_VALUE: Final = 64
"""Overhead of a value in memory, bytes."""

_TOO_LARGE: Final = "reply over the limit"


def connect_redis(url: str) -> Redis:
    """A client for `url`; connects at its first use.

    Raises:
        UsageError: If the redis package is missing, or the URL is not a Redis URL.
    """
    try:
        from redis.asyncio import Redis
    except ImportError:
        raise UsageError("--bus needs the redis package", hint="pip install 'flashctl[redis]'") from None
    try:
        client: Redis = Redis.from_url(
            url,
            socket_connect_timeout=OPERATION_TIMEOUT_S,
            socket_timeout=OPERATION_TIMEOUT_S + READ_BLOCK_MS / 1e3,
            health_check_interval=15,
            parser_class=_bounded_parser(),
        )
    except ValueError:
        raise UsageError(f"--bus: {mask_url(url)!r} is not a redis:// URL") from None
    return client


def is_too_large(error: BaseException) -> bool:
    """Whether a command failed because its reply was over REPLY_LIMIT."""
    return _TOO_LARGE in str(error)


def _bounded_parser() -> Any:
    """The library's Python parser (hiredis has no limit either) with a limit on the whole reply."""
    from redis._parsers import _AsyncRESP3Parser
    from redis.exceptions import ConnectionError as RedisConnectionError

    class BoundedParser(_AsyncRESP3Parser):  # type: ignore[misc, unused-ignore]
        _received = 0

        async def read_response(self, *arguments: Any, **settings: Any) -> Any:
            self._received = 0
            return await super().read_response(*arguments, **settings)

        async def _read(self, length: int) -> bytes:
            self._received += length + _PER_VALUE
            if self._received > REPLY_LIMIT:
                # A connection error makes the library drop the connection with the rest of the reply.
                raise RedisConnectionError(_TOO_LARGE)
            data: bytes = await super()._read(length)
            return data

    return BoundedParser
