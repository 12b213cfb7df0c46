"""Other EVMs at the work of bench/evm.py. Runs in an environment that has one of them; reads the accounts
and messages from stdin, prints calls per second by peer and workload as JSON.

Every call is a transaction of its own: cold at its start, its changes kept. pyrevm's journal stays warm
from call to call, so it runs as one has to use it for right gas: snapshot, call, read the journal, revert.
(Writing the changes back would come on top.)
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

Json = dict[str, Any]
Call = Callable[[str, str, str, int], None]

BUDGET_S = 4.0
"""Time for one workload; slow peers run a part of it."""


def eels(accounts: Json) -> Call:
    from ethereum.crypto.hash import Hash32
    from ethereum.forks.prague import state as states
    from ethereum.forks.prague import vm
    from ethereum.forks.prague.fork_types import Account, Address
    from ethereum.forks.prague.vm.interpreter import process_message_call
    from ethereum_types.bytes import Bytes32
    from ethereum_types.numeric import U64, U256, Uint

    state = states.State()
    for text, entry in accounts.items():
        address = Address(int(text, 16).to_bytes(20, "big"))
        account = Account(Uint(entry["nonce"]), U256(entry["balance"]), bytes.fromhex(entry["code"]))
        states.set_account(state, address, account)
        for slot, value in entry["storage"].items():
            key = Bytes32(int(slot, 16).to_bytes(32, "big"))
            states.set_storage(state, address, key, U256(int(value, 16)))
    block = vm.BlockEnvironment(
        U64(10),
        state,
        Uint(10**9),
        [],
        Address(bytes(20)),
        Uint(1),
        Uint(0),
        U256(1),
        Bytes32(bytes(32)),
        U64(0),
        Hash32(bytes(32)),
    )

    def call(caller: str, to: str, data: str, gas: int) -> None:
        origin = Address(int(caller, 16).to_bytes(20, "big"))
        target = Address(int(to, 16).to_bytes(20, "big"))
        tx = vm.TransactionEnvironment(
            origin, Uint(0), Uint(gas), set(), set(), states.TransientStorage(), (), (), None, None
        )
        message = vm.Message(
            block_env=block,
            tx_env=tx,
            caller=origin,
            target=target,
            current_target=target,
            gas=Uint(gas),
            value=U256(0),
            data=bytes.fromhex(data),
            code_address=target,
            code=states.get_account(state, target).code,
            depth=Uint(0),
            should_transfer_value=True,
            is_static=False,
            accessed_addresses={origin, target},
            accessed_storage_keys=set(),
            disable_precompiles=False,
            parent_evm=None,
        )
        output = process_message_call(message)
        assert output.error is None, output.error

    return call


def py_evm(accounts: Json) -> Call:
    from eth.constants import BLANK_ROOT_HASH
    from eth.db.atomic import AtomicDB
    from eth.vm.execution_context import ExecutionContext
    from eth.vm.forks.prague.state import PragueState
    from eth.vm.message import Message

    context = ExecutionContext(
        bytes(20), 1, 1, 0, bytes(32), 10**9, [], 10, base_fee_per_gas=0, excess_blob_gas=0
    )
    state = PragueState(AtomicDB(), context, BLANK_ROOT_HASH)
    for text, entry in accounts.items():
        address = int(text, 16).to_bytes(20, "big")
        state.set_balance(address, entry["balance"])
        state.set_nonce(address, entry["nonce"])
        state.set_code(address, bytes.fromhex(entry["code"]))
        for slot, value in entry["storage"].items():
            state.set_storage(address, int(slot, 16), int(value, 16))
    state.lock_changes()

    def call(caller: str, to: str, data: str, gas: int) -> None:
        origin, target = (int(text, 16).to_bytes(20, "big") for text in (caller, to))
        message = Message(gas, target, origin, 0, bytes.fromhex(data), state.get_code(target))
        transaction = state.get_transaction_context_class()(gas_price=0, origin=origin)
        computation = state.computation_class.apply_message(state, message, transaction)
        assert computation.is_success, computation.error
        state.lock_changes()

    return call


def pyrevm(accounts: Json) -> Call:
    from pyrevm import EVM, AccountInfo

    evm = EVM(gas_limit=2 * 10**9)
    for text, entry in accounts.items():
        address = "0x" + int(text, 16).to_bytes(20, "big").hex()
        code = bytes.fromhex(entry["code"])
        info = AccountInfo(nonce=entry["nonce"], balance=entry["balance"], code=code)
        evm.insert_account_info(address, info)
        for slot, value in entry["storage"].items():
            start = evm.snapshot()  # else the slot stays warm, and in the journal, for ever
            evm.insert_account_storage(address, int(slot, 16), int(value, 16))
            evm.revert(start)

    def call(caller: str, to: str, data: str, gas: int) -> None:
        origin, target = ("0x" + int(text, 16).to_bytes(20, "big").hex() for text in (caller, to))
        start = evm.snapshot()
        evm.message_call(origin, target, bytes.fromhex(data), gas=gas)
        _ = evm.journal_str
        evm.revert(start)

    return call


PEERS: dict[str, Callable[[Json], Call]] = {"EELS": eels, "py-evm": py_evm, "pyrevm, isolated": pyrevm}


def rate(call: Call, messages: list[tuple[str, str, str, int]]) -> float:
    """Calls per second: the best round within the budget."""
    call(*messages[0])
    best, deadline = 0.0, time.monotonic() + BUDGET_S
    while time.monotonic() < deadline:
        start, count = time.process_time(), 0
        for message in messages:
            call(*message)
            count += 1
            if time.monotonic() > deadline:
                break
        best = max(best, count / (time.process_time() - start))
    return best


def main() -> None:
    request = json.load(sys.stdin)
    found: dict[str, dict[str, float]] = {}
    for name, peer in PEERS.items():
        try:
            call = peer(request["accounts"])
        except ImportError:
            continue
        found[name] = {workload: rate(call, messages) for workload, messages in request["workloads"].items()}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
