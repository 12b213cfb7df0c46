"""`eth_subscribe`: the three kinds of Flashblocks nodes, and newHeads and logs of the canonical chain.

    newFlashblocks                      the whole pending block after every flashblock, with full transactions
    newFlashblockTransactions [choice]  one message per new transaction: its hash; with `true` the object, its
                                        receipt fields and logs; with a log filter those that have such a log
    pendingLogs [filter]                one message per new log
    newHeads, logs [filter]             as on any node, from the head that the overlay polls

Where `latest` is the preconfirmed block, newHeads notifies of it after every flashblock, and logs are sent
when they are preconfirmed: once, and again with `removed` if the block was sealed without them. Otherwise
    nothing is
retracted: a client sees a replaced block in newHeads, as on Base. All other kinds are the node's.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import Any, Final

from flashctl.core.jsonrpc.methods import Methods, Subscription, optional
from flashctl.core.service import defects
from flashctl.errors import FlashctlError, ProtocolError
from flashctl.eth.hexdata import parse_quantity
from flashctl.ethrpc.block_view import block_of, logs_of, receipt_of, transaction_of
from flashctl.ethrpc.filters import LogFilter
from flashctl.ethrpc.interfaces import Place
from flashctl.lru import Lru
from flashctl.remote.upstream_client import UpstreamClient
from flashctl.rpc.execution import PendingBlock
from flashctl.rpc.node_subscriptions import NodeSubscriptions
from flashctl.rpc.overlay import Overlay, Update
from flashctl.rpc.visibility import Visibility

__all__ = ["OverlaySubscriptions"]

_LOG = logging.getLogger(__name__)

_NOT_IN_HEADS: Final = frozenset({"transactions", "uncles", "withdrawals", "size", "totalDifficulty"})
MAX_SENT_BLOCKS: Final = 8
"""Unsealed blocks whose logs were sent."""

_RECEIPT_FIELDS: Final = ("gasUsed", "status", "cumulativeGasUsed", "contractAddress", "logsBloom", "logs")


@dataclass(frozen=True, slots=True)
class _TransactionParams:
    """The parameters of a newFlashblockTransactions subscription."""

    full: bool
    wanted: LogFilter | None


class OverlaySubscriptions:
    """The live subscriptions of all WebSocket clients. Used on the event loop."""

    def __init__(
        self, node: UpstreamClient, overlay: Overlay, others: NodeSubscriptions, showing: Visibility
    ) -> None:
        self._node = node
        self._overlay = overlay
        self._others = others
        self._showing = showing
        self._flashblocks: set[Subscription] = set()
        self._transactions: dict[Subscription, _TransactionParams] = {}
        self._pending_logs: dict[Subscription, LogFilter] = {}
        self._heads: set[Subscription] = set()
        self._logs: dict[Subscription, LogFilter] = {}
        self._sent = Lru[int, dict[str, PendingBlock]](MAX_SENT_BLOCKS)
        """Blocks whose logs were sent before the seal, by number and payload id."""
        self._fetches: set[asyncio.Task[None]] = set()

    def register(self, methods: Methods) -> None:
        """Add the kinds to a table of methods."""
        methods.register_subscription("eth", "newFlashblocks", self.flashblocks)
        methods.register_subscription("eth", "newFlashblockTransactions", self.transactions)
        methods.register_subscription("eth", "pendingLogs", self.pending_logs)
        methods.register_subscription("eth", "newHeads", self.heads)
        methods.register_subscription("eth", "logs", self.logs)
        methods.register_other_subscriptions("eth", self._others.subscribe)

    async def flashblocks(self, params: list[Any], subscription: Subscription) -> None:
        self._flashblocks.add(subscription)
        subscription.on_close(lambda: self._flashblocks.discard(subscription))

    async def transactions(self, params: list[Any], subscription: Subscription) -> None:
        first = optional(params, 0, False)
        wanted = (
            _TransactionParams(first, None)
            if isinstance(first, bool)
            else _TransactionParams(True, LogFilter.parse(first))
        )
        self._transactions[subscription] = wanted
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
        """Notify subscribers of a flashblock."""
        block, first = update.block, update.first_transaction
        if self._flashblocks:
            shown = block_of(block, full=True)
            for subscription in tuple(self._flashblocks):
                subscription.notify(shown)
        for subscription, wanted in tuple(self._pending_logs.items()):
            for log in logs_of(block, wanted, first=first):
                subscription.notify(log)
        if self._transactions:
            self._announce_transactions(update)
        if self._showing.as_latest:
            self._announce_latest(update)

    def _announce_latest(self, update: Update) -> None:
        block = update.block
        if self._heads:
            self._send_head(block_of(block, full=False))
        if not self._logs:
            return
        self._sent.obtain(block.number, dict)[block.payload_id] = block
        for subscription, wanted in tuple(self._logs.items()):
            for log in logs_of(block, wanted, first=update.first_transaction):
                subscription.notify(log)

    def _send_head(self, block: dict[str, Any]) -> None:
        header = {name: value for name, value in block.items() if name not in _NOT_IN_HEADS}
        for subscription in tuple(self._heads):
            subscription.notify(header)

    def _announce_transactions(self, update: Update) -> None:
        block = update.block
        for index in range(update.first_transaction, len(block.envelopes)):
            full: dict[str, Any] | None = None
            for subscription, chosen in tuple(self._transactions.items()):
                if chosen.wanted is not None and not any(
                    map(chosen.wanted.matches, block.receipts[index].logs)
                ):
                    continue
                if not chosen.full:
                    subscription.notify("0x" + block.envelopes[index].hash.hex())
                    continue
                if full is None:
                    place = Place(block, index)
                    receipt = receipt_of(place)
                    full = transaction_of(place) | {name: receipt[name] for name in _RECEIPT_FIELDS}
                subscription.notify(full)

    def on_heads(self, blocks: list[dict[str, Any]]) -> None:
        """Notify subscribers of canonical blocks."""
        view = self._overlay.view if self._showing.as_latest else None
        for block in blocks if self._heads else ():
            if view is None or parse_quantity(block["number"]) >= view.latest.number:
                self._send_head(block)
        if self._logs:
            task = asyncio.get_running_loop().create_task(self._announce_logs(blocks))
            self._fetches.add(task)
            task.add_done_callback(self._fetches.discard)

    async def _announce_logs(self, blocks: list[dict[str, Any]]) -> None:
        for block in blocks:
            sent = tuple((self._sent.pop(parse_quantity(block["number"])) or {}).values())
            for subscription, wanted in tuple(self._logs.items()):
                try:
                    filter_json = _filter_json(wanted, block["hash"])
                    found = await self._node.client.call("eth_getLogs", [filter_json])
                    if not isinstance(found, list):
                        raise ProtocolError("the node answers no list of logs")
                    for log in _changes_at_seal(found, [log for was in sent for log in logs_of(was, wanted)]):
                        subscription.notify(log)
                except FlashctlError as error:
                    _LOG.warning("logs of a new block: %s", error)
                    return
                except Exception as error:
                    defects.caught("rpc.logs", error)


def _changes_at_seal(sealed: list[Any], sent: list[dict[str, Any]]) -> list[Any]:
    """The notifications at the seal for a subscriber that got some logs of a block before: the removed ones,
    then the new ones."""
    places = {_place(log) for log in sealed}
    known = {_place(log) for log in sent}
    return [
        *({**log, "removed": True} for log in sent if _place(log) not in places),
        *(log for log in sealed if _place(log) not in known),
    ]


def _place(log: dict[str, Any]) -> tuple[Any, Any]:
    return log.get("transactionHash"), log.get("logIndex")


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
