"""One stream over many machines: a Redis Stream that some proxies write and all of them read.

A proxy with upstreams writes what it forwards; the script that appends also remembers each (payload id,
index) for a minute, so several writers make one stream. Every proxy reads the stream and treats it as one
more upstream: the relay's deduplication drops what it has already. A reader keeps the id it has read up to,
and goes on from there when Redis comes back; one that starts begins as far back as its replay ring reaches,
so its first client gets the open block.

Nothing waits for Redis: a proxy's own clients are served from its own upstreams first, and messages that
cannot be written are kept up to QUEUE_LIMIT and then given up, oldest first.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from flashctl.core.stream import Backoff
from flashctl.core.urls import mask_url
from flashctl.errors import UsageError
from flashctl.proxy.relay import Placed, Relay

if TYPE_CHECKING:
    from redis.asyncio import Redis

__all__ = ["BUS", "Bus", "connect_redis"]

_LOG = logging.getLogger(__name__)

BUS = "bus"
"""The name of the bus among the upstreams."""

QUEUE_LIMIT = 512
"""Messages waiting to be written: a hundred seconds of 200 ms flashblocks."""

READ_BLOCK_MS = 1000
READ_COUNT = 64
SEEN_TTL_MS = 60_000
"""How long a (payload id, index) is remembered: longer than writers can be apart."""

STREAM_LENGTH = 1000
"""Messages Redis keeps, roughly; readers that were away for longer skip ahead."""

OPERATION_TIMEOUT_S = 2.0

_APPEND = """
if ARGV[1] ~= '' and not redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2]) then return false end
return redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[3], '*', 'd', ARGV[4], 'b', ARGV[5])
"""


def connect_redis(url: str) -> Redis:
    """A client for `url`; connects at its first use.

    Raises:
        UsageError: If the redis package is missing, or the URL is none of its.
    """
    try:
        from redis.asyncio import Redis
    except ImportError:
        raise UsageError("--bus needs the redis package", hint="pip install 'flashctl[redis]'") from None
    try:
        client: Redis = Redis.from_url(
            url,
            socket_connect_timeout=OPERATION_TIMEOUT_S,
            socket_timeout=OPERATION_TIMEOUT_S + READ_BLOCK_MS / 1e3,
            health_check_interval=15,
        )
    except ValueError:
        raise UsageError(f"--bus: {mask_url(url)!r} is not a redis:// URL") from None
    return client


class Bus:
    """The stream of one deployment."""

    def __init__(self, url: str, prefix: str, relay: Relay, *, start_back_s: float) -> None:
        self.name = mask_url(url)
        self.connected = False
        self.last_message_at: float | None = None
        """Monotonic seconds."""
        self.trouble = ""
        self.written = 0
        self.given_up = 0
        """Messages that were never written because Redis was away for too long."""
        self.reconnects = 0
        self._reader = connect_redis(url)
        self._writer = connect_redis(url)
        self._stream = f"{prefix}:stream"
        self._seen = f"{prefix}:seen:"
        self._relay = relay
        self._start_back_s = start_back_s
        self._last_id: bytes | str | None = None
        self._queue: deque[tuple[bytes, bool, Placed | None]] = deque()
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
        """Let go of the connections."""
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
            attempt = 0 if time.monotonic() - started > 5.0 else attempt + 1
            if work == self._read_all:
                self._lost(reason)
            await asyncio.sleep(backoff.delay(attempt, random.random()))

    def _lost(self, reason: str) -> None:
        if self.connected or not self.trouble:
            _LOG.warning("bus lost: %s", reason, extra={"bus": self.name})
        self.connected = False
        self.reconnects += 1
        self.trouble = reason

    # -- reading --------------------------------------------------------------------------------------------

    async def _read_all(self) -> None:
        if self._last_id is None:
            seconds, _ = await self._reader.time()
            self._last_id = f"{max(0, int((seconds - self._start_back_s) * 1000))}-0"
        while True:
            reply = await self._reader.xread({self._stream: self._last_id}, READ_COUNT, READ_BLOCK_MS)
            if not self.connected:
                _LOG.info("bus connected", extra={"bus": self.name})
                self.connected, self.trouble = True, ""
            for entry_id, fields in _entries(reply):
                self._last_id = entry_id
                self.last_message_at = time.monotonic()
                self._relay.receive(BUS, fields[b"d"], binary=fields.get(b"b") == b"1")

    # -- writing --------------------------------------------------------------------------------------------

    def _offer(self, source: str, data: bytes, binary: bool, placed: Placed | None) -> None:
        if source == BUS:
            return
        if len(self._queue) >= QUEUE_LIMIT:
            self._queue.popleft()
            self.given_up += 1
        self._queue.append((data, binary, placed))
        self._queued.set()

    async def _write_all(self) -> None:
        append = self._writer.register_script(_APPEND)
        while True:
            await self._queued.wait()
            while self._queue:
                data, binary, placed = self._queue[0]
                name = "" if placed is None else f"{placed.payload_id}/{placed.index}"
                digest = b"" if placed is None else hashlib.blake2b(data, digest_size=16).digest()
                # The message stays queued until Redis has it. A repeated attempt after a lost answer finds
                # its own mark and is dropped, or comes through the deduplication of the readers.
                await append(
                    keys=[self._stream, self._seen + name],
                    args=[digest, SEEN_TTL_MS, STREAM_LENGTH, data, b"1" if binary else b"0"],
                )
                if self._queue and self._queue[0][0] is data:
                    self._queue.popleft()
                self.written += 1
            self._queued.clear()


def _entries(reply: Any) -> list[tuple[bytes, dict[bytes, bytes]]]:
    """The entries of an XREAD reply, which is a mapping or a list of pairs by protocol version."""
    if not reply:
        return []
    if isinstance(reply, dict):
        pages = next(iter(reply.values()))
        return [entry for page in pages for entry in ([page] if isinstance(page, tuple) else page)]
    return list(reply[0][1])
