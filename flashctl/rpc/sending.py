"""Sending transactions: on to the sequencer, and if asked, waiting for the preconfirmation (EIP-7966)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any, Final

from flashctl.core.jsonrpc.client import JsonRpcClient
from flashctl.core.jsonrpc.errors import RpcError
from flashctl.core.jsonrpc.methods import Handler, optional
from flashctl.errors import FlashctlError
from flashctl.eth.keccak import keccak256
from flashctl.eth.signatures import InvalidSignature
from flashctl.eth.transactions import DepositTx, InvalidTransaction
from flashctl.ethrpc.params import bytes_param, quantity_param
from flashctl.ethrpc.sync_send import bounded_timeout_ms, is_known, not_confirmed, not_ready
from flashctl.lru import Lru
from flashctl.op.envelope import TxEnvelope
from flashctl.rpc.arrivals import Arrivals, wait_for

__all__ = ["Lookups", "Sender", "is_sent"]

RECHECK_S: Final = 1.0
"""How often a waiting call asks the node as well: the transaction may be sealed without having been
streamed."""

GAP_PATIENCE_S: Final = 0.5
"""How long a gap before a transaction's nonce must last to be one: what fills it may have gone another way
and be on its way to the pool that we ask."""

ON_THE_WAY_S: Final = 12.0
"""How long a transaction that was taken counts for its sender's next nonce without having been seen in a
block: six blocks, for it may have been dropped."""

MAX_SENT: Final = 100_000
"""Transactions remembered for that; about 20 MB."""

_SENDING: Final = ("send", "cancel")
_KEYS_OF_THE_NODE: Final = "eth_sendTransaction"

Receipts = Callable[[bytes], Awaitable[dict[str, Any] | None]]
Nonces = Callable[[bytes], Awaitable[int]]


class Lookups:
    """What a waiting call asks, of the listener that it came to."""

    def __init__(self, receipt_of: Receipts, pending_nonce: Nonces) -> None:
        """`receipt_of` tells the receipt of a transaction, `pending_nonce` what the next one of an account
        has to carry, with those that wait."""
        self.receipt_of: Final = receipt_of
        self.pending_nonce: Final = pending_nonce


def is_sent(method: str) -> bool:
    """Whether a method hands something over to be mined, or takes it back: bundles, conditional and private
    transactions (`eth_sendBundle`, `eth_sendRawTransactionConditional`, `eth_cancelPrivateTransaction` ...).
    That is the sequencer's. `eth_sendTransaction` is signed by whoever has the keys: the node."""
    return method.partition("_")[2].startswith(_SENDING) and method != _KEYS_OF_THE_NODE


class Sender:
    """`eth_sendRawTransaction` and `eth_sendRawTransactionSync`, for all listeners."""

    def __init__(self, sequencer: JsonRpcClient, arrivals: Arrivals, *, timeout_ms: int) -> None:
        self._sequencer = sequencer
        self._arrivals = arrivals
        self._timeout_ms = timeout_ms
        self._sent = Lru[tuple[bytes, int], float](MAX_SENT)
        """Sender and nonce of what the sequencer took lately, with the time."""

    def handlers(self, lookups: Lookups) -> Iterator[tuple[str, Handler]]:
        """Names and handlers of one listener."""
        yield "eth_sendRawTransaction", self.send
        yield "eth_sendRawTransactionSync", partial(self.send_and_wait, lookups)

    async def send(self, params: list[Any]) -> Any:
        raw = bytes_param(params, 0, "transaction")
        answer = await self._sequencer.call("eth_sendRawTransaction", [params[0]])
        self._remember(_decoded(raw))
        return answer

    def next_nonce(self, sender: bytes, nonce: int) -> int:
        """The nonce after the transactions that `sender`, at `nonce`, has sent through us and that are on
        the way."""
        since = time.monotonic() - ON_THE_WAY_S
        while (self._sent.peek((sender, nonce)) or 0.0) > since:
            nonce += 1
        return nonce

    def _remember(self, envelope: TxEnvelope | None) -> None:
        if envelope is None or isinstance(envelope.tx, DepositTx):
            return
        self._sent.put((envelope.sender, envelope.tx.nonce), time.monotonic())

    async def send_and_wait(self, lookups: Lookups, params: list[Any]) -> dict[str, Any]:
        """Send, and answer with the receipt once a flashblock or block holds the transaction.

        A time-out that is not between one and the longest one means the longest one, as EIP-7966 wants it.
        """
        raw = bytes_param(params, 0, "transaction")
        asked = None if optional(params, 1) is None else quantity_param(params, 1, "timeout")
        timeout_ms = bounded_timeout_ms(asked, self._timeout_ms)
        wanted, envelope = keccak256(raw), _decoded(raw)
        try:
            # Before it is sent: a flashblock may hold it before the sequencer's answer is here
            # (base/base#3826).
            with self._arrivals.expect(wanted) as event:
                known = await self._send_again(lookups, params[0], wanted)
                if known is not None:
                    return known
                self._remember(envelope)
                async with asyncio.timeout(timeout_ms / 1000):
                    return await self._receipt(lookups, wanted, event, envelope)
        except TimeoutError:
            raise not_confirmed(wanted, timeout_ms) from None

    async def _send_again(self, lookups: Lookups, text: str, wanted: bytes) -> dict[str, Any] | None:
        """Send what may have been sent before, by a client that lost its connection: its receipt if it is in
        a block, and no complaint if it waits.

        Raises:
            RpcError: If it is refused and nowhere to be seen.
        """
        try:
            await self._sequencer.call("eth_sendRawTransaction", [text])
        except RpcError as error:
            receipt = await lookups.receipt_of(wanted)
            if receipt is None and not is_known(error.message):
                raise
            return receipt
        return None

    async def _receipt(
        self, lookups: Lookups, wanted: bytes, event: asyncio.Event, envelope: TxEnvelope | None
    ) -> dict[str, Any]:
        """The receipt as soon as there is one, unless a gap before the nonce keeps it from ever coming."""
        waiting = asyncio.ensure_future(_wait_for_receipt(lookups, wanted, event))
        gap = asyncio.ensure_future(_find_gap(lookups, envelope))
        try:
            await asyncio.wait({waiting, gap}, return_when=asyncio.FIRST_COMPLETED)
            if not waiting.done():
                expected = await gap
                if expected is not None and not waiting.done():
                    raise not_ready(wanted, expected)
            return await waiting
        finally:
            waiting.cancel()
            gap.cancel()


async def _wait_for_receipt(lookups: Lookups, wanted: bytes, event: asyncio.Event) -> dict[str, Any]:
    while True:
        receipt = await lookups.receipt_of(wanted)
        if receipt is not None:
            return receipt
        event.clear()
        await wait_for(event, RECHECK_S)


async def _find_gap(lookups: Lookups, envelope: TxEnvelope | None) -> int | None:
    """The nonce that is missing before a transaction, if one stays missing; None if none does, or nobody
    knows."""
    if envelope is None or isinstance(envelope.tx, DepositTx):
        return None
    expected = 0
    for pause_s in (0.0, GAP_PATIENCE_S):
        await asyncio.sleep(pause_s)
        try:
            expected = await lookups.pending_nonce(envelope.sender)
        except FlashctlError:
            return None
        if expected >= envelope.tx.nonce:
            return None
    return expected


def _decoded(raw: bytes) -> TxEnvelope | None:
    """None for a type that the sequencer knows and we do not."""
    try:
        return TxEnvelope.decode(raw)
    except (InvalidTransaction, InvalidSignature):
        return None
