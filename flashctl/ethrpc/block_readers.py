"""Threads for questions that read many blocks: logs of a range, what a filter missed, fees of the past.

They have a few threads of their own, so that only queries of this kind wait for each other, and clients take
turns (`FairQueue`). Waiting counts against the time that a query may take, and the line is bounded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar, TypeVarTuple

from flashctl.core.jsonrpc.address_quota import AddressQuota
from flashctl.core.jsonrpc.caller import caller
from flashctl.core.jsonrpc.errors import ErrorCode, RpcError
from flashctl.core.jsonrpc.fair_queue import FairQueue

__all__ = ["MAX_SECONDS", "Readers"]

MAX_SECONDS: Final = 5.0
"""Of one question, from when it came."""

AT_ONCE: Final = 2
"""They share the interpreter with everything else."""

MAX_WAITING: Final = 128
MAX_WAITING_PER_ADDRESS: Final = MAX_WAITING // 2
"""Questions in line, of all clients and of one address."""

_Given = TypeVarTuple("_Given")
_Result = TypeVar("_Result")


class Readers:
    """Runs reading functions in threads. Lives on the event loop."""

    def __init__(self) -> None:
        self._threads: Final = ThreadPoolExecutor(AT_ONCE, "reading")
        self._running = 0
        self._line: FairQueue[asyncio.Future[None]] = FairQueue()
        """Those that wait for a thread."""
        self._quota: Final = AddressQuota(MAX_WAITING, MAX_WAITING_PER_ADDRESS)
        """Of those."""

    async def run(self, work: Callable[[*_Given], _Result], *args: *_Given) -> _Result:
        """The result of `work(*args)`, called in a thread.

        Raises:
            RpcError: Too many wait, or its turn came too late.
        """
        loop = asyncio.get_running_loop()
        if self._running >= AT_ONCE:
            await self._turn(loop)
        else:
            self._running += 1
        # From here on one of the threads is this question's.
        reading = loop.run_in_executor(self._threads, work, *args)
        reading.add_done_callback(self._done)
        try:
            # A thread goes on when its client has gone, and is taken until then.
            return await asyncio.shield(reading)
        finally:
            # The traceback of a refusal holds this frame, and the future the refusal.
            del reading

    async def _turn(self, loop: asyncio.AbstractEventLoop) -> None:
        """Wait for a thread; the one that comes free is not free in between."""
        client = caller.get()
        if not self._quota.take(client.address):
            raise RpcError(ErrorCode.LIMIT_EXCEEDED, "too many queries of blocks at a time, try again later")
        place = loop.create_future()
        self._line.push(place, client)
        try:
            async with asyncio.timeout(MAX_SECONDS):
                await place
        except BaseException as error:
            if place.done() and not place.cancelled():
                self._next()  # it was given a thread that it has no use for any more
            else:
                self._line.remove(place, client)
            if isinstance(error, TimeoutError):
                raise RpcError(
                    ErrorCode.LIMIT_EXCEEDED, f"query waited for more than {MAX_SECONDS:g} s"
                ) from None
            raise
        finally:
            self._quota.give_back(client.address)

    def _done(self, reading: asyncio.Future[Any]) -> None:
        if not reading.cancelled():
            reading.exception()  # retrieved here in case the caller has gone
        self._next()

    def _next(self) -> None:
        """A thread came free: it is the next question's."""
        while (place := self._line.pop()) is not None:
            if not place.done():
                place.set_result(None)
                return
        self._running -= 1

    def close(self) -> None:
        """Begin nothing more."""
        self._threads.shutdown(wait=False, cancel_futures=True)
