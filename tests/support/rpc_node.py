"""A running overlay node for tests: a real node behind it, a real stream in front, all in one event loop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import orjson
from support.node_relay import NodeFaults, node_relay
from support.settings import with_settings
from support.stream_lab import StreamedBlock, StreamLab, contract, signed, word
from support.waiting import until
from websockets.asyncio.client import ClientConnection, connect

from flashctl.chain.devnet_accounts import DEVNET_ACCOUNTS
from flashctl.core.flashblocks.wire import Flashblock, encode
from flashctl.core.hub import Hub
from flashctl.core.hub import serve as serve_stream
from flashctl.core.jsonrpc.client import JsonRpcClient
from flashctl.core.jsonrpc.methods import Methods
from flashctl.core.jsonrpc.namespaces import EVERYTHING
from flashctl.core.jsonrpc.server import serve
from flashctl.core.service.lifecycle import Lifecycle, serve_role
from flashctl.eth.hexdata import to_hex
from flashctl.eth.keccak import keccak256
from flashctl.ethrpc.eth_api import EthApi
from flashctl.evm.calls import create_address
from flashctl.rpc.config import CallConfig, RpcConfig, ServerConfig, StreamConfig, UpstreamConfig
from flashctl.rpc.service import RpcNode

PATIENCE_S = 60.0

TARGET = b"\x99" * 20
PROBE = contract("Probe")
ALICE = to_hex(DEVNET_ACCOUNTS[0].address)
PROBE_AT = create_address(int.from_bytes(DEVNET_ACCOUNTS[0].address, "big"), 0).to_bytes(20, "big")


@dataclass
class Bench:
    """What a test holds in its hands."""

    lab: StreamLab
    hub: Hub
    node: RpcNode
    client: JsonRpcClient
    """Of the overlay."""
    url: str
    upstream: JsonRpcClient
    sent: list[bytes] = field(default_factory=list)
    """What the sequencer was sent."""

    async def call(self, method: str, *params: Any) -> Any:
        return await self.client.call(method, list(params))

    async def stream(self, block: StreamedBlock, *, upto: int | None = None, start: int = 0) -> None:
        """Publish flashblocks of a block and wait until the last of them is pending."""
        self.publish(*block.flashblocks[start:upto])
        last = block.flashblocks[start:upto][-1]
        await self.until(lambda: self.shows(last.payload_id, last.index))

    def publish(self, *flashblocks: Flashblock) -> None:
        """Put flashblocks on the stream."""
        for flashblock in flashblocks:
            self.hub.publish(
                encode(flashblock),
                payload_id=flashblock.payload_id,
                index=flashblock.index,
                block_number=flashblock.block_number,
            )

    def shows(self, payload_id: str, index: int) -> bool:
        view = self.node.overlay.view
        return view is not None and (view.latest.payload_id, view.latest.index) == (payload_id, index)

    async def seal(self, block: StreamedBlock) -> None:
        """Make a block canonical and wait until the overlay knows."""
        self.lab.seal(block)
        await self.until(
            lambda: self.node.overlay.head is not None and self.node.overlay.head.hash == block.sealed.hash
        )

    async def until(self, condition: Any) -> None:
        await until(condition)

    @contextlib.asynccontextmanager
    async def subscription(self, *params: Any) -> AsyncIterator[ClientConnection]:
        """A WebSocket connection with one subscription on it."""
        async with connect(self.url.replace("http", "ws")) as socket:
            await socket.send(
                orjson.dumps({"jsonrpc": "2.0", "id": 1, "method": "eth_subscribe", "params": params})
            )
            answer = orjson.loads(await socket.recv())
            assert "result" in answer, answer
            yield socket


async def notification(socket: ClientConnection) -> Any:
    """The next thing a subscription says."""
    async with asyncio.timeout(PATIENCE_S):
        return orjson.loads(await socket.recv())["params"]["result"]


@contextlib.asynccontextmanager
async def bench(
    *, is_told: bool = False, faults: NodeFaults | None = None, **settings: Any
) -> AsyncIterator[Bench]:
    """An overlay on port 0 with everything around it; `settings` go to its config, by name.

    Args:
        is_told: Whether the overlay follows the node's newHeads.
        faults: What a relay between overlay and node does; None for no relay.
    """
    lab, hub, life, sent = StreamLab(), Hub(), Lifecycle(), []
    methods = Methods()
    EthApi(lab.chain).register(methods)

    async def take(params: list[Any]) -> str:
        sent.append(bytes.fromhex(params[0][2:]))
        return to_hex(keccak256(sent[-1]))

    methods.register("eth_sendRawTransaction", take)
    upstream = await serve(methods, "127.0.0.1", 0)
    stream = await serve_stream(hub, "127.0.0.1", 0)
    config = RpcConfig(
        StreamConfig((stream.url,), stale_after_s=3600.0),
        UpstreamConfig(upstream.url, poll_interval_s=0.02),
        ServerConfig(port=0, namespaces=EVERYTHING),
        CallConfig(workers=0),
    )
    if is_told:
        config = with_settings(config, upstream_ws_url=upstream.websocket_url)
    relays = contextlib.AsyncExitStack()
    if faults is not None:
        _, url = await relays.enter_async_context(node_relay(upstream.url, faults=faults))
        config = with_settings(config, upstream_url=url)
    node = RpcNode(with_settings(config, **settings))
    main = asyncio.ensure_future(serve_role(node, life))
    try:

        def is_up() -> bool:
            if main.done():
                main.result()
            return bool(life.is_ready and node.overlay.head and node.follower.counts.connected)

        await until(is_up)
        assert node.url is not None
        made = Bench(lab, hub, node, JsonRpcClient(node.url), node.url, JsonRpcClient(upstream.url), sent)
        try:
            yield made
        finally:
            await made.client.close()
            await made.upstream.close()
        assert life.failure is None, life.failure
    finally:
        life.stop()
        await main
        await life.drain()
        await relays.aclose()
        await stream.close()
        await upstream.close()


def run(scenario: Callable[[Bench], Awaitable[None]], **settings: Any) -> None:
    async def main() -> None:
        async with bench(**settings) as made:
            await scenario(made)

    asyncio.run(main())


def selector(name: str, *arguments: int) -> bytes:
    return bytes.fromhex(PROBE[name]) + b"".join(map(word, arguments))


def probe_block(made: Bench) -> StreamedBlock:
    """Deploys Probe, then increments it twice; a transfer in between."""
    increment = selector("increment()")
    return made.lab.build(
        [
            [signed(0, 0, None, data=bytes.fromhex(PROBE["code"].removeprefix("0x")), gas=3_000_000)],
            [signed(0, 1, PROBE_AT, data=increment), signed(1, 0, TARGET, value=5, gas=21_000)],
            [signed(0, 2, PROBE_AT, data=increment)],
        ]
    )
