"""A JSON-RPC client over HTTP, on the keep-alive client of `core.http1`.

    client = JsonRpcClient("http://127.0.0.1:8551", jwt_secret=secret)
    head = await client.call("eth_blockNumber")
    reply = await client.relay("eth_call", request)     # bytes through
    await client.close()

An error object in a reply is raised as `RpcError`; whatever kept a reply from arriving as one of the failures
of `core.upstream`. Nothing is retried, but for a method that changes nothing and met a dying connection.

One client is one pool of connections: calls that must not wait for those of strangers have a client of their
own, to the same URL.
"""

from __future__ import annotations

import asyncio
import math
import ssl
import time
from collections.abc import Sequence
from typing import Any, Final

import orjson

from flashctl.core.engine import jwt
from flashctl.core.jsonrpc.errors import ErrorCode, RpcError
from flashctl.core.jsonrpc.exact import loads_exact
from flashctl.core.jsonrpc.json_bounds import LARGE_BYTES, count_values
from flashctl.core.jsonrpc.repeatable import is_repeatable
from flashctl.core.net.http1 import DEFAULT_LIMITS, ClientLimits, HttpClient, Reply
from flashctl.core.net.httpx_client import HttpxClient
from flashctl.core.net.upstream_errors import InvalidAnswer, RefusedCredentials, UpstreamRefused
from flashctl.errors import ProtocolError, UsageError

__all__ = ["FORWARD_LIMITS", "JsonRpcClient", "parse_reply"]

FORWARD_LIMITS: Final = ClientLimits(connections=32)
"""For a pool that strangers' requests go through: what one node is asked at a time, and a line behind it."""

MAX_CHECKED_BYTES: Final = 64 * 1024
"""Relayed answers up to this are parsed to see whether they are one; the ends of longer ones are."""

MAX_RETRY_AFTER_S: Final = 3600.0


class JsonRpcClient:
    """Calls to one endpoint."""

    exact: bool = False
    """Whether integers beyond 64 bits and fractions in results keep their text, for results that are handed
    on; they are then `orjson.Fragment`s."""

    def __init__(
        self,
        url: str,
        *,
        jwt_secret: bytes | jwt.JwtSecret | None = None,
        timeout_s: float = 10.0,
        headers: Sequence[tuple[str, str]] = (),
        limits: ClientLimits = DEFAULT_LIMITS,
        tls: ssl.SSLContext | None = None,
        max_values: int | None = None,
    ) -> None:
        """Nothing is connected yet.

        Args:
            url: http or https; without a scheme http. `user:password@` is sent as Basic credentials.
            jwt_secret: send an engine token, minted per request.
            timeout_s: for each exchange, not counting a wait for a free connection.
            headers: sent with every request.
            limits: see `ClientLimits`.
            tls: for https, instead of the system's trust store.
            max_values: answers with more JSON values are refused unparsed; see `core.json_bounds`.

        Raises:
            UsageError: If the URL is not one, or there are two kinds of credentials.
        """
        self._http: HttpClient | HttpxClient = HttpClient(url, timeout_s=timeout_s, limits=limits, tls=tls)
        if jwt_secret is not None and self._http.endpoint.authorization is not None:
            raise UsageError(
                f"{self.url}: a JWT secret and a user in the URL, where a request has room for one of them",
                hint="take user:password@ out of the URL",
            )
        self._jwt_secret = jwt_secret
        self._headers = tuple((name.encode(), value.encode()) for name, value in headers)
        self._max_values = max_values
        self._next_id = 0

    @property
    def url(self) -> str:
        """Where calls go, as it may be shown."""
        return self._http.endpoint.shown

    async def call(self, method: str, params: Sequence[Any] = (), *, timeout_s: float | None = None) -> Any:
        """The `result` of one call.

        Raises:
            RpcError: If the server answered with an error.
            UpstreamFailure: If it did not answer properly.
        """
        identity = self._take_id()
        request = {"jsonrpc": "2.0", "id": identity, "method": method, "params": list(params)}
        body = await self.post_raw(
            orjson.dumps(request), timeout_s=timeout_s, repeatable=is_repeatable(method)
        )
        reply = await self._read(body)
        if not isinstance(reply, dict):
            raise InvalidAnswer(f"{self.url} answered {method} with something other than a JSON-RPC response")
        if "error" not in reply and reply.get("id") != identity:
            raise InvalidAnswer(f"{self.url} answered {method} with another request's id")
        return self._result(reply, method)

    async def batch(
        self, calls: Sequence[tuple[str, Sequence[Any]]], *, timeout_s: float | None = None
    ) -> list[Any]:
        """The results of many calls made in one request, in their order; an error as an `RpcError` value.

        Raises:
            RpcError: If the server refused the batch as a whole.
            UpstreamFailure: If it did not answer properly, be it one of the calls.
        """
        outcomes = await self.outcomes(calls, timeout_s=timeout_s)
        for outcome in outcomes:
            if isinstance(outcome, InvalidAnswer):
                # Another one: the traceback of this would hold the frame that holds it.
                raise InvalidAnswer(str(outcome))
        return outcomes

    async def outcomes(
        self, calls: Sequence[tuple[str, Sequence[Any]]], *, timeout_s: float | None = None
    ) -> list[Any]:
        """As `batch`; a call that was left unanswered among others that were not is an `InvalidAnswer` value.
        For calls with an effect: what the server says about one is not lost because of another.

        Raises:
            RpcError: If the server refused the batch as a whole.
            UpstreamFailure: If it answered none of the calls properly.
        """
        if not calls:
            return []
        first = self._take_id(len(calls))
        requests = [
            {"jsonrpc": "2.0", "id": first + place, "method": method, "params": list(params)}
            for place, (method, params) in enumerate(calls)
        ]
        repeatable = all(is_repeatable(method) for method, _ in calls)
        replies = await self._read(
            await self.post_raw(orjson.dumps(requests), timeout_s=timeout_s, repeatable=repeatable)
        )
        if isinstance(replies, dict):
            self._result(replies, "batch")
        if not isinstance(replies, list):
            raise InvalidAnswer(f"{self.url} did not answer a batch with a batch")
        by_id = {
            identity: reply
            for reply in replies
            if isinstance(reply, dict) and isinstance(identity := reply.get("id"), int)
        }
        results: list[Any] = []
        for place, (method, _) in enumerate(calls):
            reply = by_id.get(first + place)
            # Not raised and caught: the traceback of an error in a list that its own frame holds is a cycle,
            # and that frame holds the whole answer.
            if reply is None:
                results.append(InvalidAnswer(f"{self.url} left {method} of a batch unanswered"))
            elif reply.get("error") is not None:
                results.append(_error_of(reply))
            elif "result" not in reply:
                results.append(InvalidAnswer(f"{self.url}: {_no_result(method)}"))
            else:
                results.append(reply["result"])
        if all(isinstance(result, InvalidAnswer) for result in results):
            raise InvalidAnswer(f"{self.url} answered no call of a batch")
        return results

    async def relay(self, method: str, request: bytes, *, timeout_s: float | None = None) -> bytes:
        """One request's bytes out, the bytes of its answer back, which is a JSON-RPC response by its looks.

        Raises:
            UpstreamFailure: If there was no such answer.
        """
        body = await self.post_raw(request, timeout_s=timeout_s, repeatable=is_repeatable(method))
        if not _looks_like_a_response(body):
            raise InvalidAnswer(f"{self.url} answered {method} with something other than a JSON-RPC response")
        return body

    async def post_raw(
        self, body: bytes, *, timeout_s: float | None = None, repeatable: bool = False
    ) -> bytes:
        """One request's bytes out, the reply's bytes back, neither looked at.

        Args:
            body: the request.
            timeout_s: instead of the client's.
            repeatable: whether the request may arrive twice; see `HttpClient.post`.

        Raises:
            UpstreamFailure: If there was no usable reply.
        """
        headers = self._headers
        if self._jwt_secret is not None:
            headers = (*headers, (b"authorization", jwt.bearer(self._jwt_secret, time.time())))
        reply = await self._http.post(body, headers=headers, timeout_s=timeout_s, repeatable=repeatable)
        if reply.status != 200:
            self._refuse_status(reply)
        return reply.body

    async def close(self) -> None:
        """Drop all connections."""
        await self._http.close()

    def _take_id(self, count: int = 1) -> int:
        first = self._next_id + 1
        self._next_id += count
        return first

    async def _read(self, body: bytes) -> Any:
        """The JSON of an answer, a large one read beside the loop."""
        if len(body) <= LARGE_BYTES:
            return self._load(body)
        return await asyncio.to_thread(self._load, body)

    def _load(self, body: bytes) -> Any:
        most = self._max_values
        if most is not None and count_values(body, most) > most:
            raise InvalidAnswer(f"{self.url} answered with more than {most} values")
        try:
            return loads_exact(body) if self.exact else orjson.loads(body)
        except orjson.JSONDecodeError:
            raise InvalidAnswer(f"{self.url} did not answer with JSON") from None

    def _result(self, reply: dict[str, Any], method: str) -> Any:
        try:
            return parse_reply(reply, method)
        except ProtocolError as error:
            raise InvalidAnswer(f"{self.url}: {error}") from None

    def _refuse_status(self, reply: Reply) -> None:
        """Raise for an HTTP status other than 200, unless the body is a JSON-RPC response all the same."""
        status = reply.status
        if status in (401, 403):
            raise RefusedCredentials(f"{self.url} refused our credentials: {self._reason(reply)}")
        if _looks_like_a_response(reply.body):
            return
        text = f"{self.url} answered HTTP {status}"
        if status == 429 or status >= 500:
            raise UpstreamRefused(text, status, _retry_after(reply.header(b"retry-after")))
        raise InvalidAnswer(text)

    def _reason(self, reply: Reply) -> str:
        """Why credentials were refused. An engine states what is wrong with a token; a gateway's text about
        an API key may quote the key."""
        reason = ""
        if self._jwt_secret is not None:
            reason = reply.body[:100].decode("utf-8", "replace").strip()
        return reason if reason.isprintable() and reason else f"HTTP {reply.status}"


def parse_reply(reply: dict[str, Any], method: str) -> Any:
    """The result held in one response object.

    Raises:
        RpcError: If it holds an error.
        ProtocolError: If it holds neither.
    """
    if reply.get("error") is not None:
        # Without a name: the traceback of an error that its own frame names is a cycle, with the reply in it.
        raise _error_of(reply)
    if "result" not in reply:
        raise ProtocolError(_no_result(method))
    return reply["result"]


def _no_result(method: str) -> str:
    return f"the answer to {method} holds neither result nor error"


def _error_of(reply: dict[str, Any]) -> RpcError:
    error = reply.get("error")
    if not isinstance(error, dict):
        return RpcError(ErrorCode.SERVER_ERROR, "error without a message")
    code, message = error.get("code"), error.get("message")
    return RpcError(
        code if isinstance(code, int) else ErrorCode.SERVER_ERROR,
        message if isinstance(message, str) else "error without a message",
        error.get("data"),
    )


def _looks_like_a_response(body: bytes) -> bool:
    """Whether bytes are a JSON-RPC response, or a batch of them. Gateways answer in JSON of their own, which
    may name keys, and with pages."""
    if len(body) > MAX_CHECKED_BYTES:
        start, end = body[:200].lstrip(), body[-50:].rstrip()
        is_named = b'"jsonrpc"' in start or b'"result"' in start or b'"id"' in start
        return is_named and start[:1] in (b"{", b"[") and end[-1:] in (b"}", b"]")
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return False
    answers = answer if isinstance(answer, list) else [answer]
    return bool(answers) and all(
        isinstance(each, dict) and ("result" in each or isinstance(each.get("error"), dict))
        for each in answers
    )


def _retry_after(value: bytes | None) -> float | None:
    """Seconds; a date (the header's other form) is no number of them."""
    try:
        seconds = float(value or b"nan")
    except ValueError:
        return None
    return min(seconds, MAX_RETRY_AFTER_S) if math.isfinite(seconds) and seconds >= 0 else None
