"""`flashctl watch --check`: what is wrong with an endpoint, step by step, with a fix for each failure.

TCP, TLS, the WebSocket upgrade, the first frame, its encoding, the order of frames over a few seconds, the
clock of this machine against the blocks, and whether the node beside the stream is at the same height.
Later steps are skipped once one that they need has failed.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from flashctl.core.flashblocks.client import Connected, Disconnected, StreamOptions, subscribe
from flashctl.core.jsonrpc.low_rate import LowRateClient
from flashctl.core.net.environment_proxy import EnvironmentProxy, proxy_for
from flashctl.core.net.system_reason import system_reason
from flashctl.core.net.urls import mask_url
from flashctl.core.output import Output, counted, escape
from flashctl.errors import AuthError, DataError, ExitCode, FlashctlError, UsageError
from flashctl.eth.hexdata import MAX_HEIGHT, MAX_TIMESTAMP, parse_quantity
from flashctl.watch.config import ConnectionConfig
from flashctl.watch.events import ReceivedMessage, WatchEvent
from flashctl.watch.sources import probe_node, stream_options
from flashctl.watch.stream_stats import StreamStats
from flashctl.watch.tracker import Tracker

__all__ = ["CheckStep", "check", "run_check"]

_CONNECT_S = 5.0
_FIRST_FRAME_S = 8.0
_LISTEN_S = 5.0
"""Two blocks of two seconds and a bit: every index of at least one of them."""

_SKEW_LIMIT_MS = 5_000.0


@dataclass(frozen=True, slots=True)
class CheckStep:
    """The result of one step."""

    step: str
    status: str
    """`ok`, `warn`, `fail` or `skip`."""
    text: str
    fix: str | None = None


def run_check(config: ConnectionConfig, rpc_url: str | None, *, as_json: bool, notice: str = "") -> ExitCode:
    """Check and print each step as it is done; exit code 1 if one failed.

    `notice`, which a profile has about its stream, comes first.

    Raises:
        UsageError: The URL is none.
    """
    output = Output()
    findings: list[CheckStep] = []

    async def main() -> None:
        async for finding in check(config, rpc_url, notice):
            findings.append(finding)
            if as_json:
                output.json(
                    {"step": finding.step, "status": finding.status, "text": finding.text, "fix": finding.fix}
                )
                continue
            output.line(f"{finding.status:<5} {finding.step:<10} {escape(finding.text)}")
            if finding.fix is not None:
                output.line(f"{'':<16} fix: {finding.fix}")

    asyncio.run(main())
    return ExitCode.FAILED if any(finding.status == "fail" for finding in findings) else ExitCode.OK


async def check(config: ConnectionConfig, rpc_url: str | None, notice: str = "") -> AsyncIterator[CheckStep]:
    """The steps, in order."""
    assert config.url is not None
    if notice:
        yield CheckStep("profile", "warn", notice)
    parts = urlsplit(config.url)
    if parts.scheme not in ("ws", "wss") or not parts.hostname:
        raise UsageError(
            f"{mask_url(config.url)!r} is not a ws:// or wss:// URL",
            hint="a node's http:// endpoint is checked with --rpc beside the stream",
        )
    port = parts.port or (443 if parts.scheme == "wss" else 80)
    if (proxy := proxy_for(config.url)) is not None:
        # Name resolution, TCP and TLS of the endpoint are seen by the proxy alone.
        connection = await _proxy(proxy)
        yield connection
    else:
        connection = await _tcp(parts.hostname, port)
        yield connection
        if connection.status == "ok" and parts.scheme == "wss":
            connection = await _tls(parts.hostname, port)
            yield connection
    if connection.status == "ok":
        async for finding in _stream(config):
            yield finding
    if rpc_url is not None:
        yield await _rpc(rpc_url)


async def _proxy(proxy: EnvironmentProxy) -> CheckStep:
    parts = urlsplit(proxy.url)
    try:
        host, port = parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        host = None
    if not host:
        return CheckStep("proxy", "fail", f"{proxy.shown} is not a proxy's URL", proxy.fix)
    found = await _tcp(host, port)
    return replace(found, step="proxy", text=f"{proxy.shown}: {found.text}", fix=found.fix and proxy.fix)


async def _tcp(host: str, port: int) -> CheckStep:
    started = time.monotonic()
    try:
        async with asyncio.timeout(_CONNECT_S):
            _, writer = await asyncio.open_connection(host, port)
    except TimeoutError:
        return CheckStep("tcp", "fail", f"{host}:{port} does not answer", "a firewall, or the wrong port?")
    except socket.gaierror:
        return CheckStep("tcp", "fail", f"{host}: no such host", "check the spelling, and this machine's DNS")
    except OSError as error:
        return CheckStep(
            "tcp", "fail", f"{host}:{port}: {system_reason(error)}", "is it running, on this port?"
        )
    writer.close()
    return CheckStep("tcp", "ok", f"{host}:{port} in {(time.monotonic() - started) * 1000:.0f} ms")


async def _tls(host: str, port: int) -> CheckStep:
    try:
        async with asyncio.timeout(_CONNECT_S):
            _, writer = await asyncio.open_connection(host, port, ssl=ssl.create_default_context())
    except ssl.SSLCertVerificationError as error:
        return CheckStep(
            "tls", "fail", error.verify_message, "is the host name right, and the CA known here?"
        )
    except (OSError, TimeoutError) as error:
        return CheckStep(
            "tls", "fail", system_reason(error) or "timed out", "does the port speak TLS? else use ws://"
        )
    session = writer.get_extra_info("ssl_object")
    version = session.version() if session is not None else "TLS"
    writer.close()
    return CheckStep("tls", "ok", f"{version}, certificate valid")


async def _stream(config: ConnectionConfig) -> AsyncIterator[CheckStep]:
    assert config.url is not None
    options = stream_options(config)
    stream = subscribe(config.url, StreamOptions(
        headers=options.headers, max_size=options.max_size, connect_timeout_s=_CONNECT_S,
        silence_timeout_s=_FIRST_FRAME_S, reconnect=False,
    ))  # fmt: skip
    arrivals: list[ReceivedMessage] = []
    connected_ns: int | None = None
    reason = ""
    try:
        async with asyncio.timeout(_CONNECT_S + _FIRST_FRAME_S + _LISTEN_S):
            deadline: float | None = None
            async for item in stream:
                if isinstance(item, Connected):
                    connected_ns = time.time_ns()
                    yield CheckStep("upgrade", "ok", "the WebSocket handshake succeeded")
                elif isinstance(item, Disconnected):
                    reason = item.reason
                else:
                    arrivals.append(
                        ReceivedMessage(item.data, item.binary, item.received_ns, item.monotonic_ns, item.url)
                    )
                    deadline = deadline or time.monotonic() + _LISTEN_S
                    if time.monotonic() > deadline:
                        break
    except TimeoutError:
        pass
    except AuthError as error:
        yield CheckStep("upgrade", "fail", str(error), error.hint or "give the key with -H or --api-key-file")
        return
    except FlashctlError as error:
        yield CheckStep("upgrade", "fail", str(error), error.hint)
        return
    if connected_ns is None:
        yield CheckStep("upgrade", "fail", reason or "no answer", _fix_of(reason, config.url))
        return
    async for finding in _frames(config, connected_ns, arrivals, reason):
        yield finding


def _fix_of(reason: str, url: str) -> str:
    if (proxy := proxy_for(url)) is not None and proxy.shown in reason:
        return proxy.fix
    if "429" in reason:
        return "too many connections from this address: close others, or use an endpoint of your own"
    return "is the path right? public streams end in /ws"


async def _frames(
    config: ConnectionConfig, connected_ns: int, arrivals: list[ReceivedMessage], reason: str
) -> AsyncIterator[CheckStep]:
    assert config.url is not None
    if not arrivals:
        if await probe_node(config.url, config):
            yield CheckStep(
                "frame", "fail", "the endpoint speaks JSON-RPC and sends nothing by itself",
                "it is a node, not a stream: use the stream's URL, or --source rpc",
            )  # fmt: skip
        else:
            yield CheckStep(
                "frame", "fail", reason or "connected, and nothing comes", "is the builder running?"
            )
        return
    tracker, stats = Tracker(), StreamStats()
    tracker.connected(connected_ns)
    events: list[WatchEvent] = []
    for arrival in arrivals:
        for event in tracker.feed(arrival):
            events.append(event)
            stats.add(event)
    bad = [event for event in events if event.name == "undecodable"]
    if bad:
        hint = bad[0].details.get("hint") or "is this a flashblocks stream?"
        frames = counted(len(arrivals), "frame")
        yield CheckStep("frame", "fail", f"{len(bad)} of {frames}: {bad[0].details['reason']}", hint)
    if not stats.flashblocks:
        return
    yield CheckStep(
        "frame", "ok", f"{counted(stats.flashblocks, 'flashblock')} of {counted(stats.payloads, 'payload')}"
    )
    yield _encoding(arrivals, stats)
    yield _order(stats)
    yield _clock(stats)


def _encoding(arrivals: list[ReceivedMessage], stats: StreamStats) -> CheckStep:
    compressed = sum(1 for a in arrivals if a.binary and not a.data.lstrip().startswith(b"{"))
    if not compressed:
        return CheckStep("encoding", "ok", "plain JSON")
    ratio = stats.text_bytes / stats.wire_bytes if stats.wire_bytes else 0
    return CheckStep(
        "encoding", "ok", f"compressed binary frames, ratio {ratio:.1f}; websocat cannot read these"
    )


def _order(stats: StreamStats) -> CheckStep:
    losses = {
        name: count
        for name in (
            "gap",
            "late",
            "duplicate",
            "equivocation",
            "inconsistent",
            "replaced",
            "rewound",
            "prev-mismatch",
        )
        if (count := stats.events[name])
    }
    if losses:
        listed = ", ".join(f"{count} {name}" for name, count in losses.items())
        return CheckStep(
            "order", "warn", f"{listed} in {stats.seconds:.0f} s",
            "compare with another endpoint (--compare URL) to see whose fault it is",
        )  # fmt: skip
    interval = stats.interval.report()
    pace = f", one every {interval['p50']:.0f} ms" if interval["count"] else ""
    return CheckStep("order", "ok", f"no gap, no duplicate{pace}")


def _clock(stats: StreamStats) -> CheckStep:
    report = stats.offset.report()
    if not report["count"]:
        return CheckStep("clock", "skip", "no index 0 came, so no block time is known")
    middle = report["p50"]
    if abs(middle) > _SKEW_LIMIT_MS:
        return CheckStep(
            "clock", "warn", f"flashblocks arrive {middle / 1000:+.1f} s from their block's timestamp",
            "this machine's clock is off (timedatectl), or the stream is a replay",
        )  # fmt: skip
    return CheckStep("clock", "ok", f"flashblocks arrive {middle:+.0f} ms from their block's timestamp (p50)")


async def _rpc(url: str) -> CheckStep:
    client = LowRateClient(url, timeout_s=_CONNECT_S)
    try:
        latest = await client.call("eth_getBlockByNumber", ["latest", False])
        pending = await client.call("eth_getBlockByNumber", ["pending", False])
    except FlashctlError as error:
        return CheckStep("rpc", "fail", str(error), error.hint or "is the node's HTTP endpoint right?")
    finally:
        await client.close()
    if not isinstance(latest, dict) or not isinstance(latest.get("number"), str):
        return CheckStep("rpc", "fail", "eth_getBlockByNumber latest gives no block", "is the node syncing?")
    try:
        height = parse_quantity(latest["number"], most=MAX_HEIGHT)
        age = time.time() - parse_quantity(latest.get("timestamp", "0x0"), most=MAX_TIMESTAMP)
        if isinstance(pending, dict):
            ahead = parse_quantity(pending.get("number") or "0x0", most=MAX_HEIGHT) - height
    except DataError as error:
        return CheckStep("rpc", "fail", f"eth_getBlockByNumber: {error}", "is this a node?")
    if not isinstance(pending, dict):
        return CheckStep("rpc", "warn", f"block {height}, and no pending block", "the node follows no stream")
    if age > 30:
        return CheckStep("rpc", "warn", f"block {height} is {age:.0f} s old", "the node is behind or halted")
    return CheckStep("rpc", "ok", f"block {height}, {age:.0f} s old; pending is {ahead:+d}")
