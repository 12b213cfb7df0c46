"""An HTTP relay that makes a good node as bad as load-balanced ones are.

It answers errors, "header for hash not found", 429 with Retry-After, hangs, closes connections, and lags
behind for a while, by a seed. By hand, from the tests folder, between an overlay and its node:

    python -m support.node_relay --listen 9745 --upstream http://127.0.0.1:8745 --seed 7
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx
from support.relay_command import run_relay

__all__ = ["NodeFaults", "NodeRelay", "node_relay"]


@dataclass(frozen=True)
class NodeFaults:
    """How often what happens; shares of HTTP requests, and seconds."""

    error: float = 0.01
    """A JSON-RPC error."""
    not_found: float = 0.02
    """As a node answers that has not got the block yet, or no longer."""
    too_many: float = 0.005
    """429 with Retry-After: 1."""
    server_error: float = 0.003
    garbage: float = 0.002
    hang: float = 0.002
    hang_s: float = 20.0
    close: float = 0.003
    lag_every_s: float = 30.0
    lag_for_s: float = 5.0
    lag_blocks: int = 3
    latency_s: float = 0.0


class NodeRelay:
    """Relays POSTs to one node."""

    def __init__(self, upstream: str, faults: NodeFaults, seed: int) -> None:
        self._upstream = upstream
        self._faults = faults
        self._random = random.Random(seed)
        self._client = httpx.AsyncClient(timeout=30.0, limits=httpx.Limits(max_connections=200))
        self._numbers: dict[str, int] = {}
        self._head = 0
        self._lag_until = 0.0
        self._next_lag = 0.0
        self._tasks: set[asyncio.Task[None]] = set()
        self.counts: Counter[str] = Counter()
        """What was done, by kind."""

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        # Cancelled when the relay ends while it lets somebody wait; upstream may have ended before.
        ends = (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError, httpx.HTTPError)
        with contextlib.suppress(*ends):
            while await self._exchange(reader, writer):
                pass
        writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            int(line.split(b":")[1])
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"content-length")
        )
        body = await reader.readexactly(length)
        status, headers, reply = await self._answer(body)
        if status == 0:
            return False
        lines = [f"HTTP/1.1 {status} -", "content-type: application/json", f"content-length: {len(reply)}"]
        writer.write("\r\n".join([*lines, *headers, "", ""]).encode() + reply)
        await writer.drain()
        return True

    async def _answer(self, body: bytes) -> tuple[int, list[str], bytes]:
        """Status, further headers and body; status 0 closes the connection."""
        faults = self._faults
        self.counts["request"] += 1
        await asyncio.sleep(faults.latency_s)
        match self._drawn():
            case "error":
                return 200, [], _refusals(body, {"code": -32000, "message": "internal trouble"})
            case "not_found":
                return 200, [], _refusals(body, {"code": -32000, "message": "header for hash not found"})
            case "too_many":
                return 429, ["retry-after: 1"], b'{"error":"slow down"}'
            case "server_error":
                return 502, [], b"<html>bad gateway</html>"
            case "garbage":
                return 200, [], b'{"jsonrpc":"2.0","id":1,"result":'
            case "hang":
                await asyncio.sleep(faults.hang_s)
                return 0, [], b""
            case "close":
                return 0, [], b""
        request = json.loads(body)
        lag = self._lag()
        calls = request if isinstance(request, list) else [request]
        for call in calls:
            if lag and self._is_ahead(call, lag):
                self.counts["ahead"] += 1
                return 200, [], _refusals(body, {"code": -32000, "message": "header for hash not found"})
            if lag:
                call["params"] = [_older(param, self._head - lag) for param in call.get("params") or []]
        response = await self._client.post(
            self._upstream, content=json.dumps(request), headers={"content-type": "application/json"}
        )
        self._learn(response.content)
        return response.status_code, [], response.content

    def _drawn(self) -> str:
        faults, draw = self._faults, self._random.random()
        for kind in ("error", "not_found", "too_many", "server_error", "garbage", "hang", "close"):
            share: float = getattr(faults, kind)
            if draw < share:
                self.counts[kind] += 1
                return kind
            draw -= share
        return ""

    def _lag(self) -> int:
        """Blocks behind at the moment."""
        faults, now = self._faults, asyncio.get_running_loop().time()
        if now >= self._next_lag:
            if self._next_lag:
                self._lag_until = now + faults.lag_for_s
                self.counts["lag"] += 1
            self._next_lag = now + faults.lag_every_s * (0.5 + self._random.random())
        return min(faults.lag_blocks, self._head) if now < self._lag_until else 0

    def _is_ahead(self, call: Any, lag: int) -> bool:
        """Whether a call names a block that a node this far behind has not got."""
        known = self._head - lag
        for param in call.get("params") or []:
            block_hash = param.get("blockHash") if isinstance(param, dict) else param
            if isinstance(block_hash, str) and self._numbers.get(block_hash, 0) > known:
                return True
        return False

    def _learn(self, reply: bytes) -> None:
        """Note hash and number of blocks in answers."""
        if b'"parentHash"' not in reply:
            return
        answers = json.loads(reply)
        for answer in answers if isinstance(answers, list) else [answers]:
            block = answer.get("result")
            if isinstance(block, dict) and "parentHash" in block and block.get("hash"):
                number = int(block["number"], 16)
                self._numbers[block["hash"]] = number
                self._head = max(self._head, number)


def _older(param: Any, number: int) -> Any:
    return hex(number) if param == "latest" else param


def _refusals(body: bytes, error: dict[str, Any]) -> bytes:
    request = json.loads(body)
    answers = [
        {"jsonrpc": "2.0", "id": call.get("id"), "error": error}
        for call in (request if isinstance(request, list) else [request])
    ]
    return json.dumps(answers if isinstance(request, list) else answers[0]).encode()


@asynccontextmanager
async def node_relay(
    upstream: str, *, port: int = 0, faults: NodeFaults | None = None, seed: int = 1
) -> AsyncIterator[tuple[NodeRelay, str]]:
    """A relay and its URL."""
    relay = NodeRelay(upstream, faults or NodeFaults(), seed)
    server = await asyncio.start_server(relay.connected, "127.0.0.1", port)
    try:
        yield relay, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await relay._client.aclose()


if __name__ == "__main__":
    run_relay(__doc__, node_relay)
