"""A minimal OP chain for tests: configs per fork, a state of few accounts, blocks without history."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from flashctl.eth.blocks import EMPTY_OMMERS_HASH, EMPTY_REQUESTS_HASH, EMPTY_TRIE_ROOT, Header
from flashctl.eth.signatures import address_of_secret, sign_transaction
from flashctl.eth.transactions import DepositTx, FeeMarketTx, encode_transaction
from flashctl.evm.state import Account, EmptyReader, JournaledState
from flashctl.evm.world import World
from flashctl.op.config import ChainConfig, parse_schedule
from flashctl.op.context import BlockContext
from flashctl.op.envelope import TxEnvelope
from flashctl.op.forks import OpFork
from flashctl.op.l1_attributes import L1Attributes, l1_attributes_deposit

CHAIN_ID = 901
START = 1_800_000_000
"""Timestamp of the parent of every test block."""

SECRET = (7).to_bytes(32, "big")
SENDER = address_of_secret(SECRET)
VAULT = bytes.fromhex("4200000000000000000000000000000000000011")

L1_ATTRIBUTES = L1Attributes(
    number=1,
    timestamp=START - 12,
    base_fee=1_000_000_000,
    block_hash=b"\x11" * 32,
    sequence_number=0,
    batcher=b"\xba" * 20,
    base_fee_scalar=1368,
    blob_base_fee_scalar=810949,
    blob_base_fee=1,
    operator_fee_scalar=1_000_000,
    operator_fee_constant=500,
)


def chain_at(fork: OpFork, *, activation: int = 0) -> ChainConfig:
    """A chain that has this fork from `activation` on and all before it from the start."""
    times = {each: 0 if each < fork else activation for each in OpFork if OpFork.BEDROCK < each <= fork}
    return ChainConfig(CHAIN_ID, parse_schedule(times))


CANYON, ECOTONE, FJORD, HOLOCENE, ISTHMUS, JOVIAN, KARST = (
    chain_at(OpFork[name])
    for name in ("CANYON", "ECOTONE", "FJORD", "HOLOCENE", "ISTHMUS", "JOVIAN", "KARST")
)


def no_ancestors(number: int) -> bytes:
    return number.to_bytes(32, "big")


def state_with(accounts: Mapping[bytes, tuple[int, bytes]]) -> JournaledState:
    """A state of accounts given as balance and code."""
    state = JournaledState(EmptyReader())
    for address, (balance, code) in accounts.items():
        number = int.from_bytes(address, "big")
        state.begin_transaction()
        state.set_code(number, code)
        state.put_account(number, Account(0, balance, state.get_account(number).code_hash))
        state.finish_transaction()
    state.take_changes()
    return state


def world_with(
    accounts: Mapping[bytes, tuple[int, bytes]], storage: Mapping[tuple[bytes, int], int] | None = None
) -> World:
    """A world of accounts given as balance and code."""
    state = JournaledState(EmptyReader())
    for address, (balance, code) in accounts.items():
        number = int.from_bytes(address, "big")
        state.begin_transaction()
        state.set_code(number, code)
        state.put_account(number, Account(0, balance, state.get_account(number).code_hash))
        state.finish_transaction()
    for (address, slot), value in (storage or {}).items():
        state.set_storage(int.from_bytes(address, "big"), slot, value)
    return World.empty().apply(state.changes())


def block_context() -> BlockContext:
    return BlockContext(
        number=1,
        timestamp=START + 2,
        parent_hash=b"\x22" * 32,
        gas_limit=60_000_000,
        base_fee=1,
        fee_recipient=VAULT,
        prev_randao=b"\x33" * 32,
        parent_beacon_block_root=b"\x44" * 32,
        extra_data=bytes.fromhex("0100000032000000060000000000000000"),
    )


def parent_header(config: ChainConfig, world: World, **changes: object) -> Header:
    """A plausible header with this world as its state."""
    fork = config.fork_at(START)
    extra = b""
    if fork >= OpFork.JOVIAN:
        extra = bytes.fromhex("0100000032000000060000000000000000")
    elif fork >= OpFork.HOLOCENE:
        extra = bytes.fromhex("000000003200000006")
    header = Header(
        parent_hash=b"\x55" * 32,
        ommers_hash=EMPTY_OMMERS_HASH,
        fee_recipient=VAULT,
        state_root=world.root,
        transactions_root=EMPTY_TRIE_ROOT,
        receipts_root=EMPTY_TRIE_ROOT,
        logs_bloom=bytes(256),
        difficulty=0,
        number=100,
        gas_limit=60_000_000,
        gas_used=10_000_000,
        timestamp=START,
        extra_data=extra,
        prev_randao=bytes(32),
        nonce=bytes(8),
        base_fee_per_gas=1_000_000,
        withdrawals_root=EMPTY_TRIE_ROOT,
        blob_gas_used=0 if fork >= OpFork.ECOTONE else None,
        excess_blob_gas=0 if fork >= OpFork.ECOTONE else None,
        parent_beacon_block_root=bytes(32) if fork >= OpFork.ECOTONE else None,
        requests_hash=EMPTY_REQUESTS_HASH if fork >= OpFork.ISTHMUS else None,
    )
    return replace(header, **changes)  # type: ignore[arg-type]


def envelope_of(tx: DepositTx) -> TxEnvelope:
    return TxEnvelope(encode_transaction(tx), tx, tx.sender)


def attributes_deposit(layout: OpFork = OpFork.JOVIAN) -> TxEnvelope:
    return envelope_of(l1_attributes_deposit(L1_ATTRIBUTES, layout))


def transfer(nonce: int, **changes: object) -> TxEnvelope:
    """A signed type-2 transaction of `SENDER`, by default one wei to a fixed address."""
    tx = FeeMarketTx(
        chain_id=CHAIN_ID,
        nonce=nonce,
        max_priority_fee_per_gas=1_000,
        max_fee_per_gas=10_000_000,
        gas_limit=100_000,
        to=b"\x99" * 20,
        value=1,
        data=b"",
        access_list=(),
        y_parity=0,
        r=0,
        s=0,
    )
    signed = sign_transaction(replace(tx, **changes), SECRET)  # type: ignore[arg-type]
    return TxEnvelope.decode(encode_transaction(signed))
