"""Boost's health: separate facts about fallback and builder, one status derived from them.

The status is what op-conductor polls at /healthz: 200 leads, 206 leads without flashblocks, 503 must not
lead. Each fact is set and cleared by its own evidence, so that one success does not hide another failure
and one failure does not stick (the reference keeps one cell where the last writer wins):

    fact              set by                                  cleared by
    fallback failing  an engine call the fallback failed      the next one it answers
    fallback stale    a probe: no or an old latest block      the next good probe
    builder failing   a getPayload without a builder block    the next one with, or a good probe
    builder stale     a probe                                 the next good probe

A block requested without the pool (noTxPool) is no evidence about the builder.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from flashctl.boost.modes import ExecutionMode
from flashctl.core.jsonrpc.errors import ErrorCode, RpcError
from flashctl.errors import FlashctlError

__all__ = ["BoostHealth", "HealthStatus"]

_NO_TO_THE_CALL: Final = frozenset(
    {
        ErrorCode.METHOD_NOT_FOUND,
        ErrorCode.INVALID_PARAMS,
        ErrorCode.UNKNOWN_PAYLOAD,
        ErrorCode.INVALID_FORKCHOICE_STATE,
        ErrorCode.INVALID_PAYLOAD_ATTRIBUTES,
        ErrorCode.TOO_LARGE_REQUEST,
        ErrorCode.UNSUPPORTED_FORK,
    }
)


class HealthStatus(IntEnum):
    """The HTTP status of /healthz."""

    HEALTHY = 200
    PARTIAL_CONTENT = 206
    SERVICE_UNAVAILABLE = 503

    @property
    def phrase(self) -> str:
        """The body of /healthz."""
        return {200: "OK", 206: "Partial Content", 503: "Service Unavailable"}[int(self)]


@dataclass(slots=True)
class BoostHealth:
    """The facts. Starts healthy: no evidence yet."""

    max_unsafe_interval_s: float
    """Age of the latest block from which an engine counts as stale."""

    fallback_failing: bool = False
    fallback_stale: bool = False
    builder_failing: bool = False
    builder_stale: bool = False
    on_change: Callable[[], None] = lambda: None
    """Called whenever a fact is set, even to the same value."""

    def fallback_answered(self, ok: bool) -> None:
        """The fallback answered an engine call, or failed to."""
        self.fallback_failing = not ok
        self.on_change()

    def fallback_refused(self, error: FlashctlError) -> None:
        """An engine call to the fallback ended with an error. One about the call itself (an unknown method or
        payload, an invalid forkchoice state) comes from a healthy engine."""
        self.fallback_answered(isinstance(error, RpcError) and error.code in _NO_TO_THE_CALL)

    def builder_delivered(self, ok: bool) -> None:
        """A getPayload ended with or without a valid builder block."""
        self.builder_failing = not ok
        self.on_change()

    def fallback_probed(self, head_age_s: float | None) -> None:
        """The age of the fallback's latest block; None if it gave none."""
        self.fallback_stale = self._is_stale(head_age_s)
        self.on_change()

    def builder_probed(self, head_age_s: float | None) -> None:
        """The age of the builder's latest block; None if it gave none.

        A builder at the head is tried again: a skipped builder delivers nothing that could clear
        `builder_failing`.
        """
        self.builder_stale = self._is_stale(head_age_s)
        if not self.builder_stale:
            self.builder_failing = False
        self.on_change()

    def _is_stale(self, head_age_s: float | None) -> bool:
        return head_age_s is None or head_age_s > self.max_unsafe_interval_s

    @property
    def builder_ok(self) -> bool:
        """Whether the builder neither fails nor is stale."""
        return not (self.builder_failing or self.builder_stale)

    @property
    def complaints(self) -> str:
        """The faults in force, for the log; empty if there are none."""
        facts = {
            "fallback fails": self.fallback_failing,
            "fallback not at the head": self.fallback_stale,
            "builder without a block": self.builder_failing,
            "builder not at the head": self.builder_stale,
        }
        return ", ".join(text for text, holds in facts.items() if holds)

    def status(self, mode: ExecutionMode) -> HealthStatus:
        """The status of /healthz."""
        if self.fallback_failing or self.fallback_stale:
            return HealthStatus.SERVICE_UNAVAILABLE
        if mode is ExecutionMode.DISABLED or self.builder_ok:
            return HealthStatus.HEALTHY
        return HealthStatus.PARTIAL_CONTENT
