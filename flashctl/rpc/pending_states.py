"""Look-ups and executions on pending states: missing state is fetched, then the work is repeated.

The reads of one call are dependent only a few levels deep, and state fetched for one call is kept for the
next. A call sees the view at its submission, in whichever process it runs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any, Final, TypeVar

from flashctl.errors import UnavailableError
from flashctl.eth.blocks import Header
from flashctl.eth.keccak import EMPTY_CODE_HASH
from flashctl.eth.trie import MissingNode
from flashctl.ethrpc.by_identity import ByIdentity
from flashctl.ethrpc.call_jobs import Setting
from flashctl.ethrpc.call_source import (
    UNKNOWN,
    CallSource,
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
from flashctl.evm.missing_state import Missing, StateMissing
from flashctl.evm.state import StateReader
from flashctl.evm.world import World
from flashctl.op.context import AncestorHash, BlockContext
from flashctl.remote.look_up import MAX_ROUNDS, look_up, too_many_rounds
from flashctl.remote.state import PendingState, StateView
from flashctl.remote.upstream_client import UpstreamClient
from flashctl.rpc.execution import PendingBlock

__all__ = ["PendingBlockState", "PendingStates"]

MAX_CHANGES: Final = 20_000
"""Accounts and slots of a diff sent to workers; a larger one is read by requests."""

T = TypeVar("T")


class PendingStates:
    """The states of pending blocks, for look-ups and for executions."""

    def __init__(self, node: UpstreamClient, *, timeout_s: float) -> None:
        self._node = node
        self.timeout_s: Final = timeout_s
        """Limit of one look-up, with all its fetches."""
        numbers = count(1)
        # By identity: equal names mean the same object, independent of payload and index.
        keys: ByIdentity[object, bytes] = ByIdentity(lambda _: next(numbers).to_bytes(8, "big"))
        self._names: ByIdentity[PendingState, ViewName] = ByIdentity(partial(_name, keys))
        self._settings: ByIdentity[BlockContext, list[Setting]] = ByIdentity(lambda _: [])

    def after(self, block: PendingBlock) -> PendingBlockState:
        """The state after a block."""
        return PendingBlockState(self, block)

    def setting(self, block: PendingBlock) -> Setting:
        """Chain and block, the same object for all flashblocks of a block."""
        known = self._settings.of(block.context)
        if not known:
            known.append(Setting(block.config, block.context))
        return known[0]

    def source(self, state: PendingState) -> CallSource:
        """A state, for one execution on it."""
        return _PendingSource(self._node, state, self._names.of(state))

    async def read(self, state: PendingState, work: Callable[[StateReader], T]) -> T:
        """The result of `work`, which must be read-only; it may run several times, the last time with nothing
        missing."""
        return await look_up(self._node, state, work, timeout_s=self.timeout_s)


class PendingBlockState:
    """The state after a pending block (`ethrpc.interfaces.BlockState`)."""

    __slots__ = ("_block", "_states")

    world: Final = None
    """A stream has no state trie."""

    def __init__(self, states: PendingStates, block: PendingBlock) -> None:
        self._states = states
        self._block = block

    @property
    def header(self) -> Header:
        """The header so far."""
        return self._block.header

    @property
    def setting(self) -> Setting:
        """Chain and block."""
        return self._states.setting(self._block)

    def source(self) -> CallSource:
        """A source for one execution."""
        return self._states.source(self._block.state)

    async def read(self, work: Callable[[StateReader], T]) -> T:
        """The result of `work`, with missing state fetched."""
        return await self._states.read(self._block.state, work)


def _name(keys: ByIdentity[object, bytes], state: PendingState) -> ViewName:
    diff, key = state.diff, keys.of(state)
    is_sent = len(diff.accounts) + sum(map(len, diff.storage.values())) <= MAX_CHANGES
    return ViewName(key, keys.of(state.canonical) if is_sent else key, is_sent, None)


class _PendingSource:
    """A view of the overlay as executions see it (`ethrpc.call_source.CallSource`)."""

    __slots__ = ("_node", "_rounds", "_state", "_view", "name")

    def __init__(self, node: UpstreamClient, state: PendingState, name: ViewName) -> None:
        self._node = node
        self._state = state
        self._view: StateView | None = None
        self._rounds = 0
        self.name: Final = name

    def local(self, guesses: Missing | None = None) -> RunState:
        return _RunState(StateView(self._state, guesses))

    async def open_trie(self) -> None:
        """No trie: roots of simulated blocks are zero."""

    def answer(self, question: Question) -> Any:
        if self._view is None:
            self._view = StateView(self._state)
        view = self._view
        match question:
            case Read(accounts, slots, hashes):
                return Values(
                    tuple(_account(view, address) for address in accounts),
                    tuple(_slot(view, address, slot) for address, slot in slots),
                    tuple(self._state.canonical.hashes.get(number) for number in hashes),
                )
            case CodeOf(code_hash):
                code = view.code(code_hash)
                if not code and code_hash != EMPTY_CODE_HASH:
                    raise UnavailableError(f"missing code 0x{code_hash.hex()}")
                return code
            case ChangesOf():
                return self._state.diff
            case NodeOf(node_hash):
                raise MissingNode(node_hash)

    async def obtain(self, missing: Missing) -> None:
        self._rounds += 1
        if self._rounds > MAX_ROUNDS:
            raise too_many_rounds()
        await self._node.load(self._state.canonical, missing)


def _account(view: StateView, address: int) -> KnownAccount | None:
    try:
        return KnownAccount(view.account(address), None)
    except StateMissing:
        return UNKNOWN


def _slot(view: StateView, address: int, slot: int) -> int | None:
    try:
        return view.storage(address, slot)
    except StateMissing:
        return UNKNOWN


@dataclass(frozen=True, slots=True)
class _RunState:
    """The state of one run in this process (`ethrpc.call_source.RunState`)."""

    reader: StateView

    @property
    def ancestor_hash(self) -> AncestorHash:
        """Of canonical blocks."""
        return self.reader.ancestor_hash

    @property
    def world(self) -> World | None:
        """None."""
        return None
