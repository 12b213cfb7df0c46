"""The overlay node as a process: streams, upstream node and JSON-RPC server."""

from __future__ import annotations

import logging
import sys
from functools import partial
from typing import Final

from flashctl.core.jsonrpc.client import FORWARD_LIMITS, JsonRpcClient
from flashctl.core.jsonrpc.gathered_calls import GatheredCalls
from flashctl.core.jsonrpc.methods import Methods
from flashctl.core.jsonrpc.server import serve
from flashctl.core.net.urls import mask_url
from flashctl.core.service.lifecycle import Lifecycle, run_role
from flashctl.core.service.metrics import Metrics
from flashctl.core.service.status import Health, Pages, serve_status, status_pages
from flashctl.core.service.workers.figures import PoolFigures
from flashctl.errors import ExitCode
from flashctl.ethrpc.call_runner import CallLimits, call_runner
from flashctl.ethrpc.heavy_precompiles import compute_dear_calls_apart
from flashctl.ethrpc.send_api import SendApi
from flashctl.ethrpc.shared_api import SharedApi
from flashctl.ethrpc.tx_waiters import TxWaiters
from flashctl.remote.upstream_client import UpstreamClient
from flashctl.rpc.chain_follower import ChainFollower
from flashctl.rpc.chain_rules import ChainRules
from flashctl.rpc.config import RpcConfig
from flashctl.rpc.latest import LatestCalls
from flashctl.rpc.metrics import OverlayMetrics
from flashctl.rpc.node_subscriptions import NodeSubscriptions
from flashctl.rpc.overlay import Overlay
from flashctl.rpc.overlay_worker import OverlayWorker
from flashctl.rpc.pending_states import PendingStates
from flashctl.rpc.provider import AnswerSources, OverlayProvider
from flashctl.rpc.sending import SentNonces, SequencerTarget, is_sent
from flashctl.rpc.subscriptions import OverlaySubscriptions
from flashctl.rpc.visibility import SEALED_ONLY, Visibility, showing

__all__ = ["RpcNode", "run"]

_LOG = logging.getLogger(__name__)

SWITCH_INTERVAL_S = 0.0005
"""How long an executing thread may hold the interpreter before the event loop gets it. With eight callers of
heavy eth_calls, nine in ten preconfirmations took under 250 ms; with Python's default of 5 ms, under 500
ms."""

FOLLOW_TIMEOUT_S: Final = 3.0
"""For one call about head or state: a hanging node's call is abandoned and retried."""

PREFIX: Final = "reth_flashblocks"
"""Prefix of the metrics on Base's nodes, so that their dashboards work unchanged."""


def run(config: RpcConfig, *, ready_fd: int | None = None) -> ExitCode:
    """Serve until a signal; the exit code."""
    return run_role(partial(RpcNode, config), ready_fd=ready_fd)


class RpcNode:
    """The parts of one overlay node, wired. Make it on the event loop that runs it."""

    def __init__(self, config: RpcConfig) -> None:
        self._config = config
        self.url: str | None = None
        """The URL, once listening."""
        self.sealed_url: str | None = None
        """The URL of the sealed-only port."""
        url, timeout_s = config.upstream.url, config.upstream.timeout_s
        self.node = UpstreamClient(url, timeout_s=timeout_s, limits=FORWARD_LIMITS)
        self.sequencer = JsonRpcClient(config.upstream.sequencer_url or url, timeout_s=timeout_s)
        self.transactions = GatheredCalls(self.sequencer, "eth_sendRawTransaction")
        rules = ChainRules(config.chain)
        self.overlay = Overlay(rules, max_depth=config.stream.max_depth)
        # With connections of its own, so that users' calls cannot delay head or state.
        self.followed = UpstreamClient(url, timeout_s=min(FOLLOW_TIMEOUT_S, timeout_s))
        self.follower = OverlayWorker(self.overlay, self.followed, stale_after_s=config.stream.stale_after_s)
        self.chain = ChainFollower(
            self.followed,
            rules,
            self.follower.take_heads,
            poll_interval_s=config.upstream.poll_interval_s,
            stale_after_s=config.stream.stale_after_s,
            ws_url=config.upstream.ws_url,
        )
        self._rules = rules
        self.metrics = Metrics(PREFIX)
        self.runner = call_runner(config.calls.workers, config.calls.at_once, PoolFigures(self.metrics))
        states = PendingStates(self.node, timeout_s=config.calls.timeout_s)
        limits = CallLimits(config.calls.gas, config.calls.timeout_s)
        waiters = TxWaiters()
        sent = SentNonces()
        latest = LatestCalls(self.node, self.overlay, lambda: self.chain.lags)
        sources = AnswerSources(self.overlay, self.node, latest, states)
        self.follower.on_update(lambda update: waiters.arrived(update.hashes))
        self.others = NodeSubscriptions(config.upstream.ws_url)

        def methods(shown: Visibility) -> Methods:
            """The method table of a listener."""
            table = Methods()
            provider = OverlayProvider(sources, waiters, sent.next_nonce, config.answers, shown)
            SharedApi(provider, limits, self.runner).register(table)
            table.register_all(provider.other_handlers())
            target = SequencerTarget(self.transactions, sent, provider.receipt, provider.pending_nonce)
            sending = SendApi(target, waiters, timeout_ms=config.answers.sync_timeout_ms)
            table.register_all(sending.handlers())
            subscriptions = OverlaySubscriptions(self.node, self.overlay, self.others, shown)
            subscriptions.register(table)
            self.follower.on_update(subscriptions.on_update)
            self.chain.on_heads(subscriptions.on_heads)
            return table

        self.methods = methods(showing(config.answers.latest))
        self._sealed_methods = None if config.server.sealed_port is None else methods(SEALED_ONLY)
        self.metrics.register(OverlayMetrics(PREFIX, self.overlay, self.follower, self.chain))

    async def start(self, life: Lifecycle) -> None:
        """Listen and follow.

        Raises:
            ListenFailed: If a port is taken.
        """
        config = self._config
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        await compute_dear_calls_apart(life)
        life.on_stop(self.follower.close, "overlay")
        life.on_stop(self.node.close, "upstream")
        life.on_stop(self.followed.close, "followed node")
        life.on_stop(self.chain.close, "canonical head")
        life.on_stop(self.runner.close, "workers")
        life.on_stop(self.sequencer.close, "sequencer")
        life.on_stop(self.transactions.close, "transactions to the sequencer")
        life.on_stop(self.others.close, "subscriptions at the node")
        self.url = await self._listen(life, self.methods, config.server.port, config.answers.latest.value)
        if self._sealed_methods is not None and config.server.sealed_port is not None:
            self.sealed_url = await self._listen(
                life, self._sealed_methods, config.server.sealed_port, "sealed only"
            )
        if config.server.metrics is not None:
            status = await serve_status(
                config.server.metrics.host, config.server.metrics.port, self._pages(life)
            )
            life.on_stop(status.close, "status page")
            _LOG.info("listening", extra={"metrics": status.url})
        life.keep(self.follower.work, "rpc.work")
        life.keep(self.chain.follow, "rpc.chain")
        for url in config.stream.urls:
            life.keep(partial(self.follower.follow_stream, url), f"stream {mask_url(url)}")

    async def _listen(self, life: Lifecycle, methods: Methods, port: int, latest: str) -> str:
        config = self._config
        server = await serve(
            methods,
            config.server.host,
            port,
            fallback=self._pass_on,
            cors=config.server.cors,
            namespaces=config.server.namespaces,
            pages=self._pages(life),
        )
        life.on_stop(server.close, "JSON-RPC server")
        fields = {"url": server.url, "websocket": server.websocket_url, "latest": latest}
        _LOG.info("listening", extra=fields)
        return server.url

    def _pages(self, life: Lifecycle) -> Pages:
        return status_pages(self.metrics, self.health, lambda: life.stopping)

    def health(self) -> Health:
        """Ready while `pending` is preconfirmed state: stream and node both answer."""
        follower, overlay = self.follower, self.overlay
        if not self.chain.knows_head:
            return Health(False, "the canonical node does not answer")
        if not follower.is_fresh:
            return Health(False, "no flashblocks: pending means latest")
        if self._rules.problem:
            return Health(True, self._rules.problem, degraded=True)
        if follower.fetcher.is_stuck:
            return Health(True, "the canonical node does not return state", degraded=True)
        if overlay.trouble:
            return Health(True, overlay.trouble, degraded=True)
        if overlay.view is None:
            return Health(True, "between blocks: pending means latest", degraded=True)
        if not overlay.view.latest.agrees:
            return Health(True, "our execution differs from the builder's", degraded=True)
        return Health(True)

    async def _pass_on(self, method: str, request: bytes) -> bytes:
        """Forward all other calls to the canonical node, or to the sequencer, byte for byte."""
        client = self.sequencer if is_sent(method) else self.node.client
        return await client.relay(method, request)
