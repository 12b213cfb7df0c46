"""`flashctl devnet`: flags to a `DevnetConfig`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from flashctl import default_ports
from flashctl.cli.options import Common, command, new_app
from flashctl.errors import ExitCode

app = new_app()


def _port(help_text: str) -> Any:
    return typer.Option(min=0, max=65_535, help=f"{help_text}.")


class Chain(NamedTuple):
    """Chain"""

    block_time: Annotated[int, typer.Option(metavar="SECONDS", help="Between blocks.")] = 2
    flashblock_time: Annotated[int, typer.Option(metavar="MS", help="Between flashblocks.")] = 200
    datadir: Annotated[
        Path | None, typer.Option(help="Folder to keep the chain in; default: a temporary one.")
    ] = None
    keep_states: Annotated[
        int,
        typer.Option(
            metavar="BLOCKS", min=0, help="Keep the states of this many blocks, at least 64; 0 = of all."
        ),
    ] = 1024
    genesis: Annotated[
        Path | None, typer.Option(help="op-geth style genesis.json instead of the built-in one.")
    ] = None
    gas_limit: Annotated[int, typer.Option(metavar="GAS", help="Gas limit of every block.")] = 60_000_000
    min_base_fee: Annotated[int, typer.Option(min=0, metavar="WEI", help="Floor under the base fee.")] = 0


class Running(NamedTuple):
    """What it does"""

    tx_rate: Annotated[
        float, typer.Option(metavar="N", help="Background transactions per second, from their own accounts.")
    ] = 0.0
    blocks: Annotated[int | None, typer.Option(min=1, metavar="N", help="Stop after N sealed blocks.")] = None
    workers: Annotated[
        int,
        typer.Option(min=0, max=64, metavar="N", help="Processes of each node that execute calls, at most."),
    ] = 2
    json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object a line: ready, then each sealed block.")
    ] = False


class Listeners(NamedTuple):
    """Addresses and ports (0 takes any free one)"""

    host: Annotated[str, typer.Option(help="Address that every port listens on.")] = "127.0.0.1"
    rpc_port: Annotated[int, _port("JSON-RPC whose latest is the newest flashblock")] = default_ports.RPC
    rpc_sealed_port: Annotated[int, _port("JSON-RPC whose latest is the newest sealed block")] = (
        default_ports.RPC_SEALED
    )
    proxy_port: Annotated[int, _port("Flashblocks, for any number of clients")] = default_ports.PROXY
    boost_stream_port: Annotated[int, _port("Flashblocks that boost accepted")] = default_ports.BOOST_STREAM
    boost_engine_port: Annotated[int, _port("Engine API that the sequencer drives")] = (
        default_ports.BOOST_ENGINE
    )
    boost_debug_port: Annotated[int, _port("boost's debug API")] = default_ports.BOOST_DEBUG
    builder_rpc_port: Annotated[int, _port("The builder's own JSON-RPC")] = default_ports.BUILDER_RPC
    builder_engine_port: Annotated[int, _port("The builder's Engine API")] = default_ports.BUILDER_ENGINE
    builder_stream_port: Annotated[int, _port("The builder's flashblocks")] = default_ports.BUILDER_STREAM
    fallback_rpc_port: Annotated[int, _port("JSON-RPC of the fallback node")] = default_ports.FALLBACK_RPC
    fallback_engine_port: Annotated[int, _port("Engine API of the fallback node")] = (
        default_ports.FALLBACK_ENGINE
    )
    any_ports: Annotated[
        bool, typer.Option("--any-ports", help="Take free ports where no flag or profile names one.")
    ] = False


@command(
    app,
    "devnet",
    service=True,
    example="flashctl devnet --tx-rate 20 --datadir ./chain",
)
def devnet(
    chain: Chain, running: Running, listen: Listeners, *, context: typer.Context, common: Common
) -> ExitCode:
    """Run the whole Flashblocks pipeline on this machine, in one command.

    Starts a builder, a fallback node, boost between them and a sequencer, the stream proxy and the overlay
    node, each as its own process, with ten funded accounts. Ctrl-C stops all of it.
    """
    import logging

    from flashctl.devnet.config import ChainSettings, DevnetConfig, Ports
    from flashctl.devnet.service import run

    numbers = listen._asdict().items()
    ports = Ports(**{name.removesuffix("_port"): port for name, port in numbers if name.endswith("_port")})
    if listen.any_ports:
        ports = ports.others_free(_given_ports(context))
    config = DevnetConfig(
        block_time=chain.block_time,
        flashblock_ms=chain.flashblock_time,
        chain=ChainSettings(
            chain.genesis, chain.gas_limit, chain.min_base_fee, chain.datadir, chain.keep_states
        ),
        host=listen.host,
        ports=ports,
        workers=running.workers,
        tx_rate=running.tx_rate,
        blocks=running.blocks,
        json=running.json,
        log_level=common.log_level,
    )
    if not common.verbosity:
        # The table of endpoints says that it is ready; the children's lifecycles are in their logs.
        logging.getLogger("flashctl.core.service.lifecycle").setLevel(logging.WARNING)
    if common.check_only:
        from flashctl.devnet.check import check

        return check(config)
    return run(config, common.ready_fd)


def _given_ports(context: typer.Context) -> frozenset[str]:
    """The ports that a flag, a variable or a profile names, as fields of Ports."""
    given = set()
    for name in context.params:
        source = context.get_parameter_source(name)
        if name.endswith("_port") and source is not None and source.name != "DEFAULT":
            given.add(name.removesuffix("_port"))
    return frozenset(given)
