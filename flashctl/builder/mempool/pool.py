"""Pending transactions: per sender by nonce, across senders by effective tip.

    executable   an unbroken chain of nonces from the sender's account on; only these are offered to blocks
    queued       behind a gap, or found not executable: a small part, first in, first out, and for minutes

Executable ones are never rejected in favour of queued ones, which are evicted first; then the sender whose
chain pays least loses its last transaction to one that pays more. No operation iterates over all
senders: the order in which to build (`pool_order`), the cheapest and the oldest are kept as they change.

The pool does not depend on a chain: `add` takes the sender's nonce and balance, and `best` a function that
reads a nonce in the state being built. `Pool.best` is one pass for a flashblock, like the iterators of other
builders, except that each sender continues at its nonce in the block under construction, so a chain of nonces
continues across flashblocks.

Error texts are op-geth's, because wallets and libraries match on them.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Callable, Iterator
from functools import wraps
from itertools import islice
from threading import RLock
from typing import Concatenate, Final, ParamSpec, TypeVar

from flashctl.builder.mempool.entries import (
    PooledTx,
    PoolLimits,
    PoolRefusal,
    SenderState,
    nonce_of_envelope,
)
from flashctl.builder.mempool.price_order import PoolCursor, PriceOrder
from flashctl.op.envelope import TxEnvelope

__all__ = ["Pool", "PoolCursor", "PoolLimits", "PoolRefusal", "PooledTx", "SenderState"]

MAX_EXPIRED: Final = 200
"""Transactions dropped by one `expire`, so that it delays no block."""


MAX_RETRIED: Final = 32
"""Senders with transactions set aside that are retried per block."""


_Given = ParamSpec("_Given")
_Result = TypeVar("_Result")


def _locked(
    method: Callable[Concatenate[Pool, _Given], _Result],
) -> Callable[Concatenate[Pool, _Given], _Result]:
    @wraps(method)
    def locked(self: Pool, /, *args: _Given.args, **keywords: _Given.kwargs) -> _Result:
        with self._lock:
            return method(self, *args, **keywords)

    return locked


class _Account:
    """The pending transactions of one sender."""

    __slots__ = ("chain", "cost", "floor", "held", "least", "listed", "nonce", "queued", "sender")

    def __init__(self, sender: bytes, nonce: int) -> None:
        self.sender = sender
        self.nonce = nonce
        """The account's nonce as last reported: the first of the chain."""

        self.chain: list[PooledTx] = []
        """Executable, by nonce without gaps."""

        self.cost = 0
        """Of the chain, wei."""

        self.least: int | None = None
        """The least fee cap of the chain; None if it must be recomputed."""

        self.queued: dict[int, PooledTx] = {}
        self.held: int | None = None
        """Nonce of a transaction set aside: the chain ends before it until the account is updated."""

        self.listed: PooledTx | None = None
        """The one listed in the price order as this sender's first."""

        self.floor: tuple[int, int, bytes] | None = None
        """The entry among the cheapest: least fee cap, arrival of the last one negated, sender."""

    @property
    def end(self) -> int:
        """The nonce after the chain."""
        return self.nonce + len(self.chain)

    def least_fee_cap(self) -> int:
        """Of the chain, which is not empty."""
        if self.least is None:
            self.least = min(tx.fee_cap for tx in self.chain)
        return self.least

    def cost_before(self, nonce: int) -> int:
        """Wei, of all pending ones with a smaller nonce."""
        if nonce < self.end:
            return sum(tx.cost for tx in self.chain[: max(0, nonce - self.nonce)])
        return self.cost + sum(tx.cost for tx in self.queued.values() if tx.nonce < nonce)

    def executable(self, nonce: int) -> PooledTx | None:
        index = nonce - self.nonce
        return self.chain[index] if 0 <= index < len(self.chain) else None

    def at(self, nonce: int) -> PooledTx | None:
        return self.executable(nonce) or self.queued.get(nonce)


class Pool:
    """All pending transactions. Thread-safe: no call holds its lock for long."""

    def __init__(self, limits: PoolLimits | None = None) -> None:
        self._limits = limits or PoolLimits()
        self._lock = RLock()
        self._accounts: dict[bytes, _Account] = {}
        self._executable: OrderedDict[bytes, PooledTx] = OrderedDict()
        self._queued: OrderedDict[bytes, tuple[PooledTx, float]] = OrderedDict()
        """Both by hash, oldest first; the queued ones with the time since when."""

        self._slots = 0
        self._queued_slots = 0
        self._order = PriceOrder()
        self._cheapest: list[tuple[int, int, bytes]] = []
        """Floors of all accounts with a chain, sorted."""

        self._held: OrderedDict[bytes, None] = OrderedDict()
        """Senders with a transaction set aside, oldest first."""

        self._arrivals = 0
        self._now = 0.0

    def __len__(self) -> int:
        return len(self._executable) + len(self._queued)

    def __contains__(self, tx_hash: bytes) -> bool:
        return tx_hash in self._executable or tx_hash in self._queued

    @property
    def queued_count(self) -> int:
        """How many of the waiting transactions are not executable."""
        return len(self._queued)

    @_locked
    def get(self, tx_hash: bytes) -> TxEnvelope | None:
        """A waiting transaction by its hash."""
        pooled = self._find(tx_hash)
        return pooled.envelope if pooled else None

    # ---- adding ---------------------------------------------------------------------------------

    @_locked
    def add(self, envelope: TxEnvelope, cost: int, state: SenderState, now: float) -> PooledTx:
        """Add a transaction, possibly replacing one with the same nonce.

        Args:
            envelope: Decoded, with its sender; already checked against the rules that need no pool.
            cost: The most it can cost its sender, in wei.
            state: The sender's account at the head and in the block being built.
            now: Seconds on a monotonic clock.

        Raises:
            PoolRefusal: If it is known, too old, unaffordable, underpriced, or there is no room.
        """
        if envelope.hash in self:
            raise PoolRefusal("already known")
        nonce = nonce_of_envelope(envelope)
        if nonce < state.nonce:
            raise PoolRefusal(f"nonce too low: next nonce {state.nonce}, tx nonce {nonce}")
        sender = envelope.sender
        account = self._accounts.get(sender)
        if account is not None and account.nonce != state.nonce:
            self.advance(sender, state.nonce, state.most)
            account = self._accounts.get(sender)
        if account is None:
            account = _Account(sender, state.nonce)
        _check_funds(account, nonce, cost, state)
        self._now = now
        tx = PooledTx.of(envelope, cost, self._arrivals + 1, now)
        if (previous := account.at(nonce)) is not None:
            _check_replacement(previous, tx, self._limits.price_bump_percent)
        is_executable = nonce <= account.end and nonce not in account.queued
        if is_executable:
            self._make_room(account, tx)
        else:
            self._make_room_queued(account, tx)
        self._arrivals += 1
        # An account is removed with its last transaction, which may just have been evicted.
        account = self._accounts.setdefault(sender, account)
        self._put(account, tx, is_executable=is_executable)
        self._promote(account, state.most)
        self._relist(account)
        return tx

    def _make_room(self, account: _Account, tx: PooledTx) -> None:
        """Evict for an executable transaction: queued ones first, then those that pay less."""
        limit = self._limits.per_sender
        slots = tx.slots
        if (previous := account.executable(tx.nonce)) is not None:
            slots -= previous.slots
        elif len(account.chain) >= limit:
            raise PoolRefusal(f"account limit exceeded: {limit} transactions of this sender wait")
        elif len(account.chain) + len(account.queued) >= limit:
            self.remove(account.queued[max(account.queued)].envelope.hash)
        price = min(account.least_fee_cap(), tx.fee_cap) if account.chain else tx.fee_cap
        while self._slots + slots > self._limits.transactions:
            if self._queued:
                self.remove(next(iter(self._queued)))
            # It is never the newcomer's own chain, whose least is no less than the newcomer's price.
            elif self._cheapest and self._cheapest[0][0] < price:
                self.remove(self._accounts[self._cheapest[0][2]].chain[-1].envelope.hash)
            else:
                raise PoolRefusal("txpool is full")

    def _make_room_queued(self, account: _Account, tx: PooledTx) -> None:
        """Evict for a queued transaction: its sender's later nonces, then the oldest queued ones, nothing
        else."""
        limits = self._limits
        others = {nonce: other.slots for nonce, other in account.queued.items() if nonce != tx.nonce}
        used = sum(others.values())
        while (
            used + tx.slots > limits.queued_per_sender
            or len(account.chain) + len(others) >= limits.per_sender
        ):
            farthest = max(others, default=tx.nonce)
            if farthest <= tx.nonce:
                raise PoolRefusal("account limit exceeded: too many transactions of this sender wait")
            used -= others.pop(farthest)
            self.remove(account.queued[farthest].envelope.hash)
        if self._slots - self._queued_slots + tx.slots > limits.transactions or tx.slots > limits.queued:
            raise PoolRefusal("txpool is full")
        if (previous := account.queued.get(tx.nonce)) is not None:
            # Before the oldest go: it may be one of them, and counts no more.
            self._take_queued(account, previous)
        while self._queued_slots + tx.slots > limits.queued or self._slots + tx.slots > limits.transactions:
            self.remove(next(iter(self._queued)))

    def _put(self, account: _Account, tx: PooledTx, *, is_executable: bool) -> None:
        """Put it into its place, which another may occupy."""
        if not is_executable:
            if (queued := account.queued.get(tx.nonce)) is not None:
                self._take_queued(account, queued)
            self._enqueue(account, tx)
            if account.held == tx.nonce:
                self._release(account)
        elif (previous := account.executable(tx.nonce)) is not None:
            self._forget_executable(account, previous)
            account.chain[tx.nonce - account.nonce] = tx
            account.least = None
            self._count_executable(account, tx)
        else:
            self._append(account, tx)

    def _append(self, account: _Account, tx: PooledTx) -> None:
        account.least = min(account.least_fee_cap(), tx.fee_cap) if account.chain else tx.fee_cap
        account.chain.append(tx)
        self._count_executable(account, tx)

    def _count_executable(self, account: _Account, tx: PooledTx) -> None:
        account.cost += tx.cost
        self._slots += tx.slots
        self._executable[tx.envelope.hash] = tx

    def _enqueue(self, account: _Account, tx: PooledTx) -> None:
        account.queued[tx.nonce] = tx
        self._slots += tx.slots
        self._queued_slots += tx.slots
        self._queued[tx.envelope.hash] = (tx, self._now)

    def _promote(self, account: _Account, balance: int | None) -> None:
        """Move queued transactions that continue the chain into it, as far as the balance covers them."""
        while account.held != account.end and (tx := account.queued.get(account.end)) is not None:
            if balance is not None and tx.cost > balance:
                # The sender may receive funds without notice, so it is retried.
                self._hold(account, tx.nonce)
                return
            self._take_queued(account, tx)
            self._append(account, tx)

    # ---- removing -------------------------------------------------------------------------------

    @_locked
    def remove(self, tx_hash: bytes) -> None:
        """Remove one transaction, if present; those that depend on it are queued."""
        tx = self._find(tx_hash)
        if tx is None:
            return
        account = self._accounts[tx.envelope.sender]
        if tx_hash in self._queued:
            self._take_queued(account, tx)
            if account.held == tx.nonce:
                self._release(account)
        else:
            self._cut(account, tx.nonce + 1)
            self._drop_last(account)
        self._relist(account)

    @_locked
    def set_aside(self, tx_hash: bytes) -> None:
        """Queue a transaction found not executable in the newest state, and those that depend on it, until
        its sender's account is updated.
        """
        tx = self._executable.get(tx_hash)
        if tx is not None:
            account = self._accounts[tx.envelope.sender]
            self._cut(account, tx.nonce)
            self._hold(account, tx.nonce)
            self._relist(account)

    @_locked
    def set_aside_senders(self) -> list[bytes]:
        """Up to MAX_RETRIED senders to `advance` at a new head, even if it contains none of their
        transactions."""
        return list(islice(self._held, MAX_RETRIED))

    @_locked
    def advance(self, sender: bytes, nonce: int, balance: int | None = None) -> None:
        """Update an account at a new head: transactions below its `nonce` are included, unaffordable ones
        queued, and those that follow the nonce executable.

        Args:
            balance: Wei; None if it is not known to have changed.
        """
        account = self._accounts.get(sender)
        if account is None:
            return
        self._release(account)
        settled = min(max(nonce - account.nonce, 0), len(account.chain))
        for tx in account.chain[:settled]:
            self._forget_executable(account, tx)
        del account.chain[:settled]
        account.least = None
        if nonce < account.nonce:
            # A reorganisation: earlier transactions may or may not be reinjected.
            self._cut(account, account.nonce)
        account.nonce = nonce
        for tx in [tx for tx in account.queued.values() if tx.nonce < nonce]:
            self._take_queued(account, tx)
        if balance is not None:
            unpayable = next((tx for tx in account.chain if tx.cost > balance), None)
            if unpayable is not None:
                self._cut(account, unpayable.nonce)
        self._promote(account, balance)
        self._relist(account)

    @_locked
    def expire(self, now: float) -> int:
        """Drop transactions older than their lifetime, up to MAX_EXPIRED; returns how many."""
        self._now = now
        old = [
            tx_hash
            for tx_hash, (_, since) in islice(self._queued.items(), MAX_EXPIRED)
            if since < now - self._limits.queued_lifetime_s
        ]
        old += [
            tx_hash
            for tx_hash, tx in islice(self._executable.items(), MAX_EXPIRED - len(old))
            if tx.arrived_at < now - self._limits.lifetime_s
        ]
        for tx_hash in old:
            self.remove(tx_hash)
        return len(old)

    def _cut(self, account: _Account, nonce: int) -> None:
        """Queue the end of a chain, from a nonce on. The queue's limits are enforced at later additions."""
        while account.chain and account.chain[-1].nonce >= nonce:
            self._enqueue(account, self._drop_last(account))

    def _drop_last(self, account: _Account) -> PooledTx:
        tx = account.chain.pop()
        account.least = None
        self._forget_executable(account, tx)
        return tx

    def _forget_executable(self, account: _Account, tx: PooledTx) -> None:
        account.cost -= tx.cost
        self._slots -= tx.slots
        del self._executable[tx.envelope.hash]

    def _take_queued(self, account: _Account, tx: PooledTx) -> None:
        del account.queued[tx.nonce]
        del self._queued[tx.envelope.hash]
        self._slots -= tx.slots
        self._queued_slots -= tx.slots

    def _hold(self, account: _Account, nonce: int) -> None:
        account.held = nonce
        self._held[account.sender] = None

    def _release(self, account: _Account) -> None:
        if account.held is not None:
            account.held = None
            self._held.pop(account.sender, None)

    def _relist(self, account: _Account) -> None:
        """Update the orders across senders after one sender's transactions changed."""
        chain = account.chain
        first = chain[0] if chain else None
        if first is not account.listed:
            if account.listed is not None:
                self._order.remove(account.listed)
            if first is not None:
                self._order.add(first)
            account.listed = first
        floor = (account.least_fee_cap(), -chain[-1].arrival, account.sender) if chain else None
        if floor != account.floor:
            if account.floor is not None:
                del self._cheapest[bisect_left(self._cheapest, account.floor)]
            if floor is not None:
                insort(self._cheapest, floor)
            account.floor = floor
        if not chain and not account.queued:
            self._release(account)
            self._accounts.pop(account.sender, None)

    # ---- reading --------------------------------------------------------------------------------

    @_locked
    def next_nonce(self, sender: bytes, nonce: int) -> int:
        """The nonce after the executable transactions from `nonce` on; `nonce` itself if there are none."""
        account = self._accounts.get(sender)
        return account.end if account is not None and account.nonce <= nonce < account.end else nonce

    def senders(self) -> Iterator[tuple[bytes, list[PooledTx]]]:
        """Every sender with its transactions in nonce order."""
        for sender in self.addresses():
            executable, queued = self.of_sender(sender)
            yield sender, executable + queued

    @_locked
    def addresses(self) -> list[bytes]:
        """Every sender."""
        return list(self._accounts)

    @_locked
    def of_sender(self, sender: bytes) -> tuple[list[PooledTx], list[PooledTx]]:
        """A sender's executable and queued transactions, each in nonce order."""
        account = self._accounts.get(sender)
        if account is None:
            return [], []
        return list(account.chain), [account.queued[nonce] for nonce in sorted(account.queued)]

    def best(
        self, base_fee: int, nonce_of: Callable[[bytes], int], passed: dict[bytes, int] | None = None
    ) -> PoolCursor:
        """The order in which to try transactions now.

        Args:
            base_fee: Of the block being built, in wei.
            nonce_of: The nonce of a sender in the state being built.
            passed: One dictionary for all passes of a block, which records whose transactions are in the
                block already.
        """
        return PoolCursor(
            self._order, self._lock, self._executable_at, base_fee, nonce_of, {} if passed is None else passed
        )

    def _find(self, tx_hash: bytes) -> PooledTx | None:
        tx = self._executable.get(tx_hash)
        if tx is None and (queued := self._queued.get(tx_hash)) is not None:
            tx = queued[0]
        return tx

    def _executable_at(self, sender: bytes, nonce: int) -> PooledTx | None:
        account = self._accounts.get(sender)
        return None if account is None else account.executable(nonce)


def _check_funds(account: _Account, nonce: int, cost: int, state: SenderState) -> None:
    """The balance must also cover the sender's pending transactions before this one: at the head, or in the
    block being built, where some of them may be included already.
    """
    missing = _missing_funds(cost, state.balance, account.cost_before(nonce))
    if missing is not None and state.open_balance > 0 and state.open_nonce <= nonce:
        settled = account.cost_before(state.open_nonce)
        missing = _missing_funds(cost, state.open_balance, account.cost_before(nonce) - settled)
    if missing is not None:
        raise PoolRefusal(f"insufficient funds for gas * price + value: {missing}")


def _missing_funds(cost: int, balance: int, queued: int) -> str | None:
    """The shortfall as text, or None if a balance covers a transaction and those pending before it."""
    if cost > balance:
        return f"balance {balance}, tx cost {cost}, overshot {cost - balance}"
    if queued + cost > balance:
        overshot = queued + cost - balance
        return f"balance {balance}, queued cost {queued}, tx cost {cost}, overshot {overshot}"
    return None


def _check_replacement(old: PooledTx, new: PooledTx, bump_percent: int) -> None:
    for before, after in ((old.fee_cap, new.fee_cap), (old.tip_cap, new.tip_cap)):
        if after * 100 < before * (100 + bump_percent):
            raise PoolRefusal("replacement transaction underpriced")
