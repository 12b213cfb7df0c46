"""Blocks of each fork from Canyon to Isthmus, executed here and by op-revm in EDR (`support.edr`).

The answers are in the pack; where EDR is installed, it is asked again.
"""

from __future__ import annotations

from typing import Any

import pytest
from support.edr import ALLOC, FORKS, VAULTS, envelopes, mine
from support.op_blocks import header_from_json
from support.op_chain import chain_at, no_ancestors, world_with
from support.vectors import load

from flashctl.eth.hexdata import to_hex
from flashctl.op.base_fee import next_base_fee
from flashctl.op.context import BlockContext
from flashctl.op.execution import BlockExecution
from flashctl.op.forks import OpFork

RECORDED = {case["fork"]: case for case in load("edr")}


@pytest.mark.parametrize("fork", FORKS, ids=lambda fork: fork.label)
def test_a_block_of_each_fork(fork: OpFork) -> None:
    assert RECORDED[fork.label]["transactions"] == [to_hex(envelope.raw) for envelope in envelopes()]
    check(fork, RECORDED[fork.label])


@pytest.mark.parametrize("fork", [FORKS[0], FORKS[-1]], ids=lambda fork: fork.label)
def test_edr_still_answers_so(fork: OpFork) -> None:
    answer = mine(fork, [envelope.raw for envelope in envelopes()])
    check(fork, answer)
    same = ("gasUsed", "status", "effectiveGasPrice", "l1Fee", "cumulativeGasUsed")
    for now, then in zip(answer["receipts"], RECORDED[fork.label]["receipts"], strict=True):
        assert {name: now.get(name) for name in same} == {name: then.get(name) for name in same}


def check(fork: OpFork, oracle: dict[str, Any]) -> None:
    sent = envelopes()
    block = oracle["block"]
    assert block["transactions"] == oracle["hashes"]
    world = world_with(
        {address: (balance, code) for address, (balance, code, _) in ALLOC.items()},
        {(address, slot): value for address, (_, _, slots) in ALLOC.items() for slot, value in slots.items()},
    )
    config = chain_at(fork)
    context = BlockContext.from_header(header_from_json(block))
    parent = header_from_json(oracle["genesis"])
    execution = BlockExecution(config, parent, context, world, no_ancestors)
    for envelope in sent:
        execution.execute(envelope)
    header = execution.seal().header
    for result, expected in zip(execution.results, oracle["receipts"], strict=True):
        compare(result, expected, fork)
    assert to_hex(header.transactions_root) == block["transactionsRoot"]
    assert to_hex(header.receipts_root) == block["receiptsRoot"]
    assert hex(header.gas_used) == block["gasUsed"]
    assert header.base_fee_per_gas == next_base_fee(config, parent, header.timestamp)
    for vault in VAULTS:
        balance = execution.state.get_account(vault).balance
        assert hex(balance) == oracle["balances"][f"0x{vault:040x}"], hex(vault)
    assert "0x" + world.root.hex() == oracle["genesis"]["stateRoot"]
    assert to_hex(header.state_root) == block["stateRoot"]


def compare(result: Any, expected: dict[str, Any], fork: OpFork) -> None:
    receipt = result.receipt
    assert receipt.succeeded == (expected["status"] == "0x1")
    assert hex(result.gas_used) == expected["gasUsed"]
    if receipt.deposit_nonce is not None:
        return
    if "l1Fee" in expected:
        # Legacy transactions' receipts lack it there; the vaults' balances cover them.
        assert hex(result.l1_fee) == expected["l1Fee"]
    assert hex(result.effective_gas_price) == expected["effectiveGasPrice"]
