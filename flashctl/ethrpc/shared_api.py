"""The methods that a builder's node and an overlay serve alike: one registration, answered from a `Provider`.

    block_api   blocks, transactions, receipts and their raw forms
    state_api   balances, nonces, code, storage, proofs
    call_api    eth_call, eth_estimateGas, eth_createAccessList, eth_simulateV1
    trace_api   debug_traceTransaction and its relatives
    fee_api     eth_feeHistory
    fill_api    eth_fillTransaction
    eth_getLogs

A method that takes a block has a line in `block_methods.BLOCK_METHODS`, which says what either of the two
makes of a block that is not sealed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Protocol

from flashctl.core.jsonrpc.methods import Methods, PassOn
from flashctl.ethrpc.block_api import BlockApi, TransactionApi
from flashctl.ethrpc.call_api import CallApi
from flashctl.ethrpc.call_runner import CallLimits, CallRunner
from flashctl.ethrpc.fee_api import FeeHistoryApi
from flashctl.ethrpc.fill_api import FillApi
from flashctl.ethrpc.interfaces import BlockAnswer, Provider
from flashctl.ethrpc.state_api import StateApi
from flashctl.ethrpc.trace_api import TraceApi

__all__ = ["SharedApi"]


class _Answers(Protocol):
    def answers(self) -> Iterator[tuple[str, BlockAnswer]]: ...


class SharedApi:
    """See the module docstring."""

    def __init__(self, provider: Provider, limits: CallLimits, runner: CallRunner) -> None:
        """Answers from `provider`; `runner` executes within `limits`."""
        self._provider = provider
        self._transactions = TransactionApi(provider)
        self._traces = TraceApi(provider, limits, runner)
        self._about_blocks: tuple[_Answers, ...] = (
            BlockApi(),
            StateApi(provider),
            CallApi(limits, runner),
            self._traces,
            FeeHistoryApi(provider),
        )

    def register(self, methods: Methods) -> None:
        """Add the methods to a table."""
        for part in self._about_blocks:
            for name, answer in part.answers():
                methods.register(name, self._provider.handler(name, answer))
        methods.register_all(self._transactions.handlers())
        methods.register_all(self._traces.handlers())
        methods.register("eth_getLogs", self._provider.logs)

        async def ask(method: str, params: list[Any]) -> Any:
            handler = methods.find(method)
            if handler is not None:
                with contextlib.suppress(PassOn):
                    return await handler(params)
            return await self._provider.ask_elsewhere(method, params)

        methods.register_all(FillApi(ask).handlers())
