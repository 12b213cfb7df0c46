"""The /status page of a running proxy, and `flashctl proxy status` that reads it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from flashctl import __version__
from flashctl.core.net.system_reason import system_reason
from flashctl.errors import ExitCode, ProtocolError, UnavailableError

if TYPE_CHECKING:
    from flashctl.proxy.parts import ProxyParts

__all__ = ["fetch_status", "show_status", "status_of"]


def status_of(proxy: ProxyParts) -> dict[str, Any]:
    """The current state as one JSON object; ages in seconds, None for events that have not happened."""
    now = time.monotonic()
    stats, relay, access = proxy.hub.stats, proxy.relay.stats, proxy.access
    last = proxy.relay.last
    return {
        "version": __version__,
        "uptime_s": round(now - proxy.started_at, 1),
        "ready": proxy.fresh(),
        "upstreams": [
            {
                "url": upstream.name,
                "connected": upstream.connected,
                "messages": relay.by_upstream[upstream.name],
                "first": relay.won[upstream.name],
                "last_message_age_s": _age(now, upstream.last_message_at),
                "reconnects": max(0, upstream.stats.successes - 1),
                "trouble": upstream.trouble or None,
            }
            for upstream in proxy.upstreams.all
        ],
        "bus": _bus(proxy, now),
        "stream": {
            "payload_id": last.payload_id if last else None,
            "index": last.index if last else None,
            "block_number": last.block_number if last else None,
            "last_message_age_s": _age(now, relay.last_message_at),
            "forwarded": relay.forwarded,
            "unplaced": relay.unplaced,
            "dropped": dict(relay.dropped),
            "breaches": dict(proxy.relay.validator.breaches),
        },
        "clients": {
            "connected": stats.subscribers,
            "behind": proxy.hub.behind,
            "total": stats.subscribers_total,
            "delivered": stats.deliveries,
            "ended": dict(stats.ended),
            "by_app": dict(access.counts.by_app),
        },
        "limits": {
            "instance": access.limits.instance,
            "per_ip": access.limits.per_address,
            "keys": len(access.keys),
        },
        "ring": {"messages": len(proxy.hub.ring), "bytes": proxy.hub.ring.size},
    }


def _bus(proxy: ProxyParts, now: float) -> dict[str, Any] | None:
    bus = proxy.bus
    if bus is None:
        return None
    limits = proxy.shared_limits
    return {
        "url": bus.name,
        "connected": bus.connected,
        "last_message_age_s": _age(now, bus.last_message_at),
        "written": bus.written,
        "given_up": bus.given_up,
        "skipped": bus.skipped,
        "limits_shared": limits is not None and not limits.failing,
        "trouble": bus.trouble or None,
    }


def _age(now: float, then: float | None) -> float | None:
    return None if then is None else round(now - then, 3)


def fetch_status(url: str, timeout_s: float = 5.0) -> dict[str, Any]:
    """The status of the proxy whose metrics port is at `url`, or at HOST:PORT as `--metrics-addr` states it.

    Raises:
        UsageError: If it is no URL.
        UnavailableError: If nothing answers.
        ProtocolError: If the answer is not a proxy's.
    """
    import httpx

    from flashctl.core.net.endpoint import Endpoint

    endpoint = Endpoint.parse(url)
    try:
        reply = httpx.get(f"{endpoint.url.rstrip('/')}/status", timeout=timeout_s)
    except httpx.HTTPError as error:
        raise UnavailableError(
            f"{endpoint.shown}: {system_reason(error)}", hint="is it the address of --metrics-addr?"
        ) from None
    try:
        content = reply.json()
    except ValueError:
        content = None
    if reply.status_code != 200 or not isinstance(content, dict):
        raise ProtocolError(f"{endpoint.shown} is not the status port of a proxy: HTTP {reply.status_code}")
    return content


def show_status(url: str, *, as_json: bool) -> ExitCode:
    """Print the status; exit code 1 when the proxy is not ready."""
    from flashctl.core.output import Output, escape

    status = fetch_status(url)
    out = Output()
    if as_json:
        out.json(status)
        return ExitCode.OK if status["ready"] else ExitCode.FAILED
    stream, clients = status["stream"], status["clients"]
    out.line(f"ready      {'yes' if status['ready'] else 'no'}, up {status['uptime_s']:.0f} s")
    for upstream in status["upstreams"]:
        state = "connected" if upstream["connected"] else f"down: {upstream['trouble'] or 'never connected'}"
        out.line(f"upstream   {escape(upstream['url'])}  {escape(state)}  first with {upstream['first']}")
    if stream["block_number"] is not None:
        age = stream["last_message_age_s"]
        out.line(f"stream     block {stream['block_number']} index {stream['index']}, {age:.1f} s ago")
    out.line(
        f"clients    {clients['connected']} connected, {clients['behind']} behind, {clients['total']} ever"
    )
    return ExitCode.OK if status["ready"] else ExitCode.FAILED
