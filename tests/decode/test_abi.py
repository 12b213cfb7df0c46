"""Signatures and the data that follows them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.examples import examples

from flashctl.decode.abi import (
    AbiError,
    decode_arguments,
    decode_log,
    entries_from_json,
    parse_signature,
)
from flashctl.decode.calls import describe_call, describe_log
from flashctl.decode.signatures import SignatureBook, builtin_texts
from flashctl.eth.keccak import keccak256


def word(value: int) -> bytes:
    return (value % 2**256).to_bytes(32, "big")


@pytest.mark.parametrize(
    ("text", "signature", "selector"),
    [
        ("transfer(address to, uint256 amount)", "transfer(address,uint256)", "a9059cbb"),
        ("function balanceOf(address owner) view returns (uint)", "balanceOf(address)", "70a08231"),
        ("f(uint a, int[] memory b)", "f(uint256,int256[])", None),
        ("aggregate3((address target,bool allowFailure,bytes callData)[] calls)", None, "82ad56cb"),
        ("execute(bytes commands,bytes[] inputs,uint256 deadline)", None, "3593564c"),
        ("g((uint8,(bytes,string))[2][] nested)", "g((uint8,(bytes,string))[2][])", None),
        ("h()", "h()", None),
    ],
)
def test_signatures_become_canonical(text: str, signature: str | None, selector: str | None) -> None:
    entry = parse_signature(text)
    if signature is not None:
        assert entry.signature == signature
    if selector is not None:
        assert keccak256(entry.signature.encode())[:4].hex() == selector


@pytest.mark.parametrize(
    "text",
    ["", "transfer", "transfer(", "transfer(address", "f(uint7)", "f(bytes33)", "f(foo)", "f() junk", "(a)"],
)
def test_what_is_no_signature_is_refused(text: str) -> None:
    with pytest.raises(AbiError):
        parse_signature(text)


def test_values_of_every_kind() -> None:
    entry = parse_signature(
        "f(address a,uint256 b,int8 c,bool d,bytes4 e,string g,bytes h,uint16[2] i,(bool x,string y) j)"
    )
    head = [bytes(12) + b"\x11" * 20, word(2**255), word(-5), word(1), b"\xab\xcd\xef\x01" + bytes(28)]
    fixed = [word(7), word(8)]
    tail_start = 32 * (5 + 2 + 2 + 1)
    string = word(2) + b"hi" + bytes(30)
    data_bytes = word(3) + b"\x01\x02\x03" + bytes(29)
    tuple_body = word(1) + word(64) + word(1) + b"z" + bytes(31)
    offsets = [tail_start, tail_start + 64, tail_start + 128]
    payload = b"".join(
        [*head, word(offsets[0]), word(offsets[1]), *fixed, word(offsets[2]), string, data_bytes, tuple_body]
    )
    values = {argument.name: argument.value for argument in decode_arguments(entry.params, payload)[0]}
    assert values == {
        "a": "0x" + "11" * 20, "b": str(2**255), "c": "-5", "d": True, "e": "0xabcdef01", "g": "hi",
        "h": "0x010203", "i": ["7", "8"], "j": {"x": True, "y": "z"},
    }  # fmt: skip


def test_a_log_with_indexed_arguments() -> None:
    book = SignatureBook()
    topic = keccak256(b"Transfer(address,address,uint256)")
    sender, receiver = bytes(12) + b"\x01" * 20, bytes(12) + b"\x02" * 20
    fungible = describe_log([topic, sender, receiver], word(5), book)
    token = describe_log([topic, sender, receiver, word(77)], b"", book)
    assert fungible is not None and fungible["arguments"][2] == {
        "name": "value",
        "type": "uint256",
        "value": "5",
    }
    assert token is not None and token["arguments"][2]["name"] == "tokenId"
    assert describe_log([], b"", book) is None and describe_log([bytes(32)], b"", book) is None


def test_an_indexed_string_is_its_hash() -> None:
    entry = parse_signature("event URI(string indexed value)")
    assert decode_log(entry, [bytes(32), b"\x05" * 32], b"")[0].value == "0x" + "05" * 32


def test_the_users_signatures_win_over_the_table() -> None:
    mine = parse_signature("transfer(address recipient,uint256 shares)")
    call = describe_call(bytes.fromhex("a9059cbb") + word(1) + word(2), SignatureBook([mine]))
    assert call is not None and call["arguments"][1]["name"] == "shares"


def test_data_of_another_signature_keeps_the_name_and_drops_the_arguments() -> None:
    call = describe_call(bytes.fromhex("a9059cbb") + b"\xff" * 64, SignatureBook())
    assert call == {
        "selector": "0xa9059cbb", "signature": "transfer(address,uint256)", "name": "transfer",
        "mismatch": "the word at offset 0 is no address", "data": "0x" + "ff" * 64,
    }  # fmt: skip


def test_json_abi_with_tuples() -> None:
    document = {"abi": [
        {"type": "function", "name": "f", "inputs": [{"name": "p", "type": "tuple[]", "components": [
            {"name": "a", "type": "uint"}, {"name": "b", "type": "bytes"}]}]},
        {"type": "event", "name": "E", "inputs": [{"name": "x", "type": "address", "indexed": True}]},
        {"type": "constructor", "inputs": []},
    ]}  # fmt: skip
    entries = entries_from_json(document)
    assert [entry.signature for entry in entries] == ["f((uint256,bytes)[])", "E(address)"]
    for broken in ({}, {"abi": 5}, [1], [{"name": "f", "inputs": [{}]}]):
        with pytest.raises(AbiError):
            entries_from_json(broken)


def test_a_bomb_of_offsets_is_bounded() -> None:
    # Every level points back at itself: 2^16 values from 96 bytes.
    entry = parse_signature("f(uint256[][][][] a)")
    with pytest.raises(AbiError):
        decode_arguments(entry.params, word(32) + word(10_000) + word(0) * 100)
    huge = parse_signature("f(uint256[] a)")
    with pytest.raises(AbiError, match="does not fit"):
        decode_arguments(huge.params, word(32) + word(2**200))


def test_the_table_is_keyed_right_and_has_no_two_spellings_of_one_signature() -> None:
    assert len(builtin_texts()) > 290
    seen = set()
    for key, text in builtin_texts():
        entry = parse_signature(text)
        assert keccak256(entry.signature.encode())[:4].hex() == key, text
        seen.add((entry.kind, entry.signature, tuple(param.indexed for param in entry.params)))
    assert len(seen) == len(builtin_texts())


@settings(max_examples=examples(100))
@given(st.sampled_from([text for _, text in builtin_texts()]), st.binary(max_size=400))
def test_no_data_breaks_the_decoder(text: str, data: bytes) -> None:
    entry = parse_signature(text)
    try:
        decode_arguments(entry.params, data)
    except AbiError:
        pass


def test_what_follows_the_arguments_is_shown() -> None:
    codes = b"base,app" + bytes([8, 0]) + bytes.fromhex("8021" * 8)
    call = describe_call(bytes.fromhex("a9059cbb") + word(7) + word(5) + codes, None)
    assert call is not None and call["arguments"][1]["value"] == "5"
    assert call["trailing"] == "0x" + codes.hex() and call["builderCodes"] == ["base", "app"]
    call = describe_call(bytes.fromhex("a9059cbb") + word(7) + word(5) + b"\x01", None)
    assert call is not None and call["trailing"] == "0x01" and "builderCodes" not in call
    short = describe_call(bytes.fromhex("a9059cbb") + word(7), None)
    assert short is not None and "ends" in short["mismatch"] and short["data"] == "0x" + word(7).hex()


@pytest.mark.parametrize(
    ("kind", "value", "fits"),
    [
        ("int8", 0x7F, True), ("int8", 0x80, False), ("int8", 0x180, False), ("int8", -128, True),
        ("int8", -129, False), ("bool", 1, True), ("bool", 2, False), ("uint8", 255, True),
        ("uint8", 256, False), ("address", 2**160 - 1, True), ("address", 2**160, False),
        ("bytes4", 1, False), ("function", 1, False),
    ],
)  # fmt: skip
def test_the_range_of_every_type_is_checked(kind: str, value: int, fits: bool) -> None:
    entry = parse_signature(f"f({kind})")
    data = (value % 2**256).to_bytes(32, "big")
    if fits:
        decode_arguments(entry.params, data)
    else:
        with pytest.raises(AbiError, match=f"no {kind}"):
            decode_arguments(entry.params, data)


def test_a_log_with_wrong_topics_says_why() -> None:
    topic = bytes.fromhex("ddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef")
    event = describe_log((topic,), b"", None)
    assert event is not None and event["name"] == "Transfer"
    assert "indexed" in event["mismatch"] and "arguments" not in event
