"""getPayload: both blocks gathered, the builder's judged by the fallback, one returned.

Sources of the builder's block, in this order, each bounded by a time-out, the first valid one wins:

1. its flashblocks, if they arrived without trouble: no call to the builder is on the way to the answer;
2. its own getPayload, called in any case so that it ends its build and keeps the block;
3. its flashblocks up to the trouble: what was published is kept even if the builder died on it.

A valid block is one the fallback's newPayload calls VALID. The fallback's own payload is fetched at the same
time, so that falling back costs nothing more than finding out.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from flashctl.boost.builder_link import BuilderLink
from flashctl.boost.candidate import Candidate, Unusable, from_envelope, from_flashblocks, keeps_promises
from flashctl.boost.decisions import Decision, DecisionLog
from flashctl.boost.health import Health
from flashctl.boost.metrics import BoostMetrics
from flashctl.boost.modes import ExecutionMode, ModeSwitch, SelectionPolicy
from flashctl.boost.rounds import Round, Rounds
from flashctl.boost.selection import Choice, Offer, Source, choose
from flashctl.core.engine import Status, new_payload_version_for
from flashctl.core.engine_client import EngineClient, requests_of
from flashctl.errors import DataError, FlashctlError
from flashctl.eth.hexdata import parse_hex, to_hex

__all__ = ["PayloadService"]

_LOG = logging.getLogger("flashctl.boost")

MAX_BUILDS = 64
"""As many as rounds are remembered."""


@dataclass(slots=True)
class _Build:
    """What the calls of one round need beside the round."""

    confirmation: asyncio.Task[None]
    """Ends when the builder has answered the call that opened the round."""

    request: tuple[Any, Any] | None = None
    """Forkchoice state and attributes as received, for a rebuild."""


class PayloadService:
    """Answers getPayload."""

    def __init__(
        self,
        l2: EngineClient,
        builder: BuilderLink,
        rounds: Rounds,
        health: Health,
        switch: ModeSwitch,
        metrics: BoostMetrics,
        decisions: DecisionLog,
        *,
        policy: SelectionPolicy = SelectionPolicy.BUILDER,
        external_state_root: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._l2 = l2
        self._builder = builder
        self._rounds = rounds
        self._health = health
        self._switch = switch
        self._metrics = metrics
        self._decisions = decisions
        self._policy = policy
        self._external_state_root = external_state_root
        self._clock = clock
        self._answering: dict[bytes, asyncio.Task[dict[str, Any]]] = {}
        self._builds: dict[Round, _Build] = {}
        self._background: set[asyncio.Task[Any]] = set()

    # --- what forkchoiceUpdated leaves for later ---

    def expect_builder(self, round_: Round, confirmation: Coroutine[Any, Any, None]) -> None:
        """The builder has been asked for this round; `confirmation` takes its answer."""
        previous = self._builds.get(round_)
        build = _Build(self._in_background(confirmation))
        if previous is not None:
            build.request = previous.request
        self._builds[round_] = build
        while len(self._builds) > MAX_BUILDS:
            self._builds.pop(next(iter(self._builds)))

    def remember_request(self, round_: Round, state: Any, attributes: Any) -> None:
        """Keep what the consensus client asked for."""
        build = self._builds.get(round_)
        if build is not None:
            build.request = (state, attributes)

    # --- getPayload ---

    async def get(self, identity: bytes, version: int) -> dict[str, Any]:
        """The envelope for a payload id of the fallback's.

        Asked twice at once, it is decided once; asked again later, the answer is the same.
        """
        task = self._answering.get(identity)
        if task is None:
            task = asyncio.create_task(self._answer(identity, version))
            self._answering[identity] = task
            task.add_done_callback(lambda _: self._answering.pop(identity, None))
        return await asyncio.shield(task)

    async def _answer(self, identity: bytes, version: int) -> dict[str, Any]:
        started = time.monotonic()
        mode = self._switch.mode
        round_ = self._rounds.find(identity)
        if round_ is not None and round_.answer is not None:
            answer: dict[str, Any] = round_.answer
            return answer
        if round_ is None or mode is ExecutionMode.DISABLED:
            reason = "disabled" if mode is ExecutionMode.DISABLED else "not built with the builder"
            l2 = await self._from_l2(identity, version)
            self._record(identity, None, Choice(Source.L2, reason), None, l2, mode, started)
            return l2.envelope
        self._rounds.seal(round_)
        own = asyncio.create_task(self._from_l2(identity, version))
        builder, failure = None, ""
        try:
            builder = await self._from_builder(round_, version)
        except Unusable as error:
            failure = str(error)
        except Exception as error:
            # Whatever is wrong on the builder's side of the house, the chain needs a block now.
            failure = f"{type(error).__name__}: {error}"
            _LOG.error("the builder's block: %s", failure)
            _LOG.debug("the builder's block", exc_info=error)
        try:
            fallback: Candidate | None = await own
        except FlashctlError as error:
            fallback, l2_error = None, error
        self._judge(builder, fallback)
        choice = choose(_offer(builder), _offer(fallback), mode, self._policy, failure)
        if choice is None:
            raise l2_error
        self._record(identity, round_, choice, builder, fallback, mode, started)
        chosen = builder if choice.source is Source.BUILDER else fallback
        assert chosen is not None
        round_.answer = chosen.envelope
        return chosen.envelope

    def _judge(self, builder: Candidate | None, fallback: Candidate | None) -> None:
        """What this getPayload says about the health of both sides."""
        self._health.builder_delivered(builder is not None)
        if fallback is not None:
            self._health.l2_probed(self._clock() - fallback.timestamp)
        if builder is not None:
            self._health.builder_probed(self._clock() - builder.timestamp)
        if builder is not None and fallback is not None:
            self._metrics.gas_delta.observe(builder.offer.gas_used - fallback.offer.gas_used)
            self._metrics.transaction_delta.observe(builder.offer.transactions - fallback.offer.transactions)

    async def _from_l2(self, identity: bytes, version: int) -> Candidate:
        """The fallback's own block.

        Raises:
            FlashctlError: If it has none.
        """
        try:
            envelope = await self._timed("l2", "getPayload", self._l2.get_payload(identity, version=version))
        except FlashctlError as error:
            self._health.l2_answered(False)
            _LOG.error("fallback has no payload: %s", error, extra={"payload_id": to_hex(identity)})
            raise
        self._health.l2_answered(True)
        return from_envelope(envelope, "")

    # --- the builder's block ---

    async def _from_builder(self, round_: Round, version: int) -> Candidate:
        """The builder's block, judged valid.

        Raises:
            Unusable: If there is none; the text says why.
        """
        fetching = self._fetch_in_background(round_, version)
        failures: list[str] = []
        if not round_.trouble:
            try:
                return await self._judged(from_flashblocks(round_.payload, version), round_, version)
            except Unusable as error:
                failures.append(str(error))
        try:
            return await self._judged(await self._fetched(round_, version, fetching), round_, version)
        except Unusable as error:
            failures.append(str(error))
        if round_.trouble:
            try:
                return await self._judged(from_flashblocks(round_.payload, version), round_, version)
            except Unusable:
                failures.insert(0, round_.trouble)
        raise Unusable("; ".join(failures))

    def _fetch_in_background(self, round_: Round, version: int) -> asyncio.Task[dict[str, Any]] | None:
        if round_.builder_id is None:
            return None
        call = self._builder.client.get_payload(round_.builder_id, version=version)
        return self._in_background(self._timed("builder", "getPayload", call))

    async def _fetched(
        self, round_: Round, version: int, fetching: asyncio.Task[dict[str, Any]] | None
    ) -> Candidate:
        """The block of the builder's own getPayload."""
        if fetching is None:
            build = self._builds.get(round_)
            if build is not None:
                # Within the builder's time-out, since the confirmation is a call of its own.
                await asyncio.wait([build.confirmation])
            fetching = self._fetch_in_background(round_, version)
        if fetching is None:
            raise Unusable(round_.builder_failure or "builder did not say what it builds")
        try:
            envelope = await fetching
        except FlashctlError as error:
            raise Unusable(f"builder's getPayload: {error}") from None
        return from_envelope(envelope, "getPayload")

    async def _judged(self, candidate: Candidate, round_: Round, version: int) -> Candidate:
        """The candidate, if it is the block that was asked for and the fallback finds it valid."""
        payload = candidate.payload
        if payload.get("parentHash") != to_hex(round_.parent_hash):
            raise Unusable(f"{candidate.via}: block is on another parent")
        if candidate.timestamp != round_.attributes.timestamp:
            raise Unusable(f"{candidate.via}: block has another timestamp")
        try:
            if self._external_state_root:
                return await self._rebuilt(candidate, round_, version)
            root = parse_hex(candidate.envelope.get("parentBeaconBlockRoot", ""), size=32)
            status = await self._timed(
                "l2",
                "newPayload",
                self._l2.new_payload(
                    payload,
                    root,
                    version=new_payload_version_for(version),
                    requests=requests_of(candidate.envelope),
                ),
            )
        except (FlashctlError, DataError) as error:
            raise Unusable(f"{candidate.via}: fallback did not validate: {error}") from None
        if status.status is not Status.VALID:
            detail = f": {status.validation_error}" if status.validation_error else ""
            raise Unusable(f"{candidate.via}: fallback says {status.status.value}{detail}")
        return candidate

    async def _rebuilt(self, candidate: Candidate, round_: Round, version: int) -> Candidate:
        """The same transactions built into a block by the fallback, for builders without a state root."""
        build = self._builds.get(round_)
        if build is None or build.request is None:
            raise Unusable("the request to rebuild is not known any more")
        state, attributes = build.request
        wanted = {**attributes, "transactions": candidate.payload.get("transactions"), "noTxPool": True}
        answer = await self._timed(
            "l2", "forkchoiceUpdated", self._l2.call("engine_forkchoiceUpdatedV3", [state, wanted])
        )
        identity = answer.get("payloadId") if isinstance(answer, dict) else None
        if identity is None:
            raise Unusable("fallback does not rebuild")
        envelope = await self._timed(
            "l2", "getPayload", self._l2.get_payload(parse_hex(identity, size=8), version=version)
        )
        return from_envelope(envelope, "rebuilt")

    # --- bookkeeping ---

    def _record(
        self,
        identity: bytes,
        round_: Round | None,
        choice: Choice,
        builder: Candidate | None,
        fallback: Candidate | None,
        mode: ExecutionMode,
        started: float,
    ) -> None:
        """Write one decision down: log, metrics, file."""
        chosen = builder if choice.source is Source.BUILDER else fallback
        assert chosen is not None
        promised = round_.payload if round_ is not None and round_.published else None
        decision = Decision(
            payload_id=to_hex(identity),
            builder_payload_id=to_hex(round_.builder_id) if round_ and round_.builder_id else None,
            source=choice.source.value,
            reason=choice.reason,
            via=chosen.via,
            mode=mode.value,
            block_number=chosen.block_number,
            block_hash=chosen.block_hash,
            transactions=chosen.offer.transactions,
            gas_used=chosen.offer.gas_used,
            flashblocks=len(promised.flashblocks) if promised is not None else 0,
            builder_block_hash=None if builder is None else builder.block_hash,
            builder_gas_used=None if builder is None else builder.offer.gas_used,
            l2_block_hash=None if fallback is None else fallback.block_hash,
            l2_gas_used=None if fallback is None else fallback.offer.gas_used,
            kept_promises=keeps_promises(chosen, promised),
            seconds=round(time.monotonic() - started, 6),
        )
        self._metrics.blocks_created.labels(decision.source).inc()
        if choice.source is Source.BUILDER and round_ is not None:
            self._metrics.used(len(round_.flashblocks))
        if not decision.kept_promises:
            self._metrics.broken_promises.inc()
        _LOG.log(
            logging.INFO if decision.kept_promises else logging.WARNING,
            "returning block",
            extra={
                "source": decision.source,
                "block": decision.block_number,
                "hash": decision.block_hash,
                "txs": decision.transactions,
                "gas": decision.gas_used,
                "flashblocks": decision.flashblocks,
                "via": decision.via,
                "reason": decision.reason,
                "payload_id": decision.payload_id,
                "ms": round(decision.seconds * 1000, 1),
            },
        )
        try:
            self._decisions.write(decision)
        except FlashctlError as error:
            _LOG.error("%s", error)

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

        def ended(task: asyncio.Task[Any]) -> None:
            self._background.discard(task)
            # Looked at, so that the loop does not complain about an outcome that nobody waits for.
            if not task.cancelled():
                task.exception()

        task.add_done_callback(ended)
        return task

    async def close(self) -> None:
        """Give up on everything under way."""
        tasks = [*self._background, *self._answering.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _offer(candidate: Candidate | None) -> Offer | None:
    return None if candidate is None else candidate.offer
