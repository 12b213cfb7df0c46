"""What `--execute` works from: a block in any of its forms, and the witness of the state it touches.

A witness is what `debug_executionWitness` answers: the trie nodes and codes that executing the block reads,
and headers of its ancestors, the parent's first of all. Clients differ in the shape (a list of values, or an
object from hash to value; headers in RLP or as objects) and not in the meaning, because every value is found
by its own hash; nothing that a witness says about itself has to be believed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from flashctl.core.engine.payloads import payload_from_json
from flashctl.errors import DataError
from flashctl.eth.blocks import Block, Header, decode_block, decode_header
from flashctl.eth.hexdata import parse_hex
from flashctl.eth.keccak import keccak256
from flashctl.ethrpc.block_objects import block_from_object, header_from_object
from flashctl.evm.world import World

__all__ = ["StatedBlock", "Witness", "read_block", "read_witness"]


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
    wrong: tuple[str, ...] = ()
    """What a node's object says of its transactions that their content does not."""


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
        case {"parentHash": _, "transactions": [*_]}:
            return _of_object(value)
    raise DataError("not a block to execute", hint="a block in RLP or JSON, or an engine payload")


def _of_payload(payload: Any, root: Any, requests: Any) -> StatedBlock:
    block = payload_from_json(payload, None if root is None else parse_hex(root, size=32), requests=requests)
    return StatedBlock(block, block.hash)


def _of_object(value: Mapping[str, Any]) -> StatedBlock:
    block = block_from_object(value)
    stated = parse_hex(value["hash"], size=32) if value.get("hash") else block.hash
    return StatedBlock(block, stated, tuple(_wrong_hashes(value["transactions"], block.transactions)))


def _wrong_hashes(members: Iterable[Mapping[str, Any]], raws: Iterable[bytes]) -> Iterator[str]:
    for position, (member, raw) in enumerate(zip(members, raws, strict=True)):
        stated, computed = member.get("hash"), "0x" + keccak256(raw).hex()
        if stated is not None and str(stated).lower() != computed:
            yield f"transaction {position}: stated hash {stated}, its content hashes to {computed}"
