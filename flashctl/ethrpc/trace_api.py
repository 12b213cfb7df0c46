"""Tracing over JSON-RPC: debug_traceTransaction, debug_traceBlockByNumber, -ByHash, debug_traceCall.

They run within a wall budget and a size: a struct log is some hundred bytes for every instruction, and a
transaction of 30 Mgas can have ten million of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from flashctl.core.jsonrpc.errors import ErrorCode, RpcError
from flashctl.core.jsonrpc.methods import Handler, optional
from flashctl.eth.hexdata import to_hex
from flashctl.ethrpc.block_tags import BlockHash, BlockRef, Tag
from flashctl.ethrpc.call_jobs import TraceBlockJob, TraceCallJob, params_text
from flashctl.ethrpc.call_runner import CallLimits, CallRunner
from flashctl.ethrpc.interfaces import BlockAnswer, BlockView, NamedBlock, Place, Provider
from flashctl.ethrpc.params import hash_param
from flashctl.ethrpc.trace_params import TraceConfig, trace_config

__all__ = ["TraceApi"]

MAX_SECONDS: Final = 60.0
"""The most that `timeout` may ask for."""


def trace_seconds(config: TraceConfig, usual: float) -> float:
    """Wall time of one trace: what it asks for, within reason."""
    return min(config.seconds or usual, MAX_SECONDS)


class TraceApi:
    """Methods that execute again and tell what happened."""

    def __init__(self, provider: Provider, limits: CallLimits, runner: CallRunner) -> None:
        self._provider = provider
        self._limits = limits
        self._runner = runner

    def handlers(self) -> Iterator[tuple[str, Handler]]:
        """Names and handlers."""
        yield "debug_traceTransaction", self.transaction

    def answers(self) -> Iterator[tuple[str, BlockAnswer]]:
        """Names and answers of those that take a block."""
        yield "debug_traceBlockByNumber", self.block
        yield "debug_traceBlockByHash", self.block
        yield "debug_traceCall", self.call

    async def transaction(self, params: list[Any]) -> Any:
        """On the state that its block has made before it."""
        tx_hash = hash_param(params, 0)
        place = self._provider.find_transaction(tx_hash)
        if place is None:
            return await self._provider.other_transaction("debug_traceTransaction", params, tx_hash, _none)
        config = trace_config(optional(params, 1), index=1)
        return await self._trace(place.block, place.index, place.index + 1, config, is_single=True)

    async def block(self, block: NamedBlock, params: list[Any]) -> Any:
        view = block.find()
        if view is None:
            raise RpcError(ErrorCode.SERVER_ERROR, f"block {_name(block.ref)} not found")
        config = trace_config(optional(params, 1), index=1)
        return await self._trace(view, 0, len(view.envelopes), config, is_single=False)

    async def call(self, block: NamedBlock, params: list[Any]) -> Any:
        config = trace_config(optional(params, 2), index=2)
        state = block.state()
        job = TraceCallJob(
            params_text([*params[:2], config.state_overrides, config.block_overrides]),
            state.setting,
            self._limits.gas,
            config.options,
        )
        return await self._runner.run(job, state.source(), trace_seconds(config, self._limits.seconds))

    async def _trace(
        self, view: BlockView, first: int, end: int, config: TraceConfig, *, is_single: bool
    ) -> Any:
        """Traces of some transactions of a block, in order."""
        origin = self._provider.origin(view)
        envelopes = tuple(view.envelopes[:end])
        job = TraceBlockJob(
            origin.setting, origin.parent_timestamp, envelopes, first, config.options, is_single
        )
        return await self._runner.run(job, origin.source, trace_seconds(config, self._limits.seconds))


def _name(ref: BlockRef) -> str:
    match ref:
        case BlockHash():
            return to_hex(ref.hash)
        case Tag():
            return str(ref)
        case number:
            return f"#{number}"


def _none(place: Place) -> None:
    """A transaction that is in no block when it is asked about is not traced."""
