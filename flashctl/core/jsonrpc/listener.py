"""uvicorn as a guest in a running loop."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import uvicorn

__all__ = ["EmbeddedServer"]

CLOSE_POLL_S = 0.005
"""How often a closing server looks whether its connections are gone."""


class EmbeddedServer(uvicorn.Server):
    """uvicorn inside a running loop: signal handlers stay with the owner of the loop.

    Its main loop, which polls ten times a second for a signal and refreshes a Date header we do not send,
    becomes the wait for `stop`.
    """

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Start the graceful shutdown."""
        self._stopping.set()

    async def main_loop(self) -> None:
        """Serve until `stop`."""
        await self._stopping.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop listening, let requests under way finish within the graceful time, drop what is left.

        Instead of uvicorn's, which polls every 100 ms and leaves connections behind that do not close.
        """
        loop = asyncio.get_running_loop()
        state = self.server_state
        deadline = loop.time() + (self.config.timeout_graceful_shutdown or 0)
        for server in self.servers:
            server.close()
        for connection in tuple(state.connections):
            connection.shutdown()
        while (state.connections or state.tasks) and loop.time() < deadline:  # noqa: ASYNC110 - two sets of uvicorn
            await asyncio.sleep(CLOSE_POLL_S)
        for task in tuple(state.tasks):
            task.cancel()
        for connection in tuple(state.connections):
            connection.transport.abort()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Install nothing."""
        yield
