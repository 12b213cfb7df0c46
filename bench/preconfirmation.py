"""How soon a user knows: from submission to a preconfirmed receipt, against the sealed block.

    python bench/preconfirmation.py [--transactions 40] [--tx-rate 0]

Starts a devnet, sends single transfers at random moments through the overlay node, and asks for the receipt
every 5 ms, as a wallet would. The peer is the same transaction's sealed block, seen through the same node.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import subprocess
import sys
import time
from statistics import median, quantiles

from flashctl.core.jsonrpc.client import JsonRpcClient
from flashctl.eth.hexdata import to_hex
from flashctl.eth.signatures import address_of_secret, sign_transaction
from flashctl.eth.transactions import FeeMarketTx, encode_transaction

POLL_S = 0.005
GIVE_UP_S = 15.0


def transfer(chain_id: int, nonce: int, secret: bytes) -> bytes:
    """A signed transfer of one wei."""
    unsigned = FeeMarketTx(
        chain_id, nonce, 10**9, 10**11, 21_000, bytes(19) + b"\x01", 1, b"", (), y_parity=0, r=0, s=0
    )
    return encode_transaction(sign_transaction(unsigned, secret))


async def until(client: JsonRpcClient, method: str, *params: object, least: int = 0) -> float:
    """The moment at which a call first answers with something (a quantity: with at least `least`)."""
    deadline = time.monotonic() + GIVE_UP_S
    while time.monotonic() < deadline:
        answer = await client.call(method, params)
        if answer is not None and (not isinstance(answer, str) or int(answer, 16) >= least):
            return time.monotonic()
        await asyncio.sleep(POLL_S)
    raise SystemExit(f"{method} did not answer within {GIVE_UP_S} s")


async def measure(ready: dict[str, object], transactions: int) -> tuple[list[float], list[float]]:
    """Milliseconds to the receipt and to the sealed block, per transaction."""
    endpoints, accounts = ready["endpoints"], ready["accounts"]
    assert isinstance(endpoints, dict) and isinstance(accounts, list)
    client, strict = JsonRpcClient(endpoints["rpc"]), JsonRpcClient(endpoints["rpc_sealed"])
    secret = bytes.fromhex(accounts[0]["private_key"][2:])
    sender = to_hex(address_of_secret(secret))
    preconfirmed, sealed = [], []
    for _ in range(transactions):
        await asyncio.sleep(random.uniform(0, 2))
        nonce = int(await client.call("eth_getTransactionCount", [sender, "pending"]), 16)
        raw = to_hex(transfer(int(str(ready["chain_id"])), nonce, secret))
        started = time.monotonic()
        tx_hash = await client.call("eth_sendRawTransaction", [raw])
        preconfirmed.append((await until(client, "eth_getTransactionReceipt", tx_hash) - started) * 1e3)
        receipt = await client.call("eth_getTransactionReceipt", [tx_hash])
        number = int(receipt["blockNumber"], 16)
        sealed.append((await until(strict, "eth_blockNumber", least=number) - started) * 1e3)
    await client.close()
    await strict.close()
    return preconfirmed, sealed


def row(name: str, samples: list[float]) -> str:
    """Median, 95th percentile and maximum of one series."""
    p95 = quantiles(samples, n=20)[-1]
    return f"{name:<14} {median(samples):>7.0f} {p95:>7.0f} {max(samples):>7.0f}"


def main() -> None:
    """Run the devnet and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--transactions", type=int, default=40)
    parser.add_argument("--tx-rate", default="0")
    options = parser.parse_args()
    command = [
        sys.executable,
        "-m",
        "flashctl",
        "devnet",
        "--json",
        "--any-ports",
        "--tx-rate",
        options.tx_rate,
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            ready = json.loads(process.stdout.readline())
            preconfirmed, sealed = asyncio.run(measure(ready, options.transactions))
        finally:
            process.terminate()
    print(f"{'ms from submission':<14} {'median':>7} {'p95':>7} {'max':>7}")
    print(row("preconfirmed", preconfirmed))
    print(row("sealed", sealed))
    print(f"sealed / preconfirmed, medians: {median(sealed) / median(preconfirmed):.1f}")


if __name__ == "__main__":
    main()
