"""Blocks as nodes return them in JSON, back to headers and bytes.

The counterpart of `core.transaction_objects`: what `eth_getBlockByNumber(..., true)` gives is rebuilt, so
that its hash can be computed instead of believed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from flashctl.errors import DataError
from flashctl.eth.blocks import Block, Header
from flashctl.eth.hexdata import parse_hex, parse_quantity
from flashctl.ethrpc.transaction_objects import raw_from_object

__all__ = ["block_from_object", "header_from_object"]

_HEADER_FIELDS: Final = (
    ("parentHash", 32), ("sha3Uncles", 32), ("miner", 20), ("stateRoot", 32), ("transactionsRoot", 32),
    ("receiptsRoot", 32), ("logsBloom", 256), ("difficulty", None), ("number", None), ("gasLimit", None),
    ("gasUsed", None), ("timestamp", None), ("extraData", -1), ("mixHash", 32), ("nonce", 8),
)  # fmt: skip
"""JSON-RPC's names in the order of the encoding, with the size of what is no number; -1 is any size."""

_LATER_HEADER_FIELDS: Final = (
    ("baseFeePerGas", None), ("withdrawalsRoot", 32), ("blobGasUsed", None), ("excessBlobGas", None),
    ("parentBeaconBlockRoot", 32), ("requestsHash", 32),
)  # fmt: skip
"""Those that a fork brought; absent before it."""


def block_from_object(value: Mapping[str, Any]) -> Block:
    """The block in a block object of a node, with full transactions.

    Its hash is that of what it holds; whether that is the stated one is for the caller to see.

    Raises:
        DataError: A field is missing or malformed, or there are only the hashes of the transactions.
    """
    members = value.get("transactions")
    if not isinstance(members, list):
        raise DataError("the block has no transactions")
    if not all(isinstance(member, Mapping) for member in members):
        raise DataError(
            "the block has only the hashes of its transactions",
            hint="ask the node for full ones: eth_getBlockByNumber N true",
        )
    header = header_from_object(value)
    raws = tuple([raw_from_object(member) for member in members])
    return Block(header, raws, None if header.withdrawals_root is None else ())


def header_from_object(value: Mapping[str, Any]) -> Header:
    """The header in a block object of a node.

    Raises:
        DataError: A field is missing or malformed.
    """
    fields = [_field(value, name, size) for name, size in _HEADER_FIELDS]
    later = [
        None if value.get(name) is None else _field(value, name, size) for name, size in _LATER_HEADER_FIELDS
    ]
    return Header(*fields, *later)


def _field(value: Mapping[str, Any], name: str, size: int | None) -> Any:
    if value.get(name) is None:
        raise DataError(f"the block has no {name}")
    if size is None:
        return parse_quantity(value[name])
    return parse_hex(value[name], size=None if size < 0 else size)
