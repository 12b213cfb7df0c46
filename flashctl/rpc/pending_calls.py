"""Reading and executing on pending state: what is missing is fetched, then it is done again.

Executions run in threads with a wall budget, a few at a time, so that a flood of calls neither stops the
event loop nor delays the stream for long. The reads of one call are dependent only a few levels deep, and
what one call made us fetch is there for the next.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final, TypeVar

from flashctl.chain.call_api import CallTurns
from flashctl.core.jsonrpc.errors import Code, RpcError
from flashctl.evm.halts import ExecutionTimeout
from flashctl.evm.message import Deadline
from flashctl.evm.state import EMPTY_ACCOUNT, Account
from flashctl.evm.tracers.tracer import TraceTooLarge
from flashctl.op.call import ExecutionFailed
from flashctl.rpc.execution import PendingBlock
from flashctl.rpc.node import Node
from flashctl.rpc.state import StateView

__all__ = ["PendingCalls"]

MAX_ROUNDS: Final = 64
"""Fetches for one call."""

T = TypeVar("T")


class PendingCalls:
    """Runs functions of a state on the state after a pending block."""

    def __init__(self, node: Node, *, timeout_s: float, at_once: int) -> None:
        self._node = node
        self.timeout_s: Final = timeout_s
        self._turns = CallTurns(at_once)

    async def execute(
        self,
        block: PendingBlock,
        work: Callable[[StateView, Deadline], T],
        *,
        turns: CallTurns | None = None,
        timeout_s: float | None = None,
    ) -> T:
        """The result of `work`, run in a thread.

        Args:
            block: After which it runs.
            work: May run several times, the last time with nothing missing.
            turns: The line to stand in; None for that of all calls.
            timeout_s: Wall time of all its runs and fetches; None for the usual.

        Raises:
            RpcError: If the execution fails, takes too long, or too many calls wait.
        """
        seconds = self.timeout_s if timeout_s is None else timeout_s
        return await (turns or self._turns).run(lambda: self._complete(block, work, seconds, threaded=True))

    async def read(self, block: PendingBlock, work: Callable[[StateView], T]) -> T:
        """The result of `work`, which only looks something up."""
        return await self._complete(block, lambda view, _: work(view), self.timeout_s, threaded=False)

    async def account(self, block: PendingBlock, address: int) -> Account:
        """An account after the block; an empty one if there is none."""
        return await self.read(block, lambda view: view.account(address) or EMPTY_ACCOUNT)

    async def _complete(
        self,
        block: PendingBlock,
        work: Callable[[StateView, Deadline], T],
        timeout_s: float,
        *,
        threaded: bool,
    ) -> T:
        started = time.perf_counter()
        for _ in range(MAX_ROUNDS):
            view = StateView(block.state)
            left = timeout_s - (time.perf_counter() - started)
            if left <= 0:
                raise ExecutionTimeout(timeout_s)
            deadline = Deadline(left)
            result, failure = None, None
            try:
                result = await asyncio.to_thread(work, view, deadline) if threaded else work(view, deadline)
            except (ExecutionFailed, ExecutionTimeout, TraceTooLarge) as error:
                failure = error  # perhaps only for want of what is missing
            if not view.missing:
                if failure is not None:
                    raise failure
                return result  # type: ignore[return-value]
            await self._node.load(block.state.canonical, view.missing)
        raise RpcError(Code.LIMIT_EXCEEDED, f"state still missing after {MAX_ROUNDS} fetches")
