"""Anonymous calls that do nothing but burn: the builder whose port they use goes on publishing, and light
callers of it and of rpc are answered."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

from support.devnet import devnet
from support.waiting import until

from flashctl.core.jsonrpc.client import JsonRpcClient
from flashctl.core.jsonrpc.errors import ErrorCode, RpcError

LOOP = "0x5b600056"
"""JUMPDEST PUSH1 0 JUMP."""

TARGET = "0x" + "77" * 20
HEAVY_CALLERS = 4
BLOCKS = 5
PER_BLOCK = 10
"""Flashblocks of 200 ms in two seconds."""


async def burn(url: str, tally: list[str]) -> None:
    """Calls of 50 Mgas, one after the other, each another one."""
    client = JsonRpcClient(url, timeout_s=60.0)
    try:
        for number in itertools.count():
            call = {"to": TARGET, "gas": hex(50_000_000), "data": hex(number)}
            if len(call["data"]) % 2:
                call["data"] = "0x0" + call["data"][2:]
            try:
                await client.call("eth_call", [call, "pending", {TARGET: {"code": LOOP}}])
            except RpcError as error:
                tally.append(error.message)
    finally:
        await client.close()


async def ask(url: str, count: list[int]) -> None:
    """Small calls, one after the other."""
    client = JsonRpcClient(url, timeout_s=60.0)
    try:
        while True:
            try:
                assert await client.call("eth_call", [{"to": TARGET}, "pending"]) == "0x"
            except RpcError as error:
                # Workers stand behind whatever else the machine does: no turn within the time-out.
                assert error.code == ErrorCode.LIMIT_EXCEEDED, error
            else:
                count[0] += 1
    finally:
        await client.close()


def test_heavy_callers_stop_no_flashblock_and_no_light_caller() -> None:
    async def body() -> None:
        with devnet() as running:
            events = running.events()
            await asyncio.to_thread(next, events)
            ends: list[str] = []
            light: dict[str, list[int]] = {"builder": [0], "rpc": [0]}
            tasks = [
                asyncio.create_task(burn(running.url(name), ends))
                for name in light
                for _ in range(HEAVY_CALLERS)
            ]
            tasks += [asyncio.create_task(ask(running.url(name), count)) for name, count in light.items()]
            flashblocks = []
            for _ in range(BLOCKS):
                event: dict[str, Any] = await asyncio.to_thread(next, events)
                flashblocks.append(event["flashblocks"])
            # No rate is promised beside what else uses the processors, but nothing stands still.
            await until(lambda: any(map(asyncio.Task.done, tasks)) or (ends and min(light.values())[0] > 50))
            failed = [task for task in tasks if task.done()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert not failed, failed[0].exception()
            assert sum(flashblocks) > BLOCKS * PER_BLOCK // 2, flashblocks

    asyncio.run(body())
