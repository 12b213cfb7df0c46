"""JSON-RPC methods without side effects, whose requests may be sent twice.

An allow list, since an unknown method may have any effect. Filters are not on it: they are created, and each
poll consumes; neither are newPayload and forkchoiceUpdated, which move a node.
"""

from __future__ import annotations

from typing import Final

__all__ = ["is_repeatable"]

_NAMESPACES: Final = frozenset({"net", "web3", "txpool", "trace", "optimism", "rpc"})
"""Read-only namespaces."""

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
    """Whether a request for `method` may be answered twice without a side effect."""
    if method in _NAMES:
        return True
    return (method.startswith(_PREFIXES) or method.partition("_")[0] in _NAMESPACES) and method not in _EXCEPT
