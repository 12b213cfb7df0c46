"""The transaction pool: order, replacement, nonce chains, bounds, and the words of its refusals."""

from __future__ import annotations

from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.examples import examples

from flashctl.builder.mempool.entries import SLOT_BYTES
from flashctl.builder.mempool.pool import Pool, PoolLimits, PoolRefusal, SenderState
from flashctl.eth.transactions import DepositTx, FeeMarketTx, encode_transaction
from flashctl.op.envelope import TxEnvelope

RICH = SenderState(nonce=0, balance=10**24)
ALICE, BOB, CAROL = (bytes([index]) * 20 for index in (0xA1, 0xB0, 0xCA))
_salt = count(1)


def transfer(sender: bytes, nonce: int = 0, tip: int = 10, fee: int = 1_000) -> TxEnvelope:
    """A distinct transaction; the pool never looks at signatures, so none is made."""
    tx = FeeMarketTx(
        chain_id=901,
        nonce=nonce,
        max_priority_fee_per_gas=tip,
        max_fee_per_gas=fee,
        gas_limit=21_000,
        to=bytes(20),
        value=next(_salt),
        data=b"",
        access_list=(),
        y_parity=0,
        r=1,
        s=1,
    )
    return TxEnvelope(encode_transaction(tx), tx, sender)


def filled(*envelopes: TxEnvelope, limits: PoolLimits | None = None) -> Pool:
    pool = Pool(limits)
    for envelope in envelopes:
        pool.add(envelope, cost=1, state=RICH, now=0.0)
    return pool


def drain(pool: Pool, base_fee: int = 0, nonces: dict[bytes, int] | None = None) -> list[TxEnvelope]:
    cursor = pool.best(base_fee, lambda sender: (nonces or {}).get(sender, 0))
    return list(iter(cursor.next, None))


def test_better_tips_go_first_and_equal_ones_in_order_of_arrival() -> None:
    low, high, first, second = (
        transfer(bytes([index]) * 20, tip=tip) for index, tip in enumerate((1, 9, 5, 5))
    )
    assert drain(filled(low, first, second, high)) == [high, first, second, low]


def test_a_sender_goes_in_nonce_order_however_it_tips() -> None:
    cheap, dear = transfer(ALICE, 0, tip=1), transfer(ALICE, 1, tip=100)
    other = transfer(BOB, 0, tip=50)
    assert drain(filled(dear, cheap, other)) == [other, cheap, dear]


def test_a_nonce_gap_holds_back_what_follows() -> None:
    ready, gapped = transfer(ALICE, 0), transfer(ALICE, 2)
    pool = filled(ready, gapped)
    assert drain(pool) == [ready]
    assert pool.next_nonce(ALICE, 0) == 1


def test_a_nonce_chain_flows_on_from_the_block_under_construction() -> None:
    chain = [transfer(ALICE, nonce) for nonce in range(4)]
    assert drain(filled(*chain), nonces={ALICE: 2}) == chain[2:]


def test_who_cannot_pay_the_base_fee_waits() -> None:
    poor, payer = transfer(ALICE, fee=99), transfer(BOB, fee=101)
    assert drain(filled(poor, payer), base_fee=100) == [payer]


def test_skipping_a_sender_skips_what_depends_on_it() -> None:
    pool = filled(transfer(ALICE, 0, tip=9), transfer(ALICE, 1, tip=9), transfer(BOB, tip=1))
    cursor = pool.best(0, lambda _: 0)
    first = cursor.next()
    assert first is not None
    cursor.skip_sender(first.sender)
    remaining = cursor.next()
    assert remaining is not None and remaining.sender == BOB
    assert cursor.next() is None


def test_how_much_more_a_replacement_pays_is_a_setting() -> None:
    pool = filled(transfer(ALICE, tip=100, fee=1_000), limits=PoolLimits(price_bump_percent=50))
    with pytest.raises(PoolRefusal, match="replacement transaction underpriced"):
        pool.add(transfer(ALICE, tip=149, fee=1_500), 1, RICH, 0.0)
    pool.add(transfer(ALICE, tip=150, fee=1_500), 1, RICH, 0.0)


def test_a_replacement_pays_ten_percent_more_in_both_fees() -> None:
    old = transfer(ALICE, tip=100, fee=1_000)
    pool = filled(old)
    for tip, fee in ((109, 1_100), (110, 1_099)):
        with pytest.raises(PoolRefusal, match="replacement transaction underpriced"):
            pool.add(transfer(ALICE, tip=tip, fee=fee), 1, RICH, 0.0)
    better = transfer(ALICE, tip=110, fee=1_100)
    pool.add(better, 1, RICH, 0.0)
    assert drain(pool) == [better]
    assert old.hash not in pool and len(pool) == 1


def test_refusals_use_the_words_of_geth() -> None:
    known = transfer(ALICE)
    pool = filled(known)
    with pytest.raises(PoolRefusal, match="^already known$"):
        pool.add(known, 1, RICH, 0.0)
    with pytest.raises(PoolRefusal, match="^nonce too low: next nonce 3, tx nonce 2$"):
        pool.add(transfer(BOB, 2), 1, SenderState(3, 10), 0.0)
    with pytest.raises(
        PoolRefusal, match=r"^insufficient funds for gas \* price \+ value: balance 5, tx cost 8"
    ):
        pool.add(transfer(BOB), 8, SenderState(0, 5), 0.0)


def test_a_balance_is_not_promised_twice() -> None:
    pool = Pool()
    pool.add(transfer(ALICE, 0), 6, SenderState(0, 10), 0.0)
    with pytest.raises(PoolRefusal, match="queued cost 6, tx cost 6, overshot 2"):
        pool.add(transfer(ALICE, 1), 6, SenderState(0, 10), 0.0)


def test_deposits_never_enter() -> None:
    deposit = DepositTx(bytes(32), ALICE, BOB, 0, 0, 100_000, False, b"")
    with pytest.raises(PoolRefusal, match="transaction type not supported"):
        Pool().add(TxEnvelope(encode_transaction(deposit), deposit, ALICE), 0, RICH, 0.0)


def test_a_full_pool_keeps_who_pays_more() -> None:
    pool = filled(transfer(ALICE, fee=100), transfer(BOB, fee=200), limits=PoolLimits(transactions=2))
    with pytest.raises(PoolRefusal, match="txpool is full"):
        pool.add(transfer(CAROL, fee=100), 1, RICH, 0.0)
    pool.add(transfer(CAROL, fee=101), 1, RICH, 0.0)
    assert {envelope.sender for envelope in drain(pool)} == {BOB, CAROL}


def test_one_sender_cannot_fill_the_pool() -> None:
    pool = filled(transfer(ALICE, 0), transfer(ALICE, 1), limits=PoolLimits(per_sender=2))
    with pytest.raises(PoolRefusal, match="account limit exceeded"):
        pool.add(transfer(ALICE, 2), 1, RICH, 0.0)


def test_a_new_head_settles_lower_nonces() -> None:
    pool = filled(*(transfer(ALICE, nonce) for nonce in range(3)))
    pool.advance(ALICE, 2)
    assert [envelope.tx.nonce for envelope in drain(pool, nonces={ALICE: 2})] == [2]  # type: ignore[union-attr]


def test_nothing_waits_for_ever() -> None:
    pool = Pool(PoolLimits(lifetime_s=60))
    pool.add(transfer(ALICE), 1, RICH, now=0.0)
    pool.add(transfer(BOB), 1, RICH, now=50.0)
    assert pool.expire(now=61.0) == 1
    assert [envelope.sender for envelope in drain(pool)] == [BOB]


def test_transactions_behind_gaps_never_keep_out_executable_ones() -> None:
    """Ten accounts once filled the pool with ten thousand of them, for three hours, at no cost."""
    pool = Pool(PoolLimits(transactions=1_000))
    for position in range(2_000):
        sender = bytes([position % 10]) * 20
        try:
            pool.add(transfer(sender, 2 + position // 10, fee=10**6), 1, RICH, 0.0)
        except PoolRefusal as refusal:
            assert "account limit exceeded" in str(refusal)
    assert pool.queued_count == len(pool) == 640
    for position in range(1_000):
        pool.add(transfer(position.to_bytes(20, "big"), fee=100), 1, RICH, 0.0)
    assert len(pool) == 1_000 and pool.queued_count == 0
    with pytest.raises(PoolRefusal, match="txpool is full"):
        pool.add(transfer(ALICE, 1, fee=10**6), 1, RICH, 0.0)


def test_what_fills_a_gap_brings_what_waited_behind_it() -> None:
    pool = filled(transfer(ALICE, 1), transfer(ALICE, 2), transfer(ALICE, 4))
    assert drain(pool) == [] and pool.queued_count == 3
    pool.add(transfer(ALICE, 0), 1, RICH, 0.0)
    assert [envelope.tx.nonce for envelope in drain(pool)] == [0, 1, 2]  # type: ignore[union-attr]
    assert pool.queued_count == 1


def test_transactions_behind_a_gap_wait_for_minutes() -> None:
    pool = filled(transfer(ALICE, 0), transfer(BOB, 1), limits=PoolLimits(queued_lifetime_s=60))
    assert pool.expire(61.0) == 1
    assert [sender for sender, _ in pool.senders()] == [ALICE]


def test_large_transactions_take_more_of_the_pool() -> None:
    pool = Pool(PoolLimits(transactions=4))
    big = FeeMarketTx(901, 0, 1, 500, 10**6, bytes(20), 0, bytes(3 * SLOT_BYTES), (), 0, 1, 1)
    for sender in (ALICE, BOB):
        pool.add(transfer(sender, fee=100), 1, RICH, 0.0)
    pool.add(TxEnvelope(encode_transaction(big), big, CAROL), 1, RICH, 0.0)
    assert [sender for sender, _ in pool.senders()] == [CAROL]


def test_a_dear_last_transaction_does_not_keep_cheap_ones_before_it() -> None:
    shielded = [transfer(ALICE, 0, fee=100), transfer(ALICE, 1, fee=10_000)]
    pool = filled(*shielded, transfer(BOB, fee=200), limits=PoolLimits(transactions=3))
    pool.add(transfer(CAROL, fee=300), 1, RICH, 0.0)
    assert {envelope.sender: envelope.tx.nonce for envelope in drain(pool)} == {ALICE: 0, BOB: 0, CAROL: 0}  # type: ignore[union-attr]


def test_a_pass_asks_about_no_more_senders_than_it_takes() -> None:
    """Every flashblock once asked for the nonces of all 10,000 senders first: 62 ms."""
    pool = filled(*(transfer(position.to_bytes(20, "big"), tip=position) for position in range(1_000)))
    asked: list[bytes] = []
    built: set[bytes] = set()

    def nonce_of(sender: bytes) -> int:
        asked.append(sender)
        return 1 if sender in built else 0

    passed: dict[bytes, int] = {}
    for _ in range(5):
        cursor = pool.best(0, nonce_of, passed)
        for _ in range(100):
            envelope = cursor.next()
            assert envelope is not None and envelope.sender not in built
            built.add(envelope.sender)
    # Once when it is taken, once in the next pass to learn that it is in the block.
    assert len(built) == 500 and len(asked) == 500 + 400


def test_what_cannot_run_is_set_aside_until_its_sender_is_heard_of() -> None:
    first, second = transfer(ALICE, 0), transfer(ALICE, 1)
    pool = filled(first, second, transfer(BOB))
    pool.set_aside(first.hash)
    assert [envelope.sender for envelope in drain(pool)] == [BOB]
    assert pool.set_aside_senders() == [ALICE]
    pool.add(transfer(ALICE, 2), 1, RICH, 0.0)
    assert [envelope.sender for envelope in drain(pool)] == [BOB]
    pool.advance(ALICE, 0, 10**24)
    assert len(drain(pool)) == 4


def test_a_drained_account_offers_nothing() -> None:
    pool = filled(transfer(ALICE, 0), transfer(ALICE, 1))
    pool.advance(ALICE, 0, balance=0)
    assert drain(pool) == [] and pool.queued_count == 2
    pool.advance(ALICE, 0, balance=5)
    assert len(drain(pool)) == 2


@settings(max_examples=examples(60))
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4), st.integers(0, 50)), max_size=40))
def test_order_is_valid_whatever_arrives(arrivals: list[tuple[int, int, int]]) -> None:
    pool = Pool(PoolLimits(transactions=12, per_sender=4))
    for sender, nonce, tip in arrivals:
        try:
            pool.add(transfer(bytes([sender]) * 20, nonce, tip), 1, RICH, 0.0)
        except PoolRefusal:
            continue
    built: dict[bytes, int] = {}
    for envelope in drain(pool):
        assert envelope.tx.nonce == built.get(envelope.sender, 0)  # type: ignore[union-attr]
        built[envelope.sender] = built.get(envelope.sender, 0) + 1
    assert len(pool) <= 12
    assert sum(len(queue) for _, queue in pool.senders()) == len(pool)
