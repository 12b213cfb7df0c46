"""What names mean: transaction types, and the units of the fields that are numbers."""

from __future__ import annotations

__all__ = ["COUNTS", "IN_ETHER", "IN_GWEI", "QUANTITIES", "TYPE_NAMES", "type_label"]

TYPE_NAMES = {
    0: "legacy",
    1: "eip2930",
    2: "eip1559",
    3: "eip4844",
    4: "eip7702",
    0x7D: "post-exec",
    0x7E: "deposit",
}
"""Type byte to the name users know. 0x7d (OP Stack Lagoon) is named although its content is not decoded."""

IN_ETHER = frozenset(("value", "mint", "fee", "l1Fee", "operatorFee", "operatorFeeLimit"))
"""Amounts of wei that a person reads in ether."""

IN_GWEI = frozenset((
    "gasPrice", "maxFeePerGas", "maxPriorityFeePerGas", "maxFeePerBlobGas", "effectiveGasPrice",
    "effectiveTip", "baseFeePerGas", "baseFee", "blobBaseFee", "minBaseFee",
))  # fmt: skip
"""Prices in wei that a person reads in gwei."""

COUNTS = frozenset((
    "chainId", "nonce", "gas", "intrinsicGas", "floorGas", "gasUsed", "gasLimit", "cumulativeGasUsed",
    "l1GasUsed", "timestamp", "blockNumber", "number", "blobGasUsed", "excessBlobGas", "size",
    "sequenceNumber", "baseFeeScalar", "blobBaseFeeScalar", "operatorFeeScalar", "operatorFeeConstant",
    "daFootprintGasScalar", "l1FeeOverhead", "l1FeeScalar", "depositNonce", "depositReceiptVersion",
    "status", "v", "yParity", "difficulty",
))  # fmt: skip

QUANTITIES = frozenset(("type",)) | IN_ETHER | IN_GWEI | COUNTS
"""Fields whose hex is a number; `--decimal` converts these and leaves hashes and data alone."""


def type_label(type_byte: int) -> str:
    """`2 (eip1559)`; types without a decimal tradition keep hex."""
    number = f"{type_byte}" if type_byte < 0x10 else f"0x{type_byte:02x}"
    return f"{number} ({TYPE_NAMES.get(type_byte, 'unknown')})"
