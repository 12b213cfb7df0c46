"""`flashctl rpc`: flags to RpcConfig. Names are those of Base's node and op-reth where they mean the same."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import typer

from flashctl import default_ports
from flashctl.cli.options import Common, command, new_app
from flashctl.cli.values import built_in_chains, completing, namespaces
from flashctl.errors import ExitCode, UsageError

__all__ = ["app"]

app = new_app()


class Sources(NamedTuple):
    """Stream and node"""

    flashblocks_url: Annotated[
        list[str] | None,
        typer.Option(
            "--flashblocks-url",
            "--websocket-url",
            metavar="URL",
            envvar=["RETH_FB_WEBSOCKET_URL", "FLASHBLOCKS_URL"],
            help="Flashblocks stream; repeat it for several that carry the same chain.",
        ),
    ] = None
    upstream_rpc: Annotated[
        str | None,
        typer.Option(
            "--upstream-rpc",
            metavar="URL",
            help="Canonical node: any standard JSON-RPC endpoint that can batch.",
        ),
    ] = None
    upstream_ws: Annotated[
        str | None,
        typer.Option(
            "--upstream-ws",
            metavar="URL",
            help="Its WebSocket: subscribe to new heads instead of polling for them.",
        ),
    ] = None
    sequencer: Annotated[
        str | None,
        typer.Option(
            "--rollup.sequencer",
            "--rollup.sequencer-http",
            "--sequencer",
            metavar="URL",
            help="Where transactions are sent; the canonical node if left out.",
        ),
    ] = None
    chain: Annotated[
        str | None,
        typer.Option(
            metavar="CHAIN",
            autocompletion=completing(built_in_chains),
            help="Rules to execute with: a built-in chain; default: by the node's chain id.",
        ),
    ] = None
    genesis: Annotated[
        Path | None, typer.Option(help="Rules to execute with, from an op-geth style genesis.json.")
    ] = None


class Listeners(NamedTuple):
    """Where it listens"""

    http_addr: Annotated[
        str, typer.Option("--http.addr", "--host", help="Address to listen on; 0.0.0.0 for every interface.")
    ] = "127.0.0.1"
    http_port: Annotated[
        int,
        typer.Option(
            "--http.port", "--port", min=0, max=65535, help="HTTP and WebSocket; 0 takes any free port."
        ),
    ] = default_ports.RPC
    http_api: Annotated[
        str,
        typer.Option(
            "--http.api",
            metavar="NAMESPACE,…",
            autocompletion=completing(namespaces, listed=True),
            help="Namespaces served, here or by the node; debug, miner and admin only if named; * for all.",
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
    latest: Annotated[
        Literal["sealed", "preconfirmed"],
        typer.Option(
            help="What latest, the block number and calls without a block mean: the sealed block, or the "
            "newest preconfirmed one, for tools that know nothing of preconfirmations."
        ),
    ] = "sealed"
    sealed_port: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=65535,
            help="A second port, on which latest is the sealed block; 0 takes any free port.",
        ),
    ] = None
    metrics_addr: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT", help="Second address for the status page and /metrics of the JSON-RPC port."
        ),
    ] = None


class Overlay(NamedTuple):
    """How far the stream may be ahead of the node, and timeouts"""

    max_pending_blocks_depth: Annotated[
        int,
        typer.Option(
            min=1,
            metavar="N",
            help="Most pending blocks above the node's head; later flashblocks are held back.",
        ),
    ] = 3
    stale_after_ms: Annotated[
        int,
        typer.Option(
            min=100,
            metavar="MS",
            help="Silence of the stream after which pending means latest, in milliseconds.",
        ),
    ] = 6000
    poll_interval_ms: Annotated[
        int,
        typer.Option(min=10, metavar="MS", help="Between polls of the node's head, without --upstream-ws."),
    ] = 200
    upstream_timeout_ms: Annotated[
        int, typer.Option(min=1, metavar="MS", help="Timeout of one request to the node or the sequencer.")
    ] = 10_000


class Calls(NamedTuple):
    """Limits of calls"""

    rpc_gascap: Annotated[
        int,
        typer.Option(
            "--rpc.gascap",
            min=21_000,
            metavar="GAS",
            help="Most gas of an eth_call, and of all calls of an eth_simulateV1 together.",
        ),
    ] = 50_000_000
    rpc_evmtimeout_ms: Annotated[
        int,
        typer.Option(
            "--rpc.evmtimeout-ms",
            min=1,
            metavar="MS",
            help="Longest wall time of an eth_call or eth_simulateV1.",
        ),
    ] = 5000
    workers: Annotated[
        int,
        typer.Option(
            min=0,
            max=64,
            metavar="N",
            help="Processes that execute calls, started when needed; 0: threads of this process.",
        ),
    ] = 2
    calls_at_once: Annotated[
        int, typer.Option(min=1, metavar="N", help="eth_calls executing together, with --workers 0.")
    ] = 4


class Sending(NamedTuple):
    """Transactions on their way"""

    sync_timeout_max_ms: Annotated[
        int, typer.Option(min=1, metavar="MS", help="Longest wait of eth_sendRawTransactionSync.")
    ] = 6000
    pending_nonce_includes_pool: Annotated[
        bool,
        typer.Option(help="Count what waits in the node's pool, or was just sent, in the pending nonce."),
    ] = True
    latest_nonce_is_pending: Annotated[bool | None, typer.Option(hidden=True)] = None
    pool_wait_ms: Annotated[
        int,
        typer.Option(
            min=0,
            max=5000,
            metavar="MS",
            help="Hold eth_getTransactionByHash of a pooled transaction for a flashblock with it (viem).",
        ),
    ] = 500


@command(
    app,
    "rpc",
    service=True,
    example="flashctl rpc --flashblocks-url ws://127.0.0.1:8547/ws --upstream-rpc http://127.0.0.1:8745\n"
    "flashctl rpc --profile unichain-sepolia --http.port 8545",
)
def rpc(
    sources: Sources,
    listen: Listeners,
    overlay: Overlay,
    calls: Calls,
    sending: Sending,
    *,
    common: Common,
) -> ExitCode:
    """Serve JSON-RPC with preconfirmed pending state.

    Executes the transactions of a flashblocks stream on the state of a canonical node and answers questions
    about `pending`, preconfirmed transactions and subscriptions; everything else is passed on to the node.
    """
    if not sources.flashblocks_url:
        raise UsageError("no flashblocks stream", hint="--flashblocks-url ws://HOST:PORT, or --profile NAME")
    if not sources.upstream_rpc:
        raise UsageError("no canonical node", hint="--upstream-rpc http://HOST:PORT, or --profile NAME")
    if sending.latest_nonce_is_pending is not None:
        raise UsageError(
            "--latest-nonce-is-pending is gone: a latest nonce ahead of the latest state misleads wallets",
            hint="--latest preconfirmed, where nonce, state, number and logs are of one block",
        )
    from flashctl.core.jsonrpc.namespaces import parse_namespaces, parse_origins
    from flashctl.core.net.addresses import ListenAddress
    from flashctl.rpc.config import (
        AnswerConfig,
        CallConfig,
        RpcConfig,
        ServerConfig,
        StreamConfig,
        UpstreamConfig,
        chain_config,
    )
    from flashctl.rpc.service import run
    from flashctl.rpc.visibility import Latest

    metrics = ListenAddress.parse(listen.metrics_addr, "--metrics-addr") if listen.metrics_addr else None
    config = RpcConfig(
        StreamConfig(
            tuple(sources.flashblocks_url), overlay.max_pending_blocks_depth, overlay.stale_after_ms / 1000
        ),
        UpstreamConfig(
            sources.upstream_rpc,
            sources.upstream_ws,
            sources.sequencer,
            overlay.poll_interval_ms / 1000,
            overlay.upstream_timeout_ms / 1000,
        ),
        ServerConfig(
            listen.http_addr,
            listen.http_port,
            listen.sealed_port,
            parse_namespaces(listen.http_api),
            parse_origins(listen.http_corsdomain),
            metrics,
        ),
        CallConfig(calls.rpc_gascap, calls.rpc_evmtimeout_ms / 1000, calls.workers, calls.calls_at_once),
        AnswerConfig(
            Latest(listen.latest),
            sending.pending_nonce_includes_pool,
            sending.pool_wait_ms / 1000,
            sending.sync_timeout_max_ms,
        ),
        chain_config(sources.chain, sources.genesis),
    )
    if common.check_only:
        from flashctl.rpc.check import check

        return check(config)
    return run(config, ready_fd=common.ready_fd)
