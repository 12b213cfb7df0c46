"""Sending transactions: on to the sequencer, and if asked, waiting for the preconfirmation (EIP-7966)."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any, Final

from flashctl.chain.params import bytes_param, quantity_param
from flashctl.core.jsonrpc.client import JsonRpcClient
from flashctl.core.jsonrpc.errors import RpcError, invalid_params
from flashctl.core.jsonrpc.methods import Methods, optional
from flashctl.eth.hexdata import to_hex
from flashctl.eth.keccak import keccak256
from flashctl.eth.signatures import InvalidSignature
from flashctl.eth.transactions import DepositTx, InvalidTransaction
from flashctl.op.envelope import TxEnvelope
from flashctl.rpc.arrivals import Arrivals, wait_for

__all__ = ["Sender"]

CONFIRMATION_TIMEOUT: Final = 4
"""EIP-7966's error code for a transaction that was taken but not seen in a block in time."""

RECHECK_S: Final = 1.0
"""How often a waiting call asks the node as well: the transaction may be sealed without having been
streamed."""

ON_THE_WAY_S: Final = 12.0
"""How long a transaction that was taken counts for its sender's next nonce without having been seen in a
block: six blocks, for it may have been dropped."""

MAX_SENT: Final = 100_000
"""Transactions remembered for that; about 20 MB."""

Receipts = Callable[[bytes], Awaitable[dict[str, Any] | None]]


class Sender:
    """`eth_sendRawTransaction` and `eth_sendRawTransactionSync`."""

    def __init__(self, sequencer: JsonRpcClient, arrivals: Arrivals, *, timeout_ms: int) -> None:
        self._sequencer = sequencer
        self._arrivals = arrivals
        self._timeout_ms = timeout_ms
        self._sent: OrderedDict[tuple[bytes, int], float] = OrderedDict()
        """Sender and nonce of what the sequencer took lately, with the time."""
        self.receipt_of: Receipts | None = None
        """How receipts are found; set it before serving."""

    def register(self, methods: Methods) -> None:
        """Add both to a table."""
        methods.register("eth_sendRawTransaction", self.send)
        methods.register("eth_sendRawTransactionSync", self.send_and_wait)

    async def send(self, params: list[Any]) -> Any:
        return await self._send(bytes_param(params, 0, "transaction"), params[0])

    def next_nonce(self, sender: bytes, nonce: int) -> int:
        """The nonce after the transactions that `sender`, at `nonce`, has sent through us and that are on
        the way."""
        since = time.monotonic() - ON_THE_WAY_S
        while self._sent.get((sender, nonce), 0.0) > since:
            nonce += 1
        return nonce

    async def _send(self, raw: bytes, text: str) -> Any:
        answer = await self._sequencer.call("eth_sendRawTransaction", [text])
        try:
            envelope = TxEnvelope.decode(raw)
        except (InvalidTransaction, InvalidSignature):
            return answer  # the sequencer knows a type that we do not
        if not isinstance(envelope.tx, DepositTx):
            self._sent[envelope.sender, envelope.tx.nonce] = time.monotonic()
            self._sent.move_to_end((envelope.sender, envelope.tx.nonce))
            while len(self._sent) > MAX_SENT:
                self._sent.popitem(last=False)
        return answer

    async def send_and_wait(self, params: list[Any]) -> dict[str, Any]:
        """Send, and answer with the receipt once a flashblock or block holds the transaction."""
        raw = bytes_param(params, 0, "transaction")
        timeout_ms = self._timeout_ms
        if optional(params, 1) is not None:
            timeout_ms = quantity_param(params, 1, "timeout")
        if timeout_ms > self._timeout_ms:
            raise invalid_params(f"time out too long, timeout: {timeout_ms} ms, max: {self._timeout_ms} ms")
        wanted = keccak256(raw)
        try:
            # Before it is sent: a flashblock may hold it before the sequencer's answer is here
            # (base/base#3826).
            with self._arrivals.expect(wanted) as event:
                await self._send(raw, params[0])
                async with asyncio.timeout(timeout_ms / 1000):
                    return await self._receipt(wanted, event)
        except TimeoutError:
            raise RpcError(
                CONFIRMATION_TIMEOUT,
                f"Transaction {to_hex(wanted)} was added to the mempool but wasn't confirmed within "
                f"{timeout_ms} ms.",
                to_hex(wanted),
            ) from None

    async def _receipt(self, wanted: bytes, event: asyncio.Event) -> dict[str, Any]:
        assert self.receipt_of is not None
        while True:
            receipt = await self.receipt_of(wanted)
            if receipt is not None:
                return receipt
            event.clear()
            await wait_for(event, RECHECK_S)
