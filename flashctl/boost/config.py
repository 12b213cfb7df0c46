"""Settings of `flashctl boost`, checked."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from flashctl import default_ports
from flashctl.boost.modes import ExecutionMode, SelectionPolicy
from flashctl.core.engine import jwt
from flashctl.core.flashblocks.client import check_stream_url
from flashctl.core.net.addresses import ListenAddress
from flashctl.core.net.endpoint import Endpoint
from flashctl.errors import UsageError

__all__ = [
    "BoostConfig",
    "EngineUpstream",
    "FlashblocksConfig",
    "HealthConfig",
    "SelectionConfig",
    "ServerConfig",
]


@dataclass(frozen=True, slots=True)
class EngineUpstream:
    """One execution client's engine port."""

    url: str = field(repr=False)
    jwt_secret: bytes | jwt.JwtSecret = field(repr=False)
    timeout_s: float = 1.0
    """For each HTTP request."""

    @classmethod
    def load(
        cls,
        name: str,
        url: str,
        token: str | None,
        path: Path | None,
        timeout_ms: int,
        *,
        default: bytes | jwt.JwtSecret | None = None,
    ) -> EngineUpstream:
        """Check the flags `--<name>-url`, `-jwt-token`, `-jwt-path` and `-timeout`; `default` is the secret
        where none is given.

        Raises:
            UsageError: If one is wrong, there is no secret, or there are two.
            IoError: If the file with the secret cannot be read.
        """
        endpoint = Endpoint.parse(url)
        if timeout_ms <= 0:
            raise UsageError(f"--{name}-timeout {timeout_ms} is not a time in milliseconds")
        if token is not None and path is not None:
            raise UsageError(
                f"--{name}-jwt-token and --{name}-jwt-path both name the secret", hint="give one of them"
            )
        secret: bytes | jwt.JwtSecret
        if token is not None:
            secret = jwt.JwtSecret(jwt.parse_secret(token))
        elif path is not None:
            secret = jwt.JwtSecret.load(path)
        elif default is not None:
            secret = default
        else:
            raise UsageError(
                f"Missing Client JWT secret for {endpoint.shown}",
                hint=f"--{name}-jwt-path FILE or --{name}-jwt-token HEX",
            )
        return cls(endpoint.url, secret, timeout_ms / 1000)


@dataclass(frozen=True, slots=True)
class FlashblocksConfig:
    """The builder's stream and the port that publishes it."""

    builder_url: str = f"ws://127.0.0.1:{default_ports.BUILDER_STREAM}"
    listen: ListenAddress = ListenAddress("127.0.0.1", 1112)
    initial_reconnect_ms: int = 10
    max_reconnect_ms: int = 5000
    """Longest pause before another attempt, and how long a connection must hold to count as stable."""

    connect_timeout_ms: int = 5000
    ping_interval_ms: int = 500
    pong_timeout_ms: int = 1500

    def __post_init__(self) -> None:
        check_stream_url(self.builder_url, "--flashblocks-builder-url")
        for name in (
            "initial_reconnect",
            "max_reconnect",
            "connect_timeout",
            "ping_interval",
            "pong_timeout",
        ):
            if getattr(self, f"{name}_ms") <= 0:
                flag = f"--flashblock-builder-ws-{name.replace('_', '-')}-ms"
                raise UsageError(f"{flag} must be above 0")


@dataclass(frozen=True, slots=True)
class SelectionConfig:
    """Whose payload becomes the block."""

    execution_mode: ExecutionMode = ExecutionMode.ENABLED
    policy: SelectionPolicy = SelectionPolicy.BUILDER
    external_state_root: bool = False
    ignore_unhealthy_builders: bool = False
    max_exclusion_blocks: int | None = None
    """Blocks in a row that may lack a transaction of the fallback's before it builds one alone; None: any."""


@dataclass(frozen=True, slots=True)
class HealthConfig:
    """When a side counts as ill."""

    check_interval_s: float = 60.0
    max_unsafe_interval_s: float = 10.0
    """Age of the unsafe head after which a side is behind."""


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """The ports besides the stream's."""

    rpc: ListenAddress = ListenAddress("127.0.0.1", 8081)
    """Where the consensus client connects."""
    jwt_secret: jwt.JwtSecret | None = None
    """Required of the consensus client; None requires no token, as in rollup-boost."""
    debug: ListenAddress = ListenAddress("127.0.0.1", 5555)
    metrics: ListenAddress | None = None
    """A port for the status pages alone; they are on the port of `rpc` in any case."""


@dataclass(frozen=True, slots=True)
class BoostConfig:
    """The settings of `flashctl boost`."""

    builder: EngineUpstream
    fallback: EngineUpstream
    flashblocks: FlashblocksConfig | None = field(default_factory=FlashblocksConfig)
    """None: flashblocks are neither subscribed to nor published."""
    selection: SelectionConfig = SelectionConfig()
    health: HealthConfig = HealthConfig()
    server: ServerConfig = ServerConfig()
    decisions: Path | None = None
    """Where the record of every payload's choice is written."""
