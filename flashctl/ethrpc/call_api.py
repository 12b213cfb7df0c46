"""Executions without a transaction over JSON-RPC: eth_call and its relatives, eth_simulateV1."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, Final

from flashctl.core.jsonrpc.methods import required
from flashctl.ethrpc.call_jobs import CallJob, SimulateJob, params_text
from flashctl.ethrpc.call_runner import CallLimits, CallRunner
from flashctl.ethrpc.interfaces import BlockAnswer, NamedBlock

__all__ = ["CallApi"]

CALL_METHODS: Final = ("eth_call", "eth_estimateGas", "eth_createAccessList")


class CallApi:
    """Methods that execute and forget."""

    def __init__(self, limits: CallLimits, runner: CallRunner) -> None:
        self._limits = limits
        self._runner = runner

    def answers(self) -> Iterator[tuple[str, BlockAnswer]]:
        """Names and answers."""
        for method in CALL_METHODS:
            yield method, partial(self.call, method)
        yield "eth_simulateV1", self.simulate

    async def call(self, method: str, block: NamedBlock, params: list[Any]) -> Any:
        """In the block itself, behind its last transaction."""
        state = block.state()
        job = CallJob(method, params_text(params), state.setting, self._limits.gas)
        return await self._runner.run(job, state.source(), self._limits.seconds)

    async def simulate(self, block: NamedBlock, params: list[Any]) -> Any:
        """Blocks of calls on top of a block. Their state roots are zeros where the state is no trie."""
        fields = required(params, 0, "simulation")
        state = block.state()
        job = SimulateJob(params_text([fields]), state.setting.config, state.header, self._limits.gas)
        return await self._runner.run(job, state.source(), self._limits.seconds)
