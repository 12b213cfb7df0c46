"""The names under which values of a report are asked for: `--fields`, and the positional field.

A name is a JSON-RPC name (`maxFeePerGas`), one of the extras (`signingHash`), or a dotted path
(`flashctl.call.name`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flashctl.decode.names import QUANTITIES
from flashctl.errors import UsageError

__all__ = ["FIELDS", "check_fields", "decimal", "pick", "text_of"]

_TRANSACTION_FIELDS = (
    "type", "hash", "from", "to", "chainId", "nonce", "gas", "gasPrice", "maxFeePerGas",
    "maxPriorityFeePerGas", "value", "input", "accessList", "maxFeePerBlobGas", "blobVersionedHashes",
    "authorizationList", "yParity", "v", "r", "s", "sourceHash", "mint", "isSystemTx",
)  # fmt: skip
_EXTRA_FIELDS = (
    "typeName", "signature", "signingHash", "lowS", "protected", "canonical", "faults", "intrinsicGas",
    "floorGas", "inputBytes", "creates", "call", "deposit", "authorities", "sidecar", "effectiveGasPrice",
    "effectiveTip", "l1Fee", "l1GasUsed", "daSize", "operatorFeeLimit", "problems", "position", "succeeded",
    "logs", "events", "fee", "operatorFee", "halted", "reverted", "receipt", "checks",
)  # fmt: skip
_CONTAINER_FIELDS = (
    "payloadId", "index", "blockNumber", "blockHash", "parentHash", "timestamp", "gasLimit", "gasUsed",
    "baseFeePerGas", "extraData", "stateRoot", "receiptsRoot", "withdrawalsRoot", "blobGasUsed", "number",
    "size", "status", "cumulativeGasUsed", "transactions", "parentBeaconBlockRoot", "prevRandao",
    "feeRecipient", "prevFlashblockId", "sha3Uncles", "miner", "transactionsRoot", "logsBloom", "difficulty",
    "totalDifficulty", "mixHash", "excessBlobGas", "requestsHash", "uncles", "withdrawals", "eip1559",
    "ommers", "executionRequests", "chain", "fork", "kind", "item",
)  # fmt: skip
_RECEIPT_FIELDS = (
    "transactionHash", "transactionIndex", "contractAddress", "depositNonce", "depositReceiptVersion",
    "l1GasPrice", "l1FeeScalar", "l1BaseFeeScalar", "l1BlobBaseFee", "l1BlobBaseFeeScalar",
    "operatorFeeScalar", "operatorFeeConstant", "daFootprintGasScalar", "blobGasPrice", "address", "topics",
    "data", "logIndex", "removed", "event", "blockTimestamp",
)  # fmt: skip

FIELDS: tuple[str, ...] = (*_TRANSACTION_FIELDS, *_EXTRA_FIELDS, *_CONTAINER_FIELDS, *_RECEIPT_FIELDS)
"""Every name that can be asked for without a path; what completion offers."""


def check_fields(names: Sequence[str]) -> None:
    """Refuse names that no report has, with a suggestion.

    Raises:
        UsageError: For the first unknown name.
    """
    for name in names:
        head = name.partition(".")[0]
        if head not in FIELDS and head != "flashctl":
            import difflib

            close = difflib.get_close_matches(name, FIELDS, 1)
            hint = f"did you mean {close[0]}?" if close else "flashctl decode --help lists the fields"
            raise UsageError(f"unknown field {name!r}", hint=hint)


def pick(report: Mapping[str, Any], name: str) -> Any:
    """The value of a field, looked for among the report's own and then among the extras; None when absent."""
    value: Any = report
    for part in name.split("."):
        if not isinstance(value, Mapping):
            return None
        found = value.get(part)
        if found is None and value is report:
            extras = report.get("flashctl")
            found = extras.get(part) if isinstance(extras, Mapping) else None
        value = found
    return value


def text_of(value: Any) -> str:
    """A value as one tab-separated column: nothing for absent, JSON for what has structure."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case str() | int():
            return str(value)
    import orjson

    return orjson.dumps(value).decode()


def decimal(report: Any, name: str = "") -> Any:
    """A report with its quantities in decimal; strings, because a uint256 does not fit a JSON number."""
    if isinstance(report, dict):
        return {key: decimal(value, key) for key, value in report.items()}
    if isinstance(report, list):
        return [decimal(member, name) for member in report]
    if isinstance(report, str) and name in QUANTITIES and report.startswith(("0x", "-0x")):
        return str(int(report, 16))
    return report
