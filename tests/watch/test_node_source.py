"""A node's subscription: what ends it at the first attempt is waited for later, as long as the node asks."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

import pytest
from support.watch_lab import message
from websockets.asyncio.server import ServerConnection, serve

from flashctl.core.flashblocks.client import Connected, Disconnected
from flashctl.errors import ProtocolError
from flashctl.watch.config import StreamConfig
from flashctl.watch.events import Arrival
from flashctl.watch.sources import Item, node_subscription


async def follow(statuses: list[tuple[int, str] | None], count: int, answer: Any = "0x1") -> list[Item]:
    """The first items from a node that treats its connections like this, one after the other."""

    def judge(connection: ServerConnection, request: Any) -> Any:
        outcome = statuses.pop(0) if len(statuses) > 1 else statuses[0]
        if outcome is None:
            return None
        response = connection.respond(outcome[0], "")
        response.headers["Retry-After"] = outcome[1]
        return response

    async def handle(connection: ServerConnection) -> None:
        await connection.recv()
        await connection.send(json.dumps({"jsonrpc": "2.0", "id": 1, "result": answer}))
        note = {"method": "eth_subscription", "params": {"result": json.loads(message(1, 0))}}
        await connection.send(json.dumps({"jsonrpc": "2.0", **note}))

    items: list[Item] = []
    async with serve(handle, "127.0.0.1", 0, process_request=judge) as server:
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with contextlib.aclosing(node_subscription(url, StreamConfig(url=url))) as stream:  # type: ignore[type-var]
            async for item in stream:
                items.append(item)
                if len(items) == count:
                    break
    return items


def test_a_refusal_after_it_worked_is_a_disconnect() -> None:
    items = asyncio.run(follow([None, (404, ""), None], 5))
    assert [type(item) for item in items] == [Connected, Arrival, Disconnected, Disconnected, Connected]


def test_a_full_node_is_left_alone_as_long_as_it_asks() -> None:
    (item,) = asyncio.run(follow([(429, "7")], 1))
    assert isinstance(item, Disconnected) and 7.0 <= item.retry_in_s < 18.0


def test_the_first_attempt_tells_what_is_wrong() -> None:
    with pytest.raises(ProtocolError, match="HTTP 404"):
        asyncio.run(follow([(404, "")], 1))
