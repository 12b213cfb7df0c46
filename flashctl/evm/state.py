"""The state that transactions change: accounts, storage and code behind one undo log.

Three layers answer a read. What the running transaction has touched (`slots_of`), what earlier transactions
of this state left behind, and the reader below, which is asked at most once for anything:

    slots of the transaction   value now; being present means warm (EIP-2929)
    storage kept here          value when the transaction began, which is EIP-2200's "original value"
    StateReader                value before everything: a World, a database, a JournaledState

One dictionary hit therefore answers an SLOAD, its warmth and, one layer down, its original value. Every
write goes through the undo log as (container, key, value before), so a revert is a loop over its tail, and
nothing is copied at a call. Addresses and words are ints in the whole of `evm`: they come from the stack
and go back to it.

Nothing is read that the protocol does not read: a key of an access list is warm without having been loaded,
and a zero credit loads no account. Executing on a witness, which holds only what was touched, depends on
it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

from flashctl.eth.keccak import EMPTY_CODE_HASH, keccak256

__all__ = [
    "EMPTY_ACCOUNT",
    "NO_CHANGES",
    "Account",
    "EmptyReader",
    "JournaledState",
    "LogEntry",
    "Snapshot",
    "StateDiff",
    "StateReader",
    "make_account",
]


class Account(NamedTuple):
    """An account as the state trie holds it, without its storage root."""

    nonce: int
    balance: int
    """In wei."""
    code_hash: bytes
    """Keccak-256 of the code; `EMPTY_CODE_HASH` for an account without any."""


make_account: Final[Callable[[tuple[int, int, bytes]], Account]] = partial(tuple.__new__, Account)
"""An account of a tuple, in 0.15 us; a call of the class, which is Python underneath, takes 0.35."""

EMPTY_ACCOUNT: Final = Account(0, 0, EMPTY_CODE_HASH)
"""An account that EIP-161 calls empty: no nonce, no balance, no code."""

_ABSENT: Final = Account(0, 0, EMPTY_CODE_HASH)
"""Stands for an address that has no account. Equal to `EMPTY_ACCOUNT`, distinguished by identity: an account
that exists and is empty is deleted when touched (EIP-161), one that does not exist stays as it is."""

_MISSING: Final = object()
"""In the undo log: the key was not there before."""


class StateReader(Protocol):
    """Where a state comes from. Absent things are None, zero or empty, never an error."""

    def account(self, address: int) -> Account | None:
        """The account, or None if there is none."""
        ...

    def storage(self, address: int, slot: int) -> int:
        """A storage word; zero if never written."""
        ...

    def code(self, code_hash: bytes) -> bytes:
        """The code with this hash, which an account of this state refers to."""
        ...

    def has_storage(self, address: int) -> bool:
        """Whether any storage word is set: a contract cannot be created there (EIP-7610)."""
        ...


class EmptyReader:
    """The state before genesis."""

    __slots__ = ()

    def account(self, address: int) -> Account | None:
        return None

    def storage(self, address: int, slot: int) -> int:
        return 0

    def code(self, code_hash: bytes) -> bytes:
        return b""

    def has_storage(self, address: int) -> bool:
        return False


class LogEntry(NamedTuple):
    """One event a contract emitted."""

    address: int
    topics: tuple[int, ...]
    data: bytes


Snapshot: TypeAlias = tuple[int, int, int]
"""A point of a transaction to go back to: length of the undo log, number of logs, refund. A bare tuple,
because every call takes one."""


@dataclass(frozen=True, slots=True)
class StateDiff:
    """What changed between two states; final values only."""

    accounts: dict[int, Account | None] = field(default_factory=dict)
    """None: the account is gone, and its storage with it."""
    storage: dict[int, dict[int, int]] = field(default_factory=dict)
    """Changed words by address and slot; zero deletes the word."""
    codes: dict[bytes, bytes] = field(default_factory=dict)
    """Code by hash, for every changed account whose code is new."""
    cleared: set[int] = field(default_factory=set)
    """Accounts whose old storage is void before `storage` applies."""

    def __bool__(self) -> bool:
        return bool(self.accounts or self.storage or self.cleared)


NO_CHANGES: Final = StateDiff()


class JournaledState:
    """A reader with changes on top of it, one transaction at a time.

    Between `begin_transaction` and `finish_transaction` everything can be taken back to a `snapshot`. It is
    itself a `StateReader` of its present contents, so states stack (`fork`).
    """

    __slots__ = (
        "_before_accounts",
        "_before_storage",
        "_before_transaction",
        "_cleared",
        "_codes",
        "_newly_cleared",
        "_reader",
        "_storage",
        "accounts",
        "created",
        "destroyed",
        "listed_slots",
        "logs",
        "refund",
        "touched",
        "transaction_slots",
        "transient",
        "undo",
        "warm",
    )

    def __init__(self, reader: StateReader) -> None:
        self._reader = reader
        self.accounts: dict[int, Account] = {}
        """Every account that was read, in its current state."""
        self._storage: dict[int, dict[int, int]] = {}
        self._cleared: set[int] = set()
        self._newly_cleared: set[int] = set()
        self._codes: dict[bytes, bytes] = {}
        self._before_accounts: dict[int, Account] = {}
        self._before_storage: dict[int, dict[int, int]] = {}
        self._reset()

    # -- one transaction ---------------------------------------------------------------------------

    def begin_transaction(self) -> None:
        """Forget what is per transaction: warmth, transient storage, logs, refund, the undo log."""
        happened = self.undo or self.warm or self.transaction_slots or self.listed_slots
        if not (happened or self._before_transaction or self.logs):
            return  # nothing has happened since the last time, which `finish_transaction` was
        self._reset()

    def _reset(self) -> None:
        self.undo: list[tuple[dict[Any, Any], Any, Any]] = []
        self._before_transaction: dict[int, Account] = {}
        self.transaction_slots: dict[int, dict[int, int]] = {}
        self.listed_slots: dict[int, set[int]] = {}
        self.transient: dict[tuple[int, int], int] = {}
        self.warm: dict[int, bool] = {}
        self.created: dict[int, bool] = {}
        self.destroyed: dict[int, bool] = {}
        self.touched: dict[int, bool] = {}
        self.logs: list[LogEntry] = []
        self.refund = 0

    def snapshot(self) -> Snapshot:
        """The present point of the transaction."""
        return len(self.undo), len(self.logs), self.refund

    def revert(self, snapshot: Snapshot) -> None:
        """Take back everything since `snapshot`, warmth included."""
        undo = self.undo
        length, log_count, self.refund = snapshot
        while len(undo) > length:
            container, key, value = undo.pop()
            if value is _MISSING:
                del container[key]
            else:
                container[key] = value
        del self.logs[log_count:]

    def finish_transaction(self) -> None:
        """Make the transaction's changes part of this state: self-destructed accounts go, and touched empty
        ones.

        Call it after fees are paid: a beneficiary that destroyed itself loses them.
        """
        for address in self.destroyed:
            self._destroy(address)
        for address in self.touched:
            if self.get_account(address) == EMPTY_ACCOUNT:
                self._destroy(address)
        accounts, before = self.accounts, self._before_accounts
        for address, old in self._before_transaction.items():
            new = accounts[address]
            if new is not old and new == EMPTY_ACCOUNT:
                accounts[address] = _ABSENT
            before.setdefault(address, old)
        for address, slots in self.transaction_slots.items():
            if slots:
                self._keep_slots(address, slots)
        self._reset()

    def _destroy(self, address: int) -> None:
        self.put_account(address, _ABSENT)
        self.transaction_slots.pop(address, None)
        if address not in self.created:
            self._clear(address)

    def _clear(self, address: int) -> None:
        self._storage[address] = {}
        self._cleared.add(address)
        self._newly_cleared.add(address)
        self._before_storage.pop(address, None)

    def _keep_slots(self, address: int, slots: dict[int, int]) -> None:
        kept = self._storage.get(address)
        if kept is None:
            kept = self._storage[address] = {}
        before = self._before_storage.get(address)
        for slot, value in slots.items():
            old = kept.get(slot, 0)
            if old != value:
                if before is None:
                    before = self._before_storage[address] = {}
                before.setdefault(slot, old)
                kept[slot] = value

    # -- accounts ----------------------------------------------------------------------------------

    def get_account(self, address: int) -> Account:
        """The account as it is now; one equal to `EMPTY_ACCOUNT` if there is none."""
        account = self.accounts.get(address)
        if account is None:
            account = self.accounts[address] = self._reader.account(address) or _ABSENT
        return account

    def put_account(self, address: int, account: Account) -> None:
        """Replace an account. Being written counts as touched (EIP-161)."""
        accounts = self.accounts
        old = accounts.get(address)
        if old is None:
            old = self.get_account(address)
        self.undo.append((accounts, address, old))
        self._before_transaction.setdefault(address, old)
        accounts[address] = account

    def add_balance(self, address: int, amount: int) -> None:
        """Credit `amount` wei (debit if negative; the caller has checked the balance). Zero touches
        nothing.

        Written out, because every transaction pays with it: 0.7 us, where `get_account` and `put_account`
        take 1.2.
        """
        if amount:
            accounts = self.accounts
            old = accounts.get(address) or self.get_account(address)
            nonce, balance, code_hash = old
            self.undo.append((accounts, address, old))
            self._before_transaction.setdefault(address, old)
            accounts[address] = make_account((nonce, balance + amount, code_hash))

    def pay_out(self, payments: Iterable[tuple[int, int]]) -> None:
        """Credit (address, wei) each, as the last thing that a transaction does: it cannot be reverted.

        `add_balance` without a call and an entry of the undo log for each of a transaction's five fees takes
        twice as long, 2 % of a transfer.
        """
        accounts, before = self.accounts, self._before_transaction
        for address, amount in payments:
            if amount:
                old = accounts.get(address) or self.get_account(address)
                nonce, balance, code_hash = old
                before.setdefault(address, old)
                accounts[address] = make_account((nonce, balance + amount, code_hash))

    def transfer(self, sender: int, to: int, value: int) -> None:
        """Move `value` wei on behalf of a message or a SELFDESTRUCT; a subclass may note it.

        The caller has checked the balance. Fees are no transfers."""
        self.add_balance(sender, -value)
        self.add_balance(to, value)

    def increment_nonce(self, address: int) -> int:
        """Count one more transaction or creation; returns the nonce before."""
        accounts = self.accounts
        old = accounts.get(address) or self.get_account(address)
        nonce, balance, code_hash = old
        self.undo.append((accounts, address, old))
        self._before_transaction.setdefault(address, old)
        accounts[address] = make_account((nonce + 1, balance, code_hash))
        return nonce

    def set_code(self, address: int, code: bytes) -> None:
        """Give an account this code (empty removes it)."""
        nonce, balance, _ = self.get_account(address)
        code_hash = EMPTY_CODE_HASH
        if code:
            code_hash = keccak256(code)
            self._codes[code_hash] = code
        self.put_account(address, Account(nonce, balance, code_hash))

    def touch(self, address: int) -> None:
        """Note that a zero-value call or credit reached the account; if it exists and is empty it will go."""
        account = self.get_account(address)
        if account == EMPTY_ACCOUNT and account is not _ABSENT and address not in self.touched:
            self.touched[address] = True
            self.undo.append((self.touched, address, _MISSING))

    def mark(self, marks: dict[int, bool], address: int) -> bool:
        """Add an address to `warm`, `created` or `destroyed`; returns whether it was there already."""
        if address in marks:
            return True
        marks[address] = True
        self.undo.append((marks, address, _MISSING))
        return False

    # -- storage -----------------------------------------------------------------------------------

    def slots_of(self, address: int) -> dict[int, int]:
        """The warm slots of an account with their present values; the same object during the whole
        transaction.

        Read it freely; add a slot with `warm_slot`, write one with `write_slot`.
        """
        slots = self.transaction_slots.get(address)
        if slots is None:
            slots = self.transaction_slots[address] = {}
        return slots

    def list_slot(self, address: int, slot: int) -> None:
        """Make a slot warm without reading it (EIP-2930 access list)."""
        self.listed_slots.setdefault(address, set()).add(slot)

    def is_listed(self, address: int, slot: int) -> bool:
        """Whether the access list names the slot."""
        listed = self.listed_slots.get(address)
        return listed is not None and slot in listed

    def warm_slot(self, address: int, slot: int) -> int:
        """Make a cold slot warm and return its value. The caller has paid for it."""
        value = self.original_slot(address, slot)
        slots = self.slots_of(address)
        slots[slot] = value
        self.undo.append((slots, slot, _MISSING))
        return value

    def original_slot(self, address: int, slot: int) -> int:
        """The value a slot had when the transaction began; zero for a contract created in it."""
        if address in self.created:
            return 0
        kept = self._storage.get(address)
        if kept is None:
            kept = self._storage[address] = {}
        value = kept.get(slot)
        if value is None:
            value = 0 if address in self._cleared else self._reader.storage(address, slot)
            kept[slot] = value
        return value

    def originals_of(self, address: int) -> dict[int, int]:
        """The values that the warm slots of an account had when the transaction began; zero where absent."""
        if address in self.created:
            return {}
        kept = self._storage.get(address)
        if kept is None:
            kept = self._storage[address] = {}
        return kept

    def write_slot(self, slots: dict[int, int], slot: int, value: int) -> None:
        """Write a slot that is warm; `slots` is the account's `slots_of`."""
        self.undo.append((slots, slot, slots[slot]))
        slots[slot] = value

    def write_transient(self, address: int, slot: int, value: int) -> None:
        """Write transient storage (EIP-1153)."""
        key = (address, slot)
        self.undo.append((self.transient, key, self.transient.get(key, 0)))
        self.transient[key] = value

    def set_storage(self, address: int, slot: int, value: int) -> None:
        """Set a word between transactions: genesis allocations, state overrides, values the protocol
        writes."""
        self.original_slot(address, slot)
        self._keep_slots(address, {slot: value})

    def clear_storage(self, address: int) -> None:
        """Void all storage of an account between transactions (a `state` override)."""
        self._clear(address)

    # -- as a reader -------------------------------------------------------------------------------

    def account(self, address: int) -> Account | None:
        account = self.get_account(address)
        return None if account is _ABSENT else account

    def storage(self, address: int, slot: int) -> int:
        slots = self.transaction_slots.get(address)
        if slots is not None:
            value = slots.get(slot)
            if value is not None:
                return value
        return self.original_slot(address, slot)

    def code(self, code_hash: bytes) -> bytes:
        if code_hash == EMPTY_CODE_HASH:
            return b""
        code = self._codes.get(code_hash)
        return self._reader.code(code_hash) if code is None else code

    def code_of(self, address: int) -> bytes:
        """The code of an account."""
        return self.code(self.get_account(address).code_hash)

    def has_storage(self, address: int) -> bool:
        if self.account(address) is None:
            return False
        slots = self.transaction_slots.get(address)
        if slots and any(slots.values()):
            return True
        if address in self.created:
            return False
        if address not in self._cleared and self._reader.has_storage(address):
            return True
        return any(self._storage.get(address, {}).values())

    def fork(self) -> JournaledState:
        """A state on top of this one, whose changes stay its own: `eth_call`, simulation, a trial execution.

        It costs nothing to make. This state must not change while the fork is in use.
        """
        return JournaledState(self)

    # -- what changed ------------------------------------------------------------------------------

    def changes(self) -> StateDiff:
        """Everything finished transactions changed, since construction or the last `take_changes`."""
        accounts: dict[int, Account | None] = {}
        codes: dict[bytes, bytes] = {}
        for address, old in self._before_accounts.items():
            new = self.accounts[address]
            if new == old and (new is _ABSENT) == (old is _ABSENT):
                continue
            accounts[address] = None if new is _ABSENT else new
            code_hash = new[2]
            if code_hash != old[2] and code_hash in self._codes:
                codes[code_hash] = self._codes[code_hash]
        storage: dict[int, dict[int, int]] = {}
        for address, before in self._before_storage.items():
            kept = self._storage[address]
            written = {slot: kept[slot] for slot, old_value in before.items() if kept[slot] != old_value}
            if written:
                storage[address] = written
        return StateDiff(accounts, storage, codes, set(self._newly_cleared))

    def take_changes(self) -> StateDiff:
        """`changes()`, and start counting anew: what one seal of a growing block adds to the seal before
        it."""
        diff = self.changes()
        self._before_accounts = {}
        self._before_storage = {}
        self._newly_cleared = set()
        return diff
