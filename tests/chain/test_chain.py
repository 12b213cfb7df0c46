"""The chain as a keeper of blocks: insertion, heads, reorganisations, restarts and crashes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from support.chain_lab import COUNTER, GENESIS, LabBlock, grow, next_block, transfer
from support.examples import examples

from flashctl.chain.chain import Chain, HeadChange, InvalidForkchoice, UnknownBlock
from flashctl.chain.genesis import build_genesis, devnet_genesis
from flashctl.chain.store import DATABASE_NAME, Store, StoreError
from flashctl.core.service import defects
from flashctl.eth.keccak import keccak256
from flashctl.eth.receipts import Log
from flashctl.evm.state import Account


def counted(chain: Chain, block_hash: bytes) -> int:
    account = chain.world(block_hash).account(COUNTER)
    return 0 if account is None else account.balance


def test_a_new_chain_is_its_genesis() -> None:
    chain = Chain.open(GENESIS)
    assert chain.head == chain.safe == chain.finalized == GENESIS.block.header
    assert chain.header_by_number(0) == GENESIS.block.header
    assert chain.header_by_number(1) is None
    assert chain.world(chain.head.hash).root == GENESIS.world.root


def test_inserted_blocks_are_known_but_not_canonical_until_forkchoice_says_so() -> None:
    chain = Chain.open(GENESIS)
    blocks = grow(chain, 3)
    assert chain.head.number == 0
    assert chain.header_by_number(1) is None
    assert chain.header(blocks[2].hash) == blocks[2].block.header
    change = chain.set_head(blocks[2].hash, safe=blocks[1].hash, finalized=blocks[0].hash)
    assert [block.number for block in change.new] == [1, 2, 3]
    assert not change.old
    assert (chain.head.number, chain.safe.number, chain.finalized.number) == (3, 2, 1)
    assert [chain.canonical_hash(number) for number in (1, 2, 3)] == [block.hash for block in blocks]


def test_reorganisation_names_what_left_and_what_came() -> None:
    chain = Chain.open(GENESIS)
    first = grow(chain, 4)
    chain.set_head(first[3].hash)
    second = grow(chain, 2, parent=first[1].block.header, salt=5)
    change = chain.set_head(second[1].hash)
    assert [block.hash for block in change.old] == [first[3].hash, first[2].hash]
    assert [block.hash for block in change.new] == [second[0].hash, second[1].hash]
    assert chain.canonical_hash(3) == second[0].hash
    assert chain.canonical_hash(5) is None
    # The abandoned branch keeps its state, and can come back.
    assert counted(chain, first[3].hash) == 4
    assert [block.number for block in chain.set_head(first[3].hash).new] == [3, 4]


def test_head_can_go_back_to_an_ancestor() -> None:
    chain = Chain.open(GENESIS)
    blocks = grow(chain, 3)
    chain.set_head(blocks[2].hash, safe=blocks[1].hash)
    change = chain.set_head(blocks[0].hash)
    assert [block.number for block in change.old] == [3, 2]
    assert not change.new
    assert chain.canonical_hash(2) is None
    assert chain.safe == chain.genesis


def test_forkchoice_refuses_what_it_does_not_know_or_what_does_not_fit() -> None:
    chain = Chain.open(GENESIS)
    first, second = grow(chain, 2), grow(chain, 2, salt=1)
    with pytest.raises(UnknownBlock, match="unknown head 0x1111"):
        chain.set_head(b"\x11" * 32)
    with pytest.raises(InvalidForkchoice, match="safe block .* is not an ancestor of head"):
        chain.set_head(first[1].hash, safe=second[0].hash)
    with pytest.raises(UnknownBlock, match="unknown finalized block"):
        chain.set_head(first[1].hash, finalized=b"\x22" * 32)
    assert chain.head.number == 0


def test_a_block_upon_nothing_is_refused() -> None:
    chain, other = Chain.open(GENESIS), Chain.open(GENESIS)
    blocks = grow(other, 2)
    with pytest.raises(UnknownBlock, match="unknown parent"):
        chain.insert(blocks[1])


def test_inserting_twice_changes_nothing() -> None:
    chain = Chain.open(GENESIS)
    block = next_block(chain, chain.head, [transfer(0, 0)])
    assert chain.insert(block) is chain.insert(block)


def test_transactions_are_found_on_the_canonical_branch_only() -> None:
    chain = Chain.open(GENESIS)
    raw = transfer(0, 0)
    with_it = next_block(chain, chain.head, [transfer(1, 0), raw])
    without = next_block(chain, chain.head, salt=1)
    for block in (with_it, without):
        chain.insert(block)
    assert chain.transaction(keccak256(raw)) is None
    chain.set_head(with_it.hash)
    found = chain.transaction(keccak256(raw))
    assert found is not None
    assert (found[0].hash, found[1]) == (with_it.hash, 1)
    chain.set_head(without.hash)
    assert chain.transaction(keccak256(raw)) is None


def test_the_same_transaction_in_two_branches_is_found_in_the_canonical_one() -> None:
    chain = Chain.open(GENESIS)
    raw = transfer(0, 0)
    blocks = [next_block(chain, chain.head, [raw], salt=salt) for salt in range(2)]
    for block in blocks:
        chain.insert(block)
        chain.set_head(block.hash)
        found = chain.transaction(keccak256(raw))
        assert found is not None
        assert found[0].hash == block.hash


def test_listeners_hear_changes_until_they_leave() -> None:
    chain = Chain.open(GENESIS)
    heard: list[HeadChange] = []
    leave = chain.subscribe(heard.append)
    blocks = grow(chain, 2)
    chain.set_head(blocks[0].hash)
    chain.set_head(blocks[0].hash)
    leave()
    leave()
    chain.set_head(blocks[1].hash)
    assert [change.head.number for change in heard] == [1]


def test_a_listener_that_fails_costs_the_others_nothing() -> None:
    chain = Chain.open(GENESIS)
    block = grow(chain, 1)[0]
    heard: list[bytes] = []

    def failing(change: HeadChange) -> None:
        raise IndexError("nobody foresaw this")

    chain.subscribe(failing)
    chain.subscribe(lambda change: heard.append(change.head.hash))
    defects.forget()
    assert chain.set_head(block.hash).head.hash == block.hash
    assert heard == [block.hash] and chain.head.hash == block.hash
    assert defects.counts() == {"chain.listener": 1}
    defects.forget()


def test_ancestor_hashes_follow_the_branch_and_end_after_256() -> None:
    chain = Chain.open(GENESIS)
    main = grow(chain, 300)
    chain.set_head(main[-1].hash)
    side = grow(chain, 1, parent=main[297].block.header, salt=9)
    look_up = chain.ancestor_hash(side[0].hash)
    assert look_up(299) == side[0].hash
    assert look_up(298) == main[297].hash
    assert look_up(44) == main[43].hash
    assert look_up(43) == bytes(32)
    assert look_up(300) == bytes(32)
    assert chain.ancestor_hash(main[4].hash)(0) == GENESIS.block.hash


def test_a_chain_comes_back_as_it_was(tmp_path: Path) -> None:
    chain = Chain.open(GENESIS, tmp_path)
    raw = transfer(0, 0)
    log = Log(b"\x01" * 20, (b"\x02" * 32,), b"data")
    code = b"\x60\x00"
    first = next_block(chain, chain.head, [raw], logs=[[log]], codes={keccak256(code): code})
    chain.insert(first)
    blocks = [first, *grow(chain, 20, parent=first.block.header)]
    chain.set_head(blocks[-1].hash, safe=blocks[5].hash, finalized=blocks[3].hash)
    side = grow(chain, 2, parent=blocks[10].block.header, salt=3)
    chain.close()

    again = Chain.open(GENESIS, tmp_path)
    assert (again.head.number, again.safe.number, again.finalized.number) == (21, 6, 4)
    assert again.head.hash == blocks[-1].hash
    assert counted(again, again.head.hash) == 21
    assert counted(again, side[1].hash) == 13
    kept = again.block(first.hash)
    assert kept is not None
    assert kept.receipts == first.receipts
    assert kept.block == first.block
    assert again.transaction(keccak256(raw)) == (kept, 0)
    assert again.world(first.hash).code(keccak256(code)) == code
    assert again.blooms(0, 100) == [(first.hash, first.block.header.logs_bloom)]
    # It goes on from there.
    more = grow(again, 3)
    again.set_head(more[-1].hash)
    assert counted(again, again.head.hash) == 24
    again.close()


def test_a_directory_of_another_genesis_is_refused(tmp_path: Path) -> None:
    Chain.open(GENESIS, tmp_path).close()
    with pytest.raises(StoreError, match="chain of genesis 0x"):
        Chain.open(build_genesis(devnet_genesis(timestamp=1)), tmp_path)
    Chain.open(GENESIS, tmp_path).close()


def test_a_directory_in_use_is_refused(tmp_path: Path) -> None:
    chain = Chain.open(GENESIS, tmp_path)
    with pytest.raises(StoreError, match="in use by another process"):
        Chain.open(GENESIS, tmp_path)
    chain.close()


def test_what_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / DATABASE_NAME).write_bytes(b"not a database, but long enough to be read as one" * 100)
    with pytest.raises(StoreError, match="not a database"):
        Chain.open(GENESIS, tmp_path)
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(StoreError):
        Chain.open(GENESIS, file / "below")


def test_another_layout_is_refused(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    store._connection.execute("PRAGMA user_version = 99")
    store.close()
    with pytest.raises(StoreError, match="layout 99"):
        Store.open(tmp_path)


def test_a_transaction_that_fails_leaves_nothing(tmp_path: Path) -> None:
    store = Store.open(tmp_path)

    class Interrupted(Exception):
        pass

    with pytest.raises(Interrupted), store.transaction():
        store.set_meta("key", b"value")
        raise Interrupted
    assert store.meta("key") is None
    store.close()


@pytest.mark.parametrize("kept", [True, False])
def test_who_reads_does_not_wait_for_a_block_being_written(tmp_path: Path, kept: bool) -> None:
    """The event loop reads: while 1,500 transfers were written it once stood still for 200 ms."""
    store = Store.open(tmp_path if kept else None)
    node = b"\x11" * 32
    with store.transaction():
        store.add_state(1, [(node, b"rlp")], [])
    read = threading.Event()

    def reading() -> None:
        assert store.node(node) == b"rlp"
        read.set()

    with store.transaction():
        store.add_state(2, [(index.to_bytes(32, "big"), b"rlp") for index in range(200)], [])
        thread = threading.Thread(target=reading)
        thread.start()
        assert read.wait(30)
    thread.join()
    store.close()


def test_a_full_disk_costs_the_block_that_did_not_fit_and_nothing_else(tmp_path: Path) -> None:
    chain = Chain.open(GENESIS, tmp_path)
    for block in grow(chain, 3):
        chain.set_head(block.hash)
    pages = chain._store._connection.execute("PRAGMA page_count").fetchone()[0]
    chain._store._connection.execute(f"PRAGMA max_page_count = {pages + 4}")
    code = bytes(60_000)
    too_large = next_block(chain, chain.head, codes={keccak256(code): code})
    with pytest.raises(StoreError, match="full"):
        chain.insert(too_large)
    assert chain.header(too_large.hash) is None
    assert counted(chain, chain.head.hash) == 3
    # With room again, the same chain goes on.
    chain._store._connection.execute("PRAGMA max_page_count = 1000000")
    chain.insert(too_large)
    chain.set_head(too_large.hash)
    chain.close()
    again = Chain.open(GENESIS, tmp_path)
    assert again.head.hash == too_large.hash
    assert again.world(again.head.hash).code(keccak256(code)) == code
    again.close()


CRASH = """
    import sys
    from pathlib import Path
    from support.chain_lab import GENESIS, next_block
    from flashctl.chain.chain import Chain

    chain = Chain.open(GENESIS, Path(sys.argv[1]))
    while True:
        block = next_block(chain, chain.head)
        chain.insert(block)
        chain.set_head(block.hash)
        print(chain.head.number, flush=True)
"""


@pytest.mark.parametrize("stop_after", [1, 7, 40])
def test_a_killed_process_loses_no_announced_block(tmp_path: Path, stop_after: int) -> None:
    tests = Path(__file__).resolve().parents[1]
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(CRASH), str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(tests)},
    )
    assert child.stdout is not None
    announced = 0
    for line in child.stdout:
        announced = int(line)
        if announced >= stop_after:
            break
    child.send_signal(signal.SIGKILL)
    announced = max([announced, *(int(line) for line in child.stdout.read().split())])
    child.wait()
    child.stdout.close()

    chain = Chain.open(GENESIS, tmp_path)
    # One more block may have been committed between its commit and its line.
    assert announced <= chain.head.number <= announced + 1
    header = chain.head
    while header.number:
        assert counted(chain, header.hash) == header.number
        assert chain.canonical_hash(header.number) == header.hash
        parent = chain.header(header.parent_hash)
        assert parent is not None
        header = parent
    chain.close()


def test_readers_and_a_writer_in_threads() -> None:
    chain = Chain.open(GENESIS)
    failures: list[BaseException] = []
    done = threading.Event()

    def read() -> None:
        try:
            while not done.is_set():
                head = chain.head
                assert counted(chain, head.hash) == head.number
                block = chain.block(head.hash)
                assert block is not None
                assert chain.header(head.hash) == head
        except BaseException as error:
            failures.append(error)

    readers = [threading.Thread(target=read) for _ in range(4)]
    for reader in readers:
        reader.start()
    for _ in range(150):
        block = next_block(chain, chain.head)
        chain.insert(block)
        chain.set_head(block.hash)
    done.set()
    for reader in readers:
        reader.join()
    assert failures == []
    assert chain.head.number == 150


def test_old_worlds_open_from_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flashctl.chain.chain.WORLD_RENEWAL", 8)
    chain = Chain.open(GENESIS)
    blocks = grow(chain, 100)
    for number, block in enumerate(blocks, 1):
        assert counted(chain, block.hash) == number
        assert chain.world(block.hash).root == block.block.header.state_root
    account = chain.world(blocks[-1].hash).account(int.from_bytes(b"\x42" + bytes(18) + b"\x15", "big"))
    assert isinstance(account, Account)


class ChainMachine(RuleBasedStateMachine):
    """Random trees of blocks, heads and restarts against a model of parent links."""

    @initialize()
    def start(self) -> None:
        self.chain = Chain.open(GENESIS)
        self.blocks: list[LabBlock] = []
        self.salt = 0

    @rule(seed=st.integers(0, 1000), count=st.integers(1, 4))
    def extend(self, seed: int, count: int) -> None:
        self.salt += 1
        parent = self.blocks[seed % len(self.blocks)].block.header if self.blocks else self.chain.genesis
        self.blocks += grow(self.chain, count, parent=parent, salt=self.salt)

    @rule(seed=st.integers(0, 1000))
    def choose(self, seed: int) -> None:
        if self.blocks:
            before = self.chain.head
            target = self.blocks[seed % len(self.blocks)]
            change = self.chain.set_head(target.hash)
            if change.new:
                assert change.new[-1].hash == target.hash
            if change.old:
                assert change.old[0].hash == before.hash

    @invariant()
    def canonical_is_the_branch_of_the_head(self) -> None:
        header = self.chain.head
        assert self.chain.canonical_hash(header.number + 1) is None
        while header.number:
            assert self.chain.canonical_hash(header.number) == header.hash
            parent = self.chain.header(header.parent_hash)
            assert parent is not None
            header = parent

    def teardown(self) -> None:
        self.chain.close()


TestChainMachine = ChainMachine.TestCase
TestChainMachine.settings = settings(max_examples=examples(25), stateful_step_count=15)
