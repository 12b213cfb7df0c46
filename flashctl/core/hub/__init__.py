"""The one fan-out of the product: builder, boost and proxy publish through it.

    framing     RFC 6455 frames: data frames out, checked client frames in
    encoding    raw, permessage-deflate, brotli, zstd: each made once per message
    ring        the recent past, for late joiners, resumption and laggards
    budget      how far behind a client may be, and what happens then
    subscriber  a client's cursor; groups of clients that are up to date
    hub         publish, flush, catch up, evict or skip
    handshake   the HTTP half: requests, refusals, negotiation
    limits      bounds on clients
    connection  one socket
    server      the listener, deadlines, pings, drain

Only connection and server own sockets; groups write to the descriptors of their members.
"""

from __future__ import annotations

from flashctl.core.hub.encoding import Encoding
from flashctl.core.hub.framing import CloseCode
from flashctl.core.hub.handshake import Admission, HttpResponse, InvalidRequest, UpgradeRequest
from flashctl.core.hub.hub import Hub, HubOptions
from flashctl.core.hub.lag_budget import LagBudget, LagPolicy
from flashctl.core.hub.limits import HubLimits
from flashctl.core.hub.ring import HubMessage, Position, Prepared, RingLimits
from flashctl.core.hub.server import HubServer, serve

__all__ = [
    "Admission",
    "CloseCode",
    "Encoding",
    "HttpResponse",
    "Hub",
    "HubLimits",
    "HubMessage",
    "HubOptions",
    "HubServer",
    "InvalidRequest",
    "LagBudget",
    "LagPolicy",
    "Position",
    "Prepared",
    "RingLimits",
    "UpgradeRequest",
    "serve",
]
