"""Log filters: parsing, bounds, and that bloom and exact answers never contradict each other."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.examples import examples

from flashctl.eth.receipts import Log, logs_bloom
from flashctl.ethrpc.block_tags import BlockHash, InvalidBlockRef, Tag, parse_block_number, parse_block_ref
from flashctl.ethrpc.filters import InvalidFilter, LogFilter

ADDRESSES = [bytes([n]) * 20 for n in range(1, 5)]
WORDS = [bytes([n]) * 32 for n in range(1, 5)]

logs = st.builds(
    Log,
    st.sampled_from(ADDRESSES),
    st.lists(st.sampled_from(WORDS), max_size=4).map(tuple),
    st.just(b""),
)


def hexed(items: list[bytes]) -> list[str]:
    return ["0x" + item.hex() for item in items]


addresses_json = st.one_of(
    st.none(),
    st.sampled_from(ADDRESSES).map(lambda address: "0x" + address.hex()),
    st.lists(st.sampled_from(ADDRESSES), max_size=3).map(hexed),
)
topics_json = st.lists(
    st.one_of(
        st.none(),
        st.sampled_from(WORDS).map(lambda word: "0x" + word.hex()),
        st.lists(st.sampled_from(WORDS), max_size=3).map(hexed),
    ),
    max_size=4,
)


def wanted(filter_json: dict[str, Any], log: Log) -> bool:
    """The rules of eth_getLogs, written naively."""
    address = filter_json["address"]
    allowed = [address] if isinstance(address, str) else address or []
    if allowed and "0x" + log.address.hex() not in allowed:
        return False
    if len(filter_json["topics"]) > len(log.topics):
        return False
    for choice, topic in zip(filter_json["topics"], log.topics, strict=False):
        choices = [choice] if isinstance(choice, str) else choice or []
        if choices and "0x" + topic.hex() not in choices:
            return False
    return True


@settings(max_examples=examples(300))
@given(addresses_json, topics_json, st.lists(logs, max_size=5))
def test_matches_as_the_rules_say_and_the_bloom_misses_nothing(
    address: Any, topics: list[Any], block_logs: list[Log]
) -> None:
    params = {"address": address, "topics": topics}
    parsed = LogFilter.parse(params)
    bloom = logs_bloom(block_logs)
    for log in block_logs:
        assert parsed.matches(log) == wanted(params, log)
        assert not parsed.matches(log) or parsed.may_match(bloom)
    assert LogFilter().may_match(bloom)


@settings(max_examples=examples(300))
@given(
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=70)),
        lambda inner: st.one_of(
            st.lists(inner, max_size=5),
            st.dictionaries(
                st.sampled_from(["address", "topics", "fromBlock", "toBlock", "blockHash"]), inner
            ),
        ),
        max_leaves=12,
    )
)
def test_any_json_parses_or_is_refused(params: Any) -> None:
    try:
        LogFilter.parse(params)
    except (InvalidFilter, InvalidBlockRef) as error:
        assert "\n" not in str(error)


def test_hash_and_range_exclude_each_other() -> None:
    with pytest.raises(InvalidFilter, match="cannot specify both BlockHash and FromBlock/ToBlock"):
        LogFilter.parse({"blockHash": "0x" + "11" * 32, "fromBlock": "0x1"})


def test_limits() -> None:
    with pytest.raises(InvalidFilter, match="too many filter addresses: max 1000, got 1001"):
        LogFilter.parse({"address": ["0x" + "11" * 20] * 1001})
    with pytest.raises(InvalidFilter, match="too many filter topics in slot 1: max 1000, got 1001"):
        LogFilter.parse({"topics": [None, ["0x" + "11" * 32] * 1001]})
    with pytest.raises(InvalidFilter, match="too many topics"):
        LogFilter.parse({"topics": [None] * 5})


def test_range_is_kept_as_given() -> None:
    parsed = LogFilter.parse({"fromBlock": "0x10", "toBlock": "pending"})
    assert (parsed.from_block, parsed.to_block) == (16, Tag.PENDING)
    assert LogFilter.parse({}).to_block is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [("latest", Tag.LATEST), ("unsafe", Tag.LATEST), ("0x0", 0), ("0xff", 255), (None, Tag.LATEST)],
)
def test_block_numbers(text: str | None, expected: Tag | int) -> None:
    assert parse_block_number(text) == expected
    assert parse_block_ref(text) == expected


def test_eip_1898_objects() -> None:
    block_hash = "0x" + "ab" * 32
    assert parse_block_ref({"blockHash": block_hash}) == BlockHash(b"\xab" * 32)
    assert parse_block_ref({"blockHash": block_hash, "requireCanonical": True}).require_canonical  # type: ignore[union-attr]
    assert parse_block_ref({"blockNumber": "0x2"}) == 2
    assert parse_block_ref(block_hash) == BlockHash(b"\xab" * 32)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("2", "invalid argument 1: hex string without 0x prefix"),
        ("0x", 'invalid argument 1: hex string "0x"'),
        ("0x_1", "invalid argument 1: invalid hex string"),
        ("0xzz", "invalid argument 1: invalid hex string"),
        ("0x8000000000000000", "invalid argument 1: block number larger than int64"),
        (5, "invalid argument 1: a block is named by a string"),
        ({"blockHash": "0x12"}, "invalid argument 1: a block hash is 0x and 64 hex digits"),
        ({"blockHash": 5}, "invalid argument 1: a block hash is 0x and 64 hex digits"),
        ({}, "invalid argument 1: neither blockNumber nor blockHash given"),
        (
            {"blockHash": "0x" + "11" * 32, "blockNumber": "0x1"},
            "cannot specify both BlockHash and BlockNumber, choose one or the other",
        ),
    ],
)
def test_what_names_no_block(value: object, message: str) -> None:
    with pytest.raises(InvalidBlockRef) as caught:
        parse_block_ref(value, index=1)
    assert str(caught.value) == message
