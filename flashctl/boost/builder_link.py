"""Engine calls to the builder: queued in order, so that they delay nothing else.

A builder may be slow, hung or gone without any effect on the chain. So its newPayload and forkchoiceUpdated
calls go through a queue of their own: one at a time, because a forkchoiceUpdated that overtakes the
newPayload of its head is answered SYNCING and costs a block. The queue is short and drops obsolete calls: a
newer forkchoiceUpdated replaces one that waits, and a builder that missed blocks fetches them itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flashctl.boost.tx_mirror import TransactionMirror
from flashctl.core.engine.client import EngineClient
from flashctl.core.service import defects
from flashctl.errors import FlashctlError, UnavailableError

__all__ = ["BuilderLink", "CallReplaced"]

_LOG = logging.getLogger(__name__)

MAX_WAITING = 16
"""Calls that may wait: five 2 s blocks of a builder that does not answer."""


class CallReplaced(UnavailableError):
    """The call waited for a slow builder until a newer one made it obsolete."""


@dataclass(slots=True, eq=False)
class _EngineCall:
    method: str
    params: Sequence[Any]
    result: asyncio.Future[Any]

    @property
    def is_forkchoice(self) -> bool:
        return self.method.startswith("engine_forkchoiceUpdated")

    def fail(self, error: FlashctlError) -> None:
        """End without a result, unless it has ended."""
        if not self.result.done():
            self.result.set_exception(error)


class BuilderLink:
    """The queue of engine calls to one builder."""

    def __init__(self, client: EngineClient) -> None:
        self.client = client
        self.copies = TransactionMirror(client)
        self._waiting: deque[_EngineCall] = deque()
        self._worker: asyncio.Task[None] | None = None
        self._is_failing = False

    def send(self, method: str, params: Sequence[Any]) -> asyncio.Future[Any]:
        """Queue an engine call; the future ends with its result or error and need not be awaited."""
        call = _EngineCall(method, params, asyncio.get_running_loop().create_future())
        # The outcome may go unobserved: retrieve the exception, so that asyncio does not log it.
        call.result.add_done_callback(lambda future: future.cancelled() or future.exception())
        if call.is_forkchoice:
            self._drop([waiting for waiting in self._waiting if waiting.is_forkchoice])
        elif len(self._waiting) >= MAX_WAITING:
            self._drop([self._waiting[0]])
        self._waiting.append(call)
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work(), name="builder link")
        return call.result

    def _drop(self, calls: Sequence[_EngineCall]) -> None:
        for call in calls:
            self._waiting.remove(call)
            call.fail(CallReplaced(f"builder too slow for {call.method}"))

    async def _work(self) -> None:
        while self._waiting:
            call = self._waiting.popleft()
            try:
                result = await self.client.call(call.method, call.params)
            except FlashctlError as error:
                # Only the first failure in a row is a warning.
                level = logging.DEBUG if self._is_failing else logging.WARNING
                _LOG.log(level, "builder: %s: %s", call.method, error)
                self._is_failing = True
                call.fail(error)
            except Exception as error:
                # Keep serving the queue, and end this call: a caller may await its future.
                defects.caught("boost.builder", error, call.method)
                call.fail(UnavailableError(f"{call.method}: defect: {type(error).__name__}"))
            else:
                if self._is_failing:
                    _LOG.info("builder answers again")
                self._is_failing = False
                if not call.result.done():
                    call.result.set_result(result)

    def copy(self, request: bytes) -> None:
        """Send a request without awaiting its answer."""
        self.copies.add(request)

    async def close(self) -> None:
        """Cancel everything under way."""
        await self.copies.close()
        if self._worker is not None:
            self._worker.cancel()
            await asyncio.gather(self._worker, return_exceptions=True)
        self._drop(list(self._waiting))
        await self.client.close()
