"""One block of many kinds of transactions, executed here and by op-revm in anvil.

anvil's own ways, allowed for: it always applies Isthmus' fees, counts a deposit's nonce one too high in the
receipt, makes no system calls and seals Ethereum headers; so receipts and accounts are compared, not hashes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import orjson
import pytest
from support.anvil import Anvil, anvil
from support.op_chain import CHAIN_ID, ISTHMUS, no_ancestors, parent_header, world_with

from flashctl.eth.hexdata import to_hex
from flashctl.eth.signatures import address_of_secret, sign_authorization, sign_transaction
from flashctl.eth.transactions import (
    AccessListEntry,
    AccessListTx,
    DepositTx,
    FeeMarketTx,
    LegacyTx,
    SetCodeTx,
    Transaction,
    encode_transaction,
)
from flashctl.ethrpc.trace_params import trace_config
from flashctl.ethrpc.trace_run import trace_transactions
from flashctl.evm.message import Deadline
from flashctl.evm.tracers.tracer import Allowance
from flashctl.op.context import BlockContext
from flashctl.op.envelope import TxEnvelope
from flashctl.op.execution import BlockExecution
from flashctl.op.fees import BASE_FEE_VAULT, L1_BLOCK, L1_FEE_VAULT, OPERATOR_FEE_VAULT, SEQUENCER_FEE_VAULT

ALICE, BOB, CAROL, DAVE = ((index + 1).to_bytes(32, "big") for index in range(4))
ETHER = 10**18
L1_SLOTS = {
    1: 7_000_000_000,
    3: 1368 << 96 | 810949 << 64,
    7: 1_000_000_000,
    8: 2_000_000 << 64 | 12_345,
}


def at(byte: int) -> bytes:
    return bytes((byte,)) * 20


def code(text: str) -> bytes:
    return bytes.fromhex(text.replace(" ", ""))


STORE, CLEAR, REVERT, LOOP, LOGS, ENVIRONMENT, FACTORY, CALLER, PRECOMPILES = map(at, range(0xA0, 0xA9))
CODES = {
    STORE: code("6001 5f 55 6002 6001 55 00"),
    CLEAR: code("5f 5f 55 5f 6001 55 00"),
    REVERT: code("6042 5f 52 6020 5f fd"),
    LOOP: code("5b 5f 56"),
    LOGS: code("60aa 5f 52 60bb 60cc 6020 5f a2 6001 6002 6003 6004 5f 5f a4 00"),
    ENVIRONMENT: code(
        "48 5f 55 43 6001 55 42 6002 55 41 6003 55 44 6004 55 45 6005 55 46 6006 55 3a 6007 55 32 6008 55 "
        "33 6009 55 34 600a 55 47 600b 55 6001 43 03 40 600c 55 00"
    ),
    # CREATE2 of code that stores one slot and returns one byte, twice with the same salt; then CREATE.
    FACTORY: code(
        "67 6001 5f 55 6001 5ff3 5f 52 5f 6008 6018 5f f5 5f 55 5f 6008 6018 5f f5 6001 55 "
        "6008 6018 5f f0 6002 55 00"
    ),
    # CALL to REVERT keeping its data size, DELEGATECALL to STORE, STATICCALL to STORE (fails).
    CALLER: code(
        "5f5f5f5f5f 73" + REVERT.hex() + " 61ffff f1 5f 55 3d 6001 55 5f5f5f5f 73" + STORE.hex()
        + " 61ffff f4 6002 55 5f5f5f5f 73" + STORE.hex() + " 61ffff fa 6003 55 00"
    ),
    # SHA256, identity and P256VERIFY over memory, results and return sizes stored.
    PRECOMPILES: code(
        "60ab 5f 52 6020 6020 6020 5f 6002 61ffff fa 5f 55 6020 51 6001 55 "
        "6020 6020 6020 5f 6004 61ffff fa 6002 55 5f 5f 60a0 5f 610100 61ffff fa 6003 55 3d 6004 55 00"
    ),
}  # fmt: skip


def fee_market(secret: bytes, nonce: int, **changes: Any) -> bytes:
    fields: dict[str, Any] = {
        "chain_id": CHAIN_ID,
        "nonce": nonce,
        "max_priority_fee_per_gas": 10**9,
        "max_fee_per_gas": 10**11,
        "gas_limit": 300_000,
        "to": at(0x99),
        "value": 0,
        "data": b"",
        "access_list": (),
        "y_parity": 0,
        "r": 0,
        "s": 0,
    }
    return encode_transaction(sign_transaction(FeeMarketTx(**(fields | changes)), secret))


def deposit(index: int, **changes: Any) -> bytes:
    tx = DepositTx(bytes((index,)) * 32, at(0xD0 + index), at(0x99), 0, 0, 300_000, False, b"")
    return encode_transaction(replace(tx, **changes))


def transactions() -> list[bytes]:
    """What the block holds, in order."""
    legacy = LegacyTx(0, 10**11, 100_000, at(0x98), ETHER, b"", 0, 0, 0)
    listed = AccessListTx(
        CHAIN_ID,
        1,
        10**11,
        200_000,
        STORE,
        0,
        b"",
        (AccessListEntry(STORE, (bytes(32), at(1).rjust(32))),),
        0,
        0,
        0,
    )
    authorizations = (
        sign_authorization(CHAIN_ID, STORE, 0, DAVE),
        sign_authorization(0, LOGS, 7, CAROL),
        sign_authorization(CHAIN_ID + 1, LOGS, 0, CAROL),
    )
    dave = address_of_secret(DAVE)
    set_code = SetCodeTx(CHAIN_ID, 0, 10**9, 10**11, 400_000, dave, 0, b"", (), authorizations, 0, 0, 0)
    raws: list[Transaction] = [
        sign_transaction(legacy, ALICE, chain_id=CHAIN_ID),
        sign_transaction(listed, ALICE),
    ]
    return [
        deposit(0, mint=5 * ETHER, value=2 * ETHER),
        deposit(1, mint=ETHER, value=ETHER // 2, to=REVERT),
        deposit(2, mint=ETHER, value=3 * ETHER),
        deposit(3, mint=1, to=None, data=code("6001 5f f3")),
        deposit(4, gas_limit=40_000, to=LOOP),
        deposit(5, gas_limit=100_000, to=ENVIRONMENT),
        *map(encode_transaction, raws),
        fee_market(ALICE, 2, to=CLEAR),
        fee_market(ALICE, 3, to=REVERT, value=7),
        fee_market(ALICE, 4, to=LOOP, gas_limit=60_000),
        fee_market(ALICE, 5, to=LOGS),
        fee_market(ALICE, 6, to=ENVIRONMENT, value=11, gas_limit=500_000),
        fee_market(ALICE, 7, to=FACTORY, gas_limit=600_000),
        fee_market(ALICE, 8, to=CALLER),
        fee_market(ALICE, 9, to=PRECOMPILES),
        fee_market(ALICE, 10, data=bytes(range(256)) * 8),
        fee_market(ALICE, 11, to=None, data=code("60 ef 5f 53 6001 5f f3")),
        fee_market(ALICE, 12, to=None, data=code("73" + at(0x97).hex() + " ff"), value=5),
        encode_transaction(sign_transaction(set_code, BOB)),
        fee_market(BOB, 1, to=dave),
        fee_market(BOB, 2, max_priority_fee_per_gas=0, value=1),
    ]


@pytest.fixture(scope="module")
def oracle() -> Iterator[Anvil]:
    arguments = ("--network", "optimism", "--hardfork", "isthmus", "--chain-id", str(CHAIN_ID), "--no-mining")
    more = ("--order", "fifo", "--disable-pool-balance-checks", "--steps-tracing")
    with anvil(*arguments, *more) as server:
        yield server


def prepare(server: Anvil) -> None:
    for secret in (ALICE, BOB, CAROL, DAVE):
        server.call("anvil_setBalance", to_hex(address_of_secret(secret)), hex(100 * ETHER))
    for address, contract in CODES.items():
        server.call("anvil_setCode", to_hex(address), to_hex(contract))
    l1_block = f"0x{L1_BLOCK:040x}"
    server.call("anvil_setBalance", l1_block, "0x1")
    for slot, value in L1_SLOTS.items():
        server.call("anvil_setStorageAt", l1_block, f"0x{slot:064x}", f"0x{value:064x}")
    server.call("anvil_setCoinbase", f"0x{SEQUENCER_FEE_VAULT:040x}")


def execute_here(block: dict[str, Any], raws: list[bytes]) -> BlockExecution:
    funds = {address_of_secret(secret): (100 * ETHER, b"") for secret in (ALICE, BOB, CAROL, DAVE)}
    l1_block = L1_BLOCK.to_bytes(20, "big")
    world = world_with(
        funds | {address: (0, contract) for address, contract in CODES.items()} | {l1_block: (1, b"")},
        {(l1_block, slot): value for slot, value in L1_SLOTS.items()},
    )
    context = BlockContext(
        number=int(block["number"], 16),
        timestamp=int(block["timestamp"], 16),
        parent_hash=bytes.fromhex(block["parentHash"][2:]),
        gas_limit=int(block["gasLimit"], 16),
        base_fee=int(block["baseFeePerGas"], 16),
        fee_recipient=bytes.fromhex(block["miner"][2:]),
        prev_randao=bytes.fromhex(block["mixHash"][2:]),
        parent_beacon_block_root=None,
        extra_data=b"",
    )
    execution = BlockExecution(ISTHMUS, parent_header(ISTHMUS, world), context, world, no_ancestors)
    for raw in raws:
        execution.execute(TxEnvelope.decode(raw))
    execution.seal()
    return execution


@pytest.fixture(scope="module")
def block(oracle: Anvil) -> dict[str, Any]:
    """The block as anvil mined it."""
    prepare(oracle)
    hashes = [oracle.call("eth_sendRawTransaction", to_hex(raw)) for raw in transactions()]
    oracle.call("evm_mine")
    mined: dict[str, Any] = oracle.call("eth_getBlockByNumber", "latest", False)
    assert mined["transactions"] == hashes
    return mined


def test_a_block_of_everything(oracle: Anvil, block: dict[str, Any]) -> None:
    execution = execute_here(block, transactions())
    touched = {SEQUENCER_FEE_VAULT, BASE_FEE_VAULT, L1_FEE_VAULT, OPERATOR_FEE_VAULT}
    for envelope, result in zip(execution.envelopes, execution.results, strict=True):
        expected = oracle.call("eth_getTransactionReceipt", to_hex(envelope.hash))
        compare_receipt(result, expected, repr(envelope))
        touched.add(int.from_bytes(envelope.sender, "big"))
        if expected["contractAddress"]:
            touched.add(int(expected["contractAddress"], 16))
    touched |= {int.from_bytes(at(byte), "big") for byte in range(0x90, 0xE0)}
    touched.add(int.from_bytes(address_of_secret(DAVE), "big"))
    for address in touched:
        compare_account(oracle, execution, address)


def traces(oracle: Anvil, block: dict[str, Any], **config: Any) -> Iterator[tuple[str, Any, Any]]:
    """Of every transaction: its name, anvil's trace and ours."""
    envelopes = [TxEnvelope.decode(raw) for raw in transactions()]
    options = trace_config(config, index=1).options
    execution = execute_here(block, [])
    ours = trace_transactions(execution, envelopes, 0, options, Allowance(2**28), Deadline(60))
    for envelope, trace in zip(envelopes, ours, strict=True):
        theirs = oracle.call("debug_traceTransaction", to_hex(envelope.hash), config)
        yield repr(envelope), theirs, orjson.loads(orjson.dumps(trace))


def test_struct_logs_of_everything(oracle: Anvil, block: dict[str, Any]) -> None:
    """anvil counts the block's gas, calls PREVRANDAO by its old name, and adds what a creation passes on to
    its cost; what a failing instruction asked for it does not know, nor what EIP-7702 gives back.
    """
    for name, theirs, ours in traces(oracle, block, enableMemory=True, enableReturnData=True):
        assert ours["failed"] == theirs["failed"], name
        assert ours["returnValue"] == theirs["returnValue"], name
        start = ours["structLogs"][0]["refund"] if ours["structLogs"] else 0
        for right, entry in zip(theirs["structLogs"], ours["structLogs"], strict=True):
            entry["refund"] -= start
            right["op"] = right["op"].replace("DIFFICULTY", "PREVRANDAO")
            assert ("error" in right) == ("error" in entry), (name, entry)
            shown = {"refund": 0} | {
                key: value for key, value in right.items() if value not in ([], "0x") or key in entry
            }
            loose = {"error", "gasCost", "storage"} if "error" in right else set()
            if entry["op"] in ("CREATE", "CREATE2"):
                loose.add("gasCost")
            assert without(entry, loose) == without(shown, loose), name


def test_call_trees_of_everything(oracle: Anvil, block: dict[str, Any]) -> None:
    """anvil's transaction has neither its own gas limit nor its own gas used; its errors have other names."""

    def shape(tree: dict[str, Any]) -> dict[str, Any]:
        shown = tree | {"calls": [shape(callee) for callee in tree.get("calls", ())]}
        if tree.get("error") not in (None, "execution reverted", "out of gas"):
            shown["error"] = "other"
        return shown

    for name, theirs, ours in traces(oracle, block, tracer="callTracer", tracerConfig={"withLog": True}):
        top = {"gas", "gasUsed"}
        assert without(shape(ours), top) == without(shape(theirs), top), name


def test_prestates_of_everything(oracle: Anvil, block: dict[str, Any]) -> None:
    for name, theirs, ours in traces(oracle, block, tracer="prestateTracer"):
        assert ours == existing(theirs), name
    for name, theirs, ours in traces(oracle, block, tracer="prestateTracer", tracerConfig={"diffMode": True}):
        assert ours == theirs | {"pre": existing(theirs["pre"])}, name


def without(fields: dict[str, Any], names: set[str]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name not in names}


def existing(accounts: dict[str, Any]) -> dict[str, Any]:
    """Without accounts that do not exist, which anvil shows as empty."""
    return {
        name: account
        for name, account in accounts.items()
        if without(account, {"storage"}) != {"balance": "0x0"}
    }


def compare_receipt(result: Any, expected: dict[str, Any], name: str) -> None:
    receipt = result.receipt
    assert receipt.succeeded == (expected["status"] == "0x1"), name
    assert hex(result.gas_used) == expected["gasUsed"], name
    assert hex(result.effective_gas_price) == expected["effectiveGasPrice"], name
    logs = [
        (to_hex(log.address), [to_hex(topic) for topic in log.topics], to_hex(log.data))
        for log in receipt.logs
    ]
    assert logs == [(log["address"], log["topics"], log["data"]) for log in expected["logs"]], name
    if receipt.deposit_nonce is not None:
        assert int(expected["depositNonce"], 16) == receipt.deposit_nonce + 1, name


def compare_account(oracle: Anvil, execution: BlockExecution, address: int) -> None:
    name, state = f"0x{address:040x}", execution.state
    account = state.get_account(address)
    assert oracle.call("eth_getBalance", name, "latest") == hex(account.balance), name
    assert oracle.call("eth_getTransactionCount", name, "latest") == hex(account.nonce), name
    assert oracle.call("eth_getCode", name, "latest") == to_hex(state.code_of(address)), name
    for slot in range(13):
        stored = oracle.call("eth_getStorageAt", name, hex(slot), "latest")
        assert int(stored, 16) == state.storage(address, slot), (name, slot)
