"""`flashctl proxy` as an operator runs it: a process with a port."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

__all__ = ["ProxyProcess", "proxy_process"]


@dataclass(frozen=True)
class ProxyProcess:
    """A running one."""

    child: asyncio.subprocess.Process
    port: int
    status_port: int

    def rss_kib(self) -> int:
        """Resident memory."""
        with open(f"/proc/{self.child.pid}/status", encoding="ascii") as file:
            return next(int(line.split()[1]) for line in file if line.startswith("VmRSS:"))


@asynccontextmanager
async def proxy_process(*arguments: str, **environment: str) -> AsyncIterator[ProxyProcess]:
    """Start one on any port; killed at the end if it still runs."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "flashctl", "proxy", "--listen-addr", "127.0.0.1:0", "--log-format", "json",
        "--metrics-addr", "127.0.0.1:0", *arguments,
        stderr=subprocess.PIPE, env={**os.environ, **environment},
    )  # fmt: skip
    assert child.stderr is not None
    draining: asyncio.Future[bytes] | None = None
    try:
        while True:
            line = await child.stderr.readline()
            assert line, "the proxy ended before it served"
            record = json.loads(line)
            if "url" in record:
                break
        draining = asyncio.ensure_future(child.stderr.read())
        port = int(record["url"].rsplit(":", 1)[1].split("/")[0])
        yield ProxyProcess(child, port, int(record["status"].rsplit(":", 1)[1]))
    finally:
        if child.returncode is None:
            child.kill()
        await child.wait()
        if draining is not None:
            draining.cancel()
