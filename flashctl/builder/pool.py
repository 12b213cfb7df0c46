"""Transactions that wait to be built in: per sender by nonce, across senders by what they pay.

The pool knows no chain: whoever adds a transaction passes the sender's nonce and balance, and whoever builds
passes how to look a nonce up in the state being built. `Pool.best` is a snapshot for one flashblock, like the
iterators of other builders, except that each sender continues at the nonce of the block under
construction, so a chain of nonces flows on through its flashblocks.

Refusals use the words of op-geth, because wallets and libraries match on them.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from flashctl.errors import FlashctlError
from flashctl.eth.transactions import DepositTx, max_fee, priority_fee
from flashctl.op.envelope import TxEnvelope

__all__ = ["Pool", "PoolCursor", "PoolLimits", "PoolRefusal", "PooledTx", "SenderState"]

PRICE_BUMP_PERCENT: Final = 10
"""How much more a replacement must pay, in both fee fields: the default of op-geth and op-reth."""


class PoolRefusal(FlashctlError):
    """The pool does not take a transaction; the text is what the sender of it reads."""


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """Bounds of the pool; with them its memory is bounded too."""

    transactions: int = 10_000
    per_sender: int = 1_024
    """Far above the 16 of public pools: one sequencer sees every sender, and market makers send chains."""

    lifetime_s: float = 3 * 3600
    """After this a transaction that was never built in is dropped."""


@dataclass(frozen=True, slots=True)
class SenderState:
    """The account of a sender at the chain's head."""

    nonce: int
    balance: int
    """Wei."""


@dataclass(frozen=True, slots=True)
class PooledTx:
    """One waiting transaction."""

    envelope: TxEnvelope
    cost: int
    """The most it can take from its sender in wei: gas, value, L1 fee and operator fee."""

    arrival: int
    """Ordinal of its arrival; breaks ties between equal tips, first come first built."""

    arrived_at: float
    """Seconds on the caller's clock."""

    @property
    def nonce(self) -> int:
        return _nonce(self.envelope)


class Pool:
    """All waiting transactions. Not thread-safe; lives on the event loop."""

    def __init__(self, limits: PoolLimits | None = None) -> None:
        self._limits = limits or PoolLimits()
        self._senders: dict[bytes, dict[int, PooledTx]] = {}
        self._by_hash: dict[bytes, PooledTx] = {}
        self._arrivals = 0

    def __len__(self) -> int:
        return len(self._by_hash)

    def __contains__(self, tx_hash: bytes) -> bool:
        return tx_hash in self._by_hash

    def get(self, tx_hash: bytes) -> TxEnvelope | None:
        """A waiting transaction by its hash."""
        pooled = self._by_hash.get(tx_hash)
        return pooled.envelope if pooled else None

    def add(self, envelope: TxEnvelope, cost: int, state: SenderState, now: float) -> PooledTx:
        """Take a transaction in, perhaps in place of one with the same nonce.

        Args:
            envelope: Decoded, with its sender; already checked against rules that need no pool.
            cost: The most it can take from its sender, in wei.
            state: The sender's account at the head.
            now: Seconds on any steady clock.

        Raises:
            PoolRefusal: If it is known, too old, unaffordable, underpriced, or there is no room.
        """
        if envelope.hash in self._by_hash:
            raise PoolRefusal("already known")
        nonce = _nonce(envelope)
        if nonce < state.nonce:
            raise PoolRefusal(f"nonce too low: next nonce {state.nonce}, tx nonce {nonce}")
        queue = self._senders.get(envelope.sender, {})
        previous = queue.get(nonce)
        self._check_funds(queue, nonce, cost, state)
        if previous is not None:
            _check_replacement(previous.envelope, envelope)
        elif len(queue) >= self._limits.per_sender:
            limit = self._limits.per_sender
            raise PoolRefusal(f"account limit exceeded: {limit} transactions of this sender wait")
        elif len(self._by_hash) >= self._limits.transactions:
            self._make_room(envelope)
        self._arrivals += 1
        pooled = PooledTx(envelope, cost, self._arrivals, now)
        if previous is not None:
            del self._by_hash[previous.envelope.hash]
        self._senders.setdefault(envelope.sender, {})[nonce] = pooled
        self._by_hash[envelope.hash] = pooled
        return pooled

    def remove(self, tx_hash: bytes) -> None:
        """Forget one transaction, if it waits here."""
        pooled = self._by_hash.pop(tx_hash, None)
        if pooled is None:
            return
        queue = self._senders[pooled.envelope.sender]
        del queue[pooled.nonce]
        if not queue:
            del self._senders[pooled.envelope.sender]

    def advance(self, sender: bytes, nonce: int) -> None:
        """Drop what a new head has settled: every transaction of `sender` below its `nonce`."""
        for waiting in [tx for tx in self._senders.get(sender, {}).values() if tx.nonce < nonce]:
            self.remove(waiting.envelope.hash)

    def expire(self, now: float) -> int:
        """Drop transactions that waited longer than their lifetime; returns how many."""
        limit = now - self._limits.lifetime_s
        old = [tx_hash for tx_hash, pooled in self._by_hash.items() if pooled.arrived_at < limit]
        for tx_hash in old:
            self.remove(tx_hash)
        return len(old)

    def next_nonce(self, sender: bytes, nonce: int) -> int:
        """The nonce after the unbroken chain of waiting transactions that starts at `nonce`."""
        queue = self._senders.get(sender, {})
        while nonce in queue:
            nonce += 1
        return nonce

    def senders(self) -> Iterator[tuple[bytes, list[PooledTx]]]:
        """Every sender with its transactions in nonce order."""
        for sender, queue in self._senders.items():
            yield sender, [queue[nonce] for nonce in sorted(queue)]

    def best(self, base_fee: int, nonce_of: Callable[[bytes], int]) -> PoolCursor:
        """The order in which to try transactions now.

        Args:
            base_fee: Of the block being built, in wei.
            nonce_of: The nonce of a sender in the state being built.
        """
        return PoolCursor(self._senders, base_fee, nonce_of)

    def _check_funds(self, queue: dict[int, PooledTx], nonce: int, cost: int, state: SenderState) -> None:
        """The balance must cover everything that this sender queued before the transaction as well."""
        queued = sum(tx.cost for other, tx in queue.items() if other < nonce)
        if cost > state.balance:
            raise PoolRefusal(
                f"insufficient funds for gas * price + value: balance {state.balance}, tx cost {cost},"
                f" overshot {cost - state.balance}"
            )
        if queued + cost > state.balance:
            raise PoolRefusal(
                f"insufficient funds for gas * price + value: balance {state.balance}, queued cost {queued},"
                f" tx cost {cost}, overshot {queued + cost - state.balance}"
            )

    def _make_room(self, newcomer: TxEnvelope) -> None:
        """Evict the last transaction of the sender whose last one pays least, if the newcomer pays more."""
        tails = (queue[max(queue)] for queue in self._senders.values())
        cheapest = min(tails, key=lambda tx: (_fee_cap(tx.envelope), -tx.arrival))
        if _fee_cap(cheapest.envelope) >= _fee_cap(newcomer):
            raise PoolRefusal("txpool is full")
        self.remove(cheapest.envelope.hash)


class PoolCursor:
    """One pass over the pool: the best executable transaction first, each sender's in nonce order."""

    def __init__(
        self, senders: dict[bytes, dict[int, PooledTx]], base_fee: int, nonce_of: Callable[[bytes], int]
    ) -> None:
        self._base_fee = base_fee
        self._waiting: dict[bytes, list[PooledTx]] = {}
        """Per sender what is left to try, the next one last."""

        self._heap: list[tuple[int, int, bytes]] = []
        """(tip negated, arrival, sender) of the next transaction of each sender."""

        for sender, queue in senders.items():
            chain = list(_unbroken_chain(queue, nonce_of(sender)))
            if chain:
                self._waiting[sender] = chain[::-1]
                self._offer(sender)

    def next(self) -> TxEnvelope | None:
        """The next transaction to try; None when nothing is left that pays the base fee."""
        while self._heap:
            _, _, sender = heapq.heappop(self._heap)
            waiting = self._waiting.get(sender)
            if waiting:
                chosen = waiting.pop()
                self._offer(sender)
                return chosen.envelope
        return None

    def skip_sender(self, sender: bytes) -> None:
        """Leave out what remains of a sender, because its last transaction did not fit or cannot run now."""
        self._waiting.pop(sender, None)

    def _offer(self, sender: bytes) -> None:
        waiting = self._waiting[sender]
        if not waiting:
            return
        tip = priority_fee(waiting[-1].envelope.tx, self._base_fee)
        if tip >= 0:
            heapq.heappush(self._heap, (-tip, waiting[-1].arrival, sender))


def _unbroken_chain(queue: dict[int, PooledTx], nonce: int) -> Iterator[PooledTx]:
    while (pooled := queue.get(nonce)) is not None:
        yield pooled
        nonce += 1


def _nonce(envelope: TxEnvelope) -> int:
    tx = envelope.tx
    if isinstance(tx, DepositTx):
        raise PoolRefusal("transaction type not supported")
    return tx.nonce


def _fee_cap(envelope: TxEnvelope) -> int:
    return max_fee(envelope.tx)


def _tip_cap(envelope: TxEnvelope) -> int:
    """The most a transaction leaves for the fee recipient, whatever the base fee."""
    return priority_fee(envelope.tx, 0)


def _check_replacement(old: TxEnvelope, new: TxEnvelope) -> None:
    for cap in (_fee_cap, _tip_cap):
        if cap(new) * 100 < cap(old) * (100 + PRICE_BUMP_PERCENT):
            raise PoolRefusal("replacement transaction underpriced")
