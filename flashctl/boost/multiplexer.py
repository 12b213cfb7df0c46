"""The Engine API that the consensus client talks to: every call to the fallback, most of them to both.

The fallback ("l2", the sequencer's own execution client) is the authority: what the consensus client hears
is its answer, at its speed. The builder is asked beside it, through `BuilderLink`, and nothing waits for
it except getPayload, up to the builder's time-out:

    forkchoiceUpdated   both; the answer and the payload id are the fallback's
    newPayload          both; the answer is the fallback's
    getPayload          the builder's block if the fallback finds it valid, else the fallback's own
    anything else       the fallback; transactions that it takes and miner settings are copied to the
                        builder, which is asked about those that cannot be paid at the head; bundles and
                        conditional transactions are the builder's alone
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

import orjson

from flashctl.boost.builder_block import BuilderBlocks
from flashctl.boost.builder_link import BuilderLink
from flashctl.boost.exclusions import Exclusions
from flashctl.boost.health import BoostHealth, HealthStatus
from flashctl.boost.metrics import BoostMetrics
from flashctl.boost.modes import ExecutionMode, ModeSwitch
from flashctl.boost.payloads import PayloadService
from flashctl.boost.rounds import Incoming, Round, Rounds, Verdict
from flashctl.core.engine.client import EngineClient
from flashctl.core.engine.payloads import (
    ForkchoiceResult,
    ForkchoiceState,
    PayloadValidity,
    attributes_from_json,
    payload_id_from_json,
)
from flashctl.core.jsonrpc.client import JsonRpcClient
from flashctl.core.jsonrpc.errors import reading_params
from flashctl.core.jsonrpc.methods import Handler, Methods, required
from flashctl.core.service import defects
from flashctl.errors import DataError, FlashctlError, TimedOut
from flashctl.eth.hexdata import to_hex
from flashctl.op.attributes import PayloadAttributes, payload_id

__all__ = ["BUILDER_METHODS", "COPIED_SETTINGS", "COPIED_TRANSACTIONS", "Multiplexer"]

_LOG = logging.getLogger(__name__)

COPIED_SETTINGS = frozenset(
    {"miner_setExtra", "miner_setGasPrice", "miner_setGasLimit", "miner_setMaxDASize"}
)
"""Not engine calls, yet the builder needs them as much as the fallback: in every mode, so that it is right
when it is switched on."""

COPIED_TRANSACTIONS = frozenset({"eth_sendRawTransaction"})
"""The builder's pool is to hold what the fallback's does, no more: its caller may have been told that the
transaction is refused."""

BUILDER_METHODS = frozenset(
    {
        "eth_sendRawTransactionConditional",
        "eth_sendBundle",
        "eth_sendBackrunBundle",
        "eth_cancelBundle",
    }
)
"""Which a fallback does not know, or cannot keep: the builder's alone, as long as it takes part."""

ENGINE_NAMESPACES = ("engine_", "miner_")
"""What consensus client and batcher ask, which must not wait behind what everybody asks."""

MAX_ASKED_BUILDER = 16
"""Transactions that the builder is asked about at a time: anybody may send what cannot be paid, and a quarter
of the connections is left to them at most."""

PAYLOAD_VERSIONS = (3, 4, 5)
"""getPayload versions a builder can answer: Ecotone on. Older ones are the fallback's alone."""


class Multiplexer:
    """Answers the consensus client."""

    def __init__(
        self,
        l2: EngineClient,
        forwards: JsonRpcClient,
        builder: BuilderLink,
        rounds: Rounds,
        health: BoostHealth,
        switch: ModeSwitch,
        payloads: PayloadService,
        blocks: BuilderBlocks,
        metrics: BoostMetrics,
        exclusions: Exclusions,
        *,
        ignore_unhealthy_builders: bool = False,
        released: Callable[[Incoming, Verdict], None] = lambda incoming, verdict: None,
        doubt: Callable[[], None] = lambda: None,
    ) -> None:
        """Args:
        forwards: to the fallback as well, with connections of its own, for what is not the engine's business.
        ignore_unhealthy_builders: make no engine calls to a builder that is stale or failed last time.
        released: told of flashblocks that waited for the builder's payload id.
        doubt: told when the fallback did not answer what was passed on to it.
        """
        self._l2 = l2
        self._forwards = forwards
        self._builder = builder
        self._rounds = rounds
        self._health = health
        self._switch = switch
        self._payloads = payloads
        self._blocks = blocks
        self._metrics = metrics
        self._exclusions = exclusions
        self._ignore_unhealthy = ignore_unhealthy_builders
        self._released = released
        self._doubt = doubt
        self._is_failing = False
        """Whether the last request passed on was not answered."""
        self._asked_builder = 0
        """Questions about transactions that the builder has not answered yet."""

    def methods(self) -> Methods:
        """The table to serve; what it lacks is for `forward`."""
        table = Methods()
        for version in (1, 2, 3):
            table.register(*self._timed(f"engine_forkchoiceUpdatedV{version}", self._forkchoice(version)))
        for version in (1, 2, 3, 4, 5):
            table.register(*self._timed(f"engine_newPayloadV{version}", self._new_payload(version)))
        for version in PAYLOAD_VERSIONS:
            table.register(*self._timed(f"engine_getPayloadV{version}", self._get_payload(version)))
        return table

    async def forward(self, method: str, request: bytes) -> bytes:
        """Pass a request to the fallback as it is, and what the builder needs also to the builder."""
        started = time.monotonic()
        ok = False
        try:
            if method in BUILDER_METHODS and self._switch.mode is not ExecutionMode.DISABLED:
                reply = await self._builder.client.relay(method, request)
            else:
                reply = await self._pass_on(method, request)
            ok = True
        finally:
            span = "exchange_capabilities" if method == "engine_exchangeCapabilities" else "forward"
            self._metrics.answered(span, time.monotonic() - started, ok=ok)
        return reply

    async def _pass_on(self, method: str, request: bytes) -> bytes:
        if method in COPIED_SETTINGS:
            self._copy(request)
        client = self._l2 if method.startswith(ENGINE_NAMESPACES) else self._forwards
        try:
            reply = await client.relay(method, request)
        except FlashctlError as error:
            # One slow call says little; whether the fallback is ill is for a probe to find out, now.
            level = logging.DEBUG if self._is_failing else logging.WARNING
            _LOG.log(level, "fallback: %s: %s", method[:60], error)
            self._is_failing = True
            self._doubt()
            if method in COPIED_TRANSACTIONS and isinstance(error, TimedOut):
                # It may be in the pool all the same, and no later one of its sender could be mined without.
                self._copy(request)
            raise
        self._is_failing = False
        if method in COPIED_TRANSACTIONS:
            if _is_in_the_pool(reply):
                self._copy(request)
            elif _lacks_funds(reply) and self._builder_takes_part:
                return await self._ask_who_knows_more(method, request, reply)
        return reply

    async def _ask_who_knows_more(self, method: str, request: bytes, refusal: bytes) -> bytes:
        """The builder's answer to a transaction, if it takes it; the fallback's if not.

        What the block being built has paid to an account is known to the builder alone, and whoever was told
        of the payment may spend it.
        """
        if self._asked_builder >= MAX_ASKED_BUILDER:
            return refusal
        self._asked_builder += 1
        try:
            reply = await self._builder.client.relay(method, request)
        except FlashctlError as error:
            _LOG.debug("builder: %s: %s", method, error)
            return refusal
        finally:
            self._asked_builder -= 1
        return reply if _is_in_the_pool(reply) else refusal

    def _copy(self, request: bytes) -> None:
        with defects.contained("boost.copies"):
            self._builder.copy(request)

    @property
    def status(self) -> HealthStatus:
        """What /healthz answers."""
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

    @property
    def _builder_takes_part(self) -> bool:
        if self._switch.mode is ExecutionMode.DISABLED:
            return False
        return not self._ignore_unhealthy or self._health.builder_ok

    # --- forkchoiceUpdated ---

    def _forkchoice(self, version: int) -> Handler:
        method = f"engine_forkchoiceUpdatedV{version}"

        async def forkchoice_updated(params: list[Any]) -> Any:
            state = required(params, 0, "forkchoiceState")
            attributes = params[1] if len(params) > 1 else None
            round_ = self._ask_builder(method, state, attributes if version == 3 else None)
            try:
                answer = await self._ask_l2(method, params)
            except FlashctlError:
                if round_ is not None:
                    self._rounds.cancel(round_)
                raise
            if round_ is not None:
                with defects.contained("boost.forkchoiceUpdated"):
                    self._rounds.l2_answered(round_, _payload_id(answer))
                    self._blocks.remember_request(round_, state, attributes)
            return answer

        return forkchoice_updated

    def _ask_builder(self, method: str, state: Any, attributes: Any) -> Round | None:
        """Put the call into the builder's queue; the round it opens, if the builder has a part in the block.

        Whatever is wrong here is the builder's loss: the fallback is asked all the same.
        """
        try:
            round_ = self._begin(state, attributes)
            if self._builder_takes_part:
                future = self._builder.send(method, [state, attributes if round_ is not None else None])
                if round_ is not None:
                    self._blocks.expect_builder(round_, self._confirm(round_, future))
        except Exception as error:
            defects.caught("boost.forkchoiceUpdated", error)
            self._rounds.supersede()
            return None
        return round_

    def _begin(self, state: Any, attributes: Any) -> Round | None:
        """The round that attributes open; None where the builder has no part in the block."""
        if attributes is None:
            return None
        try:
            head = ForkchoiceState.from_json(state).head
            wanted: PayloadAttributes = attributes_from_json(attributes)
        except DataError:
            # Malformed or newer than this program: the fallback's to judge, and it builds alone.
            self._rounds.supersede()
            return None
        if wanted.no_tx_pool or not self._builder_takes_part:
            self._rounds.supersede()
            return None
        if self._leaves_out(head, wanted):
            self._rounds.supersede()
            return None
        return self._rounds.begin(head, wanted)

    def _leaves_out(self, head: bytes, wanted: PayloadAttributes) -> bool:
        """Whether the fallback builds this payload alone, for what the builder never includes."""
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
        """Take the builder's answer to the call that opened a round, when it comes."""
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
            if self._builder_takes_part:
                with defects.contained("boost.newPayload"):
                    self._builder.send(method, params)
            answer = await self._ask_l2(method, params)
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

    async def _ask_l2(self, method: str, params: list[Any]) -> Any:
        """An engine call to the fallback; whether it answered is what health knows of it."""
        started = time.monotonic()
        status = "error"
        try:
            answer = await self._l2.call(method, params)
            status = "ok"
        except FlashctlError as error:
            self._health.l2_refused(error)
            _LOG.error("fallback: %s: %s", method, error)
            raise
        finally:
            self._metrics.upstream_seconds.labels("l2", method, status).observe(time.monotonic() - started)
        self._health.l2_answered(True)
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


def _is_in_the_pool(reply: bytes) -> bool:
    """Whether an engine took a transaction, or has it already."""
    message = _refusal(reply)
    # geth, reth and Erigon; Nethermind.
    return message == "" or any(word in message for word in ("already known", "alreadyknown"))


def _lacks_funds(reply: bytes) -> bool:
    """Whether the sender of a transaction cannot pay for it, as far as the fallback knows: at the head."""
    # geth, reth and Erigon; Nethermind.
    return any(word in _refusal(reply) for word in ("insufficient funds", "insufficientfunds"))


def _refusal(reply: bytes) -> str:
    """Why a transaction is refused, in lower case; nothing if it is taken, `?` if that cannot be told."""
    try:
        answer = orjson.loads(reply)
    except orjson.JSONDecodeError:
        return "?"
    if not isinstance(answer, dict):
        return "?"
    error = answer.get("error")
    if error is None:
        return "" if "result" in answer else "?"
    message = error.get("message") if isinstance(error, dict) else None
    return message.lower() if isinstance(message, str) and message else "?"
