"""Streams for watch: scripted servers in a thread of their own, and arrivals made by hand."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest
from support.decode_lab import every_type, run_command
from support.flashblocks import make_flashblock
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from flashctl.core.flashblocks.dialects import FULL
from flashctl.core.flashblocks.wire import Flashblock, encode
from flashctl.eth.keccak import keccak256
from flashctl.watch.events import ReceivedMessage, WatchEvent
from flashctl.watch.tracker import Tracker

__all__ = [
    "CLOSE",
    "HOLD",
    "SHELL",
    "TX",
    "TX_HASH",
    "NodeServer",
    "StreamServer",
    "arrive",
    "block",
    "follow",
    "message",
    "names",
    "story",
    "text_frames",
    "watch",
]

HOLD = object()
"""In a script: say nothing more, and keep the connection."""
CLOSE = object()
"""In a script: close the connection."""

STEP_NS = 200_000_000
START_NS = 1_700_000_000 * 1_000_000_000


def message(block: int = 1, index: int = 0, payload: int | None = None, **settings: Any) -> bytes:
    """A message as a builder writes it; the payload id follows the block unless it is given."""
    return encode(make_flashblock(block, index, block if payload is None else payload, **settings))


def block(number: int, flashblocks: int = 4, payload: int | None = None, **settings: Any) -> list[bytes]:
    """The messages of a whole block."""
    return [
        message(number, index, payload, gas_used=21_000 * (index + 1), **settings)
        for index in range(flashblocks)
    ]


def arrive(
    data: bytes, number: int = 0, *, binary: bool = False, start_ns: int = START_NS
) -> ReceivedMessage:
    """A message that arrived as the `number`th, one every 200 ms."""
    at = start_ns + number * STEP_NS
    return ReceivedMessage(data, binary, at, at)


def follow(frames: Sequence[bytes | Flashblock | ReceivedMessage], *, end: bool = False) -> list[WatchEvent]:
    """The events of a stream."""
    tracker, events = Tracker(), []
    for number, frame in enumerate(frames):
        if isinstance(frame, Flashblock):
            frame = encode(frame, FULL)
        events += tracker.feed(frame if isinstance(frame, ReceivedMessage) else arrive(frame, number))
    return events + (tracker.end(START_NS + len(frames) * STEP_NS) if end else [])


def names(events: Sequence[WatchEvent]) -> list[str]:
    """What happened, in order."""
    return [event.name for event in events]


def with_extra(flashblock: Flashblock, **extra: Any) -> Flashblock:
    """A flashblock with fields nobody knows."""
    return replace(flashblock, extra=extra)


class StreamServer:
    """A WebSocket server that plays one script per connection; the last script repeats.

    A script is a list of frames (str or bytes), pauses (float seconds), HOLD and CLOSE.
    """

    def __init__(
        self,
        *scripts: Sequence[Any],
        refuse: tuple[int, str] | None = None,
        answer: Callable[[dict[str, Any]], Any] | None = None,
    ) -> None:
        self._scripts = scripts
        self._refuse = refuse
        self._answer = answer
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.connections = 0
        self.sent = 0
        """Messages, on all connections."""
        self.received: list[str | bytes] = []
        self.port = 0

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    def __enter__(self) -> StreamServer:
        self._thread.start()
        assert self._ready.wait(60)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(60)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._main())
        self._loop.close()

    async def _main(self) -> None:
        async with serve(
            self._handle, "127.0.0.1", 0, compression=None, process_request=self._process, close_timeout=0.2
        ) as server:
            self.port = next(iter(server.sockets)).getsockname()[1]
            self._ready.set()
            await self._stop.wait()

    def _process(self, connection: ServerConnection, request: Any) -> Any:
        if self._refuse is None:
            return None
        status, body = self._refuse
        return connection.respond(status, body)

    async def _handle(self, connection: ServerConnection) -> None:
        number = self.connections
        self.connections += 1
        reader = asyncio.ensure_future(self._read(connection))
        try:
            await self._play(connection, self._scripts[min(number, len(self._scripts) - 1)])
        except ConnectionClosed:
            pass
        finally:
            reader.cancel()

    async def _play(self, connection: ServerConnection, script: Sequence[Any]) -> None:
        for step in script:
            if step is HOLD:
                await connection.wait_closed()
            elif step is CLOSE:
                return
            elif isinstance(step, float):
                await asyncio.sleep(step)
            else:
                await connection.send(step)
                self.sent += 1

    async def _read(self, connection: ServerConnection) -> None:
        try:
            async for received in connection:
                self.received.append(received)
                if self._answer is not None:
                    for reply in self._answer(json.loads(received)):
                        await connection.send(json.dumps(reply))
        except ConnectionClosed:
            pass


def text_frames(frames: Sequence[bytes]) -> list[str]:
    """Messages as text frames."""
    return [frame.decode() for frame in frames]


class NodeServer:
    """A node's HTTP endpoint with scripted answers: method name to a function of its parameters."""

    batches = False
    """Whether many calls in one request are answered."""

    def __init__(self, **methods: Callable[[list[Any]], Any]) -> None:
        self.methods = methods
        self.calls: list[tuple[str, list[Any]]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if isinstance(request, dict):
                    self._send(self._answer(request))
                elif outer.batches:
                    self._send([self._answer(each) for each in request])
                else:
                    error = {"code": -32600, "message": "no batches"}
                    self._send({"jsonrpc": "2.0", "id": None, "error": error})

            def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
                outer.calls.append((request["method"], request["params"]))
                reply: dict[str, Any] = {"jsonrpc": "2.0", "id": request["id"]}
                try:
                    reply["result"] = outer.methods[request["method"]](request["params"])
                except Exception as error:
                    reply["error"] = {"code": -32000, "message": str(error)}
                return reply

            def _send(self, reply: Any) -> None:
                body = json.dumps(reply).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> NodeServer:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


TX = every_type()["eip1559"]
"""The transaction that tests look for on the stream of `story`."""

TX_HASH = "0x" + keccak256(TX).hex()

SHELL = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
"""An environment in which `flashctl` is the one under test."""


def story() -> list[bytes]:
    """A stream on which everything happens once."""
    attributes, legacy, create = every_type()["attributes"], every_type()["legacy"], every_type()["create"]
    return [
        encode(make_flashblock(10, 0, 1, transactions=(attributes,), gas_used=46_000)),
        encode(make_flashblock(10, 1, 1, transactions=(TX, legacy), gas_used=1_240_000)),
        encode(make_flashblock(10, 1, 1, transactions=(TX, legacy), gas_used=1_240_000)),
        encode(make_flashblock(10, 4, 1, transactions=(create,), gas_used=2_000_000)),
        b'{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"no"}}',
        encode(make_flashblock(10, 0, 2, transactions=(attributes,), gas_used=46_000)),
        encode(make_flashblock(11, 0, 3, transactions=(attributes,), gas_used=46_000)),
        encode(make_flashblock(14, 2, 4, transactions=(TX,), gas_used=460_000)),
        encode(make_flashblock(15, 0, 5, transactions=(attributes,), gas_used=46_000)),
    ]


def watch(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of `flashctl watch`, run in this process."""
    return run_command(["watch", *arguments], monkeypatch)
