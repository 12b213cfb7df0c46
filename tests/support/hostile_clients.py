"""Clients that mean no good, all at once, against a running devnet; one process, at nice 19 if not told.

    python -m support.hostile_clients --rpc URL --builder URL --engine URL --jwt FILE --stream URL

Each attack is a coroutine that goes on until the end, whatever it is answered.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import orjson

from flashctl.chain.devnet_accounts import DEVNET_ACCOUNTS
from flashctl.core.engine.client import EngineClient
from flashctl.core.engine.jwt import load_secret
from flashctl.core.engine.payloads import ForkchoiceState
from flashctl.core.service.workers.priority import leave_session, lower_priority
from flashctl.errors import FlashctlError
from flashctl.eth.hexdata import parse_hex, to_hex
from flashctl.eth.signatures import sign_transaction
from flashctl.eth.transactions import FeeMarketTx, encode_transaction

__all__ = ["ATTACKS", "Target"]

GWEI = 10**9
ENDLESS_LOOP = "0x5b5f56"
"""JUMPDEST PUSH0 JUMP: as init code of a call, gas is all that ends it."""
HASHING = "0x620f42405f525b60405f60d5601c60095afa50600656"
"""Calls BLAKE2F with a million rounds, again and again: memory 28..31 holds the number."""
BIG_ANSWER = "0x621000005ff3"
"""PUSH3 0x100000 PUSH0 RETURN: a megabyte of zeros."""
HEAVY_GAS = 16_000_000
CHAIN_ID = 901


@dataclass(frozen=True)
class Target:
    """Where the devnet listens."""

    rpc: str
    builder: str
    engine: str
    jwt: str
    stream: str

    @property
    def ports(self) -> tuple[str, str]:
        """Where anybody may ask."""
        return self.rpc, self.builder


def request(method: str, *params: Any, identity: int = 1) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": identity, "method": method, "params": params}


def signed(account: int, nonce: int, **changes: Any) -> str:
    fields: dict[str, Any] = {
        "chain_id": CHAIN_ID, "nonce": nonce, "max_priority_fee_per_gas": GWEI,
        "max_fee_per_gas": 100 * GWEI, "gas_limit": 21_000, "to": b"\x77" * 20, "value": 1, "data": b"",
        "access_list": (), "y_parity": 0, "r": 0, "s": 0,
    }  # fmt: skip
    unsigned = FeeMarketTx(**(fields | changes))
    return to_hex(encode_transaction(sign_transaction(unsigned, DEVNET_ACCOUNTS[account].secret)))


async def post(client: httpx.AsyncClient, url: str, body: Any) -> Any:
    """The answer, or None for whatever else happens."""
    with contextlib.suppress(httpx.HTTPError, orjson.JSONDecodeError):
        reply = await client.post(
            url, content=orjson.dumps(body), headers={"content-type": "application/json"}
        )
        return orjson.loads(reply.content)
    return None


async def large_batches(target: Target) -> None:
    """A thousand raw transactions in one request, most of them known, again and again."""
    raws = [signed(8, 10_000 + nonce) for nonce in range(1000)]
    batch = [request("eth_sendRawTransaction", raw, identity=at) for at, raw in enumerate(raws)]
    async with httpx.AsyncClient(timeout=60) as client:
        while True:
            await asyncio.gather(*(post(client, url, batch) for url in target.ports))
            await asyncio.sleep(0.5)


async def heavy_calls(target: Target) -> None:
    """Eight callers of 50 Mgas loops on each port, half of them of a hash with a free number of rounds."""

    async def caller(url: str, code: str) -> None:
        async with httpx.AsyncClient(timeout=60) as client:
            call = {"data": code, "gas": hex(50_000_000)}
            while True:
                await post(client, url, request("eth_call", call, "pending"))
                await asyncio.sleep(0.01)

    await asyncio.gather(*(caller(url, code) for url in target.ports for code in (ENDLESS_LOOP, HASHING) * 4))


async def nonce_gaps(target: Target) -> None:
    """Ten thousand transactions that wait for one that never comes."""
    async with httpx.AsyncClient(timeout=60) as client:
        while True:
            for account in range(8):
                raws = [signed(account, 1_000 + nonce) for nonce in range(1000)]
                await post(client, target.builder, [request("eth_sendRawTransaction", raw) for raw in raws])
                await asyncio.sleep(0.2)


async def heavy_transactions(target: Target) -> None:
    """Creations of 16 Mgas that loop until their gas is gone, each dearer than anything else."""
    async with httpx.AsyncClient(timeout=60) as client:
        address = DEVNET_ACCOUNTS[9].address
        while True:
            answer = await post(
                client, target.builder, request("eth_getTransactionCount", to_hex(address), "pending")
            )
            nonce = int(answer["result"], 16) if answer and "result" in answer else 0
            for code in (ENDLESS_LOOP, HASHING):
                raw = signed(
                    9, nonce, to=None, data=parse_hex(code), gas_limit=HEAVY_GAS,
                    max_priority_fee_per_gas=50 * GWEI,
                )  # fmt: skip
                await post(client, target.builder, request("eth_sendRawTransaction", raw))
                nonce += 1
            # A third of what three executions of them (builder, fallback, overlay) can do on two cores.
            await asyncio.sleep(2.0)


async def deep_forkchoice(target: Target) -> None:
    """The builder is told that the chain ends at its beginning; the sequencer's next call tells it better."""
    async with httpx.AsyncClient(timeout=10) as client:
        answer = await post(client, target.builder, request("eth_getBlockByNumber", "0x0", False))
    genesis = parse_hex(answer["result"]["hash"])
    engine = EngineClient(target.engine, jwt_secret=load_secret(Path(target.jwt)), timeout_s=30)
    while True:
        await asyncio.sleep(12)
        with contextlib.suppress(FlashctlError):
            await engine.forkchoice_updated(ForkchoiceState(genesis, bytes(32), bytes(32)))


async def readers_that_do_not_read(target: Target) -> None:
    """Sixty connections a port that ask for a megabyte each time, and never look at it."""

    async def reader(url: str) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        call = orjson.dumps(request("eth_call", {"data": BIG_ANSWER, "gas": hex(10_000_000)}, "latest"))
        head = f"POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(call)}"
        while True:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                stream, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=2**12)
                for _ in range(20):
                    writer.write(head.encode() + b"\r\n\r\n" + call)
                    await asyncio.sleep(0.2)
                await asyncio.sleep(20)
                writer.transport.abort()
                del stream

    await asyncio.gather(*(reader(url) for url in target.ports for _ in range(60)))


async def subscribers_that_do_not_read(target: Target) -> None:
    """Subscribers of the stream whose sockets fill."""
    parts = urlsplit(target.stream)
    handshake = (
        f"GET {parts.path or '/'} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )

    async def subscriber() -> None:
        while True:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=2**10)
                writer.write(handshake.encode())
                await asyncio.sleep(20)
                writer.transport.abort()

    await asyncio.gather(*(subscriber() for _ in range(50)))


ATTACKS: dict[str, Callable[[Target], Awaitable[None]]] = {
    "large-batches": large_batches,
    "heavy-calls": heavy_calls,
    "nonce-gaps": nonce_gaps,
    "heavy-transactions": heavy_transactions,
    "deep-forkchoice": deep_forkchoice,
    "unread-answers": readers_that_do_not_read,
    "unread-stream": subscribers_that_do_not_read,
}


async def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    for name in ("rpc", "builder", "engine", "jwt", "stream"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--only", choices=ATTACKS, action="append", help="this attack; may be repeated")
    parser.add_argument("--nice", type=int, default=19, help="with 0 they get as much as every service")
    options = parser.parse_args()
    leave_session()
    lower_priority(options.nice, options.nice)
    target = Target(options.rpc, options.builder, options.engine, options.jwt, options.stream)
    tasks = [asyncio.ensure_future(ATTACKS[name](target)) for name in options.only or ATTACKS]
    _, pending = await asyncio.wait(tasks, timeout=options.seconds, return_when=asyncio.FIRST_EXCEPTION)
    for task in pending:
        task.cancel()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(result, Exception):
            raise result


if __name__ == "__main__":
    asyncio.run(_main())
