"""A transaction that no block can hold: who waits for it is told why, and so is who sends it again."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from support.builders import builder_config, rpc_client, running, scenario
from support.chains import transfer
from support.waiting import until

from flashctl.builder.payload.late_transactions import MAX_TURNS, TURN_EVERY, Cut, LateTransactions
from flashctl.core.jsonrpc.errors import RpcError
from flashctl.eth.hexdata import to_hex


def test_who_waits_for_a_transaction_is_told_that_it_is_given_up(tmp_path: Path) -> None:
    async def body() -> None:
        async with running(builder_config(tmp_path)) as builder:
            client, slow = rpc_client(builder), transfer()
            call = client.call("eth_sendRawTransactionSync", [to_hex(slow.raw)])
            waiting = asyncio.ensure_future(call)
            await until(lambda: slow.hash in builder.queue)
            assert builder.queue.cut(Cut(slow.hash, 1.0, had_block=True, ran_out=True), 1)
            with pytest.raises(RpcError, match="more time than a block has"):
                await waiting
            with pytest.raises(RpcError, match="more time than a block has"):
                await client.call("eth_sendRawTransaction", [to_hex(slow.raw)])
            await client.close()

    scenario(body)


def test_turns_are_rare_and_end() -> None:
    late, slow = LateTransactions(), transfer()
    late.cut(Cut(slow.hash, 0.5, had_block=False, ran_out=True), 0)
    turns = []
    for number in range(1, 100):
        if late.plan(number, lambda _: slow).first is slow:
            turns.append(number)
            reason = late.cut(Cut(slow.hash, 0.6, had_block=True, ran_out=False), number)
            assert (reason is not None) == (len(turns) == MAX_TURNS)
        else:
            assert slow.hash in late.plan(number, lambda _: slow).put_off or len(turns) == MAX_TURNS
    assert turns == [1 + TURN_EVERY * turn for turn in range(MAX_TURNS)]
