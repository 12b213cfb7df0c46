"""One stream to many clients: every message is framed once and the same bytes are written to every socket.

The ring (ring.py) holds the recent past, each client is a cursor into it, and clients whose cursor is at the
end share a group (subscriber.py). `publish` appends to the ring and asks for a flush in the same turn of the
event loop; the flush joins what is pending into one buffer and writes it to every socket of every group.
Under load more than one message is pending by the time a flush runs, and then a client costs one system call
for all of them: that is what takes 1,000 clients from 160,000 to over 800,000 deliveries a second.

A client whose socket takes no more leaves its group with its cursor and nothing else: no queue, no copies. It
is served from the ring when the socket drains, and judged every SWEEP_INTERVAL_S by its budget (budget.py).

A client with a deflate context of its own that came in the middle of a block shares the group of those
without one until the next index 0, where the context begins anew for all (encoding.py).

The hub has no sockets: it writes to `Peer`s, and time comes from the clock it is given.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import chain

from flashctl.core.hub.encoding import Encoding, encode
from flashctl.core.hub.framing import CloseCode
from flashctl.core.hub.lag_budget import Lag, LagBudget, LagVerdict, judge
from flashctl.core.hub.ring import UNPLACED, HubMessage, Position, Prepared, Ring, RingLimits
from flashctl.core.hub.stats import HubStats
from flashctl.core.hub.subscriber import Router, Selector, Subscriber, SubscriberGroup
from flashctl.core.service import defects

__all__ = ["SWEEP_INTERVAL_S", "Hub", "HubOptions"]

SWEEP_INTERVAL_S = 0.1
"""How often clients that are behind are judged; half a flashblock interval, so no verdict comes late."""

MAX_JOIN_BYTES = 256 << 10
"""Most bytes joined into one write. Larger joins gain nothing (copying dominates) and overflow socket
buffers, which turns live clients into lagging ones."""

MAX_PENDING_MESSAGES = 64
"""A publisher that never yields to the loop is flushed every so many messages or bytes, so that the ring
cannot forget what was never sent."""

MAX_PENDING_BYTES = 4 << 20

CATCH_UP_BYTES = 1 << 20
"""Most bytes of the ring one catch-up hands to a socket: what a slow socket keeps alive past the ring."""

ROTATION_STRIDE = 101
"""A prime, so that every client comes first equally often (rollup-boost#373)."""


@dataclass(frozen=True, slots=True)
class HubOptions:
    """What a hub keeps and tolerates; the defaults suit a builder's or boost's own stream."""

    ring: RingLimits = field(default_factory=RingLimits)
    budget: LagBudget = field(default_factory=LagBudget)
    replay: bool = True
    """Give late joiners the open block from index 0."""


class Hub:
    """The fan-out; all methods are called in the event loop's thread.

    hub = Hub()
    server = await serve(hub, "127.0.0.1", 1111)
    hub.publish(data, payload_id="0x03…", index=0, block_number=1)
    """

    def __init__(
        self,
        options: HubOptions | None = None,
        *,
        router: Router | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.options = options or HubOptions()
        self.ring = Ring(self.options.ring)
        self.stats = HubStats()
        self.closing = False
        self._router = router
        self._clock = clock
        self._groups: dict[Encoding, SubscriberGroup] = {}
        self._selected: dict[Selector, dict[Encoding, SubscriberGroup]] = {}
        self._selector_users: dict[Selector, int] = {}
        self._subscribers: set[Subscriber] = set()
        self._behind: set[Subscriber] = set()
        self._waiting: set[Subscriber] = set()
        self._apart: set[Subscriber] = set()
        """Live, but without the messages that the deflate context of the open block refers to."""
        self._flushed = 0
        self._context_start = 0
        """Of the last message flushed."""
        self._flush_asked = False
        self._rotation = 0
        self._sweep_timer: asyncio.TimerHandle | None = None

    # -- the publisher's side -------------------------------------------------------------------------------

    def publish(
        self,
        data: bytes,
        *,
        binary: bool = False,
        payload_id: str = "",
        index: int = UNPLACED,
        block_number: int = 0,
        frame: bytes | None = None,
        packed: tuple[Encoding, bytes] | None = None,
        now: bool = False,
        prepared: Prepared | None = None,
    ) -> None:
        """Send `data` to every client, as it is, in a text or a binary message.

        `payload_id`, `index` and `block_number` place the message in the stream for replay and resumption; a
        message without them is forwarded to the clients connected now. `frame` is what `data_frame` makes of
        `data`, where the caller has it, and `packed` the same message as it came compressed, for clients with
        that encoding. `now` flushes at once, for a caller that has no further message. `prepared` is what
        `prepare` made of it.
        """
        message = HubMessage(
            data,
            binary=binary,
            payload_id=payload_id,
            index=index,
            block_number=block_number,
            published_at=self._clock(),
            frame=frame,
        )
        if packed is not None:
            message.frames[packed[0]] = encode(packed[1], True, Encoding.RAW)
        if prepared is not None and prepared.seq == self.ring.head:
            message.frames.update(prepared.frames)
        if self._must_flush_before(message):
            self.flush()
        self.ring.append(message)
        stats = self.stats
        stats.messages += 1
        stats.message_bytes += len(data)
        if len(data) > stats.largest_message:
            stats.largest_message = len(data)
        if now:
            self.flush()
        elif not self._flush_asked:
            self._flush_asked = True
            asyncio.get_running_loop().call_soon(self._flush_in_turn)

    def prepare(self, data: bytes, index: int) -> Prepared:
        """Text to be published next, with the frames for the present clients' encodings; from any thread.

        Compressing a message of a megabyte takes 15 ms, which the event loop is spared. If another message
        comes first after all, the frames are made anew.
        """
        # Copies, because the event loop goes on changing them.
        groups = [group for own in (self._groups, *self._selected.values()) for group in tuple(own.values())]
        return self.ring.prepare(data, index, {group.encoding for group in groups if len(group)})

    def _must_flush_before(self, message: HubMessage) -> bool:
        """Whether too much is pending, or something that the ring forgets once `message` is appended."""
        ring, limits = self.ring, self.options.ring
        if ring.head == self._flushed:
            return False
        oldest = ring[self._flushed]
        return (
            ring.head - self._flushed >= MAX_PENDING_MESSAGES
            or ring.head_offset - oldest.offset + message.size > min(MAX_PENDING_BYTES, limits.max_bytes)
            or oldest.published_at < message.published_at - limits.max_age_s
        )

    def _flush_in_turn(self) -> None:
        """Flush; an unexpected exception is counted and logged, which the loop would not do."""
        try:
            self.flush()
        except Exception as error:
            defects.caught("hub.flush", error)

    def flush(self) -> None:
        """Write what is pending to every live client; called by itself in the turn after a publish."""
        self._flush_asked = False
        ring = self.ring
        while self._flushed < ring.head:
            start = max(self._flushed, ring.first)
            stop = self._group_end(start)
            if self._apart and ring[start].context_start == start:
                self._join_context(start)
            # Before the writes: a client paused by one of them goes on from here.
            self._flushed = stop
            self._context_start = ring[stop - 1].context_start
            self._write_group(start, stop)
            self._rotation += ROTATION_STRIDE
            self.stats.fanout.observe(self._clock() - ring[start].published_at)
            if self._waiting:
                self._release_waiting(start, stop)

    def _group_end(self, start: int) -> int:
        size, seq = 0, start
        while seq < self.ring.head:
            message = self.ring[seq]
            size += message.size
            if seq > start and (size > MAX_JOIN_BYTES or (self._apart and message.context_start == seq)):
                break
            seq += 1
        return seq

    def _join_context(self, start: int) -> None:
        """Message `start` begins a deflate context, which all clients share."""
        apart, self._apart = self._apart, set()
        for subscriber in apart:
            if subscriber.group is not None:
                subscriber.group.discard(subscriber)
            self._group_of(subscriber, start).add(subscriber)

    def _write_group(self, start: int, stop: int) -> None:
        stats = self.stats
        for group in self._groups.values():
            if len(group):
                data = self._joined(start, stop, group.encoding)
                written = group.write(data, self._rotation)
                stats.deliveries += written * (stop - start)
                stats.sent_bytes += written * len(data)
        if self._selected:
            self._write_selected(start, stop)

    def _joined(self, start: int, stop: int, encoding: Encoding) -> bytes:
        if stop - start == 1:
            return self.ring.frame(self.ring[start], encoding)
        return b"".join(self.ring.frame(message, encoding) for message in self.ring.slice(start, stop))

    def _write_selected(self, start: int, stop: int) -> None:
        """Each message goes to the selectors that accept it; the others are not even looked at."""
        pending: dict[SubscriberGroup, list[HubMessage]] = {}
        for message in self.ring.slice(start, stop):
            for selector in self._accepting(message):
                for group in self._selected[selector].values():
                    pending.setdefault(group, []).append(message)
        for group, messages in pending.items():
            frames = [self.ring.frame(message, group.encoding) for message in messages]
            data = frames[0] if len(frames) == 1 else b"".join(frames)
            written = group.write(data, self._rotation)
            self.stats.deliveries += written * len(messages)
            self.stats.sent_bytes += written * len(data)

    def _accepting(self, message: HubMessage) -> Iterable[Selector]:
        if self._router is not None:
            return self._router.select(message)
        return [selector for selector in self._selected if selector.accepts(message)]

    # -- the clients' side ----------------------------------------------------------------------------------

    def subscribe(
        self, subscriber: Subscriber, *, resume: Position | None = None, payload_id: str | None = None
    ) -> None:
        """Start a client: after `resume` where it names a position, else at the open block's index 0.

        Whatever is replayed is followed by the live stream without a gap or a repetition.
        """
        self.flush()
        self.ring.trim(self._clock())
        if resume is not None:
            subscriber.go_on_at(self.ring.resume_point(resume, payload_id))
        else:
            subscriber.go_on_at(self.ring.joining_point() if self.options.replay else self.ring.head)
        self._subscribers.add(subscriber)
        self.stats.subscribers += 1
        self.stats.subscribers_total += 1
        if (selector := subscriber.selector) is not None:
            users = self._selector_users.get(selector, 0)
            self._selector_users[selector] = users + 1
            if not users and self._router is not None:
                self._router.add(selector)
        if subscriber.cursor < self.ring.head:
            subscriber.replaying = True
            self.stats.replayed += 1
        self._catch_up(subscriber)

    def unsubscribe(self, subscriber: Subscriber) -> None:
        """Forget a client whose connection is closing; harmless when repeated."""
        if subscriber not in self._subscribers:
            return
        self._subscribers.discard(subscriber)
        self.stats.subscribers -= 1
        self._behind.discard(subscriber)
        self._waiting.discard(subscriber)
        self._apart.discard(subscriber)
        if subscriber.group is not None:
            subscriber.group.discard(subscriber)
        if (selector := subscriber.selector) is not None:
            self._selector_users[selector] -= 1
            if not self._selector_users[selector]:
                del self._selector_users[selector]
                self._selected.pop(selector, None)
                if self._router is not None:
                    self._router.remove(selector)

    @property
    def subscribers(self) -> Iterable[Subscriber]:
        """All connected clients, in no order."""
        return self._subscribers

    @property
    def behind(self) -> int:
        """Clients that are not up to date at this moment."""
        return len(self._behind) + len(self._waiting)

    def max_lag(self) -> int:
        """Messages the slowest client has yet to get."""
        return max((self.ring.head - subscriber.cursor for subscriber in self._behind), default=0)

    def pause(self, subscriber: Subscriber) -> None:
        """The client's socket takes no more: from here on it is behind."""
        subscriber.paused = True
        subscriber.paused_at = self._clock()
        if subscriber.group is not None:
            subscriber.group.discard(subscriber)
            self._apart.discard(subscriber)
            subscriber.cursor = self._flushed
        if subscriber in self._subscribers and not subscriber.waiting:
            self._set_behind(subscriber)

    def resume(self, subscriber: Subscriber) -> None:
        """The client's socket has drained: send what it has missed."""
        subscriber.paused = False
        if subscriber in self._subscribers and not subscriber.waiting:
            self._catch_up(subscriber)

    def _catch_up(self, subscriber: Subscriber) -> None:
        while not subscriber.paused and subscriber.cursor < self._flushed:
            if subscriber.cursor < self.ring.first:
                # The sweep decides; it would come to the same verdict a moment later.
                self._set_behind(subscriber)
                self._judge(subscriber, self._clock())
                return
            self._send_past(subscriber)
        if subscriber.paused:
            self._set_behind(subscriber)
            return
        self._behind.discard(subscriber)
        subscriber.replaying = False
        group = self._group_of(subscriber, self._context_start)
        group.add(subscriber)
        if group.encoding is not subscriber.encoding:
            self._apart.add(subscriber)

    def _send_past(self, subscriber: Subscriber) -> None:
        frames: list[bytes] = []
        size = 0
        seq = subscriber.cursor
        selector = subscriber.selector
        while seq < self._flushed and size < CATCH_UP_BYTES:
            message = self.ring[seq]
            seq += 1
            if selector is None or selector.accepts(message):
                encoding = subscriber.encoding_within(message.context_start)
                frames.append(self.ring.frame(message, encoding))
                size += len(frames[-1])
        subscriber.cursor = seq
        if frames:
            self.stats.deliveries += len(frames)
            self.stats.sent_bytes += size
            subscriber.peer.write_many(frames)

    def _group_of(self, subscriber: Subscriber, context_start: int) -> SubscriberGroup:
        encoding, selector = subscriber.encoding_within(context_start), subscriber.selector
        groups = self._groups if selector is None else self._selected.setdefault(selector, {})
        group = groups.get(encoding)
        if group is None:
            group = groups[encoding] = SubscriberGroup(encoding, selector)
        return group

    # -- budgets --------------------------------------------------------------------------------------------

    def lag(self, subscriber: Subscriber, now: float) -> Lag:
        """How far behind a client is; all zero for one that is live."""
        ring = self.ring
        buffered = subscriber.peer.buffered()
        stalled = now - subscriber.paused_at if subscriber.paused else 0.0
        if subscriber.live or subscriber.waiting:
            return Lag(0, buffered, 0.0, stalled)
        forgotten = subscriber.cursor < ring.first
        cursor = max(subscriber.cursor, ring.first)
        missing = ring.head - subscriber.cursor
        oldest = ring[cursor] if cursor < ring.head else None
        return Lag(
            messages=missing,
            bytes=buffered + (0 if oldest is None else ring.head_offset - oldest.offset),
            age_s=0.0 if oldest is None else now - oldest.published_at,
            stalled_s=stalled,
            replaying=subscriber.replaying,
            forgotten=forgotten,
        )

    def sweep(self) -> None:
        """Check every client that is behind; cheap when none is."""
        self.flush()  # or what is pending might be forgotten
        now = self._clock()
        self.ring.trim(now)
        for subscriber in tuple(chain(self._behind, self._waiting)):
            self._judge(subscriber, now)

    def _judge(self, subscriber: Subscriber, now: float) -> None:
        lag = self.lag(subscriber, now)
        match judge(lag, self.options.budget):
            case LagVerdict.KEEP:
                pass
            case LagVerdict.SKIP:
                self._skip(subscriber)
            case LagVerdict.LAGGED:
                self._evict(subscriber, f"lag: {lag}", "lagged")
            case LagVerdict.STALLED:
                self._evict(subscriber, f"stalled: no byte taken for {lag.stalled_s:.1f} s", "stalled")

    def _evict(self, subscriber: Subscriber, reason: str, cause: str) -> None:
        self.unsubscribe(subscriber)
        subscriber.peer.end(CloseCode.TRY_AGAIN_LATER, reason, cause)

    def _skip(self, subscriber: Subscriber) -> None:
        """Conflate: go on at the newest index 0 the client has not had, or wait for the next one."""
        self.stats.skipped += 1
        subscriber.replaying = False
        start = self.ring.latest_block_start(subscriber.cursor, self._flushed)
        self._behind.discard(subscriber)
        if start is None or start == subscriber.cursor:
            subscriber.waiting = True
            self._waiting.add(subscriber)
            return
        subscriber.go_on_at(start)
        self._catch_up(subscriber)

    def _release_waiting(self, start: int, stop: int) -> None:
        at = self.ring.latest_block_start(start, stop)
        if at is None:
            return
        waiting, self._waiting = self._waiting, set()
        for subscriber in waiting:
            subscriber.waiting = False
            subscriber.go_on_at(at)
            self._catch_up(subscriber)

    def _set_behind(self, subscriber: Subscriber) -> None:
        self._behind.add(subscriber)
        if self._sweep_timer is None:
            self._sweep_timer = asyncio.get_running_loop().call_later(SWEEP_INTERVAL_S, self._sweep_again)

    def _sweep_again(self) -> None:
        self._sweep_timer = None
        self.sweep()
        if self._behind or self._waiting:
            self._sweep_timer = asyncio.get_running_loop().call_later(SWEEP_INTERVAL_S, self._sweep_again)
