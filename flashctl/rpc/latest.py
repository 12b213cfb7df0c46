"""`pending` while nothing is pending: the latest block, never older than one already returned.

Behind one URL there may be several nodes, some of them blocks behind. A user who got a preconfirmed balance
and asks again between two blocks would see it reverted by such a node. So once a node was seen to lag, each
call is batched with eth_blockNumber, and an answer from before the overlay's head is discarded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from flashctl.core.jsonrpc.errors import ErrorCode, RpcError
from flashctl.eth.hexdata import parse_quantity
from flashctl.remote.upstream_client import UpstreamClient
from flashctl.rpc.overlay import Overlay

__all__ = ["LatestCalls"]

TRIES: Final = 4
PAUSE_S: Final = 0.05


class LatestCalls:
    """Calls to the node at `latest` on behalf of a caller of `pending`."""

    def __init__(self, node: UpstreamClient, overlay: Overlay, lags: Callable[[], bool]) -> None:
        """`lags` returns whether a node was behind recently."""
        self._node = node
        self._overlay = overlay
        self._lags = lags

    async def call(self, method: str, params: list[Any]) -> Any:
        """The node's result.

        Raises:
            RpcError: If the node answers with an error, or is behind at each try.
            UpstreamFailure: If its answer is missing or malformed.
        """
        if not self._lags():
            return await self._node.client.call(method, params)
        for _ in range(TRIES):
            number, answer = await self._node.client.batch([("eth_blockNumber", []), (method, params)])
            head = self._overlay.head
            if head is None or (not isinstance(number, RpcError) and parse_quantity(number) >= head.number):
                if isinstance(answer, RpcError):
                    raise RpcError(answer.code, answer.message, answer.data)
                return answer
            await asyncio.sleep(PAUSE_S)
        raise RpcError(ErrorCode.RESOURCE_UNAVAILABLE, "the node is behind what was shown before, try again")

    def least_nonce(self, address: int) -> int:
        """The known nonce of an account at the head, a lower bound, since nonces never decrease."""
        canonical = self._overlay.canonical
        account = None if canonical is None else canonical.accounts.get(address)
        return 0 if account is None else account.nonce
