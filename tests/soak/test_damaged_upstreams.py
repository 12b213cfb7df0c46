"""An overlay whose stream and node are as bad as they come: it stays, and takes nothing back in silence.

The short version runs by default. The long one is `pytest -m slow tests/soak`: ten minutes each (or
FLASHCTL_SOAK_S seconds). `support/stream_relay.py` and `support/node_relay.py` can be started by hand.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from support.node_relay import node_relay
from support.soak_lab import Observer, SoakNet, soak_net
from support.stream_relay import stream_relay

RETRACTIONS = "reth_flashblocks_retractions_total"

GROWTH_MIB = {"builder": 128.0, "fallback": 128.0, "boost": 32.0, "proxy": 32.0, "rpc": 32.0}
"""What a role may take more at the end than after two fifths of the run: caches fill, nothing piles up. An
engine's hold 10,000 transactions with their receipts and 96 MiB of database pages."""


def between(net: SoakNet, stream_url: str, node_url: str) -> None:
    """Put the relays between the overlay and what it reads."""
    arguments = net.commands["rpc"]
    for flag, url in (("--flashblocks-url", stream_url), ("--upstream-rpc", node_url)):
        arguments[arguments.index(flag) + 1] = url
    at = arguments.index("--upstream-ws")
    del arguments[at : at + 2]


async def run(folder: Path, seconds: float, seed: int) -> None:
    net = SoakNet(folder)
    async with (
        stream_relay(f"ws://127.0.0.1:{net.ports.proxy}/ws", seed=seed) as (stream, stream_url),
        node_relay(f"http://127.0.0.1:{net.ports.fallback_rpc}", seed=seed) as (node, node_url),
    ):
        between(net, stream_url, node_url)
        async with soak_net(net, tx_rate=50):
            observer = Observer(net.rpc_url, RETRACTIONS)
            observing = asyncio.create_task(observer.run())
            await asyncio.sleep(seconds * 2 / 5)
            early = net.memory()
            await asyncio.sleep(seconds * 3 / 5)
            late = net.memory()
            if observing.done():
                observing.result()
            observing.cancel()
            print(f"stream {dict(stream.counts)}\nnode {dict(node.counts)}\nobserver {dict(observer.counts)}")
            print(f"MiB {early} -> {late}")
            assert net.ended() == []
            assert observer.faults == []
            assert observer.counts["pending blocks"] > 3
            grown = {name: late[name] - early[name] for name in late}
            assert {name: more for name, more in grown.items() if more > GROWTH_MIB[name]} == {}


def test_a_damaged_stream_and_a_bad_node_for_a_while(tmp_path: Path) -> None:
    asyncio.run(run(tmp_path, 30, seed=5))


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_a_damaged_stream_and_a_bad_node(tmp_path: Path) -> None:
    asyncio.run(run(tmp_path, float(os.environ.get("FLASHCTL_SOAK_S", "600")), seed=6))
