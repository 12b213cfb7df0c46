"""A developer's shell script around Foundry's cast, which is run as it is typed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from typing import Any

from steps import (
    CHAIN_ID,
    ETHER,
    KEY,
    PROBE,
    REASON,
    RPC,
    WS,
    Story,
    Unexpected,
    eventually,
    expect,
    expect_text,
)

CAST = os.environ["STORY_CAST"]
tell = Story()
probe = ""


def run(*arguments: str) -> tuple[str, str]:
    """What cast prints and what it complains of; npm's wrapper of it exits 0 in any case."""
    name, *rest = arguments
    command = [CAST, name, *(() if name == "wallet" else ("--rpc-url", RPC)), *rest]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return done.stdout.strip(), done.stderr.strip()


def cast(*arguments: str) -> str:
    out, err = run(*arguments)
    if not out:
        raise Unexpected(f"cast {' '.join(arguments)[:200]}: expected an answer, saw {err!r}")
    return out


def refused(*arguments: str) -> str:
    out, err = run(*arguments)
    if out:
        raise Unexpected(f"cast {' '.join(arguments)[:200]}: expected an error, saw {out!r}")
    return err


def send(*arguments: str, key: str = KEY) -> Any:
    receipt = json.loads(cast("send", "--private-key", key, "--json", *arguments))
    tell.count(receipt["blockHash"])
    return receipt


def deploy() -> None:
    global probe
    expect("chain id", cast("chain-id"), str(CHAIN_ID))
    receipt = send("--create", PROBE["bytecode"])
    expect("status", receipt["status"], "0x1")
    probe = receipt["contractAddress"]


def use_at_once() -> None:
    expect("code", cast("code", probe), PROBE["deployedBytecode"])
    expect("count()", cast("call", probe, "count()(uint256)"), "0")
    for value in ("1", "2"):
        expect("status", send(probe, "increment()")["status"], "0x1")
        expect("count()", cast("call", probe, "count()(uint256)"), value)
        expect("storage", int(cast("storage", probe, "0"), 16), int(value))


def spend_what_was_just_preconfirmed() -> None:
    (fresh,) = json.loads(cast("wallet", "new", "--json"))
    (last,) = json.loads(cast("wallet", "new", "--json"))
    expect("status", send(fresh["address"], "--value", "1ether")["status"], "0x1")
    expect("balance of the fresh account", cast("balance", fresh["address"]), str(ETHER))
    receipt = send(last["address"], "--value", "0.25ether", key=fresh["private_key"])
    expect("status", receipt["status"], "0x1")
    expect("balance of who was paid", cast("balance", last["address"]), str(ETHER // 4))
    expect("nonce of the fresh account", cast("nonce", fresh["address"]), "1")


def revert_reason_of_a_preconfirmed_transaction() -> None:
    receipt = send("--gas-limit", "200000", probe, "refuseWithText(string)", REASON)
    expect("status", receipt["status"], "0x0")
    number, tx_hash = str(int(receipt["blockNumber"], 16)), receipt["transactionHash"]
    failure = refused("call", "--block", number, probe, "refuseWithText(string)", REASON)
    expect_text("the call again at its block", failure, REASON)
    traced = json.loads(cast("rpc", "debug_traceTransaction", tx_hash, '{"tracer":"callTracer"}'))
    expect("revertReason of its trace", traced.get("revertReason"), REASON)
    expect_text("estimating it", refused("estimate", probe, "refuseWithText(string)", REASON), REASON)


def subscriptions() -> None:
    """cast follows logs alone; a script that wants blocks asks for their number."""
    # with --json it prints one list at its end, which never comes
    command = [CAST, "logs", "--subscribe", "--rpc-url", WS, "--address", probe]
    printed: list[str] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as following:
        assert following.stdout is not None
        lines = iter(following.stdout.readline, "")
        threading.Thread(target=lambda: printed.extend(lines), daemon=True).start()
        try:
            # it says nothing when it has subscribed, so each round sends another
            for _ in range(10):
                receipt = send(probe, "increment()")
                if printed:
                    break
            sent = receipt["transactionHash"]
            eventually("a log of the last transaction", True, lambda: sent in "".join(printed))
        finally:
            # npm's wrapper and cast
            os.killpg(following.pid, signal.SIGTERM)
    number = int(receipt["blockNumber"], 16)
    eventually("block number", True, lambda: int(cast("block-number")) >= number)


def replacement() -> None:
    account = cast("wallet", "address", "--private-key", KEY)
    nonce = int(cast("nonce", "--block", "pending", account))

    def transfer(value: int, at: int, tip: int, most: int = 20) -> tuple[str, str]:
        return run(
            "send", account, "--private-key", KEY, "--async", "--value", str(value), "--nonce", str(at),
            "--gas-limit", "21000", "--gas-price", f"{most}gwei", "--priority-gas-price", f"{tip}gwei",
        )  # fmt: skip

    first, failure = transfer(1, nonce + 1, 1)
    expect("what the first is refused with", failure, "")
    out, failure = transfer(2, nonce + 1, 1)
    expect("a replacement at the same price", out, "")
    expect_text("message", failure, "replacement transaction underpriced")
    second, failure = transfer(3, nonce + 1, 2, 40)
    expect("what the replacement is refused with", failure, "")
    _, failure = transfer(4, nonce, 1)
    expect("what the missing nonce is refused with", failure, "")
    expect("status", json.loads(cast("receipt", second, "--json"))["status"], "0x1")
    expect("receipt of what was replaced", cast("rpc", "eth_getTransactionReceipt", first), "null")
    expect("nonce", cast("nonce", account), str(nonce + 2))


tell.run(
    deploy,
    use_at_once,
    spend_what_was_just_preconfirmed,
    revert_reason_of_a_preconfirmed_transaction,
    subscriptions,
    replacement,
)
