"""Sequences of flashblocks cut from blocks: the roots of every prefix, from one execution."""

from __future__ import annotations

import pytest
from support import op_blocks
from support.flashblocks import derived_blocks

from flashctl.op.envelope import recover_all
from flashctl.op.execution import BlockContext, BlockExecution

SEQUENCES = {case["_op_block"].removesuffix(".json.gz"): case for case in derived_blocks()}


@pytest.mark.parametrize("name", SEQUENCES)
def test_state_root_at_every_flashblock(name: str) -> None:
    sequence = SEQUENCES[name]
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
