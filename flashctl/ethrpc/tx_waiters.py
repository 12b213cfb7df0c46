"""Callers that wait for a transaction to appear in a block or flashblock.

Callers wait for a hash and are woken when it is there; between the two they cost nothing. A flashblock may
bring what a thousand of them wait for: they are woken a few in each turn of the event loop.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final

from flashctl.core.jsonrpc.errors import ErrorCode, RpcError

__all__ = ["MAX_WAITING", "TxWaiters", "wait_for"]

MAX_WAITING: Final = 4_096
"""Callers at a time, as many as a server has connections for; each may hold a kilobyte of its own."""

WOKEN_AT_ONCE: Final = 16
"""Callers woken in one turn of the event loop: each then writes a receipt, 100 us."""


class TxWaiters:
    """Wakes callers when the transaction they wait for arrives. Lives on the event loop."""

    def __init__(self, limit: int = MAX_WAITING) -> None:
        self._room = limit
        self._waiting: dict[bytes, list[asyncio.Event]] = {}
        self._due: deque[asyncio.Event] = deque()

    @property
    def is_awaited(self) -> bool:
        """Whether there are waiters."""
        return bool(self._waiting)

    def arrived(self, hashes: Iterable[bytes]) -> None:
        """Wake those whose transaction is among these."""
        if not self._waiting:
            return
        was_idle = not self._due
        for transaction_hash in hashes:
            self._due.extend(self._waiting.get(transaction_hash, ()))
        if was_idle:
            self._wake()

    def _wake(self) -> None:
        for _ in range(min(WOKEN_AT_ONCE, len(self._due))):
            self._due.popleft().set()
        if self._due:
            asyncio.get_running_loop().call_soon(self._wake)

    @contextmanager
    def expect(self, transaction_hash: bytes) -> Iterator[asyncio.Event]:
        """An event that is set when the transaction arrives; begin before asking whether it has.

        Raises:
            RpcError: So many wait that no more may.
        """
        if self._room <= 0:
            raise RpcError(ErrorCode.LIMIT_EXCEEDED, "too many callers wait for their transactions")
        self._room -= 1
        event = asyncio.Event()
        self._waiting.setdefault(transaction_hash, []).append(event)
        try:
            yield event
        finally:
            self._room += 1
            events = self._waiting[transaction_hash]
            events.remove(event)
            if not events:
                del self._waiting[transaction_hash]


async def wait_for(event: asyncio.Event, timeout_s: float | None) -> bool:
    """Whether `event` was set within `timeout_s` seconds; None waits for as long as it takes."""
    try:
        async with asyncio.timeout(timeout_s):
            return await event.wait()
    except TimeoutError:
        return False
