"""How long a flashblock takes from the stream to a subscriber of the overlay, with a node far away.

    python bench/far_node.py [--seconds 40] [--round-trip-ms 0 200] [--tx-rate 50]

A devnet with a relay between overlay and node that holds every request back. Printed per round trip: the
time between a flashblock's arrival at a subscriber of the proxy and at a `newFlashblocks` subscriber of the
overlay, how many never came, and how many state fetches a flashblock took.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
import tempfile
import time
from pathlib import Path

import httpx
import orjson
from websockets.asyncio.client import connect

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from support.node_relay import NodeFaults, node_relay
from support.soak_lab import SoakNet, soak_net

from flashctl.core.flashblocks.client import StreamFrame, StreamOptions, subscribe
from flashctl.core.flashblocks.wire import decode

WARM_UP_S = 8.0

Place = tuple[int, int]
"""Block number and how many transactions the block has by then."""


async def streamed(net: SoakNet, seen: dict[Place, float]) -> None:
    """Note when each flashblock arrives from the proxy."""
    counts: dict[str, Place] = {}
    async for item in subscribe(f"ws://127.0.0.1:{net.ports.proxy}/ws", StreamOptions()):
        if isinstance(item, StreamFrame):
            flashblock = decode(item.data, binary=item.binary)
            name, added = flashblock.payload_id, len(flashblock.diff.transactions)
            if flashblock.base is not None:
                counts[name] = (flashblock.base.block_number, 0)
            if name in counts:
                number, before = counts[name]
                counts[name] = (number, before + added)
                if added:
                    seen.setdefault(counts[name], time.monotonic())


async def subscribed(net: SoakNet, seen: dict[Place, float]) -> None:
    """Note when the overlay tells of each."""
    async with connect(net.rpc_url.replace("http", "ws"), max_size=None) as socket:
        await socket.send('{"jsonrpc":"2.0","id":1,"method":"eth_subscribe","params":["newFlashblocks"]}')
        await socket.recv()
        async for message in socket:
            block = orjson.loads(message)["params"]["result"]
            seen.setdefault((int(block["number"], 16), len(block["transactions"])), time.monotonic())


async def figures(net: SoakNet) -> dict[str, float]:
    async with httpx.AsyncClient() as web:
        text = (await web.get(f"{net.rpc_url}/metrics")).text
    found = re.findall(r"^reth_flashblocks_(\w+?)(?:_total)?(?:\{[^}]*\})? (\S+)$", text, re.MULTILINE)
    return {name: float(value) for name, value in found}


async def measure(round_trip_s: float, seconds: float, tx_rate: float) -> str:
    quiet = NodeFaults(0, 0, 0, 0, 0, hang=0, close=0, lag_every_s=1e9, latency_s=round_trip_s)
    with tempfile.TemporaryDirectory() as folder:
        net = SoakNet(Path(folder), block_time=2)
        async with node_relay(f"http://127.0.0.1:{net.ports.fallback_rpc}", faults=quiet) as (_, url):
            arguments = net.commands["rpc"]
            arguments[arguments.index("--upstream-rpc") + 1] = url
            async with soak_net(net, tx_rate=tx_rate):
                await asyncio.sleep(WARM_UP_S)
                before = await figures(net)
                sent: dict[Place, float] = {}
                told: dict[Place, float] = {}
                tasks = [asyncio.create_task(each) for each in (streamed(net, sent), subscribed(net, told))]
                await asyncio.sleep(seconds)
                tasks[0].cancel()
                await asyncio.sleep(2.0)
                tasks[1].cancel()
                after = await figures(net)
    waits = sorted(max(0.0, told[place] - at) * 1e3 for place, at in sent.items() if place in told)
    lost = len([place for place in sent if place not in told])
    executed = after["executed"] - before["executed"]
    fetches = (after["state_fetches"] - before["state_fetches"]) / max(1.0, executed)
    if not waits:
        return f"{round_trip_s * 1e3:6.0f} ms   nothing came"
    p50, p90, p99 = (waits[int(share * (len(waits) - 1))] for share in (0.5, 0.9, 0.99))
    return (
        f"{round_trip_s * 1e3:6.0f} ms   p50 {p50:6.0f} ms   p90 {p90:6.0f} ms   p99 {p99:6.0f} ms   "
        f"{len(waits)} came, {lost} did not   {fetches:.2f} fetches each"
    )


async def main() -> None:
    """Print a line for each round trip."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=40)
    parser.add_argument("--round-trip-ms", type=float, nargs="+", default=[0, 200])
    parser.add_argument("--tx-rate", type=float, default=50)
    options = parser.parse_args()
    for round_trip in options.round_trip_ms:
        print(await measure(round_trip / 1e3, options.seconds, options.tx_rate), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
