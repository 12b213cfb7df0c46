"""Reference transactions decode exactly, and each invalid one is refused with a reason that fits."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from typing import Any

import pytest
from support.reference import reference_path

from flashctl.decode.reading import read_transaction
from flashctl.decode.tx_formats import Unreadable
from flashctl.decode.tx_report import Options, report_transaction
from flashctl.eth.keccak import keccak256

OPTIONS = Options()

EXPECTED_WORDS = {
    "ADDRESS_TOO_SHORT": "(to): expected 0 or 20 bytes",
    "ADDRESS_TOO_LONG": "(to): expected 0 or 20 bytes",
    "INTRINSIC_GAS_TOO_LOW": "below the intrinsic gas",
    "GASLIMIT_PRICE_PRODUCT_OVERFLOW": "exceeds 256 bits",
    "GASLIMIT_OVERFLOW": "(gas):",
    "GASPRICE_OVERFLOW": "): expected an integer of at most 32 bytes, got 33",
    "PRIORITY_OVERFLOW": "(maxPriorityFeePerGas): expected an integer",
    "PRIORITY_GREATER_THAN_MAX_FEE_PER_GAS_2": "max priority fee per gas higher than max fee",
    "RLP_LEADING_ZEROS_BASEFEE": "(maxFeePerGas): leading zeros",
    "RLP_LEADING_ZEROS_PRIORITY_FEE": "(maxPriorityFeePerGas): leading zeros",
    "RLP_LEADING_ZEROS_GASLIMIT": "(gas): leading zeros",
    "RLP_LEADING_ZEROS_GASPRICE": "(gasPrice): leading zeros",
    "RLP_LEADING_ZEROS_NONCE": "(nonce): leading zeros",
    "RLP_LEADING_ZEROS_VALUE": "(value): leading zeros",
    "RLP_LEADING_ZEROS_V": "(v): leading zeros",
    "RLP_LEADING_ZEROS_R": "(r): leading zeros",
    "RLP_LEADING_ZEROS_S": "(s): leading zeros",
    "RLP_INVALID_ACCESS_LIST_ADDRESS_TOO_LONG": ".address: expected 20 bytes",
    "RLP_INVALID_ACCESS_LIST_ADDRESS_TOO_SHORT": ".address: expected 20 bytes",
    "RLP_INVALID_ACCESS_LIST_STORAGE_TOO_LONG": ".storageKeys[0]: expected 32 bytes",
    "RLP_INVALID_ACCESS_LIST_STORAGE_TOO_SHORT": ".storageKeys[0]: expected 32 bytes",
    "INITCODE_SIZE_EXCEEDED": "max initcode size exceeded",
    "NONCE_OVERFLOW": "(nonce): expected an integer of at most 8 bytes",
    "NONCE_TOO_BIG": "2^64 - 1",
    "VALUE_OVERFLOW": "(value): expected an integer of at most 32 bytes",
    "EC_RECOVERY_FAIL": "no point on the curve",
}
"""What our reason must say for each exception of the reference tests; the two missing ones are below."""

SIGNATURE_WORDS = ("signature invalid", "no signature", "(r): expected", "(s): expected")
CHAIN_WORDS = ("invalid chain id", "expected 27, 28 or 35")

PRAGUE_ONLY = "DataTestSufficientGas2028"
"""Valid at Cancun; since Prague its gas limit is below the calldata floor (EIP-7623), and we say so."""


def cancun_cases() -> Iterator[tuple[str, bytes, dict[str, str]]]:
    for path in sorted(reference_path("transactions/ethereum-tests").rglob("*.json")):
        for name, case in json.loads(path.read_text()).items():
            if (result := case["result"].get("Cancun")) is not None:
                yield f"{path.parent.name}/{path.stem}/{name}", bytes.fromhex(case["txbytes"][2:]), result


def reasons(raw: bytes) -> list[str]:
    """Why a transaction of chain 1 is not acceptable; empty when it is."""
    try:
        report = report_transaction(raw, Options(chain_id=1))
    except Unreadable as error:
        return [str(error)]
    problems: list[str] = report["flashctl"].get("problems", [])
    return problems


def test_the_fifty_valid_ethereum_transactions_decode_exactly() -> None:
    valid = [(name, raw, result) for name, raw, result in cancun_cases() if "hash" in result]
    assert len(valid) == 50
    for name, raw, result in valid:
        report = report_transaction(raw, Options(chain_id=1))
        assert report["hash"] == result["hash"], name
        assert report["from"] == result["sender"], name
        assert int(report["flashctl"]["intrinsicGas"], 16) == int(result["intrinsicGas"], 16), name
        problems = report["flashctl"].get("problems", [])
        if PRAGUE_ONLY in name:
            assert ["EIP-7623" in problem for problem in problems] == [True]
        else:
            assert problems == [], name


def test_the_ninety_nine_invalid_ones_are_refused_each_with_its_reason() -> None:
    invalid = [(name, raw, result) for name, raw, result in cancun_cases() if "exception" in result]
    assert len(invalid) == 99
    for name, raw, result in invalid:
        found = "; ".join(reasons(raw))
        kind = result["exception"].removeprefix("TransactionException.")
        if kind == "INVALID_SIGNATURE_VRS":
            assert any(words in found for words in SIGNATURE_WORDS), (name, found)
        elif kind == "INVALID_CHAINID":
            assert any(words in found for words in CHAIN_WORDS), (name, found)
        else:
            assert EXPECTED_WORDS[kind] in found, (name, found)


@pytest.mark.parametrize(
    "name",
    [pytest.param(p, id=p) for p in ("transactions/hivechain_txs.json", "transactions/op_block_txs.json")],
)
def test_transactions_of_real_blocks_have_their_hash_and_sender(name: str) -> None:
    transactions = json.loads(reference_path(name).read_text())["txs"]
    for expected in transactions:
        report = report_transaction(bytes.fromhex(expected["raw"][2:]), OPTIONS)
        assert report["hash"] == expected["hash"]
        assert report["from"] == expected["from"]
        if "to" in expected:
            assert report["to"] == expected["to"]
        assert report["flashctl"]["canonical"] is True
    assert len(transactions) in (249, 160)


def test_deposits_show_every_field() -> None:
    deposits = json.loads(reference_path("op-vectors/deposit_txs.json").read_text())
    assert len(deposits) == 28
    for expected in deposits:
        report = report_transaction(bytes.fromhex(expected["raw"][2:]), OPTIONS)
        shown = {name: report[name] for name in expected if name not in ("raw", "source")}
        assert shown == {name: value for name, value in expected.items() if name not in ("raw", "source")}
        assert report["flashctl"]["signature"] == "none (deposit)"


def ethers_cases() -> list[dict[str, Any]]:
    """Of those for chain 0 the EIP-155 forms are left out: ethers wrote the chain id as a zero byte, which is
    not RLP for zero, and signed that."""
    cases: list[dict[str, Any]] = json.loads(
        gzip.decompress(reference_path("transactions/ethers/transaction.json.gz").read_bytes())
    )
    for case in cases:
        if int(str(case["transaction"].get("chainId", "0x")).ljust(3, "0"), 16) == 0:
            case["signedEip155"] = case["unsignedEip155"] = None
    return cases


def test_signed_ethers_transactions_recover_their_key() -> None:
    from flashctl.eth.signatures import address_of_secret

    count = 0
    for case in ethers_cases():
        sender = "0x" + address_of_secret(bytes.fromhex(case["privateKey"][2:])).hex()
        for form in ("signedLegacy", "signedEip155", "signedBerlin", "signedLondon"):
            if case.get(form):
                report = report_transaction(bytes.fromhex(case[form][2:]), OPTIONS)
                assert report["from"] == sender, (case["name"], form)
                assert report["flashctl"]["canonical"]
                count += 1
    assert count > 3_000


def test_unsigned_ethers_transactions_are_what_a_wallet_signs() -> None:
    count = 0
    for case in ethers_cases():
        for form in ("unsignedLegacy", "unsignedEip155", "unsignedBerlin", "unsignedLondon"):
            if not case.get(form):
                continue
            raw = bytes.fromhex(case[form][2:])
            reading = read_transaction(raw)
            assert not reading.signed, (case["name"], form)
            report = report_transaction(raw, OPTIONS)
            assert report["flashctl"]["signingHash"] == "0x" + keccak256(raw).hex(), (case["name"], form)
            assert report["flashctl"]["signature"] == "unsigned"
            count += 1
    assert count > 3_000


def test_l1_fees_equal_the_published_ones() -> None:
    from flashctl.decode.l1 import L1Pricing
    from flashctl.op.fees import L1FeeParameters
    from flashctl.op.forks import OpFork

    compared = 0
    for case in json.loads(reference_path("op-vectors/l1_fee.json").read_text()):
        fork = OpFork[case["fork"].upper()] if case["fork"].upper() in OpFork.__members__ else None
        if fork is None or fork < OpFork.ECOTONE or "l1Fee" not in case or "tx" not in case:
            continue
        parameters = L1FeeParameters(
            case["l1BaseFee"], case["blobBaseFee"], case["baseFeeScalar"], case["blobBaseFeeScalar"]
        )
        report = L1Pricing(fork, parameters).report(bytes.fromhex(case["tx"][2:]), 0)
        assert int(report["l1Fee"], 16) == case["l1Fee"]
        compared += 1
    assert compared > 20
