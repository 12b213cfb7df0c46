"""Transactions of every type: real ones, published vectors, and damage."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.examples import examples
from support.reference import reference_path

from flashctl.eth import signatures
from flashctl.eth.keccak import keccak256
from flashctl.eth.plain_transactions import decode_plain_fee_market
from flashctl.eth.rlp import RlpError, decode_list, encode
from flashctl.eth.transactions import (
    AccessListEntry,
    AccessListTx,
    BlobTx,
    DepositTx,
    FeeMarketTx,
    InvalidTransaction,
    LegacyTx,
    SetCodeTx,
    Transaction,
    _BadField,
    _fee_market_tx,
    check_transaction,
    decode_transaction,
    effective_gas_price,
    encode_transaction,
    max_fee,
    priority_fee,
    transaction_hash,
)

SECRET = bytes(31) + b"\x07"
CALLEE = b"\x42" * 20


def signed_examples() -> list[Transaction]:
    access = (AccessListEntry(CALLEE, (bytes(32), b"\x01" * 32)), AccessListEntry(CALLEE, ()))
    auth = signatures.sign_authorization(901, CALLEE, 3, SECRET)
    unsigned = [
        LegacyTx(1, 2, 21_000, CALLEE, 5, b"", 27, 0, 0),
        LegacyTx(1, 2, 60_000, None, 5, b"\x60\x00", 35 + 2 * 901, 0, 0),
        AccessListTx(901, 0, 7, 30_000, None, 0, b"\x00", access, 0, 0, 0),
        FeeMarketTx(901, 9, 1, 2, 21_000, CALLEE, 1, b"", (), 0, 0, 0),
        BlobTx(1, 9, 1, 2, 21_000, CALLEE, 1, b"", (), 4, (b"\x01" * 32,), 0, 0, 0),
        SetCodeTx(901, 9, 1, 2, 90_000, CALLEE, 1, b"", access, (auth,), 0, 0, 0),
    ]
    return [signatures.sign_transaction(tx, SECRET) for tx in unsigned]


DEPOSIT = DepositTx(b"\x05" * 32, CALLEE, None, 10, 3, 1_000_000, False, b"\x60")


def unhex(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))


def ethereum_cases() -> list[tuple[str, dict[str, Any]]]:
    folder = reference_path("transactions/ethereum-tests")
    return [
        (name, case)
        for path in sorted(folder.rglob("*.json"))
        for name, case in json.loads(path.read_text()).items()
        if "Cancun" in case["result"]
    ]


INTRINSIC_GAS_IS_EXECUTIONS = "TransactionException.INTRINSIC_GAS_TOO_LOW"


def test_ethereum_vectors_at_cancun() -> None:
    valid = rejected = 0
    for name, case in ethereum_cases():
        raw, result = unhex(case["txbytes"]), case["result"]["Cancun"]
        if "exception" not in result:
            tx = decode_transaction(raw)
            check_transaction(tx, 1)
            assert keccak256(raw) == unhex(result["hash"]), name
            assert signatures.recover_sender(tx) == unhex(result["sender"]), name
            assert encode_transaction(tx) == raw, name
            valid += 1
        elif result["exception"] != INTRINSIC_GAS_IS_EXECUTIONS:
            with pytest.raises((InvalidTransaction, signatures.InvalidSignature)) as caught:
                tx = decode_transaction(raw)
                check_transaction(tx, 1)
                signatures.recover_sender(tx)
                pytest.fail(f"{name} was accepted, expected {result['exception']}")
            assert caught.value.reason
            rejected += 1
    assert (valid, rejected) == (50, 94)


@pytest.mark.parametrize("name", ["hivechain_txs", "op_block_txs"])
def test_real_transactions(name: str) -> None:
    for entry in json.loads(reference_path(f"transactions/{name}.json").read_text())["txs"]:
        raw = unhex(entry["raw"])
        tx = decode_transaction(raw)
        assert keccak256(raw) == transaction_hash(tx) == unhex(entry["hash"])
        assert signatures.recover_sender(tx) == unhex(entry["from"])
        assert encode_transaction(tx) == raw


def test_deposits() -> None:
    for entry in json.loads(reference_path("op-vectors/deposit_txs.json").read_text()):
        raw = unhex(entry["raw"])
        tx = decode_transaction(raw)
        assert isinstance(tx, DepositTx)
        assert (tx.source_hash, tx.sender) == (unhex(entry["sourceHash"]), unhex(entry["from"]))
        assert tx.to == (unhex(entry["to"]) if entry.get("to") else None)
        assert (tx.mint, tx.value) == (int(entry.get("mint") or "0x0", 16), int(entry["value"], 16))
        assert (tx.gas_limit, tx.data) == (int(entry["gas"], 16), unhex(entry["input"]))
        assert tx.is_system == bool(entry.get("isSystemTx"))
        assert encode_transaction(tx) == raw
        assert transaction_hash(tx) == unhex(entry["hash"])


def test_ethers_vectors_sign_to_the_same_bytes() -> None:
    path = reference_path("transactions/ethers/transaction.json.gz")
    seen = 0
    for case in json.loads(gzip.decompress(path.read_bytes()))[::4]:
        for form in ("signedLegacy", "signedEip155", "signedBerlin", "signedLondon"):
            if case.get(form) is None:
                continue
            raw, secret = unhex(case[form]), unhex(case["privateKey"])
            tx = decode_transaction(raw)
            assert not isinstance(tx, DepositTx)
            if form == "signedEip155" and tx.chain_id == 0:
                # ethers signs these as unprotected and still writes v = 35; no chain has the id 0.
                continue
            assert encode_transaction(tx) == raw
            assert signatures.recover_sender(tx) == signatures.address_of_secret(secret)
            assert signatures.sign_transaction(tx, secret) == tx
            seen += 1
    assert seen > 400


@pytest.mark.parametrize("tx", [*signed_examples(), DEPOSIT], ids=lambda tx: type(tx).__name__)
def test_every_type_round_trips(tx: Transaction) -> None:
    raw = encode_transaction(tx)
    assert decode_transaction(raw) == tx
    sender = CALLEE if isinstance(tx, DepositTx) else signatures.address_of_secret(SECRET)
    assert signatures.recover_sender(tx) == sender


@settings(max_examples=examples(300))
@given(st.data())
def test_damage_is_refused_or_is_another_transaction(data: st.DataObject) -> None:
    raw = bytearray(encode_transaction(data.draw(st.sampled_from([*signed_examples(), DEPOSIT]))))
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    del raw[data.draw(st.integers(len(raw) // 2, len(raw))) :]
    try:
        tx = decode_transaction(bytes(raw))
    except InvalidTransaction as error:
        assert 0 <= error.offset <= len(raw)
    else:
        assert encode_transaction(tx) == raw


@pytest.mark.parametrize(
    ("position", "content", "reason"),
    [
        (1, b"\x00\x01", "nonce: integer with leading zeros"),
        (1, b"\xff" * 8, "nonce: nonce is 2"),
        (1, b"\x01" * 9, "nonce: integer wider than 8 bytes"),
        (2, b"\x01" * 33, "max priority fee: integer wider than 32"),
        (4, [b"\x01"], "gas limit: expected an integer"),
        (5, b"\x01" * 19, "to: address is 19 bytes"),
        (7, [b""], "data: expected bytes, found a list"),
        (8, b"", "access list: expected a list"),
        (8, [[b"\x01" * 20]], "access list: access list entry of 1 fields, expected 2"),
        (8, [[CALLEE, [b"\x01"]]], "access list: hash is 1 bytes"),
        (9, b"\x02", "y parity: y parity is neither"),
    ],
)
def test_a_bad_field_is_named(position: int, content: Any, reason: str) -> None:
    fields: list[Any] = [b"\x01", b"", b"", b"", b"", b"", b"", b"", [], b"", b"\x01", b"\x01"]
    fields[position] = content
    raw = b"\x02" + encode(fields)
    with pytest.raises(InvalidTransaction, match=reason) as caught:
        decode_transaction(raw)
    assert caught.value.offset > 0


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "no bytes"),
        (b"\x05\xc0", "unknown transaction type 0x05"),
        (b"\x02", "no bytes"),
        (b"\x02\x80", "expected a list"),
        (b"\x02\xc0", "0 fields, expected 12"),
        (b"\xc1\x80", "1 fields, expected 9"),
    ],
)
def test_what_is_no_transaction(raw: bytes, reason: str) -> None:
    with pytest.raises(InvalidTransaction, match=reason):
        decode_transaction(raw)


def test_prices() -> None:
    legacy = LegacyTx(0, 100, 21_000, CALLEE, 0, b"", 27, 1, 1)
    market = FeeMarketTx(1, 0, 10, 100, 21_000, CALLEE, 0, b"", (), 0, 1, 1)
    assert [effective_gas_price(tx, 40) for tx in (legacy, market, DEPOSIT)] == [100, 50, 0]
    assert [priority_fee(tx, 40) for tx in (legacy, market, DEPOSIT)] == [60, 10, 0]
    assert [max_fee(tx) for tx in (legacy, market, DEPOSIT)] == [100, 100, 0]
    assert effective_gas_price(market, 95) == 100
    assert priority_fee(market, 101) == -1


def test_stateless_rules() -> None:
    tx = FeeMarketTx(901, 0, 10, 100, 21_000, None, 0, b"", (), 0, 1, 1)
    check_transaction(tx, 901)
    broken = [
        (tx, 10, "invalid chain id: have 901, want 10"),
        (replace(tx, max_priority_fee_per_gas=101), 901, "higher than max fee"),
        (replace(tx, data=bytes(49_153)), 901, "initcode"),
        (replace(tx, max_fee_per_gas=2**250), 901, "256 bits"),
        (SetCodeTx(901, 0, 0, 0, 0, CALLEE, 0, b"", (), (), 0, 1, 1), 901, "empty authorization"),
        (BlobTx(901, 0, 0, 0, 0, CALLEE, 0, b"", (), 0, (), 0, 1, 1), 901, "without blobs"),
    ]
    for case, chain_id, reason in broken:
        with pytest.raises(InvalidTransaction, match=reason):
            check_transaction(case, chain_id)


NUMBERS = st.one_of(st.integers(0, 300), st.integers(0, 2**64 - 1), st.just(2**64 - 1))
PLAIN = st.builds(
    FeeMarketTx,
    NUMBERS, NUMBERS, st.integers(0, 2**256 - 1), NUMBERS, NUMBERS,
    st.none() | st.binary(min_size=20, max_size=20),
    st.integers(0, 2**256 - 1),
    st.sampled_from([0, 1, 2, 55, 56, 255, 256, 1000]).map(lambda size: b"\x99" * size) | st.just(b"\x05"),
    st.just(()), st.integers(0, 1), st.integers(0, 2**256 - 1), st.integers(2**255, 2**256 - 1),
)  # fmt: skip


def general(raw: bytes) -> Transaction | None:
    try:
        return _fee_market_tx(decode_list(raw, 1))
    except (RlpError, _BadField):
        return None


@given(PLAIN, st.integers(0, 400), st.integers(0, 255), st.sampled_from(["none", "set", "cut", "insert"]))
def test_the_short_way_takes_only_what_the_general_decoder_takes(
    tx: FeeMarketTx, position: int, byte: int, damage: str
) -> None:
    raw = encode_transaction(tx)
    position %= len(raw) - 1
    if damage != "none":
        kept = raw[position + 2 :] if damage != "insert" else raw[position + 1 :]
        raw = raw[: position + 1] + (b"" if damage == "cut" else bytes([byte])) + kept
    plain = decode_plain_fee_market(raw)
    if plain is not None:
        assert plain == general(raw)
        assert encode_transaction(plain) == raw
        assert type(plain) is FeeMarketTx


def test_the_short_way_is_taken() -> None:
    tx = FeeMarketTx(10, 7, 0, 10**9, 21_000, CALLEE, 10**18, b"\x99" * 300, (), 1, 2**255, 2**254)
    for usual in (tx, replace(tx, data=b""), replace(tx, to=None), replace(tx, value=0, data=bytes(68))):
        decoded = decode_plain_fee_market(encode_transaction(usual))
        assert decoded == usual
        with pytest.raises(AttributeError):
            decoded.nonce = 1  # type: ignore[misc, union-attr]
    for unusual in (replace(tx, r=1), replace(tx, access_list=(AccessListEntry(CALLEE, ()),))):
        assert decode_plain_fee_market(encode_transaction(unusual)) is None
        assert decode_transaction(encode_transaction(unusual)) == unusual
