"""viem's simulateBlocks and simulateCalls on the preconfirmed state of a devnet."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from support.devnet import Devnet
from support.devnet_chain import contract
from support.npm import node_modules, require_node

ETHER = 10**18
SUPPLY = 1_000_000
ETHER_TOKEN = "0x" + "ee" * 20


def test_viem_simulates_upon_what_is_only_preconfirmed(running: Devnet) -> None:
    node = require_node("viem")
    script = Path(__file__).with_name("simulation.mjs")
    token = "0x" + contract("Token").creation_code.hex() + SUPPLY.to_bytes(32, "big").hex()
    _, key = running.fresh_account()
    done = subprocess.run(
        [
            node,
            str(script),
            running.url("rpc"),
            str(running.ready["chain_id"]),
            key,
            token,
            running.url("rpc_sealed"),
        ],
        capture_output=True,
        text=True,
        timeout=240,
        env={**os.environ, "FLASHCTL_NODE_MODULES": str(node_modules())},
    )
    assert done.returncode == 0, done.stderr
    rounds = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rounds) == 3
    for each in rounds:
        assert each["pending"]["status"] == "success", each
        assert each["pending"]["number"] > each["block"]
        assert [log["address"] for log in each["pending"]["logs"]] == [ETHER_TOKEN]
        assert each["statuses"] == ["success"] * 3 and each["received"] == "7"
        changes = {address.lower(): int(diff) for address, diff in each["changes"]}
        assert changes == {ETHER_TOKEN: -2 * ETHER, each["token"].lower(): -7}
    early = [each for each in rounds if each["sealed"] < each["block"]]
    assert early, rounds
    assert {each["latest"]["status"] for each in early} != {"success"}, "only preconfirmed, so not for latest"
