"""Bounds on the clients of a hub."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["HubLimits"]


@dataclass(frozen=True, slots=True)
class HubLimits:
    """Bounds on what clients may do and how long they may take."""

    handshake_s: float = 5.0
    """From accept to a complete request: slower is slowloris."""
    close_s: float = 1.0
    """For the answer to a close frame, before the socket is dropped."""
    max_handshakes: int = 4096
    """Connections at once that have not upgraded; the oldest goes when another comes."""
    max_handshakes_per_ip: int = 1024
    """The same for one address, so that one host cannot exhaust the total."""
    max_client_message: int = 64 << 10
    max_input_per_s: int = 256 << 10
    """Bytes a client may send a second; this stream has no use for any but pongs."""
    ping_interval_s: float = 15.0
    """0 sends no pings. On by default: load balancers cut connections idle for 30 s (optimism#17858)."""
    pong_timeout_s: float = 30.0
