"""Fetches the state that an execution lacks: in one batch, without duplicates, with retries.

A failure leaves known state unchanged. Behind one URL there may be several nodes, and one that lacks a block
answers "header not found" while another has the state; a busy one answers 429 or not at all. So a failed
fetch is retried after a pause that grows to RETRY_MAX_S, for as long as an execution still lacks the state: a
new head, a settled block or a silent stream ends the retries, never an error.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine, Sequence
from typing import Final

from flashctl.core.flashblocks.client import Backoff
from flashctl.core.service import defects
from flashctl.errors import FlashctlError
from flashctl.evm.missing_state import Missing
from flashctl.op.envelope import TxEnvelope
from flashctl.remote.state import CanonicalState
from flashctl.remote.upstream_client import UpstreamClient

__all__ = ["StateFetcher"]

_LOG = logging.getLogger(__name__)

RETRY_MAX_S: Final = 2.0

STUCK_AFTER: Final = 5
"""Consecutive failures that are reported; fewer are normal behind a load balancer."""

_BACKOFF: Final = Backoff(initial_s=0.05, maximum_s=RETRY_MAX_S)


class StateFetcher:
    """Fetches into the state requested last. Used on the event loop."""

    def __init__(self, node: UpstreamClient, arrived: Callable[[], None]) -> None:
        """`arrived` is called when state arrived, or when a retry is due."""
        self._node = node
        self._arrived = arrived
        self._state: CanonicalState | None = None
        self._on_the_way = Missing()
        self._failures = 0
        """Consecutive failures."""
        self._pause: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.fetches = 0
        self.failed = 0

    @property
    def is_stuck(self) -> bool:
        """Whether STUCK_AFTER fetches in a row have failed."""
        return self._failures >= STUCK_AFTER

    def want(self, state: CanonicalState, missing: Missing) -> None:
        """Fetch what is missing of `state` and not requested already."""
        if state is not self._state:
            # Requests for an older state still complete there, and are repeated for this one.
            self._state, self._on_the_way = state, Missing()
        wanted = state.without_known(missing).without(self._on_the_way)
        if wanted and self._pause is None:
            self._on_the_way.add(wanted)
            self._start(self._fetch(state, wanted))

    def want_touched(self, state: CanonicalState, envelopes: Sequence[TxEnvelope]) -> None:
        """Fetch the access lists that the node computes for transactions."""
        self._start(self._fetch_touched(state, envelopes))

    async def close(self) -> None:
        """Stop fetching."""
        if self._pause is not None:
            self._pause.cancel()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work, name="state fetch")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _fetch(self, state: CanonicalState, wanted: Missing) -> None:
        self.fetches += 1
        try:
            await self._node.load(state, wanted)
        except FlashctlError as error:
            self._failed(state, str(error))
        except Exception as error:
            defects.caught("rpc.fetch", error)
            self._failed(state, type(error).__name__)
        else:
            if self._failures:
                _LOG.info("state of block %d: the node answers again", state.block.number)
            self._failures = 0
        finally:
            if state is self._state:
                self._on_the_way = self._on_the_way.without(wanted)
        if self._pause is None:
            self._arrived()

    async def _fetch_touched(self, state: CanonicalState, envelopes: Sequence[TxEnvelope]) -> None:
        try:
            found = await self._node.touched(state, envelopes)
        except Exception as error:
            defects.caught("rpc.hint", error)
            return
        if found and state is self._state:
            self.want(state, found)

    def _failed(self, state: CanonicalState, reason: str) -> None:
        self.failed += 1
        # Once per series of failures: the counter has their number.
        level = logging.WARNING if self._failures == 0 else logging.DEBUG
        _LOG.log(level, "state of block %d, retrying: %s", state.block.number, reason)
        delay = _BACKOFF.delay(self._failures, random.random())
        self._failures += 1
        if self._pause is None:
            self._pause = asyncio.get_running_loop().call_later(delay, self._resume)

    def _resume(self) -> None:
        self._pause = None
        self._arrived()
