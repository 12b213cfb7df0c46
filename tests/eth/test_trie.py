"""The trie against published roots, against itself rebuilt, and against a naive definition."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.examples import examples
from support.reference import reference_path

from flashctl.eth.keccak import keccak256
from flashctl.eth.ordered_trie import OrderedTrie, ordered_root
from flashctl.eth.rlp import encode, encode_uint
from flashctl.eth.trie import EMPTY_ROOT, MissingNode, Trie
from flashctl.eth.trie_nodes import InvalidNode, decode_node

KEYS = st.one_of(
    st.binary(min_size=1, max_size=3).map(lambda key: bytes(byte & 0x11 for byte in key)),
    st.integers(0, 40).map(lambda number: keccak256(bytes([number]))),
)
VALUES = st.one_of(st.just(b""), st.binary(min_size=1, max_size=4), st.binary(min_size=33, max_size=40))
BATCHES = st.lists(st.dictionaries(KEYS, VALUES, max_size=12), max_size=8)


def naive_root(values: dict[bytes, bytes]) -> bytes:
    """The root by the Yellow Paper's recursive definition, with nothing cached."""

    def compact(path: str, leaf: bool) -> bytes:
        flag = 2 * leaf + len(path) % 2
        return bytes.fromhex(f"{flag:x}" + ("" if len(path) % 2 else "0") + path)

    def node(entries: dict[str, bytes]) -> Any:
        if not entries:
            return b""
        paths = sorted(entries)
        if len(paths) == 1:
            return [compact(paths[0], True), entries[paths[0]]]
        shared = 0
        while len({path[shared : shared + 1] for path in paths}) == 1 and paths[0][shared:]:
            shared += 1
        if shared:
            below = {path[shared:]: value for path, value in entries.items()}
            return [compact(paths[0][:shared], False), reference(below)]
        ways = [
            reference({path[1:]: value for path, value in entries.items() if path[:1] == digit})
            for digit in "0123456789abcdef"
        ]
        return [*ways, entries.get("", b"")]

    def reference(entries: dict[str, bytes]) -> Any:
        item = node(entries)
        raw = encode(item)
        return item if not entries or len(raw) < 32 else keccak256(raw)

    return keccak256(encode(node({key.hex(): value for key, value in values.items()})))


def as_bytes(text: str | None) -> bytes:
    if text is None:
        return b""
    return bytes.fromhex(text[2:]) if text.startswith("0x") else text.encode()


@pytest.mark.parametrize("name", ["trietest", "trieanyorder", "hex_encoded_securetrie_test"])
def test_published_roots(name: str) -> None:
    secure = "secure" in name
    files = [f"trie/ethereum-tests/{name}.json"]
    if not secure:
        files.append(f"trie/ethereum-tests/{name}_secureTrie.json")
    for file in files:
        for case_name, case in json.loads(reference_path(file).read_text()).items():
            entries = case["in"].items() if isinstance(case["in"], dict) else case["in"]
            hashed = "secure" in file
            trie = Trie()
            final = {}
            for key, value in entries:
                key_bytes = keccak256(as_bytes(key)) if hashed else as_bytes(key)
                final[key_bytes] = as_bytes(value)
                trie = trie.update({key_bytes: as_bytes(value)})
            assert trie.root_hash == as_bytes(case["root"]), (file, case_name)
            assert Trie().update(final).root_hash == trie.root_hash


@settings(max_examples=examples(150))
@given(BATCHES)
def test_batches_equal_the_naive_definition(batches: list[dict[bytes, bytes]]) -> None:
    trie, model = Trie(), {}
    versions = []
    for batch in batches:
        trie = trie.update(batch)
        model = {key: value for key, value in (model | batch).items() if value}
        versions.append((trie, dict(model)))
    for version, expected in versions:
        assert version.root_hash == (naive_root(expected) if expected else EMPTY_ROOT)
        assert dict(version.items()) == expected
        assert list(version.items()) == sorted(expected.items())


@settings(max_examples=examples(150))
@given(BATCHES, st.lists(KEYS, max_size=4))
def test_stored_nodes_reload_and_prove(batches: list[dict[bytes, bytes]], probes: list[bytes]) -> None:
    store: dict[bytes, bytes] = {}
    trie, model = Trie(), {}
    for position, batch in enumerate(batches):
        base = Trie(trie.root_hash, store.get) if position % 2 else trie
        after = base.update(batch)
        store.update(after.new_nodes(trie))
        model = {key: value for key, value in (model | batch).items() if value}
        trie = after
    assert all(keccak256(raw) == node_hash for node_hash, raw in store.items())
    loaded = Trie(trie.root_hash, store.get)
    assert dict(loaded.items()) == model
    for key in [*probes, *model]:
        witness = {keccak256(raw): raw for raw in trie.prove(key)}
        assert Trie(trie.root_hash, witness.get).get(key) == model.get(key) == trie.get(key)


def test_an_update_that_changes_nothing_returns_the_same_trie() -> None:
    trie = Trie().update({b"\x11": b"one", b"\x12": b"two", b"\x21\x11": b"three"})
    assert trie.update({b"\x11": b"one", b"\x99": b"", b"\x11\x11": b""}) is trie
    assert trie.update({}) is trie


def test_only_what_changed_is_new() -> None:
    keys = [keccak256(bytes([number])) for number in range(200)]
    trie = Trie().update({key: key for key in keys})
    after = trie.update({keys[0]: b"new"})
    assert len(list(after.new_nodes(trie))) == len(trie.prove(keys[0]))
    assert not list(trie.new_nodes(trie))


def test_a_missing_node_is_named() -> None:
    keys = [keccak256(bytes([number])) for number in range(50)]
    full = Trie().update({key: key for key in keys})
    witness = {keccak256(raw): raw for raw in full.prove(keys[0])}
    partial = Trie(full.root_hash, witness.get)
    assert partial.get(keys[0]) == keys[0]
    absent = next(key for key in keys if key.hex()[0] != keys[0].hex()[0])
    with pytest.raises(MissingNode) as caught:
        partial.get(absent)
    assert caught.value.hash not in witness
    with pytest.raises(MissingNode):
        Trie(full.root_hash).get(keys[0])


@settings(max_examples=examples(30))
@given(st.lists(st.binary(min_size=1, max_size=60), max_size=300), st.integers(0, 300))
def test_a_list_grows_to_the_same_root(values: list[bytes], cut: int) -> None:
    whole = {encode_uint(position): value for position, value in enumerate(values)}
    root = naive_root(whole) if whole else EMPTY_ROOT
    assert ordered_root(values) == root
    assert OrderedTrie(values[:cut]).extend(values[cut:]).root_hash == root


@pytest.mark.parametrize(
    "sizes",
    [
        [1, 1, 1, 14, 1, 110, 1, 15, 112],  # to each border of the keys' shapes up to 256, and over it
        [128, 128, 1, 15, 16, 3_808, 1, 15],  # complete subtrees of 16 and 256 entries
        [65_536, 1, 16],  # positions of three bytes
    ],
)
@pytest.mark.parametrize("width", [3, 40])
def test_a_list_that_grows_past_the_borders_of_its_keys(sizes: list[int], width: int) -> None:
    """Against the general trie; values of 3 bytes make leaves that are part of their parents."""
    ordered, values = OrderedTrie(), list[bytes]()
    for size in sizes:
        before, root_before = ordered, ordered.root_hash
        added = [keccak256(encode_uint(len(values) + offset))[:1] * width for offset in range(size)]
        ordered = ordered.extend(added)
        values += added
        whole = {encode_uint(position): value for position, value in enumerate(values)}
        assert ordered.size == len(values)
        assert ordered.root_hash == Trie().update(whole).root_hash == ordered_root(values)
        assert before.root_hash == root_before and before.extend(added).root_hash == ordered.root_hash


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x80",
        b"\xc0",
        encode([b"\x50\x00", b"v"]),
        encode([b"\x20", [b"v"]]),
        encode([b"\x00\x12", b""]),
        encode([b"\x00\x12", b"short"]),
        encode([b"\x01"] * 17),
    ],
)
def test_malformed_nodes(raw: bytes) -> None:
    with pytest.raises(InvalidNode):
        decode_node(raw)


def test_nearest_keys_of_the_published_vector() -> None:
    """trietestnextprev: our items come in key order, from which the neighbours of any key follow."""
    case = json.loads(reference_path("trie/ethereum-tests/trietestnextprev.json").read_text())["basic"]
    keys = [key for key, _ in Trie().update({as_bytes(key): b"\x01" for key in case["in"]}).items()]
    for probe_text, before, after in case["tests"]:
        probe = as_bytes(probe_text)
        assert max((key for key in keys if key < probe), default=b"") == as_bytes(before)
        assert min((key for key in keys if key > probe), default=b"") == as_bytes(after)
