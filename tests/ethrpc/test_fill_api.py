"""eth_fillTransaction: what a wallet leaves open."""

from __future__ import annotations

from typing import Any

import pytest
from support.devnet_chain import GWEI, address, build, encode_call, sign
from support.node_lab import PROBE, PROBE_AT, Node, start
from support.rpc_lab import running

from flashctl.chain.devnet_accounts import DEVNET_ACCOUNTS
from flashctl.core.jsonrpc.errors import rpc_error_for
from flashctl.eth.hexdata import parse_hex, parse_quantity, quantity, to_hex
from flashctl.eth.signatures import sign_transaction
from flashctl.eth.transactions import FeeMarketTx, decode_transaction, encode_transaction
from flashctl.op.envelope import TxEnvelope

ALICE, STRANGER = to_hex(address(0)), "0x" + "5a" * 20
PAY = {"from": ALICE, "to": STRANGER, "value": "0x5"}


async def fill(node: Node, fields: Any) -> dict[str, Any]:
    """Not through the schema: it requires a `gasPrice` beside the fee caps, which no client gives."""
    handler = node.methods.find("eth_fillTransaction")
    assert handler is not None
    try:
        answer: dict[str, Any] = await handler([fields])
    except Exception as error:
        raise rpc_error_for(error) or error from None
    return answer


def test_a_filled_transaction_can_be_signed_and_is_taken_into_a_block() -> None:
    async def body() -> None:
        node = start()
        call = {"from": ALICE, "to": to_hex(PROBE_AT), "input": to_hex(encode_call(PROBE, "increment()"))}
        answer = await fill(node, call)
        unsigned = decode_transaction(parse_hex(answer["raw"]))
        assert isinstance(unsigned, FeeMarketTx)
        block = build(node.chain, [encode_transaction(sign_transaction(unsigned, DEVNET_ACCOUNTS[0].secret))])
        assert block.receipts[-1].succeeded
        shown = answer["tx"]
        assert shown["nonce"] == await node.rpc("eth_getTransactionCount", ALICE, "pending")
        assert shown["gas"] == await node.rpc("eth_estimateGas", call, "pending")
        tip = parse_quantity(await node.rpc("eth_maxPriorityFeePerGas"))
        base_fee = node.chain.head.base_fee_per_gas or 0
        assert parse_quantity(shown["maxPriorityFeePerGas"]) == tip
        assert parse_quantity(shown["maxFeePerGas"]) == tip + 2 * base_fee
        assert (shown["type"], shown["chainId"], shown["from"]) == ("0x2", "0x385", ALICE)
        assert not {"gasPrice", "blockHash", "transactionIndex"} & shown.keys()

    running(body)


def test_what_is_given_stays() -> None:
    async def body() -> None:
        node = start()
        given = {
            "nonce": "0x77",
            "gas": "0x88888",
            "maxFeePerGas": hex(9 * GWEI),
            "maxPriorityFeePerGas": "0x0",
        }
        shown = (await fill(node, PAY | given))["tx"]
        assert {name: shown[name] for name in given} == given
        legacy = (await fill(node, PAY | {"gasPrice": hex(60 * GWEI)}))["tx"]
        assert (legacy["type"], legacy["gasPrice"], legacy["gas"]) == ("0x0", hex(60 * GWEI), hex(21_000))
        assert "maxFeePerGas" not in legacy

    running(body)


def test_nonces_count_what_is_being_built_and_what_waits() -> None:
    async def body() -> None:
        node = start()
        nonce = parse_quantity((await fill(node, PAY))["tx"]["nonce"])
        transfer = {"to": parse_hex(STRANGER), "value": 5, "gas": 21_000}
        node.pending = build(node.chain, [sign(0, nonce, **transfer)])  # type: ignore[arg-type]
        assert (await fill(node, PAY))["tx"]["nonce"] == quantity(nonce + 1)
        node.pool.add(TxEnvelope.decode(sign(0, nonce + 1, **transfer)))  # type: ignore[arg-type]
        assert (await fill(node, PAY))["tx"]["nonce"] == quantity(nonce + 2)
        assert await fill(node, {"from": STRANGER, "to": ALICE, "value": "0x5", "gas": "0x5208"})

    running(body)


def offering(*, cap: int, tip: int) -> dict[str, str]:
    return PAY | {"maxFeePerGas": hex(cap), "maxPriorityFeePerGas": hex(tip)}


REFUSE = to_hex(encode_call(PROBE, "refuse(uint256)", 1))


@pytest.mark.parametrize(
    ("fields", "code", "text"),
    [
        (7, -32602, "is an object"),
        ({"from": ALICE}, -32602, "contract creation without any data provided"),
        (PAY | {"chainId": "0x1"}, -32602, "chainId does not match"),
        (PAY | {"gasPrice": "0x0"}, -32602, "gasPrice must be non-zero"),
        (PAY | {"gasPrice": "0x1", "authorizationList": []}, -32602, "both gasPrice and authorizationList"),
        (offering(cap=0, tip=0), -32602, "maxFeePerGas must be non-zero"),
        (offering(cap=1, tip=2), -32602, "maxFeePerGas (1) < maxPriorityFeePerGas (2)"),
        (PAY | {"from": STRANGER}, -32000, "insufficient funds"),
        ({"from": ALICE, "to": to_hex(PROBE_AT), "input": REFUSE}, 3, "execution reverted"),
    ],
)
def test_refusals(fields: Any, code: int, text: str) -> None:
    async def body() -> None:
        with pytest.raises(Exception) as caught:
            await fill(start(), fields)
        assert getattr(caught.value, "code", None) == code and text in str(caught.value), caught.value

    running(body)
