"""Fetching the state that an execution lacks: everything once, at once, and again if the node could not say.

A failure takes nothing away from what is known. Behind one URL there may be several nodes, and one that has
not heard of a block yet answers "header not found" while its neighbour has the state; a busy one answers 429
or not at all. So what failed is asked for again after a pause that grows to RETRY_MAX_S, for as long as
an execution still lacks it: a new head, a settled block or a silent stream ends that, never an error.
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
"""Failures in a row that are worth telling; fewer are what load balancers do."""

_BACKOFF: Final = Backoff(initial_s=0.05, maximum_s=RETRY_MAX_S)


class StateFetcher:
    """Fetches into whatever state it is asked for last. Lives on the event loop."""

    def __init__(self, node: UpstreamClient, arrived: Callable[[], None]) -> None:
        """`arrived` is called when something came, or when it is time to ask again."""
        self._node = node
        self._arrived = arrived
        self._state: CanonicalState | None = None
        self._on_the_way = Missing()
        self._failures = 0
        """In a row."""
        self._pause: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.fetches = 0
        self.failed = 0

    @property
    def is_stuck(self) -> bool:
        """Whether one fetch after the other has failed."""
        return self._failures >= STUCK_AFTER

    def want(self, state: CanonicalState, missing: Missing) -> None:
        """Fetch what is missing of `state` and not on its way already."""
        if state is not self._state:
            # What is on its way to an older state still arrives there, and is asked for again here.
            self._state, self._on_the_way = state, Missing()
        wanted = state.without_known(missing).without(self._on_the_way)
        if wanted and self._pause is None:
            self._on_the_way.add(wanted)
            self._start(self._fetch(state, wanted))

    def want_touched(self, state: CanonicalState, envelopes: Sequence[TxEnvelope]) -> None:
        """Fetch what the node believes that transactions touch."""
        self._start(self._fetch_touched(state, envelopes))

    async def close(self) -> None:
        """Stop asking."""
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
        # Once for a row of failures: the counter tells how many there were.
        level = logging.WARNING if self._failures == 0 else logging.DEBUG
        _LOG.log(level, "state of block %d, asking again: %s", state.block.number, reason)
        delay = _BACKOFF.delay(self._failures, random.random())
        self._failures += 1
        if self._pause is None:
            self._pause = asyncio.get_running_loop().call_later(delay, self._resume)

    def _resume(self) -> None:
        self._pause = None
        self._arrived()
