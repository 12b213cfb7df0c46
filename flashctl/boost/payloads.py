"""getPayload: both blocks are collected in parallel, one is returned, the decision is recorded.

The fallback's own payload is requested before anything else is done, so that falling back adds no latency
beyond detecting the builder's failure, and no fault on the builder's side (`boost.builder_block`) can cost
the answer.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

from flashctl.boost.builder_block import BuilderBlocks
from flashctl.boost.candidate import Candidate, Request, Unusable, from_fallback, keeps_preconfirmations
from flashctl.boost.decisions import Decision, DecisionLog
from flashctl.boost.modes import ExecutionMode, SelectionPolicy
from flashctl.boost.obligations import parameters_of
from flashctl.boost.resender import Resender
from flashctl.boost.rounds import Round
from flashctl.boost.selection import Choice, Offer, Source, choose
from flashctl.boost.state import BoostState
from flashctl.core.engine.client import EngineClient
from flashctl.core.jsonrpc.errors import ErrorCode, RpcError
from flashctl.core.service import defects
from flashctl.errors import FlashctlError
from flashctl.eth.hexdata import to_hex

__all__ = ["PayloadService"]

_LOG = logging.getLogger("flashctl.boost")


class PayloadService:
    """Answers getPayload."""

    def __init__(
        self,
        fallback: EngineClient,
        blocks: BuilderBlocks,
        state: BoostState,
        decisions: DecisionLog,
        resender: Resender,
        *,
        policy: SelectionPolicy = SelectionPolicy.BUILDER,
    ) -> None:
        self._fallback = fallback
        self.blocks = blocks
        self._rounds = state.rounds
        self._health = state.health
        self._switch = state.switch
        self._metrics = state.metrics
        self._decisions = decisions
        self._resender = resender
        self._policy = policy
        self._answering: dict[tuple[bytes, int], asyncio.Task[dict[str, Any]]] = {}

    # --- getPayload ---

    async def get(self, identity: bytes, version: int) -> dict[str, Any]:
        """The envelope for a payload id of the fallback's.

        Concurrent calls for one id share one decision; a later call gets the same answer.
        """
        key = (identity, version)
        task = self._answering.get(key)
        if task is None:
            task = asyncio.create_task(self._answer(identity, version))
            self._answering[key] = task
            task.add_done_callback(lambda _: self._answering.pop(key, None))
        return await asyncio.shield(task)

    async def _answer(self, identity: bytes, version: int) -> dict[str, Any]:
        started = time.monotonic()
        round_ = self._rounds.find(identity)
        if round_ is not None and round_.answer is not None:
            return _answer_again(round_, version)
        # Preconfirmed flashblocks are honoured, even if the operator has changed the mode meanwhile.
        is_published = round_ is not None and round_.published
        mode = ExecutionMode.ENABLED if is_published else self._switch.mode
        if round_ is None or mode is ExecutionMode.DISABLED:
            reason = "disabled" if mode is ExecutionMode.DISABLED else "not built with the builder"
            answered_alone = await self._from_fallback(identity, version)
            self._record(identity, None, Choice(Source.FALLBACK, reason), None, answered_alone, mode, started)
            return answered_alone.envelope
        self._rounds.seal(round_)
        own = asyncio.create_task(self._from_fallback(identity, version))
        # One turn of the event loop sends the fallback's request before anything is computed here.
        await asyncio.sleep(0)
        request = Request(round_.parent_hash, round_.attributes, version, self._rounds.defaults)
        builder, failure = await self._from_builder(round_, request)
        try:
            fallback: Candidate | None = await own
        except Exception as error:
            if not isinstance(error, FlashctlError):
                defects.caught("boost.getPayload", error)
            fallback, fallback_error = None, error
        finally:
            # An error bound to a local of a frame in its own traceback is a reference cycle, here with
            # payloads.
            del own
        if builder is not None and (contradiction := self._contradiction(builder, fallback, request)):
            builder, failure = None, contradiction
        with defects.contained("boost.getPayload"):
            self._judge(builder, fallback, round_)
        choice = choose(_offer(builder), _offer(fallback), mode, self._policy, failure)
        if choice is None:
            try:
                raise fallback_error
            finally:
                del fallback_error
        chosen = builder if choice.source is Source.BUILDER else fallback
        assert chosen is not None
        round_.answer, round_.answered_version = chosen.envelope, version
        self._record(identity, round_, choice, builder, fallback, mode, started)
        with defects.contained("boost.exclusions"):
            self._resender.returned(chosen, fallback)
        return chosen.envelope

    async def _from_builder(self, round_: Round, request: Request) -> tuple[Candidate | None, str]:
        """The builder's block, or why there is none. Every fault on the builder's side is contained: the
        chain needs a block now."""
        try:
            return await self.blocks.best(round_, request), ""
        except Unusable as error:
            return None, str(error)
        except Exception as error:
            defects.caught("boost.builder", error, to_hex(round_.expected_id))
            return None, f"defect: {type(error).__name__}"

    def _contradiction(self, builder: Candidate, fallback: Candidate | None, request: Request) -> str:
        """How the builder's block contradicts the fallback's own; empty if it does not."""
        try:
            if fallback is not None:
                builder.check_against(fallback)
            elif request.lacks_defaults:
                # The attributes ask for the chain's own EIP-1559 parameters, and no fallback block has shown
                # them.
                return "the chain's EIP-1559 parameters are not known yet"
        except Unusable as error:
            return str(error)
        except Exception as error:
            defects.caught("boost.builder", error)
            return f"defect: {type(error).__name__}"
        return ""

    def _judge(self, builder: Candidate | None, fallback: Candidate | None, round_: Round) -> None:
        """Update health, metrics and chain parameters from both blocks."""
        self._health.builder_delivered(builder is not None)
        if fallback is not None:
            self._health.fallback_probed(time.time() - fallback.timestamp)
            self._rounds.parents.compare(round_.child, fallback.payload)
            self._rounds.defaults = (
                parameters_of(fallback.payload, round_.attributes) or self._rounds.defaults
            )
        if builder is not None:
            self._health.builder_probed(time.time() - builder.timestamp)
        if builder is not None and fallback is not None:
            self._metrics.gas_delta.observe(builder.offer.gas_used - fallback.offer.gas_used)
            self._metrics.transaction_delta.observe(builder.offer.transactions - fallback.offer.transactions)

    async def _from_fallback(self, identity: bytes, version: int) -> Candidate:
        """The fallback's own block.

        Raises:
            FlashctlError: If it has none.
        """
        started, status = time.monotonic(), "error"
        try:
            envelope = await self._fallback.get_payload(identity, version=version)
            status = "ok"
        except FlashctlError as error:
            self._health.fallback_refused(error)
            _LOG.error("fallback has no payload: %s", error, extra={"payload_id": to_hex(identity)})
            raise
        finally:
            seconds = time.monotonic() - started
            self._metrics.upstream_seconds.labels("l2", "getPayload", status).observe(seconds)
        self._health.fallback_answered(True)
        return from_fallback(envelope)

    # --- bookkeeping ---

    @defects.contained("boost.decisions")
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
        """Record one decision: log, metrics, file. The answer does not depend on it."""
        chosen = builder if choice.source is Source.BUILDER else fallback
        assert chosen is not None
        published = round_.payload if round_ is not None and round_.published else None
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
            flashblocks=len(published.flashblocks) if published is not None else 0,
            builder_block_hash=None if builder is None else builder.block_hash,
            builder_gas_used=None if builder is None else builder.offer.gas_used,
            l2_block_hash=None if fallback is None else fallback.block_hash,
            l2_gas_used=None if fallback is None else fallback.offer.gas_used,
            kept_promises=keeps_preconfirmations(chosen, published),
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

    async def close(self) -> None:
        """Cancel everything under way."""
        tasks = list(self._answering.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.blocks.close()


def _answer_again(round_: Round, version: int) -> dict[str, Any]:
    """The answer given before, for a repeated getPayload.

    Raises:
        RpcError: If the version differs, which the block's fork does not have.
    """
    if version != round_.answered_version:
        text = f"Unsupported fork: this payload was taken with getPayloadV{round_.answered_version}"
        raise RpcError(ErrorCode.UNSUPPORTED_FORK, text)
    answer: dict[str, Any] = round_.answer
    return answer


def _offer(candidate: Candidate | None) -> Offer | None:
    return None if candidate is None else candidate.offer
