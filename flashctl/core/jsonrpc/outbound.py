"""Answers on their way to clients: how many bytes of them may wait, and for how long.

A client that requests much and reads nothing makes a server hold its answers. Each connection holds one
answer at a time (HTTP) or a bounded queue (WebSocket); all connections of a server together hold at most the
limit of one `Outbound`. When that is reached, connections whose answers have made no progress for GRACE_S are
dropped, the largest first. If all make progress, a further large answer is refused while those under way are
read.

Messages that WebSocket clients have sent half of are counted in the same way: those begun more than GRACE_S
ago go first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

__all__ = ["GRACE_S", "SMALL_BYTES", "Outbound", "OutboundShare", "WriteWatch"]

SMALL_BYTES: Final = 64 * 1024
"""An answer up to this is written at once and never refused."""

GRACE_S: Final = 1.0
"""How long an answer may make no progress while others need its room."""

SLOWEST_BYTES_PER_S: Final = 4096
"""A client slower than this for the whole write time-out counts as not reading."""


class Outbound:
    """The bytes that wait, of all connections of one server."""

    __slots__ = ("_clock", "_shares", "dropped", "limit", "used")

    def __init__(self, limit: int, clock: Callable[[], float]) -> None:
        self.limit: Final = limit
        self.used = 0
        self.dropped = 0
        """Connections ended to make room."""
        self._clock = clock
        self._shares: set[OutboundShare] = set()

    def join(self, drop: Callable[[], None]) -> OutboundShare:
        """A part that holds nothing yet; `drop` ends its connection at once."""
        return OutboundShare(self, drop)

    def add(self, share: OutboundShare, size: int) -> bool:
        """Count bytes to a share; whether there is room for them."""
        if not share.size:
            share.moved_at = self._clock()
            self._shares.add(share)
        share.size += size
        self.used += size
        if self.used > self.limit:
            self._make_room(share)
        # Always room for one, however large: a full block's trace is no slow client.
        return self.used <= self.limit or self.used == share.size

    def sub(self, share: OutboundShare, size: int) -> None:
        """The client took some."""
        share.size -= size
        self.used -= size
        share.moved_at = self._clock()
        if not share.size:
            self._shares.discard(share)

    def _make_room(self, wanting: OutboundShare) -> None:
        since = self._clock() - GRACE_S
        still = [share for share in self._shares if share.moved_at <= since and share is not wanting]
        for share in sorted(still, key=lambda share: share.size, reverse=True):
            self.dropped += 1
            share.drop()
            share.release()
            if self.used <= self.limit:
                return


class OutboundShare:
    """What one connection holds of it."""

    __slots__ = ("_outbound", "drop", "moved_at", "size")

    def __init__(self, outbound: Outbound, drop: Callable[[], None]) -> None:
        self._outbound = outbound
        self.drop: Final = drop
        self.size = 0
        self.moved_at = 0.0

    def add(self, size: int) -> bool:
        """Hold more; whether there is room."""
        return self._outbound.add(self, size)

    def sub(self, size: int) -> None:
        """Hold less: the client took some. What was released already is not counted twice."""
        self._outbound.sub(self, min(size, self.size))

    def release(self) -> None:
        """Hold nothing."""
        if self.size:
            self._outbound.sub(self, self.size)


class WriteWatch:
    """Ends a connection whose client does not take what was written to it.

    A full transport calls `paused`, and `resumed` when it has drained; in between its client has `limit_s` at
    a time to take SLOWEST_BYTES_PER_S of it.
    """

    __slots__ = ("_left", "_limit_s", "_loop", "_timer", "_transport", "stalled")

    def __init__(self, loop: asyncio.AbstractEventLoop, transport: asyncio.Transport, limit_s: float) -> None:
        self._loop = loop
        self._transport = transport
        self._limit_s = limit_s
        self._timer: asyncio.TimerHandle | None = None
        self._left = 0
        self.stalled = False
        """Whether it ended the connection."""

    def paused(self) -> None:
        """The transport takes no more for now."""
        self._left = self._transport.get_write_buffer_size()
        if self._timer is None:
            self._timer = self._loop.call_later(self._limit_s, self._check)

    def resumed(self) -> None:
        """It does again, or is closed."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check(self) -> None:
        self._timer = None
        left = self._transport.get_write_buffer_size()
        if left > self._left - SLOWEST_BYTES_PER_S * self._limit_s:
            self.stalled = True
            self._transport.abort()
        elif left:
            self.paused()
