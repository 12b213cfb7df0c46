"""Views of an embedded chain, for executions (see `call_source`)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from flashctl.eth.trie import MissingNode
from flashctl.ethrpc.call_source import (
    ChangesOf,
    CodeOf,
    KnownAccount,
    NodeOf,
    Question,
    Read,
    RunState,
    Values,
    ViewName,
)
from flashctl.evm.missing_state import Missing
from flashctl.evm.state import NO_CHANGES, StateReader
from flashctl.evm.world import World
from flashctl.op.context import AncestorHash

__all__ = ["NewNodes", "WorldSource"]


@dataclass(frozen=True, slots=True)
class WorldRunState:
    """A state that lacks nothing."""

    world: World
    ancestor_hash: AncestorHash

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

    def local(self, guesses: Missing | None = None) -> RunState:
        return WorldRunState(self._world, self._ancestor_hash)

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

    async def obtain(self, missing: Missing) -> None:
        """Never called: nothing is unknown here."""
