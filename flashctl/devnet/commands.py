"""The command line of each role in a devnet, as for starting the same by hand.

sequencer --Engine API--> boost --Engine API--> builder, fallback
builder --flashblocks--> boost --flashblocks--> proxy --flashblocks--> rpc, watch, users
rpc --JSON-RPC--> fallback           users' transactions: rpc -> boost -> builder and fallback
boost --flashblocks--> fallback      which executes blocks while they grow
builder <--JSON-RPC--> fallback      each fetches from the other the blocks sealed while it was down
"""

from __future__ import annotations

import errno
import random
import socket
from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from pathlib import Path

from flashctl.core.net.listening import ListenFailed
from flashctl.devnet.config import DevnetConfig, Ports
from flashctl.errors import UnavailableError

__all__ = ["Layout", "role_commands", "with_real_ports"]

_PORT_RANGE = range(20_000, 32_000)
"""Linux hands out 32768 and up for outgoing connections, macOS and the IANA 49152 and up."""

_ATTEMPTS = 100


@dataclass(frozen=True, slots=True)
class Layout:
    """Where a devnet keeps its files."""

    folder: Path

    @property
    def genesis(self) -> Path:
        return self.folder / "genesis.json"

    @property
    def jwt_secret(self) -> Path:
        """One secret for all Engine APIs of the devnet."""
        return self.folder / "jwt.hex"

    @property
    def logs(self) -> Path:
        return self.folder / "logs"

    def chain(self, role: str) -> Path:
        """The database folder of an execution engine."""
        return self.folder / role


def with_real_ports(host: str, ports: Ports) -> Ports:
    """Replace every 0 by a port that is free now.

    The roles need each other's addresses before they start, and they start at the same time. All sockets are
    held until the last port is chosen, so that no two are equal. The ports are below the range of outgoing
    connections, one of which might otherwise take a port before its role does.
    """
    chosen: dict[str, int] = {}
    with ExitStack() as held:
        for item in fields(ports):
            if getattr(ports, item.name) == 0:
                chosen[item.name] = _bind_free_port(host, held)
    return replace(ports, **chosen)


def _bind_free_port(host: str, held: ExitStack) -> int:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for _ in range(_ATTEMPTS):
        probe = held.enter_context(socket.socket(family))
        port = random.choice(_PORT_RANGE)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise ListenFailed(host, port, error) from None
        else:
            return port
    raise UnavailableError(f"no free port on {host} between {_PORT_RANGE.start} and {_PORT_RANGE.stop}")


def role_commands(config: DevnetConfig, layout: Layout, ports: Ports) -> dict[str, list[str]]:
    """Arguments of `flashctl` per child, by the child's name."""
    host = config.host
    common = ["--log-level", config.log_level]
    jwt = str(layout.jwt_secret)
    builder = [
        *_engine(config, layout, "builder", ports.builder_rpc, ports.builder_engine),
        "--flashblocks.addr", host,
        "--flashblocks.port", str(ports.builder_stream),
        "--flashblocks.block-time", str(config.flashblock_ms),
        "--flashblocks.end-buffer-ms", str(min(_END_BUFFER_MS, config.flashblock_ms // 2)),
        "--sync-rpc", f"http://{host}:{ports.fallback_rpc}",
    ]  # fmt: skip
    fallback = [
        *_engine(config, layout, "fallback", ports.fallback_rpc, ports.fallback_engine),
        "--no-flashblocks",
        "--sync-rpc", f"http://{host}:{ports.builder_rpc}",
        "--flashblocks-url", f"ws://{host}:{ports.boost_stream}",
    ]  # fmt: skip
    boost = [
        "boost",
        "--builder-url", f"http://{host}:{ports.builder_engine}",
        "--builder-jwt-path", jwt,
        "--l2-url", f"http://{host}:{ports.fallback_engine}",
        "--l2-jwt-path", jwt,
        "--rpc-host", host,
        "--rpc-port", str(ports.boost_engine),
        "--flashblocks",
        "--flashblocks-builder-url", f"ws://{host}:{ports.builder_stream}",
        "--flashblocks-host", host,
        "--flashblocks-port", str(ports.boost_stream),
        "--flashblock-builder-ws-max-reconnect-ms", _RECONNECT_MS,
        "--debug-host", host,
        "--debug-server-port", str(ports.boost_debug),
    ]  # fmt: skip
    proxy = [
        "proxy",
        "--upstream-ws", f"ws://{host}:{ports.boost_stream}",
        "--listen-addr", f"{host}:{ports.proxy}",
        "--metrics-addr", f"{host}:0",
        "--subscriber-max-interval-ms", _RECONNECT_MS,
    ]  # fmt: skip
    rpc = [
        "rpc",
        "--flashblocks-url", f"ws://{host}:{ports.proxy}/ws",
        "--upstream-rpc", f"http://{host}:{ports.fallback_rpc}",
        "--upstream-ws", f"ws://{host}:{ports.fallback_rpc}",
        "--rollup.sequencer", f"http://{host}:{ports.boost_engine}",
        "--http.addr", host,
        "--http.port", str(ports.rpc),
        "--workers", str(config.workers),
        *_FOR_DEVELOPERS,
        "--genesis", str(layout.genesis),
        "--latest", "preconfirmed",
        "--sealed-port", str(ports.rpc_sealed),
    ]  # fmt: skip
    commands = {"builder": builder, "fallback": fallback, "boost": boost, "proxy": proxy, "rpc": rpc}
    return {name: [*arguments, *common] for name, arguments in commands.items()}


_FOR_DEVELOPERS = ("--http.api", "eth,net,web3,txpool,debug", "--http.corsdomain", "*")
"""For wallets, browser pages and tracing tools."""

_RECONNECT_MS = "100"
"""Longest pause before reconnecting a stream: all roles start at the same time, so first attempts fail."""

_END_BUFFER_MS = 100
"""How long before the slot's end the last flashblock is built: the figure of op-rbuilder#467, including the
50 ms by which the sequencer calls getPayload early."""


def _engine(config: DevnetConfig, layout: Layout, name: str, rpc_port: int, engine_port: int) -> list[str]:
    return [
        "builder",
        "--genesis", str(layout.genesis),
        "--datadir", str(layout.chain(name)),
        "--keep-states", str(config.chain.keep_states),
        "--workers", str(config.workers),
        "--http.addr", config.host,
        "--http.port", str(rpc_port),
        *_FOR_DEVELOPERS,
        "--authrpc.addr", config.host,
        "--authrpc.port", str(engine_port),
        "--authrpc.jwtsecret", str(layout.jwt_secret),
        "--rollup.chain-block-time", str(config.block_time * 1000),
    ]  # fmt: skip
