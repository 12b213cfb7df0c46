"""The undo log, the layers below a transaction, and what a finished transaction leaves."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from support.examples import examples

from flashctl.eth.keccak import EMPTY_CODE_HASH, keccak256
from flashctl.evm.state import EMPTY_ACCOUNT, Account, EmptyReader, JournaledState

RICH = Account(1, 1000, EMPTY_CODE_HASH)
ALICE, BOB, CAROL = 0xA11CE, 0xB0B, 0xCA401


class DictReader(EmptyReader):
    """A state in dictionaries that notes what is asked of it."""

    def __init__(self, accounts: dict[int, Account], slots: dict[tuple[int, int], int]) -> None:
        self.accounts = accounts
        self.slots = slots
        self.asked: list[Any] = []

    def account(self, address: int) -> Account | None:
        self.asked.append(address)
        return self.accounts.get(address)

    def storage(self, address: int, slot: int) -> int:
        self.asked.append((address, slot))
        return self.slots.get((address, slot), 0)

    def has_storage(self, address: int) -> bool:
        return any(value for (owner, _), value in self.slots.items() if owner == address)


def loaded() -> tuple[JournaledState, DictReader]:
    reader = DictReader({ALICE: RICH, BOB: EMPTY_ACCOUNT}, {(ALICE, 1): 11, (ALICE, 2): 22})
    return JournaledState(reader), reader


def write(state: JournaledState, address: int, slot: int, value: int) -> None:
    slots = state.slots_of(address)
    if slot not in slots:
        state.warm_slot(address, slot)
    state.write_slot(slots, slot, value)


def test_revert_takes_back_everything() -> None:
    state, _ = loaded()
    state.add_balance(ALICE, 5)
    start = state.snapshot()
    state.add_balance(ALICE, -500)
    state.set_code(CAROL, b"\x00")
    write(state, ALICE, 1, 99)
    state.write_transient(ALICE, 1, 7)
    state.mark(state.warm, CAROL)
    state.refund += 4800
    state.revert(start)
    assert state.get_account(ALICE).balance == 1005
    assert state.account(CAROL) is None
    assert state.storage(ALICE, 1) == 11
    assert 1 not in state.slots_of(ALICE), "the slot is cold again"
    assert state.transient[(ALICE, 1)] == 0
    assert CAROL not in state.warm
    assert state.refund == 0


def test_reader_is_asked_once_and_never_for_nothing() -> None:
    state, reader = loaded()
    state.list_slot(ALICE, 2)
    state.add_balance(CAROL, 0)
    assert reader.asked == []
    for _ in range(2):
        assert state.get_account(ALICE) == RICH
        assert state.storage(ALICE, 2) == 22
        state.finish_transaction()
    assert reader.asked == [ALICE, (ALICE, 2)]


def test_only_final_changes_are_in_the_diff() -> None:
    state, _ = loaded()
    write(state, ALICE, 1, 5)
    write(state, ALICE, 2, 5)
    state.finish_transaction()
    write(state, ALICE, 2, 22)
    state.add_balance(ALICE, 1)
    state.add_balance(ALICE, -1)
    state.finish_transaction()
    diff = state.changes()
    assert diff.storage == {ALICE: {1: 5}}
    assert diff.accounts == {}


def test_taken_changes_are_counted_from_the_last_taking() -> None:
    state, _ = loaded()
    state.add_balance(ALICE, 1)
    state.finish_transaction()
    assert state.take_changes().accounts == {ALICE: RICH._replace(balance=1001)}
    write(state, ALICE, 1, 0)
    state.finish_transaction()
    diff = state.take_changes()
    assert diff.accounts == {} and diff.storage == {ALICE: {1: 0}}
    assert not state.take_changes()


def test_touched_empty_account_goes_an_untouched_one_stays() -> None:
    state, _ = loaded()
    assert state.account(BOB) == EMPTY_ACCOUNT
    state.finish_transaction()
    assert state.changes().accounts == {}
    state.touch(BOB)
    state.touch(CAROL)
    state.finish_transaction()
    assert state.changes().accounts == {BOB: None}


def test_reverted_write_does_not_touch() -> None:
    state, _ = loaded()
    start = state.snapshot()
    state.add_balance(BOB, 5)
    state.revert(start)
    state.finish_transaction()
    assert state.account(BOB) == EMPTY_ACCOUNT


def test_destroyed_account_can_be_made_again_without_its_storage() -> None:
    state, _ = loaded()
    state.mark(state.destroyed, ALICE)
    state.finish_transaction()
    assert state.account(ALICE) is None
    assert not state.has_storage(ALICE)
    state.put_account(ALICE, RICH)
    assert state.storage(ALICE, 1) == 0
    write(state, ALICE, 3, 33)
    state.finish_transaction()
    diff = state.changes()
    assert diff.cleared == {ALICE}
    assert diff.storage == {ALICE: {3: 33}}


def test_contract_created_and_destroyed_in_one_transaction_leaves_nothing() -> None:
    state, _ = loaded()
    state.mark(state.created, CAROL)
    state.put_account(CAROL, RICH)
    write(state, CAROL, 1, 1)
    state.mark(state.destroyed, CAROL)
    state.finish_transaction()
    assert not state.changes()
    assert state.storage(CAROL, 1) == 0


def test_codes_in_the_diff_are_those_that_accounts_refer_to() -> None:
    state, _ = loaded()
    start = state.snapshot()
    state.set_code(CAROL, b"\x01")
    state.revert(start)
    state.set_code(CAROL, b"\x02")
    state.finish_transaction()
    assert state.changes().codes == {keccak256(b"\x02"): b"\x02"}
    assert state.code_of(CAROL) == b"\x02"


def test_fork_keeps_its_changes_to_itself() -> None:
    state, _ = loaded()
    write(state, ALICE, 1, 5)
    fork = state.fork()
    assert fork.storage(ALICE, 1) == 5, "the transaction in progress is visible"
    write(fork, ALICE, 1, 6)
    fork.add_balance(ALICE, 1)
    fork.finish_transaction()
    assert (fork.storage(ALICE, 1), state.storage(ALICE, 1)) == (6, 5)
    assert (fork.get_account(ALICE).balance, state.get_account(ALICE).balance) == (1001, 1000)
    assert fork.changes().storage == {ALICE: {1: 6}}


def test_storage_counts_as_a_collision_wherever_it_is() -> None:
    state, reader = loaded()
    assert state.has_storage(ALICE)
    reader.accounts[CAROL] = RICH
    assert not state.has_storage(CAROL)
    write(state, CAROL, 1, 1)
    assert state.has_storage(CAROL)
    state.finish_transaction()
    assert state.has_storage(CAROL)


ADDRESSES = st.sampled_from([ALICE, BOB, CAROL])
SLOTS = st.integers(0, 3)


class Journal(RuleBasedStateMachine):
    """The same operations on a JournaledState and on plain dictionaries that are copied at every snapshot."""

    def __init__(self) -> None:
        super().__init__()
        self.state, _ = loaded()
        self.balances = {ALICE: 1000, BOB: 0, CAROL: 0}
        self.words = {(ALICE, 1): 11, (ALICE, 2): 22}
        self.saved: list[Any] = []

    @rule(address=ADDRESSES, amount=st.integers(0, 5))
    def credit(self, address: int, amount: int) -> None:
        self.state.add_balance(address, amount)
        self.balances[address] += amount

    @rule(address=ADDRESSES, slot=SLOTS, value=st.integers(0, 3))
    def store(self, address: int, slot: int, value: int) -> None:
        write(self.state, address, slot, value)
        self.words[(address, slot)] = value

    @rule()
    def save(self) -> None:
        self.saved.append((self.state.snapshot(), copy.deepcopy((self.balances, self.words))))

    @rule()
    def revert(self) -> None:
        if self.saved:
            snapshot, (self.balances, self.words) = self.saved.pop()
            self.state.revert(snapshot)

    @rule()
    def finish(self) -> None:
        self.saved.clear()
        self.state.finish_transaction()

    @invariant()
    def reads_agree(self) -> None:
        for address, balance in self.balances.items():
            assert self.state.get_account(address).balance == balance
            for slot in range(4):
                assert self.state.storage(address, slot) == self.words.get((address, slot), 0)


Journal.TestCase.settings = settings(max_examples=examples(60), stateful_step_count=30)
TestJournalAgainstCopies = Journal.TestCase
