"""What others have paid in the block being built can be spent in it."""

from __future__ import annotations

import secrets
import time
from pathlib import Path

import pytest
from support.builders import builder_config, rpc_client, running, scenario
from support.chains import CHAIN_ID, transfer
from support.settings import with_settings

from flashctl.builder.mempool.pool import Pool, PoolRefusal, SenderState
from flashctl.builder.payload.schedule import FlashblockSchedule
from flashctl.core.engine.payloads import ForkchoiceState
from flashctl.core.jsonrpc.client import JsonRpcClient
from flashctl.core.jsonrpc.errors import RpcError
from flashctl.devnet.sequencer import SequencerSettings, attributes_after
from flashctl.eth.hexdata import to_hex
from flashctl.eth.signatures import address_of_secret, sign_transaction
from flashctl.eth.transactions import FeeMarketTx, encode_transaction
from flashctl.op.envelope import TxEnvelope

ETHER = 10**18


def payment(secret: bytes, nonce: int = 0, value: int = 1) -> TxEnvelope:
    tx = FeeMarketTx(CHAIN_ID, nonce, 10**9, 10**11, 21_000, b"\x55" * 20, value, b"", (), 0, 0, 0)
    return TxEnvelope.decode(encode_transaction(sign_transaction(tx, secret)))


async def preconfirmed(client: JsonRpcClient, tx: TxEnvelope) -> None:
    """Send, and wait for the receipt."""
    receipt = await client.call("eth_sendRawTransactionSync", [to_hex(tx.raw)])
    assert receipt["status"] == "0x1"


def test_a_fresh_account_spends_in_the_block_that_funds_it(tmp_path: Path) -> None:
    async def body() -> None:
        # A block that is as long as the test needs, so that a busy machine does not seal it between.
        slot_s = 40
        config = builder_config(tmp_path, genesis_time=int(time.time()))
        async with running(with_settings(config, schedule=FlashblockSchedule(slot_s * 1000, 200))) as service:
            client = rpc_client(service)
            head = service.chain.head
            attributes = attributes_after(
                service.chain.config, head, int(time.time()) + slot_s, SequencerSettings()
            )
            state = ForkchoiceState(head.hash, head.hash, head.hash)
            identity = (await service.node.forkchoice_updated(state, attributes)).payload_id
            assert identity is not None
            secret = secrets.token_bytes(32)
            with pytest.raises(RpcError, match="insufficient funds"):
                await client.call("eth_sendRawTransaction", [to_hex(payment(secret).raw)])
            funding = transfer(0, to=address_of_secret(secret), value=ETHER)
            await preconfirmed(client, funding)
            spending = [payment(secret), payment(secret, 1, ETHER // 2)]
            for tx in spending:
                await preconfirmed(client, tx)
            # The rest does not cover this much again.
            with pytest.raises(RpcError, match="insufficient funds"):
                await client.call("eth_sendRawTransaction", [to_hex(payment(secret, 2, ETHER // 2).raw)])
            block = service.node.get_payload(identity).block
            assert block.transactions[1:] == (funding.raw, *(tx.raw for tx in spending))
            await client.close()

    scenario(body)


def test_funds_count_at_the_head_or_in_the_block_being_built() -> None:
    secret = secrets.token_bytes(32)
    pool = Pool()
    at_head = SenderState(0, 10)
    for nonce in range(2):
        pool.add(payment(secret, nonce), 5, at_head, now=0.0)
    with pytest.raises(PoolRefusal, match="balance 10, queued cost 10, tx cost 5, overshot 5"):
        pool.add(payment(secret, 2), 5, at_head, now=0.0)
    # The block being built holds the first, and somebody has paid 7.
    paid = SenderState(0, 10, open_nonce=1, open_balance=12)
    with pytest.raises(PoolRefusal, match="balance 12, queued cost 5, tx cost 8, overshot 1"):
        pool.add(payment(secret, 2), 8, paid, now=0.0)
    pool.add(payment(secret, 2), 7, paid, now=0.0)
    # In place of what is built in already counts what the head has.
    with pytest.raises(PoolRefusal, match="balance 10, tx cost 12"):
        pool.add(payment(secret, 0, 2), 12, paid, now=0.0)


def test_who_cannot_pay_at_a_head_is_looked_at_again() -> None:
    secret = secrets.token_bytes(32)
    sender = address_of_secret(secret)
    pool = Pool()
    pool.add(payment(secret), 5, SenderState(0, 0, 0, 5), now=0.0)
    # Another block became the head, which does not pay this sender.
    pool.advance(sender, 0, 0)
    assert pool.queued_count == 1 and pool.set_aside_senders() == [sender]
    pool.advance(sender, 0, 5)
    assert pool.queued_count == 0 and pool.set_aside_senders() == []
