"""The Engine API served to the consensus client: every call to the fallback, most of them to both sides.

The fallback (`--l2-url`, the sequencer's own execution client) is the authority: the consensus client gets
its answer, as fast as it gives it. The builder is called in parallel, through `BuilderLink`, and nothing
waits for it except getPayload, up to the builder's time-out:

    forkchoiceUpdated   both; the answer and the payload id are the fallback's
    newPayload          both; the answer is the fallback's
    getPayload          the builder's block if the fallback finds it valid, else the fallback's own
    anything else       the fallback; transactions that it accepts and miner settings are copied to the
                        builder, which also gets those with insufficient funds at the head; bundles and
                        conditional transactions go to the builder alone (`boost.forwarding`)
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

from flashctl.boost.exclusions import Exclusions
from flashctl.boost.health import HealthStatus
from flashctl.boost.modes import ExecutionMode
from flashctl.boost.payloads import PayloadService
from flashctl.boost.rounds import Incoming, Round, Verdict
from flashctl.boost.state import BoostState, Engines
from flashctl.core.engine.payloads import (
    ForkchoiceResult,
    ForkchoiceState,
    PayloadValidity,
    attributes_from_json,
    payload_id_from_json,
)
from flashctl.core.jsonrpc.errors import reading_params
from flashctl.core.jsonrpc.methods import Handler, Methods, required
from flashctl.core.service import defects
from flashctl.errors import DataError, FlashctlError
from flashctl.eth.hexdata import to_hex
from flashctl.op.attributes import PayloadAttributes, payload_id

__all__ = ["Multiplexer"]

_LOG = logging.getLogger(__name__)

PAYLOAD_VERSIONS = (3, 4, 5)
"""getPayload versions a builder can answer: Ecotone on. Older ones are the fallback's alone."""


class Multiplexer:
    """Answers the consensus client."""

    def __init__(
        self,
        engines: Engines,
        state: BoostState,
        payloads: PayloadService,
        exclusions: Exclusions,
        *,
        released: Callable[[Incoming, Verdict], None] = lambda incoming, verdict: None,
    ) -> None:
        """`released` is called with flashblocks that waited for the builder's payload id."""
        self._fallback = engines.fallback
        self._builder = engines.builder
        self._state = state
        self._rounds = state.rounds
        self._health = state.health
        self._switch = state.switch
        self._metrics = state.metrics
        self._payloads = payloads
        self._blocks = payloads.blocks
        self._exclusions = exclusions
        self._released = released

    def methods(self) -> Methods:
        """The calls that concern both engines; everything else is `Forwarding`'s."""
        table = Methods()
        for version in (1, 2, 3):
            table.register(*self._timed(f"engine_forkchoiceUpdatedV{version}", self._forkchoice(version)))
        for version in (1, 2, 3, 4, 5):
            table.register(*self._timed(f"engine_newPayloadV{version}", self._new_payload(version)))
        for version in PAYLOAD_VERSIONS:
            table.register(*self._timed(f"engine_getPayloadV{version}", self._get_payload(version)))
        return table

    @property
    def status(self) -> HealthStatus:
        """The status of /healthz."""
        return self._health.status(self._switch.mode)

    def _timed(self, method: str, handler: Handler) -> tuple[str, Handler]:
        span = _SPANS.get(method, "")

        async def timed(params: list[Any]) -> Any:
            started = time.monotonic()
            ok = False
            try:
                result = await handler(params)
                ok = True
            finally:
                self._metrics.answered(span, time.monotonic() - started, ok=ok)
            return result

        return method, timed

    # --- forkchoiceUpdated ---

    def _forkchoice(self, version: int) -> Handler:
        method = f"engine_forkchoiceUpdatedV{version}"

        async def forkchoice_updated(params: list[Any]) -> Any:
            state = required(params, 0, "forkchoiceState")
            attributes = params[1] if len(params) > 1 else None
            round_ = self._ask_builder(method, state, attributes if version == 3 else None)
            try:
                answer = await self._ask_fallback(method, params)
            except FlashctlError:
                if round_ is not None:
                    self._rounds.cancel(round_)
                raise
            if round_ is not None:
                with defects.contained("boost.forkchoiceUpdated"):
                    self._rounds.fallback_answered(round_, _payload_id(answer))
                    self._blocks.keep_request(round_, state, attributes)
            return answer

        return forkchoice_updated

    def _ask_builder(self, method: str, state: Any, attributes: Any) -> Round | None:
        """Queue the call for the builder; the round it opens, if the builder takes part in the block.

        A failure here affects the builder only: the fallback is called all the same.
        """
        try:
            round_ = self._begin(state, attributes)
            if self._state.builder_takes_part:
                future = self._builder.send(method, [state, attributes if round_ is not None else None])
                if round_ is not None:
                    self._blocks.expect_builder(round_, self._confirm(round_, future))
        except Exception as error:
            defects.caught("boost.forkchoiceUpdated", error)
            self._rounds.supersede()
            return None
        return round_

    def _begin(self, state: Any, attributes: Any) -> Round | None:
        """The round that attributes open; None where the builder takes no part in the block."""
        if attributes is None:
            return None
        try:
            head = ForkchoiceState.from_json(state).head
            wanted: PayloadAttributes = attributes_from_json(attributes)
        except DataError:
            # Malformed, or newer than this program: the fallback decides, and builds alone.
            self._rounds.supersede()
            return None
        if wanted.no_tx_pool or not self._state.builder_takes_part:
            self._rounds.supersede()
            return None
        if self._leaves_out(head, wanted):
            self._rounds.supersede()
            return None
        return self._rounds.begin(head, wanted)

    def _leaves_out(self, head: bytes, wanted: PayloadAttributes) -> bool:
        """Whether the fallback builds this payload alone, because the builder keeps leaving transactions
        out."""
        expected, current = payload_id(head, wanted), self._rounds.current
        is_begun = current is not None and current.expected_id == expected
        if is_begun or self._switch.mode is not ExecutionMode.ENABLED:
            return False
        before = self._exclusions.times_left_out
        if not self._exclusions.leaves_out(expected):
            return False
        if self._exclusions.times_left_out == before:
            return True
        self._metrics.left_out.inc()
        fields = {"parent": to_hex(head), "timestamp": wanted.timestamp}
        _LOG.warning("the fallback builds alone: the builder leaves transactions out", extra=fields)
        return True

    async def _confirm(self, round_: Round, answer: asyncio.Future[Any]) -> None:
        """Process the builder's answer to the call that opened a round, when it comes."""
        identity, failure = None, ""
        try:
            result = ForkchoiceResult.from_json(await answer)
            identity = result.payload_id
            if identity is None:
                failure = f"builder does not build: {result.status.status.value}"
        except FlashctlError as error:
            failure = f"builder did not start: {error}"
        if failure:
            _LOG.warning("%s", failure, extra={"builder": self._builder.client.url})
        now_ns = time.monotonic_ns()
        for incoming, verdict in self._rounds.builder_answered(round_, identity, now_ns, failure):
            with defects.contained("boost.stream"):
                self._released(incoming, verdict)

    # --- newPayload and getPayload ---

    def _new_payload(self, version: int) -> Handler:
        method = f"engine_newPayloadV{version}"

        async def new_payload(params: list[Any]) -> Any:
            if self._state.builder_takes_part:
                with defects.contained("boost.newPayload"):
                    self._builder.send(method, params)
            answer = await self._ask_fallback(method, params)
            with defects.contained("boost.newPayload"):
                if (
                    params
                    and isinstance(answer, dict)
                    and answer.get("status") == PayloadValidity.VALID.value
                ):
                    self._rounds.parents.learn(params[0])
            return answer

        return new_payload

    def _get_payload(self, version: int) -> Handler:
        async def get_payload(params: list[Any]) -> Any:
            with reading_params():
                identity = payload_id_from_json(required(params, 0, "payloadId"))
            return await self._payloads.get(identity, version)

        return get_payload

    async def _ask_fallback(self, method: str, params: list[Any]) -> Any:
        """An engine call to the fallback; its outcome sets the fallback's health."""
        started = time.monotonic()
        status = "error"
        try:
            answer = await self._fallback.call(method, params)
            status = "ok"
        except FlashctlError as error:
            self._health.fallback_refused(error)
            _LOG.error("fallback: %s: %s", method, error)
            raise
        finally:
            self._metrics.upstream_seconds.labels("l2", method, status).observe(time.monotonic() - started)
        self._health.fallback_answered(True)
        return answer


_SPANS = {
    "engine_forkchoiceUpdatedV3": "fork_choice_updated_v3",
    "engine_newPayloadV3": "new_payload_v3",
    "engine_newPayloadV4": "new_payload_v4",
    **{f"engine_getPayloadV{version}": f"get_payload_v{version}" for version in PAYLOAD_VERSIONS},
}


def _payload_id(answer: Any) -> bytes | None:
    """The fallback's payload id; None if it does not build."""
    try:
        return ForkchoiceResult.from_json(answer).payload_id
    except DataError:
        return None
