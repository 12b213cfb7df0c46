"""Mempool admission: stateless, fork and account checks; and how the mempool follows the chain.

Checks run in the order of their cost: encoding, rules of the fork, gas, then the sender's account. The
expensive properties of a transaction (sender, FastLZ size) are computed here once and kept into the block.

Error texts are op-geth's, because wallets and libraries match on them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, NamedTuple, Protocol

from flashctl.builder.mempool.admission_queue import AdmissionQueue
from flashctl.builder.mempool.pool import Pool, PoolCursor, PoolLimits, PoolRefusal, SenderState
from flashctl.builder.payload.late_transactions import Cut, LatePlan, LateTransactions
from flashctl.core.service import defects
from flashctl.eth.blocks import Header
from flashctl.eth.hexdata import to_hex
from flashctl.eth.intrinsic_gas import calldata_tokens, floor_gas, intrinsic_gas
from flashctl.eth.keccak import EMPTY_CODE_HASH
from flashctl.eth.transactions import (
    BlobTx,
    DepositTx,
    InvalidTransaction,
    SetCodeTx,
    SignedTransaction,
    check_transaction,
    max_fee,
    priority_fee,
)
from flashctl.evm.state import EMPTY_ACCOUNT, Account
from flashctl.evm.world import World
from flashctl.lru import Lru
from flashctl.op.config import ChainConfig
from flashctl.op.envelope import TxEnvelope
from flashctl.op.fees import L1FeeParameters, l1_fee, operator_fee, read_fee_parameters
from flashctl.op.forks import OpFork
from flashctl.op.rules import rules_for

__all__ = ["HeadView", "Mempool"]

_LOG = logging.getLogger(__name__)

MAX_TRANSACTION_BYTES: Final = 128 * 1024
"""Of one encoded transaction, as in op-geth."""

L1_INFO_GAS: Final = 70_000
"""Gas of a block that the L1 attributes deposit takes; a transaction must fit beside it (op-geth)."""

GIVEN_UP_FOR_S: Final = 600.0
MAX_GIVEN_UP: Final = 4_096
"""Dropped transactions kept, which are rejected when sent again: each attempt costs the others a block."""

_DELEGATION_PREFIX: Final = b"\xef\x01\x00"
"""The first bytes of the code of an EIP-7702 delegated account."""


class AdmissionCandidate(NamedTuple):
    """A transaction that passed the checks."""

    envelope: TxEnvelope
    cost: int
    """The most it can cost its sender, in wei."""
    state: SenderState
    """The sender's account..."""
    head: bytes
    """...after the block with this hash."""


class HeadView(Protocol):
    """The part of the chain that admission reads."""

    @property
    def config(self) -> ChainConfig:
        """Fork times and chain id."""
        ...

    @property
    def head(self) -> Header:
        """The newest block."""
        ...

    def world(self, block_hash: bytes) -> World:
        """The state after a block."""
        ...


class Mempool:
    """The pool together with the chain it follows: the transaction pool of JSON-RPC."""

    def __init__(
        self,
        chain: HeadView,
        limits: PoolLimits | None = None,
        *,
        min_tip: int = 0,
        clock: Callable[[], float] = time.monotonic,
        being_built: Callable[[], World | None] = lambda: None,
    ) -> None:
        """An empty mempool.

        Args:
            min_tip: Wei per gas below which nothing is admitted.
            being_built: The state of the block being built on the head, as of its newest flashblock; called
                from any thread.
        """
        self.pool = Pool(limits)
        self._chain = chain
        self._min_tip = min_tip
        self._clock = clock
        self._being_built = being_built
        self._listeners: list[Callable[[TxEnvelope], None]] = []
        self.late: Final = LateTransactions()
        """Transactions cut in earlier blocks."""
        self._given_up = Lru[bytes, tuple[str, float]](MAX_GIVEN_UP)
        """Hashes of transactions that fit no block: the reason, and until when they are rejected."""
        self._given_up_listeners: list[Callable[[bytes], None]] = []
        self._fees: tuple[bytes, L1FeeParameters] | None = None
        self._door: Final = AdmissionQueue(lambda raw: self._look_at(TxEnvelope.decode(raw)), self._take)

    def __len__(self) -> int:
        return len(self.pool)

    def __contains__(self, tx_hash: bytes) -> bool:
        return tx_hash in self.pool

    async def submit(self, raw: bytes) -> TxEnvelope:
        """Decode and admit a transaction; checked in a thread, in batches, in order of arrival.

        Raises:
            InvalidTransaction, InvalidSignature: It is not a valid encoding.
            PoolRefusal: With the error text for the sender.
        """
        _check_size(raw)
        return await self._door.enter(raw)

    def add(self, envelope: TxEnvelope) -> None:
        """Admit a transaction synchronously.

        Raises:
            PoolRefusal: With the error text for the sender.
        """
        self._take(self._look_at(envelope))

    def _look_at(self, envelope: TxEnvelope) -> AdmissionCandidate:
        """Check a transaction against the rules and the newest state; from any thread."""
        head = self._chain.head
        world = self._chain.world(head.hash)
        fork = self._chain.config.fork_at(head.timestamp + 1)
        if (reason := self.given_up(envelope.hash)) is not None:
            raise PoolRefusal(reason)
        tx = self._check_rules(envelope, fork)
        self._check_gas(tx, head, fork)
        state = self._state_of(envelope.sender, world)
        cost = (
            tx.value + tx.gas_limit * max_fee(tx) + self._op_fees(envelope, tx.gas_limit, head, world, fork)
        )
        return AdmissionCandidate(envelope, cost, state, head.hash)

    def _take(self, candidate: AdmissionCandidate) -> TxEnvelope:
        """Add it to the pool, with the sender's current account."""
        if candidate.head != self._chain.head.hash:
            candidate = self._look_at(candidate.envelope)
        envelope = candidate.envelope
        self.pool.add(envelope, candidate.cost, candidate.state, self._clock())
        for listener in list(self._listeners):
            try:
                listener(envelope)
            except Exception as error:
                defects.caught("builder.pool_listener", error)
        return envelope

    def get(self, tx_hash: bytes) -> TxEnvelope | None:
        """A waiting transaction by its hash."""
        return self.pool.get(tx_hash)

    def late_plan(self, number: int) -> LatePlan:
        """How the block with this number handles transactions that earlier ones cut."""
        return self.late.plan(number, self.pool.get)

    def cut(self, cut: Cut, number: int) -> bool:
        """A transaction was cut while it ran in a block; whether it is dropped for good."""
        shown = to_hex(cut.tx_hash)
        reason = self.late.cut(cut, number)
        if reason is None:
            _LOG.info("deferred %s after %.2f s to a later block", shown, cut.spent_s)
            return False
        _LOG.warning("dropped %s: %s", shown, reason)
        self.pool.remove(cut.tx_hash)
        self._given_up.put(cut.tx_hash, (reason, self._clock() + GIVEN_UP_FOR_S))
        for listener in list(self._given_up_listeners):
            listener(cut.tx_hash)
        return True

    def given_up(self, tx_hash: bytes) -> str | None:
        """Why a transaction was dropped as fitting no block; None if it was not."""
        reason, until = self._given_up.peek(tx_hash) or ("", 0.0)
        return reason if reason and self._clock() < until else None

    def on_given_up(self, listener: Callable[[bytes], None]) -> None:
        """Call with the hash of every transaction dropped as fitting no block from now on."""
        self._given_up_listeners.append(listener)

    def pending_nonce(self, address: bytes) -> int | None:
        """The nonce after an account's executable transactions; None if it has none."""
        nonce = self._account(address).nonce
        following = self.pool.next_nonce(address, nonce)
        return following if following > nonce else None

    def senders(self) -> list[bytes]:
        """The accounts with transactions in the pool."""
        return self.pool.addresses()

    def content_from(self, address: bytes) -> tuple[list[TxEnvelope], list[TxEnvelope]]:
        """An account's executable transactions, and those behind a gap."""
        pending, queued = self.pool.of_sender(address)
        return [entry.envelope for entry in pending], [entry.envelope for entry in queued]

    def counts(self) -> tuple[int, int]:
        """How many transactions are executable, and how many are not."""
        queued = self.pool.queued_count
        return len(self.pool) - queued, queued

    def subscribe(self, callback: Callable[[TxEnvelope], None]) -> Callable[[], None]:
        """Call back for every admitted transaction, until the returned function is called."""
        self._listeners.append(callback)
        return lambda: self._listeners.remove(callback) if callback in self._listeners else None

    def best(
        self, base_fee: int, nonce_of: Callable[[bytes], int], passed: dict[bytes, int] | None = None
    ) -> PoolCursor:
        """The order in which to try transactions now; see `Pool.best`."""
        return self.pool.best(base_fee, nonce_of, passed)

    def follow(self, settled: Iterable[TxEnvelope], abandoned: Sequence[TxEnvelope] = ()) -> None:
        """Catch up with a new head at once; see `following`."""
        for _ in self.following(settled, abandoned):
            pass

    def following(
        self, settled: Iterable[TxEnvelope], abandoned: Sequence[TxEnvelope] = ()
    ) -> Iterator[None]:
        """Follow a new head: drop included transactions, reinject those a reorganisation removed. The caller
        may interleave other work between two steps, which take some 20 us each.

        Only senders of those transactions are updated: reading the nonces of 10,000 pending senders would
        block the event loop for a fifth of a second per block. Other stale transactions are never offered to
        a block, because a build starts at the nonce in its state, and they expire.
        """
        for sender in {envelope.sender for envelope in settled} | {entry.sender for entry in abandoned}:
            self._advance(sender)
            yield
        for sender in self.pool.set_aside_senders():
            self._advance(sender)
            yield
        expired = self.pool.expire(self._clock())
        if expired:
            _LOG.info("dropped expired transactions", extra={"count": expired})
        for envelope in abandoned:
            if not envelope.is_deposit:
                try:
                    self.add(envelope)
                except PoolRefusal as refusal:
                    _LOG.debug("transaction 0x%s not reinjected: %s", envelope.hash.hex(), refusal)
                yield

    def _advance(self, sender: bytes) -> None:
        head, built = self._account(sender), _account(sender, self._being_built())
        self.pool.advance(sender, head.nonce, max(head.balance, built.balance))

    def _state_of(self, sender: bytes, world: World) -> SenderState:
        """The sender's account, which must not be a contract (EIP-3607, EIP-7702), at the head and in the
        block being built.
        """
        account = _account(sender, world)
        code_hash = account.code_hash
        if code_hash != EMPTY_CODE_HASH and not world.code(code_hash).startswith(_DELEGATION_PREFIX):
            raise PoolRefusal(
                f"sender not an eoa: address {to_hex(sender)}, codehash: {to_hex(account.code_hash)}"
            )
        built = _account(sender, self._being_built())
        return SenderState(account.nonce, account.balance, built.nonce, built.balance)

    def _account(self, address: bytes) -> Account:
        return _account(address, self._chain.world(self._chain.head.hash))

    def _check_rules(self, envelope: TxEnvelope, fork: OpFork) -> SignedTransaction:
        tx = envelope.tx
        if isinstance(tx, (DepositTx, BlobTx)) or (isinstance(tx, SetCodeTx) and not fork.has_set_code):
            raise PoolRefusal("transaction type not supported")
        _check_size(envelope.raw)
        try:
            check_transaction(tx, self._chain.config.chain_id)
        except InvalidTransaction as error:
            raise PoolRefusal(error.reason) from None
        envelope.checked_for = self._chain.config.chain_id
        if priority_fee(tx, 0) < self._min_tip:
            raise PoolRefusal(
                f"transaction underpriced: gas tip cap {priority_fee(tx, 0)}, minimum needed {self._min_tip}"
            )
        return tx

    def _check_gas(self, tx: SignedTransaction, head: Header, fork: OpFork) -> None:
        gas = tx.gas_limit
        if gas > head.gas_limit - L1_INFO_GAS:
            raise PoolRefusal("exceeds block gas limit")
        needed = intrinsic_gas(tx)
        if gas < needed:
            raise PoolRefusal(f"intrinsic gas too low: gas {gas}, minimum needed {needed}")
        rules = rules_for(fork)
        if rules.has_calldata_floor and gas < (floor := floor_gas(calldata_tokens(tx.data))):
            raise PoolRefusal(f"insufficient gas for floor data gas cost: gas {gas}, minimum needed {floor}")
        cap = rules.transaction_gas_cap
        if cap is not None and gas > cap:
            raise PoolRefusal(f"transaction gas limit too high (cap: {cap}, tx: {gas})")

    def _op_fees(self, envelope: TxEnvelope, gas: int, head: Header, world: World, fork: OpFork) -> int:
        """L1 fee and operator fee at the head's parameters, in wei."""
        known = self._fees
        if known is None or known[0] != head.hash:
            # The layout of the head's own fork: parameters of a later fork arrive with its first block.
            parameters = read_fee_parameters(world, self._chain.config.fork_at(head.timestamp))
            known = self._fees = (head.hash, parameters)
        parameters = known[1]
        return l1_fee(parameters, fork, envelope.raw, envelope.fastlz_size) + operator_fee(
            parameters, fork, gas
        )


def _check_size(raw: bytes) -> None:
    if len(raw) > MAX_TRANSACTION_BYTES:
        raise PoolRefusal(f"oversized data: transaction size {len(raw)}, limit {MAX_TRANSACTION_BYTES}")


def _account(address: bytes, world: World | None) -> Account:
    """An account in a state; the empty one where there is none."""
    account = None if world is None else world.account(int.from_bytes(address, "big"))
    return account if account is not None else EMPTY_ACCOUNT
