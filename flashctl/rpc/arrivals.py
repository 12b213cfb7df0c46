"""Who waits for which transaction to appear in a flashblock."""

from __future__ import annotations

import asyncio

from flashctl.ethrpc import tx_waiters as arrivals
from flashctl.rpc.overlay import Update

__all__ = ["Arrivals", "wait_for"]


class Arrivals(arrivals.Arrivals):
    """Wakes callers when a flashblock holds the transaction they wait for."""

    def on_update(self, update: Update) -> None:
        """Wake those whose transaction a flashblock added."""
        self.arrived(envelope.hash for envelope in update.block.envelopes[update.first_transaction :])


async def wait_for(event: asyncio.Event, timeout_s: float) -> bool:
    """Whether `event` was set within `timeout_s` seconds."""
    try:
        async with asyncio.timeout(timeout_s):
            return await event.wait()
    except TimeoutError:
        return False
