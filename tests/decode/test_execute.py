"""`decode --execute`: blocks on their witness come out as they were sealed; changed ones do not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support import op_blocks
from support.decode_lab import run_command
from support.reference import needs_reference
from support.vectors import block_cases

from flashctl.core.engine.payloads import envelope_to_json, payload_to_json
from flashctl.decode.witness import read_witness
from flashctl.eth.blocks import Block, encode_block, encode_header
from flashctl.eth.hexdata import to_hex
from flashctl.ethrpc.block_objects import header_from_object
from flashctl.ethrpc.rpc_json import block_json
from flashctl.op.envelope import recover_all
from flashctl.op.execution import execute_block

NAMES = ["ecotone-3", pytest.param("op-mainnet-121057303", marks=needs_reference)]
"""Of four transactions each: a deposit, a transfer, one of tokens and another call."""


MADE = [name for name in block_cases() if name.endswith("-2")]
AGREEING = [
    pytest.param(name, marks=needs_reference)
    for name in ("op-mainnet-120794432", "op-mainnet-121049889", "op-sepolia-26207960", "unichain-10211000")
]


@pytest.fixture(scope="module", params=NAMES)
def recorded(request: pytest.FixtureRequest) -> op_blocks.RecordedBlock:
    return op_blocks.load(request.param)


def witness_of(recorded: op_blocks.RecordedBlock) -> dict[str, Any]:
    """The recorded state as `debug_executionWitness` answers it."""
    return {
        "state": [to_hex(value) for value in recorded.witness.values()],
        "codes": [],
        "keys": [],
        "headers": [to_hex(encode_header(recorded.parent))],
    }


def as_object(recorded: op_blocks.RecordedBlock) -> dict[str, Any]:
    """The block as a node returns it with full transactions; a deposit's nonce is in its receipt."""
    sealed = execute_block(
        recorded.config, recorded.parent, recorded.block, recorded.world(), recorded.ancestor_hash
    )
    envelopes = recover_all(recorded.block.transactions)
    return block_json(recorded.block.header, envelopes, sealed.receipts, full=True)


class Lab:
    """Runs the command on files of one folder."""

    def __init__(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, recorded: op_blocks.RecordedBlock
    ) -> None:
        self.folder = folder
        self.monkeypatch = monkeypatch
        self.recorded = recorded

    def file(self, name: str, value: Any) -> str:
        path = self.folder / name
        path.write_bytes(value if isinstance(value, bytes) else json.dumps(value).encode())
        return str(path)

    def run(self, block: Any, *more: str, witness: Any = None) -> tuple[int, str, str]:
        on = self.file("witness.json", witness_of(self.recorded) if witness is None else witness)
        return run_command(
            ["decode", self.file("block", block), "--execute", on, *more], self.monkeypatch, b""
        )

    def report(self, block: Any, *more: str, witness: Any = None) -> tuple[int, dict[str, Any]]:
        code, output, errors = self.run(block, "--json", *more, witness=witness)
        assert not errors and output.count("\n") == 1
        return code, json.loads(output)


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recorded: op_blocks.RecordedBlock) -> Lab:
    return Lab(tmp_path, monkeypatch, recorded)


# -- what agrees ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*MADE, *AGREEING])
def test_blocks_agree_in_every_field(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded = op_blocks.load(name)
    lab = Lab(tmp_path, monkeypatch, recorded)
    rules = lab.file("rollup.json", recorded.raw["rollup_config"])
    code, report = lab.report(encode_block(recorded.block), "--genesis", rules)
    extras = report["flashctl"]
    assert code == 0 and "problems" not in extras
    assert {"hash", "stateRoot", "receiptsRoot", "gasUsed"} <= extras["checks"].keys()
    assert all(check["agrees"] for check in extras["checks"].values())
    for transaction, expected in zip(report["transactions"], recorded.receipts, strict=True):
        did = transaction["flashctl"]
        assert transaction["hash"] == expected["transactionHash"]
        assert transaction["from"] == expected["from"]
        assert (did["status"], did["gasUsed"]) == (expected["status"], expected["gasUsed"])
        assert did["receipt"]["cumulativeGasUsed"] == expected["cumulativeGasUsed"]
        if "effectiveGasPrice" in expected and expected.get("l1Fee") is not None:
            price = int(expected["gasUsed"], 16) * int(expected["effectiveGasPrice"], 16)
            other = int(expected["l1Fee"], 16) + int(did["operatorFee"], 16)
            assert int(did["fee"], 16) == price + other


def test_every_form_of_a_block_is_executed(lab: Lab, recorded: op_blocks.RecordedBlock) -> None:
    raw = encode_block(recorded.block)
    payload, root = payload_to_json(recorded.block), recorded.block.header.parent_beacon_block_root
    assert root is not None
    request = {"method": "engine_newPayloadV3", "params": [payload, [], to_hex(root)]}
    answer = {"jsonrpc": "2.0", "id": 1, "result": envelope_to_json(recorded.block)}
    expected = lab.report(raw)
    assert expected[0] == 0
    for block in (
        raw.hex().encode(), {"result": to_hex(raw)}, as_object(recorded), {"result": as_object(recorded)},
        request, answer,
    ):  # fmt: skip
        assert lab.report(block) == expected


def test_a_witness_by_hash_and_with_headers_as_objects(lab: Lab, recorded: op_blocks.RecordedBlock) -> None:
    by_hash = {to_hex(key): to_hex(value) for key, value in recorded.witness.items()}
    witness = {"result": {"state": by_hash, "codes": {}, "headers": [recorded.raw["parent_header"]]}}
    assert lab.report(encode_block(recorded.block), witness=witness)[0] == 0


def test_rows_for_a_person(lab: Lab, recorded: op_blocks.RecordedBlock) -> None:
    code, output, errors = lab.run(encode_block(recorded.block))
    assert (code, errors) == (0, "")
    lines = output.splitlines()
    assert "  stateRoot           agrees" in lines and "chain                 op-mainnet" in lines
    header, *rows = lines[-5:]
    assert header.split() == ["#", "type", "hash", "from", "status", "gasUsed", "fee", "call"]
    assert [row.split()[4:6] for row in rows] == [
        ["ok", str(int(receipt["gasUsed"], 16))] for receipt in recorded.receipts
    ]


def test_fields_are_those_of_the_transactions(lab: Lab, recorded: op_blocks.RecordedBlock) -> None:
    code, output, _ = lab.run(encode_block(recorded.block), "--fields", "hash,status,fee")
    assert code == 0
    assert [line.split("\t")[0] for line in output.splitlines()] == [
        receipt["transactionHash"] for receipt in recorded.receipts
    ]


# -- what differs ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attribute", "name", "value"),
    [
        ("state_root", "stateRoot", b"\x11" * 32),
        ("receipts_root", "receiptsRoot", b"\x22" * 32),
        ("gas_used", "gasUsed", 1),
        ("logs_bloom", "logsBloom", bytes(256)),
    ],
)
def test_a_wrong_field_is_named_and_the_others_agree(
    lab: Lab, recorded: op_blocks.RecordedBlock, attribute: str, name: str, value: Any
) -> None:
    header = replace(recorded.block.header, **{attribute: value})
    block = Block(header, recorded.block.transactions)
    code, report = lab.report(encode_block(block))
    checks = report["flashctl"]["checks"]
    assert code == 1
    assert {field for field, check in checks.items() if not check["agrees"]} == {name, "hash"}
    assert any(problem.startswith(f"{name}: stated ") for problem in report["flashctl"]["problems"])
    output = lab.run(encode_block(block))[1]
    assert f"  {name.ljust(20)}differs" in output and f"problem               {name}: stated" in output


def test_a_block_without_its_last_transaction(lab: Lab, recorded: op_blocks.RecordedBlock) -> None:
    block = Block(recorded.block.header, recorded.block.transactions[:-1])
    code, report = lab.report(encode_block(block))
    differing = {name for name, check in report["flashctl"]["checks"].items() if not check["agrees"]}
    assert code == 1 and {"transactionsRoot", "gasUsed", "receiptsRoot", "stateRoot", "hash"} <= differing


def test_a_transaction_that_cannot_be_included_ends_the_run(
    lab: Lab, recorded: op_blocks.RecordedBlock
) -> None:
    first, second, *rest = recorded.block.transactions
    block = Block(recorded.block.header, (first, second, second, *rest))
    code, report = lab.report(encode_block(block))
    assert code == 1 and "checks" not in report["flashctl"]
    assert "transaction 2 cannot be included" in report["flashctl"]["problems"][0]
    assert len(report["transactions"]) == 2


def test_a_hash_that_is_not_the_header_s(lab: Lab, recorded: op_blocks.RecordedBlock) -> None:
    claimed = as_object(recorded) | {"hash": to_hex(b"\x33" * 32)}
    code, report = lab.report(claimed)
    assert code == 1 and report["flashctl"]["problems"][0].startswith("hash: stated 0x3333")


def test_a_rule_of_the_parent_is_checked(lab: Lab, recorded: op_blocks.RecordedBlock) -> None:
    header = replace(
        recorded.block.header, base_fee_per_gas=(recorded.block.header.base_fee_per_gas or 0) + 1
    )
    code, report = lab.report(encode_block(Block(header, recorded.block.transactions)))
    assert code == 1
    assert report["flashctl"]["problems"][0].startswith("header: invalid base_fee_per_gas")


# -- what cannot be executed ----------------------------------------------------------------------


def test_an_incomplete_witness_is_bad_data(lab: Lab, recorded: op_blocks.RecordedBlock) -> None:
    whole = witness_of(recorded)
    raw = encode_block(recorded.block)
    nodes = [node for node in whole["state"] if to_hex(recorded.parent.state_root) != node]
    for witness, what in (
        (whole | {"state": nodes[: len(nodes) // 2]}, "incomplete"),
        (whole | {"headers": []}, "no header of the parent"),
        ({"headers": []}, "not a witness"),
        ("0x00", "not a witness"),
    ):
        code, output, errors = lab.run(raw, witness=witness)
        assert (code, output) == (65, "") and what in errors


def test_a_value_is_found_by_its_own_hash_only(recorded: op_blocks.RecordedBlock) -> None:
    key = to_hex(recorded.parent.state_root)
    witness = read_witness({"state": {key: "0xc0"}, "headers": [recorded.raw["parent_header"]]})
    assert recorded.parent.state_root not in witness.values
    assert header_from_object(recorded.raw["parent_header"]).hash in witness.headers


@pytest.mark.parametrize(
    ("more", "code", "what"),
    [
        (["--chain", "nowhere"], 2, "unknown chain"),
        (["--chain", "op-mainnet", "--genesis", "x.json"], 2, "both name the rules"),
        (["0x02"], 2, "takes one block"),
        (["--genesis", "/does/not/exist"], 74, "cannot read"),
    ],
)
def test_usage(lab: Lab, recorded: op_blocks.RecordedBlock, more: list[str], code: int, what: str) -> None:
    result = lab.run(encode_block(recorded.block), *more)
    assert result[0] == code and what in result[2]


def test_blocks_that_say_too_little(lab: Lab, recorded: op_blocks.RecordedBlock) -> None:
    hashes = as_object(recorded) | {
        "transactions": [receipt["transactionHash"] for receipt in recorded.receipts]
    }
    for block, what in (
        (payload_to_json(recorded.block), "parentBeaconBlockRoot"),
        (hashes, "only the hashes"),
        ({"number": "0x1"}, "not a block"),
        ({"result": None}, "not a block"),
    ):
        code, output, errors = lab.run(block)
        assert (code, output) == (65, "") and what in errors


def test_a_node_s_hash_of_a_transaction_is_compared(lab: Lab, recorded: op_blocks.RecordedBlock) -> None:
    block = as_object(recorded)
    block["transactions"][1]["hash"] = "0x" + "11" * 32
    code, report = lab.report(block)
    assert code == 1
    assert "transaction 1: stated hash" in " ".join(report["flashctl"]["problems"])
