"""Look-ups in a state that is fetched on demand."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, TypeVar

from flashctl.core.jsonrpc.errors import ErrorCode, RpcError
from flashctl.evm.halts import ExecutionTimeout
from flashctl.evm.missing_state import StateMissing, attempt
from flashctl.evm.state import StateReader
from flashctl.remote.state import PendingState, StateView
from flashctl.remote.upstream_client import UpstreamClient

__all__ = ["MAX_ROUNDS", "look_up", "too_many_rounds"]

MAX_ROUNDS: Final = 64
"""Fetches for one look-up or call."""

_T = TypeVar("_T")


async def look_up(
    upstream: UpstreamClient, state: PendingState, work: Callable[[StateReader], _T], *, timeout_s: float
) -> _T:
    """The result of `work`, which may run several times, the last time with nothing missing.

    Raises:
        ExecutionTimeout: If the fetches take longer than `timeout_s`.
        RpcError: If state is still missing after MAX_ROUNDS, or the node does not have it.
        FlashctlError: If the node is unreachable or its answer malformed.
    """
    started = time.perf_counter()
    for _ in range(MAX_ROUNDS):
        try:
            return attempt(lambda guesses: work(StateView(state, guesses)))
        except StateMissing as error:
            missing = error.missing
        await upstream.load(state.canonical, missing)
        if time.perf_counter() - started > timeout_s:
            raise ExecutionTimeout(timeout_s)
    raise too_many_rounds()


def too_many_rounds() -> RpcError:
    """The error of a look-up or call with too long a chain of dependent reads."""
    return RpcError(ErrorCode.LIMIT_EXCEEDED, f"state still missing after {MAX_ROUNDS} fetches")
