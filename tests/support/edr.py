"""EDR (op-revm inside Node.js) as an oracle: one block of many kinds of transactions on each of its forks.

EDR's own ways: it chooses prev_randao itself and makes no system calls on a state without their contracts.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from support.npm import node_modules, require_node
from support.op_chain import (
    CHAIN_ID,
    SECRET,
    SENDER,
    VAULT,
    attributes_deposit,
    envelope_of,
    transfer,
)

from flashctl.eth.hexdata import to_hex
from flashctl.eth.signatures import sign_transaction
from flashctl.eth.transactions import DepositTx, LegacyTx, encode_transaction
from flashctl.op.envelope import TxEnvelope
from flashctl.op.fees import BASE_FEE_VAULT, L1_BLOCK, L1_FEE_VAULT, OPERATOR_FEE_VAULT, SEQUENCER_FEE_VAULT
from flashctl.op.forks import OpFork

__all__ = ["ALLOC", "FORKS", "VAULTS", "envelopes", "mine"]

SCRIPT = Path(__file__).with_name("edr_oracle.cjs")
GENESIS_TIME = 1_800_000_000
STORE = b"\xa0" * 20
L1_SLOTS = {
    1: 7_000_000_000,
    3: 1368 << 96 | 810949 << 64,
    5: 188,
    6: 684_000,
    7: 1_000_000_000,
    8: 2_000_000 << 64 | 12_345,
}
ALLOC: dict[bytes, tuple[int, bytes, dict[int, int]]] = {
    SENDER: (10**21, b"", {}),
    STORE: (0, bytes.fromhex("60015f5500"), {}),
    L1_BLOCK.to_bytes(20, "big"): (1, b"", L1_SLOTS),
}
VAULTS = (SEQUENCER_FEE_VAULT, BASE_FEE_VAULT, L1_FEE_VAULT, OPERATOR_FEE_VAULT)
FORKS = [OpFork.CANYON, OpFork.ECOTONE, OpFork.FJORD, OpFork.GRANITE, OpFork.HOLOCENE, OpFork.ISTHMUS]


def envelopes() -> list[TxEnvelope]:
    legacy = sign_transaction(
        LegacyTx(3, 10**11, 60_000, b"\x98" * 20, 5, b"", 0, 0, 0), SECRET, chain_id=CHAIN_ID
    )
    raw = encode_transaction(legacy)
    user = DepositTx(b"\x02" * 32, b"\xdd" * 20, STORE, 10**18, 0, 200_000, False, b"")
    fees = {"max_fee_per_gas": 10**11, "max_priority_fee_per_gas": 10**9}
    return [
        attributes_deposit(OpFork.ECOTONE),
        envelope_of(user),
        transfer(0, **fees),
        transfer(1, to=STORE, value=0, **fees),
        transfer(2, data=bytes(range(256)) * 4, gas_limit=300_000, **fees),
        TxEnvelope(raw, legacy, SENDER),
    ]


def mine(fork: OpFork, raws: list[bytes]) -> dict[str, Any]:
    node = require_node("@nomicfoundation/edr")
    request = {
        "fork": fork.name.capitalize(),
        "chainId": CHAIN_ID,
        "coinbase": to_hex(VAULT),
        "timestamp": GENESIS_TIME,
        "baseFee": 10**9,
        "alloc": [
            {
                "address": to_hex(address),
                "balance": hex(balance),
                "code": to_hex(code),
                "storage": {hex(slot): hex(value) for slot, value in storage.items()},
            }
            for address, (balance, code, storage) in ALLOC.items()
        ],
        "transactions": [to_hex(raw) for raw in raws],
        "queries": [f"0x{vault:040x}" for vault in VAULTS],
    }
    done = subprocess.run(
        [node, str(SCRIPT)],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "NODE_PATH": str(node_modules())},
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer
