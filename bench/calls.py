"""Calls: worker processes beside threads of one process, quiet and under callers that burn.

    python bench/calls.py
    python bench/calls.py --seconds 10 --workers 0 2 4

A devnet for each number of workers. Small calls of `pending` a second from 1, 4 and 16 callers of builder and
rpc; then, beside four callers of endless loops with 50 million gas on either port, how long a small call
takes, and how many flashblocks blocks have.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import time
from typing import Any

from flashctl.core.jsonrpc.client import JsonRpcClient
from flashctl.core.jsonrpc.errors import RpcError

TARGET = "0x" + "77" * 20
SMALL = {"to": TARGET, "data": "0x01"}
CODE = {TARGET: {"code": "0x5f355f5260205ff3"}}
LOOP = {TARGET: {"code": "0x5b600056"}}
HEAVY = 4


async def call_on(url: str, until: float, taken: list[float]) -> None:
    """Small calls, one after the other."""
    client = JsonRpcClient(url, timeout_s=120.0)
    while (began := time.perf_counter()) < until:
        try:
            await client.call("eth_call", [SMALL, "pending", CODE])
        except RpcError as error:
            print("small call:", error, file=sys.stderr)
        taken.append(time.perf_counter() - began)
    await client.close()


async def burn(url: str, until: float) -> int:
    """Endless calls, one after the other; how many were answered."""
    client, count = JsonRpcClient(url, timeout_s=120.0), 0
    while time.perf_counter() < until:
        try:
            await client.call("eth_call", [{"to": TARGET, "gas": hex(50_000_000)}, "pending", LOOP])
        except RpcError:
            count += 1
    await client.close()
    return count


async def rate(url: str, callers: int, seconds: float) -> list[float]:
    """How long each call took."""
    taken: list[float] = []
    until = time.perf_counter() + seconds
    await asyncio.gather(*(call_on(url, until, taken) for _ in range(callers)))
    return sorted(taken)


def shown(taken: list[float]) -> str:
    p50, p99 = taken[len(taken) // 2], taken[min(len(taken) - 1, len(taken) * 99 // 100)]
    return f"p50 {p50 * 1000:.1f} ms, p99 {p99 * 1000:.1f} ms, most {taken[-1] * 1000:.0f} ms"


async def measure(ready: dict[str, Any], events: list[dict[str, Any]], seconds: float) -> None:
    urls = {name: ready["endpoints"][name] for name in ("builder", "rpc")}
    for name, url in urls.items():
        await rate(url, 2, 2.0)  # warm
        for callers in (1, 4, 16):
            taken = await rate(url, callers, seconds)
            print(f"  {name}, {callers} callers: {len(taken) / seconds:,.0f} calls/s, {shown(taken)}")
    quiet = [event["flashblocks"] for event in events]
    until = time.perf_counter() + 2 * seconds
    first = len(events)
    heavy = [burn(url, until) for url in urls.values() for _ in range(HEAVY)]
    light: list[list[float]] = [[] for _ in urls]
    results = await asyncio.gather(
        *heavy, *(call_on(url, until, taken) for url, taken in zip(urls.values(), light, strict=True))
    )
    for name, taken in zip(urls, light, strict=True):
        taken.sort()
        rate_of = len(taken) / (2 * seconds)
        print(f"  {name}, 1 caller beside {HEAVY} that burn: {rate_of:,.0f} calls/s, {shown(taken)}")
    ended = sum(count for count in results if count is not None)
    during = [event["flashblocks"] for event in events[first:]]
    print(f"  burning calls over: {ended}; flashblocks a block before {quiet[-4:]}, during {during}")


async def run(workers: int, seconds: float) -> None:
    command = [sys.executable, "-m", "flashctl", "devnet", "--json", "--any-ports", "--workers", str(workers)]
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    ready = json.loads(await process.stdout.readline())
    events: list[dict[str, Any]] = []

    async def follow() -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            events.append(json.loads(line))  # noqa: PERF401  they are wanted as they come

    following = asyncio.create_task(follow())
    try:
        await asyncio.sleep(5)
        print(f"--workers {workers}")
        await measure(ready, events, seconds)
    finally:
        process.terminate()
        await process.wait()
        await following


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2])
    options = parser.parse_args()
    for workers in options.workers:
        asyncio.run(run(workers, options.seconds))


if __name__ == "__main__":
    main()
