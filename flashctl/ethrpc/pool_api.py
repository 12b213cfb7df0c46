"""The transaction pool over JSON-RPC: taking transactions, and looking at those that wait."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from flashctl.core.jsonrpc.errors import ErrorCode, RpcError
from flashctl.core.jsonrpc.methods import Handler
from flashctl.errors import FlashctlError
from flashctl.eth.hexdata import quantity, to_hex
from flashctl.eth.transactions import DepositTx
from flashctl.ethrpc.block_view import receipt_of
from flashctl.ethrpc.chain_provider import ChainProvider
from flashctl.ethrpc.interfaces import BranchChange, TransactionPool
from flashctl.ethrpc.params import address_param
from flashctl.ethrpc.rpc_json import transaction_json
from flashctl.ethrpc.send_api import not_ready
from flashctl.ethrpc.tx_waiters import TxWaiters
from flashctl.op.envelope import TxEnvelope

__all__ = ["PoolApi", "PoolTarget"]

MAX_NAMED_BLOCKS: Final = 4
"""Of one change of the head, the newest: those who wait for their transactions hear of what is in them."""

SLICE_S: Final = 0.002
"""How long the writing of the pool's content holds the event loop at a stretch."""


class PoolTarget:
    """The mempool as where transactions are sent (`send_api.SendTarget`). Lives on the event loop."""

    recheck_s: Final = None
    """The builder wakes waiters, and so does a new head."""

    def __init__(self, provider: ChainProvider, pool: TransactionPool, waiters: TxWaiters) -> None:
        """`waiters` are woken here for sealed blocks, by the builder for the block under construction."""
        self._provider = provider
        self._pool = pool
        self._waiters = waiters
        self._leave: Callable[[], None] | None = None

    def close(self) -> None:
        """Stop listening to the chain."""
        if self._leave is not None:
            self._leave()

    async def send(self, raw: bytes) -> str:
        """See `SendTarget`."""
        self._listen()
        try:
            return to_hex((await self._pool.submit(raw)).hash)
        except FlashctlError as error:
            # A refusal is the pool's, not the transport's: geth answers all of them with -32000.
            raise RpcError(ErrorCode.SERVER_ERROR, str(error)) from None

    async def receipt(self, tx_hash: bytes) -> dict[str, Any] | None:
        """See `SendTarget`."""
        place = self._provider.find_transaction(tx_hash)
        return None if place is None else receipt_of(place)

    def taken(self, raw: bytes, tx_hash: bytes) -> None:
        """See `SendTarget`."""
        envelope = self._pool.get(tx_hash)
        if envelope is None:
            return
        _, queued = self._pool.content_from(envelope.sender)
        if any(waiting.hash == tx_hash for waiting in queued):
            raise not_ready(tx_hash)

    def dropped(self, tx_hash: bytes) -> RpcError | None:
        """See `SendTarget`."""
        reason = self._pool.given_up(tx_hash)
        return None if reason is None else RpcError(ErrorCode.SERVER_ERROR, reason, to_hex(tx_hash))

    def find_gap(self, raw: bytes, tx_hash: bytes) -> None:
        """`taken` knows."""

    def _listen(self) -> None:
        """Hear of sealed blocks, from when the first transaction is sent."""
        if self._leave is not None:
            return
        loop = asyncio.get_running_loop()

        def carry(change: BranchChange) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._on_head, change)

        self._leave = self._provider.chain.subscribe(carry)

    def _on_head(self, change: BranchChange) -> None:
        if self._waiters.is_awaited:
            for block in change.new[-MAX_NAMED_BLOCKS:]:
                self._waiters.arrived(envelope.hash for envelope in block.envelopes)


class PoolApi:
    """The `txpool` namespace."""

    def __init__(self, pool: TransactionPool) -> None:
        self._pool = pool

    def handlers(self) -> Iterator[tuple[str, Handler]]:
        """Names and handlers."""
        yield "txpool_status", self.status
        yield "txpool_content", self.content
        yield "txpool_contentFrom", self.content_from
        yield "txpool_inspect", self.inspect

    async def status(self, params: list[Any]) -> dict[str, str]:
        pending, queued = self._pool.counts()
        return {"pending": quantity(pending), "queued": quantity(queued)}

    async def content(self, params: list[Any]) -> dict[str, Any]:
        return await self._shown(transaction_json)

    async def content_from(self, params: list[Any]) -> dict[str, Any]:
        pending, queued = self._pool.content_from(address_param(params, 0))
        return {
            "pending": _by_nonce(pending, transaction_json),
            "queued": _by_nonce(queued, transaction_json),
        }

    async def inspect(self, params: list[Any]) -> dict[str, Any]:
        """Like content, one line of text for a transaction."""
        return await self._shown(_line)

    async def _shown(self, show: Callable[[TxEnvelope], Any]) -> dict[str, Any]:
        """Everything that waits, by sender and nonce; written in slices, as it may be 10 MB."""
        pending: dict[str, Any] = {}
        queued: dict[str, Any] = {}
        slice_end = time.perf_counter() + SLICE_S
        for sender in self._pool.senders():
            for part, envelopes in zip((pending, queued), self._pool.content_from(sender), strict=True):
                if envelopes:
                    part[to_hex(sender)] = _by_nonce(envelopes, show)
            if time.perf_counter() > slice_end:
                await asyncio.sleep(0)
                slice_end = time.perf_counter() + SLICE_S
        return {"pending": pending, "queued": queued}


def _by_nonce(envelopes: Iterable[TxEnvelope], show: Callable[[TxEnvelope], Any]) -> dict[str, Any]:
    return {str(_nonce(envelope)): show(envelope) for envelope in envelopes}


def _line(envelope: TxEnvelope) -> str:
    shown = transaction_json(envelope)
    to = shown["to"] or "contract creation"
    price = int(shown["gasPrice"], 16)
    return f"{to}: {envelope.tx.value} wei + {envelope.tx.gas_limit} gas x {price} wei"


def _nonce(envelope: TxEnvelope) -> int:
    return 0 if isinstance(envelope.tx, DepositTx) else envelope.tx.nonce
