"""Sequences of flashblocks cut from real blocks: the roots of every prefix, from one execution."""

from __future__ import annotations

import gzip
import json

import pytest
from support import op_blocks
from support.reference import each_reference, reference_path

from flashctl.op.envelope import recover_all
from flashctl.op.execution import BlockContext, BlockExecution


def names() -> list[str]:
    index = json.loads(reference_path("flashblocks/derived/index.json").read_text())
    return [entry["file"].removeprefix("dev/").removesuffix(".json.gz") for entry in index]


@pytest.mark.parametrize("name", each_reference(names))
def test_state_root_at_every_flashblock(name: str) -> None:
    path = reference_path(f"flashblocks/derived/dev/{name}.json.gz")
    sequence = json.loads(gzip.decompress(path.read_bytes()))
    recorded = op_blocks.load(name)
    context = BlockContext.from_header(recorded.block.header)
    execution = BlockExecution(
        recorded.config, recorded.parent, context, recorded.world(), recorded.ancestor_hash
    )
    for flashblock in sequence["flashblocks"]:
        diff = flashblock["diff"]
        for envelope in recover_all([op_blocks.unhex(raw) for raw in diff["transactions"]]):
            execution.execute(envelope)
        header = execution.seal().header
        assert "0x" + header.state_root.hex() == diff["state_root"], flashblock["index"]
        assert "0x" + header.receipts_root.hex() == diff["receipts_root"]
        assert "0x" + header.logs_bloom.hex() == diff["logs_bloom"]
        assert hex(header.gas_used) == diff["gas_used"]
        assert "0x" + header.hash.hex() == diff["block_hash"]
    assert "0x" + execution.seal().hash.hex() == sequence["final_block_hash"]
