"""`flashctl boost`: flags to a `BoostConfig`; `flashctl boost debug`: the debug API's client.

Flags and their plain environment variables carry rollup-boost's names, so a compose file moves over as it
is. What is mended: URLs need no scheme, hosts may be names, `dry_run` and `dry-run` are one word, the
builder uses the fallback's secret if it has none of its own, and flashblocks are on unless switched off.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import typer

from flashctl import default_ports
from flashctl.cli.options import Common, command, new_app
from flashctl.cli.values import completing
from flashctl.cli.verbs import serve_without_verb
from flashctl.errors import ExitCode, UsageError

_RUN = "run"
_MODES = ("enabled", "dry-run", "disabled")


app = new_app()
serve_without_verb(app, _RUN)


def _env(name: str, help_text: str, *flags: str, **settings: Any) -> Any:
    return typer.Option(*flags, envvar=name, help=help_text, **settings)


class Builder(NamedTuple):
    """Builder, whose blocks are preferred"""

    builder_url: Annotated[str, _env("BUILDER_URL", "Engine API of the builder.")] = (
        f"http://127.0.0.1:{default_ports.BUILDER_ENGINE}"
    )
    builder_jwt_token: Annotated[
        str | None,
        _env("BUILDER_JWT_TOKEN", "JWT secret, 64 hex digits; default: the fallback's.", metavar="HEX"),
    ] = None
    builder_jwt_path: Annotated[Path | None, _env("BUILDER_JWT_PATH", "The same from a file.")] = None
    builder_timeout: Annotated[int, _env("BUILDER_TIMEOUT", "Timeout of a request to it.", metavar="MS")] = (
        1000
    )


class Fallback(NamedTuple):
    """Fallback, the sequencer's own execution client"""

    l2_url: Annotated[str, _env("L2_URL", "Engine API of the fallback.")] = (
        f"http://127.0.0.1:{default_ports.FALLBACK_ENGINE}"
    )
    l2_jwt_token: Annotated[str | None, _env("L2_JWT_TOKEN", "JWT secret, 64 hex digits.", metavar="HEX")] = (
        None
    )
    l2_jwt_path: Annotated[Path | None, _env("L2_JWT_PATH", "The same from a file.")] = None
    l2_timeout: Annotated[int, _env("L2_TIMEOUT", "Timeout of a request to it.", metavar="MS")] = 1000


class Choice(NamedTuple):
    """Block selection and health"""

    execution_mode: Annotated[
        str,
        _env(
            "EXECUTION_MODE",
            "dry-run: ask the builder, use the fallback; disabled: the fallback alone.",
            metavar="MODE",
            autocompletion=completing(_MODES),
        ),
    ] = "enabled"
    block_selection_policy: Annotated[
        str | None,
        _env(
            "BLOCK_SELECTION_POLICY",
            "Refuse builder blocks with less than a tenth of the fallback's gas.",
            metavar="gas-used",
            autocompletion=completing(("gas-used",)),
        ),
    ] = None
    external_state_root: Annotated[
        bool,
        _env(
            "EXTERNAL_STATE_ROOT",
            "Have the fallback compute the state root of builder blocks that lack one.",
        ),
    ] = False
    ignore_unhealthy_builders: Annotated[
        bool,
        _env(
            "IGNORE_UNHEALTHY_BUILDERS",
            "Make no engine calls to a builder that is stale or failed the last one.",
        ),
    ] = False
    health_check_interval: Annotated[
        float, _env("HEALTH_CHECK_INTERVAL", "Between health checks.", metavar="SECONDS")
    ] = 60
    max_unsafe_interval: Annotated[
        float,
        _env("MAX_UNSAFE_INTERVAL", "Age of its latest block from which a side is stale.", metavar="SECONDS"),
    ] = 10
    max_exclusion_blocks: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="After N builder blocks without a transaction that the fallback includes, take one block "
            "of the fallback.",
        ),
    ] = None
    decisions: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Append a JSON line for each block: whose it is, and why."),
    ] = None


class Stream(NamedTuple):
    """Flashblocks"""

    flashblocks: Annotated[
        bool,
        _env(
            "FLASHBLOCKS",
            "Follow the builder's stream, build blocks from it, and publish it.",
            "--flashblocks/--no-flashblocks",
        ),
    ] = True
    flashblocks_builder_url: Annotated[
        str, _env("FLASHBLOCKS_BUILDER_URL", "WebSocket of the builder's flashblocks.")
    ] = f"ws://127.0.0.1:{default_ports.BUILDER_STREAM}"
    flashblocks_host: Annotated[str, _env("FLASHBLOCKS_HOST", "Address to publish flashblocks on.")] = (
        "127.0.0.1"
    )
    flashblocks_port: Annotated[
        int, _env("FLASHBLOCKS_PORT", "WebSocket of flashblocks; 0 takes any free port.", min=0, max=65535)
    ] = default_ports.BOOST_STREAM
    flashblock_builder_ws_initial_reconnect_ms: Annotated[
        int, _env("FLASHBLOCK_BUILDER_WS_INITIAL_RECONNECT_MS", "First pause before connecting again.")
    ] = 10
    flashblock_builder_ws_max_reconnect_ms: Annotated[
        int, _env("FLASHBLOCK_BUILDER_WS_MAX_RECONNECT_MS", "Longest pause before connecting again.")
    ] = 5000
    flashblock_builder_ws_connect_timeout_ms: Annotated[
        int, _env("FLASHBLOCK_BUILDER_WS_CONNECT_TIMEOUT_MS", "Timeout of connection and handshake.")
    ] = 5000
    flashblock_builder_ws_ping_interval_ms: Annotated[
        int, _env("FLASHBLOCK_BUILDER_WS_PING_INTERVAL_MS", "Between pings to the builder.")
    ] = 500
    flashblock_builder_ws_pong_timeout_ms: Annotated[
        int,
        _env(
            "FLASHBLOCK_BUILDER_WS_PONG_TIMEOUT_MS",
            "Time for the pong, after which the connection is made again.",
        ),
    ] = 1500


class Listeners(NamedTuple):
    """Where it listens"""

    rpc_host: Annotated[str, _env("RPC_HOST", "Address of the Engine API for the consensus client.")] = (
        "127.0.0.1"
    )
    rpc_port: Annotated[int, _env("RPC_PORT", "Its port; 0 takes any free one.", min=0, max=65535)] = (
        default_ports.BOOST_ENGINE
    )
    rpc_jwt_path: Annotated[
        Path | None, _env("RPC_JWT_PATH", "Require tokens that the consensus client signs with this secret.")
    ] = None
    debug_host: Annotated[str, _env("DEBUG_HOST", "Address of the debug API.")] = "127.0.0.1"
    debug_server_port: Annotated[
        int, _env("DEBUG_SERVER_PORT", "Its port; 0 takes any free one.", min=0, max=65535)
    ] = default_ports.BOOST_DEBUG
    metrics: Annotated[bool, _env("METRICS", "Serve Prometheus metrics.")] = False
    metrics_host: Annotated[str, _env("METRICS_HOST", "Address of /metrics.")] = "127.0.0.1"
    metrics_port: Annotated[
        int, _env("METRICS_PORT", "Its port; 0 takes any free one.", min=0, max=65535)
    ] = 9090


@command(
    app,
    "boost",
    name=_RUN,
    service=True,
    example="flashctl boost --builder-url http://127.0.0.1:8651 --l2-url http://127.0.0.1:8551 \\\n"
    "    --l2-jwt-path jwt.hex --flashblocks-builder-url ws://127.0.0.1:1111\n"
    "flashctl boost debug set-execution-mode dry-run",
)
def boost(
    builder: Builder, fallback: Fallback, choice: Choice, stream: Stream, listen: Listeners, *, common: Common
) -> ExitCode:
    """Sit between consensus client, builder and fallback engine."""
    from flashctl.boost.config import (
        BoostConfig,
        EngineUpstream,
        FlashblocksConfig,
        HealthConfig,
        SelectionConfig,
        ServerConfig,
    )
    from flashctl.boost.modes import ExecutionMode, SelectionPolicy
    from flashctl.boost.service import run
    from flashctl.core.engine.jwt import JwtSecret
    from flashctl.core.net.addresses import ListenAddress

    if choice.block_selection_policy not in (None, SelectionPolicy.GAS_USED.value):
        raise UsageError(f"unknown block selection policy {choice.block_selection_policy!r}", hint="gas-used")
    fallback_upstream = EngineUpstream.load("l2", *fallback)
    config = BoostConfig(
        builder=EngineUpstream.load("builder", *builder, default=fallback_upstream.jwt_secret),
        fallback=fallback_upstream,
        flashblocks=FlashblocksConfig(
            stream.flashblocks_builder_url,
            ListenAddress(stream.flashblocks_host, stream.flashblocks_port),
            stream.flashblock_builder_ws_initial_reconnect_ms,
            stream.flashblock_builder_ws_max_reconnect_ms,
            stream.flashblock_builder_ws_connect_timeout_ms,
            stream.flashblock_builder_ws_ping_interval_ms,
            stream.flashblock_builder_ws_pong_timeout_ms,
        )
        if stream.flashblocks
        else None,
        selection=SelectionConfig(
            ExecutionMode.parse(choice.execution_mode),
            SelectionPolicy.GAS_USED if choice.block_selection_policy else SelectionPolicy.BUILDER,
            choice.external_state_root,
            choice.ignore_unhealthy_builders,
            choice.max_exclusion_blocks,
        ),
        health=HealthConfig(
            _positive("--health-check-interval", choice.health_check_interval),
            _positive("--max-unsafe-interval", choice.max_unsafe_interval),
        ),
        server=ServerConfig(
            ListenAddress(listen.rpc_host, listen.rpc_port),
            None if listen.rpc_jwt_path is None else JwtSecret.load(listen.rpc_jwt_path),
            ListenAddress(listen.debug_host, listen.debug_server_port),
            ListenAddress(listen.metrics_host, listen.metrics_port) if listen.metrics else None,
        ),
        decisions=choice.decisions,
    )
    if common.check_only:
        from flashctl.boost.check import check

        return check(config)
    return run(config, ready_fd=common.ready_fd)


def _positive(flag: str, seconds: float) -> float:
    if not seconds > 0:
        raise UsageError(f"{flag} must be above 0")
    return seconds


@command(
    app,
    "boost",
    name="debug",
    example="flashctl boost debug status\nflashctl boost debug set-execution-mode disabled",
)
def debug(
    action: Annotated[
        Literal["status", "execution-mode", "set-execution-mode"],
        typer.Argument(metavar="ACTION", help="status, execution-mode or set-execution-mode."),
    ] = "status",
    mode: Annotated[
        str | None,
        typer.Argument(
            metavar="MODE",
            help="For set-execution-mode: enabled, dry-run or disabled.",
            autocompletion=completing(_MODES),
        ),
    ] = None,
    debug_host: Annotated[str, _env("DEBUG_HOST", "Address of the running boost's debug API.")] = "127.0.0.1",
    debug_server_port: Annotated[int, _env("DEBUG_SERVER_PORT", "Its port.", min=1, max=65535)] = 5555,
) -> ExitCode:
    """Ask a running boost for its state, or change its execution mode."""
    import asyncio

    from flashctl.boost.debug_api import DebugClient
    from flashctl.boost.modes import ExecutionMode
    from flashctl.core.output import Output

    if (action == "set-execution-mode") != (mode is not None):
        raise UsageError(
            "set-execution-mode takes a mode" if mode is None else f"{action} takes no mode",
            hint="flashctl boost debug set-execution-mode enabled|dry-run|disabled",
        )

    async def ask() -> Any:
        client = DebugClient(f"http://{debug_host}:{debug_server_port}")
        try:
            if mode is not None:
                return {"execution_mode": (await client.set_mode(ExecutionMode.parse(mode))).value}
            if action == "execution-mode":
                return {"execution_mode": (await client.get_mode()).value}
            return await client.status()
        finally:
            await client.close()

    Output().json(asyncio.run(ask()))
    return ExitCode.OK
