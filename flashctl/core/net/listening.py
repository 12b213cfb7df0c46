"""Listening sockets of every port (HTTP, WebSocket, status page), and the error when one cannot be bound."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable
from typing import Any, Final

from flashctl.core.net.addresses import ListenAddress
from flashctl.core.net.system_reason import system_reason
from flashctl.errors import FlashctlError

__all__ = ["ListenFailed", "listen_arguments", "listening_sockets", "refused_ports"]

BACKLOG: Final = 2048


class ListenFailed(FlashctlError):
    """An address to listen on is in use, or not one of this machine; a service then ends with 1 before it
    begins."""

    def __init__(self, host: str, port: int, error: Exception) -> None:
        self.host = host
        self.port = port
        self.is_taken = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
        shown = f"[{host}]" if ":" in host else host
        reason = system_reason(error)
        if not isinstance(error, socket.gaierror):
            reason = reason.lower()
        match error:
            case OSError(errno=errno.EADDRINUSE):
                hint = "stop the other process, or choose another address or port (0 = any)"
            case OSError(errno=errno.EACCES):
                hint = "choose a port from 1024 on (0 = any)"
            case _:
                hint = "choose an address of this machine, such as 127.0.0.1 or 0.0.0.0"
        super().__init__(f"cannot listen on {shown}:{port}: {reason}", hint=hint)


def refused_ports(addresses: Iterable[ListenAddress | None]) -> list[ListenFailed]:
    """On which of its addresses a role could not listen; None is one that is switched off.

    Such an address is in use, by another process or by another of these, or is not one of this machine.
    """
    held: list[socket.socket] = []
    refused: list[ListenFailed] = []
    try:
        for address in addresses:
            if address is not None:
                try:
                    held += listening_sockets(address.host, address.port)
                except ListenFailed as error:
                    refused.append(error)
    finally:
        for sock in held:
            sock.close()
    return refused


def listening_sockets(host: str, port: int, *, backlog: int = BACKLOG) -> list[socket.socket]:
    """Listening, non-blocking sockets for every address of `host`, with the same port on each (0 = any).

    `::` is one socket for IPv6 and IPv4, as it is in Go's servers, whatever the system's own default.

    Raises:
        ListenFailed: If one of the addresses is in use or not one of this machine.
    """
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError, OverflowError) as error:
        raise ListenFailed(host, port, error) from None
    sockets: list[socket.socket] = []
    for family, _, _, _, address in dict.fromkeys(found):
        try:
            sock = socket.create_server(
                (address[0], port or (sockets[0].getsockname()[1] if sockets else 0)),
                family=family,
                backlog=backlog,
                dualstack_ipv6=host == "::" and socket.has_dualstack_ipv6(),
            )
        except (OSError, OverflowError) as error:
            if sockets and family == socket.AF_INET6:
                # `localhost` on a machine whose IPv6 is switched off.
                continue
            for opened in sockets:
                opened.close()
            raise ListenFailed(host, port, error) from None
        sock.setblocking(False)
        sockets.append(sock)
    return sockets


def listen_arguments(host: str, port: int, *, backlog: int = BACKLOG) -> dict[str, Any]:
    """Arguments of asyncio's `create_server` and `start_server`, so that `::` means both families; by
    themselves they make it IPv6 only.

    Raises:
        ListenFailed: If `::` cannot be bound; for other addresses asyncio raises its own error.
    """
    if host != "::":
        return {"host": host, "port": port, "backlog": backlog}
    (sock,) = listening_sockets(host, port, backlog=backlog)
    return {"sock": sock, "backlog": backlog}
