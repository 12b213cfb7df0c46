"""Sending transactions and looking at those that wait, over JSON-RPC."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from flashctl.chain.block_api import BlockApi
from flashctl.chain.chain import Chain, HeadChange
from flashctl.chain.params import address_param, bytes_param, quantity_param
from flashctl.chain.providers import TransactionPool
from flashctl.chain.views import transaction_json
from flashctl.core.jsonrpc.errors import Code, RpcError, invalid_params
from flashctl.core.jsonrpc.methods import Handler, optional
from flashctl.errors import FlashctlError
from flashctl.eth.hexdata import quantity, to_hex
from flashctl.eth.transactions import DepositTx
from flashctl.op.envelope import TxEnvelope

__all__ = ["MAX_SYNC_MS", "PoolApi"]

MAX_SYNC_MS: Final = 6_000
"""Longest and default wait of eth_sendRawTransactionSync: Base's, three blocks."""

SYNC_POLL_S: Final = 0.02
"""How often the block being built is looked at while somebody waits: ten times a flashblock."""

SLICE_S: Final = 0.002
"""How long the writing of the pool's content holds the event loop at a stretch."""

CONFIRMATION_TIMEOUT: Final = 4
"""EIP-7966's error code for a transaction that was taken but not seen in a block in time."""


class PoolApi:
    """Methods of the transaction pool. Lives on the event loop."""

    def __init__(self, chain: Chain, pool: TransactionPool, blocks: BlockApi) -> None:
        self._chain = chain
        self._pool = pool
        self._blocks = blocks

    def handlers(self) -> Iterator[tuple[str, Handler]]:
        """Names and handlers."""
        yield "eth_sendRawTransaction", self.send
        yield "eth_sendRawTransactionSync", self.send_and_wait
        yield "txpool_status", self.status
        yield "txpool_content", self.content
        yield "txpool_contentFrom", self.content_from
        yield "txpool_inspect", self.inspect

    async def send(self, params: list[Any]) -> str:
        return to_hex((await self._add(params)).hash)

    async def send_and_wait(self, params: list[Any]) -> dict[str, Any]:
        """Send, and answer with the receipt once the transaction is in a block or flashblock (EIP-7966)."""
        timeout_ms = MAX_SYNC_MS
        if optional(params, 1) is not None:
            timeout_ms = quantity_param(params, 1, "timeout")
        if timeout_ms > MAX_SYNC_MS:
            raise invalid_params(f"time out too long, timeout: {timeout_ms} ms, max: {MAX_SYNC_MS} ms")
        changed = asyncio.Event()
        # Before the transaction is sent: what is in a block the next moment must not be missed.
        leave = self._chain.subscribe(_waker(changed))
        try:
            envelope = await self._add(params)
            async with asyncio.timeout(timeout_ms / 1000):
                return await self._receipt(envelope.hash, changed)
        except TimeoutError:
            raise RpcError(
                CONFIRMATION_TIMEOUT,
                f"Transaction {to_hex(envelope.hash)} was added to the mempool but wasn't confirmed within "
                f"{timeout_ms} ms.",
                to_hex(envelope.hash),
            ) from None
        finally:
            leave()

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

    async def _add(self, params: list[Any]) -> TxEnvelope:
        raw = bytes_param(params, 0, "transaction")
        try:
            return await self._pool.submit(raw)
        except FlashctlError as error:
            # A refusal is the pool's, not the transport's: geth answers all of them with -32000.
            raise RpcError(Code.SERVER_ERROR, str(error)) from None

    async def _receipt(self, tx_hash: bytes, changed: asyncio.Event) -> dict[str, Any]:
        while True:
            changed.clear()
            found = self._blocks.find(tx_hash)
            if found is not None:
                return self._blocks.receipt(*found)
            try:
                async with asyncio.timeout(SYNC_POLL_S):
                    await changed.wait()
            except TimeoutError:
                continue


def _waker(event: asyncio.Event) -> Callable[[HeadChange], None]:
    loop = asyncio.get_running_loop()

    def wake(change: HeadChange) -> None:
        loop.call_soon_threadsafe(event.set)

    return wake


def _by_nonce(envelopes: Iterable[TxEnvelope], show: Callable[[TxEnvelope], Any]) -> dict[str, Any]:
    return {str(_nonce(envelope)): show(envelope) for envelope in envelopes}


def _line(envelope: TxEnvelope) -> str:
    shown = transaction_json(envelope)
    to = shown["to"] or "contract creation"
    price = int(shown["gasPrice"], 16)
    return f"{to}: {envelope.tx.value} wei + {envelope.tx.gas_limit} gas x {price} wei"


def _nonce(envelope: TxEnvelope) -> int:
    return 0 if isinstance(envelope.tx, DepositTx) else envelope.tx.nonce
