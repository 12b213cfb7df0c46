"""newHeads of the node over WebSocket: triggers a poll of the head at once.

Only a trigger: the head is still read by a call, and polling continues, less often. So a socket that is
    refused,
breaks, or goes silent merely delays the next poll.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from typing import Final

import orjson
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from flashctl.core.flashblocks.client import Backoff
from flashctl.core.net.urls import mask_url
from flashctl.core.service import defects

__all__ = ["NewHeads"]

_LOG = logging.getLogger(__name__)

_SUBSCRIBE: Final = '{"jsonrpc":"2.0","id":1,"method":"eth_subscribe","params":["newHeads"]}'

_BACKOFF: Final = Backoff(initial_s=0.5, maximum_s=30.0)

_PATIENCE_S: Final = 10.0
"""For the connection, and for a pong."""


class NewHeads:
    """A subscription to newHeads, renewed whenever it is lost."""

    def __init__(self, url: str, report: Callable[[], None]) -> None:
        self._url = url
        self._report = report
        self.is_live = False
        """Whether the node has accepted the subscription and the connection holds."""

    async def run(self) -> None:
        """Report every head until cancelled."""
        shown, failures = mask_url(self._url), 0
        while True:
            try:
                await self._listen()
                reason = "closed"
            except (OSError, TimeoutError, WebSocketException) as error:
                reason = str(error) or type(error).__name__
            except Exception as error:
                defects.caught("rpc.head_news", error)
                reason = type(error).__name__
            if self.is_live:
                failures = 0
            self.is_live = False
            delay = _BACKOFF.delay(failures, random.random())
            failures += 1
            # Warned once: a node without WebSocket is polled as before.
            level = logging.WARNING if failures == 1 else logging.DEBUG
            _LOG.log(level, "no newHeads, polling instead: %s", reason, extra={"url": shown})
            await asyncio.sleep(delay)

    async def _listen(self) -> None:
        async with connect(
            self._url,
            open_timeout=_PATIENCE_S,
            ping_interval=_PATIENCE_S,
            ping_timeout=_PATIENCE_S,
            close_timeout=1.0,
            compression=None,
        ) as socket:
            await socket.send(_SUBSCRIBE)
            async for message in socket:
                if self.is_live:
                    self._report()
                    continue
                try:
                    answer = orjson.loads(message)
                except orjson.JSONDecodeError:
                    return
                if not isinstance(answer, dict) or not isinstance(answer.get("result"), str):
                    return
                self.is_live = True
                self._report()
