"""`eth_subscribe` of a chain: newHeads, logs, newPendingTransactions.

Head changes may be announced from any thread (a builder imports outside the event loop); they are carried
to the loop once and handed to all subscribers there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from flashctl.chain.chain import Chain, HeadChange
from flashctl.chain.filters import LogFilter
from flashctl.chain.log_search import logs_of
from flashctl.chain.providers import TransactionPool
from flashctl.chain.resolve import BlockView
from flashctl.chain.views import header_json, transaction_json
from flashctl.core.jsonrpc.methods import Methods, Subscription, optional
from flashctl.eth.hexdata import to_hex
from flashctl.op.envelope import TxEnvelope

__all__ = ["Subscriptions"]

MAX_ANNOUNCED: Final = 256
"""Blocks of one change of the head that are announced: a node that catches up by thousands has no news."""


class Subscriptions:
    """The live subscriptions of all WebSocket clients."""

    def __init__(self, chain: Chain, pool: TransactionPool | None) -> None:
        self._chain = chain
        self._pool = pool
        self._heads: set[Subscription] = set()
        self._logs: dict[Subscription, LogFilter] = {}
        self._hashes: set[Subscription] = set()
        self._transactions: set[Subscription] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._leave: list[Callable[[], None]] = []

    def register(self, methods: Methods) -> None:
        """Add the kinds to a table of methods."""
        methods.register_subscription("eth", "newHeads", self.new_heads)
        methods.register_subscription("eth", "logs", self.logs)
        if self._pool is not None:
            methods.register_subscription("eth", "newPendingTransactions", self.pending_transactions)

    def close(self) -> None:
        """Stop listening to the chain and the pool."""
        for leave in self._leave:
            leave()
        self._leave.clear()

    async def new_heads(self, params: list[Any], subscription: Subscription) -> None:
        self._listen()
        self._heads.add(subscription)
        subscription.on_close(lambda: self._heads.discard(subscription))

    async def logs(self, params: list[Any], subscription: Subscription) -> None:
        wanted = LogFilter.parse(optional(params, 0))
        self._listen()
        self._logs[subscription] = wanted

        def forget() -> None:
            self._logs.pop(subscription, None)

        subscription.on_close(forget)

    async def pending_transactions(self, params: list[Any], subscription: Subscription) -> None:
        """Hashes, or with a first parameter of true whole transactions."""
        self._listen()
        subscribers = self._transactions if optional(params, 0) is True else self._hashes
        subscribers.add(subscription)
        subscription.on_close(lambda: subscribers.discard(subscription))

    def _listen(self) -> None:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            self._leave.append(self._chain.subscribe(self._on_change))
            if self._pool is not None:
                self._leave.append(self._pool.subscribe(self._on_transaction))

    def _on_change(self, change: HeadChange) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._announce, change)

    def _announce(self, change: HeadChange) -> None:
        old, new = change.old[:MAX_ANNOUNCED], change.new[-MAX_ANNOUNCED:]
        for block in new if self._heads else ():
            shown = header_json(block.header)
            for subscription in tuple(self._heads):
                subscription.notify(shown)
        for blocks, removed in ((old, True), (new, False)) if self._logs else ():
            for block in blocks:
                view = BlockView(block.header, block.envelopes, block.receipts)
                for subscription, wanted in tuple(self._logs.items()):
                    for log in logs_of(view, wanted, removed=removed):
                        subscription.notify(log)

    def _on_transaction(self, envelope: TxEnvelope) -> None:
        for subscription in tuple(self._hashes):
            subscription.notify(to_hex(envelope.hash))
        if self._transactions:
            shown = transaction_json(envelope)
            for subscription in tuple(self._transactions):
                subscription.notify(shown)
