"""Tracing over JSON-RPC: debug_traceTransaction, debug_traceBlockByNumber, -ByHash, debug_traceCall.

They run within a wall budget and a size: a struct log is some hundred bytes for every instruction, and a
transaction of 30 Mgas can have ten million of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from flashctl.core.jsonrpc.errors import Code, RpcError
from flashctl.core.jsonrpc.methods import Handler, optional
from flashctl.eth.hexdata import to_hex
from flashctl.ethrpc.block_api import BlockApi
from flashctl.ethrpc.block_methods import BLOCK_METHODS
from flashctl.ethrpc.call_jobs import TraceBlockJob, TraceCallJob, params_text
from flashctl.ethrpc.call_runner import CallLimits, CallRunner
from flashctl.ethrpc.params import hash_param
from flashctl.ethrpc.resolve import BlockView, Resolver
from flashctl.ethrpc.trace_params import TraceConfig, trace_config

__all__ = ["TraceApi", "trace_seconds"]

MAX_SECONDS: Final = 60.0
"""The most that `timeout` may ask for."""


def trace_seconds(config: TraceConfig, usual: float) -> float:
    """Wall time of one trace: what it asks for, within reason."""
    return min(config.seconds or usual, MAX_SECONDS)


class TraceApi:
    """Methods that execute again and tell what happened."""

    def __init__(self, resolver: Resolver, blocks: BlockApi, limits: CallLimits, runner: CallRunner) -> None:
        self._resolver = resolver
        self._blocks = blocks
        self._chain = resolver.chain
        self._limits = limits
        self._runner = runner

    def handlers(self) -> Iterator[tuple[str, Handler]]:
        """Names and handlers."""
        yield "debug_traceTransaction", self.transaction
        yield "debug_traceBlockByNumber", self.block_by_number
        yield "debug_traceBlockByHash", self.block_by_hash
        yield "debug_traceCall", self.call

    async def transaction(self, params: list[Any]) -> Any:
        found = self._blocks.find(hash_param(params, 0))
        if found is None:
            raise RpcError(Code.SERVER_ERROR, "transaction not found")
        view, index = found
        config = trace_config(optional(params, 1), index=1)
        return await self._trace(view, index, index + 1, config, is_single=True)

    async def block_by_number(self, params: list[Any]) -> Any:
        number = BLOCK_METHODS["debug_traceBlockByNumber"].ref(params)
        shown = f"#{number}" if isinstance(number, int) else str(number)
        return await self._trace_block(self._resolver.view(number), shown, params)

    async def block_by_hash(self, params: list[Any]) -> Any:
        view = self._resolver.view_for("debug_traceBlockByHash", params)
        return await self._trace_block(view, to_hex(hash_param(params, 0)), params)

    async def call(self, params: list[Any]) -> Any:
        config = trace_config(optional(params, 2), index=2)
        header, source = self._resolver.source_for("debug_traceCall", params)
        job = TraceCallJob(
            params_text([*params[:2], config.state_overrides, config.block_overrides]),
            self._resolver.setting(header),
            self._limits.gas,
            config.options,
        )
        return await self._runner.run(job, source, trace_seconds(config, self._limits.seconds))

    async def _trace_block(self, view: BlockView | None, shown: str, params: list[Any]) -> Any:
        if view is None:
            raise RpcError(Code.SERVER_ERROR, f"block {shown} not found")
        config = trace_config(optional(params, 1), index=1)
        return await self._trace(view, 0, len(view.envelopes), config, is_single=False)

    async def _trace(
        self, view: BlockView, first: int, end: int, config: TraceConfig, *, is_single: bool
    ) -> Any:
        """Traces of some transactions of a block, in order."""
        parent = self._chain.header(view.header.parent_hash)
        if parent is None:
            raise RpcError(Code.SERVER_ERROR, "genesis is not traceable")
        job = TraceBlockJob(
            self._resolver.setting(view.header),
            parent.timestamp,
            tuple(view.envelopes[:end]),
            first,
            config.options,
            is_single,
        )
        source = self._resolver.source_below(view.header)
        return await self._runner.run(job, source, trace_seconds(config, self._limits.seconds))
