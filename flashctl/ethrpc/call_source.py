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

from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

from flashctl.evm.state import Account, StateReader
from flashctl.evm.world import World
from flashctl.op.context import AncestorHash

__all__ = [
    "UNKNOWN",
    "CallGround",
    "CallSource",
    "ChangesOf",
    "CodeOf",
    "KnownAccount",
    "NodeOf",
    "Question",
    "Read",
    "Values",
    "ViewName",
    "Wanted",
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
