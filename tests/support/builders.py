"""Builders of the real kind inside a test: the service with its sockets on any free ports, and a client
that drives it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
from support.chains import GENESIS_TIME
from support.settings import with_settings

from flashctl.builder.config import BuildConfig, BuilderConfig, ChainDataConfig, ServerConfig, StreamConfig
from flashctl.builder.payload.schedule import FlashblockSchedule
from flashctl.builder.service import BuilderService
from flashctl.chain.genesis import devnet_genesis
from flashctl.core.engine.client import EngineClient
from flashctl.core.jsonrpc.client import JsonRpcClient
from flashctl.core.jsonrpc.namespaces import USER_NAMESPACES
from flashctl.core.net.addresses import ListenAddress
from flashctl.core.service.lifecycle import Lifecycle

__all__ = ["builder_config", "engine_client", "rpc_client", "running", "scenario"]

ANY = ListenAddress("127.0.0.1", 0)


def builder_config(
    folder: Path, name: str = "builder", *, genesis_time: int = GENESIS_TIME, **changes: Any
) -> BuilderConfig:
    """A builder of 1 s blocks with 100 ms flashblocks over the devnet genesis, its files in `folder`."""
    genesis = folder / "genesis.json"
    if not genesis.exists():
        genesis.write_bytes(orjson.dumps(devnet_genesis(timestamp=genesis_time)))
    config = BuilderConfig(
        ServerConfig(
            http=ANY,
            engine=ANY,
            jwt_secret=folder / "jwt.hex",
            namespaces=USER_NAMESPACES | {"debug"},
        ),
        BuildConfig(FlashblockSchedule(1000, 100, end_buffer_ms=50)),
        StreamConfig(ANY),
        ChainDataConfig(genesis, folder / name),
    )
    return with_settings(config, **changes)


@asynccontextmanager
async def running(config: BuilderConfig) -> AsyncIterator[BuilderService]:
    """The service, open until the block ends."""
    life = Lifecycle()
    service = BuilderService(config)
    try:
        await service.start(life)
        yield service
    finally:
        await life.drain()


def engine_client(service: BuilderService) -> EngineClient:
    """A client of its Engine API, with the secret."""
    return EngineClient(f"http://127.0.0.1:{service.ports['engine']}", jwt_secret=service._secret)


def rpc_client(service: BuilderService) -> JsonRpcClient:
    """A client of its user port."""
    return JsonRpcClient(f"http://127.0.0.1:{service.ports['http']}")


def scenario(body: Callable[[], Awaitable[None]], timeout_s: float = 100.0) -> None:
    """Run an asynchronous test body to its end."""

    async def limited() -> None:
        async with asyncio.timeout(timeout_s):
            await body()

    asyncio.run(limited())
