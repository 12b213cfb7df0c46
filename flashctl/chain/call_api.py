"""Executions without a transaction over JSON-RPC: eth_call, eth_estimateGas, eth_createAccessList.

They run in threads with a wall budget each, a few at a time: the event loop goes on serving, and a flood of
calls waits in line instead of taking the processor from whoever builds blocks in this process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from flashctl.chain.call_params import simulation_param
from flashctl.chain.chain import Chain
from flashctl.chain.resolve import Resolver
from flashctl.core.jsonrpc.errors import Code, RpcError
from flashctl.core.jsonrpc.methods import Handler
from flashctl.eth.blocks import Header
from flashctl.eth.hexdata import quantity, to_hex
from flashctl.eth.transactions import AccessListEntry
from flashctl.evm.halts import ExecutionTimeout
from flashctl.evm.message import Deadline
from flashctl.evm.state import StateReader
from flashctl.op.call import (
    DEFAULT_CALL_GAS,
    CallResult,
    ExecutionFailed,
    ExecutionReverted,
    Simulation,
    call_output,
    create_access_list,
    estimate_gas,
)
from flashctl.op.context import AncestorHash, BlockContext
from flashctl.op.simulation_plan import SimulationRefused

__all__ = ["CallApi", "CallLimits", "CallTurns", "Trial", "access_list_json", "ancestors_of"]

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class CallLimits:
    """What one call may take."""

    gas: int = DEFAULT_CALL_GAS
    seconds: float = 5.0
    """Of wall time, from the moment it runs; geth's default for `--rpc.evmtimeout`."""

    at_once: int = 4
    """Calls that execute at the same time."""


MAX_WAITING: Final = 256
"""Calls in line behind those that execute; more are refused, for their callers will have left."""

Trial = Callable[[Simulation, StateReader, AncestorHash, Deadline], _T]
"""One of the functions of `op.call`."""


class CallTurns:
    """A few executions at a time, a bounded line behind them, and failures in JSON-RPC's words."""

    def __init__(self, at_once: int, max_waiting: int = MAX_WAITING) -> None:
        self._turns = asyncio.Semaphore(at_once)
        self._max_waiting = max_waiting
        self._waiting = 0

    async def run(self, work: Callable[[], Awaitable[_T]]) -> _T:
        """The result of `work`, when its turn has come.

        Raises:
            RpcError: If the execution fails, takes too long, or too many calls wait.
        """
        if self._waiting >= self._max_waiting:
            raise RpcError(Code.LIMIT_EXCEEDED, "too many calls in line, try again later")
        self._waiting += 1
        try:
            async with self._turns:
                return await work()
        except (ExecutionFailed, ExecutionTimeout) as error:
            raise _execution_error(error) from None
        finally:
            self._waiting -= 1


class CallApi:
    """Methods that execute and forget."""

    def __init__(self, resolver: Resolver, limits: CallLimits, turns: CallTurns) -> None:
        self._blocks = resolver
        self._chain = resolver.chain
        self._limits = limits
        self._turns = turns

    def handlers(self) -> Iterator[tuple[str, Handler]]:
        """Names and handlers."""
        yield "eth_call", self.call
        yield "eth_estimateGas", self.estimate
        yield "eth_createAccessList", self.access_list

    async def call(self, params: list[Any]) -> str:
        return to_hex(await self._try(call_output, params))

    async def estimate(self, params: list[Any]) -> str:
        return quantity(await self._try(estimate_gas, params))

    async def access_list(self, params: list[Any]) -> dict[str, Any]:
        return access_list_json(*await self._try(create_access_list, params))

    async def _try(self, trial: Trial[_T], params: list[Any]) -> _T:
        """What `trial` says about the call that `params` describe."""
        header, world = self._blocks.state_param(params, 1)
        simulation = simulation_param(
            params, self._chain.config, BlockContext.from_header(header), gas_cap=self._limits.gas
        )
        ancestor_hash = ancestors_of(self._chain, header)

        def work() -> _T:
            return trial(simulation, world, ancestor_hash, Deadline(self._limits.seconds))

        return await self._turns.run(lambda: asyncio.to_thread(work))


def _execution_error(error: ExecutionFailed | ExecutionTimeout) -> RpcError:
    """How a failed call answers: code 3 with the revert's data, a refused simulation with the code of the
    rule, everything else with -32000."""
    match error:
        case ExecutionReverted():
            return RpcError(Code.EXECUTION_REVERTED, str(error), to_hex(error.data))
        case ExecutionTimeout():
            return RpcError(Code.SERVER_ERROR, f"execution aborted (timeout = {error.budget_s:g}s)")
        case SimulationRefused():
            return RpcError(error.code, str(error))
        case _:
            return RpcError(Code.SERVER_ERROR, str(error))


def ancestors_of(chain: Chain, header: Header) -> AncestorHash:
    """How a call in this block looks up its ancestors; the genesis block has none."""
    parent = chain.header(header.parent_hash)
    return _no_ancestors if parent is None else chain.ancestor_hash(parent.hash)


def _no_ancestors(number: int) -> bytes:
    return bytes(32)


def access_list_json(entries: tuple[AccessListEntry, ...], result: CallResult) -> dict[str, Any]:
    """The answer of eth_createAccessList."""
    shown: dict[str, Any] = {
        "accessList": [_entry_json(entry) for entry in entries],
        "gasUsed": quantity(result.gas_used),
    }
    return shown if result.succeeded else shown | {"error": result.halt_reason or "execution reverted"}


def _entry_json(entry: AccessListEntry) -> dict[str, Any]:
    return {"address": to_hex(entry.address), "storageKeys": [to_hex(key) for key in entry.storage_keys]}
