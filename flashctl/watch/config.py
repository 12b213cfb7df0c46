"""The settings of `flashctl watch`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["ConnectionConfig", "FilterConfig", "WatchConfig"]


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
class WatchConfig:
    """Every setting of one run."""

    stream: ConnectionConfig = ConnectionConfig()
    filters: FilterConfig = FilterConfig()
    output: str = "auto"
    """`auto`, `table`, `line`, `json`, `raw`, `stats`, or what `fields` and `template` imply."""
    fields: Sequence[str] = ()
    template: str | None = None
    color: str = "auto"
    count: int | None = None
    blocks: int | None = None
    duration_s: float | None = None
    until: Sequence[str] = ()
    timeout_s: float | None = None
    fail_on: Sequence[str] = ()
    """Events that make the exit code 1."""
    strict: bool = False
    stats: bool = False
    stats_every_s: float | None = None
    interval_ms: float = 200.0
    """The builder's interval; jitter is measured against it."""
    wait: bool = False
    """Keep trying although no connection has worked yet; --timeout implies it."""
    record: Path | None = None
    record_raw: bool = False
    replay: Path | None = None
    """`-` is standard input."""
    speed: float | None = None
    """Times real time; 0 is as fast as possible, None chooses."""
    serve: str | None = None
    """HOST:PORT to publish the stream on again."""
    confirm: str | None = None
    """RPC URL to compare payloads with sealed blocks."""
    compare: Sequence[str] = ()
    tx: str | None = None
    send: str | None = None
    rpc: str | None = None
    """RPC URL for `tx`, `send` and `confirm`."""
    send_rpc: str | None = None
    """RPC URL that takes transactions; None is `rpc`."""
    stage: str | None = None
    """`preconfirmed` or `sealed`; None is sealed where a node is known."""
    submitted_at: float | None = None
    execute: str | None = None
    on: Sequence[str] = ()
    bell: bool = False
    plot: Path | None = None
    quiet: bool = False
