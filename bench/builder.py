"""How many transactions a second a devnet seals, measured from outside, with anvil beside it.

    python bench/builder.py --rates 500,1000,2000,8000 [--batch 100] [--through rpc] [--seconds 20]
    python bench/builder.py --anvil --rates 8000 --batch 100

Pre-signed ERC-20 transfers of 2,000 accounts go through eth_sendRawTransaction, singly over 16 connections or
in batches, at the offered rate. A process of its own follows the stream. A row a rate:

    sealed/s      transfers of canonical blocks, from the first send to the last such block
    refused       by the mempool; lost: streamed, but in no canonical block (a broken preconfirmation)
    p50, p99      from the send of a transfer to the flashblock that holds it, as a subscriber receives it
    fb late       flashblocks from index 1 that came over 20 ms after their tick, of how many
    idx 0         index 0 after the start of the slot, p50
    fill          the largest share of the block's gas limit and of its DA footprint, median of full slots

The peer is anvil with one block a second from the same genesis (`--anvil`); blocks are all it has, so its
latency is that of eth_getBlockByNumber. Load, roles and observer share the machine: what is measured is the
whole of them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from flashctl.chain.genesis import DEVNET_CHAIN_ID, devnet_genesis
from flashctl.core.flashblocks.client import StreamFrame, subscribe
from flashctl.core.flashblocks.wire import decode
from flashctl.core.jsonrpc.client import JsonRpcClient
from flashctl.core.jsonrpc.errors import RpcError
from flashctl.eth.hexdata import to_hex
from flashctl.eth.keccak import keccak256
from flashctl.eth.signatures import address_of_secret, sign_transaction
from flashctl.eth.transactions import FeeMarketTx, encode_transaction

ROOT = Path(__file__).resolve().parent.parent
TOKEN = "0x0000000000000000000000000000000000070000"
SENDERS = 2_000
CONNECTIONS = 16
SLOT_S = 2
INTERVAL_S = 0.2
LATE_S = 0.02
DRAIN_S = 6.0
"""After the last send: two slots and a little."""

Seen = dict[bytes, float]


def genesis(gas_limit: int, secrets: list[bytes]) -> dict[str, Any]:
    """The devnet's, with funded senders and a token that they hold."""
    made = devnet_genesis(timestamp=int(time.time()), gas_limit=gas_limit)
    token = json.loads((ROOT / "bench/contracts/Token.json").read_text())["deployedBytecode"]
    addresses = [address_of_secret(secret) for secret in secrets]
    slots = (keccak256(address.rjust(32, b"\0") + bytes(32)) for address in addresses)
    storage = {to_hex(slot): "0x" + f"{10**24:064x}" for slot in slots}
    made["alloc"][TOKEN[2:]] = {"balance": "0x0", "nonce": "0x1", "code": token, "storage": storage}
    for address in addresses:
        made["alloc"][address.hex()] = {"balance": hex(10**24)}
    return made


def transfers(secrets: list[bytes], count: int) -> list[bytes]:
    """Signed transfers, the senders in turn, each its nonces in order."""
    source = random.Random(1)
    addresses = [address_of_secret(secret) for secret in secrets]
    made = []
    for number in range(count):
        nonce, which = divmod(number, len(secrets))
        data = (
            bytes.fromhex("a9059cbb")
            + source.choice(addresses).rjust(32, b"\0")
            + (10**15).to_bytes(32, "big")
        )
        unsigned = FeeMarketTx(
            DEVNET_CHAIN_ID, nonce, 10**6, 10**12, 80_000, bytes.fromhex(TOKEN[2:]), 0, data, (), 0, 0, 0
        )  # fmt: skip
        made.append(encode_transaction(sign_transaction(unsigned, secrets[which])))
    return made


@dataclass
class Stream:
    """What the observer saw."""

    seen: Seen = field(default_factory=dict)
    """Transaction hash to the wall clock of its flashblock."""
    late: list[float] = field(default_factory=list)
    """Seconds after its tick, of each flashblock from index 1."""
    index_0: list[float] = field(default_factory=list)
    """Seconds after the slot's start, of each index 0."""


def observe(url: str, pipe: Connection) -> None:
    """Follow a stream until told to stop; in a process of its own."""
    stream = Stream()

    async def follow() -> None:
        timestamp = 0
        async for item in subscribe(url):
            if not isinstance(item, StreamFrame):
                continue
            now = item.received_ns / 1e9
            flashblock = decode(item.data, binary=item.binary)
            if flashblock.base is not None:
                timestamp = flashblock.base.timestamp
                stream.index_0.append(now - (timestamp - SLOT_S))
            elif timestamp:
                # Ticks lie a multiple of the interval before the timestamp, the last one less its end buffer.
                before = timestamp - now
                stream.late.append(min((-before) % INTERVAL_S, abs(before - 0.1)))
            for raw in flashblock.diff.transactions:
                stream.seen.setdefault(keccak256(raw), now)

    async def run() -> None:
        task = asyncio.create_task(follow())
        await asyncio.to_thread(pipe.recv)
        task.cancel()

    asyncio.run(run())
    pipe.send(stream)


async def send(url: str, raws: list[bytes], rate: float, batch: int) -> tuple[Seen, int, float]:
    """Offer transactions at a rate; when each was sent, how many were refused, how long it took."""
    clients = [JsonRpcClient(url, timeout_s=30) for _ in range(CONNECTIONS)]
    sent: Seen = {}
    refused = 0
    pieces: Iterator[list[bytes]] = (raws[at : at + batch] for at in range(0, len(raws), batch))
    begun = time.time()
    offered = 0

    async def worker(client: JsonRpcClient) -> None:
        nonlocal refused, offered
        for piece in pieces:
            due = begun + offered / rate
            offered += len(piece)
            await asyncio.sleep(max(0.0, due - time.time()))
            now = time.time()
            for raw in piece:
                sent[keccak256(raw)] = now
            try:
                if batch == 1:
                    await client.call("eth_sendRawTransaction", [to_hex(piece[0])])
                else:
                    calls = [("eth_sendRawTransaction", [to_hex(raw)]) for raw in piece]
                    answers = await client.batch(calls)
                    refused += sum(isinstance(answer, RpcError) for answer in answers)
            except RpcError:
                refused += 1

    await asyncio.gather(*(worker(client) for client in clients))
    seconds = time.time() - begun
    for client in clients:
        await client.close()
    return sent, refused, seconds


async def canonical(url: str, since: int) -> tuple[dict[str, int], list[dict[str, Any]]]:
    """Transactions of the blocks after `since`, by hash, and the blocks."""
    client = JsonRpcClient(url, timeout_s=30)
    last = int(await client.call("eth_blockNumber", []), 16)
    numbers = range(since + 1, last + 1)
    blocks = [await client.call("eth_getBlockByNumber", [hex(number), False]) for number in numbers]
    await client.close()
    return {tx: int(block["timestamp"], 16) for block in blocks for tx in block["transactions"]}, blocks


def fill(blocks: list[dict[str, Any]]) -> float:
    """The binding share of gas limit or DA footprint, median of blocks with transfers."""
    shares = []
    for block in blocks:
        used = max(int(block["gasUsed"], 16), int(block.get("blobGasUsed") or "0x0", 16))
        if len(block["transactions"]) > 1:
            shares.append(used / int(block["gasLimit"], 16))
    return median(shares) if shares else 0.0


def quantile(values: list[float], share: int) -> float:
    return quantiles(values, n=100)[share - 1] if len(values) > 1 else 0.0


async def measure(urls: dict[str, str], raws: list[bytes], rate: float, options: argparse.Namespace) -> str:
    """One row."""
    client = JsonRpcClient(urls["sealed"])
    since = int(await client.call("eth_blockNumber", []), 16)
    await client.close()
    ours, theirs = multiprocessing.Pipe()
    observer = None
    if "stream" in urls:
        observer = multiprocessing.Process(target=observe, args=(urls["stream"], theirs), daemon=True)
        observer.start()
        await asyncio.sleep(1.0)
    sent, refused, seconds = await send(urls["send"], raws, rate, options.batch)
    await asyncio.sleep(DRAIN_S)
    sealed, blocks = await canonical(urls["sealed"], since)
    stream = Stream()
    if observer is not None:
        ours.send(None)
        stream = await asyncio.to_thread(ours.recv)
        observer.join(10)
    held = [tx for tx in sent if to_hex(tx) in sealed]
    lost = sum(tx in stream.seen and to_hex(tx) not in sealed for tx in sent)
    waits = [stream.seen[tx] - at for tx, at in sent.items() if tx in stream.seen]
    if observer is None:
        waits = [sealed[to_hex(tx)] - sent[tx] for tx in held]
    late = sum(value > LATE_S for value in stream.late)
    last = max((sealed[to_hex(tx)] for tx in held), default=0)
    sealed_per_s = len(held) / max(1.0, last - min(sent.values()))
    return (
        f"{rate:>7.0f} {len(sent) / seconds:>8.0f} {sealed_per_s:>8.0f} {refused:>8} {lost:>6}"
        f" {quantile(waits, 50) * 1e3:>7.0f} {quantile(waits, 99) * 1e3:>7.0f}"
        f" {late:>4}/{len(stream.late):<5} {quantile(stream.index_0, 50) * 1e3:>7.0f} {fill(blocks):>6.0%}"
    )


def started(
    options: argparse.Namespace, folder: Path, secrets: list[bytes]
) -> tuple[subprocess.Popen[str], dict[str, str]]:
    """A devnet, or anvil, and where to send, watch and ask."""
    path = folder / "genesis.json"
    path.write_text(json.dumps(genesis(options.gas_limit, secrets)))
    if options.anvil:
        url = "http://127.0.0.1:18545"
        command = [
            str(ROOT / "node_modules/.bin/anvil"),
            *("--init", str(path), "--block-time", "1", "--port", "18545", "--silent"),
            *("--chain-id", str(DEVNET_CHAIN_ID), "--gas-limit", str(options.gas_limit)),
        ]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, text=True)
        time.sleep(4)
        return process, {"send": url, "sealed": url}
    command = [sys.executable, "-m", "flashctl", "devnet", "--json", "--any-ports", "--genesis", str(path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=sys.stderr, text=True)
    assert process.stdout is not None
    endpoints = json.loads(process.stdout.readline())["endpoints"]
    return process, {
        "send": endpoints[options.through],
        "stream": endpoints["builder_stream"],
        "sealed": endpoints["fallback"],
    }


def main() -> None:
    """Start a fresh chain for each rate and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rates", default="500,1000,2000")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--through", choices=("builder", "rpc"), default="builder")
    parser.add_argument("--gas-limit", type=int, default=1_000_000_000)
    parser.add_argument("--anvil", action="store_true")
    options = parser.parse_args()
    secrets = [keccak256(b"bench/builder" + number.to_bytes(4, "big")) for number in range(SENDERS)]
    rates = [float(rate) for rate in options.rates.split(",")]
    raws = transfers(secrets, int(max(rates) * options.seconds))
    print(
        f"{'offered':>7} {'sent/s':>8} {'sealed/s':>8} {'refused':>8} {'lost':>6} {'p50 ms':>7} {'p99 ms':>7}"
        f" {'fb late':>10} {'idx 0':>7} {'fill':>6}"
    )
    for rate in rates:
        with tempfile.TemporaryDirectory() as folder:
            process, urls = started(options, Path(folder), secrets)
            try:
                some = raws[: int(rate * options.seconds)]
                print(asyncio.run(measure(urls, some, rate, options)), flush=True)
            finally:
                process.terminate()
                process.wait(20)


if __name__ == "__main__":
    main()
