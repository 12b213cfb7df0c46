"""Unmodified tools of users see transactions before the block that holds them is sealed."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from support.devnet import Devnet, rpc
from support.npm import node_modules, npm_binary, require_node
from support.waiting import wait_until

ONE_ETHER = 10**18
STRANGER = "0x00000000000000000000000000000000000ca571"

COUNTER_INIT_CODE = (
    # init: store 7 in slot 0, return the runtime code
    "0x6007600055600b6011600039600b6000f3"
    # runtime: return slot 0
    "60005460005260206000f3"
)


def cast(running: Devnet, *arguments: str) -> Any:
    """Run cast against the overlay and parse what it prints as JSON."""
    name, *rest = arguments
    command = [npm_binary("cast"), name, "--rpc-url", running.url("rpc"), *rest]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    try:
        return json.loads(done.stdout)
    except json.JSONDecodeError:
        return done.stdout.strip()


def sealed_head(running: Devnet) -> int:
    return int(rpc(running.url("rpc_sealed"), "eth_blockNumber"), 16)


def test_cast_send_moves_ether(running: Devnet) -> None:
    _, key = running.fresh_account()
    receipt = cast(running, "send", STRANGER, "--value", "1ether", "--private-key", key, "--json")
    assert receipt["status"] == "0x1"
    assert int(cast(running, "balance", STRANGER, "--block", "pending")) == ONE_ETHER


def test_cast_deploys_and_calls_before_the_seal(running: Devnet) -> None:
    _, key = running.fresh_account()
    before_seal = 0
    for _ in range(4):
        sent = cast(running, "send", "--private-key", key, "--async", "--create", COUNTER_INIT_CODE)
        receipt = _preconfirmed_receipt(running, sent)
        address = receipt["contractAddress"]
        seen_at = sealed_head(running)
        word = cast(running, "call", address, "--data", "0x", "--block", "pending")
        assert int(word, 16) == 7
        shown = cast(running, "receipt", sent, "--json")
        assert shown["status"] == "0x1" and shown["contractAddress"] == address
        before_seal += int(receipt["blockNumber"], 16) > seen_at
        _wait_for_block(running, int(receipt["blockNumber"], 16))  # cast takes nonces from sealed blocks
    assert before_seal, "receipts came only with the sealed block"


def test_preconfirmation_comes_before_the_seal(running: Devnet) -> None:
    """How much earlier is `bench/`'s to measure."""
    sender, key = running.fresh_account()
    nonce = int(rpc(running.url("rpc"), "eth_getTransactionCount", sender, "pending"), 16)
    before_seal = 0
    for offset in range(8):
        raw = cast(
            running, "mktx", STRANGER, "--value", "1", "--private-key", key, "--nonce", str(nonce + offset),
            "--gas-limit", "21000", "--gas-price", "10gwei", "--priority-gas-price", "1gwei",
        )  # fmt: skip
        tx_hash = rpc(running.url("rpc"), "eth_sendRawTransaction", raw)
        receipt = _preconfirmed_receipt(running, tx_hash)
        before_seal += int(receipt["blockNumber"], 16) > sealed_head(running)
        _wait_for_block(running, int(receipt["blockNumber"], 16))
    assert before_seal, "receipts came only with the sealed block"


def viem(running: Devnet, script: str) -> list[dict[str, Any]]:
    """What a script prints, a JSON object on each line."""
    node = require_node("viem")
    _, key = running.fresh_account()
    path = Path(__file__).with_name(script)
    done = subprocess.run(
        [
            node,
            str(path),
            running.url("rpc"),
            str(running.ready["chain_id"]),
            key,
            running.url("rpc_sealed"),
        ],
        capture_output=True,
        text=True,
        timeout=240,
        env={**os.environ, "FLASHCTL_NODE_MODULES": str(node_modules())},
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_viem_waits_for_a_preconfirmed_receipt(running: Devnet) -> None:
    rounds = viem(running, "preconfirmation.mjs")
    assert [entry["status"] for entry in rounds] == ["success"] * 3
    assert [int(entry["balance"]) for entry in rounds] == [10**15, 2 * 10**15, 3 * 10**15]
    assert sum(entry["latest"] < entry["block"] for entry in rounds) >= 2, rounds


def test_viem_looks_up_the_block_that_a_preconfirmed_receipt_states(running: Devnet) -> None:
    """And asks there why the transaction reverted, as wagmi does."""
    for entry in viem(running, "revert_reason.mjs"):
        assert entry["status"] == "reverted" and entry["isInBlock"] and entry["isThere"], entry
        assert int(entry["data"], 16) == 0xAA


def _wait_for_block(running: Devnet, number: int) -> None:
    wait_until(lambda: sealed_head(running) >= number)


def _preconfirmed_receipt(running: Devnet, tx_hash: str) -> dict[str, Any]:
    """The receipt as soon as there is one."""
    receipt: dict[str, Any] = wait_until(
        lambda: rpc(running.url("rpc"), "eth_getTransactionReceipt", tx_hash)
    )
    return receipt
