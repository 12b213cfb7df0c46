"""Cases of `support.programs` run here, in the terms of `support.eels_worker`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flashctl.eth.keccak import keccak256
from flashctl.evm.code import CodeCache
from flashctl.evm.forks import CANCUN, OSAKA, PRAGUE, SHANGHAI, EvmRules, InstructionSet
from flashctl.evm.message import BlockEnv
from flashctl.evm.precompiles import tables
from flashctl.evm.state import Account, EmptyReader, JournaledState
from flashctl.evm.transaction import Delegation, IntrinsicGasError, TxParams, run_transaction

__all__ = ["RULES", "Json", "expected", "run_case_on"]

RULES = {
    "shanghai": SHANGHAI.with_precompiles(tables.BERLIN),
    "cancun": CANCUN.with_precompiles(tables.CANCUN),
    "prague": PRAGUE.with_precompiles(tables.PRAGUE),
    "osaka": OSAKA.with_precompiles(tables.OSAKA),
}

Json = dict[str, Any]


def start_state(accounts: Json) -> JournaledState:
    state = JournaledState(EmptyReader())
    state.begin_transaction()
    for text, entry in accounts.items():
        address = int(text, 16)
        state.put_account(address, Account(entry["nonce"], entry["balance"], keccak256(b"")))
        if entry["code"]:
            state.set_code(address, bytes.fromhex(entry["code"]))
    state.finish_transaction()
    for text, entry in accounts.items():
        for slot, value in entry["storage"].items():
            state.set_storage(int(text, 16), int(slot, 16), int(value, 16))
    return state


def dump(state: JournaledState) -> Json:
    changes = state.changes()
    accounts: Json = {}
    for address, account in changes.accounts.items():
        if account is None:
            continue
        storage = changes.storage.get(address, {})
        accounts[address.to_bytes(20, "big").hex()] = {
            "nonce": account.nonce,
            "balance": account.balance,
            "code": state.code(account.code_hash).hex(),
            "storage": {hex(slot): hex(value) for slot, value in storage.items() if value},
        }
    return accounts


def parameters(item: Json) -> TxParams:
    return TxParams(
        sender=int(item["sender"], 16),
        to=int(item["to"], 16) if item["to"] else None,
        value=item["value"],
        data=bytes.fromhex(item["data"]),
        gas_limit=item["gas"],
        gas_price=item["price"],
        access_list=tuple((int(address, 16), tuple(slots)) for address, slots in item["access_list"]),
        authorizations=tuple(
            Delegation(chain_id, int(target, 16), nonce, int(authority, 16) or None)
            for chain_id, target, nonce, authority in item["authorizations"]
        ),
    )


def run_one(state: JournaledState, block: BlockEnv, rules: EvmRules, codes: CodeCache, item: Json) -> Json:
    tx = parameters(item)
    state.begin_transaction()
    nonce, balance, code_hash = state.get_account(tx.sender)
    code = state.code(code_hash)
    if nonce != item["nonce"]:
        return {"invalid": True}
    if balance < tx.gas_limit * tx.gas_price + tx.value or (code and not code.startswith(b"\xef\x01\x00")):
        return {"invalid": True}
    start = state.snapshot()
    state.add_balance(tx.sender, -tx.gas_limit * tx.gas_price)
    try:
        outcome = run_transaction(state, block, rules, tx, codes=codes)
    except IntrinsicGasError:
        state.revert(start)
        return {"invalid": True}
    state.add_balance(tx.sender, (tx.gas_limit - outcome.gas_used) * tx.gas_price)
    state.add_balance(block.coinbase, outcome.gas_used * (tx.gas_price - block.base_fee))
    state.finish_transaction()
    return {
        "gas": outcome.gas_used,
        "succeeded": outcome.succeeded,
        "logs": [
            [
                entry.address.to_bytes(20, "big").hex(),
                [t.to_bytes(32, "big").hex() for t in entry.topics],
                entry.data.hex(),
            ]
            for entry in outcome.logs
        ],
    }


def run_case_on(case: Json, codes_for: Callable[[InstructionSet], CodeCache]) -> Json:
    """What comes of a case, each transaction on codes made for it."""
    rules = RULES[case["fork"]]
    block = case["block"]
    hashes = [int(text, 16) for text in block["hashes"]]
    environment = BlockEnv(
        number=block["number"],
        timestamp=block["timestamp"],
        gas_limit=block["gas_limit"],
        base_fee=block["base_fee"],
        coinbase=int(block["coinbase"], 16),
        prev_randao=int(block["prev_randao"], 16),
        chain_id=block["chain_id"],
        block_hash=lambda number: hashes[number],
    )
    state = start_state(case["accounts"])
    outcomes = [
        run_one(state, environment, rules, codes_for(rules.instructions), item)
        for item in case["transactions"]
    ]
    return {"outcomes": outcomes, "accounts": dump(state)}


def expected(answer: Json) -> Json:
    """EELS' answer in our terms."""
    outcomes = [{"invalid": True} if "invalid" in outcome else outcome for outcome in answer["outcomes"]]
    return {"outcomes": outcomes, "accounts": answer["accounts"]}
