"""`--serve`: what arrives is published again as a stream of its own, byte for byte.

With `--replay --speed 1` it is a test double with the timing of the original for a proxy, an overlay, or a
user's client.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from flashctl.core.net.addresses import ListenAddress
from flashctl.watch.events import WatchEvent

if TYPE_CHECKING:
    from flashctl.core.hub import Hub, HubServer

__all__ = ["Republisher"]


class Republisher:
    """A hub that is fed by watch."""

    def __init__(self, address: str) -> None:
        self._address = ListenAddress.parse(address, "--serve")
        self._hub: Hub | None = None
        self._server: HubServer | None = None

    async def start(self) -> str:
        """Listen; the URL.

        Raises:
            FlashctlError: The port is taken.
        """
        from flashctl.core.hub import Hub, serve

        self._hub = Hub()
        self._server = await serve(self._hub, self._address.host, self._address.port)
        return self._server.url

    async def first_client(self) -> None:
        """Return once a client has connected."""
        while self._server is not None and not self._server.connections():  # noqa: ASYNC110
            await asyncio.sleep(0.02)

    def see(self, event: WatchEvent) -> None:
        """Publish the message of a flashblock, and of a frame that could not be decoded too."""
        if event.arrival is None or self._hub is None:
            return
        if event.payload_id is None or event.index is None:
            self._hub.publish(event.arrival.data, binary=event.arrival.binary)
            return
        self._hub.publish(
            event.arrival.data,
            binary=event.arrival.binary,
            payload_id=event.payload_id,
            index=event.index,
            block_number=event.block or 0,
        )

    async def finish(self) -> None:
        """Close the connections of all clients."""
        if self._server is not None:
            await self._server.close()
