"""Threads for questions that read many blocks: logs of a range, what a filter missed.

They have a few threads of their own, so that only queries of this kind wait for each other. Waiting counts
against the time that a query may take, and the line is bounded.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar, TypeVarTuple

from flashctl.core.jsonrpc.errors import ErrorCode, RpcError

__all__ = ["MAX_SECONDS", "Readers"]

MAX_SECONDS: Final = 5.0
"""Of one question, from when it came."""

AT_ONCE: Final = 2
"""They share the interpreter with everything else."""

MAX_WAITING: Final = 128

_Given = TypeVarTuple("_Given")
_Result = TypeVar("_Result")


class Readers:
    """Runs reading functions in threads. Lives on the event loop."""

    def __init__(self) -> None:
        self._threads: Final = ThreadPoolExecutor(AT_ONCE, "reading")
        self._asked = 0

    async def run(self, work: Callable[[*_Given], _Result], *args: *_Given) -> _Result:
        """The result of `work(*args)`, called in a thread.

        Raises:
            RpcError: Too many wait, or its turn came too late.
        """
        if self._asked >= AT_ONCE + MAX_WAITING:
            raise RpcError(ErrorCode.LIMIT_EXCEEDED, "too many queries of blocks at a time, try again later")
        latest = time.monotonic() + MAX_SECONDS

        def in_turn() -> _Result:
            if time.monotonic() > latest:
                raise RpcError(ErrorCode.LIMIT_EXCEEDED, f"query waited for more than {MAX_SECONDS:g} s")
            return work(*args)

        self._asked += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, in_turn)
        finally:
            self._asked -= 1

    def close(self) -> None:
        """Begin nothing more."""
        self._threads.shutdown(wait=False, cancel_futures=True)
