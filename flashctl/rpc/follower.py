"""The moving part: feeds the overlay from the stream and the node, and tells subscribers what became pending.

One worker owns the overlay. Streams and the follower of the head put their findings into its queue; it takes
them in, executes in a thread of its own so that the event loop goes on answering, and fetches what the
execution lacked. Everybody else reads `overlay.view`, which is replaced whole.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final

from flashctl.core.sequence import (
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
from flashctl.core.stream import Connected, Disconnected, Frame, StreamOptions, subscribe
from flashctl.core.wire import Flashblock, InvalidFlashblock, decode
from flashctl.errors import FlashctlError
from flashctl.rpc.chains import ChainRules
from flashctl.rpc.heads import HeadNews
from flashctl.rpc.node import Node, parse_block
from flashctl.rpc.overlay import Overlay, Update
from flashctl.rpc.reorder import Reorder
from flashctl.rpc.state import CanonicalBlock

__all__ = ["Follower", "StreamCounts"]

_LOG = logging.getLogger(__name__)

MAX_QUEUED: Final = 1000
"""Inputs that may wait for the worker; a minute and more of stream. Beyond it the stream is paused by not
reading."""

MAX_CATCH_UP: Final = 8
"""Blocks fetched one by one when the head has jumped; further back nothing is pending any more."""

RETRY_S: Final = 0.1
"""Before state that the node could not say is asked for again."""

TOLD_POLL_S: Final = 1.0
"""Between looks at the head while the node tells of each new one: a subscription may go silent unnoticed."""


@dataclass(slots=True)
class StreamCounts:
    """What came in, for metrics and health."""

    messages: int = 0
    invalid: int = 0
    anomalies: dict[str, int] = field(default_factory=dict)
    reconnects: int = 0
    connected: int = 0
    """Streams connected at the moment."""
    last_flashblock_s: float | None = None
    """Monotonic time of the last usable message."""
    last_head_s: float | None = None


@dataclass(frozen=True, slots=True)
class _Streamed:
    events: list[Event]


@dataclass(frozen=True, slots=True)
class _Heads:
    blocks: list[CanonicalBlock]


@dataclass(frozen=True, slots=True)
class _Silence:
    pass


_Input = _Streamed | _Heads | _Silence

_ANOMALIES: Final = (Gap, JoinedMid, Duplicate, Equivocation, Inconsistent, Replaced, Rewound)


class Follower:
    """Keeps an overlay current. Start `follow_stream`, `follow_chain` and `work` as tasks."""

    def __init__(
        self,
        overlay: Overlay,
        node: Node,
        rules: ChainRules,
        *,
        poll_interval_s: float,
        stale_after_s: float,
        news_url: str | None = None,
    ) -> None:
        """`news_url` is the node's WebSocket; without it the head is only polled."""
        self.overlay: Final = overlay
        self.counts: Final = StreamCounts()
        self.head_json: dict[str, Any] | None = None
        """The node's head as it shows it."""
        self._node = node
        self._rules = rules
        self._poll_interval_s = poll_interval_s
        self._stale_after_s = stale_after_s
        self._reorder = Reorder()
        self._assembler = Assembler()
        self._inputs: asyncio.Queue[_Input] = asyncio.Queue(MAX_QUEUED)
        self._announced: bytes | None = None
        self._look_now = asyncio.Event()
        self._is_told_ahead = False
        """The node has told of a head that it does not show: behind one URL there may be several nodes."""
        self._news = None if news_url is None else HeadNews(news_url, self._look_now.set)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="overlay")
        self._on_update: list[Callable[[Update], None]] = []
        self._on_heads: list[Callable[[list[dict[str, Any]]], None]] = []

    def on_update(self, callback: Callable[[Update], None]) -> None:
        """Call back for every flashblock executed, in order."""
        self._on_update.append(callback)

    def on_heads(self, callback: Callable[[list[dict[str, Any]]], None]) -> None:
        """Call back with block objects (transaction hashes in them) whenever the canonical head changes."""
        self._on_heads.append(callback)

    @property
    def is_fresh(self) -> bool:
        """Whether the stream has shown a usable flashblock lately."""
        last = self.counts.last_flashblock_s
        return last is not None and time.monotonic() - last < self._stale_after_s

    @property
    def knows_head(self) -> bool:
        """Whether the node has told its head lately."""
        last = self.counts.last_head_s
        return last is not None and time.monotonic() - last < self._stale_after_s + 2 * self._pause_s

    async def close(self) -> None:
        """Stop the thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    # --- the stream ---

    async def follow_stream(self, url: str) -> None:
        """Feed the overlay from one stream, for ever. Several may run: what one has shown, the others repeat.

        Raises:
            FlashctlError: If the URL can never work; see `core.stream`.
        """
        options = StreamOptions(silence_timeout_s=max(15.0, self._stale_after_s * 2))
        async with contextlib.aclosing(subscribe(url, options)) as items:
            async for item in items:
                match item:
                    case Frame():
                        await self._frame(item)
                    case Connected(shown):
                        self.counts.connected += 1
                        _LOG.info("stream connected", extra={"url": shown})
                    case Disconnected(shown, reason, retry_in_s):
                        self.counts.connected = max(0, self.counts.connected - 1)
                        self.counts.reconnects += 1
                        fields = {"url": shown, "reason": reason, "retry_in_s": round(retry_in_s, 2)}
                        _LOG.warning("stream disconnected", extra=fields)

    async def _frame(self, frame: Frame) -> None:
        self.counts.messages += 1
        try:
            flashblock = decode(frame.data, binary=frame.binary)
        except InvalidFlashblock as error:
            self.counts.invalid += 1
            _LOG.warning("message ignored: %s", error)
            return
        for ready in self._reorder.feed(flashblock):
            await self._take(ready, frame.monotonic_ns)

    async def _take(self, flashblock: Flashblock, monotonic_ns: int) -> None:
        events = self._assembler.feed(flashblock, monotonic_ns)
        for event in events:
            if isinstance(event, _ANOMALIES):
                name = type(event).__name__
                self.counts.anomalies[name] = self.counts.anomalies.get(name, 0) + 1
                _LOG.debug("%s", event)
            elif isinstance(event, Accepted):
                self.counts.last_flashblock_s = monotonic_ns / 1e9
        await self._inputs.put(_Streamed(events))

    # --- the chain ---

    async def follow_chain(self) -> None:
        """Look at the node's head, for ever; a node that is away is a warning, not an end."""
        news = None if self._news is None else asyncio.ensure_future(self._news.run())
        try:
            await self._poll()
        finally:
            if news is not None:
                news.cancel()

    async def _poll(self) -> None:
        while True:
            self._is_told_ahead |= self._look_now.is_set()
            self._look_now.clear()
            try:
                if self._rules.chain_id is None:
                    self._rules.connected(await self._node.chain_id())
                if await self._look():
                    self._is_told_ahead = False
                self.counts.last_head_s = time.monotonic()
            except FlashctlError as error:
                _LOG.warning("canonical node: %s", error)
                await asyncio.sleep(min(1.0, 5 * self._poll_interval_s))
            if self.overlay.view is not None and not self.is_fresh:
                await self._inputs.put(_Silence())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pause_s):
                    await self._look_now.wait()

    @property
    def _pause_s(self) -> float:
        """The longest time between two looks at the head."""
        is_told = self._news is not None and self._news.is_live and not self._is_told_ahead
        return max(self._poll_interval_s, TOLD_POLL_S) if is_told else self._poll_interval_s

    async def _look(self) -> bool:
        """Take in the node's head; whether it is another one."""
        newest = await self._node.head()
        head = parse_block(newest)
        if head.hash == self._announced:
            return False
        before = self.overlay.head
        shown = [newest]
        if before is not None and head.number > before.number:
            # The blocks between: pending ones are settled by them, and subscribers want every head.
            first = max(before.number + 1, head.number - MAX_CATCH_UP)
            between = [await self._node.block(number) for number in range(first, head.number)]
            shown = [*between, newest]
        self._announced = head.hash
        self.head_json = newest
        await self._inputs.put(_Heads([parse_block(block) for block in shown]))
        for callback in self._on_heads:
            callback(shown)
        return True

    # --- the worker ---

    async def work(self) -> None:
        """Apply inputs to the overlay, for ever."""
        while True:
            self._apply(await self._inputs.get())
            while not self._inputs.empty():
                self._apply(self._inputs.get_nowait())
            await self._execute()

    def _apply(self, item: _Input) -> None:
        match item:
            case _Silence():
                if not self.is_fresh:
                    self.overlay.expire()
                    _LOG.warning(
                        "stream is silent: pending means latest", extra={"after_s": self._stale_after_s}
                    )
            case _Streamed(events):
                self.overlay.follow(events)
            case _Heads(blocks):
                self.overlay.confirm(blocks)

    async def _execute(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            missing = await loop.run_in_executor(self._thread, self.overlay.step)
            for update in self.overlay.take_updates():
                for callback in self._on_update:
                    callback(update)
            state = self.overlay.canonical
            if not missing or state is None:
                return
            try:
                hopeless = self.overlay.hopeless()
                if hopeless:
                    missing.add(await self._node.touched(state, hopeless))
                await self._node.load(state, missing)
            except FlashctlError as error:
                # What is pending stays; the next input or the pause ends, and it is asked for again.
                _LOG.warning("state of block %d: %s", state.block.number, error)
                await asyncio.sleep(RETRY_S)
                while not self._inputs.empty():
                    self._apply(self._inputs.get_nowait())
