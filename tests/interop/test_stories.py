"""One story for each client that applications are built on, against the devnet's default RPC as they find it.

Deploy, use it at once, spend what was just preconfirmed, read why a preconfirmed transaction reverted,
subscribe, replace what waits. A story ends at the first step that is not so, with the step's name, what it
expected and what it saw. The stories are in `stories/`; each has an account of its own.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from support.devnet import Devnet
from support.devnet_chain import CONTRACTS, GWEI, contract, encode_call
from support.npm import node_modules, npm_binary, require_node

from flashctl.eth.hexdata import parse_hex, to_hex
from flashctl.eth.keccak import keccak256
from flashctl.eth.rlp import encode_bytes, encode_uint, join_list
from flashctl.eth.signatures import address_of_secret, sign_transaction
from flashctl.eth.transactions import FeeMarketTx, encode_transaction

STORIES = Path(__file__).with_name("stories")
STEPS = [
    "deploy",
    "use at once",
    "spend what was just preconfirmed",
    "revert reason of a preconfirmed transaction",
    "subscriptions",
    "replacement",
]
PROBE = contract("Probe")
REASON = "not today"
ONE_ETHER = 10**18
WEB3_PYTHON = "FLASHCTL_WEB3_PYTHON"
"""The variable that names a Python which has web3.py."""


def tell(running: Devnet, account: int, *command: str, given: Mapping[str, str] | None = None) -> None:
    """Run a story to its end."""
    _, key = running.account(account)
    variables = {
        "RPC": running.url("rpc"),
        "WS": running.url("rpc_ws"),
        "SEALED": running.url("rpc_sealed"),
        "CHAIN_ID": str(running.ready["chain_id"]),
        "KEY": key,
        "PROBE": str(CONTRACTS / "Probe.json"),
        **(given or {}),
    }
    environment = os.environ | {f"STORY_{name}": value for name, value in variables.items()}
    environment["FLASHCTL_NODE_MODULES"] = str(node_modules())
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment)
    except subprocess.TimeoutExpired as late:
        pytest.fail(f"the story did not end; steps that passed: {(late.stdout or b'').decode()}")
    assert done.returncode == 0, f"{done.stderr}\nsteps that passed:\n{done.stdout}"
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["step"] for line in lines] == STEPS
    assert lines[-1]["preconfirmed"] > 0, "no receipt came before its block was sealed"


def test_ethers(running: Devnet) -> None:
    tell(running, 1, require_node("ethers"), str(STORIES / "ethers.mjs"))


def test_viem(running: Devnet) -> None:
    tell(running, 2, require_node("viem"), str(STORIES / "viem.mjs"))


def test_wagmi(running: Devnet) -> None:
    tell(running, 3, require_node("viem", "@wagmi/core"), str(STORIES / "wagmi.mjs"))


def test_web3(running: Devnet) -> None:
    python = os.environ.get(WEB3_PYTHON, str(Path(__file__).resolve().parents[2] / ".venv-web3/bin/python"))
    if not Path(python).exists():
        pytest.skip(f"web3.py is not installed; {WEB3_PYTHON} names a Python that has it")
    tell(running, 4, python, str(STORIES / "web3_story.py"))


def test_cast(running: Devnet) -> None:
    given = {"CAST": npm_binary("cast")}
    tell(running, 5, sys.executable, str(STORIES / "cast_story.py"), given=given)


def test_java(running: Devnet) -> None:
    java = shutil.which("java")
    if java is None or shutil.which("javac") is None:
        pytest.skip("the JDK is not installed")
    given = _signed_for_java(parse_hex(running.account(6)[1]), running.ready["chain_id"])
    tell(running, 6, java, str(STORIES / "Story.java"), given=given)


def _signed_for_java(secret: bytes, chain_id: int) -> dict[str, str]:
    """The JDK signs no transactions: all of them, from an account's first nonce on."""
    account = address_of_secret(secret)
    fresh, last = keccak256(b"fresh" + os.urandom(32)), keccak256(b"last" + os.urandom(32))[12:]
    probe = keccak256(join_list((encode_bytes(account), encode_uint(0))))[12:]
    text = REASON.encode()
    refuse_data = encode_call(PROBE, "refuseWithText(string)", 32, len(text), text.ljust(32, b"\0"))

    def signed(
        nonce: int,
        to: bytes | None,
        data: bytes = b"",
        *,
        value: int = 0,
        tip: int = 1,
        by: bytes = secret,
    ) -> str:
        gas = 21_000 if to is not None and not data else 2_000_000
        tx = FeeMarketTx(chain_id, nonce, tip * GWEI, 20 * tip * GWEI, gas, to, value, data, (), 0, 0, 0)
        return to_hex(encode_transaction(sign_transaction(tx, by)))

    increment = encode_call(PROBE, "increment()")
    return {
        "CHAIN_ID_HEX": hex(chain_id),
        "REASON": REASON,
        "REFUSE_DATA": to_hex(refuse_data),
        "PROBE_ADDRESS": to_hex(probe),
        "FRESH": to_hex(address_of_secret(fresh)),
        "LAST": to_hex(last),
        "DEPLOY": signed(0, None, PROBE.creation_code),
        "INCREMENT_1": signed(1, probe, increment),
        "INCREMENT_2": signed(2, probe, increment),
        "FUND": signed(3, address_of_secret(fresh), value=ONE_ETHER),
        "SPEND": signed(0, last, value=ONE_ETHER // 4, by=fresh),
        "REFUSE": signed(4, probe, refuse_data),
        "INCREMENT_3": signed(5, probe, increment),
        "NEXT_FIRST": signed(7, account, value=1),
        "NEXT_CHEAP": signed(7, account, value=2),
        "NEXT_SECOND": signed(7, account, value=3, tip=2),
        "MISSING": signed(6, account, value=4),
    }
