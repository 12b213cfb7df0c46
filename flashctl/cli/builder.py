"""`flashctl builder`: flags to a `BuilderConfig`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import typer

from flashctl import default_ports
from flashctl.cli.options import Common, command, new_app
from flashctl.cli.values import completing, namespaces
from flashctl.errors import ExitCode

if TYPE_CHECKING:
    from flashctl.core.net.addresses import ListenAddress

app = new_app()

Dialect = Literal["op-rbuilder", "base", "subblocks", "full"]


class Chain(NamedTuple):
    """Chain and network"""

    genesis: Annotated[
        Path | None,
        typer.Option("--genesis", "--chain", help="op-geth style genesis.json; default: the devnet's."),
    ] = None
    datadir: Annotated[
        Path | None, typer.Option("--datadir", help="Folder to keep the chain in; default: in memory.")
    ] = None
    keep_states: Annotated[
        int,
        typer.Option(
            "--keep-states",
            metavar="BLOCKS",
            min=0,
            help="Keep the states of this many blocks, at least 64; 0 = of all.",
        ),
    ] = 1024
    chain_block_time: Annotated[
        int,
        typer.Option(
            "--rollup.chain-block-time",
            envvar="CHAIN_BLOCK_TIME",
            metavar="MS",
            min=100,
            help="Between blocks.",
        ),
    ] = 2000
    sync_rpc: Annotated[
        str | None,
        typer.Option(
            "--sync-rpc",
            metavar="URL",
            help="JSON-RPC of a node to fetch missing blocks and pooled transactions from.",
        ),
    ] = None
    flashblocks_url: Annotated[
        str | None,
        typer.Option(
            "--flashblocks-url",
            metavar="URL",
            help="With --no-flashblocks: stream whose blocks are executed while they grow.",
        ),
    ] = None
    disable_tx_pool_gossip: Annotated[
        bool,
        typer.Option(
            "--rollup.disable-tx-pool-gossip",
            "--rollup.disabletxpoolgossip",
            help="Fetch no transactions from the mempool of --sync-rpc.",
        ),
    ] = False
    sequencer: Annotated[
        str | None,
        typer.Option(
            "--rollup.sequencer",
            "--rollup.sequencer-http",
            metavar="URL",
            help="Where raw transactions are forwarded.",
        ),
    ] = None
    payload_version: Annotated[
        int,
        typer.Option(
            "--payload-version", metavar="BYTE", help="First byte of payload ids: 3, or 4 as in op-reth."
        ),
    ] = 3


class Listeners(NamedTuple):
    """Where it listens"""

    http_addr: Annotated[str, typer.Option("--http.addr", help="Address of JSON-RPC for users.")] = (
        "127.0.0.1"
    )
    http_port: Annotated[
        int, typer.Option("--http.port", min=0, max=65_535, help="Its port; 0 takes any free one.")
    ] = default_ports.BUILDER_RPC
    http_api: Annotated[
        str,
        typer.Option(
            "--http.api",
            metavar="NAMESPACE,…",
            autocompletion=completing(namespaces, listed=True),
            help="Namespaces served; debug, miner and admin only if named; * for all.",
        ),
    ] = "eth,net,web3,txpool"
    http_corsdomain: Annotated[
        list[str] | None,
        typer.Option(
            "--http.corsdomain",
            metavar="ORIGIN,…",
            help="Origins of web pages that may call; * for all; default: none.",
        ),
    ] = None
    authrpc_addr: Annotated[str, typer.Option("--authrpc.addr", help="Address of the Engine API.")] = (
        "127.0.0.1"
    )
    authrpc_port: Annotated[
        int, typer.Option("--authrpc.port", min=0, max=65_535, help="Its port; 0 takes any free one.")
    ] = default_ports.BUILDER_ENGINE
    authrpc_jwtsecret: Annotated[
        Path | None,
        typer.Option(
            "--authrpc.jwtsecret",
            metavar="FILE",
            help="JWT secret, created if absent; default: DATADIR/jwt.hex.",
        ),
    ] = None
    metrics: Annotated[
        str | None,
        typer.Option(
            "--metrics", metavar="HOST:PORT", help="Where /metrics and /healthz are served; default: nowhere."
        ),
    ] = None


class Flashblocks(NamedTuple):
    """Flashblocks"""

    flashblocks: Annotated[
        bool,
        typer.Option(
            "--flashblocks/--no-flashblocks", help="Publish flashblocks, or be an ordinary execution engine."
        ),
    ] = True
    flashblocks_addr: Annotated[
        str, typer.Option("--flashblocks.addr", envvar="FLASHBLOCKS_WS_ADDR", help="Address to publish on.")
    ] = "127.0.0.1"
    flashblocks_port: Annotated[
        int,
        typer.Option(
            "--flashblocks.port",
            envvar="FLASHBLOCKS_WS_PORT",
            min=0,
            max=65_535,
            help="WebSocket of flashblocks; 0 takes any free port.",
        ),
    ] = default_ports.BUILDER_STREAM
    flashblocks_block_time: Annotated[
        int,
        typer.Option(
            "--flashblocks.block-time",
            envvar="FLASHBLOCK_BLOCK_TIME",
            metavar="MS",
            help="Between flashblocks.",
        ),
    ] = 200
    flashblocks_send_offset_ms: Annotated[
        int,
        typer.Option(
            "--flashblocks.send-offset-ms",
            envvar="FLASHBLOCK_SEND_OFFSET_MS",
            metavar="MS",
            help="Shift of all flashblocks; negative is earlier.",
        ),
    ] = 0
    flashblocks_end_buffer_ms: Annotated[
        int,
        typer.Option(
            "--flashblocks.end-buffer-ms",
            "--flashblocks.leeway-time",
            envvar=["FLASHBLOCK_END_BUFFER_MS", "FLASHBLOCK_LEEWAY_TIME"],
            metavar="MS",
            help="Time between the last flashblock and the end of the slot.",
        ),
    ] = 100
    flashblocks_ws_subscriber_limit: Annotated[
        int,
        typer.Option(
            "--flashblocks.ws-subscriber-limit",
            envvar="FLASHBLOCK_WS_SUBSCRIBER_LIMIT",
            min=1,
            help="Most subscribers at once.",
        ),
    ] = 256
    flashblocks_dialect: Annotated[
        Dialect,
        typer.Option(
            "--flashblocks.dialect",
            metavar="DIALECT",
            help="Metadata as of op-rbuilder, base, subblocks or full.",
        ),
    ] = "op-rbuilder"


class Limits(NamedTuple):
    """Mempool, blocks and calls"""

    max_transactions: Annotated[
        int,
        typer.Option(
            "--txpool.max-transactions",
            "--txpool.globalslots",
            "--txpool.pending-max-count",
            min=1,
            metavar="SLOTS",
            help="Most executable transactions, in slots of 8 KiB.",
        ),
    ] = 10_000
    max_account_slots: Annotated[
        int,
        typer.Option("--txpool.max-account-slots", min=1, metavar="SLOTS", help="The same, of one sender."),
    ] = 1_024
    global_queue: Annotated[
        int,
        typer.Option(
            "--txpool.globalqueue",
            "--txpool.queued-max-count",
            min=0,
            metavar="SLOTS",
            help="Most transactions behind a nonce gap.",
        ),
    ] = 1_024
    account_queue: Annotated[
        int, typer.Option("--txpool.accountqueue", min=0, metavar="SLOTS", help="The same, of one sender.")
    ] = 64
    queue_lifetime: Annotated[
        str,
        typer.Option(
            "--txpool.lifetime",
            metavar="DURATION",
            help="Time after which those are dropped: 30s, 1m30s, 3h.",
        ),
    ] = "10m"
    price_bump: Annotated[
        int,
        typer.Option(
            "--txpool.pricebump", min=0, metavar="PERCENT", help="Least rise in fees of a replacement."
        ),
    ] = 10
    min_tip: Annotated[
        int,
        typer.Option(
            "--txpool.minimal-priority-fee",
            min=0,
            metavar="WEI",
            help="Least tip per gas; set it to the fallback's (op-geth: 1).",
        ),
    ] = 1
    max_tx_time: Annotated[
        float,
        typer.Option(
            "--builder.max-tx-time",
            metavar="SECONDS",
            help="CPU time of a transaction; one that needs more gets a block of its own.",
        ),
    ] = 0.5
    max_uncompressed_block_size: Annotated[
        int | None,
        typer.Option(
            "--builder.max-uncompressed-block-size",
            min=1,
            metavar="BYTES",
            help="Most uncompressed bytes of transactions in a block; default: no limit.",
        ),
    ] = None
    workers: Annotated[
        int,
        typer.Option(
            "--workers",
            min=0,
            max=64,
            metavar="N",
            help="Processes that execute calls, started when needed; 0 = threads of this one.",
        ),
    ] = 2


@command(
    app,
    "builder",
    service=True,
    example="flashctl builder --datadir ./chain --authrpc.jwtsecret ./jwt.hex\n"
    "flashctl builder --no-flashblocks --genesis genesis.json      # a plain execution engine",
)
def builder(
    chain: Chain, listen: Listeners, parts: Flashblocks, limits: Limits, *, common: Common
) -> ExitCode:
    """Build blocks as a series of flashblocks and publish them.

    An execution engine with an embedded chain: Engine API for the consensus client, JSON-RPC for users, and a
    WebSocket stream with a new part of the block every few hundred milliseconds.
    """
    from flashctl.builder.config import (
        BuildConfig,
        BuilderConfig,
        ChainDataConfig,
        MempoolConfig,
        PeerConfig,
        ServerConfig,
        StreamConfig,
    )
    from flashctl.builder.mempool.pool import PoolLimits
    from flashctl.builder.payload.schedule import FlashblockSchedule
    from flashctl.builder.service import run
    from flashctl.core.flashblocks.dialects import DIALECTS
    from flashctl.core.jsonrpc.namespaces import parse_namespaces, parse_origins
    from flashctl.core.net.addresses import ListenAddress
    from flashctl.core.settings.durations import parse_duration

    stream = StreamConfig(
        ListenAddress(parts.flashblocks_addr, parts.flashblocks_port),
        parts.flashblocks_ws_subscriber_limit,
        DIALECTS[parts.flashblocks_dialect],
    )
    secret = listen.authrpc_jwtsecret or (chain.datadir / "jwt.hex" if chain.datadir is not None else None)
    interval, end_buffer = parts.flashblocks_block_time, parts.flashblocks_end_buffer_ms
    if not parts.flashblocks:
        # A plain engine fills its payload once, in case that the builder's fails: its processor is for the
        # blocks that come. Through a devnet's rpc, 937 transactions a second were sealed instead of 662.
        interval, end_buffer = chain.chain_block_time, chain.chain_block_time // 4
    config = BuilderConfig(
        ServerConfig(
            http=ListenAddress(listen.http_addr, listen.http_port),
            engine=ListenAddress(listen.authrpc_addr, listen.authrpc_port),
            jwt_secret=secret,
            namespaces=parse_namespaces(listen.http_api),
            cors=parse_origins(listen.http_corsdomain),
            metrics=_endpoint(listen.metrics),
            workers=limits.workers,
        ),
        BuildConfig(
            FlashblockSchedule(
                chain.chain_block_time, interval, parts.flashblocks_send_offset_ms, end_buffer
            ),
            payload_version=chain.payload_version,
            max_tx_time_s=limits.max_tx_time,
            max_block_bytes=limits.max_uncompressed_block_size,
        ),
        stream if parts.flashblocks else None,
        ChainDataConfig(chain.genesis, chain.datadir, chain.keep_states),
        MempoolConfig(
            PoolLimits(
                limits.max_transactions,
                limits.max_account_slots,
                queued=limits.global_queue,
                queued_per_sender=limits.account_queue,
                queued_lifetime_s=parse_duration(limits.queue_lifetime, "--txpool.lifetime"),
                price_bump_percent=limits.price_bump,
            ),
            limits.min_tip,
        ),
        PeerConfig(
            sync_rpc=chain.sync_rpc,
            reads_peer_pool=not chain.disable_tx_pool_gossip,
            flashblocks_url=chain.flashblocks_url,
            sequencer=chain.sequencer,
        ),
    )
    if common.check_only:
        from flashctl.builder.check import check

        return check(config)
    return run(config, common.ready_fd)


def _endpoint(text: str | None) -> ListenAddress | None:
    from flashctl.core.net.addresses import ListenAddress

    return None if text is None else ListenAddress.parse(text, "--metrics")
