"""Messages of a WebSocket client handed over in the socket's own callback.

A message that goes the usual way (parser, queue, a future that wakes a task, a decoded string) costs about
0.3 ms of CPU where little else happens between messages: the interpreter's code has left the cache by then.
For most roles that is nothing. For a proxy it is paid before the first of its clients is served.

`DirectConnection` is websockets' connection with one thing added: while `direct` is set, whole unfragmented
data frames are cut out of the received bytes and passed to it. Everything else (handshake, control frames,
fragments, compression, errors) goes to the library as always. Anything that could change the order of
messages switches the direct way off until the library's queue is empty again.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from websockets.asyncio.client import ClientConnection

__all__ = ["Direct", "DirectConnection", "LinkStats"]

Direct = Callable[[bytes, bool], None]
"""Takes a message: its bytes, and whether it was binary."""


@dataclass(slots=True)
class LinkStats:
    """What the keep-alive of a connection has found out; goes on over reconnects."""

    pings: int = 0
    """Sent."""
    round_trip_s: float = 0.0
    """Of the ping answered last; 0 before the first answer."""


_TEXT, _BINARY = 0x81, 0x82
"""First bytes of a data frame that is final, not compressed and not a continuation."""

_CONTROL = frozenset({0x88, 0x89, 0x8A})


class DirectConnection(ClientConnection):
    """A client connection whose messages may go to `direct`."""

    direct: Direct | None = None
    last_direct: float = 0.0
    """When `direct` was last called; monotonic seconds."""
    link: LinkStats | None = None
    max_direct: int = 0
    """Messages larger than this are left to the library, which refuses them."""
    _pending: bytes | bytearray = b""
    _needed: int = 0

    def go_direct(self, direct: Direct, max_size: int) -> bool:
        """Begin to pass messages to `direct`; False when one is still on the usual way, or half received."""
        if self.direct is None and self._library_is_idle():
            self.max_direct = max_size
            self.direct = direct
        return self.direct is not None

    def _library_is_idle(self) -> bool:
        try:
            return (
                not self.protocol.reader.buffer
                and self.protocol.current_size is None
                and not len(self.recv_messages.frames)
            )
        except AttributeError:  # another version of the library keeps them elsewhere: the usual way works
            return False

    async def ping(self, *arguments: Any, **settings: Any) -> Awaitable[float]:
        """As the library's, which calls it to keep the connection alive."""
        if self.link is not None:
            self.link.pings += 1
            self.link.round_trip_s = self.latency
        return await super().ping(*arguments, **settings)

    def data_received(self, data: bytes) -> None:
        """Bytes from the socket."""
        direct = self.direct
        if direct is None:
            super().data_received(data)
            return
        if self._pending:
            if isinstance(self._pending, bytes):
                self._pending = bytearray(self._pending)
            self._pending += data
            if len(self._pending) < self._needed:
                return
            data, self._pending = bytes(self._pending), b""
        self._cut(data, direct)

    def _cut(self, data: bytes, direct: Direct) -> None:
        position, end = 0, len(data)
        while end - position >= 2:
            first, length = data[position], data[position + 1]
            start = position + 2
            if length == 126:
                start, length = start + 2, int.from_bytes(data[start : start + 2], "big")
            elif length == 127:
                start, length = start + 8, int.from_bytes(data[start : start + 8], "big")
            stop = start + length
            is_message = first in (_TEXT, _BINARY) and length <= self.max_direct
            if not is_message and first not in _CONTROL:
                self._hand_over(data[position:])
                return
            if stop > end or start > end:
                self._needed = stop - position if start <= end else 0
                break
            if not is_message:
                super().data_received(data[position:stop])
            elif first == _TEXT and not _is_utf8(data, start, stop):
                self._hand_over(data[position:])
                return
            else:
                self.last_direct = time.monotonic()
                direct(data[start:stop], first == _BINARY)
            position = stop
        else:
            self._needed = 0
        self._pending = data[position:]

    def _hand_over(self, data: bytes) -> None:
        """Leave these bytes, and all to come, to the library."""
        self.direct = None
        self._pending = b""
        super().data_received(data)


def _is_utf8(data: bytes, start: int, stop: int) -> bool:
    text = data[start:stop]
    if text.isascii():  # 1 us at 50 KB, and true of every flashblock
        return True
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True
