"""Runs ethereum/tests' GeneralStateTests: Ethereum's own rules around the machine under test.

The product knows the fees of the OP Stack only. What a state test needs beyond it (buying gas, the tip, blob
transactions) is here, so that the whole corpus applies.
"""

from __future__ import annotations

import json
import lzma
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flashctl.eth.keccak import keccak256
from flashctl.eth.rlp import encode
from flashctl.evm.code import CodeCache
from flashctl.evm.forks import EvmRules
from flashctl.evm.message import BlockEnv
from flashctl.evm.state import Account, JournaledState, LogEntry, StateDiff
from flashctl.evm.transaction import IntrinsicGasError, TxParams, check_gas_limit, run_transaction
from flashctl.evm.world import World

__all__ = ["Case", "CaseResult", "Refused", "cases", "pre_world", "run_case"]

BLOB_GAS = 131_072
MAX_BLOBS = 6
BLOB_FEE_UPDATE_FRACTION = 3_338_477


class Refused(Exception):
    """The transaction is invalid: the state stays as it is."""


@dataclass(frozen=True)
class Case:
    """One transaction of a test, with what must come of it."""

    name: str
    env: dict[str, str]
    pre: dict[str, Any]
    tx: TxParams
    nonce: int
    max_fee: int
    tip: int
    max_blob_fee: int | None
    expected_root: bytes
    expected_logs: bytes
    is_refused: bool


@dataclass(frozen=True)
class CaseResult:
    root: bytes
    logs_hash: bytes


def _int(text: str) -> int:
    return int(text, 16) if text not in ("", "0x") else 0


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))


def cases(path: Path) -> Iterator[Case]:
    """Every case of a file of compact state tests, one test a line."""
    with lzma.open(path) as lines:
        for line in lines:
            test = json.loads(line)
            for post in test["post"]:
                yield _case(test, post)


def _case(test: dict[str, Any], post: dict[str, Any]) -> Case:
    tx, indexes = test["tx"], post["indexes"]
    env = test["env"]
    listed = (tx.get("accessLists") or [None] * (indexes["data"] + 1))[indexes["data"]] or []
    max_fee = _int(tx.get("maxFeePerGas") or tx["gasPrice"])
    tip = _int(tx["maxPriorityFeePerGas"]) if "maxPriorityFeePerGas" in tx else max_fee
    price = min(max_fee, _int(env["currentBaseFee"]) + tip)
    params = TxParams(
        sender=_int(tx["sender"]),
        to=_int(tx["to"]) if tx["to"] else None,
        value=_int(tx["value"][indexes["value"]]),
        data=_bytes(tx["data"][indexes["data"]]),
        gas_limit=_int(tx["gasLimit"][indexes["gas"]]),
        gas_price=price,
        access_list=tuple(
            (_int(entry["address"]), tuple(_int(slot) for slot in entry["storageKeys"])) for entry in listed
        ),
        blob_hashes=tuple(_int(h) for h in tx.get("blobVersionedHashes", ())),
    )
    return Case(
        f"{test['n']}[{indexes['data']},{indexes['gas']},{indexes['value']}]",
        env,
        test["pre"],
        params,
        _int(tx["nonce"]),
        max_fee,
        tip,
        _int(tx["maxFeePerBlobGas"]) if "maxFeePerBlobGas" in tx else None,
        _bytes(post["hash"]),
        _bytes(post["logs"]),
        "expectException" in post,
    )


def pre_world(pre: dict[str, Any]) -> World:
    """The state before a test."""
    accounts: dict[int, Account | None] = {}
    storage: dict[int, dict[int, int]] = {}
    codes: dict[bytes, bytes] = {}
    for address, entry in pre.items():
        code = _bytes(entry["code"])
        code_hash = keccak256(code)
        codes[code_hash] = code
        accounts[_int(address)] = Account(_int(entry["nonce"]), _int(entry["balance"]), code_hash)
        slots = {_int(slot): _int(value) for slot, value in entry["storage"].items()}
        if slots:
            storage[_int(address)] = slots
    return World.empty().apply(StateDiff(accounts, storage, codes, set()))


def _blob_base_fee(excess: int) -> int:
    numerator, accumulated, i, output = BLOB_FEE_UPDATE_FRACTION, BLOB_FEE_UPDATE_FRACTION, 1, 0
    while accumulated > 0:
        output += accumulated
        accumulated = accumulated * excess // (BLOB_FEE_UPDATE_FRACTION * i)
        i += 1
    return output // numerator


def run_case(case: Case, rules: EvmRules, codes: CodeCache, world: World) -> CaseResult:
    """Run a case on a world made by `pre_world`; a refused transaction leaves it as it is."""
    env = case.env
    block = BlockEnv(
        number=_int(env["currentNumber"]),
        timestamp=_int(env["currentTimestamp"]),
        gas_limit=_int(env["currentGasLimit"]),
        base_fee=_int(env["currentBaseFee"]),
        coinbase=_int(env["currentCoinbase"]),
        prev_randao=_int(env["currentRandom"]),
        chain_id=1,
        blob_base_fee=_blob_base_fee(_int(env.get("currentExcessBlobGas", "0x0"))),
        block_hash=lambda number: int.from_bytes(keccak256(str(number).encode()), "big"),
    )
    state = JournaledState(world)
    state.begin_transaction()
    logs: tuple[LogEntry, ...] = ()
    try:
        blob_fee = _check(case, rules, block, state)
    except (Refused, IntrinsicGasError):
        if not case.is_refused:
            raise
        return CaseResult(world.root, _logs_hash(()))
    tx = case.tx
    state.add_balance(tx.sender, -tx.gas_limit * tx.gas_price - blob_fee)
    outcome = run_transaction(state, block, rules, tx, codes=codes)
    logs = outcome.logs
    state.add_balance(tx.sender, (tx.gas_limit - outcome.gas_used) * tx.gas_price)
    reward = outcome.gas_used * (tx.gas_price - block.base_fee)
    state.add_balance(block.coinbase, reward)
    if not reward:
        state.touch(block.coinbase)
    state.finish_transaction()
    return CaseResult(world.apply(state.changes()).root, _logs_hash(logs))


def _check(case: Case, rules: EvmRules, block: BlockEnv, state: JournaledState) -> int:
    """Ethereum's admission rules; returns the blob fee in wei."""
    tx = case.tx
    sender = state.get_account(tx.sender)
    check_gas_limit(tx, rules)
    if tx.gas_limit > block.gas_limit:
        raise Refused("gas limit above the block's")
    if sender.nonce != case.nonce or sender.nonce == 2**64 - 1:
        raise Refused("nonce")
    if state.code(sender.code_hash):
        raise Refused("sender is a contract")
    if case.max_fee < block.base_fee or case.tip > case.max_fee:
        raise Refused("fee too low")
    cost = tx.gas_limit * case.max_fee + tx.value
    blob_fee = 0
    if case.max_blob_fee is not None:
        blobs = tx.blob_hashes
        if not blobs or len(blobs) > MAX_BLOBS or any(h >> 248 != 1 for h in blobs) or tx.to is None:
            raise Refused("blobs")
        if case.max_blob_fee < block.blob_base_fee:
            raise Refused("blob fee too low")
        cost += len(blobs) * BLOB_GAS * case.max_blob_fee
        blob_fee = len(blobs) * BLOB_GAS * block.blob_base_fee
    if sender.balance < cost:
        raise Refused("funds")
    return blob_fee


def _logs_hash(logs: tuple[LogEntry, ...]) -> bytes:
    return keccak256(
        encode(
            [
                [entry.address.to_bytes(20, "big"), [t.to_bytes(32, "big") for t in entry.topics], entry.data]
                for entry in logs
            ]
        )
    )
