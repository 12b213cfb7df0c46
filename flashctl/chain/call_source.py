"""The state that a call runs on, as those see it who run it: here, in a thread, or in a worker process.

A `CallSource` is one immutable view, chosen when the call was submitted. Who runs the call in this process
takes its `local` ground and reads from that. A worker process is told the view's name and asks for what it
has not got: `answer` says it at once or says UNKNOWN, and what is unknown here as well `obtain` fetches,
after which the call is run again.

    ViewName     what a worker keeps its cache by
    Read         accounts, slots and block hashes -> Values
    CodeOf, NodeOf, ChangesOf
    Wanted       what a run read without an answer
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

from flashctl.eth.trie import MissingNode
from flashctl.evm.state import NO_CHANGES, Account, StateReader
from flashctl.evm.world import World
from flashctl.op.context import AncestorHash

__all__ = [
    "UNKNOWN",
    "CallGround",
    "CallSource",
    "ChangesOf",
    "CodeOf",
    "KnownAccount",
    "NewNodes",
    "NodeOf",
    "Question",
    "Read",
    "Values",
    "ViewName",
    "Wanted",
    "WorldSource",
]

UNKNOWN: Final = None
"""In `Values`: not to be said now."""


class ViewName(NamedTuple):
    """What a view is known by. Equal names are equal states."""

    key: bytes
    base: bytes
    """Of the canonical state below the view's changes; `key` itself where there are none."""

    has_changes: bool
    """Whether the view is `base` with the changes that `ChangesOf` asks for."""

    root: bytes | None
    """The state root, where the state is to be had as a trie."""


class Read(NamedTuple):
    """Asks for parts of the state."""

    accounts: tuple[int, ...] = ()
    slots: tuple[tuple[int, int], ...] = ()
    """Address and slot."""
    hashes: tuple[int, ...] = ()
    """Of ancestors, by number."""


class KnownAccount(NamedTuple):
    """An account, with the root of its storage where there is one to tell."""

    account: Account | None
    storage_root: bytes | None


class Values(NamedTuple):
    """What was asked for, in its order; UNKNOWN for what would have to be obtained."""

    accounts: tuple[KnownAccount | None, ...]
    slots: tuple[int | None, ...]
    hashes: tuple[bytes | None, ...]


class CodeOf(NamedTuple):
    """Asks for a code by its hash."""

    hash: bytes


class NodeOf(NamedTuple):
    """Asks for a node of the state trie by its hash."""

    hash: bytes


class ChangesOf(NamedTuple):
    """Asks for what the view changes in its base: a `StateDiff`."""


Question: TypeAlias = Read | CodeOf | NodeOf | ChangesOf


@dataclass(slots=True)
class Wanted:
    """What an execution read without an answer."""

    accounts: set[int] = field(default_factory=set)
    slots: set[tuple[int, int]] = field(default_factory=set)
    hashes: set[int] = field(default_factory=set)

    def __bool__(self) -> bool:
        return bool(self.accounts or self.slots or self.hashes)


class CallGround(Protocol):
    """What one run of a call reads from."""

    @property
    def reader(self) -> StateReader: ...

    @property
    def ancestor_hash(self) -> AncestorHash: ...

    @property
    def world(self) -> World | None:
        """The same state as a trie, where there is one."""

    @property
    def wanted(self) -> Wanted:
        """What it lacked so far; a run that lacked anything is worth nothing."""


class CallSource(Protocol):
    """One view; see the module docstring."""

    @property
    def name(self) -> ViewName: ...

    def local(self) -> CallGround:
        """A fresh ground for a run in this process, in whatever thread."""

    async def open_trie(self) -> None:
        """Before the first `NodeOf`: have the nodes ready."""

    def answer(self, question: Question) -> Any:
        """Values, code, node or changes; quickly.

        Raises:
            FlashctlError: If that part of the state is not there.
        """

    async def obtain(self, wanted: Wanted) -> None:
        """Fetch what was unknown.

        Raises:
            FlashctlError: If it cannot be had.
        """


@dataclass(frozen=True, slots=True)
class WorldGround:
    """A ground that lacks nothing."""

    world: World
    ancestor_hash: AncestorHash
    wanted: Wanted

    @property
    def reader(self) -> StateReader:
        """The world itself."""
        return self.world


class NewNodes:
    """Trie nodes of a state that is not stored yet: those that it has beside its parent's.

    Found in a thread, for some thousand of them take milliseconds, and once for all who ask about one state.
    """

    def __init__(self) -> None:
        self._root = b""
        self._found: asyncio.Future[dict[bytes, bytes]] | None = None

    async def of(self, world: World, parent: World) -> dict[bytes, bytes]:
        """The new nodes by their hash."""
        if self._found is None or self._root != world.root or self._found.cancelled():
            self._root = world.root
            self._found = asyncio.ensure_future(asyncio.to_thread(_new_nodes, world, parent))
        return await asyncio.shield(self._found)


def _new_nodes(world: World, parent: World) -> dict[bytes, bytes]:
    return dict(world.new_nodes(parent))


class WorldSource:
    """The state after a block of an embedded chain, sealed or being built. Knows everything."""

    __slots__ = ("_ancestor_hash", "_collected", "_new_nodes", "_node", "_parent", "_world", "name")

    def __init__(
        self,
        world: World,
        parent_hash: bytes,
        ancestor_hash: AncestorHash,
        node: Callable[[bytes], bytes | None],
        new_nodes: NewNodes,
        parent: Callable[[], World | None],
    ) -> None:
        """The state `world`, for executions in a block upon `parent_hash`.

        Args:
            ancestor_hash: Hashes of that block's ancestors.
            node: Looks stored trie nodes up.
            parent: Finds the stored state that `world` grew from; None if `world` is stored itself.
        """
        self._world = world
        self._ancestor_hash = ancestor_hash
        self._node = node
        self._new_nodes = new_nodes
        self._parent = parent
        self._collected: dict[bytes, bytes] = {}
        # The root alone would do for the state; ancestors differ between branches.
        key = world.root + parent_hash
        self.name: Final = ViewName(key, key, False, world.root)

    def local(self) -> CallGround:
        return WorldGround(self._world, self._ancestor_hash, Wanted())

    async def open_trie(self) -> None:
        parent = self._parent()
        if parent is not None:
            self._collected = await self._new_nodes.of(self._world, parent)

    def answer(self, question: Question) -> Any:
        world = self._world
        match question:
            case Read(accounts, slots, hashes):
                return Values(
                    tuple(KnownAccount(*world.account_and_storage_root(address)) for address in accounts),
                    tuple(world.storage(address, slot) for address, slot in slots),
                    tuple(self._ancestor_hash(number) for number in hashes),
                )
            case CodeOf(code_hash):
                return world.code(code_hash)
            case NodeOf(node_hash):
                node = self._collected.get(node_hash) or self._node(node_hash)
                if node is None:
                    raise MissingNode(node_hash)
                return node
            case ChangesOf():
                return NO_CHANGES

    async def obtain(self, wanted: Wanted) -> None:
        """Never called: nothing is unknown here."""
