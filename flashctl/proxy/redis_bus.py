"""One stream across machines: a Redis Stream that some proxies write and all of them read.

A proxy with upstreams writes what it forwards; the script that appends also marks each (payload id, index) as
seen for a minute, so several writers make one stream. Every proxy reads the stream as one more upstream: the
relay's deduplication drops duplicates. A reader keeps the id it has read up to and continues there when Redis
comes back; one that starts begins as far back as its replay ring reaches, so its first client gets the open
block.

The content of Redis is untrusted input: an entry that is no message is skipped, counted, and logged once; one
over the size limit is not even fetched (REPLY_LIMIT).

Nothing waits for Redis: a proxy's own clients are served from its own upstreams first, and messages that
cannot be written are kept up to QUEUE_LIMIT and then dropped, oldest first.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
import time
from collections import deque
from typing import Any

from flashctl.core.flashblocks.client import Backoff
from flashctl.core.flashblocks.wire import MAX_FRAME_BYTES
from flashctl.core.net.urls import mask_url
from flashctl.core.service import defects
from flashctl.eth.hexdata import MAX_U64, parse_number
from flashctl.proxy.redis_client import READ_BLOCK_MS, connect_redis, is_too_large
from flashctl.proxy.relay import Relay, StreamPosition

__all__ = ["BUS", "RedisBus"]

_LOG = logging.getLogger(__name__)

BUS = "bus"
"""The name of the bus among the upstreams."""

QUEUE_LIMIT = 512
"""Messages queued to be written: a hundred seconds of 200 ms flashblocks."""

QUEUE_BYTES = 64 * 1024 * 1024
"""Their total size."""

READ_COUNT = 16
SEEN_TTL_MS = 60_000
"""How long a (payload id, index) is marked as seen: longer than writers can be apart."""

QUIET_BEFORE_LOOK_S = 10.0
"""Without an entry, after which the reader checks whether the stream was recreated below its position."""

STREAM_LENGTH = 1000
"""Messages Redis keeps, approximately; readers that were away for longer skip ahead."""

_APPEND = """
if ARGV[1] ~= '' and not redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2]) then return false end
local added = redis.pcall('XADD', KEYS[1], 'MAXLEN', '~', ARGV[3], '*', 'd', ARGV[4], 'b', ARGV[5])
if added.err and string.find(added.err, 'last possible ID', 1, true) then
  redis.call('DEL', KEYS[1])
  added = redis.pcall('XADD', KEYS[1], 'MAXLEN', '~', ARGV[3], '*', 'd', ARGV[4], 'b', ARGV[5])
end
if added.err then redis.call('DEL', KEYS[2]) end
return added
"""
"""A mark without its entry is removed, since the retry after a failure would otherwise drop the message. A
stream whose last possible id is taken accepts no entry any more, and is recreated."""

_READ_SMALL = """
local found, size, most = {}, 0, tonumber(ARGV[3])
for _, entry in ipairs(redis.call('XRANGE', KEYS[1], '(' .. ARGV[1], '+', 'COUNT', ARGV[2])) do
  local data, binary = '', '0'
  for i = 1, #entry[2], 2 do
    local name, value = entry[2][i], entry[2][i + 1]
    if name == 'd' then data = value elseif name == 'b' then binary = value end
  end
  if #data > most or #binary > 1 then data, binary = '', '0' end
  size = size + #data
  if size > most and #found > 0 then break end
  found[#found + 1] = {entry[1], data, binary}
end
return found
"""
"""The entries after one id, those over a size without their data: used when XREAD's reply is too large."""


class RedisBus:
    """The stream of one deployment."""

    def __init__(
        self,
        url: str,
        prefix: str,
        relay: Relay,
        *,
        chain: str = "",
        start_back_s: float,
        max_message: int = MAX_FRAME_BYTES,
    ) -> None:
        self.name = mask_url(url)
        self.connected = False
        self.last_message_at: float | None = None
        """Monotonic seconds."""
        self.trouble = ""
        self.written = 0
        self.given_up = 0
        """Messages dropped because Redis was away for too long."""
        self.skipped = 0
        """Entries of the stream that were no messages."""
        self.reconnects = 0
        self._reader = connect_redis(url)
        self._writer = connect_redis(url)
        where = f"{prefix}:{chain}" if chain else prefix
        self._stream = f"{where}:stream"
        self._seen = f"{where}:seen:"
        self._relay = relay
        self._start_back_s = start_back_s
        self._max_message = max_message
        self._last_id: bytes | str | None = None
        self._queue: deque[tuple[bytes, bool, StreamPosition | None]] = deque()
        self._queued_bytes = 0
        self._queued = asyncio.Event()
        relay.sinks.append(self._offer)

    async def run(self) -> None:
        """Read and write until cancelled; Redis may come and go."""
        writing = asyncio.ensure_future(self._keep(self._write_all))
        try:
            await self._keep(self._read_all)
        finally:
            writing.cancel()

    async def close(self) -> None:
        """Close the connections."""
        await self._reader.aclose()
        await self._writer.aclose()

    async def _keep(self, work: Any) -> None:
        from redis.exceptions import AuthenticationError, RedisError

        backoff = Backoff(maximum_s=5.0)
        attempt = 0
        while True:
            started = time.monotonic()
            try:
                await work()
            except AuthenticationError as error:
                reason = f"refused: {error}"
            except (RedisError, OSError, TimeoutError) as error:
                reason = str(error) or type(error).__name__
            except Exception as error:
                defects.caught("proxy.bus", error)
                reason = f"defect: {type(error).__name__}"
            attempt = 0 if time.monotonic() - started > 5.0 else attempt + 1
            if work == self._read_all:
                self._lost(reason)
            await asyncio.sleep(backoff.delay(attempt, random.random()))

    def _lost(self, reason: str) -> None:
        if self.connected or not self.trouble:
            _LOG.warning("Redis connection lost: %s", reason, extra={"bus": self.name})
        self.connected = False
        self.reconnects += 1
        self.trouble = reason

    # -- reading --------------------------------------------------------------------------------------------

    async def _read_all(self) -> None:
        if self._last_id is None:
            seconds, _ = await self._reader.time()
            self._last_id = f"{max(0, int((seconds - self._start_back_s) * 1000))}-0"
        heard = time.monotonic()
        while True:
            entries = await self._read()
            if not self.connected:
                _LOG.info("Redis connected", extra={"bus": self.name})
                self.connected, self.trouble = True, ""
            for entry_id, fields in entries:
                self._last_id = entry_id
                heard = time.monotonic()
                self._take(entry_id, fields)
            if time.monotonic() - heard > QUIET_BEFORE_LOOK_S:
                heard = time.monotonic()
                await self._follow_back()

    async def _read(self) -> list[tuple[bytes, dict[bytes, bytes]]]:
        """The next entries; those too large to be fetched come without their fields."""
        from redis.exceptions import ConnectionError as RedisConnectionError

        assert self._last_id is not None
        try:
            return _entries(
                await self._reader.xread({self._stream: self._last_id}, READ_COUNT, READ_BLOCK_MS)
            )
        except RedisConnectionError as error:
            if not is_too_large(error):
                raise
        arguments: list[str | bytes | int] = [self._last_id, READ_COUNT, self._max_message]
        found: Any = await self._reader.eval(_READ_SMALL, 1, self._stream, *arguments)
        return [(entry_id, {b"d": data, b"b": binary} if data else {}) for entry_id, data, binary in found]

    def _take(self, entry_id: bytes, fields: dict[bytes, bytes]) -> None:
        data = fields.get(b"d")
        if not data or len(data) > self._max_message:
            self.skipped += 1
            if self.skipped == 1:
                problem = f"has {len(data)} bytes" if data else "has no field d"
                shown = entry_id.decode(errors="replace")
                _LOG.warning(
                    "bus: entry %s %s: skipped; further entries that are no messages are only counted",
                    shown,
                    problem,
                    extra={"bus": self.name},
                )
            return
        self.last_message_at = time.monotonic()
        self._relay.receive(BUS, data, binary=fields.get(b"b") == b"1")

    async def _follow_back(self) -> None:
        """Reset the position if the stream was deleted and its ids are lower than the one read last."""
        newest = await self._reader.xrevrange(self._stream, count=1)
        last = self._last_id
        if newest and newest[0][0] and last and _order(newest[0][0]) < _order(last):
            _LOG.warning("bus: the stream was recreated", extra={"bus": self.name})
            self._last_id = "0-0"

    # -- writing --------------------------------------------------------------------------------------------

    def _offer(self, source: str, data: bytes, binary: bool, placed: StreamPosition | None) -> None:
        if source == BUS:
            return
        while self._queue and (
            len(self._queue) >= QUEUE_LIMIT or self._queued_bytes + len(data) > QUEUE_BYTES
        ):
            self._queued_bytes -= len(self._queue.popleft()[0])
            self.given_up += 1
        self._queue.append((data, binary, placed))
        self._queued_bytes += len(data)
        self._queued.set()

    async def _write_all(self) -> None:
        append = self._writer.register_script(_APPEND)
        while True:
            await self._queued.wait()
            while self._queue:
                data, binary, placed = self._queue[0]
                name = "" if placed is None else f"{placed.payload_id}/{placed.index}"
                digest = b"" if placed is None else hashlib.blake2b(data, digest_size=16).digest()
                # The message stays queued until Redis confirms it. A retry after a lost reply finds its own
                # mark and is dropped, or is dropped by the readers' deduplication.
                await append(
                    keys=[self._stream, self._seen + name],
                    args=[digest, SEEN_TTL_MS, STREAM_LENGTH, data, b"1" if binary else b"0"],
                )
                if self._queue and self._queue[0][0] is data:
                    self._queue.popleft()
                    self._queued_bytes -= len(data)
                self.written += 1
            self._queued.clear()


def _order(entry_id: bytes | str) -> tuple[int, int]:
    """An entry id as Redis orders them."""
    text = entry_id.decode("ascii", "replace") if isinstance(entry_id, bytes) else entry_id
    milliseconds, _, number = text.partition("-")
    return parse_number(milliseconds, most=MAX_U64), parse_number(number, most=MAX_U64)


def _entries(reply: Any) -> list[tuple[bytes, dict[bytes, bytes]]]:
    """The entries of an XREAD reply, which is a mapping or a list of pairs by protocol version."""
    if not reply:
        return []
    if isinstance(reply, dict):
        pages = next(iter(reply.values()))
        return [entry for page in pages for entry in ([page] if isinstance(page, tuple) else page)]
    return list(reply[0][1])
