"""Transactions that ethers and viem signed: read, hashed, their sender found, written and signed again."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.vectors import Json, transaction_cases, unhex

from flashctl.decode.reading import read_transaction
from flashctl.decode.tx_report import Options, report_transaction
from flashctl.eth.hexdata import to_hex
from flashctl.eth.keccak import keccak256
from flashctl.eth.signatures import recover_sender, sign_authorization, sign_transaction
from flashctl.eth.transactions import (
    DepositTx,
    SetCodeTx,
    decode_transaction,
    encode_transaction,
    transaction_hash,
)
from flashctl.op.deposits import l1_attributes_source_hash, user_deposit_source_hash

OPTIONS = Options()
OTHERS = {"value", "gasLimit", "gasPrice", "maxFeePerGas", "maxPriorityFeePerGas", "maxFeePerBlobGas"}


@pytest.mark.parametrize("kind", range(5))
def test_signed_by_others(kind: int) -> None:
    for case in transaction_cases("signed"):
        if case["tx"]["type"] != kind:
            continue
        raw = unhex(case["signed"])
        tx = decode_transaction(raw)
        assert not isinstance(tx, DepositTx)
        assert tx.type_byte == kind and encode_transaction(tx) == raw
        assert to_hex(transaction_hash(tx)) == case["hash"]
        assert to_hex(recover_sender(tx)) == case["from"]
        chain = int(case["tx"]["chainId"]) if "chainId" in case["tx"] else None
        blank = replace(tx, r=0, s=0)
        again = sign_transaction(blank, unhex(case["key"]), chain_id=chain) if kind == 0 else None
        assert (again or sign_transaction(blank, unhex(case["key"]))) == tx
        if isinstance(tx, SetCodeTx):
            asked = case["tx"]["authorizationList"]
            for ours, theirs in zip(tx.authorizations, asked, strict=True):
                fields = int(theirs["chainId"]), unhex(theirs["address"]), int(theirs["nonce"])
                assert sign_authorization(*fields, unhex(theirs["key"])) == ours


def shown_fields(case: Json) -> Json:
    """The fields asked for, as a node shows them."""
    names = {"gasLimit": "gas"}
    return {
        names.get(name, name): hex(int(value)) for name, value in case["tx"].items() if name in OTHERS
    } | {"nonce": hex(case["tx"]["nonce"]), "to": case["tx"].get("to"), "input": case["tx"]["data"]}


def test_reports_of_signed_transactions() -> None:
    for case in transaction_cases("signed"):
        report = report_transaction(unhex(case["signed"]), OPTIONS)
        assert (report["hash"], report["from"]) == (case["hash"], case["from"])
        assert report["flashctl"]["canonical"] is True
        assert {name: report[name] for name in shown_fields(case)} == shown_fields(case)


def test_what_a_wallet_signs() -> None:
    for case in transaction_cases("signed"):
        raw = unhex(case["unsigned"])
        assert not read_transaction(raw).signed
        report = report_transaction(raw, OPTIONS)
        assert report["flashctl"]["signingHash"] == to_hex(keccak256(raw))
        assert report["flashctl"]["signature"] == "unsigned"


def test_deposits_that_viem_wrote() -> None:
    for case in transaction_cases("deposit"):
        tx, fields = decode_transaction(unhex(case["signed"])), case["tx"]
        assert isinstance(tx, DepositTx)
        made = DepositTx(
            unhex(fields["sourceHash"]),
            unhex(fields["from"]),
            unhex(fields["to"]) if "to" in fields else None,
            int(fields["mint"]),
            int(fields["value"]),
            int(fields["gas"]),
            fields["isSystemTx"],
            unhex(fields["data"]),
        )
        assert tx == made
        assert to_hex(encode_transaction(made)) == case["signed"]
        assert to_hex(transaction_hash(made)) == case["hash"]
        assert report_transaction(unhex(case["signed"]), OPTIONS)["hash"] == case["hash"]


def test_source_hashes_of_viem() -> None:
    for case in transaction_cases("source"):
        ours = user_deposit_source_hash if case["domain"] == "userDeposit" else l1_attributes_source_hash
        assert to_hex(ours(unhex(case["l1BlockHash"]), case["index"])) == case["sourceHash"]
