"""Results recorded from op-revm: precompile calls under each fork's prices and limits, and two deposits.

A record holds the result and the accounts, not the transaction. It follows from the record: the callee is the
lowest account above the sender (zero), every byte of data is 0x01 and paid for in the intrinsic gas.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.op_chain import FJORD, ISTHMUS, no_ancestors, parent_header, world_with
from support.reference import each_reference, reference_path

from flashctl.eth.transactions import DepositTx, encode_transaction
from flashctl.evm.message import BlockEnv
from flashctl.evm.state import EmptyReader, JournaledState
from flashctl.evm.transaction import IntrinsicGasError, TxParams, run_transaction
from flashctl.op.config import ChainConfig
from flashctl.op.envelope import TxEnvelope
from flashctl.op.execution import BlockContext, BlockExecution
from flashctl.op.forks import OpFork
from flashctl.op.rules import rules_for

EXCLUDED = {
    "test_log_inspector": "records what revm's inspector saw, which has no counterpart here",
    "test_l1block_load_for_pre_regolith": "Bedrock is not executed",
    "test_deposit_tx": "TestDeposits",
    "test_halted_deposit_tx": "TestDeposits",
}
FORKS = {"bn254_pair_fjord": OpFork.FJORD, "bn254_pair_granite": OpFork.GRANITE, "p256verify": OpFork.FJORD}
"""By ending of the name; the BLS12-381 calls are Isthmus'."""


def load(name: str) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(reference_path(f"op-revm-testdata/{name}.json").read_text())
    return record


def names() -> list[str]:
    found = {path.stem for path in reference_path("op-revm-testdata").glob("*.json")}
    return sorted(found - EXCLUDED.keys())


def environment() -> BlockEnv:
    return BlockEnv(1, 1, 30_000_000, 0, 0, 0, 10)


@pytest.mark.parametrize("name", each_reference(names))
def test_precompile_call(name: str) -> None:
    record = load(name)
    ((kind, result),) = record["result"].items()
    gas = {key: int(value) for key, value in result["gas"].items()}
    fork = next((fork for ending, fork in FORKS.items() if name.endswith(ending)), OpFork.ISTHMUS)
    callee = min(int(address, 16) for address in record["state"] if int(address, 16))
    nonzero, rest = divmod(gas["intrinsic_gas"] - 21_000, 16)
    params = TxParams(sender=0, to=callee, data=b"\x01" * nonzero + bytes(rest // 4), gas_limit=gas["limit"])
    state = JournaledState(EmptyReader())
    try:
        outcome = run_transaction(state, environment(), rules_for(fork), params)
    except IntrinsicGasError:
        # Only the calldata floor can be missing; op-revm's tests switch that check off.
        assert gas["floor_gas"] > gas["limit"]
        return
    assert outcome.succeeded == (kind == "Success")
    assert outcome.gas_spent == gas["gas_spent"]
    assert (outcome.halt_reason is None) == (kind == "Success")


class TestDeposits:
    def run(self, config: ChainConfig, **fields: Any) -> tuple[BlockExecution, Any]:
        world = world_with({})
        parent = parent_header(config, world)
        context = BlockContext(
            1, parent.timestamp + 2, parent.hash, 30_000_000, 0, bytes(20), bytes(32), bytes(32), b""
        )
        execution = BlockExecution(config, parent, context, world, no_ancestors)
        tx = DepositTx(**({"source_hash": b"\x01" * 32, "sender": bytes(20), "to": bytes(20)} | fields))
        return execution, execution.execute(TxEnvelope(encode_transaction(tx), tx, tx.sender))

    def test_deposit(self) -> None:
        gas = load("test_deposit_tx")["result"]["Success"]["gas"]
        common = {"value": 0, "is_system": False, "data": b"", "mint": 100}
        execution, result = self.run(ISTHMUS, gas_limit=int(gas["limit"]), **common)
        assert result.gas_used == int(gas["gas_spent"])
        account = load("test_deposit_tx")["state"]["0x" + "0" * 40]["info"]
        nonce, balance, _ = execution.state.get_account(0)
        assert (hex(balance), nonce) == (account["balance"], account["nonce"])

    def test_halted_deposit(self) -> None:
        record = load("test_halted_deposit_tx")
        ((kind, result),) = record["result"].items()
        assert kind == "Halt"
        gas_limit = int(result["gas"]["limit"])
        execution, found = self.run(
            FJORD, gas_limit=gas_limit, value=1, is_system=False, data=b"", mint=0, to=b"\x01" * 20
        )
        assert not found.receipt.succeeded
        assert found.gas_used == int(result["gas"]["gas_spent"]) == gas_limit
        assert execution.state.get_account(0).nonce == 1
