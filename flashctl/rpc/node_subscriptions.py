"""`eth_subscribe` kinds that do not depend on the overlay: forwarded from the node's WebSocket.

`newPendingTransactions`, `syncing`, and any others of the node. Clients with equal parameters share one
connection, renewed whenever it is lost, until the last of them leaves.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from typing import Any, Final

import orjson
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from flashctl.core.flashblocks.client import Backoff
from flashctl.core.jsonrpc.errors import ErrorCode, RpcError
from flashctl.core.jsonrpc.methods import Subscription
from flashctl.core.net.upstream_errors import InvalidAnswer, Unreachable
from flashctl.core.net.urls import mask_url
from flashctl.core.service import defects
from flashctl.errors import FlashctlError

__all__ = ["NodeSubscriptions"]

_LOG = logging.getLogger(__name__)

MAX_FEEDS: Final = 64
"""Distinct subscriptions, each with a connection to the node."""

MAX_MESSAGE_BYTES: Final = 16 * 1024 * 1024

_BACKOFF: Final = Backoff(initial_s=0.5, maximum_s=30.0)

_PATIENCE_S: Final = 10.0
"""For the connection, for the node's answer, and for a pong."""


class NodeSubscriptions:
    """All subscriptions of the overlay's clients at the node. Used on the event loop."""

    def __init__(self, url: str | None) -> None:
        """`url` is the node's WebSocket; None if not configured."""
        self._url = url
        self._feeds: dict[bytes, _Feed] = {}

    async def subscribe(self, kind: str, params: list[Any], subscription: Subscription) -> None:
        """Forward the node's notifications to a subscriber.

        Raises:
            RpcError: If the node rejects it, or has no WebSocket configured.
            Unreachable, InvalidAnswer: If its answer is missing or malformed.
        """
        if self._url is None:
            raise RpcError(
                ErrorCode.METHOD_NOT_FOUND,
                f'no "{kind[:100]}" subscription in eth namespace: the node\'s WebSocket is not set',
            )
        question = orjson.dumps([kind, *params])
        feed = self._feeds.get(question)
        if feed is None:
            if len(self._feeds) >= MAX_FEEDS:
                raise RpcError(ErrorCode.LIMIT_EXCEEDED, "too many different subscriptions at the node")
            feed = self._feeds[question] = _Feed(self._url, question, self._forget)
        await feed.join(subscription)

    def _forget(self, feed: _Feed) -> None:
        if self._feeds.get(feed.question) is feed:
            del self._feeds[feed.question]

    async def close(self) -> None:
        """Close the connections to the node."""
        for feed in tuple(self._feeds.values()):
            feed.end()


class _Feed:
    """One subscription at the node, shared by clients with equal parameters."""

    def __init__(self, url: str, question: bytes, forget: Callable[[_Feed], None]) -> None:
        """`forget` is called when it ends."""
        self.question: Final = question
        self._url = url
        self._forget = forget
        self._request = b'{"jsonrpc":"2.0","id":1,"method":"eth_subscribe","params":' + question + b"}"
        self._subscribers: set[Subscription] = set()
        self._accepted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task = asyncio.ensure_future(self._run())

    async def join(self, subscription: Subscription) -> None:
        """Add a subscriber, once the node has confirmed the subscription."""
        self._subscribers.add(subscription)
        subscription.on_close(lambda: self._leave(subscription))
        await asyncio.shield(self._accepted)

    def end(self) -> None:
        """Close the connections to the node."""
        self._forget(self)
        self._task.cancel()
        if not self._accepted.done():
            self._refuse(Unreachable("closing"))

    def _refuse(self, error: FlashctlError) -> None:
        self._accepted.set_exception(error)
        self._accepted.exception()  # retrieved, in case no client awaits it

    def _leave(self, subscription: Subscription) -> None:
        self._subscribers.discard(subscription)
        if not self._subscribers:
            self.end()

    async def _run(self) -> None:
        failures, shown = 0, mask_url(self._url)
        while True:
            try:
                await self._listen()
                reason: Exception = Unreachable("closed")
            except (OSError, TimeoutError, WebSocketException, FlashctlError) as error:
                reason = error
            except Exception as error:
                defects.caught("rpc.node_subscriptions", error)
                reason = InvalidAnswer(type(error).__name__)
            if not self._accepted.done():
                # No client is confirmed yet: waiting ones get the error, and the next one may retry.
                self._forget(self)
                self._refuse(
                    reason if isinstance(reason, FlashctlError) else Unreachable(f"{shown}: {reason}")
                )
                return
            level = logging.DEBUG if failures else logging.WARNING
            _LOG.log(level, "a subscription at the node was lost: %s", reason, extra={"url": shown})
            await asyncio.sleep(_BACKOFF.delay(failures, random.random()))
            failures += 1

    async def _listen(self) -> None:
        async with connect(
            self._url,
            open_timeout=_PATIENCE_S,
            ping_interval=_PATIENCE_S,
            ping_timeout=_PATIENCE_S,
            close_timeout=1.0,
            max_size=MAX_MESSAGE_BYTES,
            compression=None,
        ) as socket:
            await socket.send(self._request, text=True)
            async with asyncio.timeout(_PATIENCE_S):
                early = await _agreed(socket)
            if not self._accepted.done():
                self._accepted.set_result(None)
            for message in early:
                self._tell(message)
            async for message in socket:
                try:
                    self._tell(orjson.loads(message))
                except orjson.JSONDecodeError:
                    raise InvalidAnswer("the node's WebSocket sends no JSON") from None

    def _tell(self, message: Any) -> None:
        params = message.get("params") if isinstance(message, dict) else None
        if isinstance(params, dict) and "result" in params:
            for subscription in tuple(self._subscribers):
                subscription.notify(params["result"])


async def _agreed(socket: ClientConnection) -> list[Any]:
    """Wait for the node's confirmation; returns the notifications received before it.

    Raises:
        RpcError: If the node rejects the subscription.
        InvalidAnswer: If there is no confirmation.
    """
    early: list[Any] = []
    while len(early) < 1000:
        try:
            message = orjson.loads(await socket.recv())
        except orjson.JSONDecodeError:
            raise InvalidAnswer("the node's WebSocket sends no JSON") from None
        if not isinstance(message, dict):
            break
        if message.get("method") == "eth_subscription":
            early.append(message)
            continue
        if isinstance(message.get("result"), str):
            return early
        error = message.get("error")
        if isinstance(error, dict) and isinstance(error.get("code"), int):
            raise RpcError(error["code"], str(error.get("message"))[:1000], error.get("data"))
        break
    raise InvalidAnswer("the node's WebSocket answers no subscription")
