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

import asyncio
import time
from collections.abc import Callable

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode
from websockets.protocol import State

from flashctl.core.net.keepalive import KeepAlive, LinkStats

__all__ = ["Direct", "DirectConnection"]

Direct = Callable[[bytes, bool, bytes | None, bool], None]
"""Takes a message: its bytes, whether it was binary, the frame it came in where another server could send the
same bytes on to its clients, and whether it was the last that came in one piece."""

_TEXT, _BINARY = 0x81, 0x82
"""First bytes of a data frame that is final, not compressed and not a continuation."""

_PONG = 0x8A
_CONTROL = frozenset({0x88, 0x89, _PONG})


class DirectConnection(ClientConnection):
    """A client connection whose messages may go to `direct`."""

    direct: Direct | None = None
    last_direct: float = 0.0
    """When `direct` was last called; monotonic seconds."""
    keep_alive: KeepAlive | None = None
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

    def start_keep_alive(self, link: LinkStats, interval_s: float, timeout_s: float | None) -> None:
        """Ping every `interval_s`; close when an answer takes longer than `timeout_s`, None for never."""
        self.keep_alive = KeepAlive(
            self._write_ping, self._no_pong, link, interval_s=interval_s, timeout_s=timeout_s
        )

    def _write_ping(self, frame: bytes) -> None:
        if self.protocol.state is State.OPEN:
            self.transport.write(frame)

    def _no_pong(self) -> None:
        self._ending = asyncio.ensure_future(self._end_for_no_pong())

    async def _end_for_no_pong(self) -> None:
        try:
            async with self.send_context():
                self.protocol.fail(CloseCode.INTERNAL_ERROR, "keepalive ping timeout")
        except ConnectionClosed:
            pass  # which is what was asked for

    def acknowledge_pings(self, data: bytes) -> None:
        """As the library's, which calls it for a pong that did not come the direct way."""
        if self.keep_alive is None or not self.keep_alive.pong(data):
            super().acknowledge_pings(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is closed."""
        if self.keep_alive is not None:
            self.keep_alive.stop()
        super().connection_lost(exc)

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
        keep_alive = self.keep_alive
        if keep_alive is not None and self.last_direct >= keep_alive.due:
            keep_alive.ping()

    def _cut(self, data: bytes, direct: Direct) -> None:
        position, end = 0, len(data)
        while end - position >= 2:
            first, length = data[position], data[position + 1]
            start = position + 2
            shortest = True
            if length == 126:
                start, length = start + 2, int.from_bytes(data[start : start + 2], "big")
                shortest = length > 125
            elif length == 127:
                start, length = start + 8, int.from_bytes(data[start : start + 8], "big")
                shortest = length > 0xFFFF
            elif length > 127:  # masked, which a server must not do
                self._hand_over(data[position:])
                return
            stop = start + length
            is_message = first in (_TEXT, _BINARY) and length <= self.max_direct
            if not is_message and first not in _CONTROL:
                self._hand_over(data[position:])
                return
            if stop > end or start > end:
                self._needed = stop - position if start <= end else 0
                break
            if not is_message:
                self._control(data[position:stop], data[start:stop])
            else:
                message = data[start:stop]
                if first == _TEXT and not _is_utf8(message):
                    self._hand_over(data[position:])
                    return
                self.last_direct = time.monotonic()
                # One message in one piece is the rule, and slicing all of it makes no copy.
                direct(message, first == _BINARY, data[position:stop] if shortest else None, stop == end)
            position = stop
        else:
            self._needed = 0
        self._pending = data[position:]

    def _control(self, frame: bytes, payload: bytes) -> None:
        if frame[0] != _PONG or self.keep_alive is None or not self.keep_alive.pong(payload):
            super().data_received(frame)

    def _hand_over(self, data: bytes) -> None:
        """Leave these bytes, and all to come, to the library."""
        self.direct = None
        self._pending = b""
        super().data_received(data)


def _is_utf8(text: bytes) -> bool:
    if text.isascii():  # 1 us at 50 KB, and true of every flashblock
        return True
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True
