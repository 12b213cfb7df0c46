"""Any field of a flashblock of the open round made anything: boost goes on, the next slot gets its block."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.boost_lab import Setup, play
from support.engines import DEPOSIT
from support.hostile import mutations

from flashctl.core.flashblocks import wire
from flashctl.core.service import defects

TX = b"\x02\xc0\x01"


@pytest.mark.parametrize("published", [0, 1])
def test_one_wrong_field(tmp_path: Path, published: int) -> None:
    async def scenario(s: Setup) -> None:
        identity = await s.driver.begin()
        builder_id = await s.builder_id()
        if published:
            s.builder.publish(builder_id)
        message = wire.to_object(s.builder.flashblock(builder_id, [TX]))
        assert s.builder.hub is not None
        received = s.boost.metrics.received
        for number, (place, text) in enumerate(mutations(message)):
            if number % 3 == 0:
                before = received.value
                s.builder.hub.publish(text)
                await s.until(lambda before=before: received.value > before)
                assert not defects.counts(), place
        block = await s.driver.finish(identity)
        assert block.transactions[0] == DEPOSIT
        for _ in range(2):
            block = await s.driver.finish(await s.build([TX]))
            assert block.transactions == (DEPOSIT, TX)
        assert s.last_decision()["source"] == "builder"

    play(tmp_path, scenario)
