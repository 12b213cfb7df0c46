"""`--serve`: what arrives is published again as a stream of its own, byte for byte.

With `--replay --speed 1` it is a test double with the timing of the original for a proxy, an overlay, or a
user's client.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from flashctl.errors import UsageError
from flashctl.watch.events import WatchEvent

if TYPE_CHECKING:
    from flashctl.core.hub import Hub, HubServer

__all__ = ["Republisher", "parse_address"]


def parse_address(text: str) -> tuple[str, int]:
    """Host and port of `127.0.0.1:1111`, `[::1]:1111` or `:1111`.

    Raises:
        UsageError: For anything else.
    """
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") or "127.0.0.1"
    if not colon or not (port.isascii() and port.isdigit() and len(port) <= 5) or int(port) > 65535:
        raise UsageError(f"--serve {text!r}: not an address", hint="write 127.0.0.1:1111; port 0 takes any")
    return host, int(port)


class Republisher:
    """A hub that is fed by watch."""

    def __init__(self, address: str) -> None:
        self._host, self._port = parse_address(address)
        self._hub: Hub | None = None
        self._server: HubServer | None = None

    async def start(self) -> str:
        """Listen; the URL.

        Raises:
            FlashctlError: The port is taken.
        """
        from flashctl.core.hub import Hub, serve

        self._hub = Hub()
        self._server = await serve(self._hub, self._host, self._port)
        return self._server.url

    async def first_client(self) -> None:
        """Return once somebody has connected."""
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
        """Say goodbye to the clients."""
        if self._server is not None:
            await self._server.close()
