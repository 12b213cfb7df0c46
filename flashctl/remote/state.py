"""Partially known states: the changes of transactions on top of a canonical state that is fetched on demand.

    StateDiff         the exact changes since a canonical block
    CanonicalState    the part of the state after that block read so far
    the node          provides the rest, pinned to the block's hash

Execution cannot wait for a network in mid-transaction, so a read of unknown state raises `StateMissing`; all
missing state is fetched in one batch, and the execution is repeated until none is missing. Reads of a
transaction are dependent only a few levels deep, so this takes one to four rounds, and hardly any after the
first blocks: state that a block did not change stays valid for the next one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from flashctl.evm.missing_state import Missing, StateMissing
from flashctl.evm.state import NO_CHANGES, Account, StateDiff

__all__ = ["CanonicalBlock", "CanonicalState", "PendingState", "StateView", "merge_diffs"]

MAX_CACHED_ENTRIES: Final = 300_000
"""Accounts and slots kept from block to block, about 60 MB; beyond it the next block starts with an empty
cache."""

MAX_CACHED_CODES: Final = 10_000
"""Contracts kept, at most 240 MB and usually a tenth of it; beyond it the cache is emptied likewise."""

MAX_ENTRIES: Final = 1_000_000
"""The limit of one block's cache, for a chain that stands still while callers continue."""


@dataclass(frozen=True, slots=True)
class CanonicalBlock:
    """The fields read of a block of the node's chain."""

    number: int
    hash: bytes
    parent_hash: bytes
    timestamp: int
    receipts_root: bytes
    transactions: tuple[bytes, ...]
    """Hashes, in order."""


class CanonicalState:
    """The known part of the state after `block`. Grows as state is fetched; entries never change.

    Shared between threads: every entry is written once and whole, which dictionaries do atomically.
    """

    __slots__ = ("accounts", "block", "codes", "hashes", "size", "storage")

    def __init__(self, block: CanonicalBlock, codes: dict[bytes, bytes] | None = None) -> None:
        self.block: Final = block
        self.accounts: dict[int, Account | None] = {}
        self.storage: dict[int, dict[int, int]] = {}
        self.codes: dict[bytes, bytes] = codes if codes is not None else {}
        """By hash, so valid at every block."""
        self.hashes: dict[int, bytes] = {block.number: block.hash, block.number - 1: block.parent_hash}
        """Ancestors by number."""
        self.size = 0
        """Accounts and slots."""

    @property
    def is_full(self) -> bool:
        """Whether MAX_ENTRIES is reached."""
        return self.size >= MAX_ENTRIES

    def add_account(self, address: int, account: Account | None, code: bytes) -> None:
        """Add a fetched account and its code."""
        if account is not None and code:
            self.codes[account.code_hash] = code
        self.accounts[address] = account
        self.size += 1

    def add_slot(self, address: int, slot: int, value: int) -> None:
        """Add a fetched storage word."""
        self.storage.setdefault(address, {})[slot] = value
        self.size += 1

    def restarted(self, block: CanonicalBlock) -> CanonicalState:
        """A state that keeps only immutable data: codes, and block hashes if `block` is a child."""
        fresh = CanonicalState(block, self.codes if len(self.codes) <= MAX_CACHED_CODES else None)
        if block.parent_hash == self.block.hash:
            fresh.hashes |= {
                number: known for number, known in dict(self.hashes).items() if number > block.number - 256
            }
        return fresh

    def without_known(self, missing: Missing) -> Missing:
        """The part of `missing` that is not known yet."""
        return Missing(
            missing.accounts - self.accounts.keys(),
            {(address, slot) for address, slot in missing.slots if slot not in self.storage.get(address, ())},
            missing.hashes - self.hashes.keys(),
        )

    def advanced(self, block: CanonicalBlock, diff: StateDiff) -> CanonicalState:
        """The state after `block`, a child of this one's block that made exactly the changes of `diff`."""
        following = self.restarted(block)
        accounts, storage = dict(self.accounts), dict(self.storage)  # copied: other threads still write
        size = len(accounts) + sum(map(len, storage.values()))
        if size > MAX_CACHED_ENTRIES or following.codes is not self.codes:
            return following  # empty: accounts without their codes would be wrong, not just unknown
        following.size = size
        following.accounts = accounts | diff.accounts
        following.storage = {address: dict(slots) for address, slots in storage.items()}
        for address in _emptied(diff):
            following.storage.pop(address, None)
        for address, slots in diff.storage.items():
            following.storage.setdefault(address, {}).update(slots)
        self.codes.update(diff.codes)
        return following


def _emptied(diff: StateDiff) -> set[int]:
    """Addresses whose earlier storage is void: cleared, or deleted with the account."""
    return diff.cleared | {address for address, account in diff.accounts.items() if account is None}


def merge_diffs(first: StateDiff, second: StateDiff) -> StateDiff:
    """The combined changes of `first`, then `second`; neither is modified."""
    emptied = _emptied(second)
    storage = {address: slots for address, slots in first.storage.items() if address not in emptied}
    for address, slots in second.storage.items():
        earlier = storage.get(address)
        storage[address] = slots if earlier is None else {**earlier, **slots}
    return StateDiff(
        {**first.accounts, **second.accounts},
        storage,
        {**first.codes, **second.codes},
        first.cleared | emptied,
    )


@dataclass(frozen=True, slots=True)
class PendingState:
    """The state after some pending transactions; immutable, so that calls may run on it while the stream
    continues."""

    canonical: CanonicalState
    diff: StateDiff = NO_CHANGES
    """Everything that changed since `canonical.block`."""

    def apply(self, diff: StateDiff) -> PendingState:
        """The state after further changes."""
        return PendingState(self.canonical, merge_diffs(self.diff, diff))


class StateView:
    """A `StateReader` of one pending state for one execution.

    Raises `StateMissing` for unknown state, or, given `guesses`, records it there and returns an empty value;
    see `evm.missing_state.attempt`.
    """

    __slots__ = ("_accounts", "_canonical", "_cleared", "_codes", "_guesses", "_storage")

    def __init__(self, state: PendingState, guesses: Missing | None = None) -> None:
        self._guesses = guesses
        self._canonical = state.canonical
        self._accounts: Mapping[int, Account | None] = state.diff.accounts
        self._storage = state.diff.storage
        self._codes = state.diff.codes
        self._cleared = _emptied(state.diff)

    def account(self, address: int) -> Account | None:
        if address in self._accounts:
            return self._accounts[address]
        known = self._canonical.accounts
        if address in known:
            return known[address]
        self._lack(Missing(accounts={address}))
        return None

    def storage(self, address: int, slot: int) -> int:
        slots = self._storage.get(address)
        if slots is not None and slot in slots:
            return slots[slot]
        if address in self._cleared:
            return 0
        known = self._canonical.storage.get(address)
        if known is not None and slot in known:
            return known[slot]
        self._lack(Missing(slots={(address, slot)}))
        return 0

    def code(self, code_hash: bytes) -> bytes:
        code = self._codes.get(code_hash)
        return self._canonical.codes.get(code_hash, b"") if code is None else code

    def has_storage(self, address: int) -> bool:
        """From the known part only: no RPC method reports it, and no account of an L2 has storage without
        code or nonce."""
        return any(self._storage.get(address, {}).values())

    def ancestor_hash(self, number: int) -> bytes:
        """The hash of a canonical block, for BLOCKHASH."""
        known = self._canonical.hashes.get(number)
        if known is None:
            self._lack(Missing(hashes={number}))
            return bytes(32)
        return known

    def _lack(self, missing: Missing) -> None:
        if self._guesses is None:
            raise StateMissing(missing)
        self._guesses.add(missing)
