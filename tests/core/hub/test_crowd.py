"""Many clients on one lane, one of which does not read."""

from __future__ import annotations

from support.hub_lab import Stuck, publish, run, serving, small_send_buffers
from support.raw_websocket import RawClient
from support.waiting import until

from flashctl.core.hub import Hub

CROWD = 64


def test_a_crowd_with_a_slow_client_gets_every_message() -> None:
    """What the slow one's socket refuses comes once it reads, in order."""

    async def test() -> None:
        hub = Hub()
        async with serving(hub) as server:
            crowd = [await RawClient.connect(server.port) for _ in range(CROWD)]
            stuck = await Stuck.connect(server.port)
            await until(lambda: hub.stats.subscribers == CROWD + 1)
            small_send_buffers(server)
            sent = []
            for index in range(8):
                sent.append(publish(hub, 1, index, size=20_000))
                for client in crowd:
                    assert await client.frames(1) == sent[-1:]
            assert hub.behind == 1
            await stuck.start_reading()
            assert await stuck.frames(8) == sent
            for client in (*crowd, stuck):
                client.close()

    run(test)
