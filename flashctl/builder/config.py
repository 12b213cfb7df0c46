"""Settings of `flashctl builder`: chain, ports, timing, limits."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from flashctl.builder.mempool.pool import PoolLimits
from flashctl.builder.payload.schedule import FlashblockSchedule
from flashctl.chain.pruning import KEEP_STATES, check_keep_states
from flashctl.core.flashblocks.client import check_stream_url
from flashctl.core.flashblocks.dialects import OP_RBUILDER, Dialect
from flashctl.core.jsonrpc.namespaces import USER_NAMESPACES
from flashctl.core.net.addresses import ListenAddress
from flashctl.errors import UsageError
from flashctl.ethrpc.call_runner import DEFAULT_WORKERS

__all__ = [
    "BuildConfig",
    "BuilderConfig",
    "ChainDataConfig",
    "MempoolConfig",
    "PeerConfig",
    "ServerConfig",
    "StreamConfig",
]


@dataclass(frozen=True, slots=True)
class StreamConfig:
    """The flashblocks stream of a builder that publishes one."""

    endpoint: ListenAddress
    subscriber_limit: int = 256
    dialect: Dialect = OP_RBUILDER


@dataclass(frozen=True, slots=True)
class ChainDataConfig:
    """The embedded chain and where it is kept."""

    genesis: Path | None = None
    """An op-geth style genesis.json; None takes the built-in devnet's."""
    datadir: Path | None = None
    """Where the chain is kept; None keeps it in memory."""
    keep_states: int = KEEP_STATES
    """Number of blocks whose state is kept at least; 0 for all."""

    def __post_init__(self) -> None:
        check_keep_states(self.keep_states)


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """The ports besides the stream's, and what they answer."""

    http: ListenAddress
    """JSON-RPC for users."""
    engine: ListenAddress
    """Engine API for the consensus client."""
    jwt_secret: Path | None = None
    """File of the Engine API's secret; created if there is none. None leaves the Engine API open."""
    namespaces: frozenset[str] = USER_NAMESPACES
    """Method namespaces of the user port."""
    cors: tuple[str, ...] = ()
    """Origins whose web pages may call the user port; `*` for all."""
    metrics: ListenAddress | None = None
    workers: int = DEFAULT_WORKERS
    """Processes that execute eth_call and its relatives, besides this one; 0 for threads in this one."""


@dataclass(frozen=True, slots=True)
class BuildConfig:
    """How payloads are built."""

    schedule: FlashblockSchedule
    payload_version: int = 3
    """First byte of payload ids: 3 as specified and in op-geth, 4 as op-reth writes."""
    max_tx_time_s: float = 0.5
    """Processor time after which a transaction is cut and deferred to a later block (`late_transactions`)."""
    max_block_bytes: int | None = None
    """Uncompressed bytes of a block's transactions."""

    def __post_init__(self) -> None:
        if self.payload_version not in range(256):
            raise UsageError(f"--payload-version {self.payload_version} is not a byte")
        if self.max_tx_time_s <= 0:
            raise UsageError("--builder.max-tx-time must be positive")


@dataclass(frozen=True, slots=True)
class MempoolConfig:
    """What the mempool admits."""

    limits: PoolLimits = field(default_factory=PoolLimits)
    min_tip: int = 1
    """Wei per gas below which a transaction is refused; 1 is the price limit of op-geth's pool, so that what
    the fallback takes is taken here, and no more."""


@dataclass(frozen=True, slots=True)
class PeerConfig:
    """Other nodes that this one reads from or sends to."""

    sync_rpc: str | None = None
    """JSON-RPC of a node to fetch missing blocks and waiting transactions from."""
    reads_peer_pool: bool = True
    """Whether transactions are fetched from there."""
    flashblocks_url: str | None = None
    """Stream of the builder or boost, to execute blocks while they grow; for an engine without a stream."""
    sequencer: str | None = None
    """JSON-RPC that raw transactions are forwarded to."""

    def __post_init__(self) -> None:
        if self.flashblocks_url is not None:
            check_stream_url(self.flashblocks_url, "--flashblocks-url")


@dataclass(frozen=True, slots=True)
class BuilderConfig:
    """The effective settings of `flashctl builder`."""

    server: ServerConfig
    build: BuildConfig
    stream: StreamConfig | None
    """None: a plain execution engine, which builds without publishing (`--no-flashblocks`)."""
    chain: ChainDataConfig = ChainDataConfig()
    mempool: MempoolConfig = field(default_factory=MempoolConfig)
    peers: PeerConfig = PeerConfig()

    def __post_init__(self) -> None:
        if self.peers.flashblocks_url is not None and self.stream is not None:
            raise UsageError(
                "--flashblocks-url is for an engine that follows a stream; this one publishes its own",
                hint="with --no-flashblocks it is the fallback",
            )
