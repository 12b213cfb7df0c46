"""The overlay node as a process: streams, node and JSON-RPC server put together."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from flashctl.chain.dear_calls import compute_dear_calls_apart
from flashctl.chain.fill_api import FillApi
from flashctl.core.jsonrpc.client import JsonRpcClient
from flashctl.core.jsonrpc.methods import Methods
from flashctl.core.jsonrpc.server import serve
from flashctl.core.metrics import Metrics
from flashctl.core.service import Health, Lifecycle, run_service, serve_status
from flashctl.core.urls import mask_url
from flashctl.errors import ExitCode
from flashctl.rpc.api import PendingApi
from flashctl.rpc.arrivals import Arrivals
from flashctl.rpc.chains import ChainRules
from flashctl.rpc.config import RpcConfig
from flashctl.rpc.follower import Follower
from flashctl.rpc.node import Node
from flashctl.rpc.overlay import Overlay
from flashctl.rpc.pending_calls import PendingCalls
from flashctl.rpc.sending import Sender
from flashctl.rpc.subscriptions import Subscriptions

__all__ = ["RpcNode", "run"]

_LOG = logging.getLogger(__name__)

SWITCH_INTERVAL_S = 0.0005
"""How long a thread that executes may keep the interpreter from the event loop and the stream. With eight
callers of heavy eth_calls, nine in ten preconfirmations took under 250 ms; with Python's own 5 ms, under
500 ms."""

_PREFIX = "reth_flashblocks"
"""Scope of the metrics on Base's nodes; whoever has a dashboard for those can keep it."""


def run(config: RpcConfig, *, ready_fd: int | None = None) -> ExitCode:
    """Serve until a signal; the exit code."""
    return run_service(lambda life: RpcNode(config).main(life), ready_fd=ready_fd)


class RpcNode:
    """The parts of one overlay node, wired. Make it on the event loop that runs it."""

    def __init__(self, config: RpcConfig) -> None:
        self._config = config
        self.url: str | None = None
        """Where it listens, once it does."""
        self.node = Node(config.upstream_url, timeout_s=config.upstream_timeout_s)
        self.sequencer = self.node.client
        if config.sequencer_url is not None:
            self.sequencer = JsonRpcClient(config.sequencer_url, timeout_s=config.upstream_timeout_s)
        rules = ChainRules(config.chain)
        self.overlay = Overlay(rules, max_depth=config.max_depth)
        self.follower = Follower(
            self.overlay,
            self.node,
            rules,
            poll_interval_s=config.poll_interval_s,
            stale_after_s=config.stale_after_s,
            news_url=config.upstream_ws_url,
        )
        calls = PendingCalls(self.node, timeout_s=config.call_timeout_s, at_once=config.calls_at_once)
        arrivals = Arrivals()
        sender = Sender(self.sequencer, arrivals, timeout_ms=config.sync_timeout_ms)
        api = PendingApi(self.overlay, self.node, calls, arrivals, sender.next_nonce, config)
        sender.receipt_of = api.receipt_of
        subscriptions = Subscriptions(self.node)
        self.methods = Methods()
        for part in (api, sender, subscriptions):
            part.register(self.methods)
        self.methods.register_all(FillApi(self._ask).handlers())
        self.follower.on_update(arrivals.on_update)
        self.follower.on_update(subscriptions.on_update)
        self.follower.on_heads(subscriptions.on_heads)
        self.metrics = Metrics(_PREFIX)
        self.metrics.registry.register(_Figures(self.overlay, self.follower))

    async def main(self, life: Lifecycle) -> None:
        """Listen, follow, and wait for the end."""
        config = self._config
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        await compute_dear_calls_apart(life)
        life.on_stop(self.follower.close, "overlay")
        life.on_stop(self.node.close, "upstream")
        if self.sequencer is not self.node.client:
            life.on_stop(self.sequencer.close, "sequencer")
        server = await serve(
            self.methods,
            config.host,
            config.port,
            fallback=self._pass_on,
            cors=config.cors,
            pages={
                "/livez": lambda: (200, "OK\n"),
                "/healthz": self._page(
                    lambda health: 503 if not health.ready else 206 if health.degraded else 200
                ),
                "/readyz": self._page(lambda health: 200 if health.ready else 503),
                "/metrics": lambda: (200, self.metrics.render().decode()),
            },
        )
        life.on_stop(server.close, "JSON-RPC server")
        self.url = server.url
        _LOG.info("listening", extra={"url": server.url, "websocket": server.websocket_url})
        if config.metrics_port is not None:
            status = await serve_status(config.metrics_host, config.metrics_port, self.metrics, self.health)
            life.on_stop(status.close, "status page")
            _LOG.info("listening", extra={"metrics": status.url})
        life.spawn(self.follower.work(), "overlay")
        life.spawn(self.follower.follow_chain(), "canonical head")
        for url in config.flashblocks_urls:
            life.spawn(self.follower.follow_stream(url), f"stream {mask_url(url)}")
        life.ready()
        await life.stopped()

    def health(self) -> Health:
        """Ready while `pending` is what it promises: the stream and the node both speak."""
        follower, overlay = self.follower, self.overlay
        if not follower.knows_head:
            return Health(False, "the canonical node does not answer")
        if not follower.is_fresh:
            return Health(False, "no flashblocks: pending means latest")
        if overlay.trouble:
            return Health(True, overlay.trouble, degraded=True)
        if overlay.view is None:
            return Health(True, "between blocks: pending means latest", degraded=True)
        if not overlay.view.latest.agrees:
            return Health(True, "our execution differs from the builder's", degraded=True)
        return Health(True)

    def _page(self, status: Callable[[Health], int]) -> Callable[[], tuple[int, str]]:
        def page() -> tuple[int, str]:
            health = self.health()
            return status(health), (health.detail or "OK") + "\n"

        return page

    async def _ask(self, method: str, params: list[Any]) -> Any:
        """The overlay's own answer where it has one, else the node's."""
        handler = self.methods.find(method)
        return await (self.node.client.call(method, params) if handler is None else handler(params))

    async def _pass_on(self, method: str, request: bytes) -> bytes:
        """Everything else is the canonical node's to answer; bytes in, bytes out."""
        return await self.node.client.relay(method, request)


class _Figures(Collector):
    """Reads the counters where they are kept, when somebody scrapes."""

    def __init__(self, overlay: Overlay, follower: Follower) -> None:
        self._overlay = overlay
        self._follower = follower

    def collect(self) -> list[Metric]:
        """The figures at this moment."""
        counts, stream, view = self._overlay.counts, self._follower.counts, self._overlay.view
        head = self._overlay.head
        age = None if stream.last_flashblock_s is None else time.monotonic() - stream.last_flashblock_s
        counters = {
            "upstream_messages": ("Messages received from streams.", stream.messages),
            "upstream_errors": ("Messages that are no flashblocks.", stream.invalid),
            "reconnect_attempts": ("Streams that were lost or refused.", stream.reconnects),
            "executed": ("Flashblocks executed.", counts.flashblocks),
            "state_fetches": ("Batches of state fetched for execution.", counts.rounds),
            "disagreements": ("Flashblocks after which our gas or logs differ.", counts.disagreements),
            "block_processing_error": ("Payloads given up.", counts.diverged),
            "blocks_confirmed": ("Blocks sealed with what was preconfirmed.", counts.confirmed),
            "blocks_truncated": ("Blocks sealed with more than was streamed.", counts.truncated),
            "pending_clear_reorg": ("Blocks sealed with something else.", counts.reorged),
        }
        gauges = {
            "pending_snapshot_height": (
                "Pending block number, 0 for none.",
                view.latest.number if view else 0,
            ),
            "pending_snapshot_fb_index": ("Index of its flashblock.", view.latest.index if view else 0),
            "canonical_height": ("Head of the canonical node.", head.number if head else 0),
            "streams_connected": ("Streams connected.", stream.connected),
            "stream_age_seconds": ("Since the last flashblock, -1 for none.", -1.0 if age is None else age),
        }
        shown: list[Metric] = [
            CounterMetricFamily(f"{_PREFIX}_{name}", text, value) for name, (text, value) in counters.items()
        ]
        shown += [
            GaugeMetricFamily(f"{_PREFIX}_{name}", text, value) for name, (text, value) in gauges.items()
        ]
        order = CounterMetricFamily(
            f"{_PREFIX}_unexpected_block_order", "Sequence anomalies.", labels=["kind"]
        )
        for kind, count in stream.anomalies.items():
            order.add_metric([kind], count)
        return [*shown, order]
