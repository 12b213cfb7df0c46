"""Old states are forgotten, and nothing that a kept one needs goes with them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from support.chain_lab import GENESIS, grow, next_block
from support.examples import examples

from flashctl.chain import pruning
from flashctl.chain.chain import Chain, StatePruned
from flashctl.chain.store import DATABASE_NAME, Store
from flashctl.eth.blocks import Header
from flashctl.eth.keccak import EMPTY_CODE_HASH
from flashctl.eth.trie import EMPTY_ROOT
from flashctl.evm.state import Account, StateDiff
from flashctl.evm.world import World

State = dict[int, tuple[int, dict[int, int]]]
"""Balance and storage by address."""

KEPT = 3
ACCOUNTS = range(0xA0, 0xA6)


def cold(chain: Chain, header: Header) -> World:
    """The state as a process sees it that has nothing in memory."""
    return World.from_root(header.state_root, chain._store.node, chain._store.code)


def finish_round(chain: Chain) -> None:
    chain.prune(0.0)
    while chain._pruner._round is not None:
        chain.prune(0.0)


def stored_nodes(chain: Chain) -> dict[bytes, int]:
    return dict(chain._store._all("SELECT hash, written FROM nodes"))


def reachable(chain: Chain, root: bytes) -> set[bytes]:
    found, waiting = set(), [(root, True)]
    while waiting:
        node_hash, is_account = waiting.pop()
        found.add(node_hash)
        raw = chain._store.node(node_hash)
        assert raw is not None
        waiting += pruning._below(raw, is_account=is_account)
    return found


def test_a_node_never_becomes_older() -> None:
    """A block that is imported once more brings its nodes again, some of which younger blocks need."""
    store, node = Store.open(None), b"\x11" * 32
    with store.transaction():
        store.add_state(5, [(node, b"rlp")], [])
        store.add_state(3, [(node, b"rlp")], [])
    assert store.sweep_nodes(b"", 4, lambda _: False, 10) == (None, 0)
    assert store.node(node) == b"rlp"
    assert store.sweep_nodes(b"", 5, lambda _: False, 10) == (None, 1)
    store.close()


def small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruning, "MARKED_AT_ONCE", 1)
    monkeypatch.setattr(pruning, "SWEPT_AT_ONCE", 3)


def test_old_states_go_and_the_others_stay(tmp_path: Path) -> None:
    chain = Chain.open(GENESIS, tmp_path, keep_states=10)
    blocks = grow(chain, 19)
    chain.set_head(blocks[-1].hash)
    finish_round(chain)
    assert chain.states_from == 0, "9 left over are not worth a walk"
    blocks += grow(chain, 1, parent=blocks[-1].block.header)
    chain.set_head(blocks[-1].hash)
    before = stored_nodes(chain)
    finish_round(chain)
    assert chain.states_from == 10
    after = stored_nodes(chain)
    assert len(before) - len(after) >= 2 * 9, "a root and a leaf at least of each block"
    assert after.keys() <= before.keys()
    oldest = blocks[9].block.header
    left_over = {node for node, written in after.items() if written <= oldest.number + 1}
    assert left_over == reachable(chain, oldest.state_root)
    for block in blocks[:9]:
        with pytest.raises(StatePruned, match="historical state 0x.* is not available"):
            chain.world(block.hash)
        assert chain.block(block.hash) is not None, "blocks and receipts stay"
    for block in blocks[9:]:
        assert len(list(cold(chain, block.block.header).accounts())) > 10
    chain.close()


def test_what_was_forgotten_is_known_after_a_restart_in_the_middle_of_a_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_slices(monkeypatch)
    chain = Chain.open(GENESIS, tmp_path, keep_states=10)
    blocks = grow(chain, 25)
    chain.set_head(blocks[-1].hash)
    full = len(stored_nodes(chain))
    while len(stored_nodes(chain)) == full:
        chain.prune(0.0)
    chain.close()
    again = Chain.open(GENESIS, tmp_path, keep_states=10)
    assert again.states_from == 15
    with pytest.raises(StatePruned):
        again.world(blocks[3].hash)
    for block in blocks[14:]:
        assert len(list(cold(again, block.block.header).accounts())) > 10
    more = grow(again, 10, parent=again.head)
    again.set_head(more[-1].hash)
    finish_round(again)
    assert again.states_from == 25
    oldest = blocks[24].block.header
    row = again._store.row_of(oldest.hash)
    assert row is not None
    left_over = {node for node, written in stored_nodes(again).items() if written <= row}
    assert left_over == reachable(again, oldest.state_root)
    again.close()


def test_nothing_is_forgotten_unless_asked(tmp_path: Path) -> None:
    chain = Chain.open(GENESIS, tmp_path)
    blocks = grow(chain, 50)
    chain.set_head(blocks[-1].hash)
    chain.prune(10.0)
    assert chain.states_from == 0
    assert chain.world(blocks[0].hash).root == blocks[0].block.header.state_root
    chain.close()


def test_no_reorganisation_to_where_no_state_is_kept() -> None:
    chain = Chain.open(GENESIS, keep_states=5)
    blocks = grow(chain, 10)
    aside = grow(chain, 12, parent=blocks[2].block.header, salt=1)
    chain.set_head(blocks[-1].hash)
    finish_round(chain)
    for target in (aside[-1], blocks[2]):
        with pytest.raises(StatePruned):
            chain.set_head(target.hash)
    with pytest.raises(StatePruned):
        chain.insert(next_block_upon(chain, blocks[2].block.header))
    near = grow(chain, 3, parent=blocks[7].block.header, salt=2)
    assert len(chain.set_head(near[-1].hash).old) == 2


def next_block_upon(chain: Chain, parent: Header) -> object:
    return next_block(chain, parent, salt=7)


def test_a_database_of_the_first_layout_is_brought_up_to_date(tmp_path: Path) -> None:
    chain = Chain.open(GENESIS, tmp_path)
    blocks = grow(chain, 25)
    chain.set_head(blocks[-1].hash)
    chain.close()
    import sqlite3

    with sqlite3.connect(tmp_path / DATABASE_NAME) as old:
        old.executescript("ALTER TABLE nodes DROP COLUMN written; PRAGMA user_version = 1;")
    old.close()
    again = Chain.open(GENESIS, tmp_path, keep_states=10)
    before = len(stored_nodes(again))
    finish_round(again)
    assert (again.states_from, len(stored_nodes(again))) == (15, before), "whose they are is not known"
    for block in blocks[14:]:
        assert len(list(cold(again, block.block.header).accounts())) > 10
    more = grow(again, 15, parent=again.head)
    again.set_head(more[-1].hash)
    finish_round(again)
    assert again.states_from == 30
    assert len(stored_nodes(again)) < before
    for block in more[4:]:
        assert len(list(cold(again, block.block.header).accounts())) > 10
    again.close()
    Store.open(tmp_path).close()


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        ("DELETE FROM nodes WHERE hash = ?", "missing trie node"),
        ("UPDATE nodes SET rlp = x'c3010203' WHERE hash = ?", "invalid trie node: a list of 3"),
        ("UPDATE nodes SET rlp = x'01' WHERE hash = ?", ""),
    ],
)
def test_a_damaged_state_stops_the_round_and_costs_nothing(
    damage: str, complaint: str, caplog: pytest.LogCaptureFixture
) -> None:
    chain = Chain.open(GENESIS, keep_states=5)
    blocks = grow(chain, 10)
    chain.set_head(blocks[-1].hash)
    chain._store._connection.execute(damage, (blocks[4].block.header.state_root,))
    before = stored_nodes(chain)
    finish_round(chain)
    assert stored_nodes(chain) == before
    assert f"pruning aborted: {complaint}" in caplog.text


@st.composite
def diffs(draw: st.DrawFn) -> StateDiff:
    """Few accounts, slots and values, so that what was there before comes back, also elsewhere."""
    diff = StateDiff()
    for address in draw(st.sets(st.sampled_from(ACCOUNTS), min_size=1, max_size=3)):
        if draw(st.integers(0, 5)) == 0:
            diff.accounts[address] = None
            diff.cleared.add(address)
            continue
        diff.accounts[address] = Account(0, draw(st.integers(1, 3)), EMPTY_CODE_HASH)
        diff.storage[address] = draw(st.dictionaries(st.integers(1, 20), st.integers(0, 2), max_size=12))
    return diff


def applied(state: State, diff: StateDiff) -> State:
    after = {address: (balance, dict(slots)) for address, (balance, slots) in state.items()}
    for address in diff.cleared:
        after.pop(address, None)
    for address, account in diff.accounts.items():
        if account is None:
            after.pop(address, None)
            continue
        slots = after.get(address, (0, {}))[1] | diff.storage.get(address, {})
        after[address] = account.balance, {slot: value for slot, value in slots.items() if value}
    return after


class PruningMachine(RuleBasedStateMachine):
    """Blocks, forks and reorganisations between slices of rounds; every kept state is read back whole."""

    @initialize()
    def start(self) -> None:
        self.patch = pytest.MonkeyPatch()
        small_slices(self.patch)
        self.chain = Chain.open(GENESIS, keep_states=KEPT)
        self.states: dict[bytes, State] = {GENESIS.block.header.hash: {}}
        self.salt = 0

    def branch(self, header: Header) -> Iterator[Header]:
        """From a block down to the oldest that is kept."""
        at: Header | None = header
        while at is not None and at.number >= self.chain.states_from:
            yield at
            at = self.chain.header(at.parent_hash)

    def is_kept(self, header: Header) -> bool:
        *_, oldest = self.branch(header)
        return oldest.number == self.chain.states_from and self.chain.is_canonical(oldest)

    @rule(data=st.data(), back=st.integers(0, KEPT - 1), changes=st.lists(diffs(), min_size=1, max_size=4))
    def extend(self, data: st.DataObject, back: int, changes: list[StateDiff]) -> None:
        parent = list(self.branch(self.chain.head))[: back + 1][-1]
        for diff in changes:
            self.salt += 1
            block = next_block(self.chain, parent, salt=self.salt, changes=diff)
            header = block.block.header
            if header.hash not in self.states:
                self.states[header.hash] = applied(self.states[parent.hash], diff)
            self.chain.insert(block)
            parent = header
        if data.draw(st.booleans()):
            self.chain.set_head(parent.hash)

    @rule(steps=st.integers(1, 60))
    def prune(self, steps: int) -> None:
        for _ in range(steps):
            self.chain.prune(0.0)

    @precondition(lambda self: self.chain.head.number >= 2 * KEPT)
    @rule()
    def finish(self) -> None:
        finish_round(self.chain)

    @invariant()
    def kept_states_are_whole(self) -> None:
        for block_hash, expected in self.states.items():
            header = self.chain.header(block_hash)
            assert header is not None
            if header.number < self.chain.states_from or not self.is_kept(header):
                continue
            world = cold(self.chain, header)
            for address in ACCOUNTS:
                account = world.account(address)
                found = None if account is None else account.balance
                assert found == (expected[address][0] if address in expected else None)
                slots = expected[address][1] if address in expected else {}
                assert {slot: world.storage(address, slot) for slot in slots} == slots
                assert len(list(world.storage_items(address))) == len(slots)
                assert world.has_storage(address) == bool(slots), EMPTY_ROOT

    def teardown(self) -> None:
        if hasattr(self, "chain"):
            self.chain.close()
            self.patch.undo()


TestPruningMachine = PruningMachine.TestCase
TestPruningMachine.settings = settings(max_examples=examples(25), stateful_step_count=25)
