"""The pool against one that keeps plain lists and looks at all of them for every question."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from support.examples import examples

from flashctl.builder.mempool.entries import SLOT_BYTES
from flashctl.builder.mempool.pool import Pool, PoolLimits, PoolRefusal, SenderState
from flashctl.eth.transactions import FeeMarketTx, encode_transaction
from flashctl.op.envelope import TxEnvelope

SENDERS = [bytes([index]) * 20 for index in range(1, 6)]
LIMITS = PoolLimits(
    transactions=14, per_sender=6, lifetime_s=100, queued=5, queued_per_sender=3, queued_lifetime_s=20
)
_salt = count(1)


def signed(sender: bytes, nonce: int, tip: int, fee: int, size: int = 0) -> TxEnvelope:
    """A distinct transaction; the pool never looks at signatures, so none is made."""
    tx = FeeMarketTx(901, nonce, tip, fee, 21_000, bytes(20), next(_salt), bytes(size), (), 0, 1, 1)
    return TxEnvelope(encode_transaction(tx), tx, sender)


@dataclass(eq=False)
class Waiting:
    envelope: TxEnvelope
    cost: int
    arrival: int
    since: float

    @property
    def nonce(self) -> int:
        return self.envelope.tx.nonce  # type: ignore[union-attr]

    @property
    def fee(self) -> int:
        return self.envelope.tx.max_fee_per_gas  # type: ignore[union-attr]

    @property
    def slots(self) -> int:
        return -(-len(self.envelope.raw) // SLOT_BYTES)

    def tip(self, base_fee: int) -> int:
        return min(self.envelope.tx.max_priority_fee_per_gas, self.fee - base_fee)  # type: ignore[union-attr]


@dataclass
class Plain:
    """What the pool is to do, said as plainly as possible."""

    nonces: dict[bytes, int] = field(default_factory=dict)
    chains: dict[bytes, list[Waiting]] = field(default_factory=dict)
    executable: list[Waiting] = field(default_factory=list)
    queued: list[Waiting] = field(default_factory=list)
    """Both with the longest waiting one first."""
    held: dict[bytes, int] = field(default_factory=dict)

    def slots(self) -> int:
        return sum(tx.slots for tx in self.executable + self.queued)

    def queued_of(self, sender: bytes) -> dict[int, Waiting]:
        return {tx.nonce: tx for tx in self.queued if tx.envelope.sender == sender}

    def end(self, sender: bytes) -> int:
        return self.nonces[sender] + len(self.chains[sender])

    def least(self, sender: bytes) -> int:
        return min(tx.fee for tx in self.chains[sender])

    def cut(self, sender: bytes, nonce: int, now: float) -> None:
        chain = self.chains[sender]
        while chain and chain[-1].nonce >= nonce:
            last = chain.pop()
            self.executable.remove(last)
            last.since = now
            self.queued.append(last)

    def drop(self, tx: Waiting, now: float) -> None:
        sender = tx.envelope.sender
        if tx in self.queued:
            self.queued.remove(tx)
            if self.held.get(sender) == tx.nonce:
                del self.held[sender]
        else:
            self.cut(sender, tx.nonce + 1, now)
            self.chains[sender].remove(tx)
            self.executable.remove(tx)

    def promote(self, sender: bytes, balance: int | None) -> None:
        while True:
            tx = self.queued_of(sender).get(self.end(sender))
            if tx is None or self.held.get(sender) == tx.nonce:
                return
            if balance is not None and tx.cost > balance:
                self.held[sender] = tx.nonce
                return
            self.queued.remove(tx)
            self.chains[sender].append(tx)
            self.executable.append(tx)

    def advance(self, sender: bytes, nonce: int, balance: int | None, now: float) -> None:
        if not self.chains.get(sender) and not self.queued_of(sender):
            return
        self.held.pop(sender, None)
        for tx in [tx for tx in self.chains[sender] if tx.nonce < nonce]:
            self.chains[sender].remove(tx)
            self.executable.remove(tx)
        if nonce < self.nonces[sender]:
            self.cut(sender, 0, now)
        self.nonces[sender] = nonce
        self.queued = [tx for tx in self.queued if tx.envelope.sender != sender or tx.nonce >= nonce]
        if balance is not None:
            unpayable = [tx.nonce for tx in self.chains[sender] if tx.cost > balance]
            if unpayable:
                self.cut(sender, unpayable[0], now)
        self.promote(sender, balance)

    def add(self, tx: Waiting, state: SenderState, now: float) -> None:
        sender = tx.envelope.sender
        if tx.nonce < state.nonce:
            raise PoolRefusal("nonce too low")
        if not self.chains.get(sender) and not self.queued_of(sender):
            self.nonces[sender], self.chains[sender] = state.nonce, []
            self.held.pop(sender, None)
        elif self.nonces[sender] != state.nonce:
            self.advance(sender, state.nonce, state.balance, now)
        chain, queued, end = self.chains[sender], self.queued_of(sender), self.end(sender)
        before = sum(other.cost for other in (*chain, *queued.values()) if other.nonce < tx.nonce)
        if before + tx.cost > state.balance:
            raise PoolRefusal("insufficient funds")
        previous = next((other for other in (*chain, *queued.values()) if other.nonce == tx.nonce), None)
        if previous is not None:
            old, new = previous.envelope.tx, tx.envelope.tx
            for name in ("max_fee_per_gas", "max_priority_fee_per_gas"):
                if getattr(new, name) * 100 < getattr(old, name) * 110:
                    raise PoolRefusal("replacement transaction underpriced")
        if tx.nonce <= end and tx.nonce not in queued:
            self.make_room(tx, previous, now)
            if previous is not None:
                self.executable.remove(previous)
                chain[chain.index(previous)] = tx
            else:
                chain.append(tx)
            self.executable.append(tx)
        else:
            self.make_room_queued(tx, now)
            self.queued.append(tx)
            if self.held.get(sender) == tx.nonce:
                del self.held[sender]
        self.promote(sender, state.balance)

    def make_room(self, tx: Waiting, previous: Waiting | None, now: float) -> None:
        sender = tx.envelope.sender
        chain, queued = self.chains[sender], self.queued_of(sender)
        if previous is None and len(chain) >= LIMITS.per_sender:
            raise PoolRefusal("account limit exceeded")
        if previous is None and len(chain) + len(queued) >= LIMITS.per_sender:
            self.drop(queued[max(queued)], now)
        price = min(other.fee for other in (*chain, tx))
        more = tx.slots - (previous.slots if previous else 0)
        while self.slots() + more > LIMITS.transactions:
            if self.queued:
                self.drop(self.queued[0], now)
                continue
            tails = [chain[-1] for chain in self.chains.values() if chain]
            worst = min(tails, key=lambda tail: (self.least(tail.envelope.sender), -tail.arrival))
            if self.least(worst.envelope.sender) >= price:
                raise PoolRefusal("txpool is full")
            self.drop(worst, now)

    def make_room_queued(self, tx: Waiting, now: float) -> None:
        sender = tx.envelope.sender
        while True:
            others = [other for other in self.queued_of(sender).values() if other.nonce != tx.nonce]
            fits = sum(other.slots for other in others) + tx.slots <= LIMITS.queued_per_sender
            if fits and len(self.chains[sender]) + len(others) < LIMITS.per_sender:
                break
            farthest = max(others, key=lambda other: other.nonce, default=None)
            if farthest is None or farthest.nonce < tx.nonce:
                raise PoolRefusal("account limit exceeded")
            self.drop(farthest, now)
        if sum(other.slots for other in self.executable) + tx.slots > LIMITS.transactions:
            raise PoolRefusal("txpool is full")
        self.queued = [
            other for other in self.queued if (other.envelope.sender, other.nonce) != (sender, tx.nonce)
        ]
        while (
            self.slots() + tx.slots > LIMITS.transactions
            or sum(other.slots for other in self.queued) + tx.slots > LIMITS.queued
        ):
            self.drop(self.queued[0], now)

    def best(self, base_fee: int, nonces: dict[bytes, int]) -> list[TxEnvelope]:
        """A sender is met by the first that it has waiting, even where the block holds that nonce already."""
        nonces, order = dict(nonces), []
        while True:
            heads = [
                tx
                for sender, chain in self.chains.items()
                for tx in chain
                if chain[0].tip(base_fee) >= 0
                if tx.nonce == nonces.get(sender, 0) >= self.nonces[sender] and tx.tip(base_fee) >= 0
            ]
            if not heads:
                return order
            best = min(heads, key=lambda tx: (-tx.tip(base_fee), tx.arrival))
            nonces[best.envelope.sender] = nonces.get(best.envelope.sender, 0) + 1
            order.append(best.envelope)


class PoolMachine(RuleBasedStateMachine):
    """Arrivals, new heads, removals and time in any order; after each step both say the same."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = Pool(LIMITS)
        self.plain = Plain()
        self.account: dict[bytes, SenderState] = {sender: SenderState(0, 100) for sender in SENDERS}
        self.now = 0.0
        self.arrivals = 0

    @rule(
        sender=st.sampled_from(SENDERS),
        ahead=st.integers(0, 6),
        tip=st.integers(0, 20),
        above=st.integers(0, 20),
        size=st.sampled_from([0, 0, 0, SLOT_BYTES, 2 * SLOT_BYTES]),
        cost=st.sampled_from([1, 1, 1, 20, 101]),
    )
    def arrive(self, sender: bytes, ahead: int, tip: int, above: int, size: int, cost: int) -> None:
        state = self.account[sender]
        envelope = signed(sender, state.nonce + ahead, tip, tip + above, size)
        waiting = Waiting(envelope, cost, self.arrivals + 1, self.now)
        expected = said = ""
        try:
            self.plain.add(waiting, state, self.now)
            self.arrivals += 1
        except PoolRefusal as refusal:
            expected = str(refusal)
        try:
            self.pool.add(envelope, cost, state, self.now)
        except PoolRefusal as refusal:
            said = str(refusal)
        assert said.startswith(expected) and bool(said) == bool(expected)

    @rule(sender=st.sampled_from(SENDERS), by=st.integers(-3, 4), balance=st.sampled_from([0, 10, 100]))
    def head(self, sender: bytes, by: int, balance: int) -> None:
        state = SenderState(max(0, self.account[sender].nonce + by), balance)
        self.account[sender] = state
        self.pool.advance(sender, state.nonce, state.balance)
        self.plain.advance(sender, state.nonce, state.balance, self.now)

    @rule(choice=st.integers(0, 30), aside=st.booleans())
    def lose(self, choice: int, aside: bool) -> None:
        waiting = self.plain.executable + self.plain.queued
        if not waiting:
            return
        tx = waiting[choice % len(waiting)]
        if not aside:
            self.pool.remove(tx.envelope.hash)
            self.plain.drop(tx, self.now)
            return
        self.pool.set_aside(tx.envelope.hash)
        if tx in self.plain.executable:
            self.plain.cut(tx.envelope.sender, tx.nonce, self.now)
            self.plain.held[tx.envelope.sender] = tx.nonce

    @rule(seconds=st.integers(1, 60))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        old = [tx for tx in self.plain.queued if tx.since < self.now - LIMITS.queued_lifetime_s]
        old += [tx for tx in self.plain.executable if tx.envelope is not None and self._is_old(tx)]
        assert self.pool.expire(self.now) == len(old)
        for tx in old:
            self.plain.drop(tx, self.now)

    def _is_old(self, tx: Waiting) -> bool:
        pooled = next(
            entry
            for entry in self.pool.of_sender(tx.envelope.sender)[0]
            if entry.envelope.hash == tx.envelope.hash
        )
        return pooled.arrived_at < self.now - LIMITS.lifetime_s

    @rule(base_fee=st.integers(0, 25), built=st.lists(st.integers(-1, 3), min_size=5, max_size=5))
    def build(self, base_fee: int, built: list[int]) -> None:
        """A pass, with a block under construction that holds some already."""
        nonces = {
            sender: max(0, self.account[sender].nonce + more)
            for sender, more in zip(SENDERS, built, strict=True)
        }
        passed: dict[bytes, int] = {}
        for _ in range(2):
            state = dict(nonces)
            cursor = self.pool.best(base_fee, lambda sender: state.get(sender, 0), passed)  # noqa: B023
            got = []
            while (envelope := cursor.next()) is not None:
                state[envelope.sender] += 1
                got.append(envelope)
            assert got == self.plain.best(base_fee, nonces)
            nonces = state

    @invariant()
    def both_hold_the_same(self) -> None:
        for sender in SENDERS:
            executable, queued = self.pool.of_sender(sender)
            assert [tx.envelope for tx in executable] == [
                tx.envelope for tx in self.plain.chains.get(sender, [])
            ]
            expected = self.plain.queued_of(sender)
            assert [tx.envelope for tx in queued] == [expected[nonce].envelope for nonce in sorted(expected)]
        assert len(self.pool) == len(self.plain.executable) + len(self.plain.queued)
        assert self.pool.queued_count == len(self.plain.queued)
        assert self.plain.slots() <= LIMITS.transactions
        assert set(self.pool.addresses()) == {
            tx.envelope.sender for tx in self.plain.executable + self.plain.queued
        }
        assert set(self.pool.set_aside_senders()) == set(self.plain.held)


PoolMachine.TestCase.settings = settings(max_examples=examples(60), stateful_step_count=40)
TestPool = PoolMachine.TestCase


class TestPoolAtLength(PoolMachine.TestCase):
    """The same for longer."""

    settings = settings(max_examples=examples(400), stateful_step_count=80)
    pytestmark = pytest.mark.slow
