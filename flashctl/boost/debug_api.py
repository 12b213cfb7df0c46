"""The debug API: read and change the execution mode of a running boost, show its state.

JSON-RPC on a port of its own, without a token, as in rollup-boost; keep it on a private address.

    debug_getExecutionMode []                                    {"execution_mode": "enabled"}
    debug_setExecutionMode [{"execution_mode": "dry_run"}]       {"execution_mode": "dry_run"}
    debug_status           []                                    mode, health, and the newest round
"""

from __future__ import annotations

import logging
from typing import Any

from flashctl.boost.health import BoostHealth
from flashctl.boost.metrics import BoostMetrics
from flashctl.boost.modes import ExecutionMode, ModeSwitch
from flashctl.boost.rounds import Round, Rounds
from flashctl.core.jsonrpc.errors import invalid_params
from flashctl.core.jsonrpc.low_rate import LowRateClient
from flashctl.core.jsonrpc.methods import Methods, required
from flashctl.errors import ProtocolError, UsageError
from flashctl.eth.hexdata import to_hex

__all__ = ["DebugClient", "debug_methods"]

_LOG = logging.getLogger(__name__)


def debug_methods(switch: ModeSwitch, health: BoostHealth, rounds: Rounds, metrics: BoostMetrics) -> Methods:
    """The method table to serve."""

    def shown() -> dict[str, Any]:
        return {"execution_mode": switch.mode.value}

    async def get_mode(params: list[Any]) -> Any:
        return shown()

    async def set_mode(params: list[Any]) -> Any:
        wanted = required(params, 0, "execution_mode")
        # rollup-boost's documentation shows the bare name, its code takes the object: both are accepted.
        name = wanted.get("execution_mode") if isinstance(wanted, dict) else wanted
        if not isinstance(name, str):
            raise invalid_params("execution_mode is not a string")
        try:
            mode = ExecutionMode.parse(name)
        except UsageError as error:
            raise invalid_params(f"{error} ({error.hint})") from None
        _LOG.warning("execution mode %s -> %s", switch.mode.value, mode.value)
        switch.mode = mode
        metrics.set_mode(mode)
        health.on_change()
        return shown()

    async def status(params: list[Any]) -> Any:
        return {
            **shown(),
            "health": int(health.status(switch.mode)),
            "l2": {"failing": health.fallback_failing, "stale": health.fallback_stale},
            "builder": {"failing": health.builder_failing, "stale": health.builder_stale},
            "round": None if rounds.current is None else _round_json(rounds.current),
        }

    methods = Methods()
    methods.register("debug_getExecutionMode", get_mode)
    methods.register("debug_setExecutionMode", set_mode)
    methods.register("debug_status", status)
    return methods


def _round_json(round_: Round) -> dict[str, Any]:
    return {
        "parent_hash": to_hex(round_.parent_hash),
        "timestamp": round_.attributes.timestamp,
        "state": round_.state.value,
        "l2_payload_id": None if round_.fallback_id is None else to_hex(round_.fallback_id),
        "builder_payload_id": None if round_.builder_id is None else to_hex(round_.builder_id),
        "flashblocks": len(round_.flashblocks),
        "published": round_.published,
        "trouble": round_.trouble or round_.builder_failure or None,
    }


class DebugClient:
    """A client of the debug API of a running boost."""

    def __init__(self, url: str, *, timeout_s: float = 5.0) -> None:
        self._client = LowRateClient(url, timeout_s=timeout_s)

    async def get_mode(self) -> ExecutionMode:
        """The mode in force."""
        return self._mode(await self._client.call("debug_getExecutionMode"))

    async def set_mode(self, mode: ExecutionMode) -> ExecutionMode:
        """Change the mode and return the one in force afterwards."""
        wanted = {"execution_mode": mode.value}
        return self._mode(await self._client.call("debug_setExecutionMode", [wanted]))

    async def status(self) -> dict[str, Any]:
        """The answer of debug_status: mode, health and the newest round."""
        answer = await self._client.call("debug_status")
        if not isinstance(answer, dict):
            raise ProtocolError(f"{self._client.url} is not boost's debug API")
        return answer

    def _mode(self, answer: Any) -> ExecutionMode:
        try:
            return ExecutionMode.parse(str(answer["execution_mode"]))
        except (TypeError, KeyError, UsageError):
            raise ProtocolError(f"{self._client.url} is not boost's debug API") from None

    async def close(self) -> None:
        """Drop the connection."""
        await self._client.close()
