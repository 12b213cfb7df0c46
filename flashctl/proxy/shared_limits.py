"""Connection limits shared by all proxies of a deployment through Redis.

Each address and each key has a hash from instance to its number of connections. One script checks both limits
and counts, atomically; the sums leave out instances whose heartbeat has expired, so a crashed instance's
connections are released within HEARTBEAT_TTL_S. Every Redis key has a time to live. The heartbeat rewrites
this instance's own counts, so data that Redis lost is restored a few seconds later.

Data under these keys that is no count (another type, no number, more than 10,000 instances) is dropped, and
counting continues.

When Redis does not answer, `--bus-fail` decides: `open` applies the instance's own limits, `closed` refuses.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable, Iterable
from typing import Any

from flashctl.proxy.config import BusFailure
from flashctl.proxy.connection_limits import (
    ConnectionCounts,
    ConnectionLimits,
    ConnectionRefused,
    ConnectionTicket,
    Limit,
)
from flashctl.proxy.redis_client import connect_redis

__all__ = ["HEARTBEAT_TTL_S", "RedisLimits"]

_LOG = logging.getLogger(__name__)

HEARTBEAT_TTL_S = 15.0
HEARTBEAT_INTERVAL_S = 4.0
"""Three misses before an instance counts as gone."""

ACQUIRE_TIMEOUT_S = 1.0
"""A client waits this long for Redis at most."""

_ACQUIRE = """
local me, alive, ttl = ARGV[1], ARGV[2], ARGV[3]
local repaired = 0
local function used(key)
  local kind = redis.call('TYPE', key).ok
  if kind ~= 'none' and (kind ~= 'hash' or redis.call('HLEN', key) > 10000) then
    redis.call('DEL', key)
    repaired = repaired + 1
  end
  local sum, all = 0, redis.call('HGETALL', key)
  for i = 1, #all, 2 do
    local count = string.match(all[i + 1], '^%d%d?%d?%d?%d?%d?%d?$')
    if not count then repaired = repaired + 1 end
    if count and (all[i] == me or redis.call('EXISTS', alive .. all[i]) == 1) then sum = sum + tonumber(count)
    else redis.call('HDEL', key, all[i]) end
  end
  return sum
end
for i = 1, #KEYS do
  local limit, now = tonumber(ARGV[3 + i]), used(KEYS[i])
  if limit >= 0 and now >= limit then return {i, repaired} end
end
redis.call('SET', alive .. me, '1', 'PX', ttl)
for i = 1, #KEYS do
  redis.call('HINCRBY', KEYS[i], me, 1)
  redis.call('PEXPIRE', KEYS[i], ttl)
end
return {0, repaired}
"""

_RELEASE = """
for i = 1, #KEYS do
  if redis.call('HEXISTS', KEYS[i], ARGV[1]) == 1 and redis.call('HINCRBY', KEYS[i], ARGV[1], -1) <= 0 then
    redis.call('HDEL', KEYS[i], ARGV[1])
  end
end
"""


class RedisLimits:
    """The shared part of the limits; `ConnectionCounts` stays authoritative for this instance."""

    def __init__(self, url: str, prefix: str, counts: ConnectionCounts, failure: BusFailure) -> None:
        self.instance = uuid.uuid4().hex
        self.failing = False
        """Whether the last attempt found no Redis."""
        self.repaired = 0
        """Values in Redis that were no counts, dropped."""
        self._redis = connect_redis(url)
        self._prefix = prefix
        self._alive = f"{prefix}:alive:"
        self._counts = counts
        self._failure = failure
        self._touched: dict[str, Callable[[], int]] = {}
        self._acquire = self._redis.register_script(_ACQUIRE)
        self._release = self._redis.register_script(_RELEASE)
        self._tasks: set[asyncio.Task[None]] = set()

    async def acquire(
        self, limits: ConnectionLimits, address: str, app: str | None, app_limit: int | None
    ) -> ConnectionTicket | ConnectionRefused | None:
        """Count a connection in Redis; None if Redis is unreachable and `--bus-fail` is open."""
        keys = [f"{self._prefix}:ip:{address}"]
        allowed = [limits.per_address or -1]
        self._touched[keys[0]] = lambda: self._counts.by_address[address]
        if app is not None:
            keys.append(f"{self._prefix}:app:{app}")
            allowed.append(-1 if app_limit is None else app_limit)
            self._touched[keys[1]] = lambda: self._counts.by_app[app]
        arguments: list[str | int] = [self.instance, self._alive, int(HEARTBEAT_TTL_S * 1000), *allowed]
        try:
            async with asyncio.timeout(ACQUIRE_TIMEOUT_S):
                refused, repaired = await self._acquire(keys=keys, args=arguments)
        except self._errors() as error:
            return self._unavailable(error)
        self._repaired(repaired)
        self.failing = False
        if refused:
            return ConnectionRefused(Limit.ADDRESS if refused == 1 else Limit.KEY, allowed[refused - 1])
        return ConnectionTicket(lambda: self._release_soon(keys))

    @staticmethod
    def _errors() -> tuple[type[BaseException], ...]:
        from redis.exceptions import RedisError

        return (RedisError, OSError, TimeoutError)

    def _unavailable(self, error: BaseException) -> ConnectionRefused | None:
        if not self.failing:
            _LOG.warning("shared limits: %s; failing %s", str(error) or "timed out", self._failure.value)
        self.failing = True
        return None if self._failure is BusFailure.OPEN else ConnectionRefused(Limit.BUS, 0)

    def _repaired(self, count: int) -> None:
        if count and not self.repaired:
            _LOG.warning("shared limits: dropped invalid counts in Redis; further ones are only counted")
        self.repaired += count

    def _release_soon(self, keys: list[str]) -> None:
        try:
            task = asyncio.get_running_loop().create_task(self._do_release(keys))
        except RuntimeError:
            return  # the event loop has ended; the heartbeat's expiry releases the connection
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _do_release(self, keys: list[str]) -> None:
        try:
            await self._release(keys=keys, args=[self.instance])
        except self._errors():
            pass  # the next heartbeat writes the current count

    async def run(self) -> None:
        """Refresh this instance's heartbeat and counts until cancelled."""
        while True:
            try:
                await self.beat()
            except self._errors() as error:
                self._unavailable(error)
            await asyncio.sleep(HEARTBEAT_INTERVAL_S)

    async def beat(self) -> None:
        """Write the heartbeat and every count of this instance."""
        ttl = int(HEARTBEAT_TTL_S * 1000)
        pipe: Any = self._redis.pipeline(transaction=False)
        pipe.set(self._alive + self.instance, "1", px=ttl)
        keys = [""]
        for key, count in tuple(self._touched.items()):
            if now := count():
                pipe.hset(key, self.instance, now)
                pipe.pexpire(key, ttl)
                keys += [key, key]
            else:
                pipe.hdel(key, self.instance)
                keys.append(key)
                del self._touched[key]
        await self._judge(zip(keys, await pipe.execute(raise_on_error=False), strict=True))
        self.failing = False

    async def _judge(self, answers: Iterable[tuple[str, Any]]) -> None:
        """Drop keys of a foreign type, which the next heartbeat rewrites; raise every other error."""
        wrong = set()
        for key, answer in answers:
            if isinstance(answer, Exception):
                if "WRONGTYPE" not in str(answer):
                    try:
                        raise answer
                    finally:
                        # An error bound to a local of a frame in its own traceback is a reference cycle.
                        del answer, answers
                wrong.add(key)
        if wrong:
            await self._redis.delete(*wrong)
            self._repaired(len(wrong))

    async def close(self) -> None:
        """Release every connection of this instance and disconnect."""
        try:
            async with asyncio.timeout(ACQUIRE_TIMEOUT_S):
                pipe: Any = self._redis.pipeline(transaction=False)
                for key in self._touched:
                    pipe.hdel(key, self.instance)
                pipe.delete(self._alive + self.instance)
                await pipe.execute()
        except self._errors():
            pass
        await self._redis.aclose()
