"""A devnet from start to end: files, child processes, sequencer, output."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from dataclasses import astuple
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from flashctl.chain.genesis import Genesis, build_genesis, devnet_genesis, read_genesis, require_executable
from flashctl.core.engine.client import EngineClient
from flashctl.core.engine.jwt import create_secret, load_secret
from flashctl.core.flashblocks.client import StreamFrame, subscribe
from flashctl.core.flashblocks.wire import InvalidFlashblock, decode
from flashctl.core.jsonrpc.client import JsonRpcClient
from flashctl.core.net.addresses import ListenAddress
from flashctl.core.net.listening import refused_ports
from flashctl.core.output import Output, escape, when_reader_leaves
from flashctl.core.service.lifecycle import Lifecycle, run_service
from flashctl.core.service.printer import Printer, live_output
from flashctl.devnet.children import ChildDied, Family
from flashctl.devnet.commands import Layout, role_commands, with_real_ports
from flashctl.devnet.config import DevnetConfig, Ports
from flashctl.devnet.report import (
    ServiceUrl,
    accounts_text,
    print_endpoints,
    ready_event,
    sealed_event,
    sealed_line,
)
from flashctl.devnet.sequencer import SealedSlot, Sequencer, SequencerSettings
from flashctl.devnet.traffic import TRAFFIC_BALANCE, Traffic, traffic_accounts
from flashctl.errors import ExitCode, Failed, IoError, UsageError
from flashctl.eth.blocks import Header, decode_header
from flashctl.eth.hexdata import parse_hex, quantity, to_hex
from flashctl.lru import Lru

__all__ = ["run"]

_PLAIN_WIDTH = 120
"""Columns of the table without a terminal."""

_READER_PATIENCE_S = 2.0
"""At the end, for lines that the reader of stdout has not read yet."""

_COUNTED_PAYLOADS = 64
"""Payloads whose flashblock counts are kept; only the newest is read."""


def run(config: DevnetConfig, ready_fd: int | None = None) -> ExitCode:
    """Run until stopped, until `config.blocks` are sealed, or until a child dies.

    Raises:
        Failed: If a child died, after its last log lines were shown.
    """
    with ExitStack() as stack:
        if config.chain.datadir is not None:
            folder = config.chain.datadir.absolute()
        else:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="flashctl-devnet-")))
        devnet = _Devnet(config, Layout(folder))
        stack.callback(devnet.finish_printing)
        return run_service(devnet.main, ready_fd=ready_fd)


class _Devnet:
    """One run."""

    def __init__(self, config: DevnetConfig, layout: Layout) -> None:
        self._config = config
        self._layout = layout
        self._ports = with_real_ports(config.host, config.ports)
        self._out = Output()
        self._sealed_out = live_output()
        """Output that blocks do not wait for: many scripts read only the first line of stdout."""
        self._flashblocks = Lru[str, int](_COUNTED_PAYLOADS)
        self._sealed = 0
        self._drivers: list[asyncio.Task[None]] = []
        """Tasks that use the children; cancelled before those stop."""

    async def main(self, life: Lifecycle) -> None:
        """Start everything in the order of dependencies, then wait for the end."""
        self._try_ports()
        genesis = self._prepare()
        family = Family(self._layout.logs)
        life.on_stop(partial(self._stop, family), "children")
        life.on_reload(partial(family.signal, signal.SIGHUP), "children")
        when_reader_leaves(life.stop)  # `| head` ends the run
        try:
            commands = role_commands(self._config, self._layout, self._ports)
            await asyncio.gather(*(family.start(name, command) for name, command in commands.items()))
            await family.wait_ready(*commands)
        except ChildDied as death:
            raise self._explain(death) from None
        life.spawn(self._watch_children(family), "children")
        self._drivers.append(life.spawn(self._count_flashblocks(), "flashblock counter"))
        self._announce(genesis, family)
        life.ready()
        await self._start_sequencer(life, genesis)
        if self._config.tx_rate:
            client = JsonRpcClient(self._url("http", self._ports.rpc))
            traffic = Traffic(client, genesis.config.chain_id, self._config.tx_rate)
            self._drivers.append(life.spawn(traffic.run(), "traffic"))
        await life.stopped()

    async def _stop(self, family: Family) -> None:
        for driver in self._drivers:
            driver.cancel()
        await family.stop()

    def _try_ports(self) -> None:
        """Report a taken port by the user's flag, before a child fails with a flag the user did not give."""
        for refused in refused_ports(ListenAddress(self._config.host, port) for port in astuple(self._ports)):
            if refused.is_taken:
                refused.hint = "is another devnet running? --any-ports takes free ports instead"
            raise refused

    def _prepare(self) -> Genesis:
        """Write the files that the children share, or read those of an earlier run in this datadir."""
        layout = self._layout
        given = None if self._config.chain.genesis is None else read_genesis(self._config.chain.genesis)
        try:
            layout.logs.mkdir(parents=True, exist_ok=True)
            if not layout.jwt_secret.exists():
                create_secret(layout.jwt_secret)
            if layout.genesis.exists():
                return self._kept_genesis(given)
            chosen = self._own_genesis() if given is None else given
            genesis = require_executable(build_genesis(chosen))
            layout.genesis.write_text(json.dumps(chosen, indent=1))
        except OSError as error:
            raise IoError(f"{layout.folder}: {error.strerror}") from None
        return genesis

    def _kept_genesis(self, given: dict[str, Any] | None) -> Genesis:
        kept = read_genesis(self._layout.genesis)
        if given is not None and given != kept:
            raise UsageError(
                f"{self._layout.folder} holds a chain of another genesis than {self._config.chain.genesis}",
                hint="choose another --datadir, or leave --genesis out to go on with that chain",
            )
        return require_executable(build_genesis(kept))

    def _own_genesis(self) -> dict[str, Any]:
        genesis = devnet_genesis(timestamp=int(time.time()), gas_limit=self._config.chain.gas_limit)
        for account in traffic_accounts():
            genesis["alloc"][to_hex(account.address)] = {"balance": quantity(TRAFFIC_BALANCE)}
        return genesis

    async def _start_sequencer(self, life: Lifecycle, genesis: Genesis) -> None:
        config = self._config
        engine = EngineClient(
            self._url("http", self._ports.boost_engine), jwt_secret=load_secret(self._layout.jwt_secret)
        )
        settings = SequencerSettings(
            block_time=config.block_time,
            gas_limit=config.chain.gas_limit,
            min_base_fee=config.chain.min_base_fee,
        )

        def on_sealed(slot: SealedSlot) -> None:
            self._report(slot)
            if config.blocks is not None and self._sealed >= config.blocks:
                life.stop()

        head = await self._head()
        sequencer = Sequencer(engine, genesis.config, head, settings, on_sealed)
        self._drivers.append(life.spawn(sequencer.run(), "sequencer"))

    async def _head(self) -> Header:
        """The head of the fallback node: the genesis, or where an earlier run on this datadir ended."""
        client = JsonRpcClient(self._url("http", self._ports.fallback_rpc))
        try:
            return decode_header(parse_hex(await client.call("debug_getRawHeader", ["latest"])))
        finally:
            await client.close()

    async def _watch_children(self, family: Family) -> None:
        try:
            await family.first_death()
        except ChildDied as death:
            raise self._explain(death) from None

    async def _count_flashblocks(self) -> None:
        """Count flashblocks at the end of the pipeline, as users receive them."""
        async for item in subscribe(self._url("ws", self._ports.proxy, "/ws")):
            if not isinstance(item, StreamFrame):
                continue
            try:
                payload_id = decode(item.data, binary=item.binary).payload_id
            except InvalidFlashblock:
                continue
            self._flashblocks.put(payload_id, (self._flashblocks.peek(payload_id) or 0) + 1)

    def _report(self, slot: SealedSlot) -> None:
        self._sealed += 1
        flashblocks = self._flashblocks.peek(to_hex(slot.payload_id)) or 0
        if self._config.json:
            self._sealed_out.json(sealed_event(slot, flashblocks))
        else:
            self._sealed_out.line(sealed_line(slot, flashblocks))

    def finish_printing(self) -> None:
        """Wait briefly for the reader of stdout to get the last lines."""
        if isinstance(self._sealed_out, Printer):
            with suppress(OSError):  # it has gone away
                self._sealed_out.finish(_READER_PATIENCE_S)

    def _announce(self, genesis: Genesis, family: Family) -> None:
        endpoints = self._endpoints()
        if self._config.json:
            layout, chain_id = self._layout, genesis.config.chain_id
            self._out.json(
                ready_event(endpoints, family.pids(), chain_id, str(layout.jwt_secret), str(layout.folder))
            )
            return
        folder = f"{self._layout.folder}{'' if self._config.chain.datadir else ' (temporary)'}"
        self._out.line(
            f"flashctl devnet: chain {genesis.config.chain_id}, a block every {self._config.block_time} s,"
            f" a flashblock every {self._config.flashblock_ms} ms\n"
        )
        print_endpoints(endpoints, Console(width=None if sys.stdout.isatty() else _PLAIN_WIDTH))
        self._out.line(f"\n{accounts_text()}\n\n  logs, genesis.json, jwt.hex: {folder}\n")

    def _endpoints(self) -> dict[str, ServiceUrl]:
        ports: Ports = self._ports
        return {
            "rpc": ServiceUrl(
                "rpc", self._url("http", ports.rpc), "JSON-RPC, preconfirmed is `latest`: for all tools"
            ),
            "rpc_ws": ServiceUrl("rpc ws", self._url("ws", ports.rpc), "the same with subscriptions"),
            "rpc_sealed": ServiceUrl(
                "rpc sealed",
                self._url("http", ports.rpc_sealed),
                "JSON-RPC, nothing before it is sealed: for indexers",
            ),
            "stream": ServiceUrl(
                "stream", self._url("ws", ports.proxy, "/ws"), "flashblocks, from the proxy"
            ),
            "boost_stream": ServiceUrl(
                "boost stream", self._url("ws", ports.boost_stream), "flashblocks that boost accepted"
            ),
            "boost": ServiceUrl("boost", self._url("http", ports.boost_engine), "Engine API, no token asked"),
            "boost_debug": ServiceUrl("boost debug", self._url("http", ports.boost_debug), "execution mode"),
            "builder": ServiceUrl("builder", self._url("http", ports.builder_rpc), "JSON-RPC"),
            "builder_engine": ServiceUrl(
                "builder engine", self._url("http", ports.builder_engine), "Engine API, JWT"
            ),
            "builder_stream": ServiceUrl(
                "builder stream", self._url("ws", ports.builder_stream), "flashblocks as built"
            ),
            "fallback": ServiceUrl(
                "fallback", self._url("http", ports.fallback_rpc), "JSON-RPC, sealed chain"
            ),
            "fallback_engine": ServiceUrl(
                "fallback engine", self._url("http", ports.fallback_engine), "Engine API, JWT"
            ),
        }

    def _explain(self, death: ChildDied) -> Failed:
        """Print the last log lines of a dead child on stderr; returns the error to end with."""
        for line in death.last_lines:
            print(f"  {death.name}| {escape(line)}", file=sys.stderr)
        log = self._layout.logs / f"{death.name}.log"
        return Failed(
            str(death), hint=None if self._config.chain.datadir is None else f"all of its log: {log}"
        )

    def _url(self, scheme: str, port: int, path: str = "") -> str:
        host = self._config.host
        shown = f"[{host}]" if ":" in host else host
        return f"{scheme}://{shown}:{port}{path}"
