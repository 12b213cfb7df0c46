"""Admission of clients to the stream: routes, API keys, limits, filters.

    /ws                     the stream; a key by header or bearer token where keys are required
    /ws/{key}               the stream with the key in the path
    /ws/filter, /ws/{key}/filter    the same, filtered by the query

Checks run in the order route (404), handshake (400, 405, 426), key (401, 403), query (400), limits (429), so
that nothing is counted for a request that cannot be served.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from flashctl.core.hub import Admission, Encoding, HttpResponse, UpgradeRequest
from flashctl.proxy.client_addresses import ClientAddresses
from flashctl.proxy.connection_limits import (
    ConnectionCounts,
    ConnectionLimits,
    ConnectionRefused,
    ConnectionTicket,
    Limit,
)
from flashctl.proxy.keys import ApiKey, ApiKeys, presented_key
from flashctl.proxy.stream_filters import StreamFilter, parse_filter

__all__ = ["AccessControl", "AccessStats", "Route", "SharedLimits", "route_of"]

_LOG = logging.getLogger(__name__)

RETRY_AFTER_S = {Limit.INSTANCE: 5, Limit.ADDRESS: 30, Limit.KEY: 30, Limit.BUS: 2}
"""Seconds: an instance frees slots as clients leave, an address or a key only by its own disconnects."""

_LIMIT_NAMES = {
    Limit.INSTANCE: "instance",
    Limit.ADDRESS: "per_ip",
    Limit.KEY: "per_key",
    Limit.BUS: "shared",
}


class SharedLimits(Protocol):
    """Limits counted across instances."""

    async def acquire(
        self, limits: ConnectionLimits, address: str, app: str | None, app_limit: int | None
    ) -> ConnectionTicket | ConnectionRefused | None:
        """As `ConnectionCounts.acquire`; None if Redis is unreachable and `--bus-fail` is open."""


@dataclass(frozen=True, slots=True)
class Route:
    """The parameters of a stream's path."""

    key: str | None
    filtered: bool


def route_of(path: str) -> Route | None:
    """The route of a path, None for an unknown path."""
    match path.split("/")[1:]:
        case ["ws"]:
            return Route(None, False)
        case ["ws", "filter"]:
            return Route(None, True)
        case ["ws", key] if key:
            return Route(key, False)
        case ["ws", key, "filter"] if key:
            return Route(key, True)
        case _:
            return None


class AccessStats:
    """Refusals by kind, and connections by app."""

    def __init__(self) -> None:
        self.unauthorized = 0
        self.refused: Counter[Limit] = Counter()
        self.by_app: Counter[str] = Counter()
        """Connections admitted since the start, by the app of their key."""


class AccessControl:
    """Admits or rejects each handshake; keys and limits may be replaced at run time."""

    def __init__(
        self,
        *,
        limits: ConnectionLimits,
        keys: ApiKeys,
        addresses: ClientAddresses,
        public: bool = False,
        default_encoding: Encoding = Encoding.RAW,
        shared: SharedLimits | None = None,
    ) -> None:
        self.limits = limits
        self.keys = keys
        self.addresses = addresses
        self.counts = ConnectionCounts()
        self.stats = AccessStats()
        self._public = public
        self._default_encoding = default_encoding
        self.shared = shared

    def admit(
        self, request: UpgradeRequest
    ) -> Admission | HttpResponse | Awaitable[Admission | HttpResponse]:
        """The decision on a handshake; raises InvalidRequest for a malformed query."""
        route = route_of(request.path)
        if route is None:
            return HttpResponse(404)
        if (problem := request.upgrade_problem()) is not None:
            return problem
        key = self._authorize(request, route)
        if isinstance(key, HttpResponse):
            self.stats.unauthorized += 1
            return key
        selector = parse_filter(request) if route.filtered else None
        client = self.addresses.client(request)
        group = self.addresses.group(client)
        ticket = self.counts.acquire(self.limits, group, key.app if key else None, key.limit if key else None)
        if isinstance(ticket, ConnectionRefused):
            return self._refuse(ticket, client)
        if self.shared is not None:
            return self._admit_shared(self.shared, ticket, key, selector, client, group)
        return self._welcome(ticket.release, key, selector)

    def _authorize(self, request: UpgradeRequest, route: Route) -> ApiKey | HttpResponse | None:
        """The key a request is admitted with, None where none is required, or the error response."""
        if not len(self.keys):
            return None if route.key is None else HttpResponse(404)
        presented = presented_key(request, route.key)
        if presented is None:
            if self._public:
                return None
            return HttpResponse.json(401, {"message": "API key required"}, www_authenticate="Bearer")
        key = self.keys.find(presented)
        if key is None:
            return HttpResponse.json(401, {"message": "Invalid API key"}, www_authenticate="Bearer")
        if key.limit == 0:
            return HttpResponse.json(403, {"message": "API key disabled"})
        return key

    async def _admit_shared(
        self,
        shared: SharedLimits,
        own: ConnectionTicket,
        key: ApiKey | None,
        selector: StreamFilter | None,
        client: str,
        group: str,
    ) -> Admission | HttpResponse:
        try:
            ticket = await shared.acquire(
                self.limits, group, key.app if key else None, key.limit if key else None
            )
        except BaseException:
            own.release()
            raise
        if isinstance(ticket, ConnectionRefused):
            own.release()
            return self._refuse(ticket, client)

        def release() -> None:
            own.release()
            if ticket is not None:
                ticket.release()

        return self._welcome(release, key, selector)

    def _welcome(
        self, release: Callable[[], None], key: ApiKey | None, selector: StreamFilter | None
    ) -> Admission:
        label = key.app if key else ""
        if label:
            self.stats.by_app[label] += 1
        return Admission(
            selector=selector, label=label, release=release, default_encoding=self._default_encoding
        )

    def _refuse(self, refused: ConnectionRefused, client: str) -> HttpResponse:
        self.stats.refused[refused.limit] += 1
        _LOG.debug("refused: %s", refused.limit.value, extra={"client": client})
        return HttpResponse.json(
            429,
            {
                "message": refused.limit.value,
                "limit": _LIMIT_NAMES[refused.limit],
                "allowed": refused.allowed,
            },
            retry_after=str(RETRY_AFTER_S[refused.limit]),
        )
