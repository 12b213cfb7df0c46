"""What a devnet's users notice while others mean no good.

    python bench/hostile.py [--seconds 60] [--only ATTACK ...]

Two devnets run side by side: one is left in peace, the other has hostile clients (`support.hostile_clients`,
at nice 19) and a builder's stream with hostile messages in it. Printed for both, and as a difference: when
flashblocks arrive against their slot, how long an honest call and getPayload take, memory of each role.

Aims on a quiet machine with two cores: flashblocks within 20 ms of the quiet run in p99, honest calls within
200 ms in p99, getPayload within its second, memory within 300 MiB of idle.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path

import httpx

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from support.hostile_clients import ATTACKS, post, request
from support.soak_lab import SoakNet, soak_net
from support.stream_injector import stream_injector

from flashctl.chain.devnet_accounts import DEVNET_ACCOUNTS
from flashctl.eth.hexdata import to_hex

CALL_EVERY_S = 0.05
SHARES = (("p50", 0.5), ("p99", 0.99), ("max", 1.0))
TESTS = Path(__file__).resolve().parents[1] / "tests"


def quantile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


async def warmed(net: SoakNet) -> None:
    """Have both ports start what they start with their first call."""
    async with httpx.AsyncClient(timeout=30) as client:
        for url in (net.rpc_url, net.builder_url):
            await post(client, url, request("eth_call", {"to": "0x" + "11" * 20}, "latest"))


async def honest(net: SoakNet, seconds: list[float]) -> None:
    """A trivial call twenty times a second; a failed one counts as ten seconds."""
    address = to_hex(DEVNET_ACCOUNTS[0].address)
    # From another address than the hostile ones, as anybody's would be.
    transport = httpx.AsyncHTTPTransport(local_address="127.0.0.2")
    async with httpx.AsyncClient(timeout=10, transport=transport) as client:
        while True:
            started = time.monotonic()
            answer = await post(client, net.rpc_url, request("eth_call", {"to": address}, "pending"))
            seconds.append(time.monotonic() - started if answer and "result" in answer else 10.0)
            await asyncio.sleep(CALL_EVERY_S)


def row(what: str, values: list[float]) -> None:
    shown = "   ".join(f"{name} {quantile(values, share) * 1e3:8.1f} ms" for name, share in SHARES)
    print(f"  {what:<32} {shown}")


def show(name: str, net: SoakNet, calls: list[float], before: int) -> None:
    late = [offset - index * 0.2 for index, offsets in net.offsets.items() for offset in offsets]
    counts = [len(net.parts_of(slot)) for slot in net.sealed[before:]]
    print(f"{name}: {len(counts)} blocks, {sum(counts)} flashblocks, {counts.count(0)} blocks without")
    row("arrival against the schedule", late)
    row("honest eth_call", calls)
    row("getPayload", net.engine.seconds)


async def turns(net: SoakNet) -> None:
    """Loop turns over 5 ms, by role and cause."""
    async with httpx.AsyncClient(timeout=5) as client:
        text = (await client.get(f"{net.rpc_url}/metrics")).text
    lines = [line for line in text.splitlines() if "turns_over" in line and not line.startswith("#")]
    print("  rpc: " + ("; ".join(lines) or "no long turns"))


async def main(seconds: float, only: list[str]) -> None:
    async with AsyncExitStack() as stack:
        folders = [Path(stack.enter_context(tempfile.TemporaryDirectory())) for _ in range(2)]
        quiet, hostile = (SoakNet(folder) for folder in folders)
        url = await stack.enter_async_context(
            stream_injector(f"ws://127.0.0.1:{hostile.ports.builder_stream}")
        )
        arguments = hostile.commands["boost"]
        arguments[arguments.index("--flashblocks-builder-url") + 1] = url
        for net in (quiet, hostile):
            await stack.enter_async_context(soak_net(net, tx_rate=10))
            await warmed(net)
            await net.sealed_blocks(3, with_flashblocks=True)
        idle = hostile.memory()
        starts = [len(quiet.sealed), len(hostile.sealed)]
        for net in (quiet, hostile):
            net.offsets.clear()
            net.engine.seconds.clear()
        calls: list[list[float]] = [[], []]
        tasks = [
            asyncio.create_task(honest(net, into)) for net, into in zip((quiet, hostile), calls, strict=True)
        ]
        process = await asyncio.create_subprocess_exec(*hostile.hostile_command(seconds, *only), cwd=TESTS)
        await process.wait()
        for task in tasks:
            task.cancel()
        busy = hostile.memory()
        show("quiet", quiet, calls[0], starts[0])
        show("hostile", hostile, calls[1], starts[1])
        print("  MiB " + ", ".join(f"{name} {idle[name]:.0f} -> {busy[name]:.0f}" for name in busy))
        await turns(hostile)
        if ended := hostile.ended():
            print(f"  ENDED: {ended}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--only", choices=ATTACKS, action="append", default=[])
    options = parser.parse_args()
    asyncio.run(main(options.seconds, options.only))
