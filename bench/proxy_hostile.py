"""What clients of `flashctl proxy` notice while others misbehave.

    python bench/proxy_hostile.py

Fifty well-behaved clients receive ten flashblocks a second. For each kind of attack the worst and the 99th
percentile of publish-to-receive delays is printed, beside the same without an attack. Aim: no delay above 50
ms on a quiet machine. Attackers run in a process of their own.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable

import uvloop

from flashctl.core.hub import Hub, serve

CLIENTS = 50
RATE = 10.0
SECONDS = 5.0
HANDSHAKE = (
    b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


async def _opened(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(HANDSHAKE)
    await reader.readuntil(b"\r\n\r\n")
    return reader, writer


async def connects(port: int) -> None:
    """Thousands of connects a second, each a whole handshake, gone at once."""
    end = time.monotonic() + SECONDS

    async def one() -> None:
        while time.monotonic() < end:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                _, writer = await _opened(port)
                writer.transport.abort()

    await asyncio.gather(*(one() for _ in range(50)))


async def slowloris(port: int) -> None:
    """A thousand handshakes, a byte each now and then."""
    writers = []
    for _ in range(1000):
        with contextlib.suppress(OSError):
            writers.append((await asyncio.open_connection("127.0.0.1", port))[1])
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        for writer in writers:
            if not writer.is_closing():
                writer.write(b"G")
        await asyncio.sleep(0.3)


async def stuck(port: int) -> None:
    """A hundred clients that never read."""
    held = []
    for _ in range(100):
        raw = socket.socket()
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.connect(("127.0.0.1", port))
        raw.sendall(HANDSHAKE)
        held.append(raw)
    await asyncio.sleep(SECONDS)


async def huge(port: int) -> None:
    """Messages that claim and begin to be 100 MB."""
    end = time.monotonic() + SECONDS

    async def one() -> None:
        while time.monotonic() < end:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                _, writer = await _opened(port)
                writer.write(b"\x82\xff" + (100 << 20).to_bytes(8, "big") + b"mask" + bytes(1 << 20))
                await writer.drain()
                writer.transport.abort()

    await asyncio.gather(*(one() for _ in range(20)))


async def flood(port: int) -> None:
    """Pings as fast as they go."""
    end = time.monotonic() + SECONDS

    async def one() -> None:
        while time.monotonic() < end:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                _, writer = await _opened(port)
                for _ in range(200):
                    writer.write(b"\x89\x84maskping" * 500)
                    await writer.drain()
                writer.transport.abort()

    await asyncio.gather(*(one() for _ in range(20)))


ATTACKS: dict[str, Callable[[int], Awaitable[None]] | None] = {
    "nobody": None,
    "connects": connects,
    "slowloris": slowloris,
    "never reading": stuck,
    "100 MB messages": huge,
    "ping flood": flood,
}


def _attack(name: str, port: int) -> None:
    attack = ATTACKS[name]
    assert attack is not None
    uvloop.run(attack(port))


async def follow(port: int, delays: list[float]) -> None:
    """A well-behaved client: reads frames of equal size that carry their time of publication."""
    reader, _ = await _opened(port)
    while True:
        head = await reader.readexactly(4)
        payload = await reader.readexactly(int.from_bytes(head[2:4], "big"))
        published = float(payload.partition(b'"at": "')[2][:20])
        delays.append((time.monotonic() - published) * 1000)


async def measure(name: str, hub: Hub, port: int, number: int) -> None:
    """One attack, one line."""
    delays: list[float] = []
    followers = [asyncio.create_task(follow(port, delays)) for _ in range(CLIENTS)]
    await asyncio.sleep(0.5)
    delays.clear()
    process = None
    if ATTACKS[name] is not None:
        process = multiprocessing.get_context("spawn").Process(target=_attack, args=(name, port))
        process.start()
        await asyncio.sleep(1.0)  # its imports
    end = time.monotonic() + SECONDS
    index = 0
    while time.monotonic() < end:
        data = (
            f'{{"payload_id": "0x{number:016x}", "index": {index}, "metadata": {{"block_number": {number}}}, '
            f'"at": "{time.monotonic():020.9f}", "pad": "{"x" * 5000}"}}'
        )
        hub.publish(data.encode(), payload_id=str(number), index=index, block_number=number)
        index += 1
        await asyncio.sleep(1 / RATE)
    for task in followers:
        task.cancel()
    if process is not None:
        process.join()
    delays.sort()
    lost = CLIENTS * index - len(delays)
    print(
        f"{name:16} p50 {delays[len(delays) // 2]:7.2f} ms   p99 {delays[int(len(delays) * 0.99)]:7.2f} ms   "
        f"worst {delays[-1]:7.2f} ms   missing {max(0, lost - CLIENTS)}",
        flush=True,
    )


async def main() -> None:
    """All attacks, one after the other, on one proxy."""
    hub = Hub()
    upstream = await serve(hub, "127.0.0.1", 0)
    read, write = os.pipe()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    proxy = subprocess.Popen(  # noqa: ASYNC220 - before anything is measured
        [
            sys.executable, "-m", "flashctl", "proxy", "--upstream-ws", upstream.url, "--no-metrics",
            "--listen-addr", f"127.0.0.1:{port}", "--instance-connection-limit", "0",
            "--per-ip-connection-limit", "0", "--no-client-ping", "--log-level", "error",
            "--ready-fd", str(write),
        ],
        pass_fds=[write],
    )  # fmt: skip
    await asyncio.to_thread(os.read, read, 10)
    await asyncio.sleep(0.5)
    try:
        for number, name in enumerate(ATTACKS, 1):
            await measure(name, hub, port, number)
    finally:
        proxy.terminate()
        proxy.wait()


if __name__ == "__main__":
    uvloop.run(main())
