"""Addresses to listen on, as people write them: HOST:PORT, nothing shorter."""

from __future__ import annotations

from flashctl.errors import UsageError

__all__ = ["parse_host_port"]


def parse_host_port(text: str, flag: str) -> tuple[str, int]:
    """Host and port of `127.0.0.1:9000`, `name:9000` or `[::1]:9000`.

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
    sound = bool(host) and not any(c.isspace() or c in "[]/@" for c in host) and is_bracketed == (":" in host)
    if not colon or not digits or int(port) > 65_535 or not sound:
        raise UsageError(
            f"{flag}: {text!r} is not HOST:PORT",
            hint="127.0.0.1:9000 for this machine, 0.0.0.0:9000 or [::]:9000 for all; port 0 takes any",
        )
    return host, int(port)
