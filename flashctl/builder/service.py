"""The builder as a process: chain, pool, payload jobs and three ports.

    engine port      Engine API with a JWT, and eth_* for the consensus client      --authrpc.*
    user port        eth_*, net_*, web3_*, debug_*                                  --http.*
    stream port      flashblocks over WebSocket                                     --flashblocks.*

Without the stream (`--no-flashblocks`) this is the fallback engine of a pipeline: it follows the chain by
newPayload, answers JSON-RPC, and builds a payload of its own for when the builder delivers none.
"""

from __future__ import annotations

import asyncio
import logging
import time
from functools import partial
from typing import Any, Final

import orjson

from flashctl.builder.backend import EmbeddedBackend
from flashctl.builder.config import BuilderConfig
from flashctl.builder.engine_api import EngineApi
from flashctl.builder.execution_engine import ExecutionEngine
from flashctl.builder.health import BuilderHealth
from flashctl.builder.mempool.admission import Mempool
from flashctl.builder.mempool.head_changes import MempoolUpdater
from flashctl.builder.mempool.peer_transactions import PeerTransactions
from flashctl.builder.miner_api import MinerApi
from flashctl.builder.payload.block_work import JobTerms
from flashctl.builder.payload.job import PayloadJob
from flashctl.builder.payload.jobs import PayloadJobs
from flashctl.builder.payload.publish import PublishingObserver
from flashctl.builder.payload.publisher import Publisher
from flashctl.builder.stream_ahead import StreamAhead
from flashctl.builder.sync import CatchUp
from flashctl.chain.ahead import BlocksAhead
from flashctl.chain.chain import Chain, HeadChange
from flashctl.chain.genesis import Genesis, build_genesis, devnet_genesis, load_genesis, require_executable
from flashctl.chain.store import StoreError
from flashctl.core.engine.jwt import JwtSecret, create_secret
from flashctl.core.hub import Hub
from flashctl.core.hub import serve as serve_stream
from flashctl.core.jsonrpc.client import JsonRpcClient
from flashctl.core.jsonrpc.dispatch import RpcLimits
from flashctl.core.jsonrpc.json_bounds import MAX_VALUES
from flashctl.core.jsonrpc.methods import Methods, required
from flashctl.core.jsonrpc.server import serve as serve_rpc
from flashctl.core.service import defects
from flashctl.core.service.lifecycle import Lifecycle, run_role
from flashctl.core.service.metrics import Metrics
from flashctl.core.service.status import Pages, serve_status, status_pages
from flashctl.core.service.workers.figures import PoolFigures
from flashctl.errors import ExitCode, FlashctlError, IoError
from flashctl.ethrpc.call_runner import CallLimits, call_runner
from flashctl.ethrpc.eth_api import EthApi
from flashctl.ethrpc.heavy_precompiles import compute_dear_calls_apart
from flashctl.ethrpc.interfaces import UnsealedBlock
from flashctl.ethrpc.tx_waiters import TxWaiters
from flashctl.evm.world import World

__all__ = ["BuilderService", "run"]

_LOG = logging.getLogger(__name__)

ENGINE_LIMITS: Final = RpcLimits(request_bytes=128 * 1024 * 1024, values=MAX_VALUES)
"""A payload with its transactions in hex; the figure of op-geth's engine port."""


MAX_PEER_VALUES: Final = 2_000_000
"""JSON values in one answer of `--sync-rpc`: a mempool of 60,000 transactions."""


FORGET_FOR_S: Final = 0.002
FORGET_EVERY_S: Final = 0.1
"""Two milliseconds of each tenth of a second, so that no flashblock is late for it. A million accounts take
some 30 s of it, which is 25 minutes."""

SETTLE_AFTER_S: Final = 0.01

FORGET_LOOK_S: Final = 5.0
"""Between looks whether it is time."""


def run(config: BuilderConfig, ready_fd: int | None = None) -> ExitCode:
    """Serve until a signal; the exit code."""

    return run_role(partial(BuilderService, config), ready_fd=ready_fd)


class BuilderService:
    """One builder, from its configuration to open ports."""

    def __init__(self, config: BuilderConfig) -> None:
        """Open the chain; nothing listens yet.

        Raises:
            FlashctlError: The genesis, the data directory or the JWT secret is unusable.
        """
        self.config = config
        self._secret = _jwt_secret(config)
        genesis = require_executable(_genesis(config))
        self.chain = Chain.open(genesis, config.chain.datadir, keep_states=config.chain.keep_states)
        self.metrics = Metrics("flashctl_builder")
        self.queue = Mempool(
            self.chain,
            config.mempool.limits,
            min_tip=config.mempool.min_tip,
            being_built=self._state_being_built,
        )
        self.hub = Hub()
        publisher = Publisher(self.hub, config.stream.dialect) if config.stream is not None else None
        self.arrivals = TxWaiters()
        self.observer = PublishingObserver(self.metrics, publisher, self.arrivals)
        self.queue.on_given_up(lambda tx_hash: self.arrivals.arrived((tx_hash,)))
        self.metrics.gauge("pool_transactions", "Transactions that wait.").set_function(
            lambda: len(self.queue)
        )
        self.metrics.gauge("head_block", "Number of the newest block.").set_function(
            lambda: self.chain.head.number
        )
        self.miner = MinerApi(config.build)
        self.payloads = PayloadJobs(
            EmbeddedBackend(self.chain),
            self.queue,
            lambda: JobTerms(config.build.schedule, self.miner.limits()),
            self.observer,
            self._run_job,
            id_version=config.build.payload_version,
        )
        self.catch_up: CatchUp | None = None
        self.peer_pool: PeerTransactions | None = None
        self.ahead = BlocksAhead(self.chain, self.queue.pool.get)
        self.metrics.gauge(
            "executed_ahead", "Transactions of imported blocks that were executed while they were streamed."
        ).set_function(lambda: self.ahead.taken)
        self.stream_ahead = StreamAhead(self.ahead) if config.peers.flashblocks_url is not None else None
        self.node = ExecutionEngine(self.chain, self.payloads, self._on_gap, self.ahead)
        self.health = BuilderHealth(self.node, self.observer)
        self.follower = MempoolUpdater(self.queue)
        self.ports: dict[str, int] = {}
        """Where each server really listens: `engine`, `http`, `stream`, `metrics`."""
        self._life: Lifecycle | None = None

    async def start(self, life: Lifecycle) -> None:
        """Open every port and begin to follow.

        Raises:
            ListenFailed: An address cannot be bound.
        """
        self._life = life
        config = self.config

        async def close_chain() -> None:
            self.chain.close()

        self.observer.on_opened = self._settle_garbage
        life.on_stop(close_chain, "chain")
        life.on_stop(self.payloads.close, "payloads")
        await compute_dear_calls_apart(life)
        forgetting = life.keep(self._forget_old_states, "builder.forgetting")

        async def stop_forgetting() -> None:
            forgetting.cancel()

        life.on_stop(stop_forgetting, "old states")
        loop = asyncio.get_running_loop()

        def carry(change: HeadChange) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._on_head, change)

        self.chain.subscribe(carry)
        life.keep(self.follower.run, "builder.following")
        life.on_stop(self.node.close, "chain threads")
        if config.peers.sync_rpc is not None:
            self._follow_peer(life, config.peers.sync_rpc)
        if self.stream_ahead is not None and config.peers.flashblocks_url is not None:
            self._execute_ahead(life, self.stream_ahead, config.peers.flashblocks_url)
        await self._serve_stream(life)
        await self._serve_rpc(life)
        if config.server.metrics is not None:
            status = await serve_status(
                config.server.metrics.host, config.server.metrics.port, self._pages(life)
            )
            life.on_stop(status.close, "metrics")
            self.ports["metrics"] = status.port
        head = self.chain.head
        _LOG.info(
            "builder listening" if config.stream is not None else "execution engine listening",
            extra={"head": head.number, "hash": "0x" + head.hash.hex(), **self.ports},
        )

    def _follow_peer(self, life: Lifecycle, url: str) -> None:
        """Fetch missing blocks and pending transactions from another node."""
        peer = JsonRpcClient(url, timeout_s=10.0, max_values=MAX_PEER_VALUES)
        life.on_stop(peer.close, "sync")
        self.catch_up = CatchUp(self.chain, peer, self.node.import_block, self.node.choose, self._caught_up)
        life.keep(self.catch_up.run, "builder.catch_up")
        if self.config.peers.reads_peer_pool:
            peer_pool = self.peer_pool = PeerTransactions(peer, self.queue)
            life.keep(peer_pool.run, "builder.peer_pool")
            self.metrics.gauge(
                "pool_taken_over", "Transactions fetched from the pool of --sync-rpc since the start."
            ).set_function(lambda: peer_pool.taken)

    def _execute_ahead(self, life: Lifecycle, stream: StreamAhead, url: str) -> None:
        life.keep(partial(stream.follow, url), "builder.stream_ahead")
        life.keep(stream.work, "builder.ahead")
        life.on_stop(stream.close, "execution ahead")

    def _caught_up(self) -> None:
        if self.peer_pool is not None:
            self.peer_pool.request()

    async def _serve_stream(self, life: Lifecycle) -> None:
        stream = self.config.stream
        if stream is None:
            return
        server = await serve_stream(
            self.hub, stream.endpoint.host, stream.endpoint.port, subscriber_limit=stream.subscriber_limit
        )
        life.on_stop(server.close, "stream")
        self.ports["stream"] = server.port

    async def _serve_rpc(self, life: Lifecycle) -> None:
        config = self.config
        ports = config.server
        user, engine = Methods(), Methods()
        # Without a stream nothing was preconfirmed, so do not expose this payload as `pending`: its receipts
        # would be taken for those of a block.
        pending = self._pending if config.stream is not None else None
        runner = call_runner(config.server.workers, CallLimits().at_once, PoolFigures(self.metrics))
        life.on_stop(runner.close, "workers")
        api = EthApi(self.chain, self.queue, pending, runner=runner, waiters=self.arrivals)
        for methods in (user, engine):
            api.register(methods)
            self.miner.register(methods)
            self._forward_transactions(methods, life)
        EngineApi(self.node).register(engine)
        engine_server = await serve_rpc(
            engine,
            config.server.engine.host,
            config.server.engine.port,
            jwt_secret=self._secret,
            limits=ENGINE_LIMITS,
        )
        life.on_stop(engine_server.close, "engine API")
        if self._secret is not None:
            life.on_reload(self._secret.reload, "the engine port's secret")
        user_server = await serve_rpc(
            user,
            ports.http.host,
            ports.http.port,
            cors=ports.cors,
            namespaces=ports.namespaces,
            pages=self._pages(life),
        )
        life.on_stop(user_server.close, "JSON-RPC")
        self.ports |= {"engine": engine_server.port, "http": user_server.port}

    def _forward_transactions(self, methods: Methods, life: Lifecycle) -> None:
        """With `--sequencer`, return its answer to a raw transaction; the local mempool takes a copy."""
        local = methods.find("eth_sendRawTransaction")
        if self.config.peers.sequencer is None or local is None:
            return
        sequencer = JsonRpcClient(self.config.peers.sequencer, timeout_s=10.0)
        life.on_stop(sequencer.close, "sequencer")

        async def forward(params: list[Any]) -> Any:
            result = await sequencer.call("eth_sendRawTransaction", [required(params, 0, "data")])
            try:
                await local(params)
            except FlashctlError as error:
                _LOG.debug("forwarded transaction not pooled: %s", error)
            except Exception as error:
                # The sequencer accepted it, so the call succeeded.
                defects.caught("builder.forward", error)
            return result

        methods.register("eth_sendRawTransaction", forward)

    def _pages(self, life: Lifecycle) -> Pages:
        return status_pages(self.metrics, self.health, lambda: life.stopping)

    def _run_job(self, job: PayloadJob) -> asyncio.Task[None]:
        """Run a payload job as a task of the service."""
        assert self._life is not None
        return self._life.spawn(job.run(), "payload job")

    def _settle_garbage(self) -> None:
        """Collect garbage between index 0 and flashblock 1, after the consensus client has its answer."""
        if self._life is not None:
            asyncio.get_running_loop().call_later(SETTLE_AFTER_S, self._life.garbage.settle)

    def _pending(self) -> UnsealedBlock | None:
        """The block under construction, if its parent is the head."""
        job = self.payloads.current
        sealed = job.sealed if job is not None else None
        if sealed is None or sealed.header.parent_hash != self.chain.head.hash:
            return None
        return UnsealedBlock(sealed.header, sealed.envelopes, sealed.receipts, sealed.world)

    def _state_being_built(self) -> World | None:
        pending = self._pending()
        return None if pending is None else pending.world

    def _on_head(self, change: HeadChange) -> None:
        self.payloads.head_moved(change.head)
        if self.stream_ahead is not None:
            self.stream_ahead.head_moved()
        self.follower.on_head(change)

    async def _forget_old_states(self) -> None:
        while True:
            try:
                is_under_way = await asyncio.to_thread(self.chain.prune, FORGET_FOR_S)
            except StoreError as error:
                # Whatever it is, the import of blocks meets it too, and decides what it is worth.
                _LOG.warning("pruning aborted: %s", error)
                is_under_way = False
            await asyncio.sleep(FORGET_EVERY_S if is_under_way else FORGET_LOOK_S)

    def _on_gap(self) -> None:
        if self.catch_up is not None:
            self.catch_up.request()


def _genesis(config: BuilderConfig) -> Genesis:
    """The genesis. A devnet's contains its creation time, so it is stored with the chain."""
    if config.chain.genesis is not None:
        return load_genesis(config.chain.genesis)
    if config.chain.datadir is None:
        return build_genesis(devnet_genesis(timestamp=int(time.time())))
    kept = config.chain.datadir / "genesis.json"
    if not kept.exists():
        try:
            config.chain.datadir.mkdir(parents=True, exist_ok=True)
            kept.write_bytes(orjson.dumps(devnet_genesis(timestamp=int(time.time()))))
        except OSError as error:
            raise IoError(f"cannot write {kept}: {error.strerror}") from None
    return load_genesis(kept)


def _jwt_secret(config: BuilderConfig) -> JwtSecret | None:
    path = config.server.jwt_secret
    if path is None:
        _LOG.warning("no --authrpc.jwtsecret: every client of the engine port can drive this engine")
        return None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise IoError(f"cannot write into {path.parent}: {error.strerror}") from None
    if not path.exists():
        create_secret(path)
    return JwtSecret.load(path)
