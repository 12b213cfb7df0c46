"""A node's subscription: what ends it at the first attempt is waited for later, as long as the node asks."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

import pytest
from support.decode_lab import every_type
from support.watch_lab import TX, message
from support.watch_lab import follow as follow_events
from websockets.asyncio.server import ServerConnection, serve

from flashctl.core.flashblocks.client import Connected, Disconnected
from flashctl.decode.tx_report import Options, report_transaction
from flashctl.errors import ProtocolError
from flashctl.watch.config import ConnectionConfig
from flashctl.watch.events import ReceivedMessage, Row
from flashctl.watch.pending_updates import BlockUpdates
from flashctl.watch.sources import SourceItem, node_subscription


async def follow(statuses: list[tuple[int, str] | None], count: int, answer: Any = "0x1") -> list[SourceItem]:
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

    items: list[SourceItem] = []
    async with serve(handle, "127.0.0.1", 0, process_request=judge) as server:
        url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with contextlib.aclosing(node_subscription(url, ConnectionConfig(url=url))) as stream:  # type: ignore[type-var]
            async for item in stream:
                items.append(item)
                if len(items) == count:
                    break
    return items


def test_a_refusal_after_it_worked_is_a_disconnect() -> None:
    items = asyncio.run(follow([None, (404, ""), None], 5))
    assert [type(item) for item in items] == [
        Connected,
        ReceivedMessage,
        Disconnected,
        Disconnected,
        Connected,
    ]


def test_a_full_node_is_left_alone_as_long_as_it_asks() -> None:
    (item,) = asyncio.run(follow([(429, "7")], 1))
    assert isinstance(item, Disconnected) and 7.0 <= item.retry_in_s < 18.0


def test_the_first_attempt_tells_what_is_wrong() -> None:
    with pytest.raises(ProtocolError, match="HTTP 404"):
        asyncio.run(follow([(404, "")], 1))


def pending_block(number: int, count: int) -> dict[str, Any]:
    """The pending block of a node with so many transactions, as `newFlashblocks` sends it."""
    raws = [every_type()["attributes"], *([TX] * (count - 1))]
    word = "0x" + "11" * 32
    return {
        "number": hex(number), "parentHash": word, "hash": None, "miner": "0x" + "22" * 20, "mixHash": word,
        "gasLimit": hex(60_000_000), "timestamp": hex(1_700_000_000), "gasUsed": hex(21_000 * count),
        "baseFeePerGas": "0x7", "transactions": [
            report_transaction(raw, Options()) for raw in raws
        ],
    }  # fmt: skip


def rows_of(*blocks: dict[str, Any]) -> list[Row]:
    updates = BlockUpdates()
    messages = [json.dumps(updates.message(block)).encode() for block in blocks]
    return [event.row for event in follow_events(messages) if event.row is not None]


def test_a_join_in_mid_block_is_no_index_zero_with_eleven_transactions() -> None:
    rows = rows_of(pending_block(5, 11), pending_block(5, 13), pending_block(6, 1), pending_block(6, 4))
    assert [row.flashblock.index for row in rows] == [1, 2, 0, 1]
    assert [row.marks for row in rows] == [("joined",), (), (), ()]
    assert [row.total_transactions for row in rows] == [None, None, 1, 4]
    assert [row.gas_limit for row in rows] == [None, None, 60_000_000, 60_000_000]


def test_a_join_at_the_first_flashblock_of_a_block_is_whole() -> None:
    rows = rows_of(pending_block(5, 1), pending_block(5, 3))
    assert [(row.flashblock.index, row.total_transactions, row.marks) for row in rows] == [
        (0, 1, ()),
        (1, 3, ()),
    ]
