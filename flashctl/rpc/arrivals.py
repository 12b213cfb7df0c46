"""Who waits for which transaction to appear in a flashblock."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from flashctl.rpc.overlay import Update

__all__ = ["Arrivals", "wait_for"]


class Arrivals:
    """Wakes callers when a flashblock holds the transaction they wait for."""

    def __init__(self) -> None:
        self._waiting: dict[bytes, list[asyncio.Event]] = {}

    def on_update(self, update: Update) -> None:
        """Wake those whose transaction a flashblock added."""
        if self._waiting:
            for envelope in update.block.envelopes[update.first_transaction :]:
                for event in self._waiting.get(envelope.hash, ()):
                    event.set()

    @contextmanager
    def expect(self, transaction_hash: bytes) -> Iterator[asyncio.Event]:
        """An event that is set when the transaction arrives; register before asking whether it has."""
        event = asyncio.Event()
        self._waiting.setdefault(transaction_hash, []).append(event)
        try:
            yield event
        finally:
            events = self._waiting[transaction_hash]
            events.remove(event)
            if not events:
                del self._waiting[transaction_hash]


async def wait_for(event: asyncio.Event, timeout_s: float) -> bool:
    """Whether `event` was set within `timeout_s` seconds."""
    try:
        async with asyncio.timeout(timeout_s):
            return await event.wait()
    except TimeoutError:
        return False
