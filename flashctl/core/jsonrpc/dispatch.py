"""Request bytes in, response bytes out: the whole of JSON-RPC 2.0 between the table and the transport.

Every kind of bad input has an answer: text that is not JSON (-32700), JSON that is not a request (-32600), an
unknown method (-32601), parameters that do not fit (-32602), and an unexpected exception of a handler
(-32603, one line in the log). Batches are limited in length and in the size of their answer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final, Protocol

import orjson

from flashctl.core.jsonrpc.errors import (
    ErrorCode,
    RpcError,
    error_object,
    invalid_params,
    invalid_request,
    method_not_found,
    rpc_error_for,
)
from flashctl.core.jsonrpc.exact import exact
from flashctl.core.jsonrpc.json_bounds import count_values
from flashctl.core.jsonrpc.methods import Fallback, Methods, PassOn, SubscribeHandler, Subscription
from flashctl.core.jsonrpc.namespaces import EVERYTHING, allows
from flashctl.core.jsonrpc.slices import LoopSlices
from flashctl.core.net.upstream_errors import InvalidAnswer
from flashctl.core.service import defects
from flashctl.core.service.log_throttle import Seldom

__all__ = ["DEFAULT_RPC_LIMITS", "Dispatcher", "RpcLimits", "SubscriptionOwner"]

log = logging.getLogger(__name__)

_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"

MAX_DEPTH: Final = 100
"""How deep parameters may be nested: far beyond what any method has use for, and below what orjson writes
(254 levels)."""

_SELDOM = Seldom()


@dataclass(frozen=True, slots=True)
class RpcLimits:
    """What one client may ask of a server."""

    request_bytes: int = 10 * 1024 * 1024
    """Longest HTTP body or WebSocket message. An engine port takes more: a block alone may reach 10 MB."""

    values: int = 100_000
    """JSON values in one HTTP body or WebSocket message (`json_bounds`): 3 MB of empty lists hold the event
    loop for 0.4 s, here and at the service behind it. State overrides of 50,000 slots fit."""

    batch_items: int = 1000
    """Requests in one batch; geth's limit."""

    batch_at_once: int = 16
    """Requests of one batch worked on at once: a share of what an upstream is asked at a time."""

    batch_response_bytes: int = 25 * 1024 * 1024
    """Answers beyond this total become errors; geth's limit."""

    request_s: float = 30.0
    """To receive a whole body, from its first byte; and a request head, from connecting."""

    head_bytes: int = 64 * 1024
    """Request line and headers."""

    connections: int = 10_000
    """Open at once, HTTP and WebSocket together."""

    connections_per_address: int = 1024
    """Of one IPv4 address, or one /64 of IPv6."""

    in_flight: int = 64
    """Requests of one WebSocket connection worked on at once; reading pauses beyond."""

    subscriptions: int = 128
    """Of one WebSocket connection."""

    outbound_bytes: int = 32 * 1024 * 1024
    """Queued for one WebSocket client before it is disconnected as too slow."""

    outbound_total_bytes: int = 128 * 1024 * 1024
    """Answers that clients have not taken yet, all connections together; see `jsonrpc.outbound`."""

    inbound_total_bytes: int = 128 * 1024 * 1024
    """Request bodies half received, all connections together; as much again of WebSocket messages."""

    write_s: float = 20.0
    """How long a client may take nothing of what was written to it."""


DEFAULT_RPC_LIMITS = RpcLimits()


class SubscriptionOwner(Protocol):
    """The connection a request came over, if it can carry notifications."""

    def subscribe(self, namespace: str) -> Subscription:
        """A fresh subscription whose notifications wait until the response is sent."""

    def unsubscribe(self, subscription_id: str) -> bool:
        """End a subscription; False if this connection has none by that id."""


class Dispatcher:
    """Answers requests from a table of methods, and from a fallback what the table lacks."""

    def __init__(
        self,
        methods: Methods,
        *,
        fallback: Fallback | None = None,
        limits: RpcLimits = DEFAULT_RPC_LIMITS,
        namespaces: Collection[str] | None = None,
    ) -> None:
        """Args:
        methods: the table, taken as it stands if there are `namespaces`.
        fallback: answers what the table lacks.
        limits: see `RpcLimits`.
        namespaces: what may be called, from table and fallback alike; None for everything.
        """
        self._methods = methods if namespaces is None else methods.only(namespaces)
        self._namespaces = EVERYTHING if namespaces is None else frozenset(namespaces)
        self._fallback = fallback
        self._limits = limits
        self._slices = LoopSlices()

    async def handle(self, body: bytes, owner: SubscriptionOwner | None = None) -> bytes | None:
        """The response to one message, single or batch; None if it holds notifications only."""
        if not self._slices.may_begin():
            await self._slices.message_turn()
        if body.startswith(_BYTE_ORDER_MARK):
            body = body[len(_BYTE_ORDER_MARK) :]
        most = self._limits.values
        if len(body) > most and count_values(body, most) > most:
            return _failure(None, invalid_request(f"request has too many values (limit {most})"))
        try:
            message = orjson.loads(body)
        except orjson.JSONDecodeError:
            return _failure(None, RpcError(ErrorCode.PARSE_ERROR, "parse error"))
        if isinstance(message, list):
            return await self._batch(message, body, owner)
        if isinstance(message, dict) and type(message.get("id")) is float:
            message["id"] = exact(body, message)["id"]
        return await self._single(message, body, _may_be_deep(body), owner)

    async def _batch(self, items: list[Any], body: bytes, owner: SubscriptionOwner | None) -> bytes | None:
        if not items:
            return _failure(None, invalid_request("empty batch"))
        if len(items) > self._limits.batch_items:
            return _failure(None, invalid_request(f"batch too large (limit {self._limits.batch_items})"))
        replies: list[bytes | None] = [None] * len(items)
        as_sent: list[Any] = exact(body, items)
        numbered = iter(range(len(items)))
        may_be_deep = _may_be_deep(body)
        sharing = self._slices.join()
        size = 0

        async def work() -> None:
            nonlocal size
            while True:
                await sharing.turn()
                place = next(numbered, -1)
                if place < 0:
                    return
                item, sent, text = items[place], as_sent[place], None
                if not isinstance(item, dict):
                    # A thousand of these are 2 kB.
                    replies[place] = _NOT_AN_OBJECT
                    size += len(_NOT_AN_OBJECT)
                    continue
                if size > self._limits.batch_response_bytes:
                    # Not begun: the answer would be cut off, however expensive it was.
                    replies[place] = _too_large(item) if "id" in item else None
                    continue
                if sent is not item:
                    # What is given back, and what is passed on.
                    if "id" in item:
                        item["id"] = sent["id"]
                    text = orjson.dumps(sent)
                reply = await self._single(item, text, may_be_deep, owner)
                size += len(reply or b"")
                if reply is not None and size > self._limits.batch_response_bytes:
                    # Here, not when all are there: sixteen traces of 64 MiB are a gigabyte until then.
                    reply = _failure(
                        _id_of(item), RpcError(ErrorCode.TRANSACTION_REJECTED, "response too large")
                    )
                replies[place] = reply

        # Begun in their order, a few at once: calls to an upstream overlap, while local handlers, which
        # seldom wait, keep the order of the batch.
        async with asyncio.TaskGroup() as group:
            for _ in range(min(len(items), self._limits.batch_at_once)):
                group.create_task(work())
        kept = [reply for reply in replies if reply is not None]
        return b"[" + b",".join(kept) + b"]" if kept else None

    async def _single(
        self, message: Any, text: bytes | None, may_be_deep: bool, owner: SubscriptionOwner | None
    ) -> bytes | None:
        """Answer one request; `text` is its JSON as received, where that exists by itself."""
        try:
            method, params = _read_request(message)
        except RpcError as error:
            return _failure(_id_of(message), error)
        answered = "id" in message
        try:
            if may_be_deep and _is_deeper(params, MAX_DEPTH):
                raise invalid_params(f"parameters are nested deeper than {MAX_DEPTH}")
            reply = await self._handled(method, message.get("id"), params)
            if reply is not None:
                pass
            elif (kinds := self._subscribing(method)) is not None:
                result = await self._subscription_call(method, kinds, _positional(params), owner)
                reply = _success(message.get("id"), result)
            elif self._fallback is not None and allows(self._namespaces, method):
                reply = await self._fallback(method, orjson.dumps(message) if text is None else text)
            else:
                raise method_not_found(method)
        except Exception as error:
            # The one catch-all of the server: a handler's bug costs its request, not the service.
            return _failure(message.get("id"), _explain(error, method)) if answered else None
        return reply if answered else None

    async def _handled(self, method: str, identity: Any, params: Any) -> bytes | None:
        """What a handler of the table answers; None if there is none, or it leaves the request to others."""
        handler = self._methods.find(method)
        if handler is None:
            return None
        try:
            return _success(identity, await handler(_positional(params)))
        except PassOn:
            return None

    def _subscribing(self, method: str) -> dict[str, SubscribeHandler] | None:
        namespace, _, verb = method.partition("_")
        return self._methods.subscriptions(namespace) if verb in ("subscribe", "unsubscribe") else None

    async def _subscription_call(
        self,
        method: str,
        kinds: dict[str, SubscribeHandler],
        params: list[Any],
        owner: SubscriptionOwner | None,
    ) -> Any:
        if owner is None:
            raise RpcError(ErrorCode.METHOD_NOT_FOUND, "notifications not supported")
        namespace, _, verb = method.partition("_")
        if not params or not isinstance(params[0], str):
            raise invalid_params(
                "expected subscription id" if verb == "unsubscribe" else "expected subscription name"
            )
        if verb == "unsubscribe":
            if not owner.unsubscribe(params[0]):
                raise RpcError(ErrorCode.SERVER_ERROR, "subscription not found")
            return True
        handler = kinds.get(params[0]) or self._methods.other_subscription(namespace, params[0])
        if handler is None:
            raise RpcError(
                ErrorCode.METHOD_NOT_FOUND, f'no "{params[0][:100]}" subscription in {namespace} namespace'
            )
        subscription = owner.subscribe(namespace)
        try:
            await handler(params[1:], subscription)
        except BaseException:
            owner.unsubscribe(subscription.id)
            raise
        return subscription.id


def _may_be_deep(body: bytes) -> bool:
    """Whether a message has brackets enough to be nested beyond MAX_DEPTH; nearly none has."""
    return body.count(b"[") + body.count(b"{") > MAX_DEPTH


def _is_deeper(value: Any, limit: int) -> bool:
    level: list[Any] = [[value]]
    for _ in range(limit + 1):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return False
    return True


def _read_request(message: Any) -> tuple[str, Any]:
    if not isinstance(message, dict):
        raise invalid_request("not a request object")
    method = message.get("method")
    if not isinstance(method, str) or not method:
        raise invalid_request("missing method")
    # Absent is tolerated, as by every Ethereum client; another version is not.
    if message.get("jsonrpc", "2.0") != "2.0":
        raise invalid_request("unsupported JSON-RPC version")
    if isinstance(message.get("id"), dict | list | bool):
        raise invalid_request("invalid request id")
    return method, message.get("params")


def _positional(params: Any) -> list[Any]:
    if params is None:
        return []
    if not isinstance(params, list):
        raise invalid_params("non-array args")
    return params


def _id_of(message: Any) -> Any:
    identity = message.get("id") if isinstance(message, dict) else None
    return None if isinstance(identity, dict | list | bool) else identity


def _success(identity: Any, result: Any) -> bytes:
    return orjson.dumps({"jsonrpc": "2.0", "id": identity, "result": result})


def _failure(identity: Any, error: RpcError) -> bytes:
    body = {"jsonrpc": "2.0", "id": identity, "error": error.to_json()}
    try:
        return orjson.dumps(body)
    except orjson.JSONEncodeError:
        body["error"] = error_object(error.code, error.message)
        return orjson.dumps(body)


_NOT_AN_OBJECT: Final = _failure(None, invalid_request("not a request object"))


def _too_large(item: Any) -> bytes:
    """The answer to a request of a batch whose answers are longer than they may be."""
    return _failure(_id_of(item), RpcError(ErrorCode.TRANSACTION_REJECTED, "response too large"))


def _explain(error: Exception, method: str) -> RpcError:
    known = rpc_error_for(error)
    if known is not None:
        _log_detail(error, known, method)
        return known
    if isinstance(error, orjson.JSONEncodeError) and "Recursion limit" in str(error):
        # Parameters are not that deep: it is what some upstream answered.
        return RpcError(ErrorCode.SERVER_ERROR, InvalidAnswer.public_text)
    defects.caught("jsonrpc.request", error, method)
    return RpcError(ErrorCode.INTERNAL_ERROR, "internal error")


def _log_detail(error: Exception, known: RpcError, method: str) -> None:
    """Log what the caller does not get to see, for the operator."""
    if isinstance(error, RpcError) or known.message == str(error):
        return
    text = f"{type(error).__name__}: {error}"
    if times := _SELDOM.due(text):
        log.warning("%s failed: %s", method[:100], text, extra={"times": times})
