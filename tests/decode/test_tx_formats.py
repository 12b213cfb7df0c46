"""Every form a transaction comes in, and what is said about one that is not as it should be."""

from __future__ import annotations

from typing import Any

import pytest
from support.decode_lab import (
    FRIEND,
    SECRET,
    SENDER,
    TOKEN,
    attributes_deposit,
    blob_with_sidecar,
    every_type,
    transfer_call,
)
from support.reference import reference_path

from flashctl.decode.l1 import L1Pricing
from flashctl.decode.reading import read_transaction
from flashctl.decode.tx_formats import Unreadable
from flashctl.decode.tx_report import Options, Report, report_transaction
from flashctl.decode.tx_schema import inspect
from flashctl.eth.keccak import keccak256
from flashctl.eth.rlp import Item, decode_list, encode
from flashctl.eth.signatures import sign_transaction
from flashctl.eth.transactions import FeeMarketTx, LegacyTx, encode_transaction
from flashctl.op.fees import L1FeeParameters
from flashctl.op.forks import OpFork

OPTIONS = Options()
RAWS = every_type()


def report(raw: bytes, **options: Any) -> Report:
    return report_transaction(raw, Options(**options))


@pytest.mark.parametrize("name", RAWS)
def test_every_type_has_hash_sender_and_no_problem(name: str) -> None:
    shown = report(RAWS[name])
    assert shown["hash"] == "0x" + keccak256(RAWS[name]).hex()
    assert shown["flashctl"]["canonical"] is True
    assert "problems" not in shown["flashctl"]
    if "deposit" not in shown["flashctl"]:
        assert shown["from"] == SENDER
        assert shown["flashctl"]["signature"] == "valid" and shown["flashctl"]["lowS"]


def test_field_names_are_those_of_json_rpc() -> None:
    shown = report(RAWS["eip1559"])
    assert list(shown) == [
        "type", "hash", "from", "chainId", "nonce", "maxPriorityFeePerGas", "maxFeePerGas", "gas", "to",
        "value", "input", "accessList", "yParity", "v", "r", "s", "flashctl",
    ]  # fmt: skip
    assert shown["maxFeePerGas"] == hex(2 * 10**9) and shown["type"] == "0x2"


def test_protection_of_legacy_transactions_is_told() -> None:
    assert report(RAWS["legacy"])["flashctl"]["protected"] is True
    assert report(RAWS["legacy"])["chainId"] == hex(8453)
    assert report(RAWS["unprotected"])["flashctl"]["protected"] is False
    assert "chainId" not in report(RAWS["unprotected"])


def test_a_creation_names_the_contract() -> None:
    expected = keccak256(encode([bytes.fromhex(SENDER[2:]), b"\x07"]))[12:]
    assert report(RAWS["create"])["flashctl"]["creates"] == "0x" + expected.hex()


def test_authorities_are_recovered() -> None:
    assert report(RAWS["eip7702"])["flashctl"]["authorities"] == [SENDER, SENDER]


def test_intrinsic_gas_and_floor() -> None:
    data = transfer_call()
    zeros = data.count(0)
    extras = report(RAWS["eip2930"])["flashctl"]
    assert (
        int(extras["intrinsicGas"], 16) == 21_000 + 4 * zeros + 16 * (len(data) - zeros) + 2_400 + 2 * 1_900
    )
    assert int(extras["floorGas"], 16) == 21_000 + 10 * (zeros + 4 * (len(data) - zeros))


def test_effective_price_at_a_base_fee() -> None:
    extras = report(RAWS["eip1559"], base_fee=10**9)["flashctl"]
    assert int(extras["effectiveGasPrice"], 16) == 10**9 + 10**6
    assert int(extras["effectiveTip"], 16) == 10**6
    assert report(RAWS["eip1559"], base_fee=3 * 10**9)["flashctl"]["effectiveTip"].startswith("-0x")


def test_l1_fee_given_l1_parameters() -> None:
    prices = L1Pricing(
        OpFork.JOVIAN, L1FeeParameters(10**10, 10**6, 2269, 1_055_762, operator_fee_constant=5)
    )
    extras = report(RAWS["eip1559"], l1=prices)["flashctl"]
    assert int(extras["l1Fee"], 16) > 0 and extras["daSize"] >= 100
    assert int(extras["operatorFeeLimit"], 16) == 5
    assert "l1Fee" not in report(RAWS["deposit"], l1=prices)["flashctl"]


@pytest.mark.parametrize("layout", [OpFork.BEDROCK, OpFork.ECOTONE, OpFork.ISTHMUS, OpFork.JOVIAN])
def test_l1_attributes_are_explained_per_fork(layout: OpFork) -> None:
    deposit = report(encode_transaction(attributes_deposit(layout)))["flashctl"]["deposit"]
    assert deposit["kind"] == "l1-attributes" and deposit["layout"] == layout.label
    assert deposit["sourceVerified"] is True
    attributes = deposit["l1Attributes"]
    assert int(attributes["number"], 16) == 21_000_000 and int(attributes["baseFee"], 16) == 12_345_678_901
    assert ("daFootprintGasScalar" in attributes) == (layout is OpFork.JOVIAN)
    assert ("operatorFeeScalar" in attributes) == (layout >= OpFork.ISTHMUS)
    assert ("l1FeeScalar" in attributes) == (layout is OpFork.BEDROCK)


def test_a_forged_source_hash_shows() -> None:
    raw = encode_transaction(attributes_deposit())
    forged = raw.replace(attributes_deposit().source_hash, bytes(32))
    assert report(forged)["flashctl"]["deposit"]["sourceVerified"] is False


def test_recorded_upgrade_and_attribute_deposits_are_recognised() -> None:
    import json

    path = reference_path("op-vectors/deposit_txs.json")
    kinds = [
        report(bytes.fromhex(case["raw"][2:]))["flashctl"]["deposit"]["kind"]
        for case in json.loads(path.read_text())
    ]
    assert {"l1-attributes", "user"} <= set(kinds)


@pytest.mark.parametrize("form", ["eip4844", "eip7594"])
def test_a_blob_transaction_with_its_sidecar_hashes_as_without(form: str) -> None:
    wrapped, canonical = blob_with_sidecar(form)
    shown = report(wrapped)
    assert shown["hash"] == "0x" + keccak256(canonical).hex() and shown["from"] == SENDER
    sidecar = shown["flashctl"]["sidecar"]
    assert sidecar["form"] == form and sidecar["blobs"] == [131_072, 131_072] and sidecar["hashesMatch"]
    assert "problems" not in shown["flashctl"]


def test_a_sidecar_of_other_blobs_is_a_problem() -> None:
    wrapped, _ = blob_with_sidecar()
    shown = report(wrapped.replace(bytes([0xC1]) * 48, bytes([0xC2]) * 48))
    assert shown["flashctl"]["sidecar"]["hashesMatch"] is False
    assert "commitments do not match" in shown["flashctl"]["problems"][0]


@pytest.mark.parametrize("name", ["legacy", "eip2930", "eip1559", "eip7702", "eip4844"])
def test_unsigned_bytes_are_read_and_called_unsigned(name: str) -> None:
    raw = RAWS[name]
    start = 0 if raw[0] >= 0xC0 else 1
    unsigned = raw[:start] + encode(decode_list(raw, start)[:-3])
    reading = read_transaction(unsigned)
    assert not reading.signed
    shown = report(unsigned)
    assert shown["from"] is None and shown["flashctl"]["signature"] == "unsigned"
    assert shown["flashctl"]["signingHash"] == "0x" + keccak256(unsigned).hex()


# -- what is wrong, and where ---------------------------------------------------------------------


def with_field(name: str, number: int, value: Item) -> bytes:
    """A transaction with one field replaced."""
    raw = RAWS[name]
    start = 0 if raw[0] >= 0xC0 else 1
    fields = decode_list(raw, start)
    fields[number] = value
    return raw[:start] + encode(fields)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (with_field("eip1559", 5, TOKEN[:-1]), "field 5 (to): expected 0 or 20 bytes, got 19"),
        (with_field("eip1559", 5, [TOKEN]), "field 5 (to): expected 0 or 20 bytes, got a list"),
        (
            with_field("eip1559", 1, bytes([1]) * 9),
            "field 1 (nonce): expected an integer of at most 8 bytes, got 9",
        ),
        (with_field("eip1559", 8, [[TOKEN]]), "field 8 (accessList)[0]: expected [address, storage keys]"),
        (with_field("eip1559", 9, b"\x02"), "field 9 (yParity): expected 0 or 1, got 2"),
        (with_field("eip7702", 9, [[b""] * 5]), "field 9 (authorizationList)[0]: expected 6 members"),
        (
            with_field("eip4844", 10, [bytes(31)]),
            "field 10 (blobVersionedHashes)[0]: expected 32 bytes, got 31",
        ),
        (with_field("eip4844", 5, b""), "field 5 (to): expected 20 bytes, got 0"),
        (with_field("deposit", 0, bytes(31)), "field 0 (sourceHash): expected 32 bytes, got 31"),
        (RAWS["eip1559"][:-1], "runs 1 past the end of its container at offset 1"),
        (b"\x02" + encode(decode_list(RAWS["eip1559"], 1)[:5]), "expected 12 fields, got 5: to is missing"),
        (b"\x76" + RAWS["eip1559"][1:], "unknown transaction type 0x76 at offset 0"),
        (b"\x02\x80", "expected a list, got a byte string at offset 1"),
        (b"", "no bytes at all at offset 0"),
    ],
)
def test_an_unreadable_transaction_names_field_and_byte(raw: bytes, message: str) -> None:
    with pytest.raises(Unreadable) as caught:
        read_transaction(raw)
    assert message in str(caught.value)


def test_the_offset_points_at_the_byte() -> None:
    raw = with_field("eip1559", 5, b"\xee" * 19)
    with pytest.raises(Unreadable) as caught:
        read_transaction(raw)
    assert raw[caught.value.fault.offset :].startswith(b"\xee" * 19)


def rewrite(raw: bytes, old: bytes, new: bytes) -> bytes:
    """Replace bytes inside a typed transaction and mend the length of its list."""
    body = raw[1:]
    header = 2 if body[0] == 0xF8 else 1
    payload = body[header:].replace(old, new, 1)
    return raw[:1] + b"\xf8" + bytes([len(payload)]) + payload


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"\x09\x83", b"\x81\x09\x83", "field 1 (nonce): byte 0x09 must be its own encoding"),
        (b"\x09\x83", b"\x82\x00\x09\x83", "field 1 (nonce): leading zeros in an integer"),
        (b"\x94" + TOKEN, b"\xb8\x14" + TOKEN, "field 5 (to): a length of 20 must use the short form"),
    ],
)
def test_a_non_canonical_encoding_is_read_repaired_and_reported(old: bytes, new: bytes, message: str) -> None:
    raw = rewrite(RAWS["eip1559"], old, new)
    assert raw != RAWS["eip1559"]
    shown = report(raw)
    assert shown["hash"] == report(RAWS["eip1559"])["hash"], "the hash of the canonical form"
    assert shown["flashctl"]["canonical"] is False
    assert shown["flashctl"]["faults"][0]["message"] == message
    assert raw[shown["flashctl"]["faults"][0]["offset"]] in new
    assert shown["flashctl"]["problems"][0].startswith(f"not canonical: {message}")


def test_trailing_bytes_are_named() -> None:
    shown = report(RAWS["eip1559"] + b"\x01\x02")
    assert "2 bytes follow the end of the item" in shown["flashctl"]["problems"][0]


def test_valid_transactions_have_no_fault() -> None:
    for name, raw in RAWS.items():
        assert inspect(raw) == [], name


def test_a_high_s_is_told() -> None:
    from flashctl.eth.signatures import ORDER
    from flashctl.eth.transactions import FeeMarketTx, decode_transaction

    tx = decode_transaction(RAWS["eip1559"])
    assert isinstance(tx, FeeMarketTx)
    high = (ORDER - tx.s).to_bytes(32, "big")
    shown = report(with_field("eip1559", 11, high))
    assert shown["flashctl"]["lowS"] is False and shown["from"] is None
    assert "EIP-2" in shown["flashctl"]["signature"]


def test_secrets_of_the_lab_are_the_well_known_ones() -> None:
    assert SENDER == "0xf39fd6e51aad88f6f4ce6ab8827279cfffb92266" and len(SECRET) == 32 and len(FRIEND) == 20


@pytest.mark.parametrize(
    "tx",
    [
        FeeMarketTx(1, 2**64 - 1, 0, 1, 21_000, bytes(20), 0, b"", (), 0, 0, 0),
        LegacyTx(2**64 - 1, 1, 21_000, bytes(20), 0, b"", 37, 0, 0),
    ],
)
def test_the_nonce_that_no_account_reaches_is_shown(tx: FeeMarketTx | LegacyTx) -> None:
    raw = encode_transaction(sign_transaction(tx, SECRET))
    shown = report(raw)
    assert shown["nonce"] == "0xffffffffffffffff" and shown["from"] == SENDER
    assert shown["hash"] == "0x" + keccak256(raw).hex()
    assert "EIP-2681" in " ".join(shown["flashctl"]["problems"])
