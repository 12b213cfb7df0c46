"""Which JSON-RPC methods change nothing where they are answered, so that a request may arrive twice.

A list of what may, for a method nobody has heard of may do anything. Filters are not on it: they are made,
and polled once; neither are newPayload and forkchoiceUpdated, which move a node.
"""

from __future__ import annotations

from typing import Final

__all__ = ["is_repeatable"]

_NAMESPACES: Final = frozenset({"net", "web3", "txpool", "trace", "optimism", "rpc"})
"""They only tell."""

_PREFIXES: Final = ("eth_get", "debug_trace", "debug_get", "engine_getPayload", "engine_getBlobs")

_EXCEPT: Final = frozenset({"eth_getFilterChanges", "eth_getWork"})

_NAMES: Final = frozenset(
    {
        "engine_exchangeCapabilities",
        "engine_getClientVersionV1",
        "eth_accounts",
        "eth_baseFee",
        "eth_blobBaseFee",
        "eth_blockNumber",
        "eth_call",
        "eth_callBundle",
        "eth_callMany",
        "eth_chainId",
        "eth_coinbase",
        "eth_config",
        "eth_createAccessList",
        "eth_estimateGas",
        "eth_feeHistory",
        "eth_gasPrice",
        "eth_maxPriorityFeePerGas",
        "eth_protocolVersion",
        "eth_simulateV1",
        "eth_syncing",
    }
)


def is_repeatable(method: str) -> bool:
    """Whether a request for `method` may be answered twice without anybody noticing."""
    if method in _NAMES:
        return True
    return (method.startswith(_PREFIXES) or method.partition("_")[0] in _NAMESPACES) and method not in _EXCEPT
