"""Tracing over JSON-RPC: debug_traceTransaction, debug_traceBlockByNumber, -ByHash, debug_traceCall.

They run in a thread, one at a time, within a wall budget and a size: a struct log is some hundred bytes for
every instruction, and a transaction of 30 Mgas can have ten million of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, Final, TypeVar

import orjson

from flashctl.chain.block_api import BlockApi
from flashctl.chain.blocktag import BlockHash, parse_block_number
from flashctl.chain.call_api import CallLimits, CallTurns, ancestors_of
from flashctl.chain.call_params import simulation_param
from flashctl.chain.params import hash_param
from flashctl.chain.resolve import BlockView, Resolver
from flashctl.chain.trace_params import TraceConfig, trace_config
from flashctl.chain.trace_run import trace_call, trace_transactions
from flashctl.core.jsonrpc.errors import Code, RpcError
from flashctl.core.jsonrpc.methods import Handler, optional, required
from flashctl.eth.hexdata import to_hex
from flashctl.evm.message import Deadline
from flashctl.evm.tracers.tracer import Allowance, TraceTooLarge
from flashctl.op.call import open_call
from flashctl.op.context import BlockContext
from flashctl.op.execution import BlockExecution

__all__ = ["MAX_TRACE_BYTES", "TraceApi", "TraceTurns", "trace_seconds"]

MAX_TRACE_BYTES: Final = 64 * 2**20
"""Of one answer: 200,000 instructions with ten words on the stack. The largest transactions of OP Mainnet
with their whole stack do not fit, nor into what a client wants to parse; `callTracer` has them in KBs."""

MAX_SECONDS: Final = 60.0
"""The most that `timeout` may ask for."""

AT_ONCE: Final = 1
"""Traces take the interpreter's lock all the time they run; two would only hold twice the memory."""

MAX_WAITING: Final = 16
"""Traces in line. Answers of one batch are all held until it is complete."""

_T = TypeVar("_T")


class TraceTurns(CallTurns):
    """A line of their own for traces: each holds more, and runs longer, than a call."""

    def __init__(self) -> None:
        super().__init__(AT_ONCE, MAX_WAITING)

    async def run(self, work: Callable[[], Awaitable[_T]]) -> _T:
        try:
            return await super().run(work)
        except TraceTooLarge as error:
            raise RpcError(Code.TRANSACTION_REJECTED, f"response too large: {error}") from None


def trace_seconds(config: TraceConfig, usual: float) -> float:
    """Wall time of one trace: what it asks for, within reason."""
    return min(config.seconds or usual, MAX_SECONDS)


class TraceApi:
    """Methods that execute again and tell what happened."""

    def __init__(self, resolver: Resolver, blocks: BlockApi, limits: CallLimits | None = None) -> None:
        self._resolver = resolver
        self._blocks = blocks
        self._chain = resolver.chain
        self._limits = limits or CallLimits()
        self._turns = TraceTurns()

    def handlers(self) -> Iterator[tuple[str, Handler]]:
        """Names and handlers."""
        yield "debug_traceTransaction", self.transaction
        yield "debug_traceBlockByNumber", self.block_by_number
        yield "debug_traceBlockByHash", self.block_by_hash
        yield "debug_traceCall", self.call

    async def transaction(self, params: list[Any]) -> orjson.Fragment:
        found = self._blocks.find(hash_param(params, 0))
        if found is None:
            raise RpcError(Code.SERVER_ERROR, "transaction not found")
        view, index = found
        traces = await self._trace(view, index, index + 1, trace_config(optional(params, 1), index=1))
        return traces[0]

    async def block_by_number(self, params: list[Any]) -> list[dict[str, Any]]:
        number = parse_block_number(required(params, 0, "block number"))
        shown = f"#{number}" if isinstance(number, int) else number.value
        return await self._trace_block(self._resolver.view(number), shown, params)

    async def block_by_hash(self, params: list[Any]) -> list[dict[str, Any]]:
        block_hash = hash_param(params, 0)
        return await self._trace_block(self._resolver.view(BlockHash(block_hash)), to_hex(block_hash), params)

    async def call(self, params: list[Any]) -> orjson.Fragment:
        config = trace_config(optional(params, 2), index=2)
        header, world = self._resolver.state_param(params, 1)
        simulation = simulation_param(
            [*params[:2], config.state_overrides, config.block_overrides],
            self._chain.config,
            BlockContext.from_header(header),
            gas_cap=self._limits.gas,
        )
        ancestor_hash = ancestors_of(self._chain, header)

        def work(deadline: Deadline, allowance: Allowance) -> orjson.Fragment:
            opened = open_call(simulation, world, ancestor_hash)
            return trace_call(opened, config.options, allowance, deadline)

        return await self._run(config, work)

    async def _trace_block(
        self, view: BlockView | None, shown: str, params: list[Any]
    ) -> list[dict[str, Any]]:
        if view is None:
            raise RpcError(Code.SERVER_ERROR, f"block {shown} not found")
        traces = await self._trace(view, 0, len(view.envelopes), trace_config(optional(params, 1), index=1))
        return [
            {"txHash": to_hex(envelope.hash), "result": trace}
            for envelope, trace in zip(view.envelopes, traces, strict=True)
        ]

    async def _trace(
        self, view: BlockView, first: int, end: int, config: TraceConfig
    ) -> Sequence[orjson.Fragment]:
        """Traces of some transactions of a block, in order."""
        chain, header = self._chain, view.header
        parent = chain.header(header.parent_hash)
        if parent is None:
            raise RpcError(Code.SERVER_ERROR, "genesis is not traceable")

        def work(deadline: Deadline, allowance: Allowance) -> Sequence[orjson.Fragment]:
            execution = BlockExecution(
                chain.config,
                parent,
                BlockContext.from_header(header),
                chain.world(parent.hash),
                chain.ancestor_hash(parent.hash),
            )
            envelopes = view.envelopes[:end]
            return trace_transactions(execution, envelopes, first, config.options, allowance, deadline)

        return await self._run(config, work)

    async def _run(self, config: TraceConfig, work: Callable[[Deadline, Allowance], _T]) -> _T:
        """The result of `work`, run in a thread when its turn has come."""
        seconds = trace_seconds(config, self._limits.seconds)

        def bounded() -> _T:
            return work(Deadline(seconds), Allowance(MAX_TRACE_BYTES))

        return await self._turns.run(lambda: asyncio.to_thread(bounded))
