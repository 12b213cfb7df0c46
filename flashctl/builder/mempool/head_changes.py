"""The pool follows the chain: what a new head settled goes, what a reorganisation undid comes back.

A head may be thousands of blocks from the one before, and one block settles thousands of transactions, so
the event loop does this a little at a time, beside everything else; nothing waits for it. Until it is done a
build is not misled: it starts at the nonces in its state.

Blocks are bounded on both sides. What older ones settled is met when its sender is heard of, or expires;
what a deep reorganisation undid is nobody's to send again (geth stops at 64 blocks, too).
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
"""Of one change of the head, the newest."""

MAX_REINJECTED_BLOCKS: Final = 64
"""Of one change of the head, the oldest: those above them continue their chains of nonces."""

MAX_REINJECTED: Final = 10_000
"""Transactions of one change: as many as a pool of the usual size holds."""

MAX_CHANGES: Final = 64
"""Changes waiting their turn. The pool loses nothing by an older one that it does not see."""

SLICE_S: Final = 0.002
"""How long the loop is held at a stretch."""


class MempoolUpdater:
    """Brings a pool up to date with every change of the head. `run` it on the event loop."""

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
        """Wait until the pool has followed every change so far."""
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
                    # Of one change; the next ones are followed.
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
    """Of blocks, in order; reads them from the database, perhaps."""
    return [envelope for block in blocks for envelope in block.envelopes]
