"""The builder's calls in worker processes: what dies with a worker, and what does not."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

from support.builders import builder_config, rpc_client, running, scenario
from support.waiting import until

from flashctl.core.jsonrpc.client import JsonRpcClient
from flashctl.core.jsonrpc.errors import ErrorCode, RpcError

TARGET = "0x" + "77" * 20
LOOP = {TARGET: {"code": "0x5b600056"}}
HEAVY = [{"to": TARGET, "gas": hex(10**12)}, "latest", LOOP]


def workers() -> list[int]:
    """The worker processes of this one."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            command = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if parent == os.getpid() and b"flashctl.core.service.workers\0" in command:
            found.append(int(folder.name))
    return found


def test_a_killed_worker_costs_its_calls_only(tmp_path: Path) -> None:
    async def body() -> None:
        async with running(builder_config(tmp_path)) as service:
            assert workers() == [], "nobody has asked yet"
            client, other = rpc_client(service), rpc_client(service)
            assert await answered(client) == "0x"
            for _ in range(3):
                heavy = asyncio.create_task(client.call("eth_call", HEAVY))
                await until(lambda heavy=heavy: heavy.done() or any(map(is_busy, workers())))
                for pid in workers():
                    os.kill(pid, signal.SIGKILL)
                try:
                    await heavy
                except RpcError as error:
                    assert error.code in (ErrorCode.RESOURCE_UNAVAILABLE, ErrorCode.SERVER_ERROR), error
                assert await other.call("eth_blockNumber") == "0x0"
                assert await answered(other) == "0x"
            await client.close()
            await other.close()
        assert workers() == []

    async def answered(client: JsonRpcClient) -> Any:
        """A small call's answer, when the new workers have loaded: they do so behind everything else."""
        while True:
            try:
                return await client.call("eth_call", [{"to": TARGET}, "latest"])
            except RpcError as error:
                assert error.code == ErrorCode.LIMIT_EXCEEDED, error

    def is_busy(pid: int) -> bool:
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "R"
        except OSError:
            return False

    scenario(body, timeout_s=90.0)


def test_without_workers_there_are_none(tmp_path: Path) -> None:
    async def body() -> None:
        async with running(builder_config(tmp_path, workers=0)) as service:
            client = rpc_client(service)
            assert await client.call("eth_call", [{"to": TARGET}, "latest"]) == "0x"
            assert workers() == []
            await client.close()

    scenario(body)
