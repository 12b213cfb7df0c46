"""A set-up started by hand loses its builder in the middle of a block, and gets it back."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from pathlib import Path

from flashctl.chain.genesis import Genesis, devnet_genesis, load_genesis
from flashctl.core.engine_client import EngineClient
from flashctl.core.jsonrpc.client import JsonRpcClient
from flashctl.core.jwt import create_secret
from flashctl.core.stream import Frame, subscribe
from flashctl.core.wire import decode
from flashctl.devnet.children import Family
from flashctl.devnet.commands import Layout, role_commands, with_real_ports
from flashctl.devnet.config import DevnetConfig, Ports
from flashctl.devnet.sequencer import SealedSlot, Sequencer, SequencerSettings

BLOCK_TIME = 1


class HandStarted:
    """The roles of a devnet without its supervisor, driven by a sequencer of the test."""

    def __init__(self, folder: Path) -> None:
        self.config = DevnetConfig(block_time=BLOCK_TIME, flashblock_ms=200)
        self.layout = Layout(folder)
        self.ports = with_real_ports(self.config.host, Ports.any_free())
        self.commands = role_commands(self.config, self.layout, self.ports)
        self.family = Family(self.layout.logs)
        self.genesis = self._prepare()
        self.sealed: list[SealedSlot] = []
        self.flashblocks: dict[str, int] = {}

    def _prepare(self) -> Genesis:
        self.layout.logs.mkdir(parents=True)
        self.secret = create_secret(self.layout.jwt_secret)
        self.layout.genesis.write_text(json.dumps(devnet_genesis(timestamp=int(time.time()))))
        return load_genesis(self.layout.genesis)

    async def start(self, *names: str) -> None:
        for name in names:
            await self.family.start(name, self.commands[name])
        await self.family.wait_ready(*names)

    async def drive(self) -> None:
        engine = EngineClient(f"http://127.0.0.1:{self.ports.boost_engine}", jwt_secret=self.secret)
        settings = SequencerSettings(block_time=BLOCK_TIME)
        head = self.genesis.block.header
        await Sequencer(engine, self.genesis.config, head, settings, self.sealed.append).run()

    async def watch(self) -> None:
        async for item in subscribe(f"ws://127.0.0.1:{self.ports.boost_stream}"):
            if isinstance(item, Frame):
                payload_id = decode(item.data, binary=item.binary).payload_id
                self.flashblocks[payload_id] = self.flashblocks.get(payload_id, 0) + 1

    async def sealed_with_flashblocks(self, *, wanted: bool, count: int, timeout_s: float = 20) -> None:
        """Wait for `count` further blocks that were (or were not) announced by flashblocks."""
        start = len(self.sealed)
        async with asyncio.timeout(timeout_s):
            while True:
                slots = self.sealed[start:]
                found = [
                    slot for slot in slots if ("0x" + slot.payload_id.hex() in self.flashblocks) is wanted
                ]
                if len(found) >= count:
                    return
                await asyncio.sleep(0.05)

    async def head(self, port: int) -> int:
        client = JsonRpcClient(f"http://127.0.0.1:{port}")
        try:
            return int(await client.call("eth_blockNumber"), 16)
        finally:
            await client.close()


async def lose_and_regain_the_builder(folder: Path) -> None:
    setup = HandStarted(folder)
    await setup.start("builder", "fallback", "boost")
    tasks = [asyncio.create_task(setup.drive()), asyncio.create_task(setup.watch())]
    try:
        await setup.sealed_with_flashblocks(wanted=True, count=2)
        await asyncio.sleep(BLOCK_TIME / 2)
        builder = setup.family.child("builder")
        builder.signal(signal.SIGKILL)
        await builder.process.wait()
        await setup.sealed_with_flashblocks(wanted=False, count=2)
        await setup.start("builder")
        await setup.sealed_with_flashblocks(wanted=True, count=2)
        numbers = [slot.block.header.number for slot in setup.sealed]
        assert numbers == list(range(1, len(numbers) + 1)), "a block was lost"
        parents = [slot.block.header.parent_hash for slot in setup.sealed[1:]]
        assert parents == [slot.block.header.hash for slot in setup.sealed[:-1]]
        assert await setup.head(setup.ports.builder_rpc) >= numbers[-1]
    finally:
        for task in tasks:
            task.cancel()
        await setup.family.stop()


def test_the_chain_goes_on_without_its_builder(tmp_path: Path) -> None:
    asyncio.run(lose_and_regain_the_builder(tmp_path))
