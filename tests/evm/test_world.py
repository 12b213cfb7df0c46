"""The world against a plain dictionary model: roots, reads, persistence, proofs."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.examples import examples

from flashctl.eth.keccak import EMPTY_CODE_HASH, keccak256
from flashctl.eth.rlp import encode, int_to_bytes
from flashctl.eth.trie import EMPTY_ROOT, MissingNode, Trie
from flashctl.eth.trie_nodes import InvalidNode
from flashctl.evm.state import Account, StateDiff
from flashctl.evm.world import MissingCode, World, decode_account, encode_account

ADDRESSES = st.integers(0, 9)
WORDS = st.sampled_from([0, 0, 1, 0x7F, 0x80, 0xFF, 2**255])
ACCOUNTS = st.builds(Account, st.integers(0, 2), st.sampled_from([0, 5, 10**20]), st.just(EMPTY_CODE_HASH))


@dataclass
class Step:
    """One random change of one account."""

    address: int
    account: Account | None
    wipe: bool
    storage: dict[int, int] = field(default_factory=dict)


STEPS = st.builds(
    Step,
    ADDRESSES,
    st.none() | ACCOUNTS,
    st.booleans(),
    st.dictionaries(st.integers(0, 5), WORDS, max_size=4),
)
Model = dict[int, tuple[Account, dict[int, int]]]


def diff_of(steps: list[Step], model: Model) -> StateDiff:
    """The steps as a diff, made in the model as well; one step per address."""
    diff = StateDiff()
    for step in {step.address: step for step in steps}.values():
        if step.account is None:
            diff.accounts[step.address] = None
            model.pop(step.address, None)
            continue
        storage = {} if step.wipe or step.address not in model else dict(model[step.address][1])
        if step.wipe:
            diff.cleared.add(step.address)
        if step.storage:
            diff.storage[step.address] = step.storage
        storage |= step.storage
        diff.accounts[step.address] = step.account
        model[step.address] = (step.account, {slot: word for slot, word in storage.items() if word})
    return diff


@settings(max_examples=examples(80))
@given(st.lists(st.tuples(st.lists(STEPS, max_size=6), st.booleans()), max_size=8))
def test_follows_a_model(blocks: list[tuple[list[Step], bool]]) -> None:
    world, stored = World.empty(), World.empty()
    store: dict[bytes, bytes] = {}
    model: Model = {}
    for steps, reload in blocks:
        before = dict(model)
        after = world.apply(diff_of(steps, model))
        check(world, before)
        world = after
        if reload:
            store.update(world.new_nodes(stored))
            world = stored = World.from_root(world.root, store.get)
        check(world, model)


def check(world: World, model: Model) -> None:
    rebuilt = World.empty().apply(
        StateDiff(
            {address: entry[0] for address, entry in model.items()}, {a: e[1] for a, e in model.items()}
        )
    )
    assert world.root == rebuilt.root
    for address in range(10):
        account, storage = model.get(address, (None, {}))
        assert world.account(address) == account
        assert [world.storage(address, slot) for slot in range(6)] == [
            storage.get(slot, 0) for slot in range(6)
        ]
        assert world.has_storage(address) == bool(storage)


def example() -> World:
    code = b"\x60\x00"
    diff = StateDiff(
        {0x42: Account(1, 10, keccak256(code)), 0x43: Account(0, 5, EMPTY_CODE_HASH)},
        {0x42: {1: 0x1234, 2**200: 7}},
        {keccak256(code): code},
    )
    return World.empty(keep_preimages=True).apply(diff)


def test_an_unchanged_world_is_itself() -> None:
    world = example()
    assert world.apply(StateDiff()) is world
    assert world.apply(StateDiff({0x43: Account(0, 5, EMPTY_CODE_HASH)})) is world
    assert world.apply(StateDiff(storage={0x42: {1: 0x1234}})) is world


def test_proofs_verify_against_the_root() -> None:
    world = example()
    proof = world.prove(0x42, [1, 3])
    accounts = Trie(world.root, {keccak256(raw): raw for raw in proof.proof}.get)
    leaf = accounts.get(keccak256((0x42).to_bytes(20, "big")))
    assert leaf is not None
    assert decode_account(leaf) == (proof.account, proof.storage_root)
    for slot in proof.slots:
        storage = Trie(proof.storage_root, {keccak256(raw): raw for raw in slot.proof}.get)
        assert (storage.get(keccak256(slot.slot.to_bytes(32, "big"))) is not None) == bool(slot.value)
    assert [slot.value for slot in proof.slots] == [0x1234, 0]


def test_absent_account_proves_its_absence() -> None:
    proof = example().prove(0x99, [1])
    assert proof.account == Account(0, 0, EMPTY_CODE_HASH)
    assert (proof.storage_root, proof.slots[0].proof) == (EMPTY_ROOT, ())
    assert proof.proof


def test_codes_come_from_the_lineage_or_the_source() -> None:
    world = example()
    code_hash = keccak256(b"\x60\x00")
    assert world.code(code_hash) == b"\x60\x00"
    assert world.code(EMPTY_CODE_HASH) == b""
    assert world.new_codes([code_hash, bytes(32)]) == {code_hash: b"\x60\x00"}
    loaded = World.from_root(
        world.root, dict(world.new_nodes(World.empty())).get, {code_hash: b"\x60\x00"}.get
    )
    assert loaded.code(code_hash) == b"\x60\x00"
    with pytest.raises(MissingCode):
        loaded.code(bytes(32))


def test_walk_names_the_addresses_it_knows() -> None:
    world = example()
    found = {entry.address: entry.account.balance for entry in world.accounts()}
    assert found == {0x42: 10, 0x43: 5}
    words = dict(world.storage_items(0x42))
    assert words[keccak256((1).to_bytes(32, "big"))] == 0x1234
    loaded = World.from_root(world.root, dict(world.new_nodes(World.empty())).get)
    assert [entry.address for entry in loaded.accounts()] == [None, None]


def test_partial_state_is_an_error_not_an_answer() -> None:
    with pytest.raises(MissingNode):
        World.from_root(b"\x01" * 32, {}.get).account(1)


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**256 - 1), st.binary(min_size=32, max_size=32))
def test_account_encoding(nonce: int, balance: int, root: bytes) -> None:
    account = Account(nonce, balance, EMPTY_CODE_HASH)
    encoded = encode_account(account, root)
    assert encoded == encode([int_to_bytes(nonce), int_to_bytes(balance), root, EMPTY_CODE_HASH])
    assert decode_account(encoded) == (account, root)


@pytest.mark.parametrize(
    "fields",
    [
        [],
        [b"", b"", bytes(32)],
        [b"", b"", bytes(32), bytes(31)],
        [b"", b"", bytes(31), bytes(32)],
        [b"", b"", bytes(32), bytes(32), b""],
        [b"", [], bytes(32), bytes(32)],
        [[], b"", bytes(32), bytes(32)],
        [b"\x01" * 9, b"", bytes(32), bytes(32)],
        [b"", b"\x01" * 33, bytes(32), bytes(32)],
        [b"\x01" * 60, b"", bytes(32), bytes(32)],
        [b"", bytes(32), bytes(32)],
    ],
)
def test_a_leaf_that_is_no_account(fields: list[bytes | list[bytes]]) -> None:
    with pytest.raises(InvalidNode):
        decode_account(encode(fields))
    with pytest.raises(InvalidNode):
        decode_account(encode(fields)[:-1])
