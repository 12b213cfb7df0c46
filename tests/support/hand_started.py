"""Builder, fallback and boost as real processes started by hand, driven by a sequencer of the test."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from flashctl.boost.debug_api import DebugClient
from flashctl.chain.genesis import Genesis, devnet_genesis, load_genesis
from flashctl.core.engine.client import EngineClient
from flashctl.core.engine.jwt import create_secret
from flashctl.core.flashblocks.client import StreamFrame, StreamOptions, subscribe
from flashctl.core.flashblocks.wire import Flashblock, decode
from flashctl.core.jsonrpc.client import JsonRpcClient
from flashctl.devnet.children import Family
from flashctl.devnet.commands import Layout, role_commands, with_real_ports
from flashctl.devnet.config import DevnetConfig, Ports
from flashctl.devnet.sequencer import SealedSlot, Sequencer, SequencerSettings
from flashctl.devnet.traffic import TRAFFIC_BALANCE, traffic_accounts
from flashctl.eth.hexdata import quantity, to_hex

__all__ = ["HandStarted", "hand_started"]


class HandStarted:
    """The roles of a devnet without its supervisor: what one of them does, the others have to live with."""

    def __init__(self, folder: Path, *, block_time: int = 1, boost_flags: tuple[str, ...] = ()) -> None:
        self.block_time = block_time
        self.config = DevnetConfig(block_time=block_time, flashblock_ms=200)
        self.layout = Layout(folder)
        self.ports = with_real_ports(self.config.host, Ports.any_free())
        self.commands = role_commands(self.config, self.layout, self.ports)
        self.decisions_file = folder / "decisions.jsonl"
        self.commands["boost"] += ["--decisions", str(self.decisions_file), *boost_flags]
        self.family = Family(self.layout.logs)
        self.layout.logs.mkdir(parents=True)
        self.secret = create_secret(self.layout.jwt_secret)
        genesis = devnet_genesis(timestamp=int(time.time()))
        for account in traffic_accounts():
            genesis["alloc"][to_hex(account.address)] = {"balance": quantity(TRAFFIC_BALANCE)}
        self.layout.genesis.write_text(json.dumps(genesis))
        self.genesis: Genesis = load_genesis(self.layout.genesis)
        self.sealed: list[SealedSlot] = []
        self.flashblocks: dict[str, list[Flashblock]] = {}
        """What a subscriber of boost saw, by payload id."""

    async def start(self, *names: str) -> None:
        for name in names:
            await self.family.start(name, self.commands[name])
        await self.family.wait_ready(*names)

    async def drive(self) -> None:
        """Seal blocks until cancelled."""
        engine = EngineClient(f"http://127.0.0.1:{self.ports.boost_engine}", jwt_secret=self.secret)
        settings = SequencerSettings(block_time=self.block_time)
        head = self.genesis.block.header
        await Sequencer(engine, self.genesis.config, head, settings, self.sealed.append).run()

    async def watch(self) -> None:
        """Subscribe to boost until cancelled."""
        url = f"ws://127.0.0.1:{self.ports.boost_stream}"
        async for item in subscribe(url, StreamOptions(silence_timeout_s=None)):
            if isinstance(item, StreamFrame):
                flashblock = decode(item.data, binary=item.binary)
                self.flashblocks.setdefault(flashblock.payload_id, []).append(flashblock)

    def parts_of(self, slot: SealedSlot) -> list[Flashblock]:
        """The flashblocks that announced a block."""
        return self.flashblocks.get("0x" + slot.payload_id.hex(), [])

    async def sealed_blocks(self, count: int, *, with_flashblocks: bool, timeout_s: float = 90) -> None:
        """Wait for `count` further blocks that were (or were not) announced by flashblocks."""
        start = len(self.sealed)
        async with asyncio.timeout(timeout_s):
            while True:
                slots = self.sealed[start:]
                if sum(bool(self.parts_of(slot)) is with_flashblocks for slot in slots) >= count:
                    return
                await asyncio.sleep(0.05)

    def check_chain(self) -> None:
        """No block was lost, and every flashblock published for a block is in it, in its place."""
        numbers = [slot.block.header.number for slot in self.sealed]
        assert numbers == list(range(1, len(numbers) + 1))
        parents = [slot.block.header.parent_hash for slot in self.sealed[1:]]
        assert parents == [slot.block.header.hash for slot in self.sealed[:-1]]
        for slot in self.sealed:
            parts = self.parts_of(slot)
            promised = tuple(raw for part in parts for raw in part.diff.transactions)
            assert [part.index for part in parts] == list(range(len(parts)))
            assert slot.block.transactions[: len(promised)] == promised

    def decisions(self) -> list[dict[str, object]]:
        """What boost wrote down."""
        return [json.loads(line) for line in self.decisions_file.read_text().splitlines()]

    def debug(self) -> DebugClient:
        """A client of boost's debug API."""
        return DebugClient(f"http://127.0.0.1:{self.ports.boost_debug}")

    async def head(self, port: int) -> int:
        """The height a node reports."""
        client = JsonRpcClient(f"http://127.0.0.1:{port}")
        try:
            return int(await client.call("eth_blockNumber"), 16)
        finally:
            await client.close()


@asynccontextmanager
async def hand_started(
    folder: Path, *, block_time: int = 1, boost_flags: tuple[str, ...] = ()
) -> AsyncIterator[HandStarted]:
    """All three running, a sequencer driving and a subscriber watching."""
    setup = HandStarted(folder, block_time=block_time, boost_flags=boost_flags)
    await setup.start("builder", "fallback", "boost")
    tasks = [asyncio.create_task(setup.drive()), asyncio.create_task(setup.watch())]
    try:
        yield setup
    finally:
        for task in tasks:
            task.cancel()
        await setup.family.stop()
