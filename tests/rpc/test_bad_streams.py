"""Streams that are late, stall, or carry what nobody can execute: the payload ends, the service does not.

Over real sockets, with a real node behind. After each of them the next block is pending as ever, and health
is good again by itself.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace
from typing import Any

import pytest
from support.assembler import assemble
from support.node_relay import NodeFaults
from support.rpc_node import ALICE, TARGET, Bench, run
from support.stream_lab import CHAIN_ID, StreamedBlock, signed

from flashctl.chain.devnet_accounts import DEVNET_ACCOUNTS
from flashctl.core.flashblocks.reorder import Reorder
from flashctl.core.flashblocks.wire import Flashblock
from flashctl.core.jsonrpc.errors import RpcError
from flashctl.core.service import defects
from flashctl.core.service.status import with_defects
from flashctl.eth.blocks import Header
from flashctl.eth.hexdata import to_hex
from flashctl.eth.signatures import sign_transaction
from flashctl.eth.transactions import FeeMarketTx, encode_transaction
from flashctl.evm.calls import create_address
from flashctl.op.config import ChainConfig
from flashctl.op.forks import OpFork
from flashctl.rpc.overlay import Update


@pytest.fixture(autouse=True)
def no_defects() -> Any:
    defects.forget()
    yield
    defects.forget()


def transfers(made: Bench, nonce: int, parent: Header | None = None) -> StreamedBlock:
    """A block of four flashblocks."""
    return made.lab.build([[signed(sender, nonce, value=5, gas=21_000)] for sender in range(3)], parent)


async def follows_again(made: Bench, last: StreamedBlock, nonce: int) -> None:
    """The node seals a block; the one after it is streamed, and everything is well."""
    await made.seal(last)
    following = transfers(made, nonce, last.sealed.header)
    await made.stream(following)
    health = made.node.health()
    assert health.ready and not health.degraded, health
    # Relayed: a node that fails once in a while fails this call as well.
    for _ in range(20):
        with contextlib.suppress(RpcError):
            assert await made.call("eth_chainId") == hex(CHAIN_ID)
            return
    raise AssertionError("the node answers nothing")


def with_transactions(flashblock: Flashblock, *raws: bytes) -> Flashblock:
    return replace(flashblock, diff=replace(flashblock.diff, transactions=raws))


@pytest.mark.parametrize("seen", range(5))
def test_a_stream_that_is_later_than_the_node(seen: int) -> None:
    """The node seals the block after any number of its flashblocks, and the rest come then."""

    async def scenario(made: Bench) -> None:
        block = transfers(made, 0)
        if seen:
            await made.stream(block, upto=seen)
        await made.seal(block)
        made.publish(*block.flashblocks[seen:])
        following = transfers(made, 1, block.sealed.header)
        await made.stream(following)
        assert made.node.overlay.view is not None and made.node.overlay.view.latest.number == 2
        await follows_again(made, following, 2)

    run(scenario)


def test_a_stream_that_is_blocks_behind_the_node() -> None:
    """Three seconds late: nothing of it is of any use, and nothing comes of it."""

    async def scenario(made: Bench) -> None:
        blocks = [transfers(made, 0)]
        for nonce in (1, 2):
            blocks.append(transfers(made, nonce, blocks[-1].sealed.header))
        for block in blocks:
            await made.seal(block)
        for block in blocks:
            made.publish(*block.flashblocks)
        await made.until(lambda: made.node.overlay.counts.ignored["late"] == 12)
        assert made.node.overlay.view is None
        await follows_again(made, blocks[-1], 3)

    run(scenario)


def test_a_stall_in_mid_block() -> None:
    async def scenario(made: Bench) -> None:
        block = transfers(made, 0)
        await made.stream(block, upto=2)
        await made.until(lambda: made.node.overlay.view is None)
        assert not made.node.health().ready
        made.publish(*block.flashblocks[2:])
        await made.until(lambda: made.node.overlay.counts.ignored["expired"] == 2)
        await made.seal(block)
        following = transfers(made, 1, block.sealed.header)
        await made.stream(following)
        assert made.node.health().ready

    run(scenario, stale_after_s=0.4)


def another_chain(nonce: int) -> bytes:
    tx = FeeMarketTx(CHAIN_ID + 1, nonce, 1, 10**11, 21_000, TARGET, 5, b"", (), 0, 0, 0)
    return encode_transaction(sign_transaction(tx, DEVNET_ACCOUNTS[0].secret))


@pytest.mark.parametrize(
    "raw",
    [b"", b"\x02junk", b"\x7e\xc0", b"\xff" * 100, signed(0, 7), another_chain(0)],
    ids=["empty", "junk", "no deposit", "no type", "nonce", "chain id"],
)
@pytest.mark.parametrize("index", [0, 2])
def test_a_transaction_that_nobody_can_execute(raw: bytes, index: int) -> None:
    """What came before it stays, and what comes after it is not taken for another block."""

    async def scenario(made: Bench) -> None:
        block = transfers(made, 0)
        bad = list(block.flashblocks)
        bad[index] = with_transactions(bad[index], raw)
        made.publish(*bad)
        await made.until(lambda: made.node.overlay.counts.diverged == 1)
        view = made.node.overlay.view
        assert (None if view is None else view.latest.index) == (index - 1 if index else None)
        health = made.node.health()
        assert health.ready and health.degraded and "block 1 is not followed" in health.detail
        await follows_again(made, block, 1)
        assert not made.node.overlay.counts.retracted

    run(scenario)


def test_rules_of_another_chain() -> None:
    """`--chain` and the node disagree: said in health, and nobody dies of it."""

    async def scenario(made: Bench) -> None:
        made.publish(*transfers(made, 0).flashblocks)
        await made.until(lambda: made.node.follower.is_fresh)
        health = made.node.health()
        assert health.degraded and f"the node follows chain {CHAIN_ID}" in health.detail

    rules = ChainConfig(CHAIN_ID + 5, tuple((fork, 0) for fork in OpFork if fork <= OpFork.JOVIAN))
    run(scenario, chain=rules)


WALK = 140

WALKER = assemble(
    "CALLDATASIZE @walk JUMPI PUSH1 1 PUSH1 0 SSTORE STOP "
    f"walk: PUSH1 0 SLOAD @go JUMPI STOP go: PUSH1 {WALK} PUSH1 2 "
    "next: SLOAD SWAP1 PUSH1 1 SWAP1 SUB SWAP1 DUP2 @next JUMPI STOP"
)
"""Without input sets a flag; with some walks a list, each slot of which holds the number of the next, if the
flag is set."""


def creation() -> bytes:
    """Fills the list and deploys the walker."""
    text = (
        f"PUSH1 2 next: DUP1 PUSH1 1 ADD DUP1 SWAP2 SSTORE DUP1 PUSH1 {WALK + 4} GT @next JUMPI "
        f"PUSH2 {len(WALKER)} @runtime PUSH1 0 CODECOPY PUSH2 {len(WALKER)} PUSH1 0 RETURN runtime:"
    )
    # The label's own JUMPDEST is not part of what is deployed.
    return assemble(text)[:-1] + WALKER


@pytest.mark.parametrize(
    "faults", [None, NodeFaults(hang=0.0, lag_every_s=1e9)], ids=["good node", "bad node"]
)
def test_two_cheap_transactions_that_walk_a_list(faults: NodeFaults | None) -> None:
    """The first sets a flag, without which the node's access list says nothing of the second; that reads 140
    cold slots, each of which names the next."""

    async def scenario(made: Bench) -> None:
        creator = int.from_bytes(DEVNET_ACCOUNTS[4].address, "big")
        walker = create_address(creator, 0).to_bytes(20, "big")
        planted = made.lab.build([[signed(4, 0, None, data=creation(), gas=20_000_000)]])
        assert planted.sealed.receipts[-1].succeeded
        await made.seal(planted)
        attack = made.lab.build(
            [[signed(5, 0, walker, gas=100_000), signed(6, 0, walker, data=b"\x01", gas=1_000_000)]],
            planted.sealed.header,
        )
        assert attack.sealed.receipts[-1].cumulative_gas_used > WALK * 2100
        await made.stream(attack)
        assert made.node.overlay.counts.rounds > WALK
        assert made.node.overlay.view is not None and made.node.overlay.view.latest.agrees
        await follows_again(made, attack, 0)

    run(scenario, faults=faults)


def test_a_node_that_fails_half_of_the_time_takes_nothing_back() -> None:
    faults = NodeFaults(0.1, 0.3, 0.05, 0.05, 0.05, 0.0, 0.0, 0.05, lag_every_s=1e9)

    async def scenario(made: Bench) -> None:
        parent = None
        for nonce in range(4):
            block = transfers(made, nonce, parent)
            await made.stream(block)
            await made.seal(block)
            parent = block.sealed.header
        assert made.node.follower.fetcher.failed or made.node.chain.failed
        assert not made.node.overlay.counts.retracted and made.node.overlay.counts.diverged == 0

    run(scenario, faults=faults)


def test_a_node_behind_is_not_listened_to() -> None:
    """Every second look at the head reaches a node that is a block behind."""

    async def scenario(made: Bench) -> None:
        head, looks, last = made.node.followed.head, 0, await made.node.followed.head()

        async def either() -> dict[str, Any]:
            nonlocal looks
            looks += 1
            return last if looks % 2 else await head()

        made.node.followed.head = either  # type: ignore[method-assign]
        block = transfers(made, 0)
        await made.stream(block)
        following = transfers(made, 1, block.sealed.header)
        made.publish(following.flashblocks[0])
        await made.seal(block)
        await made.until(lambda: made.shows(following.flashblocks[0].payload_id, 0))
        await made.until(lambda: made.node.chain.behind > 5)
        assert made.shows(following.flashblocks[0].payload_id, 0)
        assert not made.node.overlay.counts.retracted and not made.node.chain.reorgs
        assert made.node.overlay.head is not None and made.node.overlay.head.number == 1

    run(scenario)


@pytest.mark.parametrize("with_pool", [False, True])
def test_pending_between_blocks_is_not_answered_by_a_node_behind(with_pool: bool) -> None:
    """Nothing is pending, so it is latest; every second question reaches a node without the block."""

    async def scenario(made: Bench) -> None:
        block = transfers(made, 0)
        await made.stream(block)
        await made.seal(block)
        assert made.node.overlay.view is None
        made.node.chain._behind_s = time.monotonic()
        client = made.node.node.client
        batch, calls = client.batch, 0

        async def either(asked: Any, **options: Any) -> list[Any]:
            nonlocal calls
            calls += 1
            if calls % 2:
                stale = [(name, [*params[:-1], "0x0"]) if params else (name, []) for name, params in asked]
                return ["0x0", *(await batch(stale, **options))[1:]]
            return await batch(asked, **options)

        client.batch = either  # type: ignore[method-assign]
        for _ in range(3):
            assert await made.call("eth_getBalance", to_hex(TARGET), "pending") == hex(15)
        assert calls == 6
        for _ in range(3):
            assert await made.call("eth_getTransactionCount", ALICE, "pending") == "0x1"

    run(scenario, nonce_includes_pool=with_pool)


def test_a_defect_in_a_subscriber_costs_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(made: Bench) -> None:
        def fail(what: object) -> None:
            raise KeyError("nobody thought of this")

        seen: list[Update] = []
        made.node.follower.on_update(fail)
        made.node.follower.on_update(seen.append)
        made.node.chain.on_heads(fail)
        block = transfers(made, 0)
        await made.stream(block)
        assert len(seen) == 4
        await made.seal(block)
        await made.stream(transfers(made, 1, block.sealed.header))
        assert defects.counts() == {"rpc.on_update": 8, "rpc.on_heads": 1}
        assert "defect in rpc" in with_defects(made.node.health()).detail

    run(scenario)


def test_a_defect_in_reading_a_message_costs_that_message(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(made: Bench) -> None:
        feed = Reorder.feed

        def fail(self: Reorder[Flashblock], flashblock: Flashblock, now_ns: int) -> list[Flashblock]:
            if flashblock.index == 2:
                raise RecursionError("nobody thought of this")
            return feed(self, flashblock, now_ns)

        monkeypatch.setattr(Reorder, "feed", fail)
        block = transfers(made, 0)
        made.publish(*block.flashblocks)
        await made.until(lambda: defects.counts().get("rpc.message") == 1)
        await made.until(lambda: made.shows(block.flashblocks[0].payload_id, 1))
        monkeypatch.setattr(Reorder, "feed", feed)
        defects.forget()
        await follows_again(made, block, 1)

    run(scenario)


def test_a_defect_in_a_task_begins_it_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(made: Bench) -> None:
        take = made.node.overlay.take_updates
        calls = 0

        def fail() -> list[Update]:
            nonlocal calls
            calls += 1
            if calls == 2:
                raise ValueError("nobody thought of this")
            return take()

        monkeypatch.setattr(made.node.overlay, "take_updates", fail)
        block = transfers(made, 0)
        await made.stream(block)
        assert defects.counts() == {"rpc.work": 1}
        await made.seal(block)
        await made.stream(transfers(made, 1, block.sealed.header))
        assert await made.call("eth_getTransactionCount", ALICE, "pending") == "0x2"
        assert await made.call("eth_getBalance", to_hex(b"\x99" * 20), "pending") == hex(30)

    run(scenario)
