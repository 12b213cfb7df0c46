"""The mempool follows the chain: included transactions leave, those of a reorganisation are reinjected.

A head may be thousands of blocks from the previous one, and one block includes thousands of transactions, so
the event loop does this in small slices, and nothing waits for it. Builds meanwhile stay correct, since they
start at the nonces in their state.

Blocks are bounded on both sides. Transactions included by older ones leave when their sender is next updated,
or expire; those of a deeper reorganisation are not reinjected (geth stops at 64 blocks, too).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Sequence
from typing import Final

from flashctl.builder.mempool.admission import Mempool
from flashctl.chain.chain import ChainBlock, HeadChange
from flashctl.core.service import defects
from flashctl.op.envelope import TxEnvelope

__all__ = ["MAX_REINJECTED_BLOCKS", "MempoolUpdater"]

_LOG = logging.getLogger(__name__)

MAX_SETTLED_BLOCKS: Final = 64
"""Newest blocks processed of one change of the head."""

MAX_REINJECTED_BLOCKS: Final = 64
"""Oldest blocks reinjected of one change of the head: those above continue their chains of nonces."""

MAX_REINJECTED: Final = 10_000
"""Transactions of one change: as many as a mempool of default size holds."""

MAX_CHANGES: Final = 64
"""Queued changes. An older one may be skipped without loss."""

SLICE_S: Final = 0.002
"""Longest slice of work on the event loop."""


class MempoolUpdater:
    """Updates a mempool at every change of the head. `run` it on the event loop."""

    def __init__(self, queue: Mempool) -> None:
        self._queue = queue
        self._changes: deque[HeadChange] = deque(maxlen=MAX_CHANGES)
        self._wanted = asyncio.Event()
        self._settled = asyncio.Event()
        self._settled.set()

    def on_head(self, change: HeadChange) -> None:
        """The head has changed; call on the event loop."""
        self._changes.append(change)
        self._settled.clear()
        self._wanted.set()

    async def idle(self) -> None:
        """Wait until every change so far is processed."""
        await self._settled.wait()

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            await self._wanted.wait()
            while self._changes:
                change = self._changes.popleft()
                try:
                    await self._follow(change)
                except Exception as error:
                    # Costs this change only; the next ones are processed.
                    defects.caught("builder.following", error, f"head {change.head.number}")
            self._wanted.clear()
            self._settled.set()

    async def _follow(self, change: HeadChange) -> None:
        settled = await asyncio.to_thread(_transactions, change.new[-MAX_SETTLED_BLOCKS:])
        undone: list[TxEnvelope] = []
        if change.old:
            oldest_first = change.old[: -MAX_REINJECTED_BLOCKS - 1 : -1]
            hashes = {envelope.hash for envelope in settled}
            undone = [
                envelope
                for envelope in await asyncio.to_thread(_transactions, oldest_first)
                if not envelope.is_deposit and envelope.hash not in hashes
            ][:MAX_REINJECTED]
            _LOG.info(
                "reorganised",
                extra={"dropped": len(change.old), "returning": len(undone), "head": change.head.number},
            )
        slice_end = time.perf_counter() + SLICE_S
        for _ in self._queue.following(settled, undone):
            if time.perf_counter() > slice_end:
                await asyncio.sleep(0)
                slice_end = time.perf_counter() + SLICE_S


def _transactions(blocks: Sequence[ChainBlock]) -> list[TxEnvelope]:
    """The transactions of blocks, in order; may read them from the database."""
    return [envelope for block in blocks for envelope in block.envelopes]
