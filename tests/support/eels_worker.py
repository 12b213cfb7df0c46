"""Runs transactions on EELS, the executable Ethereum specification, for whoever writes JSON lines to its
stdin.

A program of its own: EELS pins other versions of libraries than flashctl uses, so it may live in another
environment (see `support.eels`). One request a line, `{"fork", "block", "accounts", "transactions"}`; one
answer a line, the outcome of every transaction, the accounts at the end and their root. Signatures are left
out: a sender is given by name, and an authorization's `r` is the address that signed it. With `"traced":
true` an outcome has `steps` too: the instructions that EELS' own EIP-3155 tracer saw.
"""

from __future__ import annotations

import dataclasses
import importlib
import io
import json
import sys
import threading
from typing import Any

Json = dict[str, Any]


class Fork:
    """The modules of one fork, with signature recovery replaced."""

    def __init__(self, name: str) -> None:
        package = f"ethereum.forks.{name}"
        self.fork = importlib.import_module(f"{package}.fork")
        self.state = importlib.import_module(f"{package}.state")
        self.vm = importlib.import_module(f"{package}.vm")
        self.types = importlib.import_module(f"{package}.fork_types")
        self.transactions = importlib.import_module(f"{package}.transactions")
        self.trie = importlib.import_module(f"{package}.trie")
        self.sender: Any = None
        self.fork.recover_sender = lambda chain_id, tx: self.sender
        if name in ("prague", "osaka"):
            delegation = importlib.import_module(f"{package}.vm.eoa_delegation")
            delegation.recover_authority = self._authority

    def _authority(self, authorization: Any) -> Any:
        from ethereum.exceptions import InvalidSignatureError

        if not int(authorization.r):
            raise InvalidSignatureError
        return self.types.Address(int(authorization.r).to_bytes(20, "big"))


forks: dict[str, Fork] = {}


def run(request: Json) -> Json:
    from ethereum.crypto.hash import Hash32
    from ethereum.exceptions import InvalidTransaction
    from ethereum_types.bytes import Bytes32
    from ethereum_types.numeric import U64, U256, Uint

    name = request["fork"]
    fork = forks.get(name) or forks.setdefault(name, Fork(name))
    state = _state(fork, request["accounts"])
    block = request["block"]
    facts = {
        "chain_id": U64(block["chain_id"]),
        "state": state,
        "block_gas_limit": Uint(block["gas_limit"]),
        "block_hashes": [Hash32(bytes.fromhex(text)) for text in block["hashes"]],
        "coinbase": fork.types.Address(bytes.fromhex(block["coinbase"])),
        "number": Uint(block["number"]),
        "base_fee_per_gas": Uint(block["base_fee"]),
        "time": U256(block["timestamp"]),
        "prev_randao": Bytes32(bytes.fromhex(block["prev_randao"])),
        "excess_blob_gas": U64(0),
        "parent_beacon_block_root": Hash32(bytes(32)),
    }
    known = {field.name for field in dataclasses.fields(fork.vm.BlockEnvironment)}
    block_env = fork.vm.BlockEnvironment(**{name: fact for name, fact in facts.items() if name in known})
    output = fork.vm.BlockOutput()
    outcomes: list[Json] = []
    for index, item in enumerate(request["transactions"]):
        fork.sender = fork.types.Address(bytes.fromhex(item["sender"]))
        before, count = int(output.block_gas_used), len(output.block_logs)
        steps = io.StringIO() if request.get("traced") else None
        _trace_into(steps)
        try:
            fork.fork.process_transaction(block_env, output, _transaction(fork, item), Uint(index))
        except InvalidTransaction as error:
            outcomes.append({"invalid": type(error).__name__})
            continue
        outcomes.append(
            {
                "gas": int(output.block_gas_used) - before,
                "succeeded": _succeeded(fork, output, index),
                "logs": [
                    [log.address.hex(), [topic.hex() for topic in log.topics], log.data.hex()]
                    for log in output.block_logs[count:]
                ],
            }
        )
        if steps is not None:
            outcomes[-1]["steps"] = [json.loads(line) for line in steps.getvalue().splitlines()[:-1]]
    root = fork.state.state_root(state).hex()
    return {"outcomes": outcomes, "accounts": _dump(fork, state), "root": root}


def _trace_into(steps: io.StringIO | None) -> None:
    from ethereum.trace import discard_evm_trace, set_evm_trace

    if steps is None:
        set_evm_trace(discard_evm_trace)
        return
    from ethereum_spec_tools.evm_tools.t8n.evm_trace.eip3155 import Eip3155Tracer

    tracer = Eip3155Tracer(trace_memory=True, trace_return_data=True, output_basedir=steps)
    set_evm_trace(tracer)


def _state(fork: Fork, accounts: Json) -> Any:
    from ethereum_types.bytes import Bytes32
    from ethereum_types.numeric import U256, Uint

    state = fork.state.State()
    for text, entry in accounts.items():
        address = fork.types.Address(bytes.fromhex(text))
        account = fork.types.Account(
            nonce=Uint(entry["nonce"]), balance=U256(entry["balance"]), code=bytes.fromhex(entry["code"])
        )
        fork.state.set_account(state, address, account)
        for slot, value in entry["storage"].items():
            fork.state.set_storage(
                state, address, Bytes32(int(slot, 16).to_bytes(32, "big")), U256(int(value, 16))
            )
    return state


def _transaction(fork: Fork, item: Json) -> Any:
    from ethereum_types.bytes import Bytes0, Bytes32
    from ethereum_types.numeric import U8, U64, U256, Uint

    kinds, address = fork.transactions, fork.types.Address
    common = {
        "nonce": U256(item["nonce"]) if item["type"] != 4 else U64(item["nonce"]),
        "gas": Uint(item["gas"]),
        "to": address(bytes.fromhex(item["to"])) if item["to"] else Bytes0(b""),
        "value": U256(item["value"]),
        "data": bytes.fromhex(item["data"]),
        "r": U256(1),
        "s": U256(1),
    }
    if item["type"] == 0:
        return kinds.LegacyTransaction(gas_price=Uint(item["price"]), v=U256(27), **common)
    listed = tuple(
        kinds.Access(
            account=address(bytes.fromhex(entry)),
            slots=tuple(Bytes32(slot.to_bytes(32, "big")) for slot in slots),
        )
        for entry, slots in item["access_list"]
    )
    common |= {"chain_id": U64(item["chain_id"]), "access_list": listed, "y_parity": U256(0)}
    if item["type"] == 1:
        return kinds.AccessListTransaction(gas_price=Uint(item["price"]), **common)
    common |= {
        "max_fee_per_gas": Uint(item["price"]),
        "max_priority_fee_per_gas": Uint(item["price"]),
    }
    if item["type"] == 2:
        return kinds.FeeMarketTransaction(**common)
    authorizations = tuple(
        fork.types.Authorization(
            chain_id=U256(chain_id),
            address=address(bytes.fromhex(target)),
            nonce=U64(nonce),
            y_parity=U8(0),
            r=U256(int(authority, 16)),
            s=U256(1),
        )
        for chain_id, target, nonce, authority in item["authorizations"]
    )
    return kinds.SetCodeTransaction(authorizations=authorizations, **common)


def _succeeded(fork: Fork, output: Any, index: int) -> bool:

    receipt = fork.trie.trie_get(output.receipts_trie, output.receipt_keys[-1])
    if isinstance(receipt, bytes):
        from ethereum_rlp import rlp

        fields: Any = rlp.decode(receipt[1:])
        return bool(fields[0])
    return bool(receipt.succeeded)


def _dump(fork: Fork, state: Any) -> Json:
    accounts: Json = {}
    for address, account in state._main_trie._data.items():
        if account is None:
            continue
        trie = state._storage_tries.get(address)
        storage = (
            {}
            if trie is None
            else {hex(int.from_bytes(k, "big")): hex(int(v)) for k, v in trie._data.items()}
        )
        accounts[address.hex()] = {
            "nonce": int(account.nonce),
            "balance": int(account.balance),
            "code": account.code.hex(),
            "storage": storage,
        }
    return accounts


def main() -> None:
    # EELS nests about eight Python frames for one of the EVM, which go 1024 deep.
    sys.setrecursionlimit(50_000)
    threading.stack_size(2**29)
    worker = threading.Thread(target=answer_all)
    worker.start()
    worker.join()


def answer_all() -> None:
    for line in sys.stdin:
        print(json.dumps(run(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
