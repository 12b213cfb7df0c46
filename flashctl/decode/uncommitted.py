"""What `--verify` cannot find wrong: fields that no hash, root, bloom or signature in the input commits to.

docs/decode.md shows this table; a property test edits everything else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

__all__ = ["UNCOMMITTED", "Uncommitted"]


class Uncommitted(NamedTuple):
    """Some fields of one container."""

    fields: tuple[str, ...]
    reason: str


_L1_FIELDS: Final = (
    "l1GasPrice", "l1GasUsed", "l1Fee", "l1FeeScalar", "l1BlobBaseFee", "l1BaseFeeScalar",
    "l1BlobBaseFeeScalar", "operatorFeeScalar", "operatorFeeConstant", "daFootprintGasScalar", "blobGasUsed",
)  # fmt: skip

UNCOMMITTED: Final[Mapping[str, Sequence[Uncommitted]]] = {
    "transaction (bytes)": [
        Uncommitted(
            ("every field",), "edited bytes are another transaction, with another hash and sender"
        ),
    ],
    "transaction (JSON)": [
        Uncommitted(("gasPrice",), "of types 2 to 4 it depends on the base fee of the block"),
        Uncommitted(
            ("blockHash", "blockNumber", "blockTimestamp", "transactionIndex"), "of one without its block"
        ),
    ],
    "deposit (JSON)": [
        Uncommitted(("nonce", "depositReceiptVersion"), "they are in its receipt"),
        Uncommitted(("gasPrice", "v", "r", "s", "yParity"), "it pays no gas and has no signature"),
    ],
    "header or block (RLP)": [
        Uncommitted(
            (
                "parentHash", "miner", "stateRoot", "receiptsRoot", "logsBloom", "number", "gasLimit",
                "gasUsed", "timestamp", "extraData", "mixHash", "baseFeePerGas", "withdrawalsRoot",
                "blobGasUsed", "parentBeaconBlockRoot",
            ),
            "RLP does not hold the hash of its header; receipts in the same input commit to receiptsRoot, "
            "logsBloom and gasUsed",
        ),
    ],
    "block (JSON)": [
        Uncommitted(("size", "totalDifficulty"), "they are no part of the header"),
    ],
    "execution payload": [
        Uncommitted(("blockValue", "blobsBundle", "shouldOverrideBuilder"), "they are no part of the block"),
        Uncommitted(
            ("everything but transactions",),
            "from V3 on, where parentBeaconBlockRoot does not come beside it",
        ),
    ],
    "flashblock sequence": [
        Uncommitted(("metadata.new_account_balances",), "it follows from the state, which is not at hand"),
        Uncommitted(("metadata.prev_flashblock_id", "metadata.*"), "further members are hints"),
        Uncommitted(
            ("base.*", "diff.withdrawals_root", "diff.blob_gas_used"),
            "where the builder leaves state_root or block_hash zero",
        ),
    ],
    "receipt (bytes)": [
        Uncommitted(
            ("type", "status", "cumulativeGasUsed", "depositNonce", "depositReceiptVersion", "logs.data"),
            "without its block; a bloom commits to addresses and topics alone",
        ),
    ],
    "receipt (JSON)": [
        Uncommitted(
            ("everything but logsBloom, logs.address and logs.topics",),
            "without its block, unless the receipt states it twice",
        ),
        Uncommitted(_L1_FIELDS, "with its block too: they depend on the fork, which a block does not name"),
    ],
}  # fmt: skip
"""Container to its fields, each with the reason."""
