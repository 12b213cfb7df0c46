"""Background traffic: what it does when the endpoint was away, or refuses."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from support.waiting import until

from flashctl.core.jsonrpc.errors import RpcError
from flashctl.devnet import traffic
from flashctl.devnet.traffic import Traffic, traffic_accounts
from flashctl.errors import UnavailableError
from flashctl.eth.hexdata import parse_hex, quantity, to_hex
from flashctl.op.envelope import TxEnvelope


class Endpoint:
    """An endpoint that counts nonces, and answers batches as it is told."""

    def __init__(self) -> None:
        self.nonces: Counter[str] = Counter()
        self.batches: list[int] = []
        self.lookups = 0
        self.fails = False
        self.failures = 0
        self.refuses: set[int] = set()

    async def call(self, method: str, params: list[Any]) -> str:
        if self.fails:
            self.failures += 1
            raise UnavailableError("connection refused")
        self.lookups += 1
        return "0x1" if method == "eth_getBalance" else quantity(self.nonces[params[0]])

    async def batch(self, calls: list[tuple[str, list[str]]]) -> list[Any]:
        if self.fails:
            self.failures += 1
            raise UnavailableError("connection refused")
        self.batches.append(len(calls))
        answers: list[Any] = []
        for position, (_, (raw,)) in enumerate(calls):
            sender = to_hex(TxEnvelope.decode(parse_hex(raw)).sender)
            if position in self.refuses:
                answers.append(RpcError(-32000, "txpool is full"))
            else:
                self.nonces[sender] += 1
                answers.append("0x")
        return answers


def running(endpoint: Endpoint, rate: float) -> tuple[Traffic, asyncio.Task[None]]:
    sender = Traffic(endpoint, 901, rate)  # type: ignore[arg-type]
    return sender, asyncio.create_task(sender.run())


def test_a_pause_is_not_made_up_for_in_one_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a stall of minutes it sent all of them at once, more than its own server takes in a batch."""
    monkeypatch.setattr(traffic, "_PAUSE_S", 0.2)
    monkeypatch.setattr(traffic, "_BATCH", 20)

    async def body() -> None:
        endpoint = Endpoint()
        sender, task = running(endpoint, 1_000)
        await until(lambda: len(endpoint.batches) >= 3)
        assert max(endpoint.batches) <= 20
        endpoint.fails = True
        # A pause apart: what is owed by then is ten batches.
        await until(lambda: endpoint.failures >= 2)
        # What the last batch came to is not known: somebody else may have sent in between.
        lost = to_hex(traffic_accounts()[0].address)
        endpoint.nonces[lost] += 5
        endpoint.fails = False
        before = len(endpoint.batches)
        await until(lambda: len(endpoint.batches) >= before + 3)
        assert max(endpoint.batches) <= 20
        assert next(account for account in sender._accounts if to_hex(account.address) == lost).nonce >= 5
        task.cancel()

    asyncio.run(body())


def test_an_account_that_was_refused_asks_for_its_nonce_once() -> None:
    async def body() -> None:
        endpoint = Endpoint()
        sender, task = running(endpoint, 1_000)
        await until(lambda: endpoint.batches)
        task.cancel()
        before = endpoint.lookups
        endpoint.refuses = set(range(0, 64, 16))
        await sender._send(sender._accounts * 4)
        assert endpoint.lookups == before + 1 and sender.refused == 4

    asyncio.run(body())
