"""Soak: clients come, go and resume while the upstream restarts; who stayed got everything once, in order.

The short version runs by default. The long one is `pytest -m slow tests/proxy/test_soak.py`: half an hour
(or FLASHCTL_SOAK_S seconds), a thousand clients (FLASHCTL_SOAK_CLIENTS), a restart every 20 s, and memory
that must not grow.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
from dataclasses import dataclass, field

import pytest
import websockets
from support.proxy_lab import UpstreamServer, run
from support.proxy_process import ProxyProcess, proxy_process

BLOCK_LENGTH = 10

REMEMBERED_S = 8.0
"""The proxy keeps ten seconds. Who was away for longer (a crowd's closing handshakes on a loaded machine)
starts afresh, as any client must."""


@dataclass
class Load:
    """What happens, and how often."""

    seconds: float
    clients: int
    rate: float
    """Flashblocks a second."""
    restart_every_s: float
    down_s: float
    seed: int = 4711


@dataclass
class Outcome:
    """What clients saw."""

    received: int = 0
    resumed: int = 0
    faults: list[str] = field(default_factory=list)
    rss_kib: list[int] = field(default_factory=list)


class Follower:
    """A client that checks each message against the one before, over its reconnects too."""

    def __init__(self, port: int, outcome: Outcome, source: random.Random) -> None:
        self.port = port
        self.outcome = outcome
        self.source = source
        self.last: tuple[int, int] | None = None
        self.last_at = 0.0

    async def live(self, until: float, stay_s: float) -> None:
        """Stay, then leave; sometimes come back and resume, sometimes start afresh."""
        clock = asyncio.get_running_loop().time
        while clock() < until:
            if clock() - self.last_at > REMEMBERED_S:
                self.last = None
            url = f"ws://127.0.0.1:{self.port}/ws"
            if self.last is not None:
                url += f"?block_number={self.last[0]}&flashblock_index={self.last[1]}"
                self.outcome.resumed += 1
            deflate = self.source.choice(["deflate", None])
            async with websockets.connect(url, compression=deflate, max_size=None) as client:
                leave = min(until, clock() + stay_s * self.source.random())
                try:
                    async with asyncio.timeout_at(leave):
                        while True:
                            self.check(json.loads(await client.recv()))
                except TimeoutError:
                    pass
            if self.source.random() < 0.5:
                self.last = None

    def check(self, message: dict) -> None:
        """Compare with the last one."""
        here = (message["metadata"]["block_number"], message["index"])
        self.outcome.received += 1
        if self.last is None:
            fits = here[1] == 0
        elif self.last[1] == BLOCK_LENGTH - 1:
            fits = here == (self.last[0] + 1, 0)
        else:
            fits = here == (self.last[0], self.last[1] + 1)
        if not fits:
            self.outcome.faults.append(f"{self.last} -> {here}")
        self.last = here
        self.last_at = asyncio.get_running_loop().time()


async def publish(source: UpstreamServer, load: Load, until: float) -> None:
    clock = asyncio.get_running_loop().time
    number, begin = 0, clock()
    while clock() < until:
        source.publish(1 + number // BLOCK_LENGTH, number % BLOCK_LENGTH, padding="x" * 500)
        number += 1
        await asyncio.sleep(max(0.0, begin + number / load.rate - clock()))


async def restart(source: UpstreamServer, load: Load, until: float) -> None:
    clock = asyncio.get_running_loop().time
    while clock() + load.restart_every_s < until - 1.0:
        await asyncio.sleep(load.restart_every_s)
        await source.stop()
        await asyncio.sleep(load.down_s)
        await source.start()


async def watch(proxy: ProxyProcess, load: Load, outcome: Outcome, until: float) -> None:
    while asyncio.get_running_loop().time() < until:
        outcome.rss_kib.append(proxy.rss_kib())
        await asyncio.sleep(load.seconds / 30)


async def soak(load: Load) -> Outcome:
    outcome, seeds = Outcome(), random.Random(load.seed)
    source = await UpstreamServer().start()
    limits = ["--instance-connection-limit", "0", "--per-ip-connection-limit", "0"]
    async with proxy_process(
        "--upstream-ws", source.url, *limits, "--subscriber-max-interval-ms", "200"
    ) as proxy:
        until = asyncio.get_running_loop().time() + load.seconds
        followers = [
            Follower(proxy.port, outcome, random.Random(seeds.random())) for _ in range(load.clients)
        ]
        async with asyncio.TaskGroup() as group:
            group.create_task(publish(source, load, until))
            group.create_task(restart(source, load, until))
            group.create_task(watch(proxy, load, outcome, until))
            for follower in followers:
                group.create_task(follower.live(until, stay_s=load.seconds / 3))
    await source.stop()
    return outcome


def test_short() -> None:
    async def test() -> None:
        outcome = await soak(Load(seconds=6.0, clients=25, rate=50.0, restart_every_s=1.2, down_s=0.3))
        assert outcome.faults == []
        assert outcome.received > 2000
        assert outcome.resumed > 10

    run(test, within_s=110)


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_half_an_hour() -> None:
    seconds = float(os.environ.get("FLASHCTL_SOAK_S", "1800"))
    clients = int(os.environ.get("FLASHCTL_SOAK_CLIENTS", "1000"))

    async def test() -> None:
        outcome = await soak(Load(seconds, clients=clients, rate=5.0, restart_every_s=20.0, down_s=1.0))
        assert outcome.faults == []
        assert outcome.received > 0
        settled, end = outcome.rss_kib[len(outcome.rss_kib) // 3], outcome.rss_kib[-1]
        assert end < settled * 1.15, f"memory grew: {outcome.rss_kib}"

    run(test, within_s=seconds + 120)
