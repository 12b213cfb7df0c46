"""Sequences in every dialect and framing: decoded, put together, and held against the block's hash."""

from __future__ import annotations

import json

import pytest
from support.vectors import Json, frames_of, load

from flashctl.core.flashblocks import wire
from flashctl.core.flashblocks.assembly import full_block
from flashctl.core.flashblocks.dialects import DIALECTS
from flashctl.core.flashblocks.sequence import Assembler
from flashctl.decode.engine import Engine, Outcome, outcome_of
from flashctl.decode.tx_report import Options
from flashctl.eth.hexdata import to_hex
from flashctl.eth.ordered_trie import ordered_root

SEQUENCES = load("flashblocks")
ROOTLESS = ("subblocks", "without roots")
"""Dialects that leave the roots to the end, so that no block hash can be rebuilt."""


def name(sequence: Json) -> str:
    return f"{sequence['block']} {sequence['dialect']} {sequence['framing']}"


def test_every_dialect_is_there() -> None:
    assert set(DIALECTS) < {sequence["dialect"] for sequence in SEQUENCES}
    assert {sequence["framing"] for sequence in SEQUENCES} == {"text", "brotli", "zstd"}


@pytest.mark.parametrize("sequence", SEQUENCES, ids=name)
def test_the_block_of_a_sequence(sequence: Json) -> None:
    assembler = Assembler()
    for frame in frames_of(sequence):
        assembler.feed(wire.decode(frame, binary=sequence["framing"] != "text"), 0)
    assert assembler.payload is not None
    block = full_block(assembler.payload)
    usual = next(
        one for one in SEQUENCES if (one["block"], one["dialect"]) == (sequence["block"], "op-rbuilder")
    )
    raws = [raw for frame in frames_of(usual) for raw in json.loads(frame)["diff"]["transactions"]]
    assert [to_hex(raw) for raw in block.transactions] == raws
    assert block.header.transactions_root == ordered_root(block.transactions)
    if sequence["dialect"] not in ROOTLESS:
        assert to_hex(block.hash) == sequence["final_block_hash"]


@pytest.mark.parametrize("sequence", SEQUENCES, ids=name)
def test_a_report_of_each_message(sequence: Json) -> None:
    engine = Engine(Options())
    for frame in frames_of(sequence):
        if sequence["framing"] != "text":
            frame = wire.encode(wire.decode(frame, binary=True))
        (report,) = engine.line(frame.decode(), 1)
        assert outcome_of(report) is Outcome.FINE, report.get("flashctl")
