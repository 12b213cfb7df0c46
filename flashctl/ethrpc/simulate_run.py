"""What `eth_simulateV1` asks for, done and shown: blocks of calls upon a block, none of which will exist.

Pure: it serves an embedded chain and an overlay's preconfirmed state. An error of a call that ran is part of
its result; an error of the method is a rule that was broken before.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from flashctl.core.jsonrpc.errors import ErrorCode
from flashctl.eth.hexdata import quantity, to_hex
from flashctl.ethrpc.call_params import InvalidCall, block_overrides, simulated_call, state_overrides
from flashctl.ethrpc.rpc_json import TxPosition, block_json, log_json
from flashctl.evm.message import Deadline
from flashctl.op.call import ExecutionReverted
from flashctl.op.overrides import BlockOverrides
from flashctl.op.simulate import (
    SimulatedBlock,
    SimulatedResult,
    SimulationBase,
    SimulationOptions,
    simulate,
)
from flashctl.op.simulation_plan import BlockPlan

__all__ = ["simulation_json"]

VM_ERROR: Final = -32015
"""Code of a call that the EVM gave up on (execution-apis)."""

_CAPPED: Final = " (gas limit was capped by the RPC server's global gas cap)"


def simulation_json(
    base: SimulationBase, fields: object, gas_cap: int, deadline: Deadline
) -> list[dict[str, Any]]:
    """Read what shall be simulated, do it, and show every block with its calls.

    All of it is work for a thread: reading 10,000 calls takes 100 ms, simulating 2,300 transfers, which is
    all that the default gas cap allows, 200 ms, showing them 70 ms.

    Args:
        base: The block to start from.
        fields: The first parameter of `eth_simulateV1`.
        gas_cap: Gas that all calls together may use.
        deadline: Wall budget.

    Raises:
        InvalidCall: If anything in `fields` is malformed.
        SimulationRefused: If the sequence or one of its calls breaks a rule.
        ExecutionTimeout: If the deadline passes.
    """
    if not isinstance(fields, Mapping):
        raise InvalidCall("invalid argument 0: a simulation is an object")
    blocks = fields.get("blockStateCalls")
    if not isinstance(blocks, list):
        raise InvalidCall("blockStateCalls is not a list")
    options = SimulationOptions(_flag(fields, "validation"), _flag(fields, "traceTransfers"), gas_cap)
    full = _flag(fields, "returnFullTransactions")
    plans = [_plan(block, base.config.chain_id) for block in blocks]
    return [_block_json(block, full=full) for block in simulate(base, plans, options, deadline=deadline)]


def _plan(fields: object, chain_id: int) -> BlockPlan:
    if not isinstance(fields, Mapping):
        raise InvalidCall("a block of blockStateCalls is an object")
    calls = fields.get("calls")
    if calls is not None and not isinstance(calls, list):
        raise InvalidCall("calls is not a list")
    return BlockPlan(
        block_overrides(fields.get("blockOverrides")) or BlockOverrides(),
        state_overrides(fields.get("stateOverrides")),
        tuple(simulated_call(call, chain_id=chain_id) for call in calls or ()),
    )


def _flag(fields: Mapping[str, Any], name: str) -> bool:
    value = fields.get(name)
    if value is not None and not isinstance(value, bool):
        raise InvalidCall(f"{name} is neither true nor false")
    return bool(value)


def _block_json(block: SimulatedBlock, *, full: bool) -> dict[str, Any]:
    header = block.header
    shown = block_json(header, block.envelopes, full=full)
    calls: list[dict[str, Any]] = []
    logs_before = 0
    for index, (envelope, result) in enumerate(zip(block.envelopes, block.results, strict=True)):
        position = TxPosition(header.hash, header.number, header.timestamp, index)
        logs = [
            log_json(log, position, envelope.hash, logs_before + offset)
            for offset, log in enumerate(result.logs)
        ]
        logs_before += len(logs)
        calls.append(_result_json(result, logs))
    return shown | {"calls": calls}


def _result_json(result: SimulatedResult, logs: list[dict[str, Any]]) -> dict[str, Any]:
    outcome = result.outcome
    shown: dict[str, Any] = {
        "returnData": to_hex(outcome.output if outcome.succeeded else b""),
        "logs": logs,
        "gasUsed": quantity(outcome.gas_used),
        "maxUsedGas": quantity(result.most_gas),
        "status": "0x1" if outcome.succeeded else "0x0",
    }
    if outcome.succeeded:
        return shown
    if outcome.halt_reason is None:
        reverted = ExecutionReverted(outcome.output)
        error = {
            "message": str(reverted),
            "code": ErrorCode.EXECUTION_REVERTED,
            "data": to_hex(reverted.data),
        }
    else:
        reason = outcome.halt_reason + (_CAPPED if result.is_gas_capped else "")
        error = {"message": reason, "code": VM_ERROR}
    return shown | {"error": error}
