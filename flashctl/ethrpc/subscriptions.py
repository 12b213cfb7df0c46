"""`eth_subscribe` of a chain: newHeads, logs, newPendingTransactions, syncing.

Head changes may be announced from any thread (a builder imports outside the event loop); they are carried
to the loop once and handed to all subscribers there, a little in each of its turns: a thousand subscribers
times a thousand logs or transactions would hold the loop for seconds.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from flashctl.core.jsonrpc.methods import Methods, Subscription, optional
from flashctl.core.service import defects
from flashctl.eth.hexdata import to_hex
from flashctl.ethrpc.block_view import ChainBlockView, logs_of
from flashctl.ethrpc.filters import LogFilter
from flashctl.ethrpc.interfaces import BranchChange, ChainReader, StoredBlock, TransactionPool
from flashctl.ethrpc.rpc_json import header_json, transaction_json
from flashctl.op.envelope import TxEnvelope

__all__ = ["Subscriptions"]


MAX_ANNOUNCED: Final = 64
"""Blocks of one change of the head that are announced: a node that catches up by thousands has no news."""

MAX_WAITING: Final = 20_000
"""Changes and transactions that wait to be announced; more are not."""

SLICE_S: Final = 0.002
"""How long announcing holds the event loop at a stretch."""


class Subscriptions:
    """The live subscriptions of all WebSocket clients."""

    def __init__(self, chain: ChainReader, pool: TransactionPool | None) -> None:
        self._chain = chain
        self._pool = pool
        self._reader: Final = ThreadPoolExecutor(1, "announcing")
        self._waiting: deque[BranchChange | TxEnvelope] = deque()
        self._announcing: asyncio.Task[None] | None = None
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
        methods.register_subscription("eth", "syncing", self.syncing)
        if self._pool is not None:
            methods.register_subscription("eth", "newPendingTransactions", self.pending_transactions)

    def close(self) -> None:
        """Stop listening to the chain and the pool."""
        for leave in self._leave:
            leave()
        self._leave.clear()
        if self._announcing is not None:
            self._announcing.cancel()
        self._reader.shutdown(wait=False, cancel_futures=True)

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

    async def syncing(self, params: list[Any], subscription: Subscription) -> None:
        """Told once that it does not, as eth_syncing is: there is no state in which this chain would."""
        subscription.notify(False)

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

    def _on_change(self, change: BranchChange) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._later, change)

    def _on_transaction(self, envelope: TxEnvelope) -> None:
        if self._hashes or self._transactions:
            self._later(envelope)

    def _later(self, news: BranchChange | TxEnvelope) -> None:
        if len(self._waiting) >= MAX_WAITING:
            return
        self._waiting.append(news)
        if self._announcing is None or self._announcing.done():
            self._announcing = asyncio.get_running_loop().create_task(self._announce(), name="announcing")

    async def _announce(self) -> None:
        """Notify all subscribers, in the order in which it happened."""
        slice_end = time.perf_counter() + SLICE_S
        while self._waiting:
            news = self._waiting.popleft()
            try:
                steps = (
                    self._of_transaction(news)
                    if isinstance(news, TxEnvelope)
                    else self._of_change(*await self._blocks(news))
                )
                for _ in steps:
                    if time.perf_counter() > slice_end:
                        await asyncio.sleep(0)
                        slice_end = time.perf_counter() + SLICE_S
            except Exception as error:
                defects.caught("chain.subscriptions", error)

    async def _blocks(self, change: BranchChange) -> tuple[list[StoredBlock], list[StoredBlock]]:
        """Those that left and those that came; read from the database, perhaps."""
        if not self._heads and not self._logs:
            return [], []
        loop = asyncio.get_running_loop()
        old = change.old[:MAX_ANNOUNCED] if self._logs else []
        new = change.new[-MAX_ANNOUNCED:]
        return await loop.run_in_executor(self._reader, lambda: (list(old), list(new)))

    def _of_change(self, old: Sequence[StoredBlock], new: Sequence[StoredBlock]) -> Iterator[None]:
        for block in new if self._heads else ():
            shown = header_json(block.header)
            for subscription in tuple(self._heads):
                _tell(subscription, shown)
                yield
        for blocks, removed in ((old, True), (new, False)) if self._logs else ():
            for block in blocks:
                view = ChainBlockView(self._chain.config, block.header, block.envelopes, block.receipts)
                for subscription, wanted in tuple(self._logs.items()):
                    for log in logs_of(view, wanted, removed=removed):
                        _tell(subscription, log)
                        yield
                    yield

    def _of_transaction(self, envelope: TxEnvelope) -> Iterator[None]:
        tx_hash = to_hex(envelope.hash)
        for subscription in tuple(self._hashes):
            _tell(subscription, tx_hash)
            yield
        if self._transactions:
            shown = transaction_json(envelope)
            for subscription in tuple(self._transactions):
                _tell(subscription, shown)
                yield


def _tell(subscription: Subscription, shown: Any) -> None:
    try:
        subscription.notify(shown)
    except Exception as error:
        # Of one subscriber; the others are notified all the same.
        defects.caught("chain.subscriptions", error)
