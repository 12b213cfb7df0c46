"""Blocks with the witness of the state they touch, on every fork: golden, executed by this project.

The witness is what a node's `debug_executionWitness` would answer: trie nodes and codes in the order in which
execution reads them, and the ancestors' headers.
"""

from __future__ import annotations

from collections.abc import Iterator

from vectors.block_scenario import BlockStep, steps
from vectors.packing import Json, Kind

from flashctl.core.engine.payloads import attributes_to_json
from flashctl.eth.blocks import encode_header
from flashctl.eth.hexdata import to_hex
from flashctl.eth.keccak import keccak256
from flashctl.ethrpc.rpc_json import block_receipts_json, header_json
from flashctl.evm.world import World
from flashctl.op.attributes import payload_id
from flashctl.op.config import ChainConfig
from flashctl.op.envelope import recover_all
from flashctl.op.execution import execute_block

__all__ = ["block_case", "kind"]


class Recorder:
    """The state before a block as a store of trie nodes, keeping what is read of it."""

    def __init__(self, world: World) -> None:
        self._nodes = dict(world.new_nodes(World.empty()))
        self.read: dict[bytes, bytes] = {}

    def node(self, digest: bytes) -> bytes | None:
        value = self._nodes.get(digest)
        if value is not None:
            self.read[digest] = value
        return value

    def codes(self, known: dict[bytes, bytes]) -> list[bytes]:
        """The codes of the accounts read: execution itself takes a code it has seen before from a cache."""
        leaves = b"".join(self.read.values())
        return [code for digest, code in sorted(known.items()) if digest in leaves]


def codes_of(world: World) -> dict[bytes, bytes]:
    """Every account's code."""
    hashes = {stored.account.code_hash for stored in world.accounts()}
    codes = {digest: world.code(digest) for digest in hashes}
    return {keccak256(code): code for code in codes.values()}


def block_case(step: BlockStep) -> Json:
    """A block as the pack holds it; executing it again from the witness alone must give it back."""
    recorder, codes = Recorder(step.before), codes_of(step.before)
    block, parent = step.sealed.block, step.parent
    world = World.from_root(parent.state_root, recorder.node, codes.get)
    again = execute_block(step.config, parent, block, world, lambda number: step.ancestors[number].hash)
    assert again.hash == block.hash
    fork = step.config.fork_at(block.header.timestamp)
    headers = [encode_header(header) for _, header in sorted(step.ancestors.items())]
    return {
        "name": step.name,
        "fork": fork.label,
        "rollup_config": rollup_config(step.config),
        "parent_header": header_json(parent),
        "asked": attributes_to_json(step.attributes),
        "payload_id": to_hex(payload_id(parent.hash, step.attributes)),
        "payload_attributes": {"transactions": [to_hex(raw) for raw in block.transactions]},
        "expected_header_rlp": to_hex(encode_header(block.header)),
        "expected_receipts": block_receipts_json(
            fork, block.header, recover_all(block.transactions), step.sealed.receipts
        ),
        "witness": [to_hex(value) for value in (*recorder.read.values(), *recorder.codes(codes), *headers)],
    }


def rollup_config(config: ChainConfig) -> Json:
    """What of op-node's rollup.json bears on execution."""
    return {
        "l2_chain_id": config.chain_id,
        "block_time": config.block_time,
        **{f"{fork.label}_time": time for fork, time in config.schedule},
        "chain_op_config": config.to_genesis_config()["optimism"],
    }


def cases() -> Iterator[Json]:
    for step in steps():
        yield block_case(step)


def kind() -> Kind:
    """The file of the pack."""
    about = "blocks of every fork with their witness and receipts, and the first block of each fork"
    return Kind("blocks", about, cases(), {})
