"""A JSON-RPC client over HTTP, on the keep-alive client of `core.http1`.

    client = JsonRpcClient("http://127.0.0.1:8551", jwt_secret=secret)
    head = await client.call("eth_blockNumber")
    reply = await client.post_raw(request)        # bytes through, for relaying
    await client.close()

An error object in a reply is raised as `RpcError`; whatever kept a reply from arriving as
`UnavailableError`, `TimedOut`, `AuthError` or `ProtocolError`. Nothing is retried.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Sequence
from typing import Any

import orjson

from flashctl.core import jwt
from flashctl.core.http1 import DEFAULT_LIMITS, ClientLimits, HttpClient, Reply
from flashctl.core.jsonrpc.errors import Code, RpcError
from flashctl.errors import AuthError, ProtocolError, UnavailableError

__all__ = ["JsonRpcClient", "parse_reply"]


class JsonRpcClient:
    """Calls to one endpoint."""

    def __init__(
        self,
        url: str,
        *,
        jwt_secret: bytes | jwt.JwtSecret | None = None,
        timeout_s: float = 10.0,
        headers: Sequence[tuple[str, str]] = (),
        limits: ClientLimits = DEFAULT_LIMITS,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Nothing is connected yet.

        Args:
            url: http or https; without a scheme http.
            jwt_secret: send an engine token, minted per request.
            timeout_s: for each request as a whole.
            headers: sent with every request.
            limits: see `ClientLimits`.
            tls: for https, instead of the system's trust store.

        Raises:
            UsageError: If the URL is not one.
        """
        self._http = HttpClient(url, timeout_s=timeout_s, limits=limits, tls=tls)
        self._jwt_secret = jwt_secret
        self._headers = tuple((name.encode(), value.encode()) for name, value in headers)
        self._next_id = 0

    @property
    def url(self) -> str:
        """Where calls go."""
        return self._http.endpoint.url

    async def call(self, method: str, params: Sequence[Any] = (), *, timeout_s: float | None = None) -> Any:
        """The `result` of one call.

        Raises:
            RpcError: If the server answered with an error.
            UnavailableError, TimedOut, AuthError, ProtocolError: If it did not answer properly.
        """
        identity = self._take_id()
        request = {"jsonrpc": "2.0", "id": identity, "method": method, "params": list(params)}
        reply = _load(await self.post_raw(orjson.dumps(request), timeout_s=timeout_s), self.url)
        if not isinstance(reply, dict):
            raise ProtocolError(f"{self.url} answered {method} with something other than a JSON-RPC response")
        if "error" not in reply and reply.get("id") != identity:
            raise ProtocolError(f"{self.url} answered {method} with another request's id")
        return parse_reply(reply, method)

    async def batch(
        self, calls: Sequence[tuple[str, Sequence[Any]]], *, timeout_s: float | None = None
    ) -> list[Any]:
        """The results of many calls made in one request, in their order; an error as an `RpcError` value.

        Raises:
            RpcError: If the server refused the batch as a whole.
            UnavailableError, TimedOut, AuthError, ProtocolError: If it did not answer properly.
        """
        if not calls:
            return []
        first = self._take_id(len(calls))
        requests = [
            {"jsonrpc": "2.0", "id": first + place, "method": method, "params": list(params)}
            for place, (method, params) in enumerate(calls)
        ]
        replies = _load(await self.post_raw(orjson.dumps(requests), timeout_s=timeout_s), self.url)
        if isinstance(replies, dict):
            parse_reply(replies, "batch")
        if not isinstance(replies, list):
            raise ProtocolError(f"{self.url} did not answer a batch with a batch")
        by_id = {reply.get("id"): reply for reply in replies if isinstance(reply, dict)}
        results: list[Any] = []
        for place, (method, _) in enumerate(calls):
            reply = by_id.get(first + place)
            if reply is None:
                raise ProtocolError(f"{self.url} left {method} of a batch unanswered")
            try:
                results.append(parse_reply(reply, method))
            except RpcError as error:
                results.append(error)
        return results

    async def post_raw(self, body: bytes, *, timeout_s: float | None = None) -> bytes:
        """One request's bytes out, the reply's bytes back, neither looked at.

        Raises:
            UnavailableError, TimedOut, AuthError, ProtocolError: If there was no usable reply.
        """
        headers = self._headers
        if self._jwt_secret is not None:
            headers = (*headers, (b"authorization", jwt.bearer(self._jwt_secret, time.time())))
        reply = await self._http.post(body, headers=headers, timeout_s=timeout_s)
        if reply.status != 200:
            _refuse_status(self.url, reply)
        return reply.body

    async def close(self) -> None:
        """Drop all connections."""
        await self._http.close()

    def _take_id(self, count: int = 1) -> int:
        first = self._next_id + 1
        self._next_id += count
        return first


def parse_reply(reply: dict[str, Any], method: str) -> Any:
    """The result held in one response object.

    Raises:
        RpcError: If it holds an error.
        ProtocolError: If it holds neither.
    """
    error = reply.get("error")
    if error is not None:
        if not isinstance(error, dict):
            raise RpcError(Code.SERVER_ERROR, str(error)[:200])
        code = error.get("code")
        message = error.get("message")
        raise RpcError(
            code if isinstance(code, int) else Code.SERVER_ERROR,
            message if isinstance(message, str) else "error without a message",
            error.get("data"),
        )
    if "result" not in reply:
        raise ProtocolError(f"the answer to {method} holds neither result nor error")
    return reply["result"]


def _load(body: bytes, url: str) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        raise ProtocolError(f"{url} did not answer with JSON") from None


def _refuse_status(url: str, reply: Reply) -> None:
    """Raise for an HTTP status other than 200, unless the body is a JSON-RPC response all the same."""
    if reply.status in (401, 403):
        reason = reply.body[:100].decode("utf-8", "replace").strip()
        raise AuthError(f"{url} refused our credentials: {reason or reply.status}")
    if reply.body[:1] in (b"{", b"["):
        return
    if reply.status in (429, 502, 503, 504):
        raise UnavailableError(f"{url} answered HTTP {reply.status}")
    raise ProtocolError(f"{url} answered HTTP {reply.status}")
