"""Settings of `flashctl devnet`: timing, chain, ports and output."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from flashctl import default_ports
from flashctl.chain.pruning import KEEP_STATES, check_keep_states
from flashctl.errors import UsageError
from flashctl.ethrpc.call_runner import DEFAULT_WORKERS

__all__ = ["ChainSettings", "DevnetConfig", "Ports"]


@dataclass(frozen=True, slots=True)
class Ports:
    """One TCP port per surface; 0 takes any free one."""

    rpc: int = default_ports.RPC
    rpc_sealed: int = default_ports.RPC_SEALED
    proxy: int = default_ports.PROXY
    boost_stream: int = default_ports.BOOST_STREAM
    boost_engine: int = default_ports.BOOST_ENGINE
    boost_debug: int = default_ports.BOOST_DEBUG
    builder_rpc: int = default_ports.BUILDER_RPC
    builder_engine: int = default_ports.BUILDER_ENGINE
    builder_stream: int = default_ports.BUILDER_STREAM
    fallback_rpc: int = default_ports.FALLBACK_RPC
    fallback_engine: int = default_ports.FALLBACK_ENGINE

    @classmethod
    def any_free(cls) -> Ports:
        """Every port chosen by the system."""
        return cls(*(0 for _ in fields(cls)))

    def others_free(self, given: Collection[str]) -> Ports:
        """These, for the names in `given`; the others chosen by the system."""
        return replace(self, **{item.name: 0 for item in fields(self) if item.name not in given})

    def __post_init__(self) -> None:
        taken: dict[int, str] = {}
        for item in fields(self):
            port: int = getattr(self, item.name)
            flag = "--" + item.name.replace("_", "-") + "-port"
            if not 0 <= port <= 65_535:
                raise UsageError(f"{flag} {port} is not a TCP port")
            if port and port in taken:
                raise UsageError(f"{flag} and {taken[port]} are both {port}")
            taken[port] = flag


@dataclass(frozen=True, slots=True)
class ChainSettings:
    """The chain that is run, and where it is kept."""

    genesis: Path | None = None
    """An op-geth style genesis to use instead of the built-in one."""
    gas_limit: int = 60_000_000
    min_base_fee: int = 0
    """Wei; the Jovian floor under the base fee."""
    datadir: Path | None = None
    """Folder of the chain; None uses a temporary one, deleted at the end."""
    keep_states: int = KEEP_STATES
    """Number of blocks whose state builder and fallback keep at least; 0 for all."""

    def __post_init__(self) -> None:
        check_keep_states(self.keep_states)
        if self.gas_limit < 5_000_000:
            raise UsageError(
                f"--gas-limit {self.gas_limit} leaves no room beside the deposits; at least 5000000"
            )


@dataclass(frozen=True, slots=True)
class DevnetConfig:
    """The effective settings of `flashctl devnet`."""

    block_time: int = 2
    """Seconds between sealed blocks."""
    flashblock_ms: int = 200
    """Milliseconds between flashblocks of one block."""
    chain: ChainSettings = ChainSettings()
    host: str = "127.0.0.1"
    ports: Ports = field(default_factory=Ports)
    workers: int = DEFAULT_WORKERS
    """Processes that execute calls, at most, of each of builder, fallback and rpc; 0 for none."""
    tx_rate: float = 0.0
    """Background transactions per second."""
    blocks: int | None = None
    """Sealed blocks to run for; None runs until stopped."""
    json: bool = False
    log_level: str = "warning"

    def __post_init__(self) -> None:
        if not 1 <= self.block_time <= 60:
            raise UsageError(f"--block-time {self.block_time} is outside 1..60 seconds")
        if not 20 <= self.flashblock_ms <= self.block_time * 1000:
            raise UsageError(
                f"--flashblock-time {self.flashblock_ms} is outside 20..{self.block_time * 1000} ms",
                hint="a flashblock is a part of a block, so its interval is at most the block time",
            )
        if not 0 <= self.tx_rate <= 5_000:
            raise UsageError(f"--tx-rate {self.tx_rate} is outside 0..5000 transactions per second")
