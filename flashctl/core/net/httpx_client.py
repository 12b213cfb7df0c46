"""A client for exchanges that are few: checks, probes, the blocks and receipts that `watch` confirms. httpx,
with the errors and masked URLs of `HttpClient`, which is for what is multiplexed or passed on.

httpx is imported with the first exchange: 125 ms, which no role's start waits for.
"""

from __future__ import annotations

import asyncio
import importlib
import ssl
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from flashctl import __version__
from flashctl.core.net.endpoint import Endpoint
from flashctl.core.net.http_reply import ClientLimits, Reply, ReplyTooLarge
from flashctl.core.net.system_reason import system_reason
from flashctl.core.net.upstream_errors import InvalidAnswer, Unreachable, UpstreamTimedOut

if TYPE_CHECKING:
    import httpx

__all__ = ["HttpxClient"]

LIMITS: Final = ClientLimits(body_bytes=32 * 1024 * 1024)
"""A block with whole transactions, several times over."""


class HttpxClient:
    """POSTs to one URL, one at a time or a few. Use it within one event loop; call `close` when done."""

    def __init__(self, url: str, *, timeout_s: float = 10.0, limits: ClientLimits = LIMITS) -> None:
        """Nothing is opened yet.

        Args:
            url: http or https; without a scheme http. `user:password@` is sent as Basic credentials.
            timeout_s: for a whole exchange.
            limits: of these, that on the body counts.

        Raises:
            UsageError: If the URL is not one.
        """
        self.endpoint: Final = Endpoint.parse(url)
        self._timeout_s = timeout_s
        self._limits = limits
        self._client: httpx.AsyncClient | None = None

    async def post(
        self,
        body: bytes,
        *,
        headers: Sequence[tuple[bytes, bytes]] = (),
        timeout_s: float | None = None,
        repeatable: bool = False,
    ) -> Reply:
        """Send one request and wait for its reply, whatever its status; nothing is sent twice, even if it is
        `repeatable`.

        Raises:
            UpstreamTimedOut: If the exchange did not end within the time-out.
            Unreachable: If no connection could be made, or it broke before the reply.
            InvalidAnswer: If what came back is not HTTP or passes a limit.
        """
        httpx = await asyncio.to_thread(importlib.import_module, "httpx")
        shown = self.endpoint.shown
        limit = self._timeout_s if timeout_s is None else timeout_s
        sent = [(b"content-type", b"application/json"), (b"accept", b"application/json"), *headers]
        client = self._client
        if client is None:
            # The system's trust store and no proxy of the environment: as `HttpClient`.
            tls = await asyncio.to_thread(ssl.create_default_context) if self.endpoint.tls else False
            agent = {"user-agent": f"flashctl/{__version__}"}
            client = self._client = httpx.AsyncClient(
                verify=tls, timeout=None, trust_env=False, headers=agent
            )
        # Of httpx's own texts none is shown: they may name the URL, which may hold a key.
        try:
            async with (
                asyncio.timeout(limit),
                client.stream("POST", self.endpoint.url, content=body, headers=sent) as reply,
            ):
                return await self._read(reply)
        except TimeoutError:
            raise UpstreamTimedOut(f"{shown} did not answer within {limit:g} s") from None
        except (httpx.RemoteProtocolError, httpx.DecodingError, httpx.InvalidURL) as error:
            if isinstance(error, httpx.RemoteProtocolError) and "disconnected" in str(error):
                raise Unreachable(f"{shown}: connection closed before the answer") from None
            raise InvalidAnswer(f"{shown} did not answer in HTTP") from None
        except httpx.ConnectError as error:
            raise Unreachable(f"{shown} is unreachable: {_reason(error)}") from None
        except httpx.HTTPError as error:
            raise Unreachable(f"{shown}: {_reason(error)}") from None

    async def _read(self, reply: httpx.Response) -> Reply:
        """The reply as `HttpClient` gives it, its body unpacked."""
        parts, size = [], 0
        async for part in reply.aiter_bytes():
            size += len(part)
            if size > self._limits.body_bytes:
                error = ReplyTooLarge("body", self._limits.body_bytes)
                error.args = (f"{self.endpoint.shown}: {error}",)
                raise error
            parts.append(part)
        named = tuple((name.lower(), value) for name, value in reply.headers.raw)
        return Reply(reply.status_code, named, b"".join(parts), keep_alive=True)

    async def close(self) -> None:
        """Drop every connection."""
        if self._client is not None:
            await self._client.aclose()


def _reason(error: BaseException) -> str:
    """What the system said, which httpx wraps twice."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return system_reason(error)
