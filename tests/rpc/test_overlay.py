"""The overlay without sockets or sleeps: real blocks streamed, sealed, lost, replaced and reordered."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from support.stream_lab import StreamedBlock, StreamLab, contract, signed, word

from flashctl.chain.devnet_accounts import DEVNET_ACCOUNTS
from flashctl.core.flashblocks.sequence import Accepted, Assembler
from flashctl.core.flashblocks.wire import ZERO_HASH, Flashblock
from flashctl.core.service import defects
from flashctl.evm.calls import create_address
from flashctl.evm.missing_state import Missing, StateMissing
from flashctl.op.forks import OpFork
from flashctl.op.system_calls import BEACON_ROOTS, HISTORY_STORAGE
from flashctl.remote.state import StateView
from flashctl.rpc.chain_rules import ChainRules
from flashctl.rpc.execution import FlashblockRun
from flashctl.rpc.held_payloads import EndReason
from flashctl.rpc.overlay import Overlay

TARGET = b"\x99" * 20
PROBE = contract("Probe")
TOKEN = contract("Token")


@pytest.fixture(autouse=True)
def no_defects() -> Iterator[None]:
    defects.forget()
    yield
    defects.forget()


class Bench:
    """An overlay, the stream's assembler and the node, driven by hand."""

    def __init__(self, lab: StreamLab | None = None, *, max_depth: int = 3) -> None:
        self.lab = lab or StreamLab()
        self.overlay = Overlay(ChainRules(self.lab.config), max_depth=max_depth)
        self.assembler = Assembler()
        self.overlay.confirm([self.lab.start])

    def stream(self, *flashblocks: Flashblock) -> None:
        for flashblock in flashblocks:
            events = self.assembler.feed(flashblock, 0)
            self.overlay.follow(events)
            self.settle()

    def settle(self) -> None:
        while missing := self.overlay.step():
            assert self.overlay.canonical is not None
            self.lab.load(self.overlay.canonical, missing)

    def confirm(self, *blocks: StreamedBlock) -> None:
        self.overlay.confirm([block.canonical for block in blocks])
        self.settle()

    def balance(self, address: bytes) -> int:
        """Of the pending state, loading what is missing."""
        view = self.overlay.view
        assert view is not None
        while True:
            try:
                account = StateView(view.latest.state).account(int.from_bytes(address, "big"))
            except StateMissing as error:
                self.lab.load(view.canonical, error.missing)
            else:
                return 0 if account is None else account.balance

    @property
    def pending(self) -> tuple[int, int, int] | None:
        """Number, flashblock index and transaction count of the pending block."""
        view = self.overlay.view
        if view is None:
            return None
        return view.latest.number, view.latest.index, len(view.latest.envelopes)


def pay(sender: int, nonce: int, value: int = 5) -> bytes:
    return signed(sender, nonce, TARGET, value=value, gas=21_000)


@pytest.mark.parametrize("fork", [OpFork.ISTHMUS, OpFork.JOVIAN])
def test_every_flashblock_executes_to_what_its_builder_announced(fork: OpFork) -> None:
    lab = StreamLab(fork)
    code = bytes.fromhex(TOKEN["code"].removeprefix("0x"))
    token = create_address(int.from_bytes(DEVNET_ACCOUNTS[0].address, "big"), 0).to_bytes(20, "big")
    move = bytes.fromhex(TOKEN["transfer(address,uint256)"]) + word(TARGET)
    block = lab.build(
        [
            [signed(0, 0, None, data=code, gas=3_000_000), pay(1, 0)],
            [],
            [signed(0, 1, token, data=move + word(7)), signed(0, 2, token, data=move + word(8)), pay(1, 1)],
        ]
    )
    bench = Bench(lab)
    for count, flashblock in zip((1, 3, 3, 6), block.flashblocks, strict=True):
        bench.stream(flashblock)
        assert bench.pending == (1, flashblock.index, count)
        assert bench.overlay.view is not None and bench.overlay.view.latest.agrees
    assert bench.overlay.view.latest.receipts == block.sealed.receipts
    assert bench.balance(TARGET) == 10
    assert bench.overlay.counts.disagreements == bench.overlay.counts.diverged == 0


def test_state_after_a_pending_block_is_the_sealed_state() -> None:
    """Everything the block changed, account by account and slot by slot."""
    lab = StreamLab()
    probe = bytes.fromhex(PROBE["code"].removeprefix("0x"))
    address = create_address(int.from_bytes(DEVNET_ACCOUNTS[0].address, "big"), 0).to_bytes(20, "big")
    fill = bytes.fromhex(PROBE["fill(uint256,uint256)"])
    clear = bytes.fromhex(PROBE["clear(uint256,uint256)"])
    block = lab.build(
        [
            [signed(0, 0, None, data=probe, gas=3_000_000)],
            [signed(0, 1, address, data=fill + word(10) + word(20))],
            [signed(0, 2, address, data=clear + word(12) + word(3)), pay(2, 0)],
        ]
    )
    bench = Bench(lab)
    bench.stream(*block.flashblocks)
    assert bench.overlay.view is not None
    changes = bench.overlay.view.latest.changes
    world = block.sealed.world
    for account, ours in changes.accounts.items():
        assert ours == world.account(account)
    for account, slots in changes.storage.items():
        for slot, value in slots.items():
            assert value == world.storage(account, slot)
    assert lab.genesis.world.apply(changes).root == block.sealed.header.state_root


def test_the_node_is_asked_only_for_what_is_new() -> None:
    bench = Bench()
    first = bench.lab.build([[pay(0, 0)], [pay(0, 1)]])
    bench.stream(*first.flashblocks)
    second = bench.lab.build([[pay(0, 2)], [pay(0, 3)]], first.sealed.header)
    bench.confirm(first)
    bench.lab.loads.clear()
    bench.stream(*second.flashblocks)
    assert bench.pending == (2, 2, 3)
    (load,) = bench.lab.loads
    assert not load.accounts
    # The history contracts of EIP-4788 and EIP-2935 write a slot of their rings that depends on the block.
    assert {address for address, _ in load.slots} == {BEACON_ROOTS, HISTORY_STORAGE}
    assert bench.overlay.counts.confirmed == 1


def test_the_next_block_begins_before_the_node_has_the_last_one() -> None:
    bench = Bench()
    first = bench.lab.build([[pay(0, 0)]])
    second = bench.lab.build([[pay(0, 1)]], first.sealed.header)
    bench.stream(*first.flashblocks, *second.flashblocks)
    assert bench.pending == (2, 1, 2)
    assert bench.overlay.view is not None and len(bench.overlay.view.blocks) == 2
    assert bench.balance(TARGET) == 10
    bench.confirm(first)
    assert bench.pending == (2, 1, 2)
    assert bench.overlay.view.canonical.block.number == 1
    assert len(bench.overlay.view.blocks) == 1
    assert bench.balance(TARGET) == 10
    bench.confirm(second)
    assert bench.pending is None
    assert (bench.overlay.counts.confirmed, bench.overlay.counts.reorged) == (2, 0)


def test_a_block_whose_parent_is_unknown_waits_for_the_node() -> None:
    bench = Bench()
    first = bench.lab.build([[pay(0, 0)]])
    second = bench.lab.build([[pay(0, 1)]], first.sealed.header)
    bench.stream(*second.flashblocks)
    assert bench.pending is None and "waits for its parent" in bench.overlay.trouble
    bench.confirm(first)
    assert bench.pending == (2, 1, 2)
    assert bench.overlay.trouble == ""


def test_a_lost_tail_keeps_the_next_block_waiting() -> None:
    bench = Bench()
    first = bench.lab.build([[pay(0, 0)], [pay(0, 1)]])
    second = bench.lab.build([[pay(0, 2)]], first.sealed.header)
    bench.stream(*first.flashblocks[:-1], *second.flashblocks)
    assert bench.pending == (1, 1, 2), "block 2 does not stand on what we have of block 1"
    bench.confirm(first)
    assert bench.pending == (2, 1, 2)
    assert bench.overlay.counts.truncated == 1


def test_a_gap_ends_the_growth_of_a_block_and_takes_nothing_back() -> None:
    bench = Bench()
    first = bench.lab.build([[pay(0, 0)], [pay(0, 1)], [pay(0, 2)]])
    bench.stream(first.flashblocks[0], first.flashblocks[1], first.flashblocks[3])
    assert bench.pending == (1, 1, 2) and bench.balance(TARGET) == 5
    assert "what follows did not arrive" in bench.overlay.trouble
    second = bench.lab.build([[pay(0, 3)]], first.sealed.header)
    bench.confirm(first)
    bench.stream(*second.flashblocks)
    assert bench.pending == (2, 1, 2) and bench.overlay.trouble == ""
    assert not bench.overlay.counts.retracted


def test_a_server_that_replays_a_broken_payload_heals_it() -> None:
    bench = Bench()
    block = bench.lab.build([[pay(0, 0)], [pay(0, 1)], [pay(0, 2)]])
    bench.stream(block.flashblocks[0], block.flashblocks[1], block.flashblocks[3])
    for flashblock in block.flashblocks:
        bench.stream(flashblock)
        assert bench.pending is not None and bench.pending[1] >= 1, "never less than before"
    assert bench.pending == (1, 3, 4) and bench.overlay.trouble == ""


def test_a_replay_that_says_something_else_changes_nothing() -> None:
    bench = Bench()
    block = bench.lab.build([[pay(0, 0)], [pay(0, 1)], [pay(0, 2)]])
    bench.stream(block.flashblocks[0], block.flashblocks[1], block.flashblocks[3])
    other = replace(block.flashblocks[1], diff=replace(block.flashblocks[1].diff, transactions=()))
    bench.stream(block.flashblocks[0], other, *block.flashblocks[2:])
    assert bench.pending == (1, 1, 2)


def test_what_was_preconfirmed_can_still_be_looked_up_when_it_is_sealed() -> None:
    """The node may be several, one of which has not heard of the block yet."""
    bench = Bench()
    block = bench.lab.build([[pay(0, 0)], [pay(0, 1)]])
    again = bench.lab.build([[pay(0, 0)]], salt=1)
    bench.stream(*again.flashblocks, *block.flashblocks)
    bench.confirm(block)
    found = bench.overlay.recent(block.sealed.envelopes[2].hash)
    assert found is not None and found[1] == 2
    assert bench.overlay.recent(again.sealed.envelopes[0].hash) is None, "that one never came to be"


def test_a_block_built_again_replaces_the_first_build() -> None:
    bench = Bench()
    first = bench.lab.build([[pay(0, 0, value=1)]])
    again = bench.lab.build([[pay(0, 0, value=9)]], salt=1)
    bench.stream(*first.flashblocks)
    assert bench.balance(TARGET) == 1
    bench.stream(*again.flashblocks)
    assert bench.pending == (1, 1, 2)
    assert bench.balance(TARGET) == 9
    assert bench.overlay.counts.retracted == {EndReason.REPLACED: 1}


def test_a_sealed_block_that_differs_wins() -> None:
    bench = Bench()
    streamed = bench.lab.build([[pay(0, 0, value=1)]])
    sealed = bench.lab.build([[pay(0, 0, value=9)]], salt=1)
    following = bench.lab.build([[pay(0, 1, value=2)]], sealed.sealed.header)
    bench.stream(*streamed.flashblocks)
    bench.confirm(sealed)
    assert bench.pending is None
    assert bench.overlay.counts.reorged == 1
    assert bench.overlay.counts.retracted == {EndReason.REORGANISED: 1}
    bench.stream(*following.flashblocks)
    assert bench.balance(TARGET) == 11


def test_a_reorg_to_a_sibling_executes_again_on_it() -> None:
    bench = Bench()
    one, other = bench.lab.build([[pay(0, 0, value=1)]]), bench.lab.build([[pay(0, 0, value=2)]], salt=1)
    on_other = bench.lab.build([[pay(0, 1, value=4)]], other.sealed.header)
    bench.stream(*one.flashblocks)
    bench.confirm(one)
    bench.stream(*on_other.flashblocks)
    assert bench.pending is None, "its parent is not the head"
    bench.confirm(other)
    assert bench.pending == (2, 1, 2)
    assert bench.balance(TARGET) == 6


def test_heads_that_skip_blocks() -> None:
    bench = Bench()
    first = bench.lab.build([[pay(0, 0)]])
    second = bench.lab.build([[pay(0, 1)]], first.sealed.header)
    third = bench.lab.build([[pay(0, 2)]], second.sealed.header)
    bench.stream(*first.flashblocks, *second.flashblocks, *third.flashblocks)
    assert bench.pending == (3, 1, 2)
    bench.confirm(first, second)
    assert bench.pending == (3, 1, 2) and bench.overlay.counts.confirmed == 2
    assert bench.balance(TARGET) == 15
    bench.confirm(third)
    assert bench.pending is None


def test_a_head_far_beyond_empties_pending() -> None:
    bench = Bench()
    blocks = [bench.lab.build([[pay(0, 0)]])]
    for nonce in range(1, 5):
        blocks.append(bench.lab.build([[pay(0, nonce)]], blocks[-1].sealed.header))
    bench.stream(*blocks[0].flashblocks)
    bench.overlay.confirm([blocks[4].canonical])
    assert bench.pending is None


def test_depth_bounds_what_lies_above_the_head() -> None:
    bench = Bench(max_depth=2)
    parent = None
    for nonce in range(4):
        block = bench.lab.build([[pay(0, nonce)]], parent)
        parent = block.sealed.header
        bench.stream(*block.flashblocks)
    view = bench.overlay.view
    assert view is None or len(view.blocks) <= 2


def test_silence_empties_pending() -> None:
    bench = Bench()
    bench.stream(*bench.lab.build([[pay(0, 0)]]).flashblocks)
    bench.overlay.expire()
    assert bench.pending is None
    assert bench.overlay.counts.retracted == {EndReason.EXPIRED: 1}


def test_a_stream_without_state_roots() -> None:
    """Base leaves them out: nothing but the transactions can be compared."""
    bench = Bench()

    def strip(block: StreamedBlock) -> list[Flashblock]:
        blank = {"state_root": ZERO_HASH, "block_hash": ZERO_HASH, "withdrawals_root": ZERO_HASH}
        return [replace(each, diff=replace(each.diff, **blank)) for each in block.flashblocks]

    first = bench.lab.build([[pay(0, 0)]])
    second = bench.lab.build([[pay(0, 1)]], first.sealed.header)
    bench.stream(*strip(first), *strip(second))
    assert bench.pending == (2, 1, 2)
    bench.confirm(first)
    assert bench.pending == (2, 1, 2) and bench.overlay.counts.confirmed == 1


def test_a_transaction_that_cannot_execute_ends_the_payload_not_the_overlay() -> None:
    bench = Bench()
    block = bench.lab.build([[pay(0, 0)]])
    bad = replace(block.flashblocks[1], diff=replace(block.flashblocks[1].diff, transactions=(pay(0, 7),)))
    bench.stream(block.flashblocks[0], bad)
    assert bench.pending == (1, 0, 1) and bench.overlay.counts.diverged == 1
    assert "does not execute" in bench.overlay.trouble
    junk = replace(bad, payload_id="0x" + "77" * 8, index=0, base=block.flashblocks[0].base)
    bench.stream(replace(junk, diff=replace(junk.diff, transactions=(b"\x02junk",))))
    assert bench.pending is None and bench.overlay.counts.diverged == 2
    again = bench.lab.build([[pay(0, 0)]], salt=1)
    bench.stream(*again.flashblocks)
    assert bench.pending == (1, 1, 2)


def test_a_disagreement_is_counted_and_shown() -> None:
    bench = Bench()
    block = bench.lab.build([[pay(0, 0)]])
    wrong = replace(block.flashblocks[1], diff=replace(block.flashblocks[1].diff, gas_used=1))
    bench.stream(block.flashblocks[0], wrong)
    assert bench.overlay.counts.disagreements == 1
    assert bench.overlay.view is not None and not bench.overlay.view.latest.agrees


def test_receipts_that_differ_from_the_sealed_ones_start_afresh() -> None:
    """Same transactions, other effects: nothing we computed may be carried forward."""
    bench = Bench()
    block = bench.lab.build([[pay(0, 0)]])
    bench.stream(*block.flashblocks)
    bench.overlay.confirm([replace(block.canonical, receipts_root=b"\x01" * 32)])
    assert bench.overlay.canonical is not None and bench.overlay.canonical.accounts == {}


@pytest.mark.parametrize("end", ["sealed", "expired", "given up", "replaced", "never begun"])
def test_a_flashblock_that_comes_after_the_end_of_its_payload(end: str) -> None:
    """It belongs to nothing that is held, and least of all to the payload that happens to be the last."""
    bench = Bench()
    block = bench.lab.build([[pay(0, 0)], [pay(1, 0)], [pay(2, 0)]])
    following = bench.lab.build([[pay(3, 0)]], block.sealed.header)
    accepted = [Accepted(flashblock, 0, 0, None) for flashblock in block.flashblocks]
    overlay = bench.overlay
    if end != "never begun":
        bench.stream(*block.flashblocks[:2])
    match end:
        case "sealed":
            bench.confirm(block)
        case "expired":
            overlay.expire()
        case "given up":
            first = block.flashblocks[2]
            bad = replace(first, diff=replace(first.diff, transactions=(b"\x02junk",)))
            overlay.follow([Accepted(bad, 0, 0, None)])
            overlay.step()
        case "replaced":
            bench.stream(*bench.lab.build([[pay(4, 0)]], salt=1).flashblocks)
    before = overlay.view
    overlay.follow(accepted[2:])
    bench.settle()
    assert overlay.view is before or overlay.view == before
    assert sum(overlay.counts.ignored.values()) == 2
    bench.confirm(block)
    bench.stream(*following.flashblocks)
    assert bench.pending == (2, 1, 2)


def test_a_payload_that_begins_when_its_block_is_sealed() -> None:
    """The stream is a block behind the node."""
    bench = Bench()
    first = bench.lab.build([[pay(0, 0)]])
    second = bench.lab.build([[pay(0, 1)]], first.sealed.header)
    bench.confirm(first)
    bench.stream(*first.flashblocks)
    assert bench.pending is None and bench.overlay.counts.ignored == {"late": 2}
    bench.stream(*second.flashblocks)
    assert bench.pending == (2, 1, 2)


def test_a_payload_that_lies_about_its_number() -> None:
    bench = Bench()
    block = bench.lab.build([[pay(0, 0)]])
    base = block.flashblocks[0].base
    assert base is not None
    bench.stream(replace(block.flashblocks[0], base=replace(base, block_number=7)))
    assert bench.pending is None and bench.overlay.counts.diverged == 1
    assert "block 7 is not followed" in bench.overlay.trouble


def test_a_defect_costs_the_payload(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    first = bench.lab.build([[pay(0, 0)], [pay(1, 0)]])
    second = bench.lab.build([[pay(0, 1)]], first.sealed.header)
    bench.stream(*first.flashblocks[:2])

    def fail(self: FlashblockRun) -> Missing:
        raise IndexError("nobody thought of this")

    with monkeypatch.context() as patched:
        patched.setattr(FlashblockRun, "advance", fail)
        bench.stream(first.flashblocks[2])
    assert bench.pending == (1, 1, 2) and "a defect" in bench.overlay.trouble
    assert defects.counts()["rpc.overlay"] == 1
    bench.confirm(first)
    bench.stream(*second.flashblocks)
    assert bench.pending == (2, 1, 2) and bench.overlay.trouble == ""


def test_what_waits_is_fetched_for_in_the_same_round() -> None:
    """Accounts, contracts and slots of three flashblocks in as many fetches as those of one."""

    def rounds(bench: Bench, flashblocks: tuple[Flashblock, ...]) -> int:
        for flashblock in flashblocks:
            bench.overlay.follow(bench.assembler.feed(flashblock, 0))
        before = len(bench.lab.loads)
        bench.settle()
        return len(bench.lab.loads) - before

    lab = StreamLab()
    code = bytes.fromhex(PROBE["code"].removeprefix("0x"))
    creator = int.from_bytes(DEVNET_ACCOUNTS[0].address, "big")
    probes = [create_address(creator, nonce).to_bytes(20, "big") for nonce in range(3)]
    deploy = lab.build([[signed(0, nonce, None, data=code, gas=3_000_000) for nonce in range(3)]])
    fill = bytes.fromhex(PROBE["fill(uint256,uint256)"])
    use = lab.build(
        [
            [signed(sender, 0, probes[sender - 1], data=fill + word(sender) + word(2), gas=500_000)]
            for sender in (1, 2, 3)
        ],
        deploy.sealed.header,
    )
    one, all_three = Bench(lab), Bench(lab)
    for bench in (one, all_three):
        bench.overlay.confirm([deploy.canonical])
        bench.stream(use.flashblocks[0])
    alone = rounds(one, use.flashblocks[1:2])
    assert rounds(all_three, use.flashblocks[1:]) == alone
    assert all_three.pending == (2, 3, 4) and all_three.overlay.view is not None
    assert all_three.overlay.view.latest.agrees


def test_updates_name_the_new_transactions() -> None:
    bench = Bench()
    block = bench.lab.build([[pay(0, 0), pay(0, 1)], [pay(0, 2)]])
    bench.stream(*block.flashblocks)
    updates = bench.overlay.take_updates()
    assert [(update.block.index, update.first_transaction) for update in updates] == [(0, 0), (1, 1), (2, 3)]
    assert bench.overlay.take_updates() == []


def test_rules_are_inferred_when_nobody_knows_the_chain() -> None:
    lab = StreamLab(OpFork.ISTHMUS)
    block = lab.build([[pay(0, 0)]])
    rules = ChainRules()
    rules.connected(901)
    overlay = Overlay(rules)
    bench = Bench(lab)
    bench.overlay = overlay
    overlay.confirm([lab.start])
    bench.stream(*block.flashblocks)
    assert overlay.view is not None and overlay.view.latest.agrees
    assert overlay.view.latest.fork is OpFork.ISTHMUS


@pytest.mark.parametrize("limit", ["MAX_CACHED_CODES", "MAX_CACHED_ENTRIES"])
def test_a_cache_that_grew_too_large_is_dropped_whole(monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    monkeypatch.setattr(f"flashctl.remote.state.{limit}", 0)
    bench = Bench()
    code = bytes.fromhex(PROBE["code"].removeprefix("0x"))
    probe = create_address(int.from_bytes(DEVNET_ACCOUNTS[0].address, "big"), 0).to_bytes(20, "big")
    increment = bytes.fromhex(PROBE["increment()"])
    parent = None
    for nonce in range(4):
        raw = (
            signed(0, nonce, probe, data=increment) if nonce else signed(0, 0, None, data=code, gas=3_000_000)
        )
        block = bench.lab.build([[raw]], parent)
        parent = block.sealed.header
        bench.stream(*block.flashblocks)
        assert bench.overlay.view is not None and bench.overlay.view.latest.agrees
        bench.confirm(block)
    assert bench.overlay.counts.confirmed == 4 and bench.overlay.counts.diverged == 0
