"""One WebSocket client: requests in, answers and notifications out through one bounded queue.

Everything sent to a client passes its queue, so a response always precedes the notifications of the
subscription it announces, and a client that does not read costs a bounded number of bytes before it is
cut off. Requests of one connection are answered concurrently, up to a limit.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final

import orjson

from flashctl.core.jsonrpc.dispatch import Dispatcher, RpcLimits
from flashctl.core.jsonrpc.errors import ErrorCode, RpcError
from flashctl.core.jsonrpc.outbound import SMALL_BYTES, OutboundShare

__all__ = ["RpcSession"]

PAUSE_BYTES: Final = 1024 * 1024
"""So much queued, and no further request of the connection is begun."""

Send = Callable[[bytes], Awaitable[None]]
"""Puts one text message on the wire, waiting while the socket is full."""


class RpcSession:
    """The server's side of one WebSocket connection; implements `SubscriptionOwner`."""

    def __init__(self, dispatcher: Dispatcher, limits: RpcLimits, send: Send, share: OutboundShare) -> None:
        self._dispatcher = dispatcher
        self._limits = limits
        self._send = send
        self._share = share
        self._queue: deque[bytes] = deque()
        self._queued_bytes = 0
        """With the message that is being written."""
        self._wake = asyncio.Event()
        self._has_room = asyncio.Event()
        self._has_room.set()
        """Cleared while so much is queued that no further request is begun."""
        self.overflowed = asyncio.Event()
        """Set when the client let its queue pass the limit; the connection must then be dropped."""
        self._in_flight = asyncio.Semaphore(limits.in_flight)
        self._requests: set[asyncio.Task[None]] = set()
        self._subscriptions: dict[str, _Subscription] = {}

    async def receive(self, message: bytes) -> None:
        """Start answering one message; waits while as many as the limit are being answered, or the client
        does not read the answers it has."""
        await self._in_flight.acquire()
        await self._has_room.wait()
        task = asyncio.create_task(self._answer(message))
        self._requests.add(task)
        task.add_done_callback(self._requests.discard)

    async def _answer(self, message: bytes) -> None:
        call = _CallSubscriptions(self)
        try:
            reply = await self._dispatcher.handle(message, call)
            if reply is not None:
                self.enqueue(reply)
            call.activate()
        finally:
            self._in_flight.release()

    async def write_queued(self) -> None:
        """Send what is queued, until cancelled."""
        while True:
            while self._queue:
                frame = self._queue.popleft()
                await self._send(frame)
                self._queued_bytes -= len(frame)
                self._share.sub(len(frame))
                if self._queued_bytes <= PAUSE_BYTES:
                    self._has_room.set()
            self._wake.clear()
            await self._wake.wait()

    def enqueue(self, frame: bytes) -> None:
        """Queue one message; over the limit everything queued is dropped and the connection will end."""
        if self.overflowed.is_set():
            return
        self._queue.append(frame)
        self._queued_bytes += len(frame)
        if self._queued_bytes > PAUSE_BYTES:
            self._has_room.clear()
        has_room = self._share.add(len(frame)) or self._queued_bytes <= SMALL_BYTES
        # Always room for one message, however long: a large answer is not a slow client.
        if not has_room or (self._queued_bytes > self._limits.outbound_bytes and len(self._queue) > 1):
            self.overflowed.set()
            self._queue.clear()
            self._share.release()
        self._wake.set()

    def add(self, namespace: str) -> _Subscription:
        if len(self._subscriptions) >= self._limits.subscriptions:
            raise RpcError(
                ErrorCode.LIMIT_EXCEEDED, f"too many subscriptions (limit {self._limits.subscriptions})"
            )
        subscription = _Subscription(self, namespace)
        self._subscriptions[subscription.id] = subscription
        return subscription

    def remove(self, subscription_id: str) -> bool:
        subscription = self._subscriptions.pop(subscription_id, None)
        if subscription is None:
            return False
        subscription.end()
        return True

    def end(self) -> None:
        """The connection is gone: cancel its requests and close its subscriptions."""
        self.overflowed.set()
        self._queue.clear()
        self._share.release()
        for task in tuple(self._requests):
            task.cancel()
        for subscription_id in tuple(self._subscriptions):
            self.remove(subscription_id)


class _CallSubscriptions:
    """One message being answered: the subscriptions it opens speak only after its response."""

    __slots__ = ("_opened", "_session")

    def __init__(self, session: RpcSession) -> None:
        self._session = session
        self._opened: list[_Subscription] = []

    def subscribe(self, namespace: str) -> _Subscription:
        subscription = self._session.add(namespace)
        self._opened.append(subscription)
        return subscription

    def unsubscribe(self, subscription_id: str) -> bool:
        return self._session.remove(subscription_id)

    def activate(self) -> None:
        for subscription in self._opened:
            subscription.activate()


class _Subscription:
    """See `methods.Subscription`."""

    __slots__ = ("_callbacks", "_held", "_prefix", "_session", "closed", "id")

    def __init__(self, session: RpcSession, namespace: str) -> None:
        self.id = "0x" + secrets.token_hex(16)
        self.closed = False
        self._session = session
        self._held: list[bytes] | None = []
        self._callbacks: list[Callable[[], None]] = []
        self._prefix = (
            f'{{"jsonrpc":"2.0","method":"{namespace}_subscription",'
            f'"params":{{"subscription":"{self.id}","result":'
        ).encode()

    def notify(self, result: Any) -> None:
        if self.closed:
            return
        frame = self._prefix + orjson.dumps(result) + b"}}"
        if self._held is None:
            self._session.enqueue(frame)
        else:
            self._held.append(frame)

    def on_close(self, callback: Callable[[], None]) -> None:
        if self.closed:
            callback()
        else:
            self._callbacks.append(callback)

    def activate(self) -> None:
        held, self._held = self._held, None
        if not self.closed:
            for frame in held or ():
                self._session.enqueue(frame)

    def end(self) -> None:
        self.closed = True
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()
