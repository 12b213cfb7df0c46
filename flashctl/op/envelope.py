"""A transaction with everything that is computed from its bytes once and needed often.

Decoding, hash, sender and FastLZ size cost about 100 us together; block building, execution, receipts, JSON
views and the DA limits all need some of them, so they travel with the transaction.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

from flashctl.eth.keccak import keccak256
from flashctl.eth.signatures import recover_sender
from flashctl.eth.transactions import DepositTx, Transaction, decode_transaction
from flashctl.op.fastlz import compressed_length
from flashctl.op.fees import estimated_da_size

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

__all__ = ["TxEnvelope", "recover_all"]

_PARALLEL_FROM = 8
"""Transactions from which threads pay; coincurve frees the GIL during the 45 us of a recovery."""


class TxEnvelope:
    """A decoded transaction, its EIP-2718 bytes, hash and sender. Treat it as immutable."""

    __slots__ = ("_da_size", "_fastlz_size", "checked_for", "hash", "raw", "sender", "tx")

    raw: bytes
    """EIP-2718 encoding, signature included: what enters the transactions root and the L1 fee."""

    tx: Transaction
    """The decoded fields."""

    hash: bytes
    """Keccak-256 of `raw`."""

    sender: bytes
    """Recovered from the signature, or the `from` of a deposit (20 bytes)."""

    def __init__(self, raw: bytes, tx: Transaction, sender: bytes) -> None:
        self.raw = raw
        self.tx = tx
        self.hash = keccak256(raw)
        self.sender = sender
        self.checked_for: int | None = None
        """Chain id for which the rules that need neither state nor fork were found to hold."""
        self._da_size: int | None = None
        self._fastlz_size: int | None = None

    @classmethod
    def decode(cls, raw: bytes) -> TxEnvelope:
        """Decode a transaction and recover its sender.

        Raises:
            InvalidTransaction: If the bytes are no transaction.
            InvalidSignature: If no sender can be recovered.
        """
        tx = decode_transaction(raw)
        return cls(raw, tx, recover_sender(tx))

    @property
    def is_deposit(self) -> bool:
        """Whether this is a deposit (type 0x7e): unsigned, forced, free of fees."""
        return type(self.tx) is DepositTx

    @property
    def fastlz_size(self) -> int:
        """Length of `raw` under FastLZ, in bytes; computed at first use."""
        size = self._fastlz_size
        if size is None:
            size = self._fastlz_size = compressed_length(self.raw)
        return size

    @property
    def da_size(self) -> int:
        """Estimated bytes on L1, at least 100: the unit of `miner_setMaxDASize` and of Jovian's DA
        footprint.
        """
        size = self._da_size
        if size is None:
            size = self._da_size = estimated_da_size(self.fastlz_size) // 1_000_000
        return size

    def __repr__(self) -> str:
        return f"TxEnvelope(0x{self.hash.hex()}, {type(self.tx).__name__})"


def recover_all(raws: Sequence[bytes]) -> list[TxEnvelope]:
    """Decode many transactions, recovering senders on all cores.

    Raises:
        InvalidTransaction: For the first transaction that does not decode.
        InvalidSignature: For the first one without a sender.
    """
    if len(raws) < _PARALLEL_FROM:
        return [TxEnvelope.decode(raw) for raw in raws]
    return list(_threads().map(TxEnvelope.decode, raws))


@cache
def _threads() -> ThreadPoolExecutor:
    from concurrent.futures import ThreadPoolExecutor

    return ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="recover")
