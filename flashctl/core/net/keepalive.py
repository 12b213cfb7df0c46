"""Pings for a connection over which data flows anyway.

The library's keep-alive (a task, a future, a time-out, its frame classes) takes about 1 ms of CPU a ping
where little else happens: at five messages and half a ping a second a tenth of all that a proxy with 100
clients does. This one has one timer and sends the ping of an interval behind a message that comes in its last
tenth: the process is awake then.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["KeepAlive", "LinkStats"]

EARLY = 0.9
"""Part of the interval after which a message takes the ping along."""


@dataclass(slots=True)
class LinkStats:
    """What the keep-alive of a connection has found out; goes on over reconnects."""

    pings: int = 0
    """Sent."""
    round_trip_s: float = 0.0
    """Of the ping answered last; 0 before the first answer."""


class KeepAlive:
    """One ping per interval, at most one without an answer at a time."""

    __slots__ = (
        "_expected",
        "_fail",
        "_interval_s",
        "_link",
        "_sent_at",
        "_timeout_s",
        "_timer",
        "_write",
        "due",
    )

    def __init__(
        self,
        write: Callable[[bytes], None],
        fail: Callable[[], None],
        link: LinkStats,
        *,
        interval_s: float,
        timeout_s: float | None,
    ) -> None:
        """Begin; `write` takes a frame, `fail` is called when a ping stays unanswered for `timeout_s`."""
        self._write = write
        self._fail = fail
        self._link = link
        self._interval_s = interval_s
        self._timeout_s = timeout_s
        self._expected = b""
        self._sent_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.due = math.inf
        """From when on a message takes the next ping along; monotonic seconds."""
        self._wait(interval_s)
        self.due = time.monotonic() + EARLY * interval_s

    def ping(self) -> None:
        """Send the ping of this interval."""
        # RFC 6455 section 5.3: an unpredictable mask. Mask and masked payload are drawn at once.
        drawn = random.getrandbits(64)
        self._expected = ((drawn >> 32) ^ (drawn & 0xFFFFFFFF)).to_bytes(4, "big")
        self._sent_at = time.monotonic()
        self._link.pings += 1
        self.due = math.inf
        self._wait(self._interval_s if self._timeout_s is None else self._timeout_s)
        self._write(b"\x89\x84" + drawn.to_bytes(8, "big"))

    def pong(self, payload: bytes) -> bool:
        """Take a pong; whether it answers our ping."""
        if not self._expected or payload != self._expected:
            return False
        self._expected = b""
        now = time.monotonic()
        self._link.round_trip_s = now - self._sent_at
        self.due = self._sent_at + EARLY * self._interval_s
        self._wait(max(0.0, self._sent_at + self._interval_s - now))
        return True

    def stop(self) -> None:
        """The connection is gone."""
        self.due = math.inf
        if self._timer is not None:
            self._timer.cancel()

    def _wait(self, delay_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._on_time)

    def _on_time(self) -> None:
        if self._expected and self._timeout_s is not None:
            self._fail()
        else:
            self.ping()
