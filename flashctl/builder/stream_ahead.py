"""Execution ahead of newPayload: an engine that follows a flashblocks stream executes blocks while they grow.

Reads the stream of `--flashblocks-url` (the builder's, boost's or a proxy's) by the sequence rules and passes
its flashblocks to `chain.ahead`. Transactions that the stream lacks, or has different, run at newPayload.
"""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from typing import Final

from flashctl.chain.ahead import BlocksAhead
from flashctl.core.flashblocks.assembly import block_context
from flashctl.core.flashblocks.client import (
    Backoff,
    Connected,
    Disconnected,
    StreamFrame,
    StreamOptions,
    subscribe,
)
from flashctl.core.flashblocks.reorder import Reorder
from flashctl.core.flashblocks.sequence import Accepted, Assembler, Closed, CloseReason, Event, Opened
from flashctl.core.flashblocks.wire import Flashblock, InvalidFlashblock, decode
from flashctl.core.service import defects
from flashctl.errors import DataError

__all__ = ["StreamAhead"]

_LOG = logging.getLogger(__name__)

MAX_PAUSE_S: Final = 1.0
"""Between connection attempts: the stream's server is near, and blocks without it are imported later."""


class StreamAhead:
    """Feeds `BlocksAhead` from a stream. Lives on the event loop; decodes and executes in a thread."""

    def __init__(self, ahead: BlocksAhead) -> None:
        self._ahead = ahead
        self._assembler = Assembler()
        self._reorder = Reorder[Flashblock](lambda flashblock: flashblock)
        self._thread = ThreadPoolExecutor(1, "ahead")
        self._news = asyncio.Event()

    async def follow(self, url: str) -> None:
        """Read the stream until cancelled; blocks are imported without it as well."""
        options = StreamOptions(backoff=Backoff(maximum_s=MAX_PAUSE_S), patient=True)
        async with aclosing(subscribe(url, options)) as items:
            async for item in items:
                match item:
                    case StreamFrame():
                        await self._take(item)
                    case Connected(shown):
                        _LOG.info("stream connected", extra={"url": shown})
                    case Disconnected(shown, reason, retry_in_s):
                        fields = {"url": shown, "reason": reason, "retry_in_s": round(retry_in_s, 2)}
                        _LOG.warning("stream disconnected", extra=fields)

    async def work(self) -> None:
        """Execute what has arrived, until cancelled."""
        while True:
            await self._news.wait()
            self._news.clear()
            await asyncio.get_running_loop().run_in_executor(self._thread, self._ahead.advance)

    def head_moved(self) -> None:
        """The head changed: flashblocks of its child may be waiting for it."""
        self._news.set()

    async def close(self) -> None:
        """Start no further work in the thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _take(self, frame: StreamFrame) -> None:
        loop = asyncio.get_running_loop()
        try:
            flashblock = await loop.run_in_executor(None, _decoded, frame)
        except InvalidFlashblock as error:
            _LOG.debug("message ignored: %s", error)
            return
        except Exception as error:
            defects.caught("builder.stream_ahead", error)
            return
        with defects.contained("builder.stream_ahead"):
            for ready in self._reorder.feed(flashblock, frame.monotonic_ns):
                for event in self._assembler.feed(ready, frame.monotonic_ns):
                    self._apply(event)

    def _apply(self, event: Event) -> None:
        match event:
            case Opened(payload_id, _, base):
                try:
                    context = block_context(base)
                except DataError as error:
                    _LOG.debug("payload %s is not executed ahead: %s", payload_id, error)
                else:
                    self._ahead.open(payload_id, context)
            case Accepted(flashblock):
                self._ahead.append(flashblock.payload_id, flashblock.diff.transactions)
                self._news.set()
            case Closed(payload, CloseReason.REPLACED | CloseReason.REWOUND):
                # After a gap (BROKEN), the flashblocks before it are still the beginning of the block.
                self._ahead.drop(payload.payload_id)
            case _:
                pass


def _decoded(frame: StreamFrame) -> Flashblock:
    return decode(frame.data, binary=frame.binary)
