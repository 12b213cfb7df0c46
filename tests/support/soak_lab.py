"""A devnet of hand-started roles under load, and the questions a soak asks of it: who still runs, how much
memory each takes, and whether what was preconfirmed stays."""

from __future__ import annotations

import asyncio
import contextlib
import re
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from support.hand_started import HandStarted

from flashctl.chain.pruning import MIN_KEEP_STATES
from flashctl.core.engine.client import EngineClient
from flashctl.core.jsonrpc.client import JsonRpcClient
from flashctl.devnet.sequencer import Sequencer, SequencerSettings
from flashctl.devnet.traffic import Traffic, traffic_accounts
from flashctl.errors import FlashctlError
from flashctl.eth.hexdata import to_hex

__all__ = ["Observer", "SoakNet", "rss_mib", "soak_net"]


def rss_mib(pid: int) -> float:
    """Resident memory of a process and its children, in MiB; 0 for one that is gone."""
    total = 0
    with contextlib.suppress(OSError):
        total = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            total += int(rss_mib(int(child)) * 2**20)
    return total / 2**20


class TimedEngine(EngineClient):
    """An engine client that notes how long getPayload took."""

    def __init__(self, url: str, **options: Any) -> None:
        super().__init__(url, **options)
        self.seconds: list[float] = []

    async def get_payload(self, *arguments: Any, **options: Any) -> dict[str, Any]:
        started = time.monotonic()
        try:
            return await super().get_payload(*arguments, **options)
        finally:
            self.seconds.append(time.monotonic() - started)


class SoakNet(HandStarted):
    """All five roles and traffic."""

    engine: TimedEngine

    async def drive(self) -> None:
        self.engine = TimedEngine(self.sequencer_url, jwt_secret=self.secret)
        settings = SequencerSettings(block_time=self.block_time)
        head = self.genesis.block.header
        await Sequencer(self.engine, self.genesis.config, head, settings, self.sealed.append).run()

    def __init__(self, folder: Path, **options: Any) -> None:
        super().__init__(folder, **options)
        for engine in ("builder", "fallback"):
            # The fewest there are: what takes memory is there after two minutes, and what piles up shows.
            arguments = self.commands[engine]
            arguments[arguments.index("--keep-states") + 1] = str(MIN_KEEP_STATES)

    async def start_all(self, tx_rate: float) -> list[asyncio.Task[Any]]:
        """Start the roles, then sequencer and traffic as tasks."""
        await self.start("builder", "fallback", "boost", "proxy", "rpc")
        tasks: list[asyncio.Task[Any]] = [
            asyncio.create_task(self.drive()),
            asyncio.create_task(self.watch()),
        ]
        if tx_rate:
            client = JsonRpcClient(self.sequencer_url)
            traffic = Traffic(client, self.genesis.config.chain_id, tx_rate)
            tasks.append(asyncio.create_task(traffic.run()))
        return tasks

    @property
    def stream_url(self) -> str:
        """Where users subscribe to flashblocks."""
        return f"ws://127.0.0.1:{self.ports.proxy}/ws"

    @property
    def rpc_url(self) -> str:
        return f"http://127.0.0.1:{self.ports.rpc}"

    @property
    def sequencer_url(self) -> str:
        """Where transactions go without passing the overlay."""
        return f"http://127.0.0.1:{self.ports.boost_engine}"

    @property
    def builder_url(self) -> str:
        return f"http://127.0.0.1:{self.ports.builder_rpc}"

    def hostile_command(self, seconds: float, *only: str, nice: int = 19) -> list[str]:
        """What starts `support.hostile_clients` against these roles."""
        return [
            sys.executable, "-m", "support.hostile_clients", "--rpc", self.rpc_url,
            "--builder", self.builder_url, "--engine", f"http://127.0.0.1:{self.ports.builder_engine}",
            "--jwt", str(self.layout.jwt_secret), "--stream", self.stream_url,
            "--seconds", str(seconds), "--nice", str(nice),
            *(word for name in only for word in ("--only", name)),
        ]  # fmt: skip

    def ended(self) -> list[str]:
        """Roles whose process ended."""
        return [name for name in self.commands if not self.family.child(name).running]

    def memory(self) -> dict[str, float]:
        """MiB by role."""
        return {name: rss_mib(pid) for name, pid in self.family.pids().items()}


@asynccontextmanager
async def soak_net(net: SoakNet, tx_rate: float = 50) -> AsyncIterator[SoakNet]:
    """The roles running and driven."""
    tasks: list[asyncio.Task[Any]] = []
    try:
        tasks = await net.start_all(tx_rate)
        yield net
    finally:
        for task in tasks:
            task.cancel()
        await net.family.stop()
        await asyncio.gather(*tasks, return_exceptions=True)


@dataclass
class Observer:
    """Asks an overlay again and again for what it preconfirmed; notes what went backwards unannounced."""

    url: str
    retractions: str
    """Name of a counter, summed over its labels, that rises with every announced retraction."""
    faults: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    _nonces: dict[str, int] = field(default_factory=dict)
    _receipts: dict[str, int] = field(default_factory=dict)
    """Transactions that had a receipt, and the block it named."""

    async def run(self) -> None:
        """Ask until cancelled."""
        client, web = JsonRpcClient(self.url, timeout_s=30), httpx.AsyncClient(timeout=10)
        announced = 0.0
        try:
            while True:
                try:
                    before = await self._announced(web)
                    went_back = await self._look(client)
                    if went_back and await self._announced(web) == announced:
                        self.faults += went_back
                    elif went_back:
                        self.counts["went back, announced"] += 1
                    # What is retracted from here on is measured against what this look saw.
                    announced = before
                except (FlashctlError, httpx.HTTPError) as error:
                    self.counts[f"failed: {error}"[:60]] += 1
                await asyncio.sleep(0.1)
        finally:
            await client.close()
            await web.aclose()

    async def _announced(self, web: httpx.AsyncClient) -> float:
        text = (await web.get(f"{self.url}/metrics")).text
        values = re.findall(rf"^{self.retractions}(?:{{[^}}]*}})? (\S+)$", text, re.MULTILINE)
        # A labelled counter has no sample before it first counts, but a description.
        assert f"# HELP {self.retractions} " in text, f"{self.url} has no metric {self.retractions}"
        return sum(map(float, values))

    async def _look(self, client: JsonRpcClient) -> list[str]:
        """One round of questions; what of the answers before it no longer holds."""
        went_back: list[str] = []
        for account in traffic_accounts()[:4]:
            shown = to_hex(account.address)
            nonce = int(await client.call("eth_getTransactionCount", [shown, "pending"]), 16)
            known = self._nonces.get(shown, 0)
            if nonce < known:
                went_back.append(f"nonce of {shown}: {known} -> {nonce}")
            self._nonces[shown] = nonce
        for tx_hash, number in list(self._receipts.items())[-8:]:
            receipt = await client.call("eth_getTransactionReceipt", [tx_hash])
            if receipt is None or int(receipt["blockNumber"], 16) != number:
                went_back.append(
                    f"receipt of {tx_hash} in block {number}: {receipt and receipt['blockNumber']}"
                )
                del self._receipts[tx_hash]
        await self._find_another(client)
        self.counts["looks"] += 1
        return went_back

    async def _find_another(self, client: JsonRpcClient) -> None:
        block = await client.call("eth_getBlockByNumber", ["pending", False])
        if not block or len(block["transactions"]) < 2:
            return
        self.counts["pending blocks"] += 1
        newest = block["transactions"][-1]
        receipt = await client.call("eth_getTransactionReceipt", [newest])
        if receipt is not None:
            self._receipts[newest] = int(receipt["blockNumber"], 16)
