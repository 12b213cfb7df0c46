"""Calls outside the Engine API: forwarded to the fallback, some also or only to the builder.

Transactions go to the fallback in batches (`GatheredCalls`) and from there, if it takes them, to the builder
(`TransactionMirror`): a client's batch of a thousand does not cost either a thousand requests.
Everything else is forwarded byte for byte.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import orjson

from flashctl.boost.modes import ExecutionMode
from flashctl.boost.state import BoostState, Engines
from flashctl.core.jsonrpc.errors import RpcError
from flashctl.core.jsonrpc.gathered_calls import GatheredCalls
from flashctl.core.service import defects
from flashctl.errors import FlashctlError, TimedOut

__all__ = ["BUILDER_METHODS", "COPIED_SETTINGS", "SEND_TRANSACTION", "Forwarding"]

_LOG = logging.getLogger(__name__)

_T = TypeVar("_T")

COPIED_SETTINGS: Final = frozenset(
    {"miner_setExtra", "miner_setGasPrice", "miner_setGasLimit", "miner_setMaxDASize"}
)
"""Not engine calls, yet the builder needs them as much as the fallback: in every mode, so that its settings
are right when it is switched on."""

SEND_TRANSACTION: Final = "eth_sendRawTransaction"
"""Copied once the fallback has accepted it: the builder's mempool mirrors the fallback's and holds no more,
since the caller of a rejected transaction has seen the rejection."""

BUILDER_METHODS: Final = frozenset(
    {
        "eth_sendRawTransactionConditional",
        "eth_sendBundle",
        "eth_sendBackrunBundle",
        "eth_cancelBundle",
    }
)
"""Methods that a fallback lacks or cannot honour: the builder's alone, while it takes part."""

ENGINE_NAMESPACES: Final = ("engine_", "miner_")
"""The calls of consensus client and batcher, which must not queue behind public JSON-RPC traffic."""

MAX_ASKED_BUILDER: Final = 16
"""Transactions with insufficient funds sent to the builder at a time: every client can send them."""


class Forwarding:
    """Forwards the calls outside the Engine API."""

    def __init__(
        self,
        engines: Engines,
        state: BoostState,
        *,
        doubt: Callable[[], None] = lambda: None,
    ) -> None:
        """`doubt` is called when the fallback did not answer."""
        self._fallback = engines.fallback
        self._forwards = engines.forwards
        self._builder = engines.builder
        self._state = state
        self._switch = state.switch
        self._metrics = state.metrics
        self._doubt = doubt
        self._transactions = GatheredCalls(engines.forwards, SEND_TRANSACTION)
        self._questions = GatheredCalls(engines.builder.client, SEND_TRANSACTION)
        """Transactions that the builder is asked about."""
        self._asked_builder = 0
        """Those that it has not answered yet."""
        self._is_failing = False
        """Whether the last forwarded request went unanswered."""

    async def forward(self, method: str, request: bytes) -> bytes:
        """Forward a request to the fallback unchanged, and to the builder if that needs it too."""
        span = "exchange_capabilities" if method == "engine_exchangeCapabilities" else "forward"
        return await self._timed(span, lambda: self._relay(method, request))

    async def send_transaction(self, params: list[Any]) -> Any:
        """eth_sendRawTransaction: the fallback's answer, or the builder's if the sender has funds there."""
        return await self._timed("forward", lambda: self._send(params))

    async def close(self) -> None:
        """Drop queued transactions."""
        await self._transactions.close()
        await self._questions.close()

    async def _timed(self, span: str, ask: Callable[[], Awaitable[_T]]) -> _T:
        started = time.monotonic()
        ok = False
        try:
            answer = await ask()
            ok = True
        except RpcError:
            # an answer, too
            ok = True
            raise
        finally:
            self._metrics.answered(span, time.monotonic() - started, ok=ok)
        return answer

    async def _relay(self, method: str, request: bytes) -> bytes:
        if method in BUILDER_METHODS and self._switch.mode is not ExecutionMode.DISABLED:
            return await self._builder.client.relay(method, request)
        if method in COPIED_SETTINGS:
            self._copy(request)
        client = self._fallback if method.startswith(ENGINE_NAMESPACES) else self._forwards
        try:
            reply = await client.relay(method, request)
        except FlashctlError as error:
            self._not_answered(method, error)
            raise
        self._is_failing = False
        return reply

    async def _send(self, params: list[Any]) -> Any:
        try:
            answer = await self._transactions.call(params)
        except RpcError as refusal:
            self._is_failing = False
            if _is_known(refusal.message):
                self._copy(_sending(params))
            elif _lacks_funds(refusal.message) and self._state.builder_takes_part:
                return await self._ask_builder(params, refusal)
            raise
        except FlashctlError as error:
            self._not_answered(SEND_TRANSACTION, error)
            if isinstance(error, TimedOut):
                # The transaction may have entered the fallback's mempool all the same, and the builder could
                # include no later nonce of its sender without it.
                self._copy(_sending(params))
            raise
        self._is_failing = False
        self._copy(_sending(params))
        return answer

    def _not_answered(self, method: str, error: FlashctlError) -> None:
        # One slow call is weak evidence: an immediate probe decides whether the fallback is unhealthy.
        level = logging.DEBUG if self._is_failing else logging.WARNING
        _LOG.log(level, "fallback: %s: %s", method[:60], error)
        self._is_failing = True
        self._doubt()

    async def _ask_builder(self, params: list[Any], refusal: RpcError) -> Any:
        """The builder's answer to a transaction, if it accepts it.

        A payment in the block being built is in the builder's state alone, and its recipient may spend it as
        soon as it is preconfirmed.

        Raises:
            RpcError: The fallback's refusal, if not.
        """
        if self._asked_builder >= MAX_ASKED_BUILDER:
            raise refusal
        self._asked_builder += 1
        try:
            return await self._questions.call(params)
        except FlashctlError as error:
            _LOG.debug("builder: %s: %s", SEND_TRANSACTION, error)
            if isinstance(error, RpcError) and _is_known(error.message):
                raise
        finally:
            self._asked_builder -= 1
        raise refusal

    def _copy(self, request: bytes) -> None:
        with defects.contained("boost.copies"):
            self._builder.copy(request)


def _sending(params: list[Any]) -> bytes:
    return orjson.dumps({"jsonrpc": "2.0", "id": 1, "method": SEND_TRANSACTION, "params": params})


def _is_known(refusal: str) -> bool:
    """Whether an engine rejected a transaction as already known."""
    # geth, reth and Erigon; Nethermind.
    return any(words in refusal.lower() for words in ("already known", "alreadyknown"))


def _lacks_funds(refusal: str) -> bool:
    """Whether the fallback rejected a transaction for insufficient funds, which it checks at the head."""
    # geth, reth and Erigon; Nethermind.
    return any(words in refusal.lower() for words in ("insufficient funds", "insufficientfunds"))
