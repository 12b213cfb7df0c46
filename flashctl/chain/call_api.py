"""Executions without a transaction over JSON-RPC: eth_call, eth_estimateGas, eth_createAccessList.

They run in threads with a wall budget each, a few at a time: the event loop goes on serving, and a flood of
calls waits in line instead of taking the processor from whoever builds blocks in this process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from flashctl.chain.call_params import block_overrides, call_request, state_overrides
from flashctl.chain.resolve import Resolver
from flashctl.core.jsonrpc.errors import Code, RpcError
from flashctl.core.jsonrpc.methods import Handler, optional, required
from flashctl.eth.hexdata import quantity, to_hex
from flashctl.eth.transactions import AccessListEntry
from flashctl.evm.halts import ExecutionTimeout
from flashctl.evm.message import Deadline
from flashctl.op.call import (
    DEFAULT_CALL_GAS,
    CallRequest,
    ExecutionFailed,
    ExecutionReverted,
    create_access_list,
    estimate_gas,
    simulate_call,
)
from flashctl.op.context import BlockContext

__all__ = ["CallApi", "CallLimits", "execution_error"]

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


class CallApi:
    """Methods that execute and forget."""

    def __init__(self, resolver: Resolver, limits: CallLimits | None = None) -> None:
        self._blocks = resolver
        self._chain = resolver.chain
        self._limits = limits or CallLimits()
        self._turns = asyncio.Semaphore(self._limits.at_once)
        self._waiting = 0

    def handlers(self) -> Iterator[tuple[str, Handler]]:
        """Names and handlers."""
        yield "eth_call", self.call
        yield "eth_estimateGas", self.estimate
        yield "eth_createAccessList", self.access_list

    async def call(self, params: list[Any]) -> str:
        trial = self._trial(params, overrides_at=2)
        result = await self._run(lambda: simulate_call(**trial, deadline=self._deadline()).require_success())
        return to_hex(result.output)

    async def estimate(self, params: list[Any]) -> str:
        trial = self._trial(params, overrides_at=2)
        return quantity(await self._run(lambda: estimate_gas(**trial, deadline=self._deadline())))

    async def access_list(self, params: list[Any]) -> dict[str, Any]:
        trial = self._trial(params, overrides_at=2)
        entries, result = await self._run(lambda: create_access_list(**trial, deadline=self._deadline()))
        shown: dict[str, Any] = {
            "accessList": [_entry_json(entry) for entry in entries],
            "gasUsed": quantity(result.gas_used),
        }
        if not result.succeeded:
            shown["error"] = result.halt_reason or "execution reverted"
        return shown

    def _trial(self, params: list[Any], *, overrides_at: int) -> dict[str, Any]:
        """Arguments of `op.call`'s functions, but for the deadline."""
        fields = required(params, 0, "transaction")
        header, world = self._blocks.state_param(params, 1)
        config = self._chain.config
        request: CallRequest = call_request(
            fields, base_fee=header.base_fee_per_gas or 0, chain_id=config.chain_id
        )
        # The genesis block has no parent whose ancestors could be asked for.
        known = self._chain.header(header.parent_hash)
        return {
            "config": config,
            "context": BlockContext.from_header(header),
            "state": world,
            "request": request,
            "ancestor_hash": _no_ancestors if known is None else self._chain.ancestor_hash(known.hash),
            "overrides": state_overrides(optional(params, overrides_at)),
            "block_overrides": block_overrides(optional(params, overrides_at + 1)),
            "gas_cap": self._limits.gas,
        }

    def _deadline(self) -> Deadline:
        return Deadline(self._limits.seconds)

    async def _run(self, work: Callable[[], _T]) -> _T:
        if self._waiting >= MAX_WAITING:
            raise RpcError(Code.LIMIT_EXCEEDED, "too many calls in line, try again later")
        self._waiting += 1
        try:
            async with self._turns:
                return await asyncio.to_thread(work)
        except (ExecutionFailed, ExecutionTimeout) as error:
            raise execution_error(error) from None
        finally:
            self._waiting -= 1


def execution_error(error: ExecutionFailed | ExecutionTimeout) -> RpcError:
    """How a failed call answers: code 3 with the revert's data, -32000 for everything else."""
    match error:
        case ExecutionReverted():
            return RpcError(Code.EXECUTION_REVERTED, str(error), to_hex(error.data))
        case ExecutionTimeout():
            return RpcError(Code.SERVER_ERROR, f"execution aborted (timeout = {error.budget_s:g}s)")
        case _:
            return RpcError(Code.SERVER_ERROR, str(error))


def _no_ancestors(number: int) -> bytes:
    return bytes(32)


def _entry_json(entry: AccessListEntry) -> dict[str, Any]:
    return {"address": to_hex(entry.address), "storageKeys": [to_hex(key) for key in entry.storage_keys]}
