"""`flashctl devnet`: flags to a `DevnetConfig`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flashctl.cli.options import Common, command, new_app
from flashctl.errors import ExitCode

app = new_app()

_PORTS = "Ports (0 takes any free one)"


def _port(help_text: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(min=0, max=65_535, help=help_text, rich_help_panel=_PORTS)
    return option


@command(
    app,
    "devnet",
    service=True,
    example="flashctl devnet --tx-rate 20 --datadir ./chain",
)
def devnet(
    block_time: Annotated[int, typer.Option(metavar="SECONDS", help="Between sealed blocks.")] = 2,
    flashblock_time: Annotated[int, typer.Option(metavar="MS", help="Between flashblocks.")] = 200,
    tx_rate: Annotated[
        float, typer.Option(metavar="N", help="Background transactions per second, from their own accounts.")
    ] = 0.0,
    blocks: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Stop after N sealed blocks.")
    ] = None,
    datadir: Annotated[
        Path | None, typer.Option(help="Keep the chain here; without it a temporary folder is used.")
    ] = None,
    keep_states: Annotated[
        int,
        typer.Option(
            metavar="BLOCKS",
            min=0,
            help="Forget states older than so many blocks; at least 64, 0 = keep all.",
        ),
    ] = 1024,
    workers: Annotated[
        int,
        typer.Option(
            min=0, max=64, metavar="N", help="Processes of each node for eth_calls, at most; 0 for none."
        ),
    ] = 2,
    genesis: Annotated[
        Path | None, typer.Option(help="An op-geth style genesis.json instead of the built-in one.")
    ] = None,
    gas_limit: Annotated[int, typer.Option(metavar="GAS", help="Of every block.")] = 60_000_000,
    min_base_fee: Annotated[int, typer.Option(min=0, metavar="WEI", help="Floor under the base fee.")] = 0,
    host: Annotated[str, typer.Option(help="Address that every port listens on.")] = "127.0.0.1",
    rpc_port: Annotated[int, _port("JSON-RPC, preconfirmed state as latest.")] = 8545,
    rpc_sealed_port: Annotated[int, _port("JSON-RPC that shows nothing before it is sealed.")] = 8546,
    proxy_port: Annotated[int, _port("Flashblocks stream for any number of clients.")] = 8547,
    boost_stream_port: Annotated[int, _port("Flashblocks that boost accepted.")] = 1112,
    boost_engine_port: Annotated[int, _port("Engine API that the sequencer drives.")] = 8081,
    boost_debug_port: Annotated[int, _port("boost's debug API.")] = 5555,
    builder_rpc_port: Annotated[int, _port("The builder's own JSON-RPC.")] = 8645,
    builder_engine_port: Annotated[int, _port("The builder's Engine API.")] = 8651,
    builder_stream_port: Annotated[int, _port("The builder's flashblocks.")] = 1111,
    fallback_rpc_port: Annotated[int, _port("JSON-RPC of the fallback node.")] = 8745,
    fallback_engine_port: Annotated[int, _port("Engine API of the fallback node.")] = 8751,
    any_ports: Annotated[
        bool,
        typer.Option("--any-ports", help="Take free ports where none is given.", rich_help_panel=_PORTS),
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line: ready, then sealed.")] = False,
    *,
    context: typer.Context,
    common: Common,
) -> ExitCode:
    """Run the whole Flashblocks pipeline on this machine, in one command.

    Starts a builder, a fallback node, boost between them and a sequencer, the stream proxy and the overlay
    node, each as its own process, with ten funded accounts. Ctrl-C stops all of it.
    """
    import logging

    from flashctl.devnet.config import DevnetConfig, Ports
    from flashctl.devnet.service import run

    ports = Ports(
        rpc=rpc_port,
        rpc_sealed=rpc_sealed_port,
        proxy=proxy_port,
        boost_stream=boost_stream_port,
        boost_engine=boost_engine_port,
        boost_debug=boost_debug_port,
        builder_rpc=builder_rpc_port,
        builder_engine=builder_engine_port,
        builder_stream=builder_stream_port,
        fallback_rpc=fallback_rpc_port,
        fallback_engine=fallback_engine_port,
    )
    if any_ports:
        ports = ports.others_free(_given_ports(context))
    config = DevnetConfig(
        block_time=block_time,
        flashblock_ms=flashblock_time,
        gas_limit=gas_limit,
        min_base_fee=min_base_fee,
        host=host,
        ports=ports,
        datadir=datadir,
        keep_states=keep_states,
        workers=workers,
        genesis=genesis,
        tx_rate=tx_rate,
        blocks=blocks,
        json=json,
        log_level=common.log_level,
    )
    if not common.verbosity:
        # The table of endpoints says that it is ready; the children's lifecycles are in their logs.
        logging.getLogger("flashctl.core.service.lifecycle").setLevel(logging.WARNING)
    if common.check_only:
        from dataclasses import astuple

        from flashctl.chain.genesis import load_genesis, require_executable
        from flashctl.core.service.probes import run_probes

        if genesis is not None:
            require_executable(load_genesis(genesis))
        return run_probes(ports=[(host, port) for port in astuple(ports)])
    return run(config, common.ready_fd)


def _given_ports(context: typer.Context) -> frozenset[str]:
    """The ports that a flag, a variable or a profile names, as fields of Ports."""
    given = set()
    for name in context.params:
        source = context.get_parameter_source(name)
        if name.endswith("_port") and source is not None and source.name != "DEFAULT":
            given.add(name.removesuffix("_port"))
    return frozenset(given)
