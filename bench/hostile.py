"""What a devnet's users notice while others mean no good.

    python bench/hostile.py [--seconds 60] [--nice 19] [--only ATTACK ...]

Two devnets run side by side: one is left in peace, the other has hostile clients (`support.hostile_clients`,
at nice 19) and a builder's stream with hostile messages in it. So whatever else the machine does in these
seconds meets both. Printed for both, and as a difference: when flashblocks arrive against their slot and how
long an honest call takes (`support.onlooker`, a process for each), getPayload, memory of each role. The
sequencers are in this process.

What the event loop of each role ran and waited for a processor is printed beside it, in percent of the time:
lateness with much waiting and little running is the machine's, the other way about it is the role's. With
`--nice 0` the hostile clients get as much of the processors as every service does, which is no longer the
question above, and shows sooner where a role can be kept busy.

Aims on a quiet machine with two cores: flashblocks within 20 ms of the quiet run in p99, honest calls within
200 ms in p99, getPayload within its second, memory within 300 MiB of idle.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from support.hostile_clients import ATTACKS, post, request
from support.onlooker import Onlooker, onlooker
from support.run_delay import Usage, usage
from support.soak_lab import SoakNet, soak_net
from support.stream_injector import stream_injector

from flashctl.ethrpc.call_runner import DEFAULT_WORKERS

SHARES = (("p50", 0.5), ("p99", 0.99), ("max", 1.0))
TESTS = Path(__file__).resolve().parents[1] / "tests"
INTERVAL_S = 0.2
TURNS_SHOWN = 4
WORKERS = re.compile(rf"^\w+_workers {DEFAULT_WORKERS}(\.0)?$", re.MULTILINE)
GET_PAYLOAD_S = 1.0


@dataclass
class Bed:
    """A devnet and who looks at it."""

    name: str
    net: SoakNet
    eyes: Onlooker
    usage: dict[str, Usage]
    sealed: int
    memory: dict[str, float]

    @property
    def late(self) -> list[float]:
        """Seconds by which flashblocks arrived after their time."""
        return [offset - index * INTERVAL_S for index, offset in self.eyes.arrivals]


def quantile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


async def warmed(net: SoakNet) -> None:
    """Have both ports start the workers that they start with their first call."""
    async with httpx.AsyncClient(timeout=30) as client:
        for url in (net.rpc_url, net.builder_url):
            while not WORKERS.search((await client.get(f"{url}/metrics")).text):
                await post(client, url, request("eth_call", {"to": "0x" + "11" * 20}, "latest"))
                await asyncio.sleep(0.2)


def usages(net: SoakNet, eyes: Onlooker) -> dict[str, Usage]:
    pids = {**net.family.pids(), "onlooker": eyes.pid, "bench": os.getpid()}
    return {name: usage(pid) for name, pid in pids.items()}


def row(what: str, values: list[float]) -> None:
    shown = "   ".join(f"{name} {quantile(values, share) * 1e3:8.1f} ms" for name, share in SHARES)
    print(f"  {what:<32} {shown}   ({len(values)})")


def show(bed: Bed, seconds: float) -> None:
    net = bed.net
    counts = [len(net.parts_of(slot)) for slot in net.sealed[bed.sealed :]]
    print(f"{bed.name}: {len(counts)} blocks, {sum(counts)} flashblocks, {counts.count(0)} blocks without")
    row("arrival against the schedule", bed.late)
    row("honest eth_call", bed.eyes.calls)
    row("getPayload", net.engine.seconds)
    for name, now in usages(net, bed.eyes).items():
        spent = now.since(bed.usage[name])
        loop, waited, ran, workers = (
            100 * value / seconds
            for value in (spent.loop_ran, spent.loop_waited, spent.ran, spent.workers_ran)
        )
        print(
            f"  {name:<10} loop ran {loop:5.1f} %, waited {waited:5.1f} %; "
            f"all threads ran {ran:5.1f} %, workers {workers:5.1f} %"
        )


async def turns(net: SoakNet) -> None:
    """The commonest long turns of the loop that a role was busy in, by role."""
    ports = {
        "builder": net.ports.builder_rpc, "fallback": net.ports.fallback_rpc,
        "boost": net.ports.boost_engine, "rpc": net.ports.rpc,
    }  # fmt: skip
    async with httpx.AsyncClient(timeout=30) as client:
        for name, port in ports.items():
            text = (await client.get(f"http://127.0.0.1:{port}/metrics")).text
            lines = [line.partition("{cause=")[2] for line in text.splitlines() if "turns_over" in line]
            found = [line.rpartition(" ") for line in lines if line]
            found.sort(key=lambda parts: -float(parts[2]))
            busy = [f"{count} {cause[1:-2]}" for cause, _, count in found if "waiting in" not in cause]
            waiting = sum(float(count) for cause, _, count in found if "waiting in" in cause)
            print(f"  {name:<10} long turns: {'; '.join(busy[:TURNS_SHOWN])}; {waiting:.0f} waiting")


def verdict(quiet: Bed, hostile: Bed) -> None:
    later = quantile(hostile.late, 0.99) - quantile(quiet.late, 0.99)
    calls = quantile(hostile.eyes.calls, 0.99)
    payload = max(hostile.net.engine.seconds, default=float("nan"))
    memory = hostile.net.memory()
    grown = max(memory[name] - hostile.memory[name] for name in memory)
    print("aims:")
    for what, value, aim, unit in (
        ("flashblocks later than quiet, p99", later * 1e3, 20.0, "ms"),
        ("honest calls, p99", calls * 1e3, 200.0, "ms"),
        ("getPayload, longest", payload * 1e3, GET_PAYLOAD_S * 1e3, "ms"),
        ("memory above idle, most", grown, 300.0, "MiB"),
    ):
        print(f"  {'met   ' if value <= aim else 'MISSED'} {what}: {value:.1f} {unit} of {aim:.0f}")


async def main(seconds: float, nice: int, only: list[str]) -> None:
    async with AsyncExitStack() as stack:
        folders = [Path(stack.enter_context(tempfile.TemporaryDirectory())) for _ in range(2)]
        quiet, hostile = (SoakNet(folder) for folder in folders)
        url = await stack.enter_async_context(
            stream_injector(f"ws://127.0.0.1:{hostile.ports.builder_stream}")
        )
        arguments = hostile.commands["boost"]
        arguments[arguments.index("--flashblocks-builder-url") + 1] = url
        beds = []
        for name, net in (("quiet", quiet), ("hostile", hostile)):
            await stack.enter_async_context(soak_net(net, tx_rate=10))
            await warmed(net)
            eyes = await stack.enter_async_context(onlooker(net.stream_url, net.rpc_url, net.block_time))
            await net.sealed_blocks(3, with_flashblocks=True)
            beds.append(Bed(name, net, eyes, {}, 0, {}))
        for bed in beds:
            bed.memory, bed.usage, bed.sealed = (
                bed.net.memory(),
                usages(bed.net, bed.eyes),
                len(bed.net.sealed),
            )
            bed.eyes.forget()
            bed.net.engine.seconds.clear()
        started = time.monotonic()
        command = hostile.hostile_command(seconds, *only, nice=nice)
        process = await asyncio.create_subprocess_exec(*command, cwd=TESTS)
        ending = asyncio.ensure_future(process.wait())
        clients = usage(process.pid)
        while not ending.done():
            clients = usage(process.pid)
            await asyncio.wait({ending}, timeout=0.5)
        elapsed = time.monotonic() - started
        for bed in beds:
            show(bed, elapsed)
        memory = hostile.memory()
        idle = beds[1].memory
        print("  MiB " + ", ".join(f"{name} {idle[name]:.0f} -> {memory[name]:.0f}" for name in memory))
        for bed in beds:
            await turns(bed.net)
        ran, waited = (100 * value / elapsed for value in (clients.loop_ran, clients.loop_waited))
        print(f"hostile clients: nice {nice}, {elapsed:.0f} s, ran {ran:.1f} %, waited {waited:.1f} %")
        verdict(*beds)
        if ended := hostile.ended():
            print(f"  ENDED: {ended}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--nice", type=int, default=19, help="of the hostile clients")
    parser.add_argument("--only", choices=ATTACKS, action="append", default=[])
    options = parser.parse_args()
    asyncio.run(main(options.seconds, options.nice, options.only))
