"""What every listener of flashctl says when it may not listen: HTTP, WebSocket and status page alike."""

from __future__ import annotations

import os
import socket

from flashctl.errors import FlashctlError

__all__ = ["ListenFailed"]


class ListenFailed(FlashctlError):
    """An address to listen on is taken, or is not ours; a service then ends with 1 before it begins."""

    def __init__(self, host: str, port: int, error: Exception) -> None:
        self.host = host
        self.port = port
        shown = f"[{host}]" if ":" in host else host
        super().__init__(
            f"cannot listen on {shown}:{port}: {_reason(error)}",
            hint="stop the other process, or choose another address or port (0 = any)",
        )


def _reason(error: Exception) -> str:
    """The system's own words: event loops wrap them in the address and in words of theirs."""
    match error:
        case socket.gaierror():
            # Its numbers are not those of errno.
            return error.strerror or str(error)
        case OSError(errno=int(number)) if number > 0:
            return os.strerror(number).lower()
        case _:
            return str(error)
