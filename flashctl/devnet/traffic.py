"""Background traffic: small transfers at a steady rate, from accounts of its own.

The senders are not the ten accounts printed for users, so that users' nonces do not change. They are funded
by the built-in genesis; on a genesis that does not fund them the run fails at once.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from itertools import cycle

from flashctl.core.jsonrpc.client import JsonRpcClient
from flashctl.core.jsonrpc.errors import RpcError
from flashctl.errors import FlashctlError, UsageError
from flashctl.eth.hexdata import parse_quantity, to_hex
from flashctl.eth.keccak import keccak256
from flashctl.eth.signatures import address_of_secret, sign_transaction
from flashctl.eth.transactions import FeeMarketTx, encode_transaction

__all__ = ["TRAFFIC_BALANCE", "Traffic", "TrafficAccount", "traffic_accounts"]

TRAFFIC_BALANCE = 10**24
"""Wei of each sender in the built-in genesis: at 50 transactions a second enough for years."""

_log = logging.getLogger(__name__)

_SENDERS = 16
"""Few enough to read in a block explorer, enough that no sender has more than 16 pending transactions, the
per-account slots of common pools, at some hundred transactions a second."""

_TICK_S = 0.05
"""Transactions go out in one batch per tick: steady within a flashblock, cheap at high rates."""

_BATCH = 500
"""Transactions of one tick at most: half of a server's batch limit. Those missed during a pause are skipped,
not sent in a burst."""

_PAUSE_S = 1.0
"""After the endpoint did not answer."""

_TRANSFER_GAS = 21_000
_TIP = 1_000_000
_MAX_FEE = 100_000_000_000


@dataclass(slots=True)
class TrafficAccount:
    """A sender and the nonce it uses next."""

    secret: bytes
    address: bytes
    nonce: int = 0


def traffic_accounts() -> list[TrafficAccount]:
    """The senders, the same in every run: their keys are hashes of their index."""
    secrets = [keccak256(b"flashctl devnet traffic" + bytes([index])) for index in range(_SENDERS)]
    return [TrafficAccount(secret, address_of_secret(secret)) for secret in secrets]


class Traffic:
    """Sends transfers through an eth JSON-RPC endpoint, as a user would."""

    def __init__(self, client: JsonRpcClient, chain_id: int, rate: float) -> None:
        self._client = client
        self._chain_id = chain_id
        self._rate = rate
        self._accounts = traffic_accounts()
        self.sent = 0
        self.refused = 0

    async def run(self) -> None:
        """Send until cancelled."""
        await self._start()
        senders = cycle(self._accounts)
        started = time.monotonic()
        due = 0
        while True:
            await asyncio.sleep(_TICK_S)
            total = int((time.monotonic() - started) * self._rate)
            batch = [next(senders) for _ in range(min(total - due, _BATCH))]
            due = total
            if batch:
                try:
                    await self._send(batch)
                except FlashctlError as error:
                    _log.warning("traffic paused: %s", error)
                    await self._resume()

    async def _resume(self) -> None:
        """Reload the nonces once the endpoint answers: which of the batch it accepted is unknown."""
        while True:
            await asyncio.sleep(_PAUSE_S)
            try:
                for account in self._accounts:
                    await self._reload_nonce(account)
            except FlashctlError as error:
                _log.debug("traffic still paused: %s", error)
                continue
            return

    async def _start(self) -> None:
        richest = 0
        for account in self._accounts:
            balance = await self._client.call("eth_getBalance", [to_hex(account.address), "latest"])
            richest = max(richest, parse_quantity(balance))
            await self._reload_nonce(account)
        if not richest:
            raise UsageError(
                "--tx-rate needs funded senders, and this genesis has none",
                hint="use the built-in genesis, or send your own traffic",
            )

    async def _reload_nonce(self, account: TrafficAccount) -> None:
        nonce = await self._client.call("eth_getTransactionCount", [to_hex(account.address), "pending"])
        account.nonce = parse_quantity(nonce)

    async def _send(self, batch: list[TrafficAccount]) -> None:
        calls = [("eth_sendRawTransaction", [to_hex(self._transfer(account))]) for account in batch]
        answers = await self._client.batch(calls)
        refused = [
            account for account, answer in zip(batch, answers, strict=True) if isinstance(answer, RpcError)
        ]
        self.refused += len(refused)
        self.sent += len(batch) - len(refused)
        for account in {account.address: account for account in refused}.values():
            await self._reload_nonce(account)

    def _transfer(self, account: TrafficAccount) -> bytes:
        unsigned = FeeMarketTx(
            chain_id=self._chain_id,
            nonce=account.nonce,
            max_priority_fee_per_gas=_TIP,
            max_fee_per_gas=_MAX_FEE,
            gas_limit=_TRANSFER_GAS,
            to=keccak256(account.address + account.nonce.to_bytes(8, "big"))[12:],
            value=1 + account.nonce % 1_000,
            data=b"",
            access_list=(),
            y_parity=0,
            r=0,
            s=0,
        )
        account.nonce += 1
        return encode_transaction(sign_transaction(unsigned, account.secret))
