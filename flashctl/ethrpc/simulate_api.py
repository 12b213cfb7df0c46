"""`eth_simulateV1` over JSON-RPC: blocks of calls on top of a block, none of which will exist."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from flashctl.core.jsonrpc.methods import Handler, required
from flashctl.ethrpc.call_jobs import SimulateJob, params_text
from flashctl.ethrpc.call_runner import CallLimits, CallRunner
from flashctl.ethrpc.resolve import Resolver

__all__ = ["SimulateApi"]


class SimulateApi:
    """The method of a node with a chain."""

    def __init__(self, resolver: Resolver, limits: CallLimits, runner: CallRunner) -> None:
        self._blocks = resolver
        self._chain = resolver.chain
        self._limits = limits
        self._runner = runner

    def handlers(self) -> Iterator[tuple[str, Handler]]:
        """Names and handlers."""
        yield "eth_simulateV1", self.simulate

    async def simulate(self, params: list[Any]) -> Any:
        fields = required(params, 0, "simulation")
        header, source = self._blocks.source_for("eth_simulateV1", params)
        job = SimulateJob(params_text([fields]), self._chain.config, header, self._limits.gas)
        return await self._runner.run(job, source, self._limits.seconds)
