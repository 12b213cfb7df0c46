"""A state that is read from a parent process, and what is kept of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from flashctl.eth.keccak import EMPTY_CODE_HASH
from flashctl.eth.trie import EMPTY_ROOT
from flashctl.ethrpc.call_source import (
    ChangesOf,
    CodeOf,
    KnownAccount,
    NodeOf,
    Question,
    Read,
    Values,
    ViewName,
)
from flashctl.evm.missing_state import Missing, StateMissing
from flashctl.evm.state import NO_CHANGES, Account, StateDiff, StateReader
from flashctl.evm.world import World
from flashctl.lru import Lru
from flashctl.op.context import AncestorHash

__all__ = ["ParentState", "StateCache"]

MAX_ENTRIES: Final = 300_000
"""Accounts, slots and trie nodes kept, about 80 MB; beyond it all but the codes is forgotten."""

MAX_CODE_BYTES: Final = 32 * 2**20
MAX_BASES: Final = 16
MAX_CHANGES: Final = 8
"""Views whose changes are kept."""


class _Base:
    """What is known of one state."""

    __slots__ = ("accounts", "hashes", "slots")

    def __init__(self) -> None:
        self.accounts: dict[int, Account | None] = {}
        self.slots: dict[int, dict[int, int]] = {}
        """By address; shared between states by the root of the storage, where that is known."""
        self.hashes: dict[int, bytes] = {}


class _Changes:
    """What a view changes in its base."""

    __slots__ = ("accounts", "codes", "emptied", "storage")

    def __init__(self, diff: StateDiff) -> None:
        self.accounts: Final = diff.accounts
        self.storage: Final = diff.storage
        self.codes: Final = diff.codes
        gone = {address for address, account in diff.accounts.items() if account is None}
        self.emptied: Final = diff.cleared | gone
        """Addresses whose storage in the base is void."""


_NONE: Final = _Changes(NO_CHANGES)

_NO_STORAGE: Final[dict[int, int]] = {}
"""Of an account known to have none: every slot is zero, and nothing has to be asked."""


class StateCache:
    """What a worker process keeps from call to call. Everything in it is keyed by what it cannot change
    under."""

    def __init__(self) -> None:
        self._bases = Lru[bytes, _Base](MAX_BASES)
        self._storages: dict[bytes, dict[int, int]] = {}
        self._codes = Lru[bytes, bytes](MAX_CODE_BYTES, weigh=len)
        self._changes = Lru[bytes, _Changes](MAX_CHANGES)
        self.nodes: dict[bytes, bytes] = {}
        """Of tries, by hash."""
        self.entries = 0
        """Accounts, slots and nodes."""

    def trim(self) -> None:
        """Forget, if it has become too much; call it between jobs."""
        if self.entries > MAX_ENTRIES:
            self._bases.clear()
            self._storages.clear()
            self.nodes.clear()
            self.entries = 0

    def base(self, key: bytes) -> _Base:
        """What is known of a state, to be added to."""
        return self._bases.obtain(key, _Base)

    def storage(self, root: bytes | None) -> dict[int, int]:
        """The slots known of a storage with this root; a dictionary of its own without one."""
        if root == EMPTY_ROOT:
            return _NO_STORAGE
        return {} if root is None else self._storages.setdefault(root, {})

    def code(self, code_hash: bytes) -> bytes | None:
        """A code that is kept."""
        return self._codes.get(code_hash)

    def keep_code(self, code_hash: bytes, code: bytes) -> None:
        """Keep a code, and forget those unused for longest where room is short."""
        self._codes.put(code_hash, code)

    def changes(self, key: bytes, ask: Callable[[Question], Any]) -> _Changes:
        """What a view changes in its base."""
        return self._changes.obtain(key, lambda: _Changes(ask(ChangesOf())))


class ParentState:
    """A `StateReader` and a `RunState` for one run of one call."""

    __slots__ = ("_ask", "_base", "_cache", "_changes", "_guesses", "_name")

    def __init__(
        self,
        name: ViewName,
        cache: StateCache,
        ask: Callable[[Question], Any],
        guesses: Missing | None = None,
    ) -> None:
        """What the parent does not know raises `StateMissing`, or is noted in `guesses`."""
        self._guesses = guesses
        self._name = name
        self._cache = cache
        self._ask = ask
        self._base = cache.base(name.base)
        self._changes = cache.changes(name.key, ask) if name.has_changes else _NONE

    # --- as a RunState ---

    @property
    def reader(self) -> StateReader:
        """Itself."""
        return self

    @property
    def ancestor_hash(self) -> AncestorHash:
        """Hashes of the branch below the view."""
        return self._ancestor_hash

    @property
    def world(self) -> World | None:
        """The state as a trie, loaded node by node."""
        root = self._name.root
        return None if root is None else World.from_root(root, self._node, self.code)

    # --- as a reader ---

    def account(self, address: int) -> Account | None:
        changed = self._changes.accounts
        if address in changed:
            return changed[address]
        known = self._base.accounts
        if address not in known and not self._fetch_account(address):
            self._lack(Missing(accounts={address}))
            return None
        return known[address]

    def storage(self, address: int, slot: int) -> int:
        changed = self._changes.storage.get(address)
        if changed is not None and slot in changed:
            return changed[slot]
        if address in self._changes.emptied:
            return 0
        slots = self._slots(address)
        if slots is _NO_STORAGE:
            return 0
        value = slots.get(slot)
        if value is None:
            answer: Values = self._ask(Read(slots=((address, slot),)))
            value = answer.slots[0]
            if value is None:
                self._lack(Missing(slots={(address, slot)}))
                return 0
            slots[slot] = value
            self._cache.entries += 1
        return value

    def code(self, code_hash: bytes) -> bytes:
        if code_hash == EMPTY_CODE_HASH:
            return b""
        code = self._changes.codes.get(code_hash) or self._cache.code(code_hash)
        if code is None:
            code = self._ask(CodeOf(code_hash))
            assert isinstance(code, bytes)
            self._cache.keep_code(code_hash, code)
        return code

    def has_storage(self, address: int) -> bool:
        """Where the parent tells no storage roots, only of what is known: no account of an L2 has storage
        without code or nonce."""
        if any(self._changes.storage.get(address, {}).values()):
            return True
        if self._name.root is None or address in self._changes.emptied:
            return False
        answer: Values = self._ask(Read(accounts=(address,)))
        known = answer.accounts[0]
        return known is not None and known.storage_root != EMPTY_ROOT

    def _slots(self, address: int) -> dict[int, int]:
        slots = self._base.slots.get(address)
        if slots is None:
            # The account first: it says which storage that is.
            if self._name.root is None or not self._fetch_account(address):
                slots = self._base.slots[address] = {}
            else:
                slots = self._base.slots[address]
        return slots

    def _fetch_account(self, address: int) -> bool:
        """Ask for an account; whether the parent knew it."""
        answer: Values = self._ask(Read(accounts=(address,)))
        known: KnownAccount | None = answer.accounts[0]
        if known is None:
            return False
        base = self._base
        base.accounts[address] = known.account
        self._cache.entries += 1
        if known.storage_root is not None:
            base.slots[address] = self._cache.storage(known.storage_root)
        return True

    def _ancestor_hash(self, number: int) -> bytes:
        known = self._base.hashes.get(number)
        if known is None:
            answer: Values = self._ask(Read(hashes=(number,)))
            known = answer.hashes[0]
            if known is None:
                self._lack(Missing(hashes={number}))
                return bytes(32)
            self._base.hashes[number] = known
        return known

    def _lack(self, missing: Missing) -> None:
        if self._guesses is None:
            raise StateMissing(missing)
        self._guesses.add(missing)

    def _node(self, node_hash: bytes) -> bytes:
        node = self._cache.nodes.get(node_hash)
        if node is None:
            node = self._ask(NodeOf(node_hash))
            assert isinstance(node, bytes)
            self._cache.nodes[node_hash] = node
            self._cache.entries += 1
        return node
