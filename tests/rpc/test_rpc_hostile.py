"""Any field of a flashblock made anything: the overlay goes on, and shows the next block as it is."""

from __future__ import annotations

import asyncio

import pytest
from support.hostile import mutations
from support.rpc_node import Bench, bench
from support.stream_lab import signed

from flashctl.core.flashblocks import wire
from flashctl.core.service import defects


@pytest.mark.parametrize("index", [0, 1])
def test_one_wrong_field(index: int) -> None:
    async def scenario() -> None:
        async with bench() as made:
            await _feed(made, index)

    asyncio.run(scenario())


async def _feed(made: Bench, index: int) -> None:
    block = made.lab.build([[signed(0, 0)], [signed(0, 1)]])
    if index:
        await made.stream(block, upto=index)
    counts = made.node.follower.counts
    for number, (place, text) in enumerate(mutations(wire.to_object(block.flashblocks[index]))):
        if number % 3 == 0:
            before = counts.messages
            made.hub.publish(text)
            await made.until(lambda before=before: counts.messages > before)
            assert not defects.counts(), place
    await made.call("eth_getBlockByNumber", "pending", True)
    await made.seal(block)
    following = made.lab.build([[signed(0, 2)]], block.sealed.header, salt=1)
    await made.stream(following)
    shown = await made.call("eth_getBlockByNumber", "pending", False)
    assert int(shown["number"], 16) == 2 and len(shown["transactions"]) == 2
    assert not defects.counts()
