"""`eth_subscribe`: the three kinds of Flashblocks nodes, and newHeads and logs of the canonical chain.

    newFlashblocks                      the whole pending block after every flashblock, with full transactions
    newFlashblockTransactions [choice]  one message per new transaction: its hash; with `true` the object, its
                                        receipt fields and logs; with a log filter those that have such a log
    pendingLogs [filter]                one message per new log
    newHeads, logs [filter]             as on any node, from the head that the overlay polls

Nothing is retracted: a client learns of a replaced block from newHeads, as on Base.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Any, Final

from flashctl.chain.filters import LogFilter
from flashctl.core import defects
from flashctl.core.jsonrpc.methods import Methods, Subscription, optional
from flashctl.errors import FlashctlError, ProtocolError
from flashctl.rpc.node import Node
from flashctl.rpc.overlay import Update
from flashctl.rpc.views import (
    pending_block_json,
    pending_logs_json,
    pending_receipt_json,
    pending_transaction_json,
)

__all__ = ["Subscriptions"]

_LOG = logging.getLogger(__name__)

_NOT_IN_HEADS: Final = frozenset({"transactions", "uncles", "withdrawals", "size", "totalDifficulty"})
_RECEIPT_FIELDS: Final = ("gasUsed", "status", "cumulativeGasUsed", "contractAddress", "logsBloom", "logs")


@dataclass(frozen=True, slots=True)
class _Wish:
    """What a subscriber of newFlashblockTransactions asked for."""

    full: bool
    wanted: LogFilter | None


class Subscriptions:
    """The live subscriptions of all WebSocket clients. Lives on the event loop."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._flashblocks: set[Subscription] = set()
        self._transactions: dict[Subscription, _Wish] = {}
        self._pending_logs: dict[Subscription, LogFilter] = {}
        self._heads: set[Subscription] = set()
        self._logs: dict[Subscription, LogFilter] = {}
        self._fetches: set[asyncio.Task[None]] = set()

    def register(self, methods: Methods) -> None:
        """Add the kinds to a table of methods."""
        methods.register_subscription("eth", "newFlashblocks", self.flashblocks)
        methods.register_subscription("eth", "newFlashblockTransactions", self.transactions)
        methods.register_subscription("eth", "pendingLogs", self.pending_logs)
        methods.register_subscription("eth", "newHeads", self.heads)
        methods.register_subscription("eth", "logs", self.logs)

    async def flashblocks(self, params: list[Any], subscription: Subscription) -> None:
        self._flashblocks.add(subscription)
        subscription.on_close(lambda: self._flashblocks.discard(subscription))

    async def transactions(self, params: list[Any], subscription: Subscription) -> None:
        first = optional(params, 0, False)
        wish = _Wish(first, None) if isinstance(first, bool) else _Wish(True, LogFilter.parse(first))
        self._transactions[subscription] = wish
        subscription.on_close(lambda: _forget(self._transactions, subscription))

    async def pending_logs(self, params: list[Any], subscription: Subscription) -> None:
        # Base's nodes ignore a parameter that is no filter, and clients send `true`.
        first = optional(params, 0)
        self._pending_logs[subscription] = LogFilter.parse(first if isinstance(first, dict) else None)
        subscription.on_close(lambda: _forget(self._pending_logs, subscription))

    async def heads(self, params: list[Any], subscription: Subscription) -> None:
        self._heads.add(subscription)
        subscription.on_close(lambda: self._heads.discard(subscription))

    async def logs(self, params: list[Any], subscription: Subscription) -> None:
        self._logs[subscription] = LogFilter.parse(optional(params, 0))
        subscription.on_close(lambda: _forget(self._logs, subscription))

    def on_update(self, update: Update) -> None:
        """Tell subscribers of a flashblock."""
        block, first = update.block, update.first_transaction
        if self._flashblocks:
            shown = pending_block_json(block, full=True)
            for subscription in tuple(self._flashblocks):
                subscription.notify(shown)
        for subscription, wanted in tuple(self._pending_logs.items()):
            for log in pending_logs_json(block, wanted, first=first):
                subscription.notify(log)
        if self._transactions:
            self._announce_transactions(update)

    def _announce_transactions(self, update: Update) -> None:
        block = update.block
        for index in range(update.first_transaction, len(block.envelopes)):
            full: dict[str, Any] | None = None
            for subscription, wish in tuple(self._transactions.items()):
                if wish.wanted is not None and not any(map(wish.wanted.matches, block.receipts[index].logs)):
                    continue
                if not wish.full:
                    subscription.notify("0x" + block.envelopes[index].hash.hex())
                    continue
                if full is None:
                    receipt = pending_receipt_json(block, index)
                    full = pending_transaction_json(block, index) | {
                        name: receipt[name] for name in _RECEIPT_FIELDS
                    }
                subscription.notify(full)

    def on_heads(self, blocks: list[dict[str, Any]]) -> None:
        """Tell subscribers of canonical blocks."""
        for block in blocks if self._heads else ():
            header = {name: value for name, value in block.items() if name not in _NOT_IN_HEADS}
            for subscription in tuple(self._heads):
                subscription.notify(header)
        if self._logs:
            task = asyncio.get_running_loop().create_task(
                self._announce_logs([block["hash"] for block in blocks])
            )
            self._fetches.add(task)
            task.add_done_callback(self._fetches.discard)

    async def _announce_logs(self, hashes: list[str]) -> None:
        for block_hash in hashes:
            for subscription, wanted in tuple(self._logs.items()):
                try:
                    found = await self._node.client.call("eth_getLogs", [_filter_json(wanted, block_hash)])
                    if not isinstance(found, list):
                        raise ProtocolError("the node answers no list of logs")
                    for log in found:
                        subscription.notify(log)
                except FlashctlError as error:
                    _LOG.warning("logs of a new block: %s", error)
                    return
                except Exception as error:
                    defects.caught("rpc.logs", error)


def _forget(subscribers: dict[Subscription, Any], subscription: Subscription) -> None:
    subscribers.pop(subscription, None)


def _filter_json(wanted: LogFilter, block_hash: str) -> dict[str, Any]:
    topics = [
        None if choices is None else ["0x" + topic.hex() for topic in choices] for choices in wanted.topics
    ]
    fields: dict[str, Any] = {"blockHash": block_hash, "topics": topics}
    if wanted.addresses:
        fields["address"] = ["0x" + address.hex() for address in wanted.addresses]
    return fields
