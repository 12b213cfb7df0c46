"""Entries of the mempool: a pending transaction, its size in slots, and the limits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from flashctl.errors import FlashctlError
from flashctl.eth.transactions import DepositTx, max_fee, priority_fee
from flashctl.op.envelope import TxEnvelope

__all__ = ["SLOT_BYTES", "PoolLimits", "PoolRefusal", "PooledTx", "SenderState", "nonce_of_envelope"]

SLOT_BYTES: Final = 8 * 1024
"""Limits count slots, as geth's do, so that they bound bytes too. Its slot is 32 KiB; with smaller ones the
10,000 of a full pool are 80 MB at most instead of 320, and an everyday transaction still takes just one."""


class PoolRefusal(FlashctlError):
    """The mempool rejects a transaction; the text is returned to its sender."""


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """Bounds of the pool; with them its memory is bounded too."""

    transactions: int = 10_000
    """In slots, executable and queued ones together; queued ones are evicted first."""

    per_sender: int = 1_024
    """Far above the 16 of public mempools: one sequencer serves every sender, and market makers send
    chains."""

    lifetime_s: float = 3 * 3600
    """After this an executable transaction that was never included is dropped."""

    queued: int = 1_024
    """In slots, of all senders: geth's figure. They cost their senders nothing, so they get little."""

    queued_per_sender: int = 64
    """In slots: geth's figure."""

    queued_lifetime_s: float = 600
    """Of a transaction behind a gap. What arrives out of order is in order within seconds."""

    price_bump_percent: int = 10
    """How much more a replacement must pay, in both fee fields: the default of op-geth and op-reth."""


@dataclass(frozen=True, slots=True)
class SenderState:
    """A sender's account at the head, and in the block being built on it.

    A transaction is affordable by either: the block being built contains payments just received, and if it is
    never sealed, the head's state still applies.
    """

    nonce: int
    balance: int
    """Wei."""

    open_nonce: int = 0
    open_balance: int = 0
    """Both as of the newest flashblock; zeros if no block is being built."""

    @property
    def most(self) -> int:
        """Wei that the sender can pay in one of the two."""
        return max(self.balance, self.open_balance)


@dataclass(frozen=True, slots=True, eq=False)
class PooledTx:
    """One pending transaction."""

    envelope: TxEnvelope
    cost: int
    """The most it can take from its sender in wei: gas, value, L1 fee and operator fee."""

    arrival: int
    """Ordinal of its arrival; breaks ties between equal tips, first come, first included."""

    arrived_at: float
    """Seconds on the caller's clock."""

    nonce: int
    fee_cap: int
    """The most it pays per gas, in wei."""

    tip_cap: int
    """The most of it that goes to the fee recipient, at any base fee."""

    slots: int

    @classmethod
    def of(cls, envelope: TxEnvelope, cost: int, arrival: int, arrived_at: float) -> PooledTx:
        """A transaction with the fields that the pool reads often."""
        tx = envelope.tx
        slots = 1 + (len(envelope.raw) - 1) // SLOT_BYTES
        nonce = nonce_of_envelope(envelope)
        return cls(envelope, cost, arrival, arrived_at, nonce, max_fee(tx), priority_fee(tx, 0), slots)

    def tip(self, base_fee: int) -> int:
        """Wei per gas for the fee recipient; negative if the fee cap is below `base_fee`."""
        return min(self.tip_cap, self.fee_cap - base_fee)


def nonce_of_envelope(envelope: TxEnvelope) -> int:
    """The nonce of a transaction that the pool may hold.

    Raises:
        PoolRefusal: If it is a deposit.
    """
    tx = envelope.tx
    if isinstance(tx, DepositTx):
        raise PoolRefusal("transaction type not supported")
    return tx.nonce
