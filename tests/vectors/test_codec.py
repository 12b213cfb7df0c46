"""RLP, receipts and tries as EELS has them."""

from __future__ import annotations

from typing import Any

import pytest
from support.vectors import codec_cases, unhex

from flashctl.decode.engine import Engine, Outcome, outcome_of
from flashctl.decode.tx_report import Options
from flashctl.eth.keccak import keccak256
from flashctl.eth.receipts import Log, Receipt, decode_receipt, encode_receipt
from flashctl.eth.rlp import RlpError, decode, encode
from flashctl.eth.trie import Trie

MOST_ITEMS = 2**17


def as_bytes(item: Any) -> Any:
    return [as_bytes(inner) for inner in item] if isinstance(item, list) else unhex(item)


def test_items() -> None:
    for case in codec_cases("rlp"):
        item, raw = as_bytes(case["item"]), unhex(case["encoded"])
        assert encode(item) == raw
        assert decode(raw, most=MOST_ITEMS) == item


def test_bytes_that_are_none_or_one_item() -> None:
    for case in codec_cases("bytes"):
        raw = unhex(case["data"])
        if "decoded" in case:
            assert decode(raw) == as_bytes(case["decoded"])
            continue
        with pytest.raises(RlpError):
            decode(raw)


def test_receipts() -> None:
    engine = Engine(Options())
    for case in codec_cases("receipt"):
        logs = tuple(
            Log(unhex(address), tuple(map(unhex, topics)), unhex(data))
            for address, topics, data in case["logs"]
        )
        receipt, raw = Receipt(case["type"], case["succeeded"], case["gas"], logs), unhex(case["encoded"])
        assert encode_receipt(receipt) == raw
        assert receipt.bloom.hex() == case["bloom"]
        assert decode_receipt(raw) == receipt
        (report,) = engine.line("0x" + raw.hex(), 1)
        assert outcome_of(report) is Outcome.FINE
        assert report["cumulativeGasUsed"] == hex(case["gas"]) and len(report["logs"]) == len(logs)


def test_roots_of_tries() -> None:
    for case in codec_cases("trie"):
        entries = [(unhex(key), unhex(value)) for key, value in case["entries"]]
        if case["secured"]:
            entries = [(keccak256(key), value) for key, value in entries]
        one_by_one = Trie()
        for key, value in entries:
            one_by_one = one_by_one.update({key: value})
        at_once = Trie().update(dict(entries))
        assert one_by_one.root_hash.hex() == at_once.root_hash.hex() == case["root"]
