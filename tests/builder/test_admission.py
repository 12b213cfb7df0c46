"""The pool's door: what is refused and in which words, and how the pool follows the chain."""

from __future__ import annotations

import pytest
from support.chains import CHAIN_ID, ask, memory_chain, transfer

from flashctl.builder.backend import EmbeddedBackend
from flashctl.builder.mempool.admission import L1_INFO_GAS, Mempool
from flashctl.builder.mempool.pool import PoolRefusal
from flashctl.chain.chain import Chain, HeadChange
from flashctl.chain.devnet_accounts import DEVNET_BALANCE
from flashctl.eth.signatures import sign_authorization, sign_transaction
from flashctl.eth.transactions import BlobTx, LegacyTx, SetCodeTx, encode_transaction
from flashctl.op.envelope import TxEnvelope

SECRET = b"\x05" * 32
SOMEBODY = b"\x77" * 20


def following() -> tuple[Chain, Mempool]:
    chain = memory_chain()
    queue = Mempool(chain)

    def follow(change: HeadChange) -> None:
        settled = [envelope for block in change.new for envelope in block.envelopes]
        queue.follow(settled, [envelope for block in change.old for envelope in block.envelopes])

    chain.subscribe(follow)
    return chain, queue


def seal(
    chain: Chain, *envelopes: TxEnvelope, parent: bytes | None = None, gas_limit: int = 60_000_000
) -> bytes:
    """A block with these transactions upon a block, by default the head; kept, not chosen."""
    header = chain.header(parent) if parent is not None else chain.head
    assert header is not None
    build = EmbeddedBackend(chain).build(header, attributes := ask(chain, header, gas_limit=gas_limit))
    for envelope in (*map(TxEnvelope.decode, attributes.transactions), *envelopes):
        build.execute(envelope)
    return chain.insert(build.seal()).hash


def envelope_of(tx: LegacyTx | BlobTx | SetCodeTx) -> TxEnvelope:
    return TxEnvelope.decode(encode_transaction(sign_transaction(tx, SECRET)))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"chain_id": 1}, "invalid chain id: have 1, want 901"),
        ({"gas_limit": 20_999}, "intrinsic gas too low: gas 20999, minimum needed 21000"),
        ({"gas_limit": 60_000_000 - L1_INFO_GAS + 1}, "exceeds block gas limit"),
        ({"tip": 10, "fee": 9}, "max priority fee per gas higher than max fee per gas"),
        ({"value": DEVNET_BALANCE}, "insufficient funds for gas \\* price \\+ value: balance"),
        ({"data": bytes(128 * 1024), "gas_limit": 3_000_000}, "oversized data: transaction size"),
        ({"to": None, "data": bytes(49_153), "gas_limit": 10_000_000}, "max initcode size exceeded"),
        ({"data": b"\xff" * 100, "gas_limit": 22_600}, "insufficient gas for floor data gas cost: gas 22600"),
    ],
)
def test_refusals_use_the_words_of_geth(changes: dict[str, object], words: str) -> None:
    _, queue = following()
    with pytest.raises(PoolRefusal, match=words):
        queue.add(transfer(**changes))  # type: ignore[arg-type]
    assert len(queue) == 0


def test_known_low_and_underpriced() -> None:
    chain, queue = following()
    first = transfer(0, 0)
    queue.add(first)
    with pytest.raises(PoolRefusal, match="already known"):
        queue.add(first)
    with pytest.raises(PoolRefusal, match="replacement transaction underpriced"):
        queue.add(transfer(0, 0, value=2))
    queue.add(transfer(0, 0, value=2, tip=2 * 10**9, fee=2 * 10**11))
    chain.set_head(seal(chain, first))
    with pytest.raises(PoolRefusal, match="nonce too low: next nonce 1, tx nonce 0"):
        queue.add(transfer(0, 0, value=3))


def test_types_that_an_l2_block_cannot_hold() -> None:
    _, queue = following()
    blob = BlobTx(CHAIN_ID, 0, 1, 10, 21_000, SOMEBODY, 0, b"", (), 1, (b"\x01" * 32,), 0, 0, 0)
    with pytest.raises(PoolRefusal, match="transaction type not supported"):
        queue.add(envelope_of(blob))


def test_set_code_and_unprotected_transactions_pass_the_type_check() -> None:
    _, queue = following()
    auth = sign_authorization(CHAIN_ID, SOMEBODY, 0, SECRET)
    set_code = SetCodeTx(CHAIN_ID, 0, 1, 10**10, 90_000, SOMEBODY, 0, b"", (), (auth,), 0, 0, 0)
    unprotected = LegacyTx(0, 10**10, 21_000, SOMEBODY, 0, b"", 27, 0, 0)
    for tx in (set_code, unprotected):
        with pytest.raises(PoolRefusal, match="insufficient funds"):
            queue.add(envelope_of(tx))


def test_the_l1_fee_must_be_covered_too() -> None:
    chain, queue = following()
    chain.set_head(seal(chain))
    gas_and_value = 21_000 * 10**11
    exact = transfer(0, value=DEVNET_BALANCE - gas_and_value)
    with pytest.raises(PoolRefusal, match="overshot"):
        queue.add(exact)
    queue.add(transfer(0, value=DEVNET_BALANCE - gas_and_value - 10**15))


def test_a_new_head_settles_what_it_holds() -> None:
    chain, queue = following()
    waiting = [transfer(0, nonce) for nonce in range(3)]
    for envelope in waiting:
        queue.add(envelope)
    assert queue.pending_nonce(waiting[0].sender) == 3
    chain.set_head(seal(chain, *waiting[:2]))
    assert [queue.get(envelope.hash) is None for envelope in waiting] == [True, True, False]
    assert queue.pending_nonce(waiting[0].sender) == 3
    assert queue.pending_nonce(SOMEBODY) is None


def test_what_a_reorganisation_undoes_comes_back() -> None:
    chain, queue = following()
    genesis = chain.head.hash
    tx = transfer(0, 0)
    queue.add(tx)
    chain.set_head(seal(chain, tx))
    assert len(queue) == 0
    chain.set_head(seal(chain, transfer(3), parent=genesis, gas_limit=50_000_000))
    assert queue.get(tx.hash) is tx


def test_content_tells_executable_from_gapped() -> None:
    _, queue = following()
    first, gapped = transfer(0, 0), transfer(0, 2)
    queue.add(first)
    queue.add(gapped)
    assert queue.senders() == [first.sender]
    assert queue.content_from(first.sender) == ([first], [gapped])
    assert queue.counts() == (1, 1)


def test_subscribers_hear_of_what_is_admitted_only() -> None:
    _, queue = following()
    heard: list[TxEnvelope] = []
    cancel = queue.subscribe(heard.append)
    tx = transfer(0, 0)
    queue.add(tx)
    with pytest.raises(PoolRefusal):
        queue.add(tx)
    cancel()
    queue.add(transfer(0, 1))
    assert heard == [tx]
