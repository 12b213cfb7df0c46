"""Where messages come from: a stream, a node's subscription, a recording.

Each source is an async iterator of `ReceivedMessage`, `Connected` and `Disconnected`, so that a replay passes
through the same code as a live stream.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Final

from flashctl.core.flashblocks.client import (
    Backoff,
    Connected,
    Disconnected,
    NotAStream,
    StreamFrame,
    StreamItem,
    StreamOptions,
    failure_reason,
    retry_after,
    subscribe,
)
from flashctl.core.flashblocks.wire import InvalidFlashblock, parse_object, unpack
from flashctl.core.net.urls import mask_url
from flashctl.core.output import counted
from flashctl.errors import DataError, ProtocolError
from flashctl.watch.blocking_input import may_block, steps_of_pipe
from flashctl.watch.config import ConnectionConfig
from flashctl.watch.events import ReceivedMessage
from flashctl.watch.pending_updates import BlockUpdates, is_block_object
from flashctl.watch.recording import LOOK_UP_S, Replay

__all__ = ["SourceItem", "live", "node_subscription", "probe_node", "replayed"]

_LOG = logging.getLogger(__name__)

SourceItem = ReceivedMessage | Connected | Disconnected

QUIET_BEFORE_PROBE_S: Final = 3.0
"""Silence after which a stream is suspected to be something else; every public stream speaks five times a
second."""

PROBE_TIMEOUT_S: Final = 5.0
"""For a node to answer the question whether it is one."""

_MAX_WAIT_S: Final = 3_600.0
"""Longest pause of a replay: a recording across a night must not sleep through it."""

_SUBSCRIPTION: Final = "newFlashblocks"


def stream_options(config: ConnectionConfig) -> StreamOptions:
    """The settings of the connection."""
    return StreamOptions(
        headers=dict(config.headers),
        ping_interval_s=config.ping_interval_s or None,
        pong_timeout_s=config.pong_timeout_s or None,
        silence_timeout_s=config.silence_s or None,
        max_size=config.max_frame,
        reconnect=config.reconnect,
    )


async def live(config: ConnectionConfig, note: Callable[[str], None]) -> AsyncGenerator[SourceItem, None]:
    """The items of `config.url`: a raw stream, or a node's subscription when it is one.

    Args:
        note: Prints what was found out about the endpoint.

    Raises:
        FlashctlError: What trying again cannot mend: not a stream, wrong protocol, refused credentials.
    """
    assert config.url is not None
    if config.source == "rpc":
        async for item in node_subscription(config.url, config):
            yield item
        return
    stream = subscribe(config.url, stream_options(config))
    if config.source == "auto":
        is_node = False
        async for known in _until_known(stream, config):
            if known is None:
                is_node = True
            else:
                yield known
        if is_node:
            note(f"{mask_url(config.url)} is a node: following its {_SUBSCRIPTION} subscription")
            async for item in node_subscription(config.url, config):
                yield item
            return
    async for received in stream:
        yield _item(received)


def _item(received: StreamItem) -> SourceItem:
    if isinstance(received, StreamFrame):
        return ReceivedMessage(
            received.data, received.binary, received.received_ns, received.monotonic_ns, received.url
        )
    return received


async def _until_known(
    stream: AsyncIterator[StreamItem], config: ConnectionConfig
) -> AsyncIterator[SourceItem | None]:
    """The items up to the one that decides what the endpoint is; None in its place when it is a node.

    A silent endpoint is asked once, on a connection of its own: a raw stream is never sent anything.
    """
    connected = asked = False
    while True:
        read: asyncio.Task[StreamItem] = asyncio.ensure_future(_next(stream))
        try:
            done, _ = await asyncio.wait(
                {read}, timeout=QUIET_BEFORE_PROBE_S if connected and not asked else None
            )
            if not done:
                asked = True
                if await probe_node(config.url or "", config):
                    yield None
                    return
            item = _item(await read)
        except EndOfStream:
            return
        finally:
            if not read.done():
                read.cancel()
                await asyncio.gather(read, return_exceptions=True)
        if isinstance(item, ReceivedMessage):
            yield None if _speaks_json_rpc(item) else item
            return
        connected = isinstance(item, Connected)
        yield item


async def _next(stream: AsyncIterator[StreamItem]) -> StreamItem:
    """The next item; a coroutine cannot end with StopAsyncIteration as it is."""
    async for item in stream:
        return item
    raise EndOfStream


class EndOfStream(Exception):
    """The stream has ended and does not reconnect."""


def _speaks_json_rpc(arrival: ReceivedMessage) -> bool:
    """Whether a first frame is a JSON-RPC message that holds no flashblock."""
    try:
        parse_object(unpack(arrival.data, binary=arrival.binary))
    except InvalidFlashblock as error:
        return error.hint is not None and "JSON-RPC" in error.hint
    return False


# -- nodes ----------------------------------------------------------------------------------------


async def probe_node(url: str, config: ConnectionConfig) -> bool:
    """Whether the endpoint answers JSON-RPC; a raw stream is never sent anything else than this."""
    import orjson
    from websockets.asyncio.client import connect

    try:
        async with (
            asyncio.timeout(PROBE_TIMEOUT_S),
            connect(url, additional_headers=dict(config.headers)) as connection,
        ):
            await connection.send('{"jsonrpc":"2.0","id":1,"method":"eth_chainId","params":[]}')
            while True:
                message = orjson.loads(await connection.recv())
                return isinstance(message, dict) and "jsonrpc" in message and message.get("id") == 1
    except Exception as error:  # a probe has no other answer than no, whatever the endpoint does to it
        _LOG.debug("probe: %s", error)
        return False


async def node_subscription(url: str, config: ConnectionConfig) -> AsyncIterator[SourceItem]:
    """The messages of a node's `eth_subscribe` to flashblocks, with reconnects.

    Raises:
        NotAStream, ProtocolError: There is no endpoint, or it refuses the subscription, at the first attempt;
            a node that has worked is waited for.
    """
    from websockets.asyncio.client import connect
    from websockets.exceptions import InvalidStatus, WebSocketException

    shown, backoff, attempt, has_worked = mask_url(url), Backoff(), 0, False
    while True:
        asked_s = 0.0
        is_connected = False
        try:
            async with connect(
                url, additional_headers=dict(config.headers), max_size=config.max_frame, compression=None
            ) as connection:
                is_connected = True
                yield Connected(shown)
                attempt = 0
                await connection.send(
                    f'{{"jsonrpc":"2.0","id":1,"method":"eth_subscribe","params":["{_SUBSCRIPTION}"]}}'
                )
                _check_subscription(await connection.recv(), shown)
                has_worked = True
                updates = BlockUpdates()
                async for message in connection:
                    data = _plain_message(message.encode() if isinstance(message, str) else message, updates)
                    yield ReceivedMessage(
                        data, isinstance(message, bytes), time.time_ns(), time.monotonic_ns(), shown
                    )
                reason = "closed by the server"
        except InvalidStatus as error:
            status = error.response.status_code
            if not has_worked and status not in (429, 500, 502, 503, 504):
                raise NotAStream(f"{shown} is no WebSocket endpoint: HTTP {status}") from None
            reason, asked_s = f"HTTP {status}", retry_after(error, time.time())
        except ProtocolError as error:
            if not has_worked:
                raise
            reason = str(error)
        except (OSError, TimeoutError, WebSocketException, ImportError) as error:
            reason = failure_reason(error, url, is_connected=is_connected)
        if not config.reconnect:
            yield Disconnected(shown, reason, 0.0)
            return
        delay = backoff.delay(attempt, random.random()) + asked_s
        attempt += 1
        yield Disconnected(shown, reason, delay)
        await asyncio.sleep(delay)


def _plain_message(data: bytes, updates: BlockUpdates) -> bytes:
    """A notification as it is when it holds a flashblock; as the flashblock it stands for when it holds a
    block."""
    import orjson

    try:
        value = orjson.loads(data)
        result = value["params"]["result"]
        return orjson.dumps(updates.message(result)) if is_block_object(result) else data
    except (orjson.JSONDecodeError, DataError, KeyError, TypeError, ValueError):
        return data  # the tracker reports it as undecodable


def _check_subscription(reply: str | bytes, shown: str) -> None:
    import orjson

    try:
        answer = orjson.loads(reply)
    except orjson.JSONDecodeError:
        answer = None
    if not isinstance(answer, dict) or "result" not in answer:
        error = answer.get("error") if isinstance(answer, dict) else None
        text = error.get("message") if isinstance(error, Mapping) else "no JSON-RPC answer"
        raise ProtocolError(
            f"{shown} refuses eth_subscribe {_SUBSCRIPTION}: {text}",
            hint="the node needs flashblocks enabled; a raw stream is followed with --source raw",
        )


# -- recordings -----------------------------------------------------------------------------------


async def replayed(
    path: Path | None, speed: float, note: Callable[[str], None]
) -> AsyncGenerator[SourceItem, None]:
    """The messages of a recording at `speed` times their pace; 0 is as fast as they can be read.

    Args:
        note: Prints which lines are no messages and are skipped.

    Raises:
        IoError: The file cannot be read to its end; what stands before has been given out.
        DataError: It is no recording, or lines of it are no messages; at the end.
    """
    replay = Replay(path, note)
    first_ns: int | None = None
    started = time.monotonic()
    steps = steps_of_pipe(replay) if may_block(path) else _steps_of_file(replay)
    async for arrival in steps:
        if arrival is None:
            continue
        if first_ns is None:
            first_ns = arrival.monotonic_ns
            if replay.untimed:
                note("the recording has no receive times: assuming one message every 200 ms")
        if speed > 0:
            due = started + (arrival.monotonic_ns - first_ns) / 1e9 / speed
            if (wait := due - time.monotonic()) > 0:
                await asyncio.sleep(min(wait, _MAX_WAIT_S))
        yield arrival
    if not replay.messages:
        raise DataError(
            f"{replay.name} holds no message", hint="is it a recording of flashctl watch --record?"
        )
    if replay.bad:
        raise DataError(f"{replay.name}: {counted(replay.bad, 'line')} skipped, which are no messages")


async def _steps_of_file(replay: Replay) -> AsyncIterator[ReceivedMessage | None]:
    looked_up = time.monotonic()
    for step in replay.steps():
        if time.monotonic() - looked_up > LOOK_UP_S:
            await asyncio.sleep(0)  # signals and other tasks get their turn
            looked_up = time.monotonic()
        yield step
