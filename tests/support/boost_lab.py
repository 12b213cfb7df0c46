"""A boost between toy engines, for tests: real servers and sockets, all in one loop."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from support.engines import SECRET, Driver, ToyBuilder, ToyEngine, genesis
from support.settings import with_settings
from support.waiting import until

from flashctl.boost.config import (
    BoostConfig,
    EngineUpstream,
    FlashblocksConfig,
    HealthConfig,
    ServerConfig,
)
from flashctl.boost.service import Boost
from flashctl.core.net.addresses import ListenAddress
from flashctl.core.service import defects
from flashctl.core.service.lifecycle import Lifecycle

__all__ = ["Setup", "play", "running"]


ANY_PORT = ListenAddress("127.0.0.1", 0)


@dataclass
class Setup:
    """Everything running."""

    fallback: ToyEngine
    builder: ToyBuilder
    boost: Boost
    driver: Driver
    decisions: Path
    secret: bytes = SECRET

    async def until(self, condition: Callable[[], object]) -> None:
        """Let the loop run until something has happened."""
        await until(condition)

    async def build(self, *flashblocks: list[bytes]) -> bytes:
        """Begin a block and publish these flashblocks for it; the payload id to ask for."""
        identity = await self.driver.begin()
        builder_id = await self.builder_id()
        self.builder.publish(builder_id)
        for transactions in flashblocks:
            self.builder.publish(builder_id, transactions)
        await self.until(lambda: len(self.round.flashblocks) == 1 + len(flashblocks))
        return identity

    async def builder_id(self) -> bytes:
        """What the builder calls the newest build."""
        await self.until(
            lambda: any(b.parent.hash == self.driver.head.hash for b in self.builder.builds.values())
        )
        return list(self.builder.builds)[-1]

    @property
    def round(self) -> Any:
        assert self.boost.rounds.current is not None
        return self.boost.rounds.current

    def last_decision(self) -> dict[str, Any]:
        decision: dict[str, Any] = json.loads(self.decisions.read_text().splitlines()[-1])
        return decision

    async def health(self) -> int:
        async with httpx.AsyncClient() as http:
            return (await http.get(self.boost.rpc_url + "/healthz")).status_code


@asynccontextmanager
async def running(tmp_path: Path, **settings: Any) -> AsyncIterator[Setup]:
    start = genesis()
    fallback, builder = ToyEngine(start), ToyBuilder(start)
    if "id_version" in settings:
        builder.id_version = settings.pop("id_version")
    await fallback.start()
    await builder.start()
    decisions = tmp_path / "decisions.jsonl"
    builder_timeout = settings.pop("builder_timeout_s", 1.0)
    has_defects = settings.pop("has_defects", False)
    config = BoostConfig(
        builder=EngineUpstream(builder.url, SECRET, builder_timeout),
        fallback=EngineUpstream(fallback.url, SECRET, settings.pop("fallback_timeout_s", 1.0)),
        flashblocks=FlashblocksConfig(builder.stream_url, listen=ANY_PORT, max_reconnect_ms=50),
        server=ServerConfig(rpc=ANY_PORT, debug=ANY_PORT),
        decisions=decisions,
        # The toy chain stands still, however long a test takes; those about an old head make one.
        health=HealthConfig(max_unsafe_interval_s=3600.0),
    )
    life = Lifecycle()
    boost = Boost(with_settings(config, **settings))
    await boost.start(life)
    setup = Setup(fallback, builder, boost, Driver(boost.rpc_url, start), decisions)
    try:
        async with asyncio.timeout(90):
            await setup.until(lambda: builder.hub is not None and builder.hub.stats.subscribers == 1)
            yield setup
    finally:
        await setup.driver.client.close()
        await life.drain()
        await fallback.stop()
        await builder.stop()
        assert life.failure is None
        assert has_defects or not defects.counts()


def play(tmp_path: Path, scenario: Callable[[Setup], Awaitable[None]], **settings: Any) -> None:
    async def main() -> None:
        async with running(tmp_path, **settings) as setup:
            await scenario(setup)

    asyncio.run(main())
