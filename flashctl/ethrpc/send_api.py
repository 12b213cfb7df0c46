"""eth_sendRawTransaction, and eth_sendRawTransactionSync, which waits for the receipt (EIP-7966).

A transaction may have been sent before, by a client that lost its connection: it is waited for, or answered
with its receipt. One that cannot be executed yet, behind a gap in its sender's nonces, is an error at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from typing import Any, Final, Protocol

from flashctl.core.jsonrpc.errors import RpcError
from flashctl.core.jsonrpc.methods import Handler, optional
from flashctl.eth.hexdata import to_hex
from flashctl.eth.keccak import keccak256
from flashctl.ethrpc.params import bytes_param, quantity_param
from flashctl.ethrpc.tx_waiters import TxWaiters, wait_for

__all__ = ["NOT_READY", "SendApi", "SendTarget", "not_ready"]

CONFIRMATION_TIMEOUT: Final = 4
"""A transaction was taken but not seen in a block in time."""

NOT_READY: Final = 5
"""A transaction was taken and cannot be executed yet."""

_KNOWN: Final = ("already known", "alreadyknown", "already imported")
"""geth's and reth's words, and those of older nodes."""


class SendTarget(Protocol):
    """Where transactions go: a builder's mempool, or a sequencer that is somewhere else."""

    @property
    def recheck_s(self) -> float | None:
        """How often `receipt` is called although no flashblock brought the transaction; None where waking is
        reliable, so that once more at the end is enough."""

    async def send(self, raw: bytes) -> Any:
        """Hand a transaction over; what eth_sendRawTransaction answers.

        Raises:
            RpcError: If it is refused.
        """

    async def receipt(self, tx_hash: bytes) -> dict[str, Any] | None:
        """The receipt of a transaction that is in a block or flashblock."""

    def taken(self, raw: bytes, tx_hash: bytes) -> None:
        """A transaction that is waited for was taken, now or before.

        Raises:
            RpcError: If it is known to wait behind a gap.
        """

    def dropped(self, tx_hash: bytes) -> RpcError | None:
        """Why a transaction that was taken will not be included any more, as far as is known."""

    def find_gap(self, raw: bytes, tx_hash: bytes) -> Coroutine[None, None, RpcError | None] | None:
        """Looks for a gap before the nonce that keeps a transaction from being included; None where `taken`
        knows."""


class SendApi:
    """See the module docstring."""

    def __init__(self, target: SendTarget, waiters: TxWaiters, *, timeout_ms: int) -> None:
        """`timeout_ms` is the longest and default wait."""
        self._target = target
        self._waiters = waiters
        self._timeout_ms = timeout_ms

    def handlers(self) -> Iterator[tuple[str, Handler]]:
        """Names and handlers."""
        yield "eth_sendRawTransaction", self.send
        yield "eth_sendRawTransactionSync", self.send_and_wait

    async def send(self, params: list[Any]) -> Any:
        return await self._target.send(bytes_param(params, 0, "transaction"))

    async def send_and_wait(self, params: list[Any]) -> dict[str, Any]:
        """Send, and answer with the receipt once a flashblock or block holds the transaction.

        A time-out that is not between one and the longest one means the longest one, as EIP-7966 wants it.
        """
        raw = bytes_param(params, 0, "transaction")
        asked = None if optional(params, 1) is None else quantity_param(params, 1, "timeout")
        timeout_ms = _bounded_timeout_ms(asked, self._timeout_ms)
        tx_hash = keccak256(raw)
        # Before it is sent: a flashblock may hold it before the answer is here (base/base#3826).
        with self._waiters.expect(tx_hash) as event:
            known = await self._send_again(raw, tx_hash)
            if known is not None:
                return known
            self._target.taken(raw, tx_hash)
            try:
                async with asyncio.timeout(timeout_ms / 1000):
                    return await self._included(raw, tx_hash, event)
            except TimeoutError:
                if self._target.recheck_s is None:
                    # A head that jumped by many blocks does not name all that is in them.
                    receipt = await self._target.receipt(tx_hash)
                    if receipt is not None:
                        return receipt
                raise _not_confirmed(tx_hash, timeout_ms) from None

    async def _send_again(self, raw: bytes, tx_hash: bytes) -> dict[str, Any] | None:
        """Send what may have been sent before: its receipt if it is in a block, and no complaint if it waits.

        Raises:
            RpcError: If it is refused and nowhere to be seen.
        """
        try:
            await self._target.send(raw)
        except RpcError as error:
            receipt = await self._target.receipt(tx_hash)
            if receipt is None and not _is_known(error.message):
                raise
            return receipt
        return None

    async def _included(self, raw: bytes, tx_hash: bytes, event: asyncio.Event) -> dict[str, Any]:
        """The receipt as soon as there is one, unless a gap before the nonce keeps it from ever coming."""
        looking = self._target.find_gap(raw, tx_hash)
        if looking is None:
            return await self._receipt(tx_hash, event)
        waiting = asyncio.ensure_future(self._receipt(tx_hash, event))
        gap = asyncio.ensure_future(looking)
        try:
            await asyncio.wait({waiting, gap}, return_when=asyncio.FIRST_COMPLETED)
            if not waiting.done():
                error = await gap
                if error is not None and not waiting.done():
                    raise error
            return await waiting
        finally:
            waiting.cancel()
            gap.cancel()

    async def _receipt(self, tx_hash: bytes, event: asyncio.Event) -> dict[str, Any]:
        while True:
            event.clear()
            receipt = await self._target.receipt(tx_hash)
            if receipt is not None:
                return receipt
            error = self._target.dropped(tx_hash)
            if error is not None:
                raise error
            await wait_for(event, self._target.recheck_s)


def _bounded_timeout_ms(asked: int | None, longest: int) -> int:
    """The time-out that holds: one that is not between one and the longest means the longest."""
    return asked if asked is not None and 0 < asked <= longest else longest


def _not_confirmed(transaction_hash: bytes, timeout_ms: int) -> RpcError:
    """The transaction is in no block or flashblock after that time."""
    shown = to_hex(transaction_hash)
    message = f"Transaction {shown} was added to the mempool but wasn't confirmed within {timeout_ms} ms."
    return RpcError(CONFIRMATION_TIMEOUT, message, shown)


def not_ready(transaction_hash: bytes, next_nonce: int | None = None) -> RpcError:
    """The transaction waits behind a gap; `next_nonce` is what would fill it, where that is known."""
    shown = to_hex(transaction_hash)
    known = "" if next_nonce is None else f", the next one of its sender is {next_nonce}"
    message = (
        f"Transaction {shown} was added to the mempool but cannot be executed yet: nonce too high{known}."
    )
    return RpcError(NOT_READY, message, shown)


def _is_known(refusal: Any) -> bool:
    """Whether a pool refused a transaction, in these words, because it has it already."""
    text = str(refusal).lower()
    return any(words in text for words in _KNOWN)
