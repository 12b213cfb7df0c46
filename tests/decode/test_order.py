"""What must be decoded in order is: by one process, however many a batch is shared between."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.decode_lab import every_type, transfer_call
from support.flashblocks import streamed_block
from support.sample_block import BLOCK, OBJECT

from flashctl.core.engine.payloads import envelope_to_json
from flashctl.decode.documents import Kind
from flashctl.decode.engine import Engine
from flashctl.decode.order import stands_alone
from flashctl.decode.tx_report import Options, report_transaction
from flashctl.eth.blocks import encode_block, encode_header
from flashctl.eth.hexdata import to_hex
from flashctl.eth.receipts import Receipt, encode_receipt
from tests.decode.test_edits import receipt_objects

TXS = [to_hex(raw) for raw in every_type().values()]
OF_DEPOSITS = (7, 1)
RECEIPTS = [
    to_hex(encode_receipt(Receipt(kind, True, 21_000, (), *(OF_DEPOSITS if kind == 0x7E else (None, None)))))
    for kind in (0, 2, 0x7E)
]
OBJECTS: list[Any] = [OBJECT, envelope_to_json(BLOCK), *receipt_objects(), *streamed_block()[:2]]
BYTES = [*TXS, *RECEIPTS, to_hex(encode_block(BLOCK)), to_hex(encode_header(BLOCK.header))]
PLAIN = [*TXS, to_hex(transfer_call()), "# a note", ""]
WRAPPERS = (
    lambda value: value,
    lambda value: {"jsonrpc": "2.0", "id": 1, "result": value},
    lambda value: {"method": "x", "params": [value]},
    lambda value: {"v": 1, "event": "flashblock", "data": value},
    lambda value: {"t": 1, "m": 1, "d": value},
    lambda value: {"raw": value},
    lambda value: [value],
)

lines = st.one_of(
    st.sampled_from(BYTES),
    st.sampled_from(BYTES).map(lambda text: text[:30] + " " + text[30:]),
    st.sampled_from(BYTES).map(lambda text: text[2:].upper()),
    st.builds(
        lambda value, wrap: json.dumps(wrap(value)),
        st.sampled_from([*OBJECTS, *BYTES]),
        st.sampled_from(WRAPPERS),
    ),
)


@given(lines, st.sampled_from([None, *Kind]), st.integers(0, 60), st.integers(0, 255) | st.none())
def test_a_line_that_stands_alone_is_not_remembered(
    line: str, forced: Kind | None, place: int, byte: int | None
) -> None:
    if byte is not None and line.startswith("0x"):
        line = line[: 2 + 2 * place] + f"{byte:02x}" + line[4 + 2 * place :]
    engine = Engine(Options(), forced)
    list(engine.line(line))
    assert not (engine.remembers and stands_alone(line.encode(), forced))


def test_transactions_are_shared_between_processes() -> None:
    """In every form in which batches of them come: what is remembered is the exception."""
    objects = [json.dumps(report_transaction(raw, Options())) for raw in every_type().values()]
    for line in [*PLAIN, *(text for text in objects if "error" not in text)]:
        assert stands_alone(line.encode()), line


@pytest.mark.parametrize("kind", ["block and receipts", "sequence"])
def test_contradictions_far_apart_are_found_by_any_number_of_processes(tmp_path: Path, kind: str) -> None:
    """With a megabyte of transactions between the two that contradict each other."""
    if kind == "sequence":
        first, second = (json.loads(json.dumps(content)) for content in streamed_block()[:2])
        second["diff"]["gas_used"] = "0x1"  # less than before
        said = "gas_used falls"
    else:
        first, second = OBJECT, receipt_objects()[0]
        second["blockHash"] = "0x" + "11" * 32
        second["blockNumber"] = OBJECT["number"]
        said = "the receipt is of block"
    many = "\n".join(TXS * (1_200_000 // sum(map(len, TXS))))
    path = tmp_path / "batch"
    path.write_text("\n".join([json.dumps(first), many, json.dumps(second), many, ""]))
    outputs = []
    for jobs in ([], ["-j", "1"], ["-j", "4"]):
        result = subprocess.run(
            [
                *(sys.executable, "-m", "flashctl", "decode", str(path), "--verify", *jobs, "--json"),
                *("--sig", "transfer(address,uint256)", "--sig", "unheard(bool)"),
            ],
            capture_output=True, timeout=120, check=False,
        )  # fmt: skip
        assert result.returncode == 1 and (kind != "sequence" or b"problem: line" in result.stderr)
        assert said.encode() in result.stdout + result.stderr
        # Used in one process and not in others is used.
        assert b"unheard(bool): nothing has" in result.stderr and b"transfer" not in result.stderr
        outputs.append((result.returncode, result.stdout))
    assert outputs[0] == outputs[1] == outputs[2]
