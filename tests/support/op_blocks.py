"""OP Stack blocks with their witness: those of the pack, and real ones of the reference data (op-blocks)."""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from typing import Any

from support.reference import optional_reference_path, reference_path
from support.vectors import block_cases

from flashctl.eth.blocks import Block, Header, decode_header
from flashctl.eth.keccak import keccak256
from flashctl.evm.world import World
from flashctl.op.config import ChainConfig


def unhex(text: str) -> bytes:
    return bytes.fromhex(text[2:])


@dataclass(frozen=True)
class RecordedBlock:
    """One block, its parent and the part of the state that it touches."""

    name: str
    config: ChainConfig
    parent: Header
    block: Block
    receipts: list[dict[str, Any]]
    witness: dict[bytes, bytes]
    raw: dict[str, Any]

    def world(self) -> World:
        """The state before the block, as far as the witness goes."""
        return World.from_root(self.parent.state_root, self.witness.get, self.witness.get)

    def ancestor_hash(self, number: int) -> bytes:
        """Hashes of the headers that the witness holds, by number."""
        header = self.parent
        while header.number > number:
            header = decode_header(self.witness[header.parent_hash])
        return header.hash


def names() -> list[str]:
    """Every block: the pack's by fork, the recorded ones, where they are, by chain and number."""
    return [*block_cases(), *recorded_names()]


def recorded_names() -> list[str]:
    """The real blocks; none without the reference data."""
    path = optional_reference_path("op-blocks/index.json")
    entries = [] if path is None else json.loads(path.read_text())
    return [entry["file"].removeprefix("dev/").removesuffix(".json.gz") for entry in entries]


def load(name: str) -> RecordedBlock:
    data = block_cases().get(name)
    if data is None:
        data = json.loads(gzip.decompress(reference_path(f"op-blocks/dev/{name}.json.gz").read_bytes()))
    values = map(unhex, data["witness"])
    witness = {keccak256(value): value for value in values}
    transactions = tuple(map(unhex, data["payload_attributes"]["transactions"]))
    return RecordedBlock(
        name,
        ChainConfig.from_rollup(data["rollup_config"]),
        header_from_json(data["parent_header"]),
        Block(decode_header(unhex(data["expected_header_rlp"])), transactions),
        data["expected_receipts"],
        witness,
        data,
    )


def header_from_json(fields: dict[str, Any]) -> Header:
    def number(key: str) -> int:
        return int(fields[key], 16)

    def optional(key: str) -> bytes | None:
        return unhex(fields[key]) if fields.get(key) is not None else None

    def optional_number(key: str) -> int | None:
        return int(fields[key], 16) if fields.get(key) is not None else None

    return Header(
        unhex(fields["parentHash"]),
        unhex(fields["sha3Uncles"]),
        unhex(fields["miner"]),
        unhex(fields["stateRoot"]),
        unhex(fields["transactionsRoot"]),
        unhex(fields["receiptsRoot"]),
        unhex(fields["logsBloom"]),
        number("difficulty"),
        number("number"),
        number("gasLimit"),
        number("gasUsed"),
        number("timestamp"),
        unhex(fields["extraData"]),
        unhex(fields["mixHash"]),
        unhex(fields["nonce"]),
        optional_number("baseFeePerGas"),
        optional("withdrawalsRoot"),
        optional_number("blobGasUsed"),
        optional_number("excessBlobGas"),
        optional("parentBeaconBlockRoot"),
        optional("requestsHash"),
    )
