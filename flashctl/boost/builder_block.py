"""The builder's block for one getPayload: collected from its sources and validated within the time-outs.

Sources, in this order, the first usable one wins:

1. its flashblocks, if the sequence is complete: the answer then needs no call to the builder;
2. its own getPayload, called in any case so that it ends its build and keeps the block;
3. its flashblocks up to the first fault: published flashblocks are kept even if the builder died after them.

A usable block matches the consensus client's attributes (`boost.obligations`), and the fallback's newPayload
answers VALID for it with the consensus client's beacon root. Everything that waits for the builder shares one
time-out, counted from the call of getPayload; validation by the fallback may take the fallback's time-out on
top.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from flashctl.boost.builder_link import BuilderLink
from flashctl.boost.candidate import Candidate, Request, Unusable, from_envelope, from_flashblocks
from flashctl.boost.metrics import BoostMetrics
from flashctl.boost.obligations import count_transactions, read_transactions
from flashctl.boost.rounds import MAX_ROUNDS, Round
from flashctl.core.engine.client import EngineClient
from flashctl.core.engine.payloads import ForkchoiceResult, PayloadValidity, new_payload_version_for
from flashctl.core.service import defects
from flashctl.errors import DataError, FlashctlError
from flashctl.eth.hexdata import to_hex

__all__ = ["BuilderBlocks"]

FEW_TRANSACTIONS: Final = 200
"""Up to so many are assembled and hashed on the event loop: about 20 microseconds each."""

T = TypeVar("T")


@dataclass(slots=True)
class _Build:
    """What the calls of one round need beside the round."""

    confirmation: asyncio.Task[None]
    """Ends when the builder has answered the call that opened the round."""

    request: tuple[Any, Any] | None = None
    """Forkchoice state and attributes as received, for a rebuild."""


class BuilderBlocks:
    """Finds the builder's block of a round."""

    def __init__(
        self,
        fallback: EngineClient,
        builder: BuilderLink,
        metrics: BoostMetrics,
        *,
        builder_timeout_s: float,
        fallback_timeout_s: float,
        external_state_root: bool = False,
    ) -> None:
        self._fallback = fallback
        self._builder = builder
        self._metrics = metrics
        self._builder_timeout_s = builder_timeout_s
        self._limit_s = builder_timeout_s + fallback_timeout_s
        self._external_state_root = external_state_root
        self._builds: dict[Round, _Build] = {}
        self._background: set[asyncio.Task[Any]] = set()
        self._thread: ThreadPoolExecutor | None = None
        """One thread: a builder's blocks are assembled one after the other."""

    # --- what forkchoiceUpdated leaves for later ---

    def expect_builder(self, round_: Round, confirmation: Coroutine[Any, Any, None]) -> None:
        """The builder's forkchoiceUpdated for this round was sent; `confirmation` awaits its answer."""
        previous = self._builds.get(round_)
        build = _Build(self._in_background(confirmation))
        if previous is not None:
            build.request = previous.request
        self._builds[round_] = build
        while len(self._builds) > MAX_ROUNDS:
            self._builds.pop(next(iter(self._builds)))

    def keep_request(self, round_: Round, state: Any, attributes: Any) -> None:
        """Keep the forkchoice state and attributes, for a rebuild by the fallback."""
        build = self._builds.get(round_)
        if build is not None:
            build.request = (state, attributes)

    # --- getPayload ---

    async def best(self, round_: Round, request: Request) -> Candidate:
        """The builder's block, validated, within the builder's time-out and the fallback's.

        Raises:
            Unusable: If there is none; the text gives the reason.
        """
        try:
            async with asyncio.timeout(self._limit_s):
                return await self._first_usable(round_, request)
        except TimeoutError:
            raise Unusable(f"no builder block within {self._limit_s:g} s") from None

    async def _first_usable(self, round_: Round, request: Request) -> Candidate:
        deadline = asyncio.get_running_loop().time() + self._builder_timeout_s
        fetching = self._fetch_in_background(round_, request.version)
        trouble, failures = round_.trouble, []
        if not trouble:
            try:
                return await self._of_flashblocks(round_, request)
            except Unusable as error:
                failures.append(str(error))
        try:
            envelope = await self._fetched(round_, request.version, fetching, deadline)
            return await self._of_envelope(envelope, round_, request)
        except Unusable as error:
            failures.append(str(error))
        if trouble:
            try:
                return await self._of_flashblocks(round_, request)
            except Unusable:
                failures.insert(0, trouble)
        raise Unusable("; ".join(failures))

    async def _of_flashblocks(self, round_: Round, request: Request) -> Candidate:
        payload = round_.payload
        if self._external_state_root and payload is not None:
            return await self._rebuilt(payload.transactions, "flashblocks", round_, request)
        count = 0 if payload is None else sum(len(each.diff.transactions) for each in payload.flashblocks)
        candidate = await self._beside(count, lambda: from_flashblocks(payload, request))
        return await self._validated(candidate, request)

    async def _of_envelope(self, envelope: dict[str, Any], round_: Round, request: Request) -> Candidate:
        count = count_transactions(envelope)
        if self._external_state_root:
            transactions = await self._beside(count, lambda: read_transactions(envelope))
            return await self._rebuilt(transactions, "getPayload", round_, request)
        candidate = await self._beside(count, lambda: from_envelope(envelope, "getPayload", request))
        return await self._validated(candidate, request)

    async def _beside(self, transactions: int, work: Callable[[], T]) -> T:
        """Do pure work on so many transactions: in the thread if there are many, since hashing 100,000 takes
        seconds and must not delay the fallback's answers."""
        if transactions <= FEW_TRANSACTIONS:
            return work()
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "builder blocks")
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _fetch_in_background(self, round_: Round, version: int) -> asyncio.Task[dict[str, Any]] | None:
        if round_.builder_id is None:
            return None
        call = self._builder.client.get_payload(round_.builder_id, version=version)
        return self._in_background(self._timed("builder", "getPayload", call))

    async def _fetched(
        self,
        round_: Round,
        version: int,
        fetching: asyncio.Task[dict[str, Any]] | None,
        deadline: float,
    ) -> dict[str, Any]:
        """The answer to the builder's own getPayload."""
        if fetching is None:
            build = self._builds.get(round_)
            if build is not None:
                await self._ends_by(build.confirmation, deadline)
            fetching = self._fetch_in_background(round_, version)
        if fetching is None:
            raise Unusable(round_.builder_failure or "builder returned no payload id")
        if not await self._ends_by(fetching, deadline):
            raise Unusable(f"builder's getPayload: no answer within {self._builder_timeout_s:g} s")
        try:
            return fetching.result()
        except FlashctlError as error:
            raise Unusable(f"builder's getPayload: {error}") from None

    async def _ends_by(self, task: asyncio.Task[Any], deadline: float) -> bool:
        left = deadline - asyncio.get_running_loop().time()
        return bool((await asyncio.wait([task], timeout=max(0.0, left)))[0])

    async def _validated(self, candidate: Candidate, request: Request) -> Candidate:
        """The candidate, if the fallback's newPayload answers VALID with the consensus client's beacon root.

        A validation under way is awaited as long as getPayload has time (`best`), longer than the fallback's
        time-out for other calls: abandoning it would drop what was preconfirmed, and sending the block again
        would make the fallback begin anew.
        """
        call = self._fallback.new_payload(
            candidate.payload,
            request.beacon_root,
            version=new_payload_version_for(request.version),
            timeout_s=self._limit_s,
        )
        try:
            status = await self._timed("l2", "newPayload", call)
        except (FlashctlError, DataError) as error:
            raise Unusable(f"{candidate.via}: fallback did not validate: {error}") from None
        if status.status is not PayloadValidity.VALID:
            detail = f": {status.validation_error}" if status.validation_error else ""
            raise Unusable(f"{candidate.via}: fallback answers {status.status.value}{detail}")
        return candidate

    async def _rebuilt(
        self, transactions: tuple[bytes, ...], via: str, round_: Round, request: Request
    ) -> Candidate:
        """The same transactions built into a block by the fallback, for builders without a state root."""
        build = self._builds.get(round_)
        if build is None or build.request is None:
            raise Unusable("the attributes to rebuild with are no longer kept")
        state, attributes = build.request
        wanted = {**attributes, "transactions": [to_hex(raw) for raw in transactions], "noTxPool": True}
        call = self._fallback.call("engine_forkchoiceUpdatedV3", [state, wanted])
        try:
            answer = ForkchoiceResult.from_json(await self._timed("l2", "forkchoiceUpdated", call))
            if answer.payload_id is None:
                raise Unusable(f"{via}: fallback does not rebuild: {answer.status.status.value}")
            fetch = self._fallback.get_payload(answer.payload_id, version=request.version)
            envelope = await self._timed("l2", "getPayload", fetch)
        except FlashctlError as error:
            raise Unusable(f"{via}: fallback did not rebuild: {error}") from None
        candidate = from_envelope(envelope, "rebuilt", request)
        if candidate.block is None or candidate.block.transactions != transactions:
            raise Unusable(f"{via}: fallback left a transaction out")
        return candidate

    # --- bookkeeping ---

    async def _timed(self, upstream: str, method: str, call: Coroutine[Any, Any, Any]) -> Any:
        started = time.monotonic()
        status = "error"
        try:
            result = await call
            status = "ok"
        finally:
            self._metrics.upstream_seconds.labels(upstream, method, status).observe(
                time.monotonic() - started
            )
        return result

    def _in_background(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._background.discard(task)
        # Retrieved, so that asyncio does not log "exception was never retrieved" for an unawaited task.
        error = None if task.cancelled() else task.exception()
        if isinstance(error, Exception) and not isinstance(error, FlashctlError):
            defects.caught("boost.builder", error)

    async def close(self) -> None:
        """Cancel everything under way."""
        tasks = list(self._background)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._thread is not None:
            self._thread.shutdown(wait=False, cancel_futures=True)
