"""Calls of one method that leave together: a JSON-RPC batch where a thousand requests would be.

A client that sends a thousand transactions in one request costs every service behind the first a thousand
HTTP exchanges, some 200 us each, if they are passed on one by one. Here what one client has waiting leaves as
one batch, in its order, and one exchange of a client is under way at a time, so that transactions of a sender
arrive in the order of their nonces. No batch holds calls of two clients: one would wait for the other's.
Exchanges go round over addresses and connections (`FairQueue`). A client's calls leave when none was added in
a turn of the event loop, for a server begins the requests of a batch in consecutive turns (`LoopSlices`); a
call that is alone waits for that one turn.

An upstream that refuses batches gets single requests for a while.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import orjson

from flashctl.core.jsonrpc.address_quota import AddressQuota
from flashctl.core.jsonrpc.caller import Caller, caller
from flashctl.core.jsonrpc.client import JsonRpcClient
from flashctl.core.jsonrpc.errors import RpcError
from flashctl.core.jsonrpc.fair_queue import FairQueue
from flashctl.core.net.upstream_errors import InvalidAnswer, TooManyInLine

__all__ = ["GatheredCalls"]

_LOG = logging.getLogger(__name__)

MAX_CALLS: Final = 100
"""In one batch: what hosted nodes allow."""

MAX_BYTES: Final = 512 * 1024
"""Of parameters in one batch, below the megabyte that nginx lets through; a single call may have more."""

EXCHANGES: Final = 8
"""Under way at once, each of another client."""

MAX_WAITING: Final = 10_000
MAX_WAITING_BYTES: Final = 64 * 2**20
"""Calls not sent yet. More are refused."""

MAX_WAITING_PER_ADDRESS: Final = MAX_WAITING // 4
MAX_WAITING_BYTES_PER_ADDRESS: Final = MAX_WAITING_BYTES // 4
"""The same of one address, so that the others have room."""

SINGLY_S: Final = 60.0
SINGLY_AT_ONCE: Final = 16
"""How long, and how many at a time of a client, calls go one by one after a batch was refused."""


@dataclass(slots=True, eq=False)
class _Call:
    params: Sequence[Any]
    size: int
    """Bytes of the parameters."""
    result: asyncio.Future[Any]

    @property
    def is_plain(self) -> bool:
        """Whether a batch may hold it. What is nested deeply, or a number out of range, makes some servers
        refuse the whole request, and one client would take batches from all others."""
        return all(isinstance(param, str | int) for param in self.params)


@dataclass(slots=True, eq=False)
class _Line:
    """The calls of one client that wait."""

    client: Caller
    calls: deque[_Call] = field(default_factory=deque)
    seen: int = 0
    """How many there were a turn of the loop ago."""
    is_under_way: bool = False
    """Whether an exchange of this client is; it is in the queue only without."""


class GatheredCalls:
    """Calls of one method to one upstream. Lives on the event loop."""

    def __init__(
        self, client: JsonRpcClient, method: str, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Nothing is under way."""
        self._client = client
        self._method = method
        self._clock = clock
        self._lines: dict[Caller, _Line] = {}
        """Those with calls waiting or an exchange under way."""
        self._queue: FairQueue[_Line] = FairQueue()
        """Those with calls waiting and none under way."""
        self._exchanges: set[asyncio.Task[None]] = set()
        self._is_due = False
        self._singly_until = -1.0
        self._quota: Final = AddressQuota(
            MAX_WAITING,
            MAX_WAITING_PER_ADDRESS,
            size=MAX_WAITING_BYTES,
            size_per_address=MAX_WAITING_BYTES_PER_ADDRESS,
        )
        """Of calls not sent yet."""

    async def call(self, params: Sequence[Any]) -> Any:
        """The result of one call.

        Raises:
            RpcError: If the upstream answered it with an error.
            UpstreamFailure: If it did not answer, or as many calls wait as may.
        """
        client = caller.get()
        call = _Call(params, len(orjson.dumps(params)), asyncio.get_running_loop().create_future())
        if not self._quota.take(client.address, call.size):
            raise TooManyInLine(f"{self._client.url}: too many {self._method} wait")
        line = self._lines.get(client)
        if line is None:
            line = self._lines[client] = _Line(client)
        line.calls.append(call)
        if len(line.calls) == 1 and not line.is_under_way:
            self._queue.push(line, client)
            self._come_back()
        try:
            return await call.result
        finally:
            # A refusal's traceback holds this frame, and the future the refusal.
            del call, line

    async def close(self) -> None:
        """Give up on everything."""
        # Those in line first: an exchange that ends begins the next one.
        for line in self._lines.values():
            self._count_out(line.client.address, line.calls)
            for call in line.calls:
                call.result.cancel()
            line.calls.clear()
        for task in tuple(self._exchanges):
            task.cancel()
        await asyncio.gather(*self._exchanges, return_exceptions=True)

    def _count_out(self, address: str, calls: Sequence[_Call]) -> None:
        self._quota.give_back(address, sum(call.size for call in calls), items=len(calls))

    def _come_back(self) -> None:
        """Begin exchanges in the next turn: what else arrives until then goes along."""
        if not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._begin)

    def _begin(self) -> None:
        self._is_due = False
        growing = []
        while len(self._exchanges) < EXCHANGES and (line := self._queue.pop()) is not None:
            if line.seen < len(line.calls) < MAX_CALLS:
                line.seen = len(line.calls)
                growing.append(line)
                continue
            line.seen, line.is_under_way = 0, True
            calls = self._take(line)
            task = asyncio.get_running_loop().create_task(
                self._exchange(line, calls), name=f"{self._method} of a client"
            )
            self._exchanges.add(task)
            task.add_done_callback(partial(self._ended, calls))
        for line in growing:
            self._queue.push(line, line.client)
        if growing:
            self._come_back()

    def _ended(self, calls: Sequence[_Call], task: asyncio.Task[None]) -> None:
        self._exchanges.discard(task)
        for call in calls:
            # Nothing to do but for those that `close` has called off, perhaps before they began.
            call.result.cancel()
        if len(self._queue):
            self._come_back()

    @property
    def _goes_singly(self) -> bool:
        return self._clock() < self._singly_until

    def _take(self, line: _Line) -> list[_Call]:
        """The next calls of a client, as many as go at once."""
        most = SINGLY_AT_ONCE if self._goes_singly else MAX_CALLS
        taken: list[_Call] = []
        size = 0
        while line.calls and len(taken) < most:
            following = line.calls[0]
            size += following.size
            if taken and (size > MAX_BYTES or not (following.is_plain and taken[0].is_plain)):
                break
            taken.append(line.calls.popleft())
        self._count_out(line.client.address, taken)
        return taken

    async def _exchange(self, line: _Line, calls: list[_Call]) -> None:
        # Whose client has gone is not asked any more.
        calls = [call for call in calls if not call.result.done()]
        try:
            if len(calls) > 1 and not self._goes_singly:
                await self._together(calls)
            else:
                await self._one_by_one(calls)
        except Exception as error:
            for call in calls:
                if not call.result.done():
                    call.result.set_exception(error)
        finally:
            line.is_under_way = False
            if line.calls:
                self._queue.push(line, line.client)
            else:
                self._lines.pop(line.client, None)

    async def _together(self, calls: Sequence[_Call]) -> None:
        try:
            outcomes = await self._client.outcomes([(self._method, call.params) for call in calls])
        except (RpcError, InvalidAnswer) as error:
            _LOG.warning(
                "%s answers no batch of %s, for %d s they go one by one: %s",
                self._client.url, self._method, SINGLY_S, error,
            )  # fmt: skip
            self._singly_until = self._clock() + SINGLY_S
        else:
            for call, outcome in zip(calls, outcomes, strict=True):
                _settle(call, outcome)
            return
        for start in range(0, len(calls), SINGLY_AT_ONCE):
            await self._one_by_one(calls[start : start + SINGLY_AT_ONCE])

    async def _one_by_one(self, calls: Sequence[_Call]) -> None:
        """Each in a request of its own, all at once."""
        asked = [self._client.call(self._method, call.params) for call in calls]
        for call, outcome in zip(calls, await asyncio.gather(*asked, return_exceptions=True), strict=True):
            _settle(call, outcome)


def _settle(call: _Call, outcome: Any) -> None:
    """Hand a call its result or error, if it is waited for."""
    if call.result.done():
        return
    if isinstance(outcome, Exception):
        # Without the frames that it came through, which hold whole batches.
        call.result.set_exception(outcome.with_traceback(None))
    else:
        call.result.set_result(outcome)
