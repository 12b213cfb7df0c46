"""Settings of `flashctl rpc`."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from flashctl import default_ports
from flashctl.chain.genesis import genesis_config, read_genesis
from flashctl.core.flashblocks.client import check_stream_url
from flashctl.core.jsonrpc.namespaces import USER_NAMESPACES
from flashctl.core.net.addresses import ListenAddress
from flashctl.errors import UsageError
from flashctl.ethrpc.call_runner import DEFAULT_WORKERS
from flashctl.op.config import ChainConfig
from flashctl.op.registry import chain_by_name
from flashctl.op.rules import rules_for
from flashctl.rpc.visibility import Latest

__all__ = [
    "AnswerConfig",
    "CallConfig",
    "RpcConfig",
    "ServerConfig",
    "StreamConfig",
    "UpstreamConfig",
    "chain_config",
]


@dataclass(frozen=True, slots=True)
class StreamConfig:
    """The flashblocks that are executed on the sealed state."""

    urls: tuple[str, ...]
    max_depth: int = 3
    """Blocks above the node's head that are kept."""
    stale_after_s: float = 6.0
    """Silence of the stream after which nothing is pending."""

    def __post_init__(self) -> None:
        for url in self.urls:
            check_stream_url(url, "--flashblocks-url")


@dataclass(frozen=True, slots=True)
class UpstreamConfig:
    """The node that answers for everything sealed."""

    url: str
    ws_url: str | None = None
    """The same node's WebSocket, whose newHeads are followed; None: its head is polled."""
    sequencer_url: str | None = None
    """Where transactions go; None: to `url`."""
    poll_interval_s: float = 0.2
    """Between looks at the node's head."""
    timeout_s: float = 10.0

    def __post_init__(self) -> None:
        if self.ws_url is not None:
            check_stream_url(self.ws_url, "--upstream-ws")


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """The ports, and what they answer to whom."""

    host: str = "127.0.0.1"
    port: int = default_ports.RPC
    sealed_port: int | None = None
    """A second port, which shows nothing before it is sealed; None for none, 0 for any."""
    namespaces: frozenset[str] = USER_NAMESPACES
    """What is answered, be it here or by the node."""
    cors: tuple[str, ...] = ()
    """Origins whose web pages may call; `*` for all."""
    metrics: ListenAddress | None = None
    """None: no separate status page; /readyz, /healthz and /metrics are on the JSON-RPC port in any case."""


@dataclass(frozen=True, slots=True)
class CallConfig:
    """How eth_call and its relatives are executed."""

    gas: int = 50_000_000
    timeout_s: float = 5.0
    workers: int = DEFAULT_WORKERS
    """Processes that execute calls, besides this one; 0 for threads in this one."""
    at_once: int = 4
    """Threads that do, where there are no processes."""


@dataclass(frozen=True, slots=True)
class AnswerConfig:
    """What answers about preconfirmed and waiting transactions say."""

    latest: Latest = Latest.SEALED
    """What `latest` means. Tools that take a receipt for a block go on at `latest` as soon as they have one:
    with a nonce that is used up, from a state without what they sent, if that is the sealed block."""
    nonce_includes_pool: bool = True
    """Whether the pending nonce counts what waits in the node's mempool and what was sent through us."""
    pool_wait_s: float = 0.5
    """How long eth_getTransactionByHash holds its answer about a transaction that only waits in a mempool, in
    case a flashblock brings it. viem asks once, and on "in the mempool" looks again only after the next
    block: without the wait its users get preconfirmations after 1.6 to 2 s."""
    sync_timeout_ms: int = 6000
    """Longest wait of eth_sendRawTransactionSync; three blocks, as on Base."""


@dataclass(frozen=True, slots=True)
class RpcConfig:
    """Everything one overlay node needs to know."""

    stream: StreamConfig
    upstream: UpstreamConfig
    server: ServerConfig = ServerConfig()
    calls: CallConfig = CallConfig()
    answers: AnswerConfig = AnswerConfig()
    chain: ChainConfig | None = None
    """None: known by the upstream's chain id, else inferred from the stream."""


def chain_config(name: str | None, genesis: Path | None) -> ChainConfig | None:
    """The configuration of a named chain or of a genesis file; None if neither is given.

    Raises:
        UsageError: If both are given, or nothing has that name.
        IoError, InvalidGenesis, InvalidChainConfig: If the file cannot be read or is no genesis.
        UnsupportedFork: If the chain's blocks of today are of a fork that is not executed.
    """
    if name is not None and genesis is not None:
        raise UsageError("--chain and --genesis both name the rules", hint="give one of them")
    if name is None and genesis is None:
        return None
    if name is not None:
        config = chain_by_name(name)
    else:
        assert genesis is not None
        config = genesis_config(read_genesis(genesis))
    # What is executed is the block after the newest; a chain's past does not matter here.
    rules_for(config.fork_at(int(time.time())))
    return config
