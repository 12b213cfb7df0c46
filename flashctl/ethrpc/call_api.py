"""Executions without a transaction over JSON-RPC: eth_call, eth_estimateGas, eth_createAccessList."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from flashctl.core.jsonrpc.methods import Handler
from flashctl.ethrpc.call_jobs import CallJob, params_text
from flashctl.ethrpc.call_runner import CallLimits, CallRunner
from flashctl.ethrpc.resolve import Resolver

__all__ = ["CALL_METHODS", "CallApi"]

CALL_METHODS = ("eth_call", "eth_estimateGas", "eth_createAccessList")


class CallApi:
    """Methods that execute and forget."""

    def __init__(self, resolver: Resolver, limits: CallLimits, runner: CallRunner) -> None:
        self._blocks = resolver
        self._limits = limits
        self._runner = runner

    def handlers(self) -> Iterator[tuple[str, Handler]]:
        """Names and handlers."""
        for method in CALL_METHODS:
            yield method, partial(self._run, method)

    async def _run(self, method: str, params: list[Any]) -> Any:
        header, source = self._blocks.source_for(method, params)
        job = CallJob(
            method,
            params_text(params),
            self._blocks.setting(header),
            self._limits.gas,
        )
        return await self._runner.run(job, source, self._limits.seconds)
