"""Can `flashctl watch --json` keep up with a stream far faster than any chain?

    python bench/watch.py                           1,000 flashblocks/s of 50 KB for ten seconds
    python bench/watch.py --rate 500 --seconds 5 --size 20

A server publishes flashblocks of the given size at the given rate; `flashctl watch --json` in a process of
its own writes NDJSON to a pipe that is read and counted. Aim: 1,000/s of 50 KB (fifty times Base at its
fullest) with every message in the output, in order.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import subprocess
import sys
import threading
import time

import uvloop

from flashctl.core.flashblocks.wire import Base, Diff, Flashblock, Metadata, encode
from flashctl.core.hub import Hub, HubOptions, LagBudget, RingLimits, serve

PER_BLOCK = 11


def message(block: int, index: int, kilobytes: int) -> bytes:
    """A flashblock of about this size: transactions of 300 bytes, as most are."""
    base = None
    if index == 0:
        base = Base(
            bytes(32), bytes(32), bytes(20), bytes(32), block, 60_000_000, int(time.time()), bytes(9), 7
        )
    raw = b"\x02" + bytes(299)
    count = max(0, kilobytes * 1024 - 2_000) // 603
    diff = Diff(tuple(raw for _ in range(count)), 21_000 * (index + 1))
    return encode(Flashblock(f"0x{block:016x}", index, base, diff, Metadata(block)))


class Publisher(threading.Thread):
    """A hub that publishes at a steady rate once a subscriber is there."""

    def __init__(self, rate: int, total: int, kilobytes: int) -> None:
        super().__init__(daemon=True)
        self.rate, self.total, self.kilobytes = rate, total, kilobytes
        self.url = ""
        self.listening = threading.Event()
        self.go = threading.Event()
        self.seconds = 0.0

    def run(self) -> None:
        uvloop.run(self._main())

    async def _main(self) -> None:
        budget = 512 * 1024 * 1024
        options = HubOptions(
            ring=RingLimits(max_bytes=budget),
            budget=LagBudget(max_bytes=budget, max_messages=100_000, max_age_s=60.0, stall_s=60.0),
        )
        hub = Hub(options)
        server = await serve(hub, "127.0.0.1", 0)
        self.url = server.url
        frames = [
            (block, index, message(block, index, self.kilobytes))
            for block in range(1, self.total // PER_BLOCK + 2)
            for index in range(PER_BLOCK)
        ][: self.total]
        self.listening.set()
        while not self.go.is_set():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        started = time.monotonic()
        for number, (block, index, data) in enumerate(frames):
            due = started + number / self.rate
            if (wait := due - time.monotonic()) > 0:
                await asyncio.sleep(wait)
            hub.publish(data, payload_id=f"0x{block:016x}", index=index, block_number=block)
        self.seconds = time.monotonic() - started
        while server.connections():  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        await server.close()


def watch(rate: int, total: int, kilobytes: int) -> None:
    publisher = Publisher(rate, total, kilobytes)
    publisher.start()
    publisher.listening.wait()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    argv = [sys.executable, "-m", "flashctl", "watch", publisher.url, "--json", "-n", str(total),
            "--no-reconnect", "--source", "raw"]  # fmt: skip
    lines = size = 0
    indices = []
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for line in process.stdout:
            size += len(line)
            if line.startswith(b'{"v":1,"event":"flashblock"'):
                lines += 1
                indices.append(json.loads(line[: line.index(b',"stats"')] + b"}")["index"])
            elif b'"event":"connected"' in line[:60]:
                publisher.go.set()
            elif b'"event":"closed"' not in line[:60]:
                print("unexpected:", line[:120])
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    order = (
        "in order" if indices == [number % PER_BLOCK for number in range(len(indices))] else "OUT OF ORDER"
    )
    print(
        f"flashctl watch --json: {lines:,} of {total:,} flashblocks, {order}, "
        f"{size / 1e6:,.0f} MB written; published at {total / publisher.seconds:,.0f}/s "
        f"({publisher.seconds:.1f} s), {cpu:.1f} s of CPU, {cpu / max(1, lines) * 1e6:.0f} us each"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rate", type=int, default=1_000)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--size", type=int, default=50, help="kilobytes per flashblock")
    arguments = parser.parse_args()
    total = int(arguments.rate * arguments.seconds)
    print(f"{total:,} flashblocks of {len(message(1, 0, arguments.size)):,} bytes at {arguments.rate:,}/s")
    watch(arguments.rate, total, arguments.size)


if __name__ == "__main__":
    main()
