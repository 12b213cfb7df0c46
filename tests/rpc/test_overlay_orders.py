"""The overlay under every order of what can happen to it.

A tree of real blocks, two on top of each, is streamed, lost, repeated, damaged, replaced, sealed and
reorganised in any order, with state that comes late, in parts or not at all. Whatever the order: nothing
raises, pending is a row of blocks on the canonical head that hold their own transactions and nothing else,
and it never shows less than before without saying so.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from support.examples import examples
from support.stream_lab import StreamedBlock, StreamLab, signed

from flashctl.core.flashblocks.sequence import (
    Accepted,
    Assembler,
    Closed,
    CloseReason,
    Event,
    Opened,
    Payload,
    PrevMismatch,
)
from flashctl.core.flashblocks.wire import Flashblock
from flashctl.core.service import defects
from flashctl.evm.missing_state import Missing
from flashctl.remote.state import CanonicalBlock
from flashctl.rpc.chain_rules import ChainRules
from flashctl.rpc.overlay import Overlay, PendingView

DEPTH = 4
PATHS = ["".join(path) for length in range(1, DEPTH + 1) for path in product("ab", repeat=length)]
"""Names of the blocks: that of the parent, and which of its two children."""

SENDERS = {"a": 0, "b": 1}

paths = st.sampled_from(PATHS)
main_paths = st.sampled_from([path for path in PATHS if "b" not in path[1:]])
indices = st.integers(0, 3)
counts = st.sampled_from([4, 4, 3, 2, 1])
mostly = st.sampled_from([True, True, True, False])


@dataclass(frozen=True)
class Tree:
    lab: StreamLab
    blocks: dict[str, StreamedBlock]

    def block(self, path: str) -> StreamedBlock:
        return self.blocks[path]

    def canonical(self, path: str) -> CanonicalBlock:
        block: CanonicalBlock = self.blocks[path].canonical if path else self.lab.start
        return block


@cache
def tree() -> Tree:
    lab = StreamLab()
    blocks: dict[str, StreamedBlock] = {}
    for path in PATHS:
        # A side pays from an account of its own; the third flashblock is from one that both use.
        side, parent = path[-1], path[:-1]
        nonce = path[:-1].count(side)
        raws = [
            signed(SENDERS[side], 2 * nonce, b"\x51" * 20, value=len(path), gas=21_000),
            signed(SENDERS[side], 2 * nonce + 1, b"\x52" * 20, value=len(path), gas=21_000),
            signed(2, len(parent), b"\x53" * 20, value=ord(side), gas=21_000),
        ]
        blocks[path] = lab.build(
            [[raw] for raw in raws], blocks[parent].sealed.header if parent else None, salt=ord(side)
        )
    return Tree(lab, blocks)


class Orders(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        defects.forget()
        self.tree = tree()
        self.overlay = Overlay(ChainRules(self.tree.lab.config))
        self.assembler = Assembler()
        self.overlay.confirm([self.tree.lab.start])
        self.missing = Missing()
        self.before: PendingView | None = None
        self.retracted = 0
        self.damages = 0
        self.by_id = {
            block.flashblocks[0].payload_id: (path, block) for path, block in self.tree.blocks.items()
        }

    def _feed(self, flashblock: Flashblock) -> None:
        self.overlay.follow(self.assembler.feed(flashblock, 0))

    def _path_of(self, block_hash: bytes) -> str:
        found = [path for path, block in self.tree.blocks.items() if block.sealed.hash == block_hash]
        return found[0] if found else ""

    # --- what happens on a good day ---

    @rule(side=st.sampled_from("ab"), count=counts, executes=mostly)
    def next_block_is_streamed(self, side: str, count: int, executes: bool) -> None:
        view, head = self.overlay.view, self.overlay.head
        assert head is not None
        parent = self._path_of(head.hash) if view is None else self.by_id[view.latest.payload_id][0]
        for flashblock in self.tree.blocks[parent + side].flashblocks[:count] if len(parent) < DEPTH else ():
            self._feed(flashblock)
            if executes:
                self.all_state_comes()

    @rule(executes=mostly)
    def block_is_completed(self, executes: bool) -> None:
        if self.overlay.view is None:
            return
        for flashblock in self.by_id[self.overlay.view.latest.payload_id][1].flashblocks:
            self._feed(flashblock)
        if executes:
            self.all_state_comes()

    @rule(side=st.sampled_from("ab"), count=counts)
    def next_block_begins_before_the_last_is_sealed(self, side: str, count: int) -> None:
        self.block_is_completed(executes=True)
        self.next_block_is_streamed(side, count, executes=True)
        self.block_is_sealed(last=False)

    @rule(last=st.booleans())
    def block_is_sealed(self, last: bool) -> None:
        view = self.overlay.view
        if view is None:
            return
        blocks = view.blocks if last else view.blocks[:1]
        self.overlay.confirm([self.by_id[block.payload_id][1].canonical for block in blocks])

    @rule()
    def its_sibling_is_sealed(self) -> None:
        if self.overlay.view is not None:
            path = self.by_id[self.overlay.view.blocks[0].payload_id][0]
            self.overlay.confirm([self.tree.canonical(path[:-1] + ("b" if path[-1] == "a" else "a"))])

    # --- the stream ---

    @rule(path=main_paths, count=st.integers(1, 4))
    def stream(self, path: str, count: int) -> None:
        for flashblock in self.tree.block(path).flashblocks[:count]:
            self._feed(flashblock)

    @rule(path=paths, index=indices)
    def one_flashblock(self, path: str, index: int) -> None:
        self._feed(self.tree.block(path).flashblocks[index])

    @precondition(lambda self: self.overlay.view)
    @rule(bad=st.sampled_from([b"", b"\x02junk", signed(0, 77)]))
    def damaged_flashblock(self, bad: bytes) -> None:
        assert self.overlay.view is not None
        latest = self.overlay.view.latest
        for flashblock in self.by_id[latest.payload_id][1].flashblocks[latest.index + 1 :][:1]:
            self.damages += 1
            self._feed(replace(flashblock, diff=replace(flashblock.diff, transactions=(bad,))))

    @rule(path=paths, index=indices)
    def event_that_nobody_expects(self, path: str, index: int) -> None:
        """The overlay does not rely on who calls it."""
        self.damages += 1
        flashblock = self.tree.block(path).flashblocks[index]
        self.overlay.follow([Accepted(flashblock, 0, 0, None)])

    @rule(path=paths)
    def opened_twice(self, path: str) -> None:
        first = self.tree.block(path).flashblocks[0]
        assert first.base is not None
        self.overlay.follow([Opened(first.payload_id, first.block_number, first.base)])

    @rule(path=paths, reason=st.sampled_from(CloseReason))
    def closed(self, path: str, reason: CloseReason) -> None:
        first = self.tree.block(path).flashblocks[0]
        assert first.base is not None
        payload = Payload(first.payload_id, first.block_number, first.base, (first,))
        self.overlay.follow([Closed(payload, reason)])

    @rule(path=paths, index=indices)
    def truncated(self, path: str, index: int) -> None:
        name = self.tree.block(path).flashblocks[0].payload_id
        self.overlay.follow([PrevMismatch("0x00", index, "1-9", "1-8", name)])

    @rule(chance=st.integers(0, 3))
    def silence(self, chance: int) -> None:
        if not chance:
            self.overlay.expire()

    # --- the chain ---

    @rule(path=st.one_of(paths, main_paths, st.just("")), between=st.booleans())
    def head(self, path: str, between: bool) -> None:
        """Any block: the next, one further on, a sibling, an ancestor."""
        known = self.overlay.head
        start = 0 if known is None else known.number
        steps = [path[:length] for length in range(start + 1, len(path))] if between else []
        self.overlay.confirm([self.tree.canonical(step) for step in [*steps, path]])

    # --- execution ---

    @rule()
    def step(self) -> None:
        self.missing = self.overlay.step()

    @precondition(lambda self: self.missing)
    @rule(share=st.integers(1, 3))
    def some_state_comes(self, share: int) -> None:
        """What was asked for, or a part of it; not to come at all is to be asked for again."""
        canonical = self.overlay.canonical
        assert canonical is not None
        missing = Missing(
            {address for place, address in enumerate(sorted(self.missing.accounts)) if place % share == 0},
            {slot for place, slot in enumerate(sorted(self.missing.slots)) if place % share == 0},
            set(self.missing.hashes),
        )
        self.tree.lab.load(canonical, missing)

    @rule()
    def all_state_comes(self) -> None:
        while missing := self.overlay.step():
            canonical = self.overlay.canonical
            assert canonical is not None
            self.tree.lab.load(canonical, missing)
        self.missing = Missing()

    # --- what always holds ---

    @invariant()
    def nothing_went_wrong(self) -> None:
        assert defects.counts() == {}
        assert self.overlay.counts.diverged <= self.damages, "real blocks execute"

    @invariant()
    def pending_stands_on_the_head(self) -> None:
        view = self.overlay.view
        if view is None:
            return
        assert view.canonical is self.overlay.canonical
        parent = view.canonical.block
        for place, block in enumerate(view.blocks):
            assert block.number == parent.number + 1 + place
        assert view.blocks[0].context.parent_hash == parent.hash

    @invariant()
    def blocks_hold_their_own_transactions(self) -> None:
        view = self.overlay.view
        for block in () if view is None else view.blocks:
            _, streamed = self.by_id[block.payload_id]
            count = sum(len(each.diff.transactions) for each in streamed.flashblocks[: block.index + 1])
            own = streamed.sealed.envelopes[:count]
            assert [each.hash for each in block.envelopes] == [each.hash for each in own]
            assert block.receipts == streamed.sealed.receipts[:count]
            assert block.agrees and block.number == streamed.sealed.header.number
            assert block.state.canonical is self.overlay.canonical

    @invariant()
    def what_is_taken_back_is_said(self) -> None:
        view, before, head = self.overlay.view, self.before, self.overlay.head
        shown = {} if view is None else {block.payload_id: block.index for block in view.blocks}
        assert head is not None
        fewer = [
            block
            for block in (() if before is None else before.blocks)
            if block.number > head.number and shown.get(block.payload_id, -1) < block.index
        ]
        retracted = sum(self.overlay.counts.retracted.values())
        assert retracted - self.retracted >= len(fewer)
        self.before, self.retracted = view, retracted

    def teardown(self) -> None:
        """Whatever went before, the next blocks of the chain are pending as ever."""
        self.overlay.expire()
        fresh = StreamedRow(self.tree)
        self.overlay.confirm([self.tree.canonical(fresh.parent)])
        self.overlay.follow(fresh.events)
        self.all_state_comes()
        view: Any = self.overlay.view
        assert view is not None and (view.latest.number, view.latest.index) == (DEPTH + 1, 0)


class StreamedRow:
    """A block above the tree, which no order has spoilt."""

    def __init__(self, made: Tree) -> None:
        self.parent = "a" * DEPTH
        header = made.block(self.parent).sealed.header
        (flashblock,) = _above(made.lab, self.parent).flashblocks[:1]
        assert flashblock.base is not None and flashblock.base.parent_hash == header.hash
        self.events: list[Event] = [
            Opened(flashblock.payload_id, flashblock.block_number, flashblock.base),
            Accepted(flashblock, 0, 0, None),
        ]


_BUILT: dict[str, StreamedBlock] = {}


def _above(lab: StreamLab, parent: str) -> StreamedBlock:
    if parent not in _BUILT:
        _BUILT[parent] = lab.build([], tree().block(parent).sealed.header)
    return _BUILT[parent]


TestOrders = Orders.TestCase
TestOrders.settings = settings(max_examples=examples(60), stateful_step_count=40)
