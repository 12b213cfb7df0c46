"""Sending transactions and looking at those that wait, over JSON-RPC."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from flashctl.core.jsonrpc.errors import Code, RpcError
from flashctl.core.jsonrpc.methods import Handler, optional
from flashctl.errors import FlashctlError
from flashctl.eth.hexdata import quantity, to_hex
from flashctl.eth.keccak import keccak256
from flashctl.eth.transactions import DepositTx
from flashctl.ethrpc.block_view import receipt_of
from flashctl.ethrpc.chain_provider import ChainProvider
from flashctl.ethrpc.interfaces import BranchChange, TransactionPool
from flashctl.ethrpc.params import address_param, bytes_param, quantity_param
from flashctl.ethrpc.rpc_json import transaction_json
from flashctl.ethrpc.sync_send import bounded_timeout_ms, is_known, not_confirmed, not_ready
from flashctl.ethrpc.tx_waiters import Arrivals
from flashctl.op.envelope import TxEnvelope

__all__ = ["MAX_SYNC_MS", "PoolApi"]

MAX_SYNC_MS: Final = 6_000
"""Longest and default wait of eth_sendRawTransactionSync: Base's, three blocks."""

MAX_NAMED_BLOCKS: Final = 4
"""Of one change of the head, the newest: those who wait for their transactions hear of what is in them."""

SLICE_S: Final = 0.002
"""How long the writing of the pool's content holds the event loop at a stretch."""


class PoolApi:
    """Methods of the transaction pool. Lives on the event loop."""

    def __init__(self, provider: ChainProvider, pool: TransactionPool, arrivals: Arrivals) -> None:
        """Nobody waits yet.

        Args:
            arrivals: Told by whoever builds what is in the block being built.
        """
        self._chain = provider.chain
        self._pool = pool
        self._provider = provider
        self._arrivals = arrivals
        self._leave: Callable[[], None] | None = None

    def close(self) -> None:
        """Stop listening to the chain."""
        if self._leave is not None:
            self._leave()

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
        """Send, and answer with the receipt once the transaction is in a block or flashblock (EIP-7966).

        What was sent before is waited for, or answered with its receipt; what waits behind a gap in its
        sender's nonces is not waited for.
        """
        asked = None if optional(params, 1) is None else quantity_param(params, 1, "timeout")
        timeout_ms = bounded_timeout_ms(asked, MAX_SYNC_MS)
        self._listen()
        tx_hash = keccak256(bytes_param(params, 0, "transaction"))
        # Before the transaction is sent: what is in a block the next moment must not be missed.
        with self._arrivals.expect(tx_hash) as arrived:
            known = await self._add_again(params, tx_hash)
            if known is not None:
                return known
            receipt = await self._receipt(tx_hash, arrived, timeout_ms / 1000)
        if receipt is None and (reason := self._pool.given_up(tx_hash)) is not None:
            raise RpcError(Code.SERVER_ERROR, reason, to_hex(tx_hash))
        if receipt is None:
            raise not_confirmed(tx_hash, timeout_ms)
        return receipt

    async def _add_again(self, params: list[Any], tx_hash: bytes) -> dict[str, Any] | None:
        """Take in what may have been sent before: its receipt if it is in a block, None if it waits its turn.

        Raises:
            RpcError: It is refused, or waits behind a gap.
        """
        try:
            envelope = await self._add(params)
        except RpcError as error:
            receipt = self._receipt_now(tx_hash)
            if receipt is not None:
                return receipt
            if not is_known(error.message):
                raise
            envelope = TxEnvelope.decode(bytes_param(params, 0, "transaction"))
        _, queued = self._pool.content_from(envelope.sender)
        if any(waiting.hash == tx_hash for waiting in queued):
            raise not_ready(tx_hash)
        return None

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

    async def _receipt(
        self, tx_hash: bytes, arrived: asyncio.Event, timeout_s: float
    ) -> dict[str, Any] | None:
        """None if it is in no block in time."""
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    await arrived.wait()
                    arrived.clear()
                    receipt = self._receipt_now(tx_hash)
                    # None: the block it was in was given up.
                    if receipt is not None:
                        return receipt
                    if self._pool.given_up(tx_hash) is not None:
                        return None
        except TimeoutError:
            # A head that jumped by many blocks does not name all that is in them.
            return self._receipt_now(tx_hash)

    def _receipt_now(self, tx_hash: bytes) -> dict[str, Any] | None:
        place = self._provider.find_transaction(tx_hash)
        return None if place is None else receipt_of(place)

    def _listen(self) -> None:
        """Hear of what is sealed, from when somebody first waits."""
        if self._leave is not None:
            return
        loop = asyncio.get_running_loop()

        def carry(change: BranchChange) -> None:
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._on_head, change)

        self._leave = self._chain.subscribe(carry)

    def _on_head(self, change: BranchChange) -> None:
        if self._arrivals.is_awaited:
            for block in change.new[-MAX_NAMED_BLOCKS:]:
                self._arrivals.arrived(envelope.hash for envelope in block.envelopes)


def _by_nonce(envelopes: Iterable[TxEnvelope], show: Callable[[TxEnvelope], Any]) -> dict[str, Any]:
    return {str(_nonce(envelope)): show(envelope) for envelope in envelopes}


def _line(envelope: TxEnvelope) -> str:
    shown = transaction_json(envelope)
    to = shown["to"] or "contract creation"
    price = int(shown["gasPrice"], 16)
    return f"{to}: {envelope.tx.value} wei + {envelope.tx.gas_limit} gas x {price} wei"


def _nonce(envelope: TxEnvelope) -> int:
    return 0 if isinstance(envelope.tx, DepositTx) else envelope.tx.nonce
