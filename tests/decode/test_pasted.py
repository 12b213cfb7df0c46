"""What people paste: call data, errors, several documents at once, objects of viem and ethers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.decode_lab import SENDER, every_type, run_command, transfer_call
from support.flashblocks import streamed_block
from support.sample_block import BLOCK, HEADER, OBJECT

from flashctl.core.engine.payloads import envelope_to_json
from flashctl.decode.documents import Kind, classify_bytes
from flashctl.decode.engine import Engine
from flashctl.decode.fields import FIELDS
from flashctl.decode.tx_report import Options, Report
from flashctl.eth.blocks import encode_block, encode_header
from flashctl.eth.receipts import Receipt, encode_receipt
from flashctl.eth.rlp import encode

RAWS = every_type()


def decode(text: str, forced: Kind | None = None) -> list[Report]:
    return list(Engine(Options(), forced).line(text, 1))


# -- call data -------------------------------------------------------------------------------------


def test_bare_call_data_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    for data in (transfer_call(), bytes.fromhex("095ea7b3") + transfer_call()[4:]):
        (report,) = decode("0x" + data.hex())
        assert report["flashctl"]["kind"] == "call"
        assert report["flashctl"]["call"]["arguments"][1]["value"] == "1500000"
    code, output, _ = run_command(["decode", "0x" + transfer_call().hex()], monkeypatch)
    assert code == 0 and "transfer(address,uint256)" in output


def test_an_unknown_selector_shows_its_words(monkeypatch: pytest.MonkeyPatch) -> None:
    data = "0x12345679" + "00" * 31 + "07"
    (report,) = decode(data)
    assert report["flashctl"]["call"] == {"selector": "0x12345679", "words": ["0x" + "00" * 31 + "07"]}
    code, output, errors = run_command(["decode", data, "--sig", "f(uint256 n)", "--json"], monkeypatch)
    assert code == 0 and "nothing has 0x" in errors
    assert json.loads(output)["input"] == data


def test_errors_and_logs_by_name() -> None:
    revert = (
        bytes.fromhex("08c379a0")
        + (32).to_bytes(32, "big")
        + (2).to_bytes(32, "big")
        + b"no".ljust(32, b"\0")
    )
    (report,) = decode("0x" + revert.hex(), Kind.ERROR)
    assert report["flashctl"]["kind"] == "error"
    assert report["flashctl"]["call"]["arguments"][0]["value"] == "no"
    topic = bytes.fromhex("ddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef")
    log = encode([bytes(20), [topic, bytes(32), bytes(32)], (5).to_bytes(32, "big")])
    (report,) = decode("0x" + log.hex(), Kind.LOG)
    assert report["flashctl"]["event"]["name"] == "Transfer"


@pytest.mark.parametrize("name", RAWS)
def test_no_transaction_is_taken_for_a_call(name: str) -> None:
    assert classify_bytes(RAWS[name]) is Kind.TX
    for size in range(4, len(RAWS[name])):  # cut off anywhere, it is not called a call either
        if size % 32 != 4:
            assert classify_bytes(RAWS[name][:size]) in (Kind.TX, Kind.RLP)


# -- documents -------------------------------------------------------------------------------------


def test_several_pretty_documents_in_one_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "two.json"
    path.write_text("\n".join(json.dumps(message, indent=2) for message in streamed_block()[:2]))
    code, output, _ = run_command(["decode", str(path), "--fields", "payloadId, index"], monkeypatch)
    assert code == 0 and [line.split("\t")[1] for line in output.splitlines()] == ["0", "1"]


def viem(report: Report) -> dict[str, Any]:
    """A transaction as viem prints one: its types by name, its numbers in decimal."""
    names = ("nonce", "gas", "value", "maxFeePerGas", "maxPriorityFeePerGas", "chainId", "yParity", "v")
    kept = {name: value for name, value in report.items() if name != "flashctl"}
    numbers = {name: str(int(report[name], 16)) for name in names if name in report}
    return {**kept, **numbers, "type": report["flashctl"]["typeName"], "typeHex": report["type"]}


def ethers(report: Report) -> dict[str, Any]:
    """The same as ethers prints it."""
    names = ("nonce", "value", "maxFeePerGas", "maxPriorityFeePerGas", "gasPrice", "chainId")
    made = {name: str(int(report[name], 16)) for name in names if name in report}
    signature = {"_type": "signature", "r": report["r"], "s": report["s"]}
    if report["type"] == "0x0":
        signature |= {"networkV": str(int(report["v"], 16)), "v": 27}
    else:
        signature |= {"networkV": None, "v": 27 + int(report["yParity"], 16)}
    more = {name: report[name] for name in ("accessList", "to", "hash", "from") if name in report}
    return {
        **made, **more, "_type": "TransactionResponse", "type": int(report["type"], 16),
        "gasLimit": str(int(report["gas"], 16)), "data": report["input"], "signature": signature,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("printed", "name"),
    [(viem, "legacy"), (viem, "eip1559"), (viem, "eip7702"), (ethers, "legacy"), (ethers, "eip1559")],
)
def test_objects_of_libraries(name: str, printed: Any) -> None:
    (report,) = decode("0x" + RAWS[name].hex())
    (again,) = decode(json.dumps(printed(report)))
    assert again["hash"] == report["hash"] and again["from"] == SENDER
    assert "problems" not in again["flashctl"]


# -- fields ----------------------------------------------------------------------------------------


def test_every_name_that_is_printed_can_be_asked_for() -> None:
    inputs = [
        *("0x" + raw.hex() for raw in RAWS.values()), json.dumps(OBJECT), "0x" + encode_block(BLOCK).hex(),
        "0x" + encode_header(HEADER).hex(), json.dumps(envelope_to_json(BLOCK)),
        "0x" + encode_receipt(Receipt(0x7E, True, 1, (), 9, 1)).hex(), "0x" + transfer_call().hex(),
        *map(json.dumps, streamed_block()),
    ]  # fmt: skip
    names = {name for text in inputs for report in decode(text) for name in names_in(report)}
    assert names - {"flashctl"} <= set(FIELDS)


def names_in(report: Report) -> set[str]:
    names = {*report, *report.get("flashctl", {})}
    for member in report.get("transactions") or ():
        if isinstance(member, dict):
            names |= names_in(member)
    return names


# -- arguments -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "what"),
    [
        ([""], 2, "empty"),
        (["/nonexistent/x"], 74, "cannot read"),
        (["ab" * 300 + "g"], 2, "neither hex"),
        (["0x02", "--sig", "f(uint7)"], 2, "--sig"),
    ],
)
def test_arguments_that_are_nothing(
    arguments: list[str], code: int, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, _, errors = run_command(["decode", *arguments], monkeypatch)
    assert found == code and what in errors


def test_long_hex_without_a_prefix_is_hex(monkeypatch: pytest.MonkeyPatch) -> None:
    code, output, _ = run_command(["decode", RAWS["eip7702"].hex(), "hash"], monkeypatch)
    assert code == 0 and output.startswith("0x")


def test_an_empty_input_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for more in ([], ["--json"]):
        code, output, errors = run_command(["decode", *more], monkeypatch, b"\n")
        assert code == 65 and output == "" and "nothing to decode" in errors
