"""The overlay's worker: feeds the overlay from stream and node, and notifies subscribers of pending blocks.

One worker owns the overlay. Streams and the chain follower put their input into its queue; it applies them,
executes and settles in a thread of its own so that the event loop stays responsive, and fetches missing
state. Other code reads `overlay.view`, which is replaced atomically.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Final, TypeVar

from flashctl.core.flashblocks.client import Connected, Disconnected, StreamFrame, StreamOptions, subscribe
from flashctl.core.flashblocks.reorder import Reorder
from flashctl.core.flashblocks.sequence import (
    Accepted,
    Assembler,
    Duplicate,
    Equivocation,
    Event,
    Gap,
    Inconsistent,
    JoinedMid,
    Replaced,
    Rewound,
)
from flashctl.core.flashblocks.wire import Flashblock, InvalidFlashblock, decode
from flashctl.core.service import defects
from flashctl.remote.state import CanonicalBlock
from flashctl.remote.state_fetcher import StateFetcher
from flashctl.remote.upstream_client import UpstreamClient
from flashctl.rpc.overlay import Overlay, Update

__all__ = ["OverlayWorker", "StreamCounts"]

_T = TypeVar("_T")

_LOG = logging.getLogger(__name__)

MAX_QUEUED: Final = 1000
"""Queued inputs, more than a minute of stream. Beyond it the stream is paused by not reading."""

MAX_SILENCE_CHECK_S: Final = 0.5
"""Between checks for a silent stream."""


@dataclass(slots=True)
class StreamCounts:
    """Input counts, for metrics and health."""

    messages: int = 0
    invalid: int = 0
    anomalies: dict[str, int] = field(default_factory=dict)
    reconnects: int = 0
    connected: int = 0
    """Streams connected at the moment."""
    last_flashblock_s: float | None = None
    """Monotonic time of the last flashblock in sequence."""


@dataclass(frozen=True, slots=True)
class _StreamInput:
    events: list[Event]


@dataclass(frozen=True, slots=True)
class _Heads:
    blocks: list[CanonicalBlock]


@dataclass(frozen=True, slots=True)
class _Arrived:
    pass


_Input = _StreamInput | _Heads | _Arrived

_ANOMALIES: Final = (Gap, JoinedMid, Duplicate, Equivocation, Inconsistent, Replaced, Rewound)


class OverlayWorker:
    """Keeps an overlay current. Run `follow_stream` and `work` as tasks; pass heads to `take_heads`."""

    def __init__(self, overlay: Overlay, node: UpstreamClient, *, stale_after_s: float) -> None:
        """`node` provides state; silence of the stream for `stale_after_s` empties pending."""
        self.overlay: Final = overlay
        self.counts: Final = StreamCounts()
        self.fetcher: Final = StateFetcher(node, self._arrived)
        self._stale_after_s = stale_after_s
        self._silence_check_s = min(MAX_SILENCE_CHECK_S, stale_after_s / 4)
        self._reorder = Reorder[Flashblock](lambda flashblock: flashblock)
        self._assembler = Assembler()
        self._inputs: asyncio.Queue[_Input] = asyncio.Queue(MAX_QUEUED)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="overlay")
        self._on_update: list[Callable[[Update], None]] = []

    def on_update(self, callback: Callable[[Update], None]) -> None:
        """Call back for every flashblock executed, in order."""
        self._on_update.append(callback)

    @property
    def is_fresh(self) -> bool:
        """Whether the stream has delivered a usable flashblock recently."""
        last = self.counts.last_flashblock_s
        return last is not None and time.monotonic() - last < self._stale_after_s

    async def take_heads(self, blocks: list[CanonicalBlock]) -> None:
        """The canonical chain has grown or changed; see `Overlay.confirm`."""
        await self._inputs.put(_Heads(blocks))

    async def close(self) -> None:
        """Stop the thread and the fetches."""
        await self.fetcher.close()
        self._thread.shutdown(wait=False, cancel_futures=True)

    # --- the stream ---

    async def follow_stream(self, url: str) -> None:
        """Feed the overlay from one stream until cancelled. Several may run: duplicates are dropped.

        Raises:
            FlashctlError: If the URL can never work; see `core.flashblocks.client`.
        """
        options = StreamOptions(silence_timeout_s=max(15.0, self._stale_after_s * 2))
        is_connected = False
        try:
            async with contextlib.aclosing(subscribe(url, options)) as items:
                async for item in items:
                    match item:
                        case StreamFrame():
                            await self._frame(item)
                        case Connected(shown):
                            is_connected = True
                            self.counts.connected += 1
                            _LOG.info("stream connected", extra={"url": shown})
                        case Disconnected(shown, reason, retry_in_s):
                            self.counts.connected -= is_connected
                            is_connected = False
                            self.counts.reconnects += 1
                            fields = {"url": shown, "reason": reason, "retry_in_s": round(retry_in_s, 2)}
                            _LOG.warning("stream disconnected", extra=fields)
        finally:
            self.counts.connected -= is_connected

    async def _frame(self, frame: StreamFrame) -> None:
        self.counts.messages += 1
        try:
            streamed = self._read(frame)
        except InvalidFlashblock as error:
            self.counts.invalid += 1
            _LOG.warning("message ignored: %s", error)
            return
        except Exception as error:
            self.counts.invalid += 1
            defects.caught("rpc.message", error)
            return
        for item in streamed:
            await self._inputs.put(item)

    def _read(self, frame: StreamFrame) -> list[_StreamInput]:
        flashblock = decode(frame.data, binary=frame.binary)
        now_ns = frame.monotonic_ns
        return [self._take(ready, now_ns) for ready in self._reorder.feed(flashblock, now_ns)]

    def _take(self, flashblock: Flashblock, monotonic_ns: int) -> _StreamInput:
        events = self._assembler.feed(flashblock, monotonic_ns)
        for event in events:
            if isinstance(event, _ANOMALIES):
                name = type(event).__name__
                self.counts.anomalies[name] = self.counts.anomalies.get(name, 0) + 1
                _LOG.debug("%s", event)
            elif isinstance(event, Accepted):
                self.counts.last_flashblock_s = monotonic_ns / 1e9
        return _StreamInput(events)

    # --- the worker ---

    async def work(self) -> None:
        """Apply inputs to the overlay until cancelled."""
        while True:
            first: _Input = _Arrived()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._silence_check_s):
                    first = await self._inputs.get()
            await self._apply(first)
            while not self._inputs.empty():
                await self._apply(self._inputs.get_nowait())
            if not self.is_fresh and not self.overlay.is_empty:
                fields = {"after_s": self._stale_after_s}
                _LOG.warning("stream is silent: pending means latest", extra=fields)
                self.overlay.expire()
            await self._execute()

    async def _apply(self, item: _Input) -> None:
        match item:
            case _StreamInput(events):
                self.overlay.follow(events)
            case _Heads(blocks):
                # It hashes all receipts and copies the known state: tens of milliseconds.
                await self._in_thread(partial(self.overlay.confirm, blocks))
            case _Arrived():
                pass

    async def _execute(self) -> None:
        """Execute as far as the known state allows, and start fetching the rest, without waiting."""
        overlay = self.overlay
        missing = await self._in_thread(overlay.step)
        for update in overlay.take_updates():
            for callback in self._on_update:
                try:
                    callback(update)
                except Exception as error:
                    defects.caught("rpc.on_update", error)
        if missing and overlay.canonical is not None:
            self.fetcher.want(overlay.canonical, missing)
            if hopeless := overlay.hopeless():
                self.fetcher.want_touched(overlay.canonical, hopeless)

    async def _in_thread(self, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _arrived(self) -> None:
        """State has arrived: execution can continue even without an input."""
        if self._inputs.empty():
            self._inputs.put_nowait(_Arrived())
