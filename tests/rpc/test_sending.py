"""Sending through the overlay: where it goes, and what who waits is told (EIP-7966)."""

from __future__ import annotations

import asyncio

import pytest
from support.rpc_node import TARGET, Bench, bench, run
from support.stream_lab import signed

from flashctl.core.jsonrpc.errors import ErrorCode, RpcError
from flashctl.core.jsonrpc.methods import Methods
from flashctl.core.jsonrpc.server import serve
from flashctl.eth.hexdata import to_hex
from flashctl.eth.keccak import keccak256
from flashctl.ethrpc.rpc_json import PENDING_HASH
from flashctl.rpc.sending import is_sent

ZERO_HASH = to_hex(PENDING_HASH)


def transfer(nonce: int = 0) -> bytes:
    return signed(1, nonce, TARGET, value=5, gas=21_000)


def test_send_and_wait_answers_with_the_preconfirmed_receipt() -> None:
    async def scenario(made: Bench) -> None:
        raw = transfer()
        block = made.lab.build([[raw]])
        await made.stream(block, upto=1)
        waiting = asyncio.ensure_future(made.call("eth_sendRawTransactionSync", to_hex(raw)))
        await made.until(lambda: made.sent)
        assert not waiting.done()
        await made.stream(block, start=1)
        receipt = await waiting
        assert receipt["status"] == "0x1" and receipt["blockHash"] == ZERO_HASH

    run(scenario)


def test_send_and_wait_times_out_with_code_4() -> None:
    async def scenario(made: Bench) -> None:
        raw = to_hex(transfer())
        with pytest.raises(RpcError, match="wasn't confirmed within 20 ms") as caught:
            await made.call("eth_sendRawTransactionSync", raw, 20)
        assert caught.value.code == 4 and caught.value.data == to_hex(keccak256(transfer()))

    run(scenario)


def test_a_time_out_that_is_out_of_bounds_is_the_longest_one() -> None:
    async def scenario(made: Bench) -> None:
        for timeout in (0, "0x0", 61, 60_000):
            with pytest.raises(RpcError, match="wasn't confirmed within 60 ms") as caught:
                await made.call("eth_sendRawTransactionSync", to_hex(transfer()), timeout)
            assert caught.value.code == 4
        for timeout in (-1, "soon", 1.5, [5]):
            with pytest.raises(RpcError) as refused:
                await made.call("eth_sendRawTransactionSync", to_hex(transfer()), timeout)
            assert refused.value.code == ErrorCode.INVALID_PARAMS

    run(scenario, sync_timeout_ms=60)


def test_a_gap_before_the_nonce_is_code_5_and_its_filling_a_receipt() -> None:
    async def scenario(made: Bench) -> None:
        first, second = transfer(0), transfer(1)
        with pytest.raises(RpcError, match="nonce too high, the next one of its sender is 0") as caught:
            await made.call("eth_sendRawTransactionSync", to_hex(second), 60_000)
        assert caught.value.code == 5 and caught.value.data == to_hex(keccak256(second))
        waiting = asyncio.ensure_future(made.call("eth_sendRawTransactionSync", to_hex(second)))
        await made.call("eth_sendRawTransaction", to_hex(first))
        await made.until(lambda: len(made.sent) == 3)
        await made.stream(made.lab.build([[first, second]]))
        assert (await waiting)["transactionHash"] == to_hex(keccak256(second))

    run(scenario, sync_timeout_ms=60_000)


def test_what_was_sent_before_is_waited_for_and_what_is_mined_is_answered() -> None:
    async def main() -> None:
        sent: list[str] = []
        known = Methods()

        async def refuse(params: list[object]) -> None:
            sent.append(str(params[0]))
            raise RpcError(ErrorCode.SERVER_ERROR, "nonce too low" if len(sent) > 1 else "already known")

        known.register("eth_sendRawTransaction", refuse)
        sequencer = await serve(known, "127.0.0.1", 0)

        async def scenario(made: Bench) -> None:
            raw = transfer()
            waiting = asyncio.ensure_future(made.call("eth_sendRawTransactionSync", to_hex(raw)))
            await made.until(lambda: sent)
            await made.stream(made.lab.build([[raw]]))
            receipt = await waiting
            assert receipt["status"] == "0x1"
            assert await made.call("eth_sendRawTransactionSync", to_hex(raw)) == receipt
            with pytest.raises(RpcError, match="nonce too low"):
                await made.call("eth_sendRawTransactionSync", to_hex(signed(1, 0, TARGET, gas=21_000)))
            with pytest.raises(RpcError, match="nonce too low"):
                await made.call("eth_sendRawTransaction", to_hex(raw))

        try:
            async with bench(sequencer_url=sequencer.url) as made:
                await scenario(made)
        finally:
            await sequencer.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    "method",
    [
        "eth_sendRawTransactionConditional",
        "eth_sendBundle",
        "eth_cancelBundle",
        "eth_sendPrivateTransaction",
        "eth_sendPrivateRawTransaction",
        "eth_cancelPrivateTransaction",
        "mev_sendBundle",
    ],
)
def test_what_is_to_be_mined_goes_to_the_sequencer(method: str) -> None:
    async def main() -> None:
        methods = Methods()

        async def take(params: list[object]) -> list[object]:
            return ["taken", *params]

        methods.register(method, take)
        sequencer = await serve(methods, "127.0.0.1", 0)
        try:
            async with bench(sequencer_url=sequencer.url) as made:
                assert await made.call(method, {"txs": []}) == ["taken", {"txs": []}]
        finally:
            await sequencer.close()

    asyncio.run(main())


def test_what_the_node_has_keys_for_it_signs() -> None:
    assert not is_sent("eth_sendTransaction")
    assert not is_sent("eth_call") and not is_sent("eth_getTransactionReceipt") and not is_sent("send")
