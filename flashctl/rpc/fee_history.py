"""Joins eth_feeHistory of sealed and of streamed blocks."""

from __future__ import annotations

from typing import Any

from flashctl.core.net.upstream_errors import InvalidAnswer

__all__ = ["joined_histories"]


def joined_histories(below: Any, ours: dict[str, Any]) -> dict[str, Any]:
    """Two histories, one after the other; the last base fee of the first is the first one of the second."""
    joined = {**ours}
    try:
        joined["oldestBlock"] = below["oldestBlock"]
        for name, behind in (
            ("baseFeePerGas", 1),
            ("baseFeePerBlobGas", 1),
            ("gasUsedRatio", 0),
            ("blobGasUsedRatio", 0),
            ("reward", 0),
        ):
            if name in ours:
                base_values = below.get(name) or []
                joined[name] = [*base_values[: len(base_values) - behind], *ours[name]]
    except (KeyError, TypeError, AttributeError):
        raise InvalidAnswer("eth_feeHistory is answered with something else") from None
    count = len(joined["gasUsedRatio"])
    for name in ("baseFeePerBlobGas", "blobGasUsedRatio"):
        # A node without EIP-4844 lacks these: a partial list would be attributed to the wrong blocks.
        if len(joined[name]) != count + (name == "baseFeePerBlobGas"):
            del joined[name]
    return joined
