"""Who was told that a transaction is in sees it in every later call, on whichever worker that runs."""

from __future__ import annotations

import asyncio
import secrets

import pytest
from support.devnet import Devnet, devnet

from flashctl.chain.devnet_accounts import DEVNET_ACCOUNTS
from flashctl.core.jsonrpc.client import JsonRpcClient
from flashctl.eth.hexdata import to_hex
from flashctl.eth.signatures import address_of_secret, sign_transaction
from flashctl.eth.transactions import FeeMarketTx, encode_transaction

SENDERS = 8
ROUNDS = 8
VIEWER = "0x" + "55" * 20


def payment(running: Devnet, sender: int, nonce: int, to: bytes) -> str:
    return signed(running, DEVNET_ACCOUNTS[sender].secret, nonce, to, 1)


def signed(running: Devnet, secret: bytes, nonce: int, to: bytes, value: int) -> str:
    chain_id = running.ready["chain_id"]
    tx = FeeMarketTx(chain_id, nonce, 10**9, 10**11, 21_000, to, value, b"", (), 0, 0, 0)
    return to_hex(encode_transaction(sign_transaction(tx, secret)))


async def sends_and_looks(running: Devnet, url: str, sender: int, rounds: int) -> int:
    """Pay, wait for the receipt, ask for the balance in a call, over and over; how often that was right."""
    client = JsonRpcClient(url, timeout_s=60.0)
    to = bytes([0xAB, sender]) * 10
    # PUSH20 to; BALANCE; PUSH0; MSTORE; PUSH1 32; PUSH0; RETURN
    code = "0x73" + to.hex() + "315f5260205ff3"
    try:
        for nonce in range(rounds):
            receipt = await client.call(
                "eth_sendRawTransactionSync", [payment(running, sender, nonce, to)], timeout_s=60.0
            )
            assert receipt["status"] == "0x1"
            for _ in range(2):
                shown = await client.call("eth_call", [{"to": VIEWER}, "pending", {VIEWER: {"code": code}}])
                assert int(shown, 16) == nonce + 1, (sender, nonce)
    finally:
        await client.close()
    return 2 * rounds


@pytest.mark.parametrize("name", ["rpc", "builder"])
def test_a_call_after_a_receipt_sees_the_transaction(name: str) -> None:
    async def body() -> None:
        with devnet("--workers", "2") as running:
            senders = (
                sends_and_looks(running, running.url(name), sender, ROUNDS) for sender in range(SENDERS)
            )
            assert sum(await asyncio.gather(*senders)) == 2 * ROUNDS * SENDERS

    asyncio.run(body())


@pytest.mark.parametrize("name", ["rpc", "builder"])
def test_what_was_just_received_can_be_spent_at_once(name: str) -> None:
    """From account to account, each of them new, faster than blocks are sealed."""

    async def body() -> None:
        with devnet() as running:
            client = JsonRpcClient(running.url(name), timeout_s=60.0)
            payer, nonce = DEVNET_ACCOUNTS[0].secret, 0
            for step in range(6):
                secret = secrets.token_bytes(32)
                raw = signed(running, payer, nonce, address_of_secret(secret), 10**18 >> step)
                receipt = await client.call("eth_sendRawTransactionSync", [raw], timeout_s=60.0)
                assert receipt["status"] == "0x1"
                payer = secret
            await client.close()

    asyncio.run(body())
