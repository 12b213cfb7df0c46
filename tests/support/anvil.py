"""anvil as an oracle: op-revm behind JSON-RPC, one mined block at a time."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from support.npm import npm_binary
from support.waiting import wait_until


class Anvil:
    """A running anvil."""

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(base_url=url, timeout=20)

    def call(self, method: str, *params: Any) -> Any:
        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}
        reply = self._client.post("/", json=request).json()
        if "error" in reply:
            raise RuntimeError(f"{method}: {reply['error']}")
        return reply["result"]

    def close(self) -> None:
        self._client.close()


@contextmanager
def anvil(*arguments: str) -> Iterator[Anvil]:
    """anvil on a free port, stopped afterwards."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [npm_binary("anvil"), "--port", str(port), "--silent", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    server = Anvil(f"http://127.0.0.1:{port}")
    try:
        wait_until_ready(server, process)
        yield server
    finally:
        server.close()
        process.terminate()
        process.wait(timeout=60)


def wait_until_ready(server: Anvil, process: subprocess.Popen[bytes]) -> None:
    def answers() -> bool:
        try:
            server.call("eth_chainId")
        except httpx.TransportError:
            if process.poll() is not None:
                raise RuntimeError(f"anvil ended with {process.returncode}") from None
            return False
        return True

    wait_until(answers)
