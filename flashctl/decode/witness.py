"""What `--execute` works from: a block in any of its forms, and the witness of the state it touches.

A witness is what `debug_executionWitness` answers: the trie nodes and codes that executing the block reads,
and headers of its ancestors, the parent's first of all. Clients differ in the shape (a list of values, or an
object from hash to value; headers in RLP or as objects) and not in the meaning, because every value is found
by its own hash; nothing that a witness says about itself has to be believed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from flashctl.core.engine import payload_from_json
from flashctl.core.transaction_objects import raw_from_object
from flashctl.errors import DataError
from flashctl.eth.blocks import Block, Header, decode_block, decode_header
from flashctl.eth.hexdata import parse_hex, parse_quantity
from flashctl.eth.keccak import keccak256
from flashctl.evm.world import World

__all__ = ["StatedBlock", "Witness", "header_from_object", "read_block", "read_witness"]


# -- witness ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Witness:
    """A part of the state, and the headers before a block."""

    values: Mapping[bytes, bytes]
    """Trie nodes and codes by their hash."""
    headers: Mapping[bytes, Header]
    """Ancestors by their hash."""

    def parent_of(self, block: Block) -> Header:
        """The header that the block builds on.

        Raises:
            DataError: The witness has it not.
        """
        parent = self.headers.get(block.header.parent_hash)
        if parent is None:
            raise DataError(f"the witness has no header of the parent 0x{block.header.parent_hash.hex()}")
        return parent

    def state(self, root: bytes) -> World:
        """The state of a root, as far as the witness goes."""
        return World.from_root(root, self.values.get, self.values.get)

    def ancestor_hash(self, parent: Header, number: int) -> bytes:
        """What BLOCKHASH says of an ancestor.

        Raises:
            DataError: The witness does not reach back that far.
        """
        header = parent
        while header.number > number:
            if header.number == number + 1:
                return header.parent_hash
            before = self.headers.get(header.parent_hash)
            if before is None:
                raise DataError(f"the block asks for the hash of block {number}, which the witness lacks")
            header = before
        return header.hash


def read_witness(value: Any) -> Witness:
    """The witness in a JSON value, the answer of a node around it or not.

    Raises:
        DataError: It is none.
    """
    if isinstance(value, Mapping) and "result" in value:
        value = value["result"]
    if not isinstance(value, Mapping) or "state" not in value:
        raise DataError("not a witness: expected an object with state, codes and headers")
    blobs = [parse_hex(text) for part in ("state", "codes") for text in _members(value, part)]
    headers = [
        header_from_object(member) if isinstance(member, Mapping) else decode_header(parse_hex(member))
        for member in _members(value, "headers")
    ]
    return Witness({keccak256(blob): blob for blob in blobs}, {header.hash: header for header in headers})


def _members(value: Mapping[str, Any], part: str) -> Iterable[Any]:
    members = value.get(part) or ()
    if isinstance(members, Mapping):
        return members.values()
    if isinstance(members, list | tuple):
        return members
    raise DataError(f"not a witness: {part} is neither a list nor an object")


# -- block -----------------------------------------------------------------------------------------


class StatedBlock(NamedTuple):
    """A block, and the hash that it was given with."""

    block: Block
    hash: bytes


def read_block(value: bytes | Mapping[str, Any]) -> StatedBlock:
    """The block of its RLP, of a node's answer, or of an `engine_newPayload` or `engine_getPayload` body.

    Raises:
        DataError: It is none of these, or lacks what execution needs.
    """
    if isinstance(value, bytes):
        block = decode_block(value)
        return StatedBlock(block, block.hash)
    match value:
        case {"method": str(method), "params": [payload, *rest]} if method.startswith("engine_newPayload"):
            root, requests = (*rest[1:], None, None)[:2]
            return _of_payload(payload, root, requests)
        case {"result": Mapping() as inner}:
            return read_block(inner)
        case {"executionPayload": payload}:
            return _of_payload(payload, value.get("parentBeaconBlockRoot"), value.get("executionRequests"))
        case {"feeRecipient": _, "blockHash": _}:
            raise DataError(
                "a payload alone does not say its parentBeaconBlockRoot",
                hint="give the whole engine_newPayload request, or the answer to engine_getPayload",
            )
        case {"parentHash": _, "transactions": [*transactions]}:
            return _of_object(value, transactions)
    raise DataError("not a block to execute", hint="a block in RLP or JSON, or an engine payload")


def _of_payload(payload: Any, root: Any, requests: Any) -> StatedBlock:
    block = payload_from_json(payload, None if root is None else parse_hex(root, size=32), requests=requests)
    return StatedBlock(block, block.hash)


def _of_object(value: Mapping[str, Any], members: list[Any]) -> StatedBlock:
    if not all(isinstance(member, Mapping) for member in members):
        raise DataError(
            "the block has only the hashes of its transactions",
            hint="ask the node for full ones: eth_getBlockByNumber N true",
        )
    header = header_from_object(value)
    raws = tuple([raw_from_object(member) for member in members])
    stated = parse_hex(value["hash"], size=32) if value.get("hash") else header.hash
    return StatedBlock(Block(header, raws, None if header.withdrawals_root is None else ()), stated)


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
