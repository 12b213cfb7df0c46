"""Pruning of old states: mark and sweep over the trie nodes, in slices of time.

    mark     walk the oldest state that is to stay, and note every node of it
    sweep    walk all nodes in the store; delete those that are as old as that state and were not noted

A node that a later state needs is either part of that oldest one, unchanged since, or was written by a block
after it: writing marks a node with its block, also one that is there already (`Store.add_state`). So only one
state is walked, however many are kept, and blocks go on being added in the meantime.

Blocks pay nothing for it, which decided against counting references: that would be two writes for each node
a block makes. A round reads the whole state once. It begins when as many states are left over as are to be
kept, so at most about twice as many are there. Nothing of a round is kept: a process that dies in one begins
anew, and what was deleted by then is part of no state that is kept.

What is noted goes into a Bloom filter, as in geth's `snapshot prune-state`: 16 MiB for any state. One of ten
million nodes loses one of a hundred left-over nodes in it until the next round.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from struct import Struct
from time import perf_counter
from typing import Final

from flashctl.chain.store import OldestState, Store, StoreError
from flashctl.errors import FlashctlError, UsageError
from flashctl.eth.rlp import decode_list
from flashctl.eth.trie import EMPTY_ROOT, MissingNode
from flashctl.eth.trie_nodes import InvalidNode, unpack_path
from flashctl.evm.world import decode_account

__all__ = ["KEEP_STATES", "Pruner", "check_keep_states"]

_LOG = logging.getLogger(__name__)

KEEP_STATES: Final = 1024
"""L1 takes 13 minutes to be final, which are 390 blocks of two seconds."""

MIN_KEEP_STATES: Final = 64
"""Reorganisations and payload jobs go back a few blocks; a node behind the stream asks for a few more."""

MARKED_AT_ONCE: Final = 16
SWEPT_AT_ONCE: Final = 128
"""Nodes between two readings of the clock: less than a millisecond."""

FILTER_BITS: Final = 27
"""Two to this many bits are 16 MiB."""

_PROBES: Final = Struct("<4I")


def check_keep_states(blocks: int) -> None:
    """Refuse to keep the states of fewer blocks than a node needs.

    Raises:
        UsageError: In the words of the flag.
    """
    if blocks and blocks < MIN_KEEP_STATES:
        raise UsageError(f"--keep-states {blocks} is below {MIN_KEEP_STATES}", hint="0 keeps all of them")


class _NodeFilter:
    """Hashes of nodes, with a few others that seem to be among them.

    The hashes are uniformly distributed themselves: four parts of one are its places in the filter.
    """

    def __init__(self) -> None:
        self._bits = bytearray(1 << FILTER_BITS - 3)

    def add(self, node_hash: bytes) -> None:
        for probe in _PROBES.unpack_from(node_hash):
            bit = probe >> 32 - FILTER_BITS
            self._bits[bit >> 3] |= 1 << (bit & 7)

    def holds(self, node_hash: bytes) -> bool:
        """Whether it was added; rarely also if not."""
        for probe in _PROBES.unpack_from(node_hash):
            bit = probe >> 32 - FILTER_BITS
            if not self._bits[bit >> 3] & 1 << (bit & 7):
                return False
        return True


class Pruner:
    """Rounds of mark and sweep, as far as the time it is given goes."""

    def __init__(self, store: Store, begin: Callable[[], OldestState | None]) -> None:
        """`begin` names the state to keep and all older ones to forget; None if a round is not due."""
        self._store = store
        self._begin = begin
        self._round: Iterator[None] | None = None

    def step(self, seconds: float) -> bool:
        """Go on with the round, or begin one that is due; for less than a millisecond at least.

        Returns:
            Whether there is more to do.

        Raises:
            StoreError: If the database cannot be read or written; the round is given up.
        """
        end = perf_counter() + seconds
        if self._round is None:
            oldest = self._begin()
            if oldest is None:
                return False
            self._round = self._prune(oldest)
        try:
            for _ in self._round:
                if perf_counter() >= end:
                    return True
            self._round = None
        except StoreError:
            self._round = None
            raise
        except FlashctlError as error:
            # A node is missing or damaged. It cannot be repaired here, and nodes that could not be marked
            # must not be deleted.
            _LOG.error("pruning aborted: %s", error)
            self._round = None
        return False

    def _prune(self, oldest: OldestState) -> Iterator[None]:
        marked = _NodeFilter()
        yield from self._mark(oldest.root, marked)
        deleted = 0
        position: bytes | None = b""
        while position is not None:
            position, gone = self._store.sweep_nodes(position, oldest.row, marked.holds, SWEPT_AT_ONCE)
            deleted += gone
            yield
        _LOG.info("forgot old states", extra={"states_from": oldest.number, "nodes": deleted})

    def _mark(self, root: bytes, marked: _NodeFilter) -> Iterator[None]:
        """Note the nodes of a state, account trie and storage tries."""
        if root == EMPTY_ROOT:
            return
        waiting = [(root, True)]
        count = 0
        while waiting:
            node_hash, is_account = waiting.pop()
            raw = self._store.node(node_hash)
            if raw is None:
                raise MissingNode(node_hash)
            marked.add(node_hash)
            waiting += _below(raw, is_account=is_account)
            count += 1
            if count % MARKED_AT_ONCE == 0:
                yield


def _below(raw: bytes, *, is_account: bool) -> list[tuple[bytes, bool]]:
    """The nodes that one refers to by hash, with whether they belong to the account trie.

    Nodes embedded in their parent are shorter than a hash, so they refer to none.

    Raises:
        InvalidNode, RlpError: If it is no node.
    """
    items = decode_list(raw)
    if len(items) == 17:
        return [(item, is_account) for item in items[:16] if isinstance(item, bytes) and item]
    if len(items) != 2:
        raise InvalidNode(f"a list of {len(items)}")
    packed, target = items
    if not isinstance(packed, bytes) or not isinstance(target, bytes):
        return []
    if not unpack_path(packed)[1]:
        return [(target, is_account)]
    storage_root = decode_account(target)[1] if is_account else EMPTY_ROOT
    return [] if storage_root == EMPTY_ROOT else [(storage_root, False)]
