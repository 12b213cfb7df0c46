"""RLP against the published vectors and against the rlp package."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest
import rlp as oracle
from hypothesis import given
from hypothesis import strategies as st
from support.reference import reference_path

from flashctl.eth import rlp

ITEMS = st.recursive(st.binary(max_size=80), lambda inner: st.lists(inner, max_size=5), max_leaves=25)


def encodable(value: Any) -> Any:
    """A JSON vector's value as an item."""
    if isinstance(value, list):
        return [encodable(entry) for entry in value]
    if isinstance(value, int):
        return rlp.int_to_bytes(value)
    if value.startswith("#"):
        return rlp.int_to_bytes(int(value[1:]))
    return value.encode()


def test_ethereum_vectors() -> None:
    vectors = json.loads(reference_path("rlp/ethereum-tests/rlptest.json").read_text())
    for name, vector in vectors.items():
        encoded = bytes.fromhex(vector["out"].removeprefix("0x"))
        item = encodable(vector["in"])
        assert rlp.encode(item) == encoded, name
        assert rlp.decode(encoded) == item, name


def test_ethereum_invalid_vectors() -> None:
    vectors = json.loads(reference_path("rlp/ethereum-tests/invalidRLPTest.json").read_text())
    for name, vector in vectors.items():
        with pytest.raises(rlp.RlpError):
            pytest.fail(f"{name} decoded to {rlp.decode(bytes.fromhex(vector['out'].removeprefix('0x')))!r}")


def test_ethereum_random_vectors() -> None:
    vectors = json.loads(reference_path("rlp/ethereum-tests/RandomRLPTests/example.json").read_text())
    for vector in vectors.values():
        encoded = bytes.fromhex(vector["out"].removeprefix("0x"))
        assert rlp.encode(rlp.decode(encoded)) == encoded


def test_ethers_vectors() -> None:
    def item(value: Any) -> Any:
        return [item(entry) for entry in value] if isinstance(value, list) else bytes.fromhex(value[2:])

    for vector in json.loads(gzip.decompress(reference_path("rlp/ethers/rlp.json.gz").read_bytes())):
        encoded = bytes.fromhex(vector["encoded"][2:])
        assert rlp.encode(item(vector["decoded"])) == encoded, vector["name"]
        assert rlp.decode(encoded) == item(vector["decoded"]), vector["name"]


@given(ITEMS)
def test_encodes_as_the_package_does(item: rlp.Item) -> None:
    encoded = oracle.encode(item)
    assert rlp.encode(item) == encoded
    assert rlp.decode(encoded) == item


@given(st.binary(max_size=60))
def test_accepts_what_the_package_accepts(data: bytes) -> None:
    try:
        expected = oracle.decode(data)
    except oracle.DecodingError:
        with pytest.raises(rlp.RlpError):
            rlp.decode(data)
    else:
        assert rlp.decode(data) == expected


@given(st.binary(min_size=1, max_size=120))
def test_damage_never_escapes_as_another_error(noise: bytes) -> None:
    for data in (noise, rlp.encode([noise, [noise]])[:-1], b"\xf9" + noise, b"\xbf" + noise):
        try:
            assert rlp.encode(rlp.decode(data)) == data
        except rlp.RlpError as error:
            assert 0 <= error.offset <= len(data)


@given(st.integers(min_value=0, max_value=2**512))
def test_integers(value: int) -> None:
    assert rlp.encode_uint(value) == oracle.encode(value)


def test_depth_is_bounded() -> None:
    data = b"\xc0"
    for _ in range(rlp.MAX_DEPTH + 1):
        data = rlp.encode_list_payload(data)
    with pytest.raises(rlp.RlpError, match="nested deeper"):
        rlp.decode(data)


def test_decode_list_refuses_a_string() -> None:
    with pytest.raises(rlp.RlpError, match="expected a list"):
        rlp.decode_list(b"\x81\x80")


@given(st.binary(max_size=70), st.one_of(st.binary(max_size=70), st.binary(min_size=600, max_size=700)))
def test_a_pair_is_a_list_of_two(first: bytes, second: bytes) -> None:
    assert rlp.encode_pair(first, second) == rlp.encode([first, second])
