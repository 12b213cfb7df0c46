"""The state that a call runs on, in a thread of this process or in a worker process.

A `CallSource` is one immutable view, chosen when the call was submitted. A thread of this process reads from
its `local` state. A worker process gets the view's name and asks for what it has not got: `answer` answers
at once, UNKNOWN if need be, and what is unknown here as well `obtain` fetches, after which the call is run
again.

    ViewName     what a worker keeps its cache by
    Read         accounts, slots and block hashes -> Values
    CodeOf, NodeOf, ChangesOf
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple, Protocol, TypeAlias

from flashctl.evm.missing_state import Missing
from flashctl.evm.state import Account, StateReader
from flashctl.evm.world import World
from flashctl.op.context import AncestorHash

__all__ = [
    "UNKNOWN",
    "CallSource",
    "ChangesOf",
    "CodeOf",
    "KnownAccount",
    "NodeOf",
    "Question",
    "Read",
    "RunState",
    "Values",
    "ViewName",
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


class RunState(Protocol):
    """What one run of a call reads from."""

    @property
    def reader(self) -> StateReader: ...

    @property
    def ancestor_hash(self) -> AncestorHash: ...

    @property
    def world(self) -> World | None:
        """The same state as a trie, where there is one."""


class CallSource(Protocol):
    """One view; see the module docstring."""

    @property
    def name(self) -> ViewName: ...

    def local(self, guesses: Missing | None = None) -> RunState:
        """A fresh one for a run in this process, in whatever thread. What it lacks raises `StateMissing`,
        or is noted in `guesses`; see `evm.missing_state.attempt`."""

    async def open_trie(self) -> None:
        """Before the first `NodeOf`: have the nodes ready."""

    def answer(self, question: Question) -> Any:
        """Values, code, node or changes; quickly.

        Raises:
            FlashctlError: If that part of the state is not there.
        """

    async def obtain(self, missing: Missing) -> None:
        """Fetch what was unknown.

        Raises:
            FlashctlError: If it cannot be had.
        """
