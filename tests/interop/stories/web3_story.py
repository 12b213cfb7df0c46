"""An application on web3.py: its middleware signs, its contracts estimate, its errors name the reason."""

from __future__ import annotations

import asyncio
from typing import Any

from eth_account import Account
from steps import (
    CHAIN_ID,
    ETHER,
    GWEI,
    KEY,
    PROBE,
    REASON,
    RPC,
    WS,
    Story,
    Unexpected,
    expect,
    expect_text,
    refusal,
)
from web3 import AsyncWeb3, HTTPProvider, Web3, WebSocketProvider
from web3.exceptions import ContractCustomError, ContractLogicError, TransactionNotFound
from web3.middleware import SignAndSendRawMiddlewareBuilder

w3 = Web3(HTTPProvider(RPC))
account = Account.from_key(KEY)
fresh = Account.create()
w3.middleware_onion.inject(SignAndSendRawMiddlewareBuilder.build([account, fresh]), layer=0)
w3.eth.default_account = account.address
probe: Any = None
tell = Story()


def wait(tx_hash: bytes) -> Any:
    receipt = w3.eth.wait_for_transaction_receipt(tx_hash, timeout=60)
    tell.count(receipt["blockHash"])
    return receipt


def deploy() -> None:
    global probe
    expect("chain id", w3.eth.chain_id, CHAIN_ID)
    factory = w3.eth.contract(abi=PROBE["abi"], bytecode=PROBE["bytecode"])
    receipt = wait(factory.constructor().transact())
    expect("status", receipt["status"], 1)
    probe = w3.eth.contract(address=receipt["contractAddress"], abi=PROBE["abi"])


def use_at_once() -> None:
    expect("code", "0x" + bytes(w3.eth.get_code(probe.address)).hex(), PROBE["deployedBytecode"])
    expect("count()", probe.functions.count().call(), 0)
    for expected in (1, 2):
        receipt = wait(probe.functions.increment().transact())
        expect("status", receipt["status"], 1)
        expect("count()", probe.functions.count().call(), expected)
        (event,) = probe.events.Counted().process_receipt(receipt)
        expect("Counted in the receipt", event["args"]["value"], expected)
        logs = probe.events.Counted().get_logs(from_block=receipt["blockNumber"])
        expect("Counted in get_logs", [log["args"]["value"] for log in logs][-1:], [expected])


def spend_what_was_just_preconfirmed() -> None:
    last = Account.create().address
    wait(w3.eth.send_transaction({"to": fresh.address, "value": ETHER}))
    expect("balance of the fresh account", w3.eth.get_balance(fresh.address), ETHER)
    receipt = wait(w3.eth.send_transaction({"from": fresh.address, "to": last, "value": ETHER // 4}))
    expect("status", receipt["status"], 1)
    expect("balance of who was paid", w3.eth.get_balance(last), ETHER // 4)
    expect("nonce of the fresh account", w3.eth.get_transaction_count(fresh.address), 1)


def revert_reason_of_a_preconfirmed_transaction() -> None:
    call = probe.functions.refuseWithText(REASON)
    tx_hash = call.transact({"gas": 200_000})
    receipt = wait(tx_hash)
    expect("status", receipt["status"], 0)
    sent = w3.eth.get_transaction(tx_hash)
    again = {"from": sent["from"], "to": sent["to"], "data": sent["input"], "value": sent["value"]}
    failure = refusal("the call again at its block", lambda: w3.eth.call(again, receipt["blockNumber"]))
    expect("kind of error", type(failure), ContractLogicError)
    expect_text("reason", failure, REASON)
    custom = refusal("estimating a custom error", probe.functions.refuse(7).estimate_gas)
    expect("kind of error", type(custom), ContractCustomError)


def subscriptions() -> None:
    asyncio.run(_subscriptions())


async def _subscriptions() -> None:
    async with AsyncWeb3(WebSocketProvider(WS)) as live:
        heads = await live.eth.subscribe("newHeads")
        logs = await live.eth.subscribe("logs", {"address": probe.address})
        pending = await live.eth.subscribe("newPendingTransactions")
        tx_hash = await asyncio.to_thread(probe.functions.increment().transact)
        receipt = await asyncio.to_thread(wait, tx_hash)
        wanted: dict[str, tuple[str, object]] = {
            heads: ("number of a head", receipt["blockNumber"]),
            logs: ("transaction of a log", bytes(tx_hash)),
            pending: ("hash of a pending transaction", bytes(tx_hash)),
        }
        seen: list[object] = []
        try:
            async with asyncio.timeout(30):
                async for message in live.socket.process_subscriptions():
                    about, value = message["subscription"], _shown(message["result"])
                    seen.append(value)
                    if about in wanted and wanted[about][1] == value:
                        del wanted[about]
                    if not wanted:
                        return
        except TimeoutError:
            raise Unexpected(f"expected {list(wanted.values())!r} within 30 s, saw {seen!r}") from None


def _shown(result: Any) -> object:
    if isinstance(result, bytes):
        return bytes(result)
    return bytes(result["transactionHash"]) if "transactionHash" in result else result["number"]


def replacement() -> None:
    nonce = w3.eth.get_transaction_count(account.address, "pending")

    def transfer(value: int, nonce: int, tip: int, most: int = 20) -> bytes:
        return w3.eth.send_transaction(
            {
                "to": account.address, "value": value, "nonce": nonce, "gas": 21_000,
                "maxFeePerGas": most * GWEI, "maxPriorityFeePerGas": tip * GWEI,
            }
        )  # fmt: skip

    first = transfer(1, nonce + 1, 1)
    cheap = refusal("a replacement at the same price", lambda: transfer(2, nonce + 1, 1))
    expect_text("message", cheap, "replacement transaction underpriced")
    second = transfer(3, nonce + 1, 2, 40)
    transfer(4, nonce, 1)
    expect("status", wait(second)["status"], 1)
    gone = refusal("the receipt of what was replaced", lambda: w3.eth.get_transaction_receipt(first))
    expect("kind of error", type(gone), TransactionNotFound)
    expect("nonce", w3.eth.get_transaction_count(account.address), nonce + 2)


tell.run(
    deploy,
    use_at_once,
    spend_what_was_just_preconfirmed,
    revert_reason_of_a_preconfirmed_transaction,
    subscriptions,
    replacement,
)
