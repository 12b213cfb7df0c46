"""Transactions are looked at beside the event loop, in the order they came, each for itself."""

from __future__ import annotations

import asyncio
import contextlib
import threading

import pytest
from support.chains import ask, memory_chain, transfer
from support.cycles import no_cycles

from flashctl.builder.backend import EmbeddedBackend
from flashctl.builder.mempool import admission_queue as door
from flashctl.builder.mempool.admission import Mempool
from flashctl.builder.mempool.pool import PoolRefusal
from flashctl.builder.sync import CatchUp
from flashctl.chain.chain import Chain, ChainBlock
from flashctl.core.jsonrpc.caller import Caller, caller
from flashctl.core.jsonrpc.client import JsonRpcClient
from flashctl.core.jsonrpc.errors import ErrorCode, RpcError
from flashctl.core.jsonrpc.methods import Methods
from flashctl.core.jsonrpc.server import serve
from flashctl.errors import FlashctlError
from flashctl.op.envelope import TxEnvelope, recover_all


def seal(chain: Chain, *transactions: TxEnvelope) -> None:
    """A block with these, as the head."""
    build = EmbeddedBackend(chain).build(chain.head, ask(chain))
    for envelope in (*recover_all(ask(chain).transactions), *transactions):
        build.execute(envelope)
    chain.set_head(chain.insert(build.seal()).hash)


def test_a_thousand_are_answered_in_order_and_looked_at_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    queue = Mempool(memory_chain())
    threads: set[int] = set()
    look_at = Mempool._look_at

    def watched(self: Mempool, envelope: TxEnvelope) -> object:
        threads.add(threading.get_ident())
        return look_at(self, envelope)

    monkeypatch.setattr(Mempool, "_look_at", watched)
    sent = [transfer(account, nonce) for nonce in range(30) for account in range(10)]
    sent.insert(7, transfer(3, 0, fee=1, tip=0))
    answered: list[bytes] = []

    async def scenario() -> None:
        async def one(envelope: TxEnvelope) -> None:
            try:
                await queue.submit(envelope.raw)
            except PoolRefusal:
                answered.append(b"refused")
            else:
                answered.append(envelope.hash)

        await asyncio.gather(*map(one, sent))

    asyncio.run(scenario())
    expected = [envelope.hash for envelope in sent]
    # Account 3's first transaction came just before its cheaper rival.
    expected[7] = answered[7]
    assert answered == expected
    assert queue.counts()[0] == 300
    assert threading.get_ident() not in threads and len(threads) == 1


def test_the_account_is_looked_at_again_when_the_head_has_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    chain = memory_chain()
    queue = Mempool(chain)
    look_at = queue._look_at
    moved = []

    def slow(envelope: TxEnvelope) -> object:
        candidate = look_at(envelope)
        if not moved:
            moved.append(True)
            seal(chain, transfer(0, 0, value=2))
        return candidate

    monkeypatch.setattr(queue, "_look_at", slow)

    async def scenario() -> None:
        with pytest.raises(PoolRefusal, match="nonce too low: next nonce 1, tx nonce 0"):
            await queue.submit(transfer(0, 0).raw)
        await queue.submit(transfer(0, 1).raw)

    asyncio.run(scenario())
    assert queue.counts() == (1, 0)


def test_a_defect_costs_the_transaction_and_a_client_that_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    queue = Mempool(memory_chain())
    look_at = queue._look_at
    bad = transfer(1)

    def defective(envelope: TxEnvelope) -> object:
        if envelope.hash == bad.hash:
            raise KeyError("defect")
        return look_at(envelope)

    monkeypatch.setattr(queue, "_look_at", defective)

    async def scenario() -> None:
        tasks = [asyncio.create_task(queue.submit(transfer(account).raw)) for account in range(4)]
        await asyncio.sleep(0)
        tasks[2].cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [
            TxEnvelope,
            KeyError,
            asyncio.CancelledError,
            TxEnvelope,
        ]
        await queue.submit(transfer(4).raw)

    asyncio.run(scenario())
    assert queue.counts() == (4, 0)


def test_the_line_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "MAX_WAITING", 3)
    queue = Mempool(memory_chain())

    async def scenario() -> None:
        outcomes = await asyncio.gather(
            *(queue.submit(transfer(account).raw) for account in range(10)), return_exceptions=True
        )
        refused = [str(outcome) for outcome in outcomes if isinstance(outcome, PoolRefusal)]
        assert refused and all("txpool is busy" in text for text in refused)
        await queue.submit(transfer(9, 0).raw)

    asyncio.run(scenario())


def test_a_single_transaction_waits_for_no_batch_of_another_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "BATCH", 4)
    monkeypatch.setattr(door, "MAX_WAITING_PER_ADDRESS", 12)
    queue = Mempool(memory_chain())
    answered: list[int] = []
    refused: list[str] = []

    async def send(who: Caller, envelope: TxEnvelope) -> None:
        caller.set(who)
        try:
            await queue.submit(envelope.raw)
        except PoolRefusal as refusal:
            refused.append(str(refusal))
        else:
            answered.append(envelope.tx.nonce if who.address == "attacker" else -1)

    async def scenario() -> None:
        attack = [send(Caller("attacker", 1), transfer(0, nonce)) for nonce in range(20)]
        await asyncio.gather(*attack, send(Caller("honest", 2), transfer(1, 0)))

    asyncio.run(scenario())
    # The first of the attacker's was alone in line, or the first four were; the honest one is in the next go.
    assert answered.index(-1) <= 8
    answered.remove(-1)
    assert answered == list(range(12))
    assert len(refused) == 8 and all("too many transactions wait" in text for text in refused)


def test_a_refusal_leaves_no_cycle_behind() -> None:
    queue = Mempool(memory_chain())

    async def refused(raw: bytes) -> None:
        # What it looks at refuses some, the pool refuses others.
        with contextlib.suppress(FlashctlError):
            await queue.submit(raw)
            raise AssertionError("taken in")

    async def scenario() -> None:
        await queue.submit(transfer(3, 0).raw)
        await asyncio.sleep(0)
        with no_cycles():
            await refused(transfer(3, 0, fee=1, tip=0).raw)
            await refused(transfer(3, 0).raw)
            await refused(b"\x02\xc0")
            await asyncio.sleep(0)

    asyncio.run(scenario())


def test_a_peer_without_blocks_leaves_no_cycle_behind() -> None:
    async def refuse(params: list[object]) -> object:
        raise RpcError(ErrorCode.SERVER_ERROR, "missing block")

    async def scenario() -> None:
        methods = Methods()
        methods.register("debug_getRawBlock", refuse)
        server = await serve(methods, "127.0.0.1", 0)
        peer = JsonRpcClient(server.url)

        async def never(_: object) -> ChainBlock:
            raise AssertionError

        catch_up = CatchUp(memory_chain(), peer, never, never)
        try:
            with contextlib.suppress(FlashctlError):
                await peer.call("debug_getRawBlock", ["0x1"])
            with no_cycles():
                with contextlib.suppress(FlashctlError):
                    await catch_up._raw_blocks(range(1, 5))
                await asyncio.sleep(0)
        finally:
            await peer.close()
            await server.close()

    asyncio.run(scenario())
