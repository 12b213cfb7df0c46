"""What waits at the node of `--sync-rpc` is taken over: at the start, as it comes, and after an outage."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from support.builders import ANY, builder_config, rpc_client, running, scenario
from support.chains import transfer
from support.waiting import until

from flashctl.builder.mempool.peer_transactions import PeerTransactions, _hashes, _hashes_of_content
from flashctl.builder.service import BuilderService
from flashctl.core.jsonrpc.client import JsonRpcClient
from flashctl.core.jsonrpc.methods import Methods
from flashctl.core.jsonrpc.server import serve
from flashctl.core.net.addresses import ListenAddress
from flashctl.errors import FlashctlError
from flashctl.eth.hexdata import to_hex


def url_of(service: BuilderService) -> str:
    return f"http://127.0.0.1:{service.ports['http']}"


async def send(service: BuilderService, *raws: bytes) -> None:
    client = rpc_client(service)
    for raw in raws:
        await client.call("eth_sendRawTransaction", [to_hex(raw)])
    await client.close()


def test_a_builder_that_starts_takes_over_what_the_fallback_holds_and_then_what_comes(tmp_path: Path) -> None:
    async def body() -> None:
        fallback_config = builder_config(tmp_path, "fallback", stream=None)
        async with running(fallback_config) as fallback:
            # Twelve of one sender: as texts, nonces 10 and 11 come before 2.
            early = [transfer(0, nonce) for nonce in range(12)] + [transfer(1, nonce=3)]
            await send(fallback, *(tx.raw for tx in early))
            async with running(builder_config(tmp_path, sync_rpc=url_of(fallback))) as builder:
                await until(lambda: all(tx.hash in builder.queue for tx in early))
                assert builder.queue.counts() == (12, 1)
                late = transfer(2)
                await send(fallback, late.raw)
                await until(lambda: late.hash in builder.queue)
                taking = builder.peer_pool
                assert taking is not None
                await until(lambda: taking.taken == 14)

    scenario(body)


def test_after_an_outage_the_whole_pool_is_read_again(tmp_path: Path) -> None:
    async def body() -> None:
        async with running(builder_config(tmp_path, "fallback", stream=None)) as fallback:
            port = fallback.ports["http"]
        async with running(builder_config(tmp_path, sync_rpc=f"http://127.0.0.1:{port}")) as builder:
            # Nobody is there yet.
            again = builder_config(tmp_path, "fallback", stream=None, http=ListenAddress("127.0.0.1", port))
            async with running(again) as fallback:
                await send(fallback, transfer(1).raw)
                await until(lambda: transfer(1).hash in builder.queue)
            async with running(again) as fallback:
                # It knows nothing of the filter that the one before gave out.
                await send(fallback, transfer(2).raw)
                await until(lambda: transfer(2).hash in builder.queue)

    scenario(body)


def test_two_nodes_that_read_from_each_other_hand_nothing_back_and_forth(tmp_path: Path) -> None:
    async def body() -> None:
        async with running(builder_config(tmp_path, "one")) as free:
            port = free.ports["http"]
        settings = builder_config(tmp_path, "fallback", stream=None, sync_rpc=f"http://127.0.0.1:{port}")
        async with running(settings) as fallback:
            one = builder_config(
                tmp_path, "one", http=ListenAddress("127.0.0.1", port), sync_rpc=url_of(fallback)
            )
            async with running(one) as builder:
                here, there = transfer(0), transfer(1)
                await send(builder, here.raw)
                await send(fallback, there.raw)
                await until(lambda: here.hash in fallback.queue and there.hash in builder.queue)
                # What one of them gives up does not come back from the other as news.
                builder.queue.pool.remove(there.hash)
                after = transfer(2), transfer(3)
                await send(fallback, after[0].raw)
                await send(builder, after[1].raw)
                taking = builder.peer_pool, fallback.peer_pool
                assert taking[0] is not None and taking[1] is not None
                await until(lambda: [each.taken for each in taking if each is not None] == [2, 2])
                assert after[0].hash in builder.queue and after[1].hash in fallback.queue
                assert there.hash not in builder.queue

    scenario(body)


def test_without_gossip_nothing_is_taken_over(tmp_path: Path) -> None:
    async def body() -> None:
        async with running(builder_config(tmp_path, "fallback", stream=None)) as fallback:
            await send(fallback, transfer().raw)
            settings = builder_config(tmp_path, sync_rpc=url_of(fallback), reads_peer_pool=False)
            async with running(settings) as builder:
                reading = builder_config(tmp_path, "reading", sync_rpc=url_of(fallback))
                async with running(reading) as another:
                    await until(lambda: transfer().hash in another.queue)
                assert len(builder.queue) == 0 and builder.peer_pool is None

    scenario(body)


@pytest.mark.parametrize("shows_pool", [True, False])
def test_a_peer_without_filters_or_without_its_pool_is_read_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shows_pool: bool
) -> None:
    monkeypatch.setattr("flashctl.builder.mempool.peer_transactions.READ_WITHOUT_NEWS_S", 0.1)
    waiting = [transfer(0)]

    async def content(params: list[Any]) -> Any:
        assert shows_pool
        return {
            "pending": {"0x00": {str(at): {"hash": to_hex(tx.hash)} for at, tx in enumerate(waiting)}},
            "queued": {},
        }

    async def pending_block(params: list[Any]) -> Any:
        return {"transactions": [to_hex(tx.hash) for tx in waiting]}

    async def raw(params: list[Any]) -> Any:
        return next(to_hex(tx.raw) for tx in waiting if to_hex(tx.hash) == params[0])

    async def body() -> None:
        methods = Methods()
        methods.register("eth_getBlockByNumber", pending_block)
        methods.register("eth_getRawTransactionByHash", raw)
        if shows_pool:
            methods.register("txpool_content", content)
        server = await serve(methods, "127.0.0.1", 0)
        peer = JsonRpcClient(f"http://127.0.0.1:{server.port}")
        async with running(builder_config(tmp_path, http=ANY)) as builder:
            pool = PeerTransactions(peer, builder.queue)
            pool.request()
            reading = asyncio.create_task(pool.run())
            await until(lambda: waiting[0].hash in builder.queue)
            waiting.append(transfer(1))
            await until(lambda: waiting[1].hash in builder.queue)
            reading.cancel()
        await peer.close()
        await server.close()

    scenario(body)


@pytest.mark.parametrize(
    "answer",
    [None, 7, "0x", {}, {"pending": []}, {"pending": {"0x00": []}, "queued": {}},
     {"pending": {"0x00": {"0": None}}, "queued": {}}, {"pending": {"0x00": {"0": {"hash": "0x12"}}}}],
)  # fmt: skip
def test_a_pool_that_is_none_is_an_outage_of_the_peer(answer: Any) -> None:
    with pytest.raises(FlashctlError):
        list(_hashes_of_content(answer))
    with pytest.raises(FlashctlError):
        list(_hashes(answer if not isinstance(answer, list) else {}))
