"""Sending transactions: on to the sequencer, and if asked, waiting for the preconfirmation (EIP-7966)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

from flashctl.chain.params import bytes_param, quantity_param
from flashctl.core.jsonrpc.client import JsonRpcClient
from flashctl.core.jsonrpc.errors import RpcError, invalid_params
from flashctl.core.jsonrpc.methods import Methods, optional
from flashctl.eth.hexdata import to_hex
from flashctl.eth.keccak import keccak256
from flashctl.rpc.overlay import Update

__all__ = ["Sender"]

CONFIRMATION_TIMEOUT: Final = 4
"""EIP-7966's error code for a transaction that was taken but not seen in a block in time."""

RECHECK_S: Final = 1.0
"""How often a waiting call asks the node as well: the transaction may be sealed without having been
streamed."""

Receipts = Callable[[bytes], Awaitable[dict[str, Any] | None]]


class Sender:
    """`eth_sendRawTransaction` and `eth_sendRawTransactionSync`."""

    def __init__(self, sequencer: JsonRpcClient, receipt_of: Receipts, *, timeout_ms: int) -> None:
        self._sequencer = sequencer
        self._receipt_of = receipt_of
        self._timeout_ms = timeout_ms
        self._waiting: dict[bytes, list[asyncio.Event]] = {}

    def register(self, methods: Methods) -> None:
        """Add both to a table."""
        methods.register("eth_sendRawTransaction", self.send)
        methods.register("eth_sendRawTransactionSync", self.send_and_wait)

    def on_update(self, update: Update) -> None:
        """Wake those whose transaction a flashblock holds."""
        if self._waiting:
            for envelope in update.block.envelopes[update.first_transaction :]:
                for event in self._waiting.get(envelope.hash, ()):
                    event.set()

    async def send(self, params: list[Any]) -> Any:
        bytes_param(params, 0, "transaction")
        return await self._sequencer.call("eth_sendRawTransaction", params[:1])

    async def send_and_wait(self, params: list[Any]) -> dict[str, Any]:
        """Send, and answer with the receipt once a flashblock or block holds the transaction."""
        raw = bytes_param(params, 0, "transaction")
        timeout_ms = self._timeout_ms
        if optional(params, 1) is not None:
            timeout_ms = quantity_param(params, 1, "timeout")
        if timeout_ms > self._timeout_ms:
            raise invalid_params(f"time out too long, timeout: {timeout_ms} ms, max: {self._timeout_ms} ms")
        wanted, event = keccak256(raw), asyncio.Event()
        # Before it is sent: a flashblock may hold it before the sequencer's answer is here (base/base#3826).
        self._waiting.setdefault(wanted, []).append(event)
        try:
            await self._sequencer.call("eth_sendRawTransaction", params[:1])
            async with asyncio.timeout(timeout_ms / 1000):
                return await self._receipt(wanted, event)
        except TimeoutError:
            raise RpcError(
                CONFIRMATION_TIMEOUT,
                f"Transaction {to_hex(wanted)} was added to the mempool but wasn't confirmed within "
                f"{timeout_ms} ms.",
                to_hex(wanted),
            ) from None
        finally:
            events = self._waiting[wanted]
            events.remove(event)
            if not events:
                del self._waiting[wanted]

    async def _receipt(self, wanted: bytes, event: asyncio.Event) -> dict[str, Any]:
        while True:
            receipt = await self._receipt_of(wanted)
            if receipt is not None:
                return receipt
            event.clear()
            try:
                async with asyncio.timeout(RECHECK_S):
                    await event.wait()
            except TimeoutError:
                continue
