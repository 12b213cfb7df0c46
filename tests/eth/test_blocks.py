"""Headers, blocks, receipts and blooms, and real chains of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.examples import examples

from flashctl.eth.blocks import (
    EMPTY_OMMERS_HASH,
    EMPTY_REQUESTS_HASH,
    EMPTY_TRIE_ROOT,
    Block,
    Header,
    InvalidBlockEncoding,
    Withdrawal,
    decode_block,
    decode_header,
    encode_block,
    encode_header,
    header_hash,
)
from flashctl.eth.bloom import EMPTY_BLOOM, bloom_contains, merge
from flashctl.eth.keccak import keccak256
from flashctl.eth.receipts import (
    InvalidReceipt,
    Log,
    Receipt,
    decode_receipt,
    encode_receipt,
    logs_bloom,
    new_logs,
    new_receipt,
)
from flashctl.eth.rlp import decode_list, encode

HEADER = Header(
    parent_hash=b"\x01" * 32,
    ommers_hash=EMPTY_OMMERS_HASH,
    fee_recipient=b"\x02" * 20,
    state_root=b"\x03" * 32,
    transactions_root=EMPTY_TRIE_ROOT,
    receipts_root=EMPTY_TRIE_ROOT,
    logs_bloom=EMPTY_BLOOM,
    difficulty=0,
    number=77,
    gas_limit=60_000_000,
    gas_used=21_000,
    timestamp=1_700_000_000,
    extra_data=bytes(9),
    prev_randao=b"\x04" * 32,
    nonce=bytes(8),
    base_fee_per_gas=7,
    withdrawals_root=EMPTY_TRIE_ROOT,
    blob_gas_used=0,
    excess_blob_gas=0,
    parent_beacon_block_root=b"\x05" * 32,
    requests_hash=EMPTY_REQUESTS_HASH,
)

LOGS = st.builds(
    Log,
    st.binary(min_size=20, max_size=20),
    st.lists(st.binary(min_size=32, max_size=32), max_size=4).map(tuple),
    st.binary(max_size=70),
)


def test_known_constants() -> None:
    assert EMPTY_OMMERS_HASH.hex() == "1dcc4de8dec75d7aab85b567b6ccd41ad312451b948a7413f0a142fd40d49347"
    assert EMPTY_TRIE_ROOT.hex() == "56e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421"
    assert EMPTY_REQUESTS_HASH.hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_headers_of_every_fork_round_trip() -> None:
    prague = HEADER
    cancun = replace(prague, requests_hash=None)
    shanghai = replace(cancun, blob_gas_used=None, excess_blob_gas=None, parent_beacon_block_root=None)
    london = replace(shanghai, withdrawals_root=None)
    frontier = replace(london, base_fee_per_gas=None)
    hashes = set()
    for header in (prague, cancun, shanghai, london, frontier):
        raw = encode_header(header)
        assert decode_header(raw) == header
        assert header_hash(header) == header.hash == keccak256(raw)
        hashes.add(header.hash)
    assert len(hashes) == 5


def test_replacing_a_field_forgets_the_cached_hash() -> None:
    before = HEADER.hash
    assert replace(HEADER, number=78).hash != before


def test_block_round_trips_with_legacy_typed_and_withdrawals() -> None:
    legacy = encode([b"\x01"] * 9)
    for withdrawals in (None, (), (Withdrawal(1, 2, b"\x06" * 20, 3),)):
        block = Block(HEADER, (legacy, b"\x02" + legacy, b"\x7e" + legacy), withdrawals)
        assert decode_block(encode_block(block)) == block


def test_malformed_headers() -> None:
    fields = decode_list(encode_header(HEADER))
    for damaged in (fields[:14], [*fields, b""], [b"\x01", *fields[1:]], [*fields[:7], [], *fields[8:]]):
        with pytest.raises(InvalidBlockEncoding):
            decode_header(encode(damaged))
    for raw in (b"", b"\x80", b"\xc0", encode([fields, [], [b"\x01"]]), encode([fields, []])):
        with pytest.raises(InvalidBlockEncoding):
            decode_block(raw)


@settings(max_examples=examples(60))
@given(st.sampled_from([0, 1, 2, 4, 0x7E]), st.booleans(), st.integers(0, 2**40), st.lists(LOGS, max_size=4))
def test_receipts_round_trip(tx_type: int, succeeded: bool, gas: int, logs: list[Log]) -> None:
    deposit = {"deposit_nonce": gas, "deposit_receipt_version": 1} if tx_type == 0x7E else {}
    receipt = Receipt(tx_type, succeeded, gas, tuple(logs), **deposit)
    assert decode_receipt(encode_receipt(receipt)) == receipt


def test_a_regolith_deposit_nonce_stays_out_of_the_encoding() -> None:
    bare = Receipt(0x7E, True, 1, ())
    assert encode_receipt(replace(bare, deposit_nonce=5)) == encode_receipt(bare)


@pytest.mark.parametrize("raw", [b"", b"\x09\xc0", b"\xc0", encode([b"\x02", b"", bytes(256), []])])
def test_malformed_receipts(raw: bytes) -> None:
    with pytest.raises(InvalidReceipt):
        decode_receipt(raw)


@settings(max_examples=examples(40))
@given(st.lists(LOGS, max_size=5))
def test_receipts_of_what_the_evm_logged(logs: list[Log]) -> None:
    entries = [
        (
            int.from_bytes(log.address, "big"),
            [int.from_bytes(topic, "big") for topic in log.topics],
            log.data,
        )
        for log in logs
    ]
    made, bits = new_logs(entries)
    assert made == tuple(logs)
    receipt = new_receipt(2, True, 21_000, made, bits, None, None)
    assert receipt == Receipt(2, True, 21_000, tuple(logs))
    assert receipt.bloom == logs_bloom(logs)


@settings(max_examples=examples(40))
@given(st.lists(LOGS, max_size=5))
def test_bloom_holds_what_went_in(logs: list[Log]) -> None:
    bloom = logs_bloom(logs)
    assert merge(logs_bloom([log]) for log in logs) == bloom
    for log in logs:
        assert all(bloom_contains(bloom, entry) for entry in (log.address, *log.topics))
    assert not bloom_contains(EMPTY_BLOOM, b"\x01" * 20)
