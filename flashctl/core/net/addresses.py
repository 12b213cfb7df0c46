"""Where a server listens, as people write it: HOST:PORT, nothing shorter."""

from __future__ import annotations

from dataclasses import dataclass

from flashctl.errors import UsageError

__all__ = ["ListenAddress"]


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """An address of this machine and a TCP port; port 0 takes any free one."""

    host: str
    port: int

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65_535:
            raise UsageError(f"{self.port} is not a TCP port")

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, text: str, flag: str) -> ListenAddress:
        """That of `127.0.0.1:9000`, `name:9000` or `[::1]:9000`.

        A port alone is refused: half of the world reads `:9000` as every interface, the other half as this
        machine.

        Raises:
            UsageError: If it is anything else, naming `flag`.
        """
        host, colon, port = text.rpartition(":")
        is_bracketed = host.startswith("[") and host.endswith("]")
        if is_bracketed:
            host = host[1:-1]
        digits = port.isascii() and port.isdigit() and len(port) <= 5
        sound = (
            bool(host) and not any(c.isspace() or c in "[]/@" for c in host) and is_bracketed == (":" in host)
        )
        if not colon or not digits or int(port) > 65_535 or not sound:
            raise UsageError(
                f"{flag}: {text!r} is not HOST:PORT",
                hint="127.0.0.1:9000 for this machine, 0.0.0.0:9000 or [::]:9000 for all; port 0 takes any",
            )
        return cls(host, int(port))
