"""Sends stuck transactions to the builder again; logged once, until none is left out."""

from __future__ import annotations

import logging

import orjson

from flashctl.boost.builder_link import BuilderLink
from flashctl.boost.candidate import Candidate
from flashctl.boost.exclusions import RESEND_AFTER, Exclusions
from flashctl.boost.metrics import BoostMetrics
from flashctl.boost.modes import ExecutionMode, ModeSwitch
from flashctl.errors import DataError
from flashctl.eth.hexdata import parse_hex, to_hex
from flashctl.eth.keccak import keccak256

__all__ = ["Resender"]

_LOG = logging.getLogger(__name__)


class Resender:
    """Observes every block that boost returns."""

    def __init__(
        self, exclusions: Exclusions, builder: BuilderLink, metrics: BoostMetrics, switch: ModeSwitch
    ) -> None:
        self._exclusions = exclusions
        self._builder = builder
        self._metrics = metrics
        self._switch = switch
        self._is_told = False

    def returned(self, chosen: Candidate, own: Candidate | None) -> None:
        """`chosen` was returned; `own` is the fallback's block on the same parent, None if it had none, in
        which case nothing is counted."""
        if own is None:
            return
        again = self._exclusions.returned(_transactions(own), _transactions(chosen))
        stuck = self._exclusions.stuck
        self._metrics.stuck.set(len(stuck))
        if self._switch.mode is not ExecutionMode.DISABLED:
            for raw in again:
                self._send(raw)
        if stuck and not self._is_told:
            fields = {"count": len(stuck), "first": _hash(stuck[0])}
            _LOG.warning("builder leaves out transactions %d blocks in a row", RESEND_AFTER, extra=fields)
        elif self._is_told and not stuck:
            _LOG.info("builder leaves no transaction out any more")
        self._is_told = bool(stuck)

    def _send(self, raw: str) -> None:
        call = {"jsonrpc": "2.0", "id": 1, "method": "eth_sendRawTransaction", "params": [raw]}
        self._metrics.stuck_sent.inc()
        self._builder.copy(orjson.dumps(call))


def _transactions(candidate: Candidate) -> list[str]:
    given = candidate.payload.get("transactions")
    return [raw for raw in given if isinstance(raw, str)] if isinstance(given, list) else []


def _hash(raw: str) -> str:
    try:
        return to_hex(keccak256(parse_hex(raw)))
    except DataError:
        return raw[:66]
