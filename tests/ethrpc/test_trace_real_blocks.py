"""Blocks of every fork, and real ones, under the tracers: they reach their hash, and the traces say what
happened."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import orjson
import pytest
from support import op_blocks

from flashctl.ethrpc.trace_params import trace_config
from flashctl.ethrpc.trace_run import trace_transactions
from flashctl.evm.message import Deadline
from flashctl.evm.tracers.tracer import Allowance
from flashctl.op.envelope import recover_all
from flashctl.op.execution import BlockContext, BlockExecution

ALL = op_blocks.names()

Json = dict[str, Any]


def traced(recorded: op_blocks.RecordedBlock, config: Json) -> list[Json]:
    """The traces of all transactions; the block they make must be the recorded one."""
    context = BlockContext.from_header(recorded.block.header)
    world = recorded.world()
    execution = BlockExecution(recorded.config, recorded.parent, context, world, recorded.ancestor_hash)
    envelopes = recover_all(recorded.block.transactions)
    options = trace_config(config, index=1).options
    traces = trace_transactions(execution, envelopes, 0, options, Allowance(2**30), Deadline(600))
    assert execution.seal().hash == recorded.block.hash
    found: list[Json] = orjson.loads(orjson.dumps(traces))
    return found


def calls_of(tree: Json) -> list[Json]:
    """A call and all below it."""
    found, waiting = [], [tree]
    while waiting:
        call = waiting.pop()
        found.append(call)
        waiting += call.get("calls", ())
    return found


@pytest.mark.parametrize("name", ALL)
def test_call_trees_hold_the_logs_of_the_receipts(name: str) -> None:
    recorded = op_blocks.load(name)
    trees = traced(recorded, {"tracer": "callTracer", "tracerConfig": {"withLog": True}})
    emitted = 0
    for tree, receipt in zip(trees, recorded.receipts, strict=True):
        assert tree["gasUsed"] == receipt["gasUsed"]
        assert ("error" in tree) == (receipt["status"] == "0x0")
        calls = calls_of(tree)
        assert all(int(call["gasUsed"], 16) <= int(call["gas"], 16) for call in calls)
        logs = sorted(
            (log for call in calls for log in call.get("logs", ())), key=lambda log: int(log["index"], 16)
        )
        assert [int(log["index"], 16) for log in logs] == list(range(emitted, emitted + len(logs)))
        emitted += len(logs)
        shown = [(log["address"], log["topics"], log["data"]) for log in logs]
        assert shown == [(log["address"], log["topics"], log["data"]) for log in receipt["logs"]]


@pytest.mark.parametrize("name", [*ALL[:3], *op_blocks.recorded_names()[:3]])
def test_struct_logs_account_for_the_gas(name: str) -> None:
    """Within a frame, what is left after an instruction is what the next one finds."""
    recorded = op_blocks.load(name)
    for trace, receipt in zip(traced(recorded, {"disableStack": True}), recorded.receipts, strict=True):
        assert trace["gas"] == int(receipt["gasUsed"], 16)
        assert trace["failed"] == (receipt["status"] == "0x0")
        entries = trace["structLogs"]
        for entry, following in pairwise(entries):
            if entry["depth"] == following["depth"] and not is_call(entry):
                assert entry["gas"] - entry["gasCost"] == following["gas"], entry


def is_call(entry: Json) -> bool:
    return entry["op"].endswith("CALL") or entry["op"] in ("CALLCODE", "CREATE", "CREATE2")
