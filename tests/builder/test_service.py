"""The builder with its real sockets: a sequencer's conversation, a subscriber's stream, a restart."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import websockets
from support.builders import ANY, builder_config, engine_client, rpc_client, running, scenario
from support.chain_lab import COUNTER, grow
from support.chains import transfer
from support.waiting import until, until_answered
from support.watch_lab import NodeServer

from flashctl.builder import service as builder_service
from flashctl.builder.config import BuilderConfig
from flashctl.builder.service import BuilderService
from flashctl.core.flashblocks.wire import Flashblock, decode
from flashctl.core.jsonrpc.errors import RpcError
from flashctl.core.jsonrpc.namespaces import USER_NAMESPACES
from flashctl.core.net.addresses import ListenAddress
from flashctl.devnet.sequencer import SealedSlot, Sequencer, SequencerSettings
from flashctl.errors import AuthError, FlashctlError
from flashctl.eth.hexdata import to_hex


class Driver:
    """A sequencer that seals blocks of one second through a builder's engine port."""

    def __init__(self, service: BuilderService) -> None:
        self.slots: list[SealedSlot] = []
        self.engine = engine_client(service)
        self.sequencer = Sequencer(
            self.engine,
            service.chain.config,
            service.chain.head,
            SequencerSettings(block_time=1),
            self.slots.append,
        )

    async def seal(self, blocks: int = 1) -> None:
        for _ in range(blocks):
            await self.sequencer.seal_next()


@asynccontextmanager
async def driven(config: BuilderConfig) -> AsyncIterator[tuple[BuilderService, Driver]]:
    async with running(config) as service:
        driver = Driver(service)
        try:
            yield service, driver
        finally:
            await driver.engine.close()


async def collect(url: str, into: list[Flashblock]) -> None:
    async with websockets.connect(url, max_size=None) as stream:
        async for message in stream:
            # Appended one by one: tests look while it fills.
            into.append(decode(message, binary=isinstance(message, bytes)))  # noqa: PERF401


def now_config(folder: Path, name: str = "builder", **changes: object) -> BuilderConfig:
    return builder_config(folder, name, genesis_time=int(time.time()) + 1, **changes)


def test_transactions_are_seen_on_the_stream_before_the_block_is_sealed(tmp_path: Path) -> None:
    async def body() -> None:
        async with driven(now_config(tmp_path)) as (service, driver):
            messages: list[Flashblock] = []
            stream = asyncio.create_task(collect(f"ws://127.0.0.1:{service.ports['stream']}", messages))
            client = rpc_client(service)
            sealing = asyncio.create_task(driver.seal(2))
            tx = transfer()
            await until(lambda: messages)
            assert await client.call("eth_sendRawTransaction", [to_hex(tx.raw)]) == to_hex(tx.hash)
            await sealing
            stream.cancel()
            carried = [message for message in messages if tx.raw in message.diff.transactions]
            assert len(carried) == 1
            slot = next(slot for slot in driver.slots if tx.raw in slot.block.transactions)
            assert carried[0].block_number == slot.block.number
            check_blocks(messages, driver.slots)
            receipt = await client.call("eth_getTransactionReceipt", [to_hex(tx.hash)])
            assert receipt["blockHash"] == to_hex(slot.block.hash)
            await client.close()

    scenario(body)


def check_blocks(messages: list[Flashblock], slots: list[SealedSlot]) -> None:
    """What a payload holds is what its flashblocks added, and its hash that of the last one."""
    for slot in slots:
        parts = [message for message in messages if message.payload_id == to_hex(slot.payload_id)]
        assert [part.index for part in parts] == list(range(len(parts)))
        # Eleven with time enough; how many of them a busy machine has time for is not its subject.
        assert 2 <= len(parts) <= 11
        assert sum((part.diff.transactions for part in parts), ()) == slot.block.transactions
        assert parts[-1].diff.block_hash == slot.block.hash


def test_pending_state_answers_from_the_block_under_construction(tmp_path: Path) -> None:
    async def body() -> None:
        async with driven(now_config(tmp_path)) as (service, driver):
            client = rpc_client(service)
            tx = transfer()
            await client.call("eth_sendRawTransaction", [to_hex(tx.raw)])
            sealing = asyncio.create_task(driver.seal())

            async def pending_only() -> bool:
                balance = await client.call("eth_getBalance", ["0x" + "77" * 20, "pending"])
                latest = await client.call("eth_getBalance", ["0x" + "77" * 20, "latest"])
                return bool((balance, latest) == ("0x1", "0x0"))

            await until_answered(pending_only)
            await sealing
            assert await client.call("eth_blockNumber") == "0x1"
            await client.close()

    scenario(body)


def test_a_plain_engine_follows_and_builds_without_a_stream(tmp_path: Path) -> None:
    async def body() -> None:
        plain = now_config(tmp_path, "fallback", stream=None)
        async with driven(now_config(tmp_path)) as (_, driver), running(plain) as fallback:
            assert "stream" not in fallback.ports
            await driver.seal(2)
            engine = engine_client(fallback)
            for slot in driver.slots:
                status = await fallback.node.new_payload(slot.block)
                assert status.status.value == "VALID"
            other = Driver(fallback)
            other.sequencer.head = driver.slots[-1].block.header
            tx = transfer(3)
            client = rpc_client(fallback)
            await client.call("eth_sendRawTransaction", [to_hex(tx.raw)])
            await other.seal()
            assert tx.raw in other.slots[0].block.transactions
            for closing in (client, engine, other.engine):
                await closing.close()

    scenario(body)


@pytest.mark.parametrize("namespaces", [USER_NAMESPACES, USER_NAMESPACES | {"debug"}], ids=["user", "debug"])
def test_a_killed_builder_comes_back_and_catches_up(tmp_path: Path, namespaces: frozenset[str]) -> None:
    """From a peer that answers what nodes answer by default, and from one with debug_getRawBlock."""

    async def body() -> None:
        peer_config = now_config(tmp_path, "fallback", stream=None, namespaces=namespaces)
        async with driven(peer_config) as (peer, driver):
            async with running(now_config(tmp_path)) as builder:
                await driver.seal()
                assert (await builder.node.new_payload(driver.slots[0].block)).status.value == "VALID"
                builder.chain.set_head(driver.slots[0].block.hash)
            client = rpc_client(peer)
            await client.call("eth_sendRawTransaction", [to_hex(transfer().raw)])
            await client.close()
            await driver.seal(3)
            assert any(len(slot.block.transactions) > 1 for slot in driver.slots)
            sync = f"http://127.0.0.1:{peer.ports['http']}"
            async with running(now_config(tmp_path, sync_rpc=sync)) as builder:
                assert builder.chain.head.number >= 1
                await reaches(builder, peer)
                await driver.seal()
                (await builder.node.new_payload(driver.slots[-1].block))
                await reaches(builder, peer)

    scenario(body)


def test_a_peer_whose_block_is_not_what_its_hash_says_is_not_followed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def body() -> None:
        async with driven(now_config(tmp_path, "fallback", stream=None)) as (peer, driver):
            await driver.seal()
            client = rpc_client(peer)
            block = await client.call("eth_getBlockByNumber", ["0x1", True])
            await client.close()
        block["gasUsed"] = "0x1"
        node = NodeServer(eth_blockNumber=lambda _: "0x1", eth_getBlockByNumber=lambda _: block)
        with node, caplog.at_level("INFO"):
            async with running(now_config(tmp_path, sync_rpc=node.url)) as builder:
                await until(lambda: "its fields do not make its hash" in caplog.text)
                assert builder.chain.head.number == 0

    scenario(body)


async def reaches(builder: BuilderService, peer: BuilderService) -> None:
    """Wait until a builder has its peer's head."""
    await until(lambda: builder.chain.header(peer.chain.head.hash) is not None)


def test_raw_transactions_go_to_the_sequencer_and_into_the_pool(tmp_path: Path) -> None:
    async def body() -> None:
        async with running(now_config(tmp_path)) as sequencer:
            url = f"http://127.0.0.1:{sequencer.ports['http']}"
            plain = now_config(tmp_path, "replica", stream=None, sequencer=url)
            async with running(plain) as replica:
                client = rpc_client(replica)
                tx = transfer()
                assert await client.call("eth_sendRawTransaction", [to_hex(tx.raw)]) == to_hex(tx.hash)
                assert tx.hash in sequencer.queue.pool and tx.hash in replica.queue.pool
                with pytest.raises(RpcError, match="already known"):
                    await client.call("eth_sendRawTransaction", [to_hex(tx.raw)])
                await client.close()

    scenario(body)


def test_a_change_of_limits_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """op-batcher sends them every few seconds."""

    async def body() -> None:
        async with driven(now_config(tmp_path)) as (_, driver):
            for sizes in ([0, 0], [0, 250], [0, 250], ["0x0", "0xfa"], [0, 0]):
                await driver.engine.call("miner_setMaxDASize", sizes)
            for gas in (0, 1000, 1000):
                await driver.engine.call("miner_setGasLimit", [hex(gas)])

    with caplog.at_level("INFO", "flashctl.builder"):
        scenario(body)
    told = [record.message for record in caplog.records if "changed" in record.message]
    assert told == ["data limits changed", "data limits changed", "gas limit of payloads changed"]


def test_the_pool_takes_what_op_geths_takes(tmp_path: Path) -> None:
    async def body() -> None:
        async with driven(now_config(tmp_path)) as (service, _):
            client = rpc_client(service)
            with pytest.raises(RpcError, match="underpriced: gas tip cap 0, minimum needed 1"):
                await client.call("eth_sendRawTransaction", [to_hex(transfer(0, tip=0).raw)])
            assert await client.call("eth_sendRawTransaction", [to_hex(transfer(0, tip=1).raw)])
            await client.close()

    scenario(body)


def test_operators_limit_data_at_run_time(tmp_path: Path) -> None:
    async def body() -> None:
        async with driven(now_config(tmp_path)) as (service, driver):
            client = rpc_client(service)
            assert await driver.engine.call("miner_setMaxDASize", ["0x0", 250]) is True
            for account in range(5):
                await client.call("eth_sendRawTransaction", [to_hex(transfer(account).raw)])
            await driver.seal()
            assert len(driver.slots[0].block.transactions) == 3
            assert await driver.engine.call("miner_setMaxDASize", [0, 0]) is True
            await driver.seal()
            assert len(driver.slots[1].block.transactions) == 4
            with pytest.raises(RpcError):
                await driver.engine.call("miner_setGasLimit", [-1])
            with pytest.raises(RpcError, match="does not exist"):  # anybody reaches the user port
                await client.call("miner_setGasLimit", [1])
            await client.close()

    scenario(body)


def test_the_engine_port_wants_the_secret(tmp_path: Path) -> None:
    async def body() -> None:
        async with running(now_config(tmp_path)) as service:
            engine = engine_client(service)
            engine._jwt_secret = b"\x01" * 32
            with pytest.raises(AuthError):
                await engine.call("eth_chainId")
            await engine.close()

    scenario(body)


def test_old_states_are_forgotten_while_it_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builder_service, "FORGET_LOOK_S", 0.05)
    account = "0x" + COUNTER.to_bytes(20, "big").hex()

    async def body() -> None:
        async with running(now_config(tmp_path, keep_states=64)) as service:
            chain = service.chain
            chain.set_head(grow(chain, 130)[-1].hash)
            client = rpc_client(service)
            try:
                await until(lambda: chain.states_from > 0)
                for method, params in (
                    ("eth_getBalance", [account, "0x5"]),
                    ("eth_call", [{"to": account}, "0x5"]),
                    ("eth_getProof", [account, [], "0x5"]),
                ):
                    with pytest.raises(RpcError, match="historical state 0x.* is not available") as caught:
                        await client.call(method, params)
                    assert caught.value.code == -32000
                assert await client.call("eth_getBalance", [account, hex(chain.states_from)]) == "0x42"
                assert (await client.call("eth_getBlockByNumber", ["0x5", False]))["number"] == "0x5"
            finally:
                await client.close()

    scenario(body)


def test_a_taken_port_is_one_line(tmp_path: Path) -> None:
    async def body() -> None:
        async with running(now_config(tmp_path)) as service:
            taken = ListenAddress("127.0.0.1", service.ports["http"])
            with pytest.raises(FlashctlError, match="cannot listen on") as caught:
                async with running(now_config(tmp_path, "other", http=taken, engine=ANY)):
                    pass
            assert "\n" not in str(caught.value)

    scenario(body)
