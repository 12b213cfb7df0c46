"""The whole state at one moment, as persistent tries: the reader that execution starts from and ends in.

    World ── account trie: keccak(address) -> account ── storage trie: keccak(slot) -> word
      └─ codes: hash -> code, shared by all worlds of a lineage

`apply` turns a world and a `StateDiff` into the next world; the old one stays valid and shares everything
that did not change. So a payload job keeps one world per flashblock, a chain one per recent block, and
each costs what changed.

A leaf of the account trie is the encoded account. Where the account has storage, the leaf is a `bytes`
that carries its storage trie along (`_StorageLeaf`), which ties the life of a storage trie to that of the
leaf: no table of tries by address has to be copied or pruned. A world loaded from a store has plain
leaves, and opens a storage trie by its root.

Nodes and code can come from anywhere (SQLite, a witness, an RPC node) through two look-up functions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Final, TypeAlias

from flashctl.errors import UnavailableError
from flashctl.eth.keccak import EMPTY_CODE_HASH, keccak256
from flashctl.eth.rlp import encode_uint
from flashctl.eth.trie import EMPTY_ROOT, Change, NodeSource, Trie
from flashctl.eth.trie_nodes import InvalidNode, Leaf
from flashctl.evm.state import EMPTY_ACCOUNT, Account, StateDiff
from flashctl.lru import Lru

__all__ = [
    "AccountProof",
    "CodeSource",
    "MissingCode",
    "SlotProof",
    "StoredAccount",
    "World",
    "decode_account",
    "encode_account",
]

CodeSource: TypeAlias = Callable[[bytes], bytes | None]
"""Looks up code by its hash; None when it is not there."""

OPEN_STORAGE_TRIES = 4096
"""How many storage tries loaded from a store stay open, with the nodes loaded so far. A block of OP Mainnet
touches a few hundred."""

LOADED_CODES = 2048
"""How many codes loaded from a store are kept: 48 MiB if each had the largest size."""

_WORD = 32

_ACCOUNT_HEADERS = [bytes((0xF8, 66 + size)) for size in range(190)]
"""The header of an encoded account, by how many bytes nonce and balance take; the hashes take 66."""


class MissingCode(UnavailableError):
    """An account names code that neither the world nor its source holds."""

    hash: Final[bytes]

    def __init__(self, code_hash: bytes) -> None:
        self.hash = code_hash
        super().__init__(f"missing code 0x{code_hash.hex()}")


@dataclass(frozen=True, slots=True)
class StoredAccount:
    """An account as a walk over the state finds it."""

    address_hash: bytes
    address: int | None
    """None when the world never saw the address itself, only its hash."""
    account: Account
    storage_root: bytes


@dataclass(frozen=True, slots=True)
class SlotProof:
    """One storage word with the trie nodes that prove it (EIP-1186)."""

    slot: int
    value: int
    proof: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class AccountProof:
    """An account with the trie nodes that prove it, or its absence (EIP-1186)."""

    address: int
    account: Account
    storage_root: bytes
    proof: tuple[bytes, ...]
    slots: tuple[SlotProof, ...]


class _StorageLeaf(bytes):
    """An encoded account that has storage, with the trie of it."""

    storage: Trie


def encode_account(account: Account, storage_root: bytes) -> bytes:
    """The RLP of an account as the state trie holds it."""
    nonce, balance, code_hash = account
    numbers = encode_uint(nonce) + encode_uint(balance)
    return b"".join((_ACCOUNT_HEADERS[len(numbers)], numbers, b"\xa0", storage_root, b"\xa0", code_hash))


def decode_account(raw: bytes) -> tuple[Account, bytes]:
    """The account and its storage root of one RLP encoding.

    Raises:
        InvalidNode: Not an account.
    """
    # The two hashes end every account, and being 66 bytes make its header one of two bytes. Reading by
    # position takes 1.4 us where the general decoder takes 6.8, for every account that execution touches.
    hashes = len(raw) - 66
    if hashes >= 4 and raw[0] == 0xF8 and raw[1] == hashes + 64 and raw[hashes] == raw[hashes + 33] == 0xA0:
        nonce = raw[2]
        start = 3
        if nonce >= 0x80:
            start += nonce - 0x80
            nonce = int.from_bytes(raw[3:start], "big")
        if start < hashes and raw[2] <= 0x88 and raw[start] <= 0xA0:
            balance = raw[start]
            end = start + 1
            if balance >= 0x80:
                end += balance - 0x80
                balance = int.from_bytes(raw[start + 1 : end], "big")
            if end == hashes:
                return Account(nonce, balance, raw[hashes + 34 :]), raw[hashes + 1 : hashes + 33]
    raise InvalidNode("leaf of the state trie is not an account")


@lru_cache(maxsize=65_536)
def _address_hash(address: int) -> bytes:
    return keccak256(address.to_bytes(20, "big"))


@lru_cache(maxsize=65_536)
def _slot_hash(slot: int) -> bytes:
    return keccak256(slot.to_bytes(_WORD, "big"))


class _Shared:
    """What all worlds of one lineage have in common: sources, codes, open storage tries, known addresses.

    All of it is keyed by hashes of the content, so it is right for every world that shares it.
    """

    __slots__ = ("_loaded_codes", "_open", "codes", "nodes", "preimages")

    def __init__(self, nodes: NodeSource | None, codes: CodeSource | None, keep_preimages: bool) -> None:
        self.nodes = nodes
        self.codes: dict[bytes, bytes] = {}
        """Code that execution created; kept as long as the lineage, because it may be in no store yet."""
        self._loaded_codes = lru_cache(maxsize=LOADED_CODES)(codes) if codes is not None else None
        self._open = Lru[bytes, Trie](OPEN_STORAGE_TRIES)
        self.preimages: dict[bytes, int] | None = {} if keep_preimages else None

    def code(self, code_hash: bytes) -> bytes:
        code = self.codes.get(code_hash)
        if code is None and self._loaded_codes is not None:
            code = self._loaded_codes(code_hash)
        if code is None:
            raise MissingCode(code_hash)
        return code

    def storage(self, root: bytes) -> Trie:
        if root == EMPTY_ROOT:
            return _EMPTY_TRIE
        # Blocks are imported in a thread beside calls on the event loop; two tries of the same root are worth
        # the same.
        return self._open.obtain(root, lambda: Trie(root, self.nodes))


_EMPTY_TRIE = Trie()


class World:
    """An immutable snapshot of all accounts, storage and code; a `StateReader`."""

    __slots__ = ("_accounts", "_shared")

    def __init__(self, accounts: Trie, shared: _Shared) -> None:
        self._accounts = accounts
        self._shared = shared

    @classmethod
    def empty(cls, *, keep_preimages: bool = False) -> World:
        """The state before genesis.

        Args:
            keep_preimages: Remember the address behind every hash, so that `accounts` can name it.
        """
        return cls(Trie(), _Shared(None, None, keep_preimages))

    @classmethod
    def from_root(cls, root: bytes, nodes: NodeSource, codes: CodeSource | None = None) -> World:
        """The state of a known root, loaded as far as it is used."""
        return cls(Trie(root, nodes), _Shared(nodes, codes, False))

    @property
    def root(self) -> bytes:
        """The state root."""
        return self._accounts.root_hash

    # ---- reading --------------------------------------------------------------------------------

    def account(self, address: int) -> Account | None:
        """The account at an address, or None.

        Raises:
            MissingNode: The source lacks the way to it.
        """
        leaf = self._accounts.get(_address_hash(address))
        return decode_account(leaf)[0] if leaf is not None else None

    def account_and_storage_root(self, address: int) -> tuple[Account | None, bytes]:
        """The account at an address, or None, and the root hash of its storage.

        Raises:
            MissingNode: The source lacks the way to it.
        """
        leaf = self._accounts.get(_address_hash(address))
        return decode_account(leaf) if leaf is not None else (None, EMPTY_ROOT)

    def storage(self, address: int, slot: int) -> int:
        """A storage word; zero if never written.

        Raises:
            MissingNode: The source lacks the way to it.
        """
        return _word(self._storage(address).get(_slot_hash(slot)))

    def code(self, code_hash: bytes) -> bytes:
        """The code with a hash.

        Raises:
            MissingCode: Neither this lineage nor its source holds it.
        """
        return b"" if code_hash == EMPTY_CODE_HASH else self._shared.code(code_hash)

    def has_storage(self, address: int) -> bool:
        """Whether any storage word of the account is set."""
        return self.storage_root(address) != EMPTY_ROOT

    def storage_root(self, address: int) -> bytes:
        """The root hash of an account's storage; that of an empty trie when there is none."""
        return self._storage(address).root_hash

    def prove(self, address: int, slots: Iterable[int] = ()) -> AccountProof:
        """An account and storage words of it with their proofs, as `eth_getProof` answers."""
        storage = self._storage(address)
        proven = tuple(
            SlotProof(slot, _word(storage.get(_slot_hash(slot))), tuple(storage.prove(_slot_hash(slot))))
            for slot in slots
        )
        proof = tuple(self._accounts.prove(_address_hash(address)))
        account = self.account(address) or EMPTY_ACCOUNT
        return AccountProof(address, account, storage.root_hash, proof, proven)

    def accounts(self) -> Iterator[StoredAccount]:
        """All accounts, in the order of their hashes; loads the whole account trie."""
        preimages = self._shared.preimages or {}
        for address_hash, leaf in self._accounts.items():
            account, storage_root = decode_account(leaf)
            yield StoredAccount(address_hash, preimages.get(address_hash), account, storage_root)

    def storage_items(self, address: int) -> Iterator[tuple[bytes, int]]:
        """All storage words of an account, by the hash of their slot."""
        for slot_hash, value in self._storage(address).items():
            yield slot_hash, _word(value)

    # ---- changing -------------------------------------------------------------------------------

    def apply(self, diff: StateDiff) -> World:
        """The world after a diff; this one stays as it is.

        Raises:
            MissingNode: The source lacks a node that the new roots depend on.
        """
        shared = self._shared
        shared.codes.update(diff.codes)
        changes: dict[bytes, bytes | Change] = {}
        for address, account in diff.accounts.items():
            changes[_address_hash(address)] = (
                b"" if account is None else partial(self._changed_leaf, address, account, diff)
            )
        for address in diff.storage.keys() | diff.cleared:
            if address not in diff.accounts:
                account = self.account(address)
                if account is not None:
                    changes[_address_hash(address)] = partial(self._changed_leaf, address, account, diff)
        if shared.preimages is not None:
            shared.preimages.update((_address_hash(address), address) for address in diff.accounts)
        accounts = self._accounts.update(changes)
        return World(accounts, shared) if accounts is not self._accounts else self

    def new_nodes(self, since: World) -> Iterator[tuple[bytes, bytes]]:
        """The trie nodes, as (hash, RLP), to store beside those of `since` so that this world can be loaded.

        `since` is an ancestor, such as the parent block's world: what was made between the two and is no
        longer part of this one (a flashblock's intermediate nodes) is left out.
        """
        for prefix, node in self._accounts.changed_nodes(since._accounts):
            if len(node.ref) == 33:
                yield node.ref[1:], node.rlp()
            elif not prefix:
                yield self.root, node.rlp()
            if isinstance(node, Leaf) and isinstance(node.value, _StorageLeaf):
                old = since._accounts.get(bytes.fromhex(prefix + node.path))
                yield from node.value.storage.new_nodes(since._storage_of(old))

    def new_codes(self, hashes: Iterable[bytes]) -> dict[bytes, bytes]:
        """Those of `hashes` that execution in this lineage created, with their code."""
        codes = self._shared.codes
        return {code_hash: codes[code_hash] for code_hash in hashes if code_hash in codes}

    def _storage(self, address: int) -> Trie:
        return self._storage_of(self._accounts.get(_address_hash(address)))

    def _storage_of(self, leaf: bytes | None) -> Trie:
        if leaf is None:
            return _EMPTY_TRIE
        if isinstance(leaf, _StorageLeaf):
            return leaf.storage
        return self._shared.storage(leaf[-65:-33])

    def _changed_leaf(self, address: int, account: Account, diff: StateDiff, old: bytes | None) -> bytes:
        """The new leaf of an address whose leaf is `old` and whose account is `account` from now on."""
        if address in diff.cleared:
            old = None
        slots = diff.storage.get(address)
        if not slots and not isinstance(old, _StorageLeaf):
            # Most accounts of a block: no storage, or storage that was never opened and stays as it is.
            return encode_account(account, EMPTY_ROOT if old is None else old[-65:-33])
        storage = self._storage_of(old)
        if slots:
            storage = storage.update(
                {_slot_hash(slot): encode_uint(value) if value else b"" for slot, value in slots.items()}
            )
        encoded = encode_account(account, storage.root_hash)
        if storage.root_hash == EMPTY_ROOT:
            return encoded
        leaf = _StorageLeaf(encoded)
        leaf.storage = storage
        return leaf


def _word(encoded: bytes | None) -> int:
    """The number of a storage leaf, which is the RLP of at most 32 bytes."""
    if encoded is None:
        return 0
    return encoded[0] if len(encoded) == 1 else int.from_bytes(encoded[1:], "big")
