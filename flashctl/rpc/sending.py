"""Transactions are forwarded to the sequencer; accepted ones count for their sender's next nonce."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import Any, Final

from flashctl.core.jsonrpc.errors import RpcError
from flashctl.core.jsonrpc.gathered_calls import GatheredCalls
from flashctl.errors import FlashctlError
from flashctl.eth.hexdata import to_hex
from flashctl.eth.signatures import InvalidSignature
from flashctl.eth.transactions import DepositTx, InvalidTransaction
from flashctl.ethrpc.send_api import not_ready
from flashctl.lru import Lru
from flashctl.op.envelope import TxEnvelope

__all__ = ["SentNonces", "SequencerTarget", "is_sent"]

RECHECK_S: Final = 1.0
"""How often a waiting call polls the node as well: the transaction may be sealed without being streamed."""

GAP_PATIENCE_S: Final = 0.5
"""How long a gap before a transaction's nonce must last to be reported: the missing transaction may still be
on its way to the mempool by another route."""

ON_THE_WAY_S: Final = 12.0
"""How long an accepted transaction counts for its sender's next nonce without being seen in a block: six
blocks, since it may have been dropped."""

MAX_SENT: Final = 100_000
"""Transactions kept for that; about 20 MB."""

_SENDING: Final = ("send", "cancel")
_KEYS_OF_THE_NODE: Final = "eth_sendTransaction"

Receipts = Callable[[bytes], Awaitable[dict[str, Any] | None]]
Nonces = Callable[[bytes], Awaitable[int]]


def is_sent(method: str) -> bool:
    """Whether a method submits or cancels a transaction: bundles, conditional and private
    transactions (`eth_sendBundle`, `eth_sendRawTransactionConditional`, `eth_cancelPrivateTransaction` ...).
    These go to the sequencer. `eth_sendTransaction` goes to the node, which has the keys."""
    return method.partition("_")[2].startswith(_SENDING) and method != _KEYS_OF_THE_NODE


class SentNonces:
    """Sender and nonce of transactions the sequencer accepted recently, for all listeners."""

    def __init__(self) -> None:
        self._sent = Lru[tuple[bytes, int], float](MAX_SENT)

    def next_nonce(self, sender: bytes, nonce: int) -> int:
        """The nonce after the transactions that `sender`, at `nonce`, has sent through this node and that are
        not in a block yet."""
        since = time.monotonic() - ON_THE_WAY_S
        while (self._sent.peek((sender, nonce)) or 0.0) > since:
            nonce += 1
        return nonce

    def add(self, raw: bytes) -> None:
        """The sequencer accepted this transaction."""
        envelope = _decoded(raw)
        if envelope is not None and not isinstance(envelope.tx, DepositTx):
            self._sent.put((envelope.sender, envelope.tx.nonce), time.monotonic())


class SequencerTarget:
    """The sequencer as the target of sent transactions, for one listener (`ethrpc.send_api.SendTarget`)."""

    recheck_s: Final = RECHECK_S

    def __init__(
        self, sequencer: GatheredCalls, sent: SentNonces, receipt: Receipts, pending_nonce: Nonces
    ) -> None:
        """`sequencer` accepts transactions, `receipt` returns the receipt of one, `pending_nonce` the next
        nonce of an account after its pending transactions."""
        self._sequencer = sequencer
        self._sent = sent
        self._receipt = receipt
        self._pending_nonce = pending_nonce

    async def send(self, raw: bytes) -> Any:
        """See `SendTarget`."""
        answer = await self._sequencer.call([to_hex(raw)])
        self._sent.add(raw)
        return answer

    async def receipt(self, tx_hash: bytes) -> dict[str, Any] | None:
        """See `SendTarget`."""
        return await self._receipt(tx_hash)

    def taken(self, raw: bytes, tx_hash: bytes) -> None:
        """See `SendTarget`."""
        self._sent.add(raw)

    def dropped(self, tx_hash: bytes) -> None:
        """Not reported by a sequencer."""

    async def find_gap(self, raw: bytes, tx_hash: bytes) -> RpcError | None:
        """An error if a nonce before the transaction's is missing and stays missing."""
        envelope = _decoded(raw)
        if envelope is None or isinstance(envelope.tx, DepositTx):
            return None
        expected = 0
        for pause_s in (0.0, GAP_PATIENCE_S):
            await asyncio.sleep(pause_s)
            try:
                expected = await self._pending_nonce(envelope.sender)
            except FlashctlError:
                return None
            if expected >= envelope.tx.nonce:
                return None
        return not_ready(tx_hash, expected)


@lru_cache(maxsize=16)
def _decoded(raw: bytes) -> TxEnvelope | None:
    """None for a transaction type unknown here, which the sequencer may support."""
    try:
        return TxEnvelope.decode(raw)
    except (InvalidTransaction, InvalidSignature):
        return None
