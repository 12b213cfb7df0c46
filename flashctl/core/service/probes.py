"""What `--check` asks of the peers that a service's settings name: are they there, are they what they are
taken for, would they accept us.

    chains = Chains()
    return run_probes(
        probe_engine("fallback", "--l2-url", url, secret, chains),
        probe_stream("builder's stream", "--flashblocks-builder-url", url),
    )

Each probe returns what it found wrong, with the fix; nothing is changed anywhere. All of them run side by
side within TOTAL_S.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Awaitable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Final

from flashctl.core.engine.client import EngineClient
from flashctl.core.engine.jwt import JwtSecret
from flashctl.core.flashblocks.client import Connected, Disconnected, StreamFrame, StreamOptions, subscribe
from flashctl.core.flashblocks.wire import InvalidFlashblock, decode
from flashctl.core.jsonrpc.errors import ErrorCode, RpcError
from flashctl.core.jsonrpc.low_rate import LowRateClient
from flashctl.core.net.addresses import ListenAddress
from flashctl.core.net.listening import refused_ports
from flashctl.core.net.upstream_errors import InvalidAnswer, RefusedCredentials
from flashctl.core.net.urls import mask_url
from flashctl.core.output import escape
from flashctl.errors import ExitCode, FlashctlError, TimedOut
from flashctl.eth.hexdata import parse_quantity

__all__ = ["Chains", "Finding", "probe_engine", "probe_node", "probe_peer", "probe_stream", "run_probes"]

TOTAL_S: Final = 10.0
"""For all probes of a role together; a deployment's check step waits for it."""

CALL_S: Final = 4.0
"""For one call: two in a row fit."""

FIRST_FRAME_S: Final = 8.0
"""For a stream's first flashblock: four blocks of two seconds."""

_NEEDED_METHODS: Final = ("engine_forkchoiceUpdatedV3", "engine_getPayloadV4", "engine_newPayloadV4")
"""Of an engine since Isthmus."""

_CLOCK_WORDS: Final = re.compile(r"stale|issued|\biat\b|expired", re.IGNORECASE)
"""With which engines refuse a token for its time: ours and geth's "stale token", geth's "token used before
issued", reth's "JWT issued-at (iat) claim is not within"."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong."""

    what: str
    """The peer, and what it did."""
    fix: str
    exit_code: ExitCode


@dataclass(slots=True)
class Chains:
    """Which chain each peer is of; they must agree."""

    ids: dict[str, int] = field(default_factory=dict)
    """By the peer's name; also that of the role's own settings, where they contain it."""

    def findings(self) -> list[Finding]:
        """One if they do not."""
        if len(set(self.ids.values())) <= 1:
            return []
        text = ", ".join(f"{name} is of chain {number}" for name, number in self.ids.items())
        return [Finding(text, "all must be of one chain: correct the URL or the genesis", ExitCode.PROTOCOL)]


async def probe_engine(
    name: str, flag: str, url: str, secret: bytes | JwtSecret, chains: Chains
) -> list[Finding]:
    """Whether an execution client's engine port is there, accepts the secret, and has today's methods.

    Args:
        name: what the peer is to the role. flag: names its URL, as `--l2-url`; the secret's is made from it.
        chains: collects its chain id.
    """
    client = EngineClient(url, jwt_secret=secret, timeout_s=CALL_S)
    try:
        offered = await client.exchange_capabilities(_NEEDED_METHODS)
        chains.ids[name] = parse_quantity(await client.call("eth_chainId"))
    except FlashctlError as error:
        return [_engine_trouble(name, flag, client.url, error)]
    finally:
        await client.close()
    missing = [method for method in _NEEDED_METHODS if method not in offered]
    if missing:
        what = f"{name} {client.url} has no {', '.join(missing)}"
        return [Finding(what, "a release of it that knows Isthmus", ExitCode.PROTOCOL)]
    return []


def _engine_trouble(name: str, flag: str, shown: str, error: FlashctlError) -> Finding:
    what = _what(name, shown, error)
    wrong_port = f"{flag} must name its engine port (8551 by custom), not its JSON-RPC port"
    match error:
        case RefusedCredentials() if _CLOCK_WORDS.search(str(error)):
            fix = "the clocks of the two machines differ by a minute or more: set both (timedatectl, chronyc)"
        case RefusedCredentials():
            secret = flag.removesuffix("-url") + "-jwt-path"
            fix = f"{secret} must hold the secret that the engine was started with (--authrpc.jwtsecret)"
        case RpcError(code=ErrorCode.METHOD_NOT_FOUND) | InvalidAnswer():
            fix = wrong_port
        case _:
            return _trouble(name, flag, shown, error)
    return Finding(what, fix, error.exit_code if error.exit_code is ExitCode.AUTH else ExitCode.PROTOCOL)


async def probe_node(name: str, flag: str, url: str, chains: Chains) -> list[Finding]:
    """Whether a node answers what an overlay asks of it: batches, and state by block hash (EIP-1898)."""
    client = LowRateClient(url, timeout_s=CALL_S)
    zero = "0x" + "00" * 20
    try:
        chains.ids[name] = parse_quantity(await client.call("eth_chainId"))
        try:
            _, head = await client.batch(
                [("eth_blockNumber", []), ("eth_getBlockByNumber", ["latest", False])]
            )
        except (RpcError, InvalidAnswer) as error:
            what = f"{_what(name, client.url, error)} (a batch of two calls)"
            return [Finding(what, f"{flag} must name a node that answers batches", ExitCode.PROTOCOL)]
        block_hash = head.get("hash") if isinstance(head, dict) else None
        try:
            await client.call("eth_getBalance", [zero, {"blockHash": block_hash}])
        except RpcError as error:
            what = f"{_what(name, client.url, error)} (eth_getBalance by block hash)"
            fix = f"{flag} must name a node that answers EIP-1898, as geth and reth do"
            return [Finding(what, fix, ExitCode.PROTOCOL)]
    except FlashctlError as error:
        return [_trouble(name, flag, client.url, error)]
    finally:
        await client.close()
    return []


async def probe_peer(name: str, flag: str, url: str, chains: Chains) -> list[Finding]:
    """Whether a JSON-RPC endpoint is there, and of which chain.

    A send-only endpoint may answer nothing else: a missing chain id is no fault.
    """
    client = LowRateClient(url, timeout_s=CALL_S)
    try:
        chains.ids[name] = parse_quantity(await client.call("eth_chainId"))
    except RpcError:
        pass
    except FlashctlError as error:
        return [_trouble(name, flag, client.url, error)]
    finally:
        await client.close()
    return []


async def probe_stream(
    name: str, flag: str, url: str, options: StreamOptions | None = None, *, is_driven: bool = True
) -> list[Finding]:
    """Whether a WebSocket stream takes us, and sends flashblocks.

    Args:
        name: what the peer is to the role.
        flag: names its URL.
        url: ws:// or wss://.
        options: of the role's own subscription.
        is_driven: whether flashblocks should come already; a handshake will do otherwise.
    """
    settings = replace(
        options or StreamOptions(), reconnect=False, patient=False, direct=None, resume=None,
        may_be_silent=None, connect_timeout_s=CALL_S, silence_timeout_s=FIRST_FRAME_S,
    )  # fmt: skip
    shown, is_connected = mask_url(url), False
    try:
        async with asyncio.timeout(FIRST_FRAME_S), aclosing(subscribe(url, settings)) as items:
            async for item in items:
                match item:
                    case Connected():
                        is_connected = True
                        if not is_driven:
                            return []
                    case StreamFrame():
                        return _judge(name, flag, shown, item)
                    case Disconnected(_, reason, _):
                        break
            else:
                reason = "the connection closed"
    except TimeoutError:
        reason = f"no flashblock within {FIRST_FRAME_S:g} s" if is_connected else "no answer"
    except FlashctlError as error:
        fix = error.hint or f"correct {flag}"
        return [Finding(_what(name, shown, error), fix, error.exit_code)]
    fix = "is its builder building? flashctl watch --check URL looks closer" if is_connected else _there(flag)
    return [Finding(f"{name} {shown}: {reason}", fix, ExitCode.UNAVAILABLE)]


def _judge(name: str, flag: str, shown: str, frame: StreamFrame) -> list[Finding]:
    try:
        decode(frame.data, binary=frame.binary)
    except InvalidFlashblock as error:
        what = f"{name} {shown}: {error}"
        return [Finding(what, f"{flag} must name a stream of flashblocks", ExitCode.PROTOCOL)]
    return []


def _trouble(name: str, flag: str, shown: str, error: FlashctlError) -> Finding:
    """The finding for a failure that means the same for every peer."""
    what = _what(name, shown, error)
    match error:
        case RefusedCredentials():
            fix = error.hint or f"{flag} needs a key or user:password@ of the provider"
        case RpcError() | InvalidAnswer():
            return Finding(what, error.hint or f"{flag} must name a node's JSON-RPC port", ExitCode.PROTOCOL)
        case TimedOut():
            return Finding(what, _there(flag), ExitCode.UNAVAILABLE)
        case _:
            fix = error.hint or _there(flag)
    return Finding(what, fix, error.exit_code)


def _what(name: str, shown: str, error: FlashctlError) -> str:
    """The peer and its failure; the text of most failures begins with the URL."""
    text = str(error)
    return f"{name} {text}" if text.startswith(shown) else f"{name} {shown}: {text}"


def _there(flag: str) -> str:
    return f"start it, or correct {flag}"


def run_probes(
    *probes: Awaitable[list[Finding]],
    chains: Chains | None = None,
    ports: Iterable[ListenAddress | None] = (),
) -> ExitCode:
    """Try the ports and run all probes side by side; print a line for each finding on stderr.

    The exit code is that of the first finding, 0 without one.

    Args:
        ports: Where the role would listen; None is a port that is switched off.
    """
    findings = [Finding(str(error), error.hint or "", error.exit_code) for error in refused_ports(ports)]
    findings += asyncio.run(_all(probes))
    if chains is not None:
        findings += chains.findings()
    for finding in findings:
        print(escape(f"flashctl: error: {finding.what}; {finding.fix}"), file=sys.stderr)
    return findings[0].exit_code if findings else ExitCode.OK


async def _all(probes: Sequence[Awaitable[list[Finding]]]) -> list[Finding]:
    tasks = [asyncio.ensure_future(probe) for probe in probes]
    if not tasks:
        return []
    await asyncio.wait(tasks, timeout=TOTAL_S)
    findings: list[Finding] = []
    for task in tasks:
        if task.done():
            findings += task.result()
        else:
            task.cancel()
            what = f"a peer took more than {TOTAL_S:g} s over its answers"
            findings.append(Finding(what, "look into its log, or try again", ExitCode.UNAVAILABLE))
    await asyncio.gather(*tasks, return_exceptions=True)
    return findings
