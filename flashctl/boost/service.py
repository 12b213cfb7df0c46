"""The boost service: clients, state, servers and tasks for the lifetime of the process."""

from __future__ import annotations

import asyncio
import logging
from functools import partial

from flashctl.boost.builder_block import BuilderBlocks
from flashctl.boost.builder_link import BuilderLink
from flashctl.boost.builder_stream import BuilderStream
from flashctl.boost.config import BoostConfig, EngineUpstream, FlashblocksConfig
from flashctl.boost.debug_api import debug_methods
from flashctl.boost.decisions import DecisionLog
from flashctl.boost.exclusions import Exclusions
from flashctl.boost.forwarding import SEND_TRANSACTION, Forwarding
from flashctl.boost.health import BoostHealth
from flashctl.boost.metrics import BoostMetrics
from flashctl.boost.modes import ModeSwitch
from flashctl.boost.multiplexer import Multiplexer
from flashctl.boost.payloads import PayloadService
from flashctl.boost.probe import probe_forever
from flashctl.boost.resender import Resender
from flashctl.boost.rounds import Rounds
from flashctl.boost.state import BoostState, Engines
from flashctl.core.engine.client import EngineClient
from flashctl.core.engine.jwt import JwtSecret
from flashctl.core.flashblocks.client import Backoff, StreamOptions
from flashctl.core.hub import Hub
from flashctl.core.hub import serve as serve_hub
from flashctl.core.jsonrpc.dispatch import RpcLimits
from flashctl.core.jsonrpc.json_bounds import MAX_VALUES
from flashctl.core.jsonrpc.server import serve
from flashctl.core.net.http1 import DEFAULT_LIMITS, ClientLimits
from flashctl.core.service.lifecycle import Lifecycle, run_role
from flashctl.core.service.status import Health as ReportedHealth
from flashctl.core.service.status import serve_status, status_pages
from flashctl.errors import ExitCode

__all__ = ["ENGINE_LIMITS", "Boost", "run"]

_LOG = logging.getLogger(__name__)

ENGINE_LIMITS = RpcLimits(request_bytes=128 * 1024 * 1024, values=MAX_VALUES)
"""geth's limit on its engine port: a payload is hex, so twice the size of its block."""

FORWARD_LIMITS = ClientLimits(connections=256)
"""For forwarded requests: at one second a call 256 calls/s; further ones queue."""

BUILDER_LIMITS = ClientLimits(
    body_bytes=32 * 1024 * 1024, bodies_bytes=64 * 1024 * 1024, connections=16, line_s=1.0
)
"""For a builder's answers: a block of 32 MB as JSON is thirty times a full one of today's chains."""


class Boost:
    """A boost instance: constructed from a config, started inside a `Lifecycle`."""

    def __init__(self, config: BoostConfig) -> None:
        self.config = config
        self.switch = ModeSwitch(config.selection.execution_mode)
        self.health = BoostHealth(config.health.max_unsafe_interval_s)
        self._shown = self.health.status(self.switch.mode)
        self.doubt = asyncio.Event()
        """Set when an engine did not answer a call: the next probe is due."""
        self.rounds = Rounds()
        self.metrics = BoostMetrics()
        self.metrics.set_mode(config.selection.execution_mode)
        self.hub = Hub()
        self.decisions = DecisionLog(config.decisions)
        self.follower = BuilderStream(self.rounds, self.switch, self.metrics, self.hub)
        self.fallback = _client(config.fallback)
        self.forwards = _client(config.fallback, limits=FORWARD_LIMITS)
        """The fallback again, with connections of its own for public traffic, which then cannot delay
        blocks."""
        self.builder = BuilderLink(_client(config.builder, limits=BUILDER_LIMITS, max_values=MAX_VALUES))
        self.blocks = BuilderBlocks(
            self.fallback,
            self.builder,
            self.metrics,
            builder_timeout_s=config.builder.timeout_s,
            fallback_timeout_s=config.fallback.timeout_s,
            external_state_root=config.selection.external_state_root,
        )
        self.exclusions = Exclusions(config.selection.max_exclusion_blocks)
        engines = Engines(self.fallback, self.forwards, self.builder)
        state = BoostState(
            self.rounds,
            self.health,
            self.switch,
            self.metrics,
            config.selection.ignore_unhealthy_builders,
        )
        self.payloads = PayloadService(
            self.fallback,
            self.blocks,
            state,
            self.decisions,
            Resender(self.exclusions, self.builder, self.metrics, self.switch),
            policy=config.selection.policy,
        )
        self.multiplexer = Multiplexer(
            engines, state, self.payloads, self.exclusions, released=self.follower.released
        )
        self.forwarding = Forwarding(engines, state, doubt=self.doubt.set)
        self.health.on_change = self._health_changed
        self.metrics.copies_dropped.set_function(lambda: self.builder.copies.dropped)
        self.rpc_url = ""
        """The URL for the consensus client, once started."""
        self.debug_url = ""
        self.stream_url = ""

    async def start(self, life: Lifecycle) -> None:
        """Listen on every port, then follow the builder.

        Raises:
            FlashctlError: If a port is taken.
        """
        config = self.config
        life.on_stop(self._close_clients, "clients")
        for secret in {config.fallback.jwt_secret, config.builder.jwt_secret, config.server.jwt_secret}:
            if isinstance(secret, JwtSecret) and secret.path is not None:
                life.on_reload(secret.reload, str(secret.path))
        pages = status_pages(self.metrics.registry, self._reported_health, lambda: life.stopping)
        if config.server.metrics is not None:
            status = await serve_status(config.server.metrics.host, config.server.metrics.port, pages)
            life.on_stop(status.close, "metrics")
            _LOG.info("metrics on %s/metrics", status.url)
        debug = await serve(
            debug_methods(self.switch, self.health, self.rounds, self.metrics),
            config.server.debug.host,
            config.server.debug.port,
        )
        life.on_stop(debug.close, "debug API")
        self.debug_url = debug.url
        if config.flashblocks is not None:
            await self._start_flashblocks(life, config.flashblocks)
        table = self.multiplexer.methods()
        table.register(SEND_TRANSACTION, self.forwarding.send_transaction)
        rpc = await serve(
            table,
            config.server.rpc.host,
            config.server.rpc.port,
            jwt_secret=config.server.jwt_secret,
            fallback=self.forwarding.forward,
            pages=pages,
            limits=ENGINE_LIMITS,
        )
        life.on_stop(rpc.close, "engine API")
        self.rpc_url = rpc.url
        life.spawn(
            probe_forever(
                self.fallback,
                self.builder.client,
                self.health,
                self.switch,
                config.health.check_interval_s,
                self.doubt,
            ),
            "health probe",
        )
        _LOG.info(
            "boost listening",
            extra={"engine": rpc.url, "flashblocks": self.stream_url or "off", "debug": debug.url},
        )

    async def _start_flashblocks(self, life: Lifecycle, config: FlashblocksConfig) -> None:
        server = await serve_hub(self.hub, config.listen.host, config.listen.port)
        life.on_stop(server.close, "flashblocks")
        self.stream_url = server.url
        options = StreamOptions(
            backoff=Backoff(
                config.initial_reconnect_ms / 1000,
                config.max_reconnect_ms / 1000,
                stable_after_s=config.max_reconnect_ms / 1000,
            ),
            connect_timeout_s=config.connect_timeout_ms / 1000,
            ping_interval_s=config.ping_interval_ms / 1000,
            pong_timeout_s=config.pong_timeout_ms / 1000,
            # A builder without a build sends nothing; pings show whether it is alive.
            silence_timeout_s=None,
            patient=True,
        )
        life.on_stop(self.follower.close, "flashblock frames")
        life.keep(lambda: self.follower.follow(config.builder_url, options), "boost.stream")

    def _health_changed(self) -> None:
        """A health fact or the mode was set: export the status, and log a change."""
        before, self._shown = self._shown, self.multiplexer.status
        self.metrics.health.set(self._shown)
        if self._shown is not before:
            level = logging.WARNING if self._shown > before else logging.INFO
            reason = self.health.complaints or "no faults"
            _LOG.log(level, "health %d -> %d: %s", before, self._shown, reason)

    def _reported_health(self) -> ReportedHealth:
        status = self.multiplexer.status
        # A boost that must not lead still answers the consensus client.
        return ReportedHealth(True, status.phrase, degraded=status == 206, healthy=status != 503)

    async def _close_clients(self) -> None:
        await self.payloads.close()
        await self.forwarding.close()
        await self.builder.close()
        await self.forwards.close()
        await self.fallback.close()
        self.decisions.close()


def _client(
    upstream: EngineUpstream, *, limits: ClientLimits = DEFAULT_LIMITS, max_values: int | None = None
) -> EngineClient:
    return EngineClient(
        upstream.url,
        jwt_secret=upstream.jwt_secret,
        timeout_s=upstream.timeout_s,
        limits=limits,
        max_values=max_values,
    )


def run(config: BoostConfig, *, ready_fd: int | None = None) -> ExitCode:
    """Run boost until a signal.

    Raises:
        FlashctlError: If it cannot start.
    """

    return run_role(partial(Boost, config), ready_fd=ready_fd)
