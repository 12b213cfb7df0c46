"""Frames that were made in another thread before their message was published."""

from __future__ import annotations

import asyncio

import pytest
import websockets
from support.hub_lab import message, run, serving
from support.waiting import turns

from flashctl.core.hub import Hub
from flashctl.core.hub import ring as ring_module


@pytest.mark.parametrize("overtaken_at", [None, 0, 2])
def test_clients_read_what_was_published_whoever_made_the_frames(overtaken_at: int | None) -> None:
    """A message that was prepared and then overtaken by another one refers to nothing that clients lack."""

    async def scenario() -> None:
        hub = Hub()
        async with serving(hub) as server:
            url = f"ws://127.0.0.1:{server.port}"
            async with websockets.connect(url) as with_takeover:
                published: list[bytes] = []
                for block in (1, 2):
                    for index in range(4):
                        data = message(block, index, 2000)
                        prepared = await asyncio.to_thread(hub.prepare, data, index)
                        if index == overtaken_at:
                            other = message(9, index, 50)
                            hub.publish(other)
                            published.append(other)
                        hub.publish(
                            data,
                            payload_id=f"0x{block:x}",
                            index=index,
                            block_number=block,
                            prepared=prepared,
                        )
                        published.append(data)
                        await turns()
                read = [str(await with_takeover.recv()).encode() for _ in published]
                assert read == published

    run(scenario)


def test_a_prepared_message_is_compressed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        hub = Hub()
        async with serving(hub) as server, websockets.connect(f"ws://127.0.0.1:{server.port}") as client:
            data = message(1, 0, 5000)
            prepared = await asyncio.to_thread(hub.prepare, data, 0)
            assert prepared.frames and prepared.data is data

            def again(*args: object, **options: object) -> bytes:
                raise AssertionError("compressed on the event loop")

            monkeypatch.setattr(ring_module, "encode", again)
            hub.publish(data, payload_id="0x1", index=0, block_number=1, prepared=prepared)
            assert str(await client.recv()).encode() == data

    run(scenario)
