"""Blocks of every fork from the pack, and real ones of four chains, executed from witness to hash."""

from __future__ import annotations

import pytest
from support import op_blocks

from flashctl.eth.receipts import Receipt
from flashctl.op.envelope import recover_all
from flashctl.op.execution import (
    BlockContext,
    BlockExecution,
    SealedBlock,
    TransactionResult,
    execute_block,
)

ALL = op_blocks.names()
OVERRIDDEN_BASE_FEE = "celo-sepolia-2346038"
"""Celo floors its base fee by a rule of its own; the block is executed, its base fee not derived."""


@pytest.mark.parametrize("name", ALL)
def test_block_reaches_its_hash(name: str) -> None:
    recorded = op_blocks.load(name)
    if name == OVERRIDDEN_BASE_FEE:
        sealed = execute_without_header_checks(recorded)
    else:
        sealed = execute_block(
            recorded.config, recorded.parent, recorded.block, recorded.world(), recorded.ancestor_hash
        )
    assert sealed.hash == recorded.block.hash
    assert len(sealed.results) == len(recorded.receipts)
    for result, envelope, expected in zip(sealed.results, sealed.envelopes, recorded.receipts, strict=True):
        assert envelope.hash == op_blocks.unhex(expected["transactionHash"])
        assert envelope.sender == op_blocks.unhex(expected["from"])
        check_receipt(result, expected)


def execute_without_header_checks(recorded: op_blocks.RecordedBlock) -> SealedBlock:
    context = BlockContext.from_header(recorded.block.header)
    execution = BlockExecution(
        recorded.config, recorded.parent, context, recorded.world(), recorded.ancestor_hash
    )
    for envelope in recover_all(recorded.block.transactions):
        execution.execute(envelope)
    return execution.seal()


def check_receipt(result: TransactionResult, expected: dict[str, object]) -> None:
    receipt: Receipt = result.receipt
    assert receipt.succeeded == (expected["status"] == "0x1")
    assert hex(result.gas_used) == expected["gasUsed"]
    assert hex(receipt.cumulative_gas_used) == expected["cumulativeGasUsed"]
    assert "0x" + receipt.bloom.hex() == expected["logsBloom"]
    if "effectiveGasPrice" in expected:
        assert hex(result.effective_gas_price) == expected["effectiveGasPrice"]
    if expected.get("l1Fee") is not None:
        assert hex(result.l1_fee) == expected["l1Fee"]
    logs = [
        {
            "address": "0x" + log.address.hex(),
            "data": "0x" + log.data.hex(),
            "topics": ["0x" + t.hex() for t in log.topics],
        }
        for log in receipt.logs
    ]
    wanted = expected["logs"]
    assert isinstance(wanted, list)
    assert logs == [{key: log[key] for key in ("address", "data", "topics")} for log in wanted]
