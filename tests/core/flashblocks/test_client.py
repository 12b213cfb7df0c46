"""subscribe() against real websockets servers: what it yields, and what it gives up on."""

from __future__ import annotations

import asyncio
import contextlib
import http
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from websockets.asyncio.server import ServerConnection, serve

from flashctl.core.flashblocks.client import (
    MAX_RETRY_AFTER_S,
    Backoff,
    Connected,
    Disconnected,
    NotAStream,
    StreamFrame,
    StreamItem,
    StreamOptions,
    subscribe,
)
from flashctl.errors import AuthError, UsageError

Handler = Callable[[ServerConnection], Awaitable[None]]
QUICK = Backoff(initial_s=0.01, maximum_s=0.02)


@contextlib.asynccontextmanager
async def server(handler: Handler, **settings: Any) -> AsyncIterator[str]:
    async with serve(handler, "127.0.0.1", 0, **settings) as running:
        port = next(iter(running.sockets)).getsockname()[1]
        yield f"ws://127.0.0.1:{port}/ws"


async def take(url: str, count: int, options: StreamOptions | None = None) -> list[StreamItem]:
    items: list[StreamItem] = []
    async with contextlib.aclosing(subscribe(url, options or StreamOptions(backoff=QUICK))) as stream:
        async for item in stream:
            items.append(item)
            if len(items) == count:
                break
    return items


def test_text_and_binary_frames_arrive_as_they_were_sent() -> None:
    async def handler(connection: ServerConnection) -> None:
        await connection.send('{"text": "é"}')
        await connection.send(b"\x1b\x00binary")
        await connection.wait_closed()

    async def run() -> list[StreamItem]:
        async with server(handler) as url:
            return await take(url, 3)

    connected, text, binary = asyncio.run(run())
    assert isinstance(connected, Connected)
    assert isinstance(text, StreamFrame) and not text.binary and text.data == '{"text": "é"}'.encode()
    assert isinstance(binary, StreamFrame) and binary.binary and binary.data == b"\x1b\x00binary"
    assert binary.monotonic_ns >= text.monotonic_ns


def test_comes_back_after_the_server_closes() -> None:
    connections = 0

    async def handler(connection: ServerConnection) -> None:
        nonlocal connections
        connections += 1
        await connection.send(str(connections))
        await connection.close(1012, "restart")

    async def run() -> list[StreamItem]:
        async with server(handler) as url:
            return await take(url, 6)

    items = asyncio.run(run())
    assert [type(item) for item in items] == [Connected, StreamFrame, Disconnected] * 2
    assert isinstance(items[2], Disconnected) and items[2].reason == "closed by the server: 1012 restart"
    assert isinstance(items[4], StreamFrame) and items[4].data == b"2"


def test_nobody_listening_is_a_disconnect_not_an_error() -> None:
    async def run() -> list[StreamItem]:
        async with server(lambda connection: asyncio.sleep(0)) as url:
            pass
        return await take(url, 2)

    first, second = asyncio.run(run())
    assert isinstance(first, Disconnected) and isinstance(second, Disconnected)
    assert "refused" in first.reason.lower() or "connect call failed" in first.reason.lower()


def test_silence_counts_as_a_disconnect() -> None:
    async def run() -> list[StreamItem]:
        async with server(lambda connection: connection.wait_closed()) as url:
            return await take(url, 2, StreamOptions(backoff=QUICK, silence_timeout_s=0.05))

    _, silent = asyncio.run(run())
    assert isinstance(silent, Disconnected) and silent.reason == "no frame for 0.05 s"


def test_a_frame_over_the_limit_ends_the_connection_and_the_stream_goes_on() -> None:
    connections = 0

    async def handler(connection: ServerConnection) -> None:
        nonlocal connections
        connections += 1
        await connection.send("x" * (1000 if connections == 1 else 10))
        await connection.wait_closed()

    async def run() -> list[StreamItem]:
        async with server(handler) as url:
            return await take(url, 4, StreamOptions(backoff=QUICK, max_size=500))

    items = asyncio.run(run())
    assert [type(item) for item in items] == [Connected, Disconnected, Connected, StreamFrame]


def test_resume_position_goes_into_the_query_of_every_connection() -> None:
    paths: list[str] = []
    position = iter([{}, {"block_number": "7", "flashblock_index": "3"}])

    async def handler(connection: ServerConnection) -> None:
        assert connection.request is not None
        paths.append(connection.request.path)

    async def run() -> None:
        async with server(handler) as url:
            await take(url + "?key=1", 4, StreamOptions(backoff=QUICK, resume=lambda: next(position)))

    asyncio.run(run())
    assert paths == ["/ws?key=1", "/ws?key=1&block_number=7&flashblock_index=3"]


@pytest.mark.parametrize(("status", "error"), [(401, AuthError), (403, AuthError), (404, NotAStream)])
def test_refusals_that_will_not_change_are_final(status: int, error: type[Exception]) -> None:
    async def run() -> None:
        def refuse(connection: ServerConnection, request: Any) -> Any:
            return connection.respond(http.HTTPStatus(status), "no such thing\n")

        async with server(lambda connection: asyncio.sleep(0), process_request=refuse) as url:
            await take(url, 1)

    with pytest.raises(error, match=f"HTTP {status}"):
        asyncio.run(run())


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refusal_after_a_connection_that_worked_is_a_disconnect(status: int) -> None:
    connections = 0

    def refuse_the_second(connection: ServerConnection, request: Any) -> Any:
        nonlocal connections
        connections += 1
        return connection.respond(http.HTTPStatus(status), "restarting\n") if connections == 2 else None

    async def run() -> list[StreamItem]:
        async with server(lambda connection: connection.close(), process_request=refuse_the_second) as url:
            return await take(url, 4)

    items = asyncio.run(run())
    assert [type(item) for item in items] == [Connected, Disconnected, Disconnected, Connected]
    assert isinstance(items[2], Disconnected) and items[2].reason == f"HTTP {status} (restarting)"


def test_what_is_no_http_after_a_connection_that_worked_is_a_disconnect_too() -> None:
    async def garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"* OK IMAP4rev1 ready\r\n")
        writer.close()

    async def run() -> list[StreamItem]:
        async with server(lambda connection: connection.close()) as url:
            port = int(url.rpartition(":")[2].partition("/")[0])
            stream = subscribe(url, StreamOptions(backoff=QUICK))
            items = [await anext(stream), await anext(stream)]
        async with await asyncio.start_server(garbage, "127.0.0.1", port):
            items += [await anext(stream), await anext(stream)]
        await stream.aclose()
        return items

    assert [type(item) for item in asyncio.run(run())] == [Connected, *[Disconnected] * 3]


def test_one_of_several_is_patient_from_the_start() -> None:
    def refuse(connection: ServerConnection, request: Any) -> Any:
        return connection.respond(http.HTTPStatus.UNAUTHORIZED, "no\n")

    async def run() -> list[StreamItem]:
        async with server(lambda connection: asyncio.sleep(0), process_request=refuse) as url:
            return await take(url, 2, StreamOptions(backoff=QUICK, patient=True))

    assert [type(item) for item in asyncio.run(run())] == [Disconnected, Disconnected]


def test_a_redirect_to_nowhere_is_no_way_out() -> None:
    connections = 0

    def redirect(connection: ServerConnection, request: Any) -> Any:
        nonlocal connections
        connections += 1
        if connections == 1:
            return None
        response = connection.respond(http.HTTPStatus.FOUND, "")
        response.headers["Location"] = "mailto:nobody"
        return response

    async def run() -> list[StreamItem]:
        async with server(lambda connection: connection.close(), process_request=redirect) as url:
            return await take(url, 4)

    items = asyncio.run(run())
    assert [type(item) for item in items] == [Connected, *[Disconnected] * 3]


def in_days(days: int) -> str:
    """A date in HTTP's form."""
    return format_datetime(datetime.now(UTC) + timedelta(days=days), usegmt=True)


@pytest.mark.parametrize(
    ("value", "asked_s"),
    [
        ("7", 7.0),
        ("0", 0.0),
        ("999999999999999999999", MAX_RETRY_AFTER_S),
        ("-5", 0.0),
        ("soon", 0.0),
        ("\u0663", 0.0),
        pytest.param(in_days(1), MAX_RETRY_AFTER_S, id="tomorrow"),
        pytest.param(in_days(-1), 0.0, id="yesterday"),
        ("Wed, 21 Oct 99999999 07:28:00 GMT", 0.0),
    ],
)
def test_a_server_that_asks_for_time_gets_it_within_reason(value: str, asked_s: float) -> None:
    def refuse(connection: ServerConnection, request: Any) -> Any:
        response = connection.respond(http.HTTPStatus.TOO_MANY_REQUESTS, "")
        response.headers["Retry-After"] = value.encode().decode("latin-1")
        return response

    async def run() -> StreamItem:
        async with server(lambda connection: asyncio.sleep(0), process_request=refuse) as url:
            return (await take(url, 1))[0]

    item = asyncio.run(run())
    assert isinstance(item, Disconnected)
    assert asked_s <= item.retry_in_s <= asked_s + QUICK.maximum_s


def test_a_full_server_is_tried_again_and_its_reason_shown() -> None:
    async def run() -> list[StreamItem]:
        def refuse(connection: ServerConnection, request: Any) -> Any:
            return connection.respond(http.HTTPStatus.TOO_MANY_REQUESTS, "10 connections per IP\n")

        async with server(lambda connection: asyncio.sleep(0), process_request=refuse) as url:
            return await take(url, 2)

    first, second = asyncio.run(run())
    assert isinstance(first, Disconnected) and first.reason == "HTTP 429 (10 connections per IP)"
    assert isinstance(second, Disconnected)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "127.0.0.1:1111", "ws://", "file:///etc/passwd"])
def test_only_websocket_urls(url: str) -> None:
    with pytest.raises(UsageError):
        asyncio.run(take(url, 1))


def test_without_reconnect_the_iterator_ends() -> None:
    async def run() -> list[StreamItem]:
        async with server(lambda connection: connection.close()) as url:
            return await take(url, 99, StreamOptions(reconnect=False))

    assert [type(item) for item in asyncio.run(run())] == [Connected, Disconnected]


def test_backoff_doubles_within_its_bounds() -> None:
    backoff = Backoff(initial_s=1.0, maximum_s=10.0)
    assert [backoff.delay(attempt, 0.5) for attempt in range(6)] == [0.5, 1.0, 2.0, 4.0, 5.0, 5.0]
    assert backoff.delay(10_000, 1.0) == 10.0
