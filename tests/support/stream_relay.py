"""A WebSocket relay that does to a stream what networks, proxies and broken builders do.

It delays, stalls, drops, duplicates, swaps, damages and replaces messages, by a seed. By hand, from the tests
folder, between a proxy and an overlay:

    python -m support.stream_relay --listen 9547 --upstream ws://127.0.0.1:8547/ws --seed 7
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import websockets
from support.relay_command import run_relay
from websockets.asyncio.client import connect
from websockets.asyncio.server import Server, ServerConnection, serve

__all__ = ["StreamFaults", "StreamRelay", "damaged", "stream_relay"]

Message = str | bytes


@dataclass(frozen=True)
class StreamFaults:
    """How often what happens; shares of messages, and seconds."""

    drop: float = 0.01
    duplicate: float = 0.01
    swap: float = 0.01
    damage: float = 0.005
    replace: float = 0.005
    cut: float = 0.001
    """The connection is closed."""
    stall_every_s: float = 20.0
    stall_s: float = 4.0
    """At most; what came meanwhile arrives at once afterwards."""
    delay_s: float = 3.0
    """The greatest delay; it wanders between none and that."""
    delay_holds_s: float = 8.0
    """How long a delay stays as it is."""


class StreamRelay:
    """Relays one upstream to every client, each with faults of its own."""

    def __init__(self, upstream: str, faults: StreamFaults, seed: int) -> None:
        self._upstream = upstream
        self._faults = faults
        self._random = random.Random(seed)
        self._seen: deque[Message] = deque(maxlen=200)
        self.counts: Counter[str] = Counter()
        """What was done, by kind."""

    async def handle(self, client: ServerConnection) -> None:
        """Serve one client until either side leaves."""
        with contextlib.suppress(websockets.ConnectionClosed, OSError, websockets.InvalidHandshake):
            async with connect(self._upstream, max_size=None) as upstream:
                queue: asyncio.Queue[tuple[float, Message]] = asyncio.Queue()
                tasks = [
                    asyncio.create_task(self._receive(upstream, queue)),
                    asyncio.create_task(self._send(client, queue)),
                    asyncio.create_task(client.wait_closed()),
                ]
                _, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in pending:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _receive(self, upstream: Any, queue: asyncio.Queue[tuple[float, Message]]) -> None:
        """Queue what comes, with the time at which it is due."""
        loop, source, faults = asyncio.get_running_loop(), self._random, self._faults
        delay, delay_until, stalled_until = 0.0, 0.0, 0.0
        next_stall = loop.time() + faults.stall_every_s * source.random()
        held: Message | None = None
        async for message in upstream:
            now = loop.time()
            if now >= delay_until:
                delay = source.choice((0.0, 0.1, faults.delay_s * source.random() ** 2))
                delay_until = now + faults.delay_holds_s * source.random()
            if now >= next_stall:
                self.counts["stall"] += 1
                stalled_until = now + faults.stall_s * source.random()
                next_stall = now + faults.stall_every_s * (0.5 + source.random())
            due = max(now + delay, stalled_until)
            if delay:
                self.counts["delay"] += 1
            for out in self._faulty(message):
                if held is None and source.random() < faults.swap:
                    self.counts["swap"] += 1
                    held = out
                    continue
                await queue.put((due, out))
                if held is not None:
                    await queue.put((due, held))
                    held = None
            if source.random() < faults.cut:
                self.counts["cut"] += 1
                return

    def _faulty(self, message: Message) -> list[Message]:
        source, faults = self._random, self._faults
        self.counts["message"] += 1
        self._seen.append(message)
        draw = source.random()
        for kind, share in (
            ("drop", faults.drop),
            ("duplicate", faults.duplicate),
            ("damage", faults.damage),
            ("replace", faults.replace),
        ):
            if draw < share:
                self.counts[kind] += 1
                match kind:
                    case "drop":
                        return []
                    case "duplicate":
                        return [message, message]
                    case "damage":
                        return [damaged(message, source)]
                    case _:
                        return [source.choice(self._seen)]
            draw -= share
        return [message]

    async def _send(self, client: ServerConnection, queue: asyncio.Queue[tuple[float, Message]]) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due, message = await queue.get()
            await asyncio.sleep(max(0.0, due - loop.time()))
            await client.send(message)


def damaged(message: Message, source: random.Random) -> Message:
    """A message with one thing wrong: cut off, a byte changed, or a field of its JSON of another type, absent
    or impossible."""
    kind = source.randrange(3)
    if kind == 0 or isinstance(message, bytes):
        return message[: source.randrange(len(message))]
    if kind == 1:
        place = source.randrange(len(message))
        return message[:place] + chr(source.randrange(32, 127)) + message[place + 1 :]
    try:
        document = json.loads(message)
    except ValueError:
        return ""
    parent, key = source.choice(list(_places(document)))
    if source.random() < 0.2:
        del parent[key]
    else:
        parent[key] = source.choice(
            [None, "", "0x", "0x-9", "0xzz", " 0x1", "0x" + "f" * 64, -1, 2**70, 1.5, [], {}, "0x00", True]
        )
    return json.dumps(document)


def _places(node: Any) -> list[tuple[Any, Any]]:
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    places: list[tuple[Any, Any]] = []
    for key, value in items:
        places += [(node, key), *_places(value)]
    return places


@asynccontextmanager
async def stream_relay(
    upstream: str, *, port: int = 0, faults: StreamFaults | None = None, seed: int = 1
) -> AsyncIterator[tuple[StreamRelay, str]]:
    """A relay and its URL."""
    relay = StreamRelay(upstream, faults or StreamFaults(), seed)
    server: Server = await serve(relay.handle, "127.0.0.1", port, max_size=None, compression=None)
    try:
        yield relay, f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"
    finally:
        server.close()
        await server.wait_closed()


if __name__ == "__main__":
    run_relay(__doc__, stream_relay)
