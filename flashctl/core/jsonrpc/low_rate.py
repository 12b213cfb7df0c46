"""JSON-RPC to a peer that is asked rarely."""

from __future__ import annotations

from flashctl.core.jsonrpc.client import JsonRpcClient
from flashctl.core.net.httpx_client import HttpxClient

__all__ = ["LowRateClient"]


class LowRateClient(JsonRpcClient):
    """`JsonRpcClient` on httpx: for checks, probes and confirmations.

    What is multiplexed, passed on, or timed (`watch --send`) has the other.
    """

    def __init__(self, url: str, *, timeout_s: float = 10.0) -> None:
        """See `JsonRpcClient`."""
        super().__init__(url, timeout_s=timeout_s)
        self._http = HttpxClient(url, timeout_s=timeout_s)
