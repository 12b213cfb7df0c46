"""The settings of `flashctl watch`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

__all__ = [
    "ConnectionConfig",
    "EndingConfig",
    "FilterConfig",
    "HookConfig",
    "OutputConfig",
    "PeerConfig",
    "RecordingConfig",
    "TransactionConfig",
    "WatchConfig",
]


@dataclass(frozen=True, slots=True)
class ConnectionConfig:
    """How to reach a stream."""

    url: str | None = None
    source: str = "auto"
    """`auto`, `raw` (a flashblocks stream) or `rpc` (a node's eth_subscribe)."""
    headers: Mapping[str, str] = field(default_factory=dict)
    reconnect: bool = True
    ping_interval_s: float = 5.0
    pong_timeout_s: float = 20.0
    silence_s: float = 15.0
    max_frame: int = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class FilterConfig:
    """Which flashblocks are shown; every criterion that is set must hold."""

    addresses: Sequence[str] = ()
    """Sender, target or emitter of a log of a transaction."""
    senders: Sequence[str] = ()
    targets: Sequence[str] = ()
    selectors: Sequence[str] = ()
    topics: Sequence[str] = ()
    types: Sequence[str] = ()
    min_value: int | None = None
    """Wei."""
    no_deposits: bool = False
    indices: str | None = None
    """`3`, `1..3`, `2..`."""


@dataclass(frozen=True, slots=True)
class OutputConfig:
    """What is printed."""

    form: str = "auto"
    """`auto`, `table`, `line`, `json`, `raw`, `stats`, or what `fields` and `template` imply."""
    fields: Sequence[str] = ()
    template: str | None = None
    color: str = "auto"
    quiet: bool = False
    stats: bool = False
    stats_every_s: float | None = None
    interval_ms: float = 200.0
    """The builder's interval; jitter is measured against it."""
    plot: Path | None = None


@dataclass(frozen=True, slots=True)
class EndingConfig:
    """When a run ends, and with which exit code."""

    count: int | None = None
    blocks: int | None = None
    duration_s: float | None = None
    until: Sequence[str] = ()
    timeout_s: float | None = None
    fail_on: Sequence[str] = ()
    """Events that make the exit code 1."""
    strict: bool = False
    wait: bool = False
    """Keep trying although no connection has worked yet; --timeout implies it."""


@dataclass(frozen=True, slots=True)
class RecordingConfig:
    """A recording to write, and one to read instead of a stream."""

    path: Path | None = None
    """Where to write; `-` is standard output."""
    raw: bool = False
    replay: Path | None = None
    """`-` is standard input."""
    speed: float | None = None
    """Times real time; 0 is as fast as possible, None chooses."""


@dataclass(frozen=True, slots=True)
class PeerConfig:
    """What else takes part: subscribers, nodes, other streams."""

    serve: str | None = None
    """HOST:PORT to publish the stream on again."""
    confirm: str | None = None
    """RPC URL to compare payloads with sealed blocks."""
    compare: Sequence[str] = ()
    """URLs of streams to compare arrival times with."""
    rpc: str | None = None
    """RPC URL where receipts of a followed transaction are read, and whence a raw one is sent."""
    send_rpc: str | None = None
    """RPC URL that takes transactions; None is `rpc`."""


@dataclass(frozen=True, slots=True)
class TransactionConfig:
    """One transaction to follow; None of `tx` and `send`: all."""

    tx: str | None = None
    send: str | None = None
    """A raw transaction, sent once the stream is up."""
    stage: str | None = None
    """`preconfirmed` or `sealed`; None is sealed where a node is known."""
    submitted_at: float | None = None
    """Unix time in seconds, from which delays are measured."""


@dataclass(frozen=True, slots=True)
class HookConfig:
    """What events start."""

    execute: str | None = None
    on: Sequence[str] = ()
    bell: bool = False


@dataclass(frozen=True, slots=True)
class WatchConfig:
    """Every setting of one run."""

    stream: ConnectionConfig = ConnectionConfig()
    filters: FilterConfig = FilterConfig()
    output: OutputConfig = OutputConfig()
    ending: EndingConfig = EndingConfig()
    recording: RecordingConfig = RecordingConfig()
    peers: PeerConfig = PeerConfig()
    transaction: TransactionConfig = TransactionConfig()
    hooks: HookConfig = HookConfig()
