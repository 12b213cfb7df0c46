"""Recorded traces of geth (ethereum/execution-apis), instruction by instruction.

The recorded blocks are Ethereum's first forks: gas is cheaper there, calldata dearer. So a transaction's
message runs here with the gas its trace begins with. Everything but gas must be the same, and gas as well
until an instruction comes that later forks priced anew.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import orjson
import pytest
from support.reference import reference_path

from flashctl.eth.blocks import Block, decode_block
from flashctl.eth.keccak import EMPTY_CODE_HASH
from flashctl.eth.rlp import decode_prefix, encode
from flashctl.ethrpc.trace_json import StructLogText
from flashctl.ethrpc.trace_params import trace_config
from flashctl.evm.forks import SHANGHAI
from flashctl.evm.machine import execute_message
from flashctl.evm.message import BlockEnv, Message, TxEnv
from flashctl.evm.precompiles import tables
from flashctl.evm.state import Account, EmptyReader, JournaledState
from flashctl.evm.tracers.struct_log import StructLogger, StructLogOptions
from flashctl.evm.tracers.tracer import Allowance
from flashctl.evm.tracing import Stepper
from flashctl.op.envelope import TxEnvelope

RULES = SHANGHAI.with_precompiles(tables.BERLIN)
REPRICED = ("SLOAD", "SSTORE")
"""Instructions of the recorded programs that cost something else today (EIP-2200, EIP-2929)."""

FOLDER = reference_path("execution-apis") / "tests"

Json = dict[str, Any]


@cache
def traced_blocks() -> tuple[Block, ...]:
    """The first two blocks, which are those that geth traced."""
    data, offset, blocks = (FOLDER / "chain.rlp").read_bytes(), 0, []
    while len(blocks) < 2:
        item, offset = decode_prefix(data, offset)
        blocks.append(decode_block(encode(item)))
    return tuple(blocks)


@cache
def genesis() -> Json:
    found: Json = json.loads((FOLDER / "genesis.json").read_text())
    return found


def genesis_state() -> JournaledState:
    state = JournaledState(EmptyReader())
    for name, entry in genesis()["alloc"].items():
        address = int(name, 16)
        state.begin_transaction()
        nonce, balance = int(entry.get("nonce", "0x0"), 16), int(entry["balance"], 16)
        state.put_account(address, Account(nonce, balance, EMPTY_CODE_HASH))
        if entry.get("code", "0x") != "0x":
            state.set_code(address, bytes.fromhex(entry["code"][2:]))
        state.finish_transaction()
        for slot, value in entry.get("storage", {}).items():
            state.set_storage(address, int(slot, 16), int(value, 16))
    return state


def exchanges() -> list[tuple[str, Json, list[Json]]]:
    """(name, options, traces of a block) of everything that geth traced."""
    found = []
    for path in sorted(FOLDER.glob("debug_traceBlock*/*.io")):
        lines = [line[3:] for line in path.read_text().splitlines() if line[:2] in (">>", "<<")]
        for asked, answered in zip(lines[::2], lines[1::2], strict=True):
            request, response = json.loads(asked), json.loads(answered)
            if "result" in response:
                options = request["params"][1] if len(request["params"]) > 1 else {}
                found.append((f"{path.parent.name}/{path.stem}", options, response["result"]))
    return found


class Replay:
    """The recorded chain's first blocks, message by message."""

    def __init__(self, options: StructLogOptions) -> None:
        self._options = options
        self._state = genesis_state()

    def run(self, block: Block, envelope: TxEnvelope, gas: int) -> Json:
        """The trace of one transaction, its sender's nonce counted."""
        state, tx = self._state, envelope.tx
        sender = int.from_bytes(envelope.sender, "big")
        header = block.header
        env = BlockEnv(
            header.number,
            header.timestamp,
            header.gas_limit,
            header.base_fee_per_gas or 0,
            int.from_bytes(header.fee_recipient, "big"),
            int.from_bytes(header.prev_randao, "big"),
            genesis()["config"]["chainId"],
        )
        text = StructLogText(Allowance(2**26))
        stepper = Stepper(RULES.instructions, StructLogger(self._options, RULES.instructions, text.add))
        to = None if tx.to is None else int.from_bytes(tx.to, "big")
        state.begin_transaction()
        message = Message(sender, to, tx.value, tx.data, gas)
        price = TxEnv(sender, header.base_fee_per_gas or 0)
        result = execute_message(state, env, price, RULES, message, codes=stepper.codes)
        state.increment_nonce(sender)
        state.finish_transaction()
        end = stepper.finish(result.succeeded)
        output = result.output if end is None else end.output
        shown: Json = orjson.loads(text.result(0, not result.succeeded, output))
        return shown


def compare(name: str, theirs: Json, ours: Json) -> int:
    """How many instructions are the same, gas included."""
    assert ours["failed"] == theirs["failed"], name
    assert ours["returnValue"] == theirs["returnValue"], name
    same_prices, count = True, 0
    readings: set[str] = set()
    for right, entry in zip(theirs["structLogs"], ours["structLogs"], strict=True):
        same_prices = same_prices and entry["op"] not in REPRICED
        refund = entry.pop("refund")
        assert refund == right.pop("refund", 0) or not same_prices, name
        count += same_prices
        if not same_prices:
            for each in (right, entry):
                # What GAS has read of it is on the stack.
                left = each.pop("gas") - each.pop("gasCost")
                readings |= {hex(left)} if each["op"] == "GAS" else set()
                each["stack"] = ["gas" if word in readings else word for word in each["stack"]]
        assert entry == right, name
    return count


@pytest.mark.parametrize(
    ("name", "options", "recorded"), exchanges(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_recorded_trace(name: str, options: Json, recorded: list[Json]) -> None:
    parsed = trace_config(options, index=1).options
    assert isinstance(parsed, StructLogOptions)
    replay, same = Replay(parsed), 0
    hashes = [entry["txHash"] for entry in recorded]
    for block in traced_blocks():
        envelopes = [TxEnvelope.decode(raw) for raw in block.transactions]
        if ["0x" + envelope.hash.hex() for envelope in envelopes] != hashes:
            for envelope in envelopes:
                replay.run(block, envelope, 10**6)
            continue
        for envelope, entry in zip(envelopes, recorded, strict=True):
            theirs = entry["result"]
            gas = theirs["structLogs"][0]["gas"] if theirs["structLogs"] else 10**6
            same += compare(name, theirs, replay.run(block, envelope, gas))
        break
    assert same > 20
